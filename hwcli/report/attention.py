"""Question 2: the O(T) derivation, then what was measured."""

import math

from hwcli.attention.bench.explanation import findings
from hwcli.attention.bench.results import AttentionSummary
from hwcli.attention.bench.units import bytes_text, time_text
from hwcli.attention.feature_maps import FEATURE_MAPS
from hwcli.report.cells import Cell, code, not_run_yet, text, words
from hwcli.report.runs import Run, Runs


def section(runs: Runs) -> list[Cell]:
    """Return the cells of question 2."""
    run = runs.get("attention-bench", "default") or runs.newest(
        [run for run in runs.of("attention-bench") if not run.config["causal"]]
    )
    cells = [text("# Question 2: Attention! My code takes too long"), *_derivation()]
    if run is None:
        cells.append(
            not_run_yet("the measurement of both kinds of attention", "hw2 attention-bench")
        )
    else:
        cells += _measurements(run)
    million = runs.get("attention-bench", "million")
    if million is not None and million is not run:
        cells += _million(million)
    cells.append(words("q2", "what is given up when the exponential is dropped?"))
    return cells


def _derivation() -> list[Cell]:
    return [
        text(
            r"""
            **Softmax attention is $O(T^2)$.** For queries, keys and values
            $q_i, k_j, v_j \in \mathbb{R}^D$ of $T$ tokens

            $$y_i = \sum_{j=1}^{T} \frac{e^{q_i^\top k_j / \sqrt{D}}}
            {\sum_{l=1}^{T} e^{q_i^\top k_l / \sqrt{D}}}\, v_j , \qquad i = 1, \dots, T.$$

            The exponential of a product does not factor into one part for $q_i$ and one for
            $k_j$: each of the $T^2$ pairs needs a weight of its own. The scores $QK^\top$ take
            $2T^2D$ operations, the weighted sums of the values $2T^2D$ more.

            **Linear attention is $O(T)$.** Drop the exponential, pretend that all dot products
            are positive, and normalise as usual:

            $$y_i = \frac{\sum_{j} (q_i^\top k_j)\, v_j}{\sum_{j} q_i^\top k_j}.$$

            Now $q_i$ does not depend on $j$, and can be taken out of both sums. With
            $(q_i^\top k_j)\, v_j^\top = q_i^\top (k_j v_j^\top)$,

            $$\begin{aligned}
            y_i^\top &= \frac{\sum_{j} q_i^\top k_j v_j^\top}{\sum_{j} q_i^\top k_j}
            = \frac{q_i^\top \bigl(\sum_{j} k_j v_j^\top\bigr)}{q_i^\top \bigl(\sum_{j} k_j\bigr)}
            = \frac{q_i^\top S}{q_i^\top z}, \\
            S &= \sum_{j=1}^{T} k_j v_j^\top \in \mathbb{R}^{D \times D}, \qquad
            z = \sum_{j=1}^{T} k_j \in \mathbb{R}^{D}.
            \end{aligned}$$

            $S$ and $z$ are the same for every $i$: they are summed once and read $T$ times. In
            matrices this is no more than $(QK^\top)V = Q(K^\top V)$. The operations are

            **Operations of linear attention**

            | step | operations |
            | --- | --- |
            | $S = K^\top V$ | $2TD^2$ |
            | $z = K^\top \mathbf{1}$ | $TD$ |
            | $QS$ | $2TD^2$ |
            | $Qz$ | $2TD$ |
            | together | $4TD^2 + 3TD = O(T)$, as $D$ does not grow with $T$ |

            In place of $T^2$ weights, $D^2 + D$ numbers are held. On paper the two methods cost the
            same where $4T^2D = 4TD^2$, at $T = D$. Where a token may see earlier ones only, the
            sums run along, $S_i = S_{i-1} + k_i v_i^\top$ and $z_i = z_{i-1} + k_i$: still $O(T)$.
            $\blacksquare$
            """
        ),
        code(
            """
            import torch
            from hwcli.attention.functional import linear_attention, quadratic_linear_attention

            generator = torch.Generator().manual_seed(0)
            q, k, v = torch.rand(3, 1, 2, 67, 5, generator=generator, dtype=torch.float64)
            for causal in (False, True):
                fast = linear_attention(q, k, v, feature_map="identity", causal=causal)
                slow = quadratic_linear_attention(q, k, v, feature_map="identity", causal=causal)
                equal = torch.allclose(fast, slow, rtol=0, atol=1e-12)
                print(f"causal {causal}: the O(T) form equals the O(T^2) form: {equal}")
            """
        ),
    ]


