"""Question 2 in sentences: why dropping the exponential gives O(T), and what was measured."""

import math

from hwcli.attention.bench.cases import SOFTMAX, Case, MethodName, has_fused_kernel
from hwcli.attention.bench.cost import flops
from hwcli.attention.bench.normalizers import CANCELLED, NUM_QUERIES
from hwcli.attention.bench.results import AttentionSummary, Shape, curve_name
from hwcli.attention.bench.units import listed, round_text, time_text
from hwcli.attention.causal import CHUNK

# The largest outputs of so many lengths show how much they change.
NUM_SAMPLES = 3

# Sentences of a text of fixed width: its lines end at \n.
BOTH_SUMS = (
    "Without the exponential a weight {q}.{k} is a sum of D products of a number of the query and "
    "a number\nof the key. So {q}_i can be taken out of both sums. "
)
WHY = BOTH_SUMS + (
    "What remains, a D x D matrix S and a vector z, is\nthe same for every i: it is computed once "
    "and used T times. {factor} exp(q.k)\nis no such finite sum, so this rearrangement fails, and "
    "each of the T^2 pairs gets its own weight."
)
WHY_CAUSAL = BOTH_SUMS + (
    "What remains, a D x D matrix S_i and a vector z_i,\ngrows by one term with each token: S_i = "
    "S_{{i-1}} + {k}_i v_i^T, z_i = z_{{i-1}} + {k}_i. Each token is\nadded once and read once. "
    "{factor} exp(q.k) is no such finite sum, so this\nrearrangement fails, and each pair of "
    "tokens gets its own weight."
)


def findings(summary: AttentionSummary) -> list[str]:
    """Say what the run shows, in sentences: on the exponents, on the times, on the price."""
    return [*_growth(summary), *_speed(summary), *price(summary)]


def _growth(summary: AttentionSummary) -> list[str]:
    direction = summary.directions[0]
    known = {method: summary.time_law(direction, method) for method in summary.methods}
    laws = {method: law for method, law in known.items() if law is not None}
    if not laws:
        return []
    grown = [
        f"T^{law.exponent:.2f} ({law.interval[0]:.2f} to {law.interval[1]:.2f}) for {method}"
        for method, law in laws.items()
    ]
    ranges: dict[tuple[float, float], list[str]] = {}
    for method, law in laws.items():
        ranges.setdefault((min(law.xs), max(law.xs)), []).append(method)
    fitted = [
        f"T = {low:,.0f} to {high:,.0f} for {listed(methods)}"
        for (low, high), methods in ranges.items()
    ]
    return [
        f"Measured, the time grows as {listed(grown)}.",
        "In brackets are 95 % confidence intervals. The exponents are fitted to the measured "
        f"lengths of {listed(fitted)}.",
    ]


def _speed(summary: AttentionSummary) -> list[str]:
    direction, linear = summary.directions[0], summary.linear
    softmax = next((m for m in summary.methods if m.startswith("softmax")), None)
    if linear is None or softmax is None:
        return []
    ours, theirs = (summary.times_ms(direction, method) for method in (linear, softmax))
    both = sorted(ours.keys() & theirs.keys())
    sentences = []
    if both:
        T = both[-1]
        ratio, side = theirs[T] / ours[T], "less"
        if ratio < 1:
            ratio, side = 1 / ratio, "more"
        sentences.append(
            f"At T = {T:,}, {softmax} by {code_of(summary, softmax)} takes {time_text(theirs[T])} "
            f"and {linear} by {code_of(summary, linear)} takes {time_text(ours[T])}: "
            f"{round_text(ratio)} times {side}."
        )
    return [*sentences, *crossing_sentences(summary)]


def code_of(summary: AttentionSummary, method: MethodName) -> str:
    """Name the code that computes a method."""
    if method == "softmax-sdpa":
        fused = has_fused_kernel(summary.machine.device, summary.shape.dtype)
        return "torch's fused kernel" if fused else "torch's own function"
    has_kernel = method == "linear-chunked" or (method == "linear" and not summary.shape.causal)
    if has_kernel and summary.machine.kernels == "compiled":
        return "the compiled C++ kernel of hw2"
    return "torch's matrix products"


