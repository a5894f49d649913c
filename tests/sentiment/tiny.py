"""A real BERT of two small layers with a real tokenizer, and reviews whose words tell."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from hwcli.sentiment.reviews import Reviews
from hwcli.sentiment.tokens import Tokens

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
GOOD = ["superb", "lovely", "good"]
BAD = ["awful", "dull", "bad"]
WORDS = ["a", "film", "plot", "it", "was", "the", "and", "<", "br", "/", ">", "!", "."]
VOCABULARY = [*SPECIAL, *GOOD, *BAD, *WORDS]


def save_tokenizer(folder: Path) -> None:
    """Write a real tokenizer of a few words."""
    words = {word: index for index, word in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=37,
    ).save_pretrained(folder)


def make_encoder(folder: Path) -> Path:
    """Write a checkpoint as transformers would."""
    save_tokenizer(folder)
    config = BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=22,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=29,
        max_position_embeddings=37,
    )
    return save_untrained(folder, lambda: BertModel(config))


def save_untrained(folder: Path, make: Callable[[], Any]) -> Path:
    """Write a model with weights that are always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = make()
        # How many numbers it drew for its fresh weights depends on the version of transformers.
        torch.manual_seed(0)
        for parameter in model.parameters():
            # Fresh weights of 0.02 would leave every state all but the same.
            if parameter.ndim == 2:
                torch.nn.init.normal_(parameter, std=0.3)
        model.save_pretrained(folder)
    return folder


def make_reviews(number: int, seed: int) -> Reviews:
    """Draw reviews of one to thirty words with one word in three that tells the label."""
    draw = random.Random(seed)
    texts, labels = [], []
    for _ in range(number):
        label = draw.randrange(2)
        telling = GOOD if label else BAD
        length = draw.randint(1, 10)
        words = [
            w for _ in range(length) for w in (draw.choice(telling), *draw.choices(WORDS, k=2))
        ]
        texts.append(" ".join(words))
        labels.append(label)
    return Reviews(texts, labels)


def write_csv(path: Path, reviews: Reviews) -> Path:
    """Write reviews as CSV with labels by name."""
    lines = ["text,label"]
    for text, label in zip(reviews.texts, reviews.labels, strict=True):
        lines.append(f'"{text}",{("neg", "pos")[label]}')
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def unpadded(tokens: Tokens, number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return one text as a batch without padding: ids (1, T) and the length (1,)."""
    ids, lengths = tokens.pad([number])
    return ids[:, : lengths[0]], lengths
