"""A head on kept states: the parts of a batch, and their gradient."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from hwcli.sentiment import finetuned, training
from hwcli.sentiment.features import Features
from hwcli.sentiment.frozen import FeaturePart, FrozenEncoder
from hwcli.sentiment.heads import GRUHead, HeadConfig

CPU, MPS = torch.device("cpu"), torch.device("mps")
COUNTS = np.array([7, 3, 11, 5, 2, 13, 1])


def frozen_on(device: torch.device, *, pooled: Tensor | None = None) -> FrozenEncoder:
    """Return a source with a GRU head that computes here, whatever the device it thinks of."""
    states = np.random.default_rng(0).standard_normal((COUNTS.sum(), 5)).astype(np.float16)
    features = Features(states, np.cumsum(COUNTS) - COUNTS, COUNTS, 0.0)
    source = object.__new__(FrozenEncoder)
    source._data = SimpleNamespace(device=device)  # type: ignore[assignment]
    source._parts = {"train": FeaturePart(features, pooled, CPU)}
    torch.manual_seed(0)
    source.model = GRUHead(5, HeadConfig(hidden=3, layers=1, dropout=0.0)).eval()
    return source


def test_on_apples_gpu_a_batch_in_parts_has_the_gradient_of_the_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(finetuned, "TOKENS_AT_ONCE_ON_MPS", 26)  # two reviews of 13 tokens
    rows, labels = np.arange(7), torch.tensor([0.0, 1, 1, 0, 1, 0, 0])
    found = []
    for device, num_parts in ((CPU, 1), (MPS, 4)):
        source = frozen_on(device)
        assert len(source.parts_of(rows)) == num_parts
        outcome = training.batch_outcome(source, rows, labels)
        outcome.loss.backward()
        found.append((outcome, [parameter.grad for parameter in source.model.parameters()]))
    (whole, whole_gradients), (parts, part_gradients) = found
    torch.testing.assert_close(parts.loss, whole.loss)
    assert (parts.num_correct, parts.num_examples) == (whole.num_correct, 7)
    torch.testing.assert_close(part_gradients, whole_gradients, rtol=1e-4, atol=1e-7)


def test_pooled_states_are_taken_whole_everywhere() -> None:
    source = frozen_on(MPS, pooled=torch.zeros(7, 2, 5))
    assert source.parts_of(np.arange(7)) == [slice(None)]
    assert frozen_on(torch.device("cuda")).parts_of(np.arange(7)) == [slice(None)]
