"""How many tokens a fine-tuned encoder differentiates at once."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from hwcli.sentiment.finetuned import FinetunedEncoder, tokens_at_once, tokens_at_once_of


@pytest.mark.parametrize(("device", "tokens"), [("cpu", 2048), ("cuda", 65_536), ("mps", 16_384)])
def test_apples_gpu_gets_half_of_what_its_gradients_are_right_for(device: str, tokens: int) -> None:
    assert tokens_at_once(torch.device(device)) == tokens


def test_a_batch_of_apples_gpu_is_cut_into_parts() -> None:
    source = object.__new__(FinetunedEncoder)
    source._tokens_at_once = tokens_at_once(torch.device("mps"))
    train = SimpleNamespace(padded_length=lambda numbers: 512)
    source._data = SimpleNamespace(train=train)  # type: ignore[assignment]
    parts = source.parts_of(np.arange(100))
    assert [len(range(100)[part]) for part in parts] == [32, 32, 32, 4]


def parts_on_a_gpu(
    free_bytes: float, precision: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> int:
    """Return into how many parts a GPU gets 128 reviews of 512 tokens, for BERT base."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(free_bytes), 10**12))
    for name in ("memory_reserved", "memory_allocated"):
        monkeypatch.setattr(torch.cuda, name, lambda device: 0)
    bert = SimpleNamespace(
        hidden_size=768, num_attention_heads=12, intermediate_size=3072, num_hidden_layers=12
    )
    train = SimpleNamespace(lengths=np.array([512, 30]), padded_length=lambda numbers: 512)
    source = object.__new__(FinetunedEncoder)
    source._data = SimpleNamespace(  # type: ignore[assignment]
        device=torch.device("cuda"), precision=precision, train=train
    )
    encoder: Any = SimpleNamespace(config=bert)
    source._tokens_at_once = tokens_at_once_of(encoder, 110_000_000, source._data)
    return len(source.parts_of(np.arange(128)))


def test_a_batch_is_cut_into_parts_that_fit_into_the_free_memory_of_a_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A token takes 12 layers x (16 x 768 + 3 x 3,072 + 3 x 12 x 512) x 4 bytes = 1.9 MB. Of 15 GB,
    # 1.3 are for gradients and averages; 0.8 of the rest hold 5,700 tokens: 4,096, or 8 reviews.
    assert parts_on_a_gpu(15e9, torch.float32, monkeypatch) == 16
    assert parts_on_a_gpu(15e9, torch.bfloat16, monkeypatch) == 8
    assert parts_on_a_gpu(500e9, torch.float32, monkeypatch) == 1
    # Where even one review does not fit, each is tried alone.
    assert parts_on_a_gpu(1e9, torch.float32, monkeypatch) == 128
