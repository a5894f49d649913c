import pytest
import torch
from torch import nn

from hwcli.training import optimizers
from hwcli.training.optimizers import (
    Muon,
    OptimizerConfig,
    lr_factor_at,
    make_optimizers,
    orthogonalize,
)


class TwoLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 7), nn.Linear(7, 3)

    def hidden_matrices(self) -> list[nn.Parameter]:
        return [self.first.weight]


def test_the_rate_rises_and_falls_in_straight_lines() -> None:
    assert [lr_factor_at(p, 0.2) for p in (0.1, 0.2, 0.6, 0.9)] == pytest.approx(
        [0.5, 1, 0.5, 0.125]
    )
    assert lr_factor_at(0.5, 0.0) == 0.5


@pytest.mark.parametrize("shape", [(7, 13), (13, 7), (11, 11)])
def test_orthogonalize_brings_every_singular_value_near_one(shape: tuple[int, int]) -> None:
    matrices = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalize(matrices).float())
    assert values.min() > 0.3
    assert values.max() < 1.3


def test_muon_moves_weights_as_torchs_own_does() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(7, 13), (13, 7), (7, 13), (11, 11)]
    start = [torch.randn(shape, generator=generator) for shape in shapes]
    ours = [nn.Parameter(w.clone()) for w in start]
    theirs = [nn.Parameter(w.clone()) for w in start]
    own = Muon(ours, lr=0.02, momentum=0.95, weight_decay=0.1)
    reference = torch.optim.Muon(theirs, lr=0.02, momentum=0.95, weight_decay=0.1)
    for _ in range(3):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn(a.shape, generator=generator)
            b.grad = a.grad.clone()
        own.step()
        reference.step()
    for a, b, w in zip(ours, theirs, start, strict=True):
        torch.testing.assert_close(a, b, atol=2e-3, rtol=0)
        assert (a - w).abs().max() > 0.01


def test_muon_gets_the_hidden_matrices_and_adamw_the_rest() -> None:
    model = TwoLayers()
    adamw, muon = make_optimizers(model, OptimizerConfig(kind="muon", weight_decay=0.1))
    assert [p.shape for group in muon.param_groups for p in group["params"]] == [(7, 5)]
    decayed, plain = adamw.param_groups
    assert [p.shape for p in decayed["params"]] == [(3, 7)]
    assert [p.shape for p in plain["params"]] == [(7,), (3,)]
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    assert len(make_optimizers(model, OptimizerConfig(kind="adamw"))) == 1


def test_muon_wants_a_model_that_names_its_matrices() -> None:
    with pytest.raises(TypeError, match="Linear has no hidden_matrices"):
        make_optimizers(nn.Linear(3, 2), OptimizerConfig(kind="muon"))


@pytest.mark.parametrize(("fast", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_the_iteration_runs_in_bfloat16_only_where_that_is_fast(
    fast: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimizers.runtime, "has_fast_bf16", lambda _: fast)
    assert orthogonalize(torch.eye(5)[None]).dtype == dtype