def crossing_sentences(summary: AttentionSummary) -> list[str]:
    """Say from which length on linear attention is faster, and how that is known."""
    if summary.crossover_T is None:
        return _no_crossing(summary)
    between = summary.crossing_between
    # A run of an older version has kept the number and not what it was computed from.
    how = "interpolated between two lengths whose times this run has not kept"
    if between is not None:
        measured = (
            f"T = {point.T:,}, with "
            + " and ".join(f"{time_text(ms)} of {m}" for m, ms in point.median_ms.items())
            for point in between
        )
        how = f"interpolated between {', and '.join(measured)}"
    return [
        f"Linear attention is faster from about T = {summary.crossover_T:,.0f} on ({how}). By the "
        f"number of operations, both cost the same at about {_equal_operations(summary)}."
    ]


def _equal_operations(summary: AttentionSummary) -> str:
    """Say from which length on softmax attention takes as many operations as linear attention.

    In chunks the counts may cross more than once: the last crossing is meant.
    """
    shape, direction = summary.shape, summary.directions[0]
    softmax = next(method for method in summary.methods if method in SOFTMAX)
    assert summary.linear is not None

    def operations(method: MethodName, T: int) -> int:
        compiled = summary.machine.kernels == "compiled"
        return flops(Case(method, T, direction, shape.causal, D=shape.dim, compiled=compiled))

    # Softmax's operations grow with T^2. Where they are twice as many, a chunk that is not full
    # cannot turn the order around again.
    longest = 4 * CHUNK
    while operations(softmax, longest) < 2 * operations(summary.linear, longest):
        longest *= 2
    T = longest
    while T > 1 and operations(softmax, T - 1) >= operations(summary.linear, T - 1):
        T -= 1
    return f"T = D = {T:,}" if shape.dim == T else f"T = {T:,}"


def _no_crossing(summary: AttentionSummary) -> list[str]:
    """Say why there is no such length, where it was looked for."""
    tried, linear = summary.crossing_points or (), summary.linear
    if not tried or linear is None:
        return []
    if all(min(p.median_ms.values()) == p.median_ms.get(linear) for p in tried):
        return [
            "Linear attention is faster at all lengths that were tried, from T = "
            f"{tried[0].T:,} to {tried[-1].T:,}."
        ]
    return [
        "No length was found from which linear attention is faster than softmax, up to T = "
        f"{tried[-1].T:,}."
    ]


def price(summary: AttentionSummary) -> list[str]:
    """Say what dropping the exponential costs, at the longest studied length.

    It is studied without a causal mask, for the homework's weights q.k and for each feature map.
    """
    shape = summary.shape
    signed, own = summary.longest_study("identity"), summary.longest_study(shape.feature_map)
    if signed is None:
        return []
    studied = [
        *(["for weights q.k without a feature map"] if shape.feature_map != "identity" else []),
        *(["without a causal mask"] if shape.causal else []),
    ]
    said = (
        f"The price{f' ({listed(studied)})' if studied else ''}: of "
        f"{min(NUM_QUERIES, signed.T):,} queries on random inputs at T = {signed.T:,}, "
        f"{signed.negative_share:.0%} of the sums of weights are negative, and "
        f"{signed.near_zero_share:.0%} cancel by more than {CANCELLED:.0%}, because dot products "
        "have both signs."
    )
    if own is not None and shape.feature_map != "identity":
        said += (
            f" With the {shape.feature_map} map of this run, {own.negative_share:.0%} are negative "
            f"and {own.near_zero_share:.0%} cancel by more than {CANCELLED:.0%}."
        )
    return [said]


