import math

import pytest
import torch
from torch.testing import assert_close

from hwcli.attention.causal import CHUNK
from hwcli.attention.feature_maps import FEATURE_MAPS, FeatureMapName, map_features
from hwcli.attention.functional import (
    cumulative_linear_attention,
    linear_attention,
    quadratic_linear_attention,
    sdpa_attention,
    softmax_attention,
)
from hwcli.attention.streaming import FEWEST_TOKENS
from tests.attention.reference import MAPS, draw, gradients, plain_linear

# B, H, T, D: prime sizes, one token, one feature, both sides of a chunk and of a block.
SHAPES = [
    (2, 3, 7, 5),
    (1, 1, 1, 1),
    (1, 2, 13, 1),
    (1, 1, CHUNK, 3),
    (1, 1, CHUNK + 1, 3),
    (1, 2, 3 * CHUNK - 1, 2),
    (1, 1, FEWEST_TOKENS + 3, 3),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", MAPS)
def test_the_linear_form_is_the_quadratic_form_and_so_are_its_gradients(
    name: FeatureMapName, causal: bool, shape: tuple[int, int, int, int]
) -> None:
    q, k, v = draw(*shape, positive=True)
    want = plain_linear(q, k, v, name, causal=causal)
    for form in (linear_attention, quadratic_linear_attention):
        got = form(q, k, v, feature_map=name, causal=causal)
        assert_close(got, want, rtol=1e-11, atol=1e-12)
        for ours, theirs in zip(gradients(got, q, k, v), gradients(want, q, k, v), strict=True):
            assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("causal", [False, True])
def test_with_signed_weights_both_forms_differ_by_no_more_than_the_denominators_allow(
    causal: bool,
) -> None:
    """Rounding is amplified where a row's weights cancel: by their sizes over their sum."""
    q, k, v = (x.detach() for x in draw(1, 2, 101, 5))
    weights = q @ k.mT
    if causal:
        weights = weights.tril()
    condition = weights.abs().sum(dim=-1, keepdim=True) / weights.sum(dim=-1, keepdim=True).abs()
    assert condition.max() > 50
    ours = linear_attention(q, k, v, feature_map="identity", causal=causal)
    want = plain_linear(q, k, v, "identity", causal=causal)
    assert ((ours - want).abs() <= 1e-14 * condition * (1 + want.abs())).all()


@pytest.mark.parametrize("name", MAPS)
def test_running_sums_are_the_causal_form(name: FeatureMapName) -> None:
    q, k, v = draw(2, 1, 11, 3, positive=True)
    assert_close(
        cumulative_linear_attention(q, k, v, feature_map=name),
        plain_linear(q, k, v, name, causal=True),
    )


def test_two_tokens_worked_by_hand() -> None:
    """Query 2 against keys 1 and 3 weighs 2 and 6: a quarter of 4 and three quarters of 8 is 7.

    So does query 5 (5 and 15), which a causal row of one key alone would not.
    """
    q, k, v = (torch.tensor([[[[a], [b]]]]) for a, b in ((2.0, 5.0), (1.0, 3.0), (4.0, 8.0)))
    for form in (linear_attention, quadratic_linear_attention):
        assert form(q, k, v, feature_map="identity").flatten().tolist() == [7.0, 7.0]
        causal = form(q, k, v, feature_map="identity", causal=True)
        assert causal.flatten().tolist() == [4.0, 7.0]


def test_softmax_worked_by_hand() -> None:
    """With d = 4, scores 0 and 2 ln 3 are halved: weights 1 to 3, of 4 and 8 that is 7."""
    q = torch.ones(1, 1, 2, 4)
    k = torch.tensor([0.0, 2 * math.log(3) / 4]).view(1, 1, 2, 1).expand(1, 1, 2, 4)
    v = torch.tensor([4.0, 8.0]).view(1, 1, 2, 1).expand(1, 1, 2, 4)
    for form in (softmax_attention, sdpa_attention):
        assert form(q, k, v).flatten().tolist() == pytest.approx([7.0] * 8)
        assert form(q, k, v, causal=True)[0, 0, 0].tolist() == pytest.approx([4.0] * 4)


@pytest.mark.parametrize("causal", [False, True])
def test_both_softmax_forms_agree(causal: bool) -> None:
    q, k, v = draw(2, 3, 11, 5)
    naive = softmax_attention(q, k, v, causal=causal)
    fused = sdpa_attention(q, k, v, causal=causal)
    assert_close(naive, fused)
    for ours, theirs in zip(gradients(naive, q, k, v), gradients(fused, q, k, v), strict=True):
        assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("name", "at_minus_one", "at_two"),
    [("identity", -1.0, 2.0), ("elu1", math.exp(-1), 3.0), ("relu", 0.0, 2.0)],
)
def test_feature_maps_worked_by_hand(
    name: FeatureMapName, at_minus_one: float, at_two: float
) -> None:
    mapped = map_features(torch.tensor([-1.0, 2.0]), name)
    assert mapped.tolist() == pytest.approx([at_minus_one, at_two])