def _measurements(run: Run) -> list[Cell]:
    config = run.config
    T, D = max(config["T"]), config["dim"]
    comparison = stored(run)
    return [
        text(
            f"""
            **What was measured.** {_machine(run)}; {config["dtype"]}, heads: {config["heads"]}, of
            width $D = {D}$. Every method, its gradients too, was first held against a float64
            reference ({_verdict(run)}).
            At $T$ = {T:,} the derivation counts {_power(4 * T * T * D)} operations with the $T
            \\times T$ weights and {_power(4 * T * D * D + 3 * T * D)} without.
            {" ".join(findings(comparison))}
            """
        ),
        code(
            f"""
            from hwcli.attention.bench.pictures import draw_memory, draw_times
            from hwcli.attention.bench.tables import (
                exponents_table,
                normalizers_table,
                times_table,
            )
            from hwcli.report.attention import stored

            summary = stored(read_run(RUNS / "{run.id}"))
            show(times_table(summary))
            """
        ),
        code("show(exponents_table(summary))"),
        code(
            """
            show(draw_times(summary), "Time of one call over the length; hollow: predicted")
            show(draw_memory(summary), "Peak memory of one call over the length")
            """
        ),
        text(f"**The price.** {_price(run)}"),
        code("show(normalizers_table(summary, longest_only=True))"),
    ]


def _million(run: Run) -> list[Cell]:
    comparison = stored(run)
    T = max(comparison.lengths)
    direction = comparison.directions[0]
    rows = [row for row in comparison.rows if (row.T, row.direction) == (T, direction)]
    parts = [
        f"{row.method} takes {time_text(row.median_ms)} and {bytes_text(row.peak_bytes)}"
        for row in rows
        if row.median_ms is not None and row.peak_bytes is not None
    ]
    parts += [
        f"{row.method} would take about {_minutes(row.median_ms)}, by prediction"
        for row in rows
        if row.status == "predicted" and row.median_ms is not None
    ]
    return [
        text(
            f"**Further out.** At $T$ = {T:,} ({direction}) {'; '.join(parts)}. "
            f"{findings(comparison)[0]}"
        ),
        code(f'show(times_table(stored(read_run(RUNS / "{run.id}"))))'),
    ]


def stored(run: Run) -> AttentionSummary:
    """Return a run's summary, from which its tables and plots follow."""
    return AttentionSummary.model_validate(dict(run.summary))


def _machine(run: Run) -> str:
    machine = run.summary["machine"]
    return f"{machine['cpu'].partition(' (')[0]}, {machine['threads']} threads"


def _power(number: float) -> str:
    exponent = math.floor(math.log10(number))
    return rf"${number / 10**exponent:.2f} \times 10^{{{exponent}}}$"


def _minutes(milliseconds: float) -> str:
    seconds = milliseconds / 1000
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else time_text(milliseconds)


def _verdict(run: Run) -> str:
    return "all passed" if all(e["passed"] for e in run.summary["gate"]) else "some failed"


def _price(run: Run) -> str:
    summary = stored(run)
    signed = summary.longest_study("identity")
    if signed is None:
        return ""
    positive = [
        name
        for name in FEATURE_MAPS
        if (study := summary.longest_study(name)) is not None and study.negative_share == 0
    ]
    return (
        f"Dot products are not positive. For random inputs at $T$ = {signed.T:,}, "
        f"{signed.negative_share:.0%} of the row sums are negative and "
        f"{signed.near_zero_share:.0%} have cancelled by more than 99 %. Such a row divides by "
        f"almost zero: outputs reach {signed.largest_output:,.0f} standard deviations of the "
        "values, although an average can never leave their range, and rounding errors grow "
        f"alike. With a positive feature map ({', '.join(positive)}) in place of the bare "
        "products no sum is negative, and the derivation holds with $\\phi(q_i)$ and "
        "$\\phi(k_j)$."
    )