def largest_outputs(summary: AttentionSummary) -> str:
    """Say how large outputs get without the exponential, as an order of magnitude.

    The largest of many ratios changes from sample to sample: the longest three lengths show how
    much.
    """
    studies = sorted(
        (s for s in summary.normalizers if s.feature_map == "identity" and s.largest_output),
        key=lambda study: study.T,
    )[-NUM_SAMPLES:]
    if not studies:
        return ""
    powers = sorted({round(math.log10(s.largest_output or 1)) for s in studies})
    about = " to ".join(f"10^{power}" for power in dict.fromkeys((powers[0], powers[-1])))
    lengths = listed([f"T = {studies[0].T:,}", *(f"{study.T:,}" for study in studies[1:])])
    return (
        f"The largest output at {lengths} is about {about} standard deviations of the values"
        f"{', and changes from sample to sample' if len(studies) > 1 else ''}; an average can "
        "never leave their range."
    )


def derivation(summary: AttentionSummary) -> str:
    """Return the answer as text: conclusion, derivation, operations, measurements."""
    shape = summary.shape
    D, T = shape.dim, max(summary.lengths)
    doubled = {
        curve_name(*curve): law
        for curve in summary.curves()
        if (law := summary.time_law(*curve)) is not None
    }
    doubling = [f"{2**law.exponent:.2f} ({name})" for name, law in doubled.items()]
    measured = (
        f"Measured, doubling T multiplies the time by {listed(doubling)}."
        if doubling
        else "Measure at least three lengths near the longest one to see this in the times."
    )
    return f"""**Answer: without the exponential, attention takes O(T D^2): linear in T**

{_formulas(shape)}

{_why(shape)}
Operations of one head at T = {T:,}, D = {D}:

{_operations(shape, T)}

Softmax attention forms T^2 = {T * T:.3g} weights; linear attention keeps D^2 + D = {D * D + D:,}
numbers. Doubling T makes four times the work for the first and twice the work for the second.
{measured}
"""


def _formulas(shape: Shape) -> str:
    """Write both kinds of attention, and the second one with its sums taken out."""
    q, k = _names(shape)
    over, i = ("sum_{j<=i}", "_i") if shape.causal else ("sum_j", "")
    lines = [
        f"softmax:  y_i = {over} exp(q_i.k_j / sqrt(D)) v_j / {over} exp(q_i.k_j / sqrt(D))",
        f"linear:   y_i = {over} ({q}_i.{k}_j) v_j / {over} {q}_i.{k}_j",
        f"              = {q}_i ({over} {k}_j v_j^T) / ({q}_i . {over} {k}_j) "
        f"= {q}_i S{i} / ({q}_i . z{i})",
    ]
    if q != "q":
        lines.append(
            f"with      a = phi(q), b = phi(k): the {shape.feature_map} map of each number"
            if shape.feature_map != "softmax"
            else "with      a = phi(q), b = phi(k): the softmax over the D numbers of a token"
        )
    return "\n".join(f"    {line}" for line in lines)


def _names(shape: Shape) -> tuple[str, str]:
    """Return what queries and keys are called, mapped ones by letters of their own."""
    return ("q", "k") if shape.feature_map == "identity" else ("a", "b")


def _why(shape: Shape) -> str:
    """Say why the sums can be taken out, and what that leaves to compute."""
    q, k = _names(shape)
    factor = "The factor 1 / sqrt(D) cancels." if q == "q" else "No factor 1 / sqrt(D) is needed."
    return (WHY_CAUSAL if shape.causal else WHY).format(q=q, k=k, factor=factor)


def _operations(shape: Shape, T: int) -> str:
    """Count the operations of one head, on paper: in both orders of the products."""
    q, k = _names(shape)
    D, i = shape.dim, "_i" if shape.causal else ""
    sums = "S_i, z_i" if shape.causal else f"S = {k}^T v, z = {k}^T 1"
    first, second = f"({q} {k}^T) v:", f"{sums}, {q}{i} S{i}, {q}{i} z{i}:"
    return (
        f"    {first:<35}2 T^2 D + 2 T^2 D = {4 * T * T * D:.3g}\n"
        f"    {second:<35}4 T D^2 + 3 T D   = {4 * T * D * D + 3 * T * D:.3g}"
    )
