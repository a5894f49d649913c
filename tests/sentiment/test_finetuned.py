"""How many tokens a fine-tuned encoder differentiates at once."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hwcli.sentiment.finetuned import FinetunedEncoder, tokens_at_once


@pytest.mark.parametrize(("device", "tokens"), [("cpu", 2048), ("cuda", 65_536), ("mps", 16_384)])
def test_apples_gpu_gets_half_of_what_its_gradients_are_right_for(device: str, tokens: int) -> None:
    assert tokens_at_once(torch.device(device)) == tokens


def test_a_batch_of_apples_gpu_is_cut_into_parts() -> None:
    source = object.__new__(FinetunedEncoder)
    source._tokens_at_once = tokens_at_once(torch.device("mps"))
    train = SimpleNamespace(padded_length=lambda rows: 512)
    source._data = SimpleNamespace(train=train)  # type: ignore[assignment]
    parts = source.parts_of(np.arange(100))
    assert [len(range(100)[part]) for part in parts] == [32, 32, 32, 4]
