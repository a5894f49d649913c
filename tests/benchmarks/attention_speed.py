"""Linear attention, side by side with published packages and torch's fused softmax attention.

    pip install performer-pytorch linear-attention-transformer   (the extra "bench")
    python tests/benchmarks/attention_speed.py [--quick] [--isa native|avx512|avx2|none]
        [--save]

Same process, same inputs, same dtype (float32), same threads; every call in turns.
performer-pytorch gets the same feature maps, as its users write them, of torch's functions;
linear-attention-transformer brings its own two softmaxes, and stands beside the softmax map.
Before it is timed, performer-pytorch must give the same output. The last line is one JSON object;
its ``ratio_to_best_peer`` is the smallest over maps, lengths and directions. Linear attention is
computed by the compiled kernels where there is a compiler. ``--isa`` holds hw2 and the packages
alike to a processor's instructions, as in vit_speed.py; ``none`` is hw2 without a compiler.
``--save`` puts the figures into attention_speed.json under the name of the instructions, as
vit_speed.py does: with ``--isa native`` those that the kernels were compiled for.
"""

import argparse
import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

warnings.simplefilter("ignore")  # the packages use what later versions of torch renamed
from instructions import ISAS, hold_to, restart_with  # noqa: E402
from linear_attention_transformer.linear_attention_transformer import linear_attn  # noqa: E402
from performer_pytorch.performer_pytorch import linear_attention as performer  # noqa: E402
from vit_speed import instructions  # noqa: E402

from hwcli import resources  # noqa: E402
from hwcli.attention.bench import cost, measure  # noqa: E402
from hwcli.attention.bench.cases import DIRECTIONS, Case, attend, make_call, random_inputs  # noqa: E402
from hwcli.attention.bench.scaling import fit_power_law  # noqa: E402
from hwcli.attention.bench.units import bytes_text, time_text  # noqa: E402
from hwcli.attention.feature_maps import FeatureMapName  # noqa: E402
from hwcli.fingerprint import fingerprint  # noqa: E402
from hwcli.native import linear_attention as native  # noqa: E402

FIGURES = Path(__file__).with_suffix(".json")
MAPS: dict[FeatureMapName, Callable[[Tensor], Tensor]] = {
    "identity": lambda x: x,
    "elu1": lambda x: F.elu(x) + 1,
    "softmax": lambda x: x.softmax(dim=-1),
}
Attention = Callable[[Tensor, Tensor, Tensor], Tensor]


def peers(name: FeatureMapName) -> dict[str, Attention]:
    found: dict[str, Attention] = {
        "performer-pytorch": lambda q, k, v: performer(MAPS[name](q), MAPS[name](k), v)
    }
    if name == "softmax":
        found["linear-attention-transformer"] = linear_attn
    return found


def check_peers(compiled: bool) -> None:
    case = Case("linear", 2053, D=64, compiled=compiled)
    q, k, v, _ = random_inputs(case)
    for name in MAPS:
        ours = attend(replace(case, feature_map=name), q, k, v)
        theirs = peers(name)["performer-pytorch"](q, k, v)
        if name == "identity":  # both are only as good as the sums allow
            close = ((ours - theirs).abs() < 1e-3 * (1 + ours.abs())).double().mean() > 0.99
        else:
            close = torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5)
        assert close, f"performer-pytorch differs with the map {name}"


def call_of(case: Case, attention: Attention) -> Callable[[], object]:
    q, k, v, upstream = random_inputs(case)
    if case.direction == "forward":
        return lambda: attention(q, k, v)
    inputs = [x.requires_grad_() for x in (q, k, v)]
    return lambda: torch.autograd.grad(attention(*inputs), inputs, upstream)


def compare(threads: int, compiled: bool) -> tuple[dict[str, float], dict[str, float]]:
    """Return the ratios to the fastest peer, and the seconds of every call."""
    ratios, seconds = {}, {}
    for T in (16384, 65536):
        for direction in DIRECTIONS:
            for name in MAPS:
                case = Case("linear", T, direction, feature_map=name, compiled=compiled)
                calls = {"hw2": make_call(case)}
                calls |= {peer: call_of(case, f) for peer, f in peers(name).items()}
                times = measure.time_in_turns(calls, threads=threads)
                best = min(times[peer].median_s for peer in calls if peer != "hw2")
                ratio = best / times["hw2"].median_s
                ratios[f"{name} {direction} {T}"] = ratio
                for label, taken in times.items():
                    seconds[f"{label} {name} {direction} {T}"] = taken.median_s
                line = ", ".join(f"{n} {time_text(1e3 * t.median_s)}" for n, t in times.items())
                print(f"T {T:,} {direction}, {name}: {line}: {ratio:.2f} times", flush=True)
            softmax = make_call(Case("softmax-sdpa", T, direction))
            taken = measure.time_in_turns({"sdpa": softmax}, threads=threads, rounds=1)["sdpa"]
            seconds[f"sdpa softmax {direction} {T}"] = taken.median_s
            print(f"T {T:,} {direction}: sdpa {time_text(1e3 * taken.median_s)}", flush=True)
    return ratios, seconds