def test_the_softmax_map_works_along_the_features() -> None:
    mapped = map_features(torch.tensor([[0.0, math.log(3)], [5.0, 5.0]]), "softmax")
    assert mapped.flatten().tolist() == pytest.approx([0.25, 0.75, 0.5, 0.5])


@pytest.mark.parametrize("name", MAPS)
def test_a_feature_maps_pullback_is_its_derivative(name: FeatureMapName) -> None:
    x = draw(2, 3)[0]
    assert torch.autograd.gradcheck(lambda x: map_features(x, name), (x,))


@pytest.mark.parametrize("name", [name for name in MAPS if name != "identity"])
def test_a_feature_map_leaves_its_input_alone(name: FeatureMapName) -> None:
    x = draw(2, 3)[0].detach()
    before = x.clone()
    assert FEATURE_MAPS[name].value(x).data_ptr() != x.data_ptr()
    assert torch.equal(x, before)


@pytest.mark.parametrize("T", [2 * CHUNK + 3, FEWEST_TOKENS + 3])
@pytest.mark.parametrize("causal", [False, True])
def test_strided_inputs_give_the_same(causal: bool, T: int) -> None:
    """A ViT hands over views into one projection: (B, T, 3, H, D), permuted."""
    q, k, v = (x.detach() for x in draw(2, 3, T, 5))
    joined = torch.stack([q, k, v], dim=2).permute(0, 3, 2, 1, 4).contiguous()
    views = joined.permute(2, 0, 3, 1, 4).unbind(0)
    assert not any(x.is_contiguous() for x in views)
    assert_close(linear_attention(*views, causal=causal), linear_attention(q, k, v, causal=causal))


@pytest.mark.parametrize("T", [13, 3 * CHUNK + 5, FEWEST_TOKENS + 3])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_low_precision_is_as_close_to_the_truth_as_its_rounding(
    dtype: torch.dtype, causal: bool, T: int
) -> None:
    q, k, v = (x.detach().to(dtype) for x in draw(1, 2, T, 5))
    y = linear_attention(q, k, v, causal=causal)
    assert y.dtype == dtype
    want = plain_linear(q.double(), k.double(), v.double(), "elu1", causal=causal)
    assert (y.double() - want).norm() <= 3 * torch.finfo(dtype).eps * v.double().norm()


@pytest.mark.parametrize("T", [13, 3 * CHUNK + 5, FEWEST_TOKENS + 3])
@pytest.mark.parametrize("causal", [False, True])
def test_it_trains_under_autocast(causal: bool, T: int) -> None:
    """Under autocast the long forms work in the dtype they are given, forwards and backwards."""
    exact = draw(1, 2, T, 5)
    q, k, v = (x.detach().float().requires_grad_() for x in exact)
    with torch.autocast("cpu", torch.bfloat16):
        y = linear_attention(q, k, v, causal=causal)
    want = plain_linear(*exact, "elu1", causal=causal)
    eps = torch.finfo(torch.bfloat16).eps
    assert (y.double() - want).norm() <= 3 * eps * exact[2].norm()
    for ours, theirs in zip(gradients(y, q, k, v), gradients(want, *exact), strict=True):
        assert ours.dtype == torch.float32
        assert (ours.double() - theirs).norm() <= 8 * eps * theirs.norm()
