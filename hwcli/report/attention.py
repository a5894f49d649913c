"""Question 2: the O(T) derivation, then what was measured."""

import math
from typing import Any

from hwcli.attention.bench.cases import METHODS, Case
from hwcli.attention.bench.measure import Machine
from hwcli.attention.bench.presentation import Comparison, bytes_text, time_text
from hwcli.output.tables import Column, Table
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
    comparison = stored_comparison(run)
    return [
        text(
            f"""
            **What was measured.** {_machine(run)}; {config["dtype"]}, heads: {config["heads"]}, of
            width $D = {D}$. Every method, its gradients too, was first held against a float64
            reference ({_verdict(run)}).
            At $T$ = {T:,} the derivation counts {_power(4 * T * T * D)} operations with the $T
            \\times T$ weights and {_power(4 * T * D * D + 3 * T * D)} without.
            {_findings(comparison)}
            """
        ),
        code(
            f"""
            from hwcli.attention.bench.presentation import draw_memory, draw_times, exponents_table
            from hwcli.report.attention import stored_comparison, times_table

            comparison = stored_comparison(read_run(RUNS / "{run.id}"))
            show(times_table(comparison))
            """
        ),
        code("show(exponents_table(comparison))"),
        code(
            """
            show(draw_times(comparison), "Time of one call over the length; hollow: predicted")
            show(draw_memory(comparison), "Peak memory of one call over the length")
            """
        ),
        text(f"**The price.** {_price(run)}"),
        code(
            f"""
            from hwcli.report.attention import price_table

            show(price_table(read_run(RUNS / "{run.id}")))
            """
        ),
    ]


def _million(run: Run) -> list[Cell]:
    comparison = stored_comparison(run)
    T = max(comparison.lengths)
    direction = comparison.directions[0]
    rows = {
        row["method"]: row
        for row in comparison.rows
        if (row["T"], row["direction"]) == (T, direction)
    }
    linear = rows.get(comparison.linear or "")
    parts = []
    if linear is not None and linear["status"] == "measured":
        parts.append(
            f"linear attention takes {time_text(linear['median_ms'])} and "
            f"{bytes_text(linear['peak_bytes'])}"
        )
    parts += [
        f"{name} would take about {_minutes(row['median_ms'])}, by prediction"
        for name, row in rows.items()
        if row["status"] == "predicted" and row["median_ms"] is not None
    ]
    return [
        text(
            f"**Further out.** At $T$ = {T:,} ({direction}) {'; '.join(parts)}. "
            f"{_growth(comparison)}"
        ),
        code(f'show(times_table(stored_comparison(read_run(RUNS / "{run.id}"))))'),
    ]


def stored_comparison(run: Run) -> Comparison:
    """Rebuild a stored run's comparison, from which its tables and plots follow."""
    config, machine = run.config, run.summary["machine"]
    present = {row["method"] for row in run.summary["rows"]}
    directions = dict.fromkeys(row["direction"] for row in run.summary["rows"])
    methods = tuple(method for method in METHODS if method in present)
    return Comparison(
        example=Case(
            method=methods[0],
            T=max(config["T"]),
            direction=next(iter(directions)),
            causal=config["causal"],
            feature_map=config["feature_map"],
            B=config["batch"],
            H=config["heads"],
            D=config["dim"],
            dtype=config["dtype"],
            device=machine["device"],
            seed=config["seed"],
        ),
        methods=methods,
        directions=tuple(directions),
        lengths=tuple(config["T"]),
        rows=run.records(),
        fit_octaves=config["fit_octaves"],
        crossover_length=run.summary.get("crossover_T"),
        machine=Machine(
            device=machine["device"],
            threads=machine["threads"],
            memory_limit_bytes=machine["memory_limit_bytes"],
            processor=machine["cpu"],
            matmul_peak=machine["matmul_peak_gflops"] * 1e9,
            bandwidth=machine["bandwidth_gb_s"] * 1e9,
        ),
    )