def share_of_peak(threads: int, compiled: bool) -> dict[str, object]:
    """Return the share of what binds: matrix products or memory, of the O(T) form at 65,536."""
    peak = measure.matmul_peak(dtype="float32", device="cpu", threads=threads)
    speed = measure.bandwidth(device="cpu", threads=threads)
    found: dict[str, object] = {"matmul_peak_gflops": peak / 1e9, "bandwidth_gb_s": speed / 1e9}
    for direction in DIRECTIONS:
        case = Case("linear", 65536, direction, compiled=compiled)
        taken = measure.time_in_turns({"linear": make_call(case)}, threads=threads)["linear"]
        shares = {
            "matmul": cost.flops(case) / taken.median_s / peak,
            "bandwidth": cost.traffic_bytes(case) / taken.median_s / speed,
        }
        binding = max(shares, key=lambda limit: shares[limit])
        found[direction] = {"binds": binding, **shares}
        print(
            f"{direction} at 65,536: {shares['matmul']:.0%} of {peak / 1e9:,.0f} GFLOP/s, "
            f"{shares['bandwidth']:.0%} of {speed / 1e9:,.1f} GB/s; {binding} binds",
            flush=True,
        )
    return found


def causal(threads: int, compiled: bool) -> dict[str, float]:
    """Return how many times as long the chunked causal form takes, and its memory at a million."""
    found = {}
    for direction in DIRECTIONS:
        for T in (16384, 65536):
            case = Case("linear", T, direction, feature_map="elu1", compiled=compiled)
            chunked = replace(case, method="linear-chunked", causal=True)
            calls = {c.method: make_call(c) for c in (case, chunked)}
            times = measure.time_in_turns(calls, threads=threads)
            ratio = times["linear-chunked"].median_s / times["linear"].median_s
            found[f"causal_ratio {direction} {T}"] = ratio
            print(f"causal, {direction} at {T:,}: {ratio:.2f} times the non-causal", flush=True)
    case = Case("linear-chunked", 2**20, causal=True, feature_map="elu1", compiled=compiled)
    peak = measure.peak_memory_bytes(case, threads=threads)
    if peak is not None:
        found["causal_memory_bytes_at_1048576"] = float(peak)
        print(f"causal at 1,048,576: {bytes_text(peak)} above the inputs", flush=True)
    return found


def exponents(threads: int, compiled: bool, *, quick: bool) -> dict[str, float | None]:
    """Return fitted exponents of time and of memory, over lengths at which each is large."""
    top = 19 if quick else 20
    heads = 1 if quick else 8
    # From 2^17 on every result is taken anew from the kernel, page by page (keep_freed_memory).
    curves: dict[str, tuple[str, list[Case]]] = {
        "time softmax-sdpa": (
            "time",
            [Case("softmax-sdpa", 2**n) for n in range(12, 15 if quick else 16)],
        ),
        "time linear": (
            "time",
            [Case("linear", 2**n, compiled=compiled) for n in range(17, top + 1)],
        ),
        "memory linear": (
            "memory",
            [Case("linear", 2**n, compiled=compiled) for n in range(16, top + 1)],
        ),
        "memory softmax-naive": (
            "memory",
            [Case("softmax-naive", 2**n) for n in range(11, 14)],
        ),
        "memory softmax-sdpa": (
            "memory",
            [Case("softmax-sdpa", 2**n, H=heads) for n in range(14, 17)],
        ),
    }
    found: dict[str, float | None] = {}
    for name, (what, cases) in curves.items():
        points: dict[int, float] = {}
        for case in cases:
            if what == "memory":
                peak = measure.peak_memory_bytes(case, threads=threads)
                if peak is not None and peak > 16 * 2**20:
                    points[case.T] = peak
            else:
                calls = {case: make_call(case)}
                estimates = {case: cost.flops(case) / 50e9}
                taken = measure.time_in_turns(calls, threads=threads, estimates_s=estimates)
                points[case.T] = taken[case].median_s
        law = fit_power_law(points, octaves=4)
        found[name] = law and law.exponent
        shown = "too few points" if law is None else f"T to the {law.exponent:.3f}"
        print(f"{name}: {shown}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="leave out what takes minutes")
    parser.add_argument("--isa", choices=list(ISAS), default="native")
    parser.add_argument("--save", action="store_true")
    arguments = parser.parse_args()
    quick, isa = arguments.quick, ISAS[arguments.isa]
    restart_with(arguments.isa)
    hold_to(arguments.isa)
    reason = native.reason_against(64, torch.float32) if isa.compiler else "no compiler"
    compiled = reason is None
    print(f"linear attention by {'compiled kernels' if compiled else f'torch ({reason})'}")
    held_to = instructions(arguments.isa) if compiled or arguments.isa != "native" else "none"
    threads = resources.num_cores()
    torch.set_num_threads(threads)
    measure.keep_freed_memory()
    check_peers(compiled)
    ratios, seconds = compare(threads, compiled)
    figures = {
        "ratio_to_best_peer": min(ratios.values()),
        "ratios": ratios,
        "linear_forward_backward_65536_s": seconds["hw2 identity forward+backward 65536"],
        "softmax_forward_backward_65536_s": seconds["sdpa softmax forward+backward 65536"],
        "share_of_peak": share_of_peak(threads, compiled),
        **causal(threads, compiled),
        "exponents": exponents(threads, compiled, quick=quick),
        "kernels": "compiled" if compiled else "torch",
        "isa": held_to,
        "seconds": seconds,
        "threads": threads,
        "cpu": fingerprint()["cpu"],
        "commit": fingerprint()["commit"],
        "torch": torch.__version__,
    }
    if arguments.save:
        known = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
        FIGURES.write_text(json.dumps({**known, held_to: figures}, indent=4) + "\n")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
