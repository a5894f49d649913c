from dataclasses import replace

import pytest
from torch.utils.flop_counter import FlopCounterMode

from hwcli.attention.bench import cost
from hwcli.attention.bench.cases import (
    DIRECTIONS,
    METHOD_NOTES,
    Case,
    Direction,
    MethodName,
    make_call,
    method_note,
)
from hwcli.attention.causal import CHUNK


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(
    ("method", "causal", "T"),
    [
        ("softmax-naive", False, 11),
        ("softmax-naive", True, 11),
        ("linear-quadratic", False, 11),
        ("linear-quadratic", True, 11),
        ("linear", False, 13),
        ("linear-chunked", True, 3 * CHUNK),
        ("linear-chunked", True, 2 * CHUNK + 1),
        ("linear-chunked", True, CHUNK),
    ],
)
def test_operations_are_those_that_torch_counts(
    method: MethodName, causal: bool, T: int, direction: Direction
) -> None:
    case = Case(method, T, direction, causal, feature_map="elu1", B=2, H=3, D=5)
    call = make_call(case)
    with FlopCounterMode(display=False) as counter:
        call()
    got = counter.get_total_flops()
    if method == "linear":  # and the normalizer's two products with a vector, which count little
        got -= case.B * case.H * 2 * T * case.D * (1 if direction == "forward" else 3)
    assert cost.flops(case) == got


def test_operations_worked_by_hand() -> None:
    """With T = 1000 and D = 10: 4 T^2 D = 40 million against 4 T D^2 = 400 thousand."""
    case = Case("softmax-naive", 1000, D=10)
    assert cost.flops(case) == 40_000_000
    assert cost.flops(replace(case, method="linear")) == 400_000
    assert cost.flops(replace(case, method="softmax-sdpa", causal=True)) == 20_020_000
    # Flash attention forms the weights again on its way back: 4 + 10 products in place of 4 + 8.
    assert cost.flops(replace(case, method="softmax-sdpa", direction="forward+backward")) == (
        14 * 1000 * 1000 * 10
    )


def test_compiled_operations_worked_by_hand() -> None:
    """At T = 1000, D = 10 the states take 4 T D^2, scores 2 T 32 D, and half of them is mixed."""
    case = Case("linear-chunked", 1000, causal=True, D=10, compiled=True)
    assert cost.flops(case) == 400_000 + 640_000 + 320_000
    both = replace(case, direction="forward+backward")
    assert cost.flops(both) - cost.flops(case) == 1_000_000 + 3 * 960_000


def test_memory_worked_by_hand() -> None:
    """1000 x 1000 float32 weights are 4 MB: scores and weights 8 MB, beside y of 40 kB."""
    case = Case("softmax-naive", 1000, D=10)
    assert cost.peak_bytes(case) == 8_040_000
    assert cost.peak_bytes(replace(case, method="softmax-sdpa")) == 44_000
    assert cost.peak_bytes(replace(case, dtype="float64", B=2, H=3)) == 2 * 6 * 8_040_000
    assert cost.input_bytes(case) == 4 * 40_000


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_only_what_forms_weights_grows_with_the_square(direction: Direction) -> None:
    for method, causal, growth in [
        ("softmax-naive", False, 4),
        ("linear-quadratic", False, 4),
        ("softmax-sdpa", False, 2),
        ("linear", False, 2),
        ("linear", True, 2),
        ("linear-chunked", True, 2),
    ]:
        case = Case(method, 2**20, direction, causal)  # type: ignore[arg-type]
        for count in (cost.peak_bytes, cost.traffic_bytes):
            assert count(replace(case, T=2**21)) / count(case) == pytest.approx(growth, rel=0.03)


def test_what_heads_share_is_counted_once() -> None:
    """A mask of 1000 x 1000 bytes; a block of 2^19 float32 features is 2 MiB for each of two."""
    naive = Case("softmax-naive", 1000, D=10, causal=True)
    assert cost.peak_bytes(naive) == 8_040_000 + 1_000_000
    assert cost.peak_bytes(replace(naive, B=2, H=3)) == 6 * 8_040_000 + 1_000_000
    mapped = Case("linear", 10**6, D=10, feature_map="elu1")
    a_head = 4 * (10**7 + 10**6)  # y, and a normalizer a token
    assert cost.peak_bytes(mapped) == a_head + 2 * 2**21
    assert cost.peak_bytes(replace(mapped, H=7)) == 7 * a_head + 2 * 2**21
    # A causal block of 2048 tokens goes over all heads: 64 chunks of one, 9 of each of seven.
    chunked = Case("linear-chunked", 10**6, D=10, causal=True)
    a_chunk = 4 * (CHUNK * (4 * 10 + CHUNK) + 2 * 10 * 10)
    assert cost.peak_bytes(chunked) == a_head + 64 * a_chunk
    assert cost.peak_bytes(replace(chunked, H=7)) == 7 * (a_head + 9 * a_chunk)


def test_a_call_needs_its_inputs_too() -> None:
    case = Case("softmax-sdpa", 1000, D=10)
    assert cost.needed_bytes(case) == 160_000 + 44_000


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("device", "dtype"), [("mps", "float32"), ("cuda", "float64")])
def test_torchs_attention_without_a_fused_kernel_counts_as_the_formula(
    device: str, dtype: str, direction: Direction, causal: bool
) -> None:
    torchs = Case("softmax-sdpa", 1000, direction, causal, D=10, device=device, dtype=dtype)
    formula = replace(torchs, method="softmax-naive")
    for count in (cost.peak_bytes, cost.traffic_bytes, cost.flops):
        assert count(torchs) == count(formula)
    assert cost.peak_bytes(torchs) > 8_000_000
    fused = replace(torchs, device="cuda", dtype="float32")
    assert cost.peak_bytes(fused) < 200_000


def test_a_note_says_never_only_where_a_fused_kernel_is() -> None:
    for device, dtype in (("cpu", "float64"), ("cuda", "float32"), ("cuda", "bfloat16")):
        note = method_note("softmax-sdpa", device=device, dtype=dtype)
        assert note == METHOD_NOTES["softmax-sdpa"]
        assert "never stores the T x T weights" in note
    assert method_note("softmax-sdpa", device="mps", dtype="float32") == (
        "softmax attention by torch's own function, which for float32 on mps may store the T x T "
        "weights"
    )
    assert method_note("linear", device="mps", dtype="float32") == METHOD_NOTES["linear"]
