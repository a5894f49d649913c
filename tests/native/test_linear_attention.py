import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hwcli.attention.feature_maps import FEATURE_MAPS, FeatureMapName
from hwcli.attention.functional import linear_attention, packed_linear_attention
from hwcli.native import compiler
from hwcli.native import linear_attention as native
from hwcli.native.linear_attention import CHUNK, NativeLinearAttention
from tests.attention.reference import MAPS, gradients, plain_linear

# Less than a vector of features, not whole ones, whole ones; a tile of 16, 8 and 4 rows.
WIDTHS = (1, 20, 48)

pytestmark = pytest.mark.skipif(
    native.reason_against(1, torch.float32) is not None,
    reason=str(native.reason_against(1, torch.float32)),
)


@pytest.fixture(params=[1, 3], ids=["one thread", "three threads"])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """However short the sequence, it is shared out, and cut in parts."""
    monkeypatch.setattr(native, "LEAST_WORK", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: request.param)
    return int(request.param)


def draw(*shape: int, name: FeatureMapName = "elu1", dtype: torch.dtype) -> list[Tensor]:
    """Draw q, k, v whose weights are positive."""
    generator = torch.Generator().manual_seed(sum(shape))
    q, k, v = (torch.randn(shape, generator=generator) for _ in range(3))
    if name in ("identity", "relu"):
        q, k = q.abs() + 0.1, k.abs() + 0.1
    return [x.to(dtype).requires_grad_() for x in (q, k, v)]


def check(inputs: list[Tensor], name: FeatureMapName, causal: bool) -> None:
    """Hold y and the gradients against the sums written out, in float64."""
    exact = [x.detach().double().requires_grad_() for x in inputs]
    y = NativeLinearAttention.apply(*inputs, name, causal)
    assert isinstance(y, Tensor)
    want = plain_linear(*exact, name, causal=causal)
    allowed = 5e-6 if y.dtype == torch.float32 else 2e-2
    got = (y, *gradients(y, *inputs))
    expected = (want, *gradients(want, *exact))
    for ours, true in zip(got, expected, strict=True):
        assert ours.dtype == inputs[0].dtype
        assert (ours - true).norm() <= allowed * (1 + true.norm())


@settings(deadline=None, max_examples=60)
@given(
    B=st.integers(1, 3),
    H=st.integers(1, 3),
    T=st.integers(1, 4 * CHUNK + 1),
    D=st.sampled_from(WIDTHS),
    name=st.sampled_from(MAPS),
    causal=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    num_threads=st.integers(1, 4),
)
def test_any_shape_gives_the_quadratic_form(
    B: int,
    H: int,
    T: int,
    D: int,
    name: FeatureMapName,
    causal: bool,
    dtype: torch.dtype,
    num_threads: int,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "LEAST_WORK", 1)
        patch.setattr(torch, "get_num_threads", lambda: num_threads)
        check(draw(B, H, T, D, name=name, dtype=dtype), name, causal)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", MAPS)
def test_a_long_sequence(name: FeatureMapName, causal: bool, threads: int) -> None:
    check(draw(1, 1, 61 * CHUNK + 5, 48, name=name, dtype=torch.float32), name, causal)


@pytest.mark.parametrize("name", MAPS)
def test_feature_maps_are_those_of_torch_at_the_edges(name: FeatureMapName) -> None:
    """With one query and one key the normalizer is the product of what they map to."""
    x = torch.tensor([-200.0, -87.5, -1.0, -1e-30, 0.0, 1e-30, 1.0, 60.0] * 2 + [0.5] * 4)
    x = x.view(1, 1, 1, 20)
    ones = torch.ones(1, 1, 1, 20)
    phi = FEATURE_MAPS[name].value
    normalizers, _ = native._forward(x, ones, ones, torch.empty_like(ones), name, False)
    assert normalizers.item() == pytest.approx((phi(x) * phi(ones)).sum().item(), rel=1e-5)


def test_two_tokens_worked_by_hand() -> None:
    """Query 2 against keys 1 and 3 weighs 2 and 6: a quarter of 4 and three quarters of 8 is 7."""
    q, k, v = (torch.tensor([[[[a], [b]]]]) for a, b in ((2.0, 5.0), (1.0, 3.0), (4.0, 8.0)))
    y = NativeLinearAttention.apply(q, k, v, "identity", False)
    assert isinstance(y, Tensor)
    assert y.flatten().tolist() == [7.0, 7.0]
    y = NativeLinearAttention.apply(q, k, v, "identity", True)
    assert isinstance(y, Tensor)
    assert y.flatten().tolist() == [4.0, 7.0]


