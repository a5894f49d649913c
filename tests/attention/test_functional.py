import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from hwcli.attention import functional
from hwcli.attention.causal import CHUNK
from hwcli.attention.feature_maps import FEATURE_MAPS, FeatureMapName, map_features
from hwcli.attention.functional import (
    cumulative_linear_attention,
    linear_attention,
    packed_linear_attention,
    packed_softmax_attention,
    quadratic_linear_attention,
    sdpa_attention,
    softmax_attention,
)
from hwcli.attention.streaming import FEWEST_TOKENS
from hwcli.native import compiler
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


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("T", [7, FEWEST_TOKENS + 3])
@pytest.mark.parametrize(("keys", "width"), [(11, 3), (FEWEST_TOKENS + 7, 5), (13, 7)])
def test_queries_may_attend_to_another_sequence_with_values_of_another_width(
    keys: int, width: int, T: int, name: FeatureMapName
) -> None:
    q = draw(2, 3, T, 5, positive=True)[0]
    k = draw(2, 3, keys, 5, seed=1, positive=True)[1]
    v = draw(2, 3, keys, width, seed=2)[2]
    got, want = linear_attention(q, k, v, feature_map=name), plain_linear(q, k, v, name)
    assert_close(got, want, rtol=1e-11, atol=1e-12)
    for ours, theirs in zip(gradients(got, q, k, v), gradients(want, q, k, v), strict=True):
        assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("T", [CHUNK + 3, FEWEST_TOKENS + 3])
def test_causal_values_may_be_of_another_width(T: int) -> None:
    (q, k, _), (*_, v) = draw(1, 2, T, 3, positive=True), draw(1, 2, T, 5)
    got, want = linear_attention(q, k, v, causal=True), plain_linear(q, k, v, "elu1", causal=True)
    assert_close(got, want, rtol=1e-11, atol=1e-12)
    for ours, theirs in zip(gradients(got, q, k, v), gradients(want, q, k, v), strict=True):
        assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("use_kernels", [False, True])
@pytest.mark.parametrize("T", [7, 1000, FEWEST_TOKENS])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("form", [linear_attention, quadratic_linear_attention])
def test_what_does_not_fit_together_is_refused_whatever_the_length(
    form: Callable[..., Tensor], causal: bool, T: int, use_kernels: bool
) -> None:
    def zeros(*shape: int, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Tensor:
        return torch.zeros(shape, dtype=dtype, device=device)

    good = zeros(2, 3, T, 5)
    shaped = rf"q is \(2, 3, {T}, 5\), k is .*: expected \(B, H, T, D\)"
    refused: list[tuple[tuple[Tensor, Tensor, Tensor], str, type[Exception]]] = [
        (
            (good[0], good[0], good[0]),
            rf"q is \(3, {T}, 5\), k .*: expected \(B, H, T, D\)",
            ValueError,
        ),
        ((good, good, good[0]), shaped, ValueError),
        ((good, good[:, :1], good[:, :1]), shaped, ValueError),
        ((good, good[:1], good), shaped, ValueError),
        ((good, good[..., :4], good), shaped, ValueError),
        ((good, good, good[:, :, 1:]), shaped, ValueError),
        ((good, good.double(), good), r"k is torch.float64, .*: expected one type", TypeError),
        ((good.int(), good.int(), good.int()), r"are torch.int32: expected a float", TypeError),
        ((good, good, zeros(2, 3, T, 5, device="meta")), "v is meta: expected one", ValueError),
    ]
    with compiler.kernels(use_kernels):
        for (q, k, v), message, kind in refused:
            with pytest.raises(kind, match=message):
                form(q, k, v, causal=causal)
        with pytest.raises(ValueError, match="feature_map = 'exp'; choices: identity, elu1, "):
            form(good, good, good, feature_map="exp", causal=causal)


@pytest.mark.parametrize(("T", "keys"), [(40, 64), (64, 40), (2, 3), (1, 2)])
def test_causal_attention_needs_as_many_queries_as_keys(T: int, keys: int) -> None:
    q, k, v = torch.ones(1, 1, T, 2), torch.ones(1, 1, keys, 2), torch.ones(1, 1, keys, 2)
    with pytest.raises(ValueError, match=rf"q is \(1, 1, {T}, 2\).*as many queries as keys"):
        linear_attention(q, k, v, causal=True)
    with pytest.raises(ValueError, match="as many queries as keys"):
        quadratic_linear_attention(q, k, v, causal=True)
    with pytest.raises(ValueError, match="as many queries as keys"):
        cumulative_linear_attention(q, k, v)


@pytest.mark.parametrize("form", [packed_linear_attention, packed_softmax_attention])
@pytest.mark.parametrize("shape", [(2, 7, 4, 3, 5), (2, 7, 3, 15), (7, 3, 3, 5)])
def test_what_is_not_packed_is_refused(
    form: Callable[[Tensor], Tensor], shape: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=r"qkv is \(.*\): expected \(B, T, 3, H, D\)"):
        form(torch.zeros(shape))


def test_a_feature_map_that_is_not_there_is_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match="feature_map = 'exp'; choices: identity, elu1, relu, "):
        map_features(torch.zeros(2, 3), "exp")  # type: ignore[arg-type]


class OnAppleGPU(Tensor):
    """Numbers of this processor that say that they are on Apple's GPU."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("mps")


@pytest.mark.parametrize("kind", [Tensor, OnAppleGPU])
def test_on_apples_gpu_torch_gets_no_strided_tensors(
    kind: type[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Tensor] = []

    def attend(*tensors: Tensor, is_causal: bool) -> Tensor:
        given.extend(tensors)
        return tensors[2]

    monkeypatch.setattr(functional.F, "scaled_dot_product_attention", attend)
    qkv = torch.arange(2.0 * 7 * 3 * 5 * 3).view(2, 7, 3, 5, 3)
    y = packed_softmax_attention(qkv.as_subclass(kind))
    assert {x.is_contiguous() for x in given} == {kind is OnAppleGPU}
    assert_close(y.as_subclass(Tensor), qkv[:, :, 2])
