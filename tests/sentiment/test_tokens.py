from pathlib import Path

import numpy as np
import pytest
import torch

from hwcli.sentiment.encoder import load_tokenizer
from hwcli.sentiment.tokens import (
    TextConfig,
    Tokens,
    sorted_batches,
    tokenize,
    training_batches,
    truncate,
    valid_tokens,
)

LENGTHS = np.random.default_rng(0).integers(2, 60, 211)


def test_both_ends_of_a_long_text_are_kept_or_its_head() -> None:
    ids = list(range(11))
    assert truncate(ids, 5, "head") == [0, 1, 2, 3, 4]
    assert truncate(ids, 5, "head_tail") == [0, 1, 2, 9, 10]
    assert truncate(ids, 11, "head_tail") == ids


def test_texts_of_every_kind_become_tokens(tiny_encoder: Path) -> None:
    tokenizer = load_tokenizer(tiny_encoder)
    texts = ["", "good<br /><br />film", "😀", "good film " * 5000]
    tokens = tokenize(texts, tokenizer, TextConfig(max_length=17))
    assert tokens.lengths.tolist() == [2, 4, 3, 17]
    ids, lengths = tokens.pad(np.array([1, 0]))
    words = [tokenizer.convert_ids_to_tokens(row) for row in ids[:, :4].tolist()]
    assert words == [["[CLS]", "good", "film", "[SEP]"], ["[CLS]", "[SEP]", "[PAD]", "[PAD]"]]
    assert lengths.tolist() == [4, 2]


def test_tokens_are_those_of_the_tokenizer_itself(tiny_encoder: Path) -> None:
    tokenizer = load_tokenizer(tiny_encoder)
    text = "It was a superb film, and the plot!"
    tokens = tokenize([text], tokenizer, TextConfig(max_length=37))
    own = [tokenizer.cls_token_id, *tokenizer(text)["input_ids"], tokenizer.sep_token_id]
    assert tokens.ids.tolist() == own


def test_sorted_batches_hold_every_text_once_and_few_tokens() -> None:
    batches = sorted_batches(LENGTHS, 128)
    assert sorted(np.concatenate(batches).tolist()) == list(range(211))
    assert max(len(batch) * LENGTHS[batch].max() for batch in batches) <= 128
    assert LENGTHS[batches[0][0]] == LENGTHS.max()


@pytest.mark.parametrize("length", [1, 2, 31, 32, 33, 100])
def test_a_batch_of_short_texts_holds_few_tokens_with_their_padding(length: int) -> None:
    lengths = np.append(np.full(1000, length), 256)
    ends = np.concatenate([[0], np.cumsum(lengths)])
    nothing = np.zeros(len(lengths), bool)
    tokens = Tokens(np.ones(ends[-1], np.int32), ends, 0, nothing, num_words=0, num_unknown=0)
    batches = sorted_batches(lengths, 4096)
    padded = [len(batch) * tokens.padded_length(batch) for batch in batches[1:]]
    assert max(padded) <= 4096 * (2 if length == 33 else 1.3)
    # However they are cut, the order is the same: kept states lie in it.
    assert np.concatenate(batches).tolist() == np.argsort(-lengths, kind="stable").tolist()


def test_an_epochs_batches_hold_every_text_once_and_depend_on_seed_and_epoch_alone() -> None:
    def epoch(seed: int, epoch: int) -> list[list[int]]:
        drawn = training_batches(LENGTHS, batch_size=3, seed=seed, epoch=epoch)
        return [batch.tolist() for batch in drawn]

    first = epoch(0, 0)
    assert sorted(i for batch in first for i in batch) == list(range(211))
    assert epoch(0, 0) == first
    assert epoch(0, 1) != first
    assert epoch(1, 0) != first


def test_batches_are_hardly_padded() -> None:
    batches = list(training_batches(LENGTHS, batch_size=3, seed=0, epoch=0))
    padded = sum(len(batch) * LENGTHS[batch].max() for batch in batches)
    assert padded < 1.1 * LENGTHS.sum()


def test_a_batch_is_padded_to_one_of_few_lengths_and_never_beyond_the_longest_text() -> None:
    ends = np.concatenate([[0], np.cumsum(LENGTHS)])
    nothing = np.zeros(len(LENGTHS), bool)
    tokens = Tokens(np.ones(ends[-1], np.int32), ends, 0, nothing, num_words=0, num_unknown=0)
    short = np.flatnonzero(LENGTHS <= 20)[:3]
    ids, lengths = tokens.pad(short)
    assert ids.shape == (3, 32)
    assert lengths.tolist() == LENGTHS[short].tolist()
    assert ids.sum(dim=1).tolist() == LENGTHS[short].tolist()  # the rest is padding
    assert tokens.pad([int(LENGTHS.argmax())])[0].shape == (1, LENGTHS.max())
    batches = training_batches(LENGTHS, batch_size=3, seed=0, epoch=0)
    assert {tokens.padded_length(batch) for batch in batches} == {32, int(LENGTHS.max())}


def test_the_mask_is_true_up_to_the_length() -> None:
    assert valid_tokens(torch.tensor([3, 1]), 4).tolist() == [
        [True, True, True, False],
        [True, False, False, False],
    ]


def test_a_length_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 8"):
        TextConfig(max_length=2)
