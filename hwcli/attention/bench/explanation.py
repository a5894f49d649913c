"""Question 2 in sentences: why dropping the exponential gives O(T), and what was measured."""

from hwcli.attention.bench.results import AttentionSummary, curve_name
from hwcli.attention.bench.units import round_text, time_text


def findings(summary: AttentionSummary) -> list[str]:
    """Say what the run shows: one sentence on the exponents, one on the times, one on the price."""
    return [*_growth(summary), *_speed(summary), *price(summary)]


def _growth(summary: AttentionSummary) -> list[str]:
    direction = summary.directions[0]
    laws = {method: summary.time_law(direction, method) for method in summary.methods}
    grown = [f"T^{law.exponent:.2f} for {m}" for m, law in laws.items() if law is not None]
    return [f"Measured, the time grows as {_listed(grown)}."] if grown else []


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
        sentences.append(
            f"At T = {T:,}, {softmax} takes {time_text(theirs[T])} and {linear} "
            f"{time_text(ours[T])}: {round_text(theirs[T] / ours[T])} times less."
        )
    if summary.crossover_T is not None:
        sentences.append(
            f"Linear attention is faster from T = {summary.crossover_T:,.0f} on; by the number of "
            f"operations, from T = D = {summary.shape.dim}."
        )
    return sentences


def price(summary: AttentionSummary) -> list[str]:
    """Say what dropping the exponential costs, at the longest studied length."""
    signed = summary.longest_study("identity")
    if signed is None:
        return []
    return [
        f"The price: for random inputs at T = {signed.T:,}, {signed.negative_share:.0%} of the "
        f"sums of weights are negative and {signed.near_zero_share:.0%} almost vanish, because dot "
        "products are not positive."
    ]


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def derivation(summary: AttentionSummary) -> str:
    """Return the answer as text: conclusion, derivation, operations, measurements."""
    D, T = summary.shape.dim, max(summary.lengths)
    doubled = {
        curve_name(*curve): law
        for curve in summary.curves()
        if (law := summary.time_law(*curve)) is not None
    }
    doubling = [f"{2**law.exponent:.2f} ({name})" for name, law in doubled.items()]
    measured = (
        f"Measured, doubling T multiplies the time by {_listed(doubling)}."
        if doubling
        else "Measure at least three lengths to see this in the times."
    )
    return f"""**Answer: without the exponential, attention takes O(T D^2): linear in T**

    softmax:  y_i = sum_j exp(q_i.k_j / sqrt(D)) v_j / sum_j exp(q_i.k_j / sqrt(D))
    linear:   y_i = sum_j (q_i.k_j) v_j / sum_j q_i.k_j
                  = q_i (sum_j k_j v_j^T) / (q_i . sum_j k_j) = q_i S / (q_i . z)

The exponential couples i and j: each of the T^2 pairs needs its own weight. Without it, q_i does
not depend on j and can be taken out of both sums. What remains, a D x D matrix S and a vector z, is
the same for every i: it is computed once and used T times. The factor 1 / sqrt(D) cancels.
Operations of one head at T = {T:,}, D = {D}:

    (q k^T) v:                         2 T^2 D + 2 T^2 D = {4 * T * T * D:.3g}
    S = k^T v, z = k^T 1, q S, q z:    4 T D^2 + 3 T D   = {4 * T * D * D + 3 * T * D:.3g}

Softmax attention needs T^2 = {T * T:.3g} weights; linear attention keeps D^2 + D = {D * D + D:,}
numbers. Doubling T makes four times the work for the first and twice the work for the second.
{measured}
"""