def times_table(c: Comparison) -> Table:
    """Return the time of each method at each length, narrow enough for a page."""
    by_place = {(row["T"], row["direction"], row["method"]): row for row in c.rows}

    def time(row: dict[str, Any]) -> str:
        if row["median_ms"] is None:
            return str(row["status"])
        mark = "" if row["status"] == "measured" else f" ({row['status']})"
        return time_text(row["median_ms"]) + mark

    rows: list[dict[str, Any]] = []
    for direction in c.directions:
        for T in c.lengths:
            cells: dict[str, Any] = {m: by_place[T, direction, m] for m in c.methods}
            rows.append({"T": T, "direction": direction, **cells})
    several = [Column("direction", "direction")] if len(c.directions) > 1 else []
    return Table(
        title=f"Time of one call (median), {c.directions[0]}"
        if not several
        else "Time of one call (median)",
        columns=[Column("T", "T", "{:,}"), *several, *(Column(m, m, time) for m in c.methods)],
        rows=rows,
    )


def price_table(run: Run) -> Table:
    """Return what becomes of the sums of weights at the longest length, for each feature map."""
    return Table(
        title="The sums of weights, for normal random q, k, v",
        columns=[
            Column("feature_map", "feature map"),
            Column("T", "T", "{:,}"),
            Column("negative_share", "negative sums", "{:.1%}"),
            Column("near_zero_share", "over 99 % cancelled", "{:.1%}"),
            Column("median_condition", "median condition", "{:.3g}"),
            Column("largest_error", "largest error", "{:.1e}"),
            Column("largest_output", "largest output", "{:.3g}"),
        ],
        rows=[{"feature_map": m, **row} for m, row in run.summary["denominators"].items()],
    )


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


def _growth(c: Comparison) -> str:
    """Say to which power of the length the time grows, for each method."""
    exponents = []
    for method in c.methods:
        law = c.laws(c.directions[0], method).time
        if law is not None:
            low, high = law.interval
            exponents.append(
                f"$T^{{{law.exponent:.2f}}}$ for {method} (95 % interval {low:.2f} to {high:.2f})"
            )
    if not exponents:
        return ""
    return f"Over its longest lengths the measured time grows as {', '.join(exponents)}."


def _findings(c: Comparison) -> str:
    """Say what the plots show: exponents, the longest length, the crossing."""
    direction, linear = c.directions[0], c.linear
    sentences = [_growth(c)]
    for method in c.methods:
        measured = c.points(direction, method, "median_ms")
        ours = c.points(direction, linear, "median_ms") if linear else {}
        both = sorted(measured.keys() & ours.keys())
        if method.startswith("softmax") and both:
            T = both[-1]
            sentences.append(
                f"At $T$ = {T:,} {method} takes {time_text(measured[T])} and {linear} "
                f"{time_text(ours[T])}, {measured[T] / ours[T]:,.0f} times less."
            )
            break
    if c.crossover_length is not None:
        sentences.append(
            f"Linear is the faster one from $T \\approx {c.crossover_length:.0f}$ on; operations "
            f"alone would say from $T = D = {c.example.D}$."
        )
    return " ".join(sentences)


def _price(run: Run) -> str:
    sums = run.summary["denominators"]
    signed = sums.get("identity")
    if signed is None:
        return ""
    positive = [name for name, row in sums.items() if row["negative_share"] == 0]
    return (
        "Dot products are not positive: that is the pretence. For random inputs at "
        f"$T$ = {signed['T']:,}, {signed['negative_share']:.0%} of the row sums are negative and "
        f"{signed['near_zero_share']:.0%} have cancelled by more than 99 %. Such a row divides by "
        f"next to nothing: outputs reach {signed['largest_output']:,.0f} standard deviations of "
        "the values, of which no average can leave their range, and rounding errors grow alike. "
        "With a positive "
        f"feature map ({', '.join(positive)}) in place of the bare products no sum is negative, "
        "and the derivation holds word for word with $\\phi(q_i)$ and $\\phi(k_j)$."
    )