@pytest.mark.parametrize("causal", [False, True])
def test_not_a_number_stays_one(causal: bool) -> None:
    for name in MAPS:
        q, k, v = (x.detach() for x in draw(1, 1, 7, 20, dtype=torch.float32))
        k[0, 0, 0, 3] = torch.nan
        assert NativeLinearAttention.apply(q, k, v, name, causal).isnan().all()


@pytest.mark.parametrize("changed", [0, CHUNK - 1, CHUNK, 2 * CHUNK + 3])
def test_what_comes_later_changes_nothing_before_it(changed: int, threads: int) -> None:
    q, k, v = (x.detach() for x in draw(1, 2, 3 * CHUNK - 1, 20, dtype=torch.float32))
    before = NativeLinearAttention.apply(q, k, v, "elu1", True)
    for x in (q, k, v):
        x[..., changed, :] += 1
    after = NativeLinearAttention.apply(q, k, v, "elu1", True)
    assert torch.equal(after[..., :changed, :], before[..., :changed, :])
    assert not torch.isclose(after[..., changed, :], before[..., changed, :]).all()


@pytest.mark.parametrize("causal", [False, True])
def test_any_strides_give_the_same(causal: bool) -> None:
    q, k, v = (x.detach() for x in draw(2, 3, 2 * CHUNK + 3, 20, dtype=torch.float32))
    want = NativeLinearAttention.apply(q, k, v, "elu1", causal)
    views = torch.stack([q, k, v], dim=2).permute(0, 3, 2, 1, 4).contiguous()
    for strided in (
        views.permute(2, 0, 3, 1, 4).unbind(0),
        [x.mT.contiguous().mT for x in (q, k, v)],
    ):
        assert not any(x.is_contiguous() for x in strided)
        inputs = [x.detach().requires_grad_() for x in strided]
        y = NativeLinearAttention.apply(*inputs, "elu1", causal)
        assert isinstance(y, Tensor)
        assert torch.equal(y, want)
        upstream = torch.ones(1).expand_as(y)  # all strides are zero
        assert all(x.isfinite().all() for x in torch.autograd.grad(y, inputs, upstream))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_packed_form_is_the_same_in_a_vits_layout(dtype: torch.dtype, threads: int) -> None:
    joined = torch.stack(draw(2, 3, 49, 20, dtype=dtype), dim=2).permute(0, 3, 2, 1, 4)
    qkv = joined.detach().contiguous().requires_grad_()  # (B, T, 3, H, D)
    apart = qkv.detach().clone().requires_grad_()
    upstream = torch.randn(2, 49, 3, 20, generator=torch.Generator().manual_seed(0)).to(dtype)
    with compiler.kernels(True):
        packed = packed_linear_attention(qkv)
        q, k, v = native.unpack(apart)
        y = linear_attention(q, k, v).transpose(1, 2)
    assert torch.equal(packed, y)
    got, want = (torch.autograd.grad(out, x, upstream)[0] for out, x in ((packed, qkv), (y, apart)))
    assert torch.equal(got, want)


def test_without_openmp_it_starts_threads_of_its_own(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler, "parallel", lambda: None)
    check(draw(1, 1, 3 * CHUNK + 5, 20, dtype=torch.float32), "elu1", True)


def test_it_is_used_only_where_it_was_asked_for_and_fits() -> None:
    q, k, v = (x.detach() for x in draw(1, 2, 7, 20, dtype=torch.float32))
    assert not native.fits(q, k, v)
    with compiler.kernels(True):
        assert native.fits(q, k, v)
        assert not native.fits(q.double(), k.double(), v.double())
        assert not native.fits(q, k, v.bfloat16())
        assert not native.fits(q, k, v[..., :3])
        assert not native.fits(*(x.repeat(1, 1, 1, 7) for x in (q, k, v)))
        compiled = linear_attention(q, k, v)
    torch.testing.assert_close(compiled, linear_attention(q, k, v))


def test_what_there_is_no_kernel_for_is_said() -> None:
    assert native.reason_against(64, torch.float64) == "none for float64"
    assert native.reason_against(129, torch.float32) == "none for heads wider than 128"
