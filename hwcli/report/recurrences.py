"""Question 1: the recurrence unrolled, its closed form, the property, and the proof."""

import math
from fractions import Fraction

from hwcli.report.cells import Cell, code, not_run_yet, text, words
from hwcli.report.runs import Run, Runs

STEPS_WRITTEN = 5

OWN = words("q1", "why does an output that flips its mind at every step still end up exact?")


def choose(runs: Runs) -> Run | None:
    """Return the run of the homework's network, known by what was found of it."""
    named = runs.get("rnn-trace", "alternating-sum")
    candidates = [named] if named else []
    candidates += runs.of("rnn-trace")
    for run in candidates:
        if run.summary["property"].get("id") == "alternating-sum" and _is_scalar(run):
            return run
    return None


def _is_scalar(run: Run) -> bool:
    network = run.config["network"]
    return network["w_rec"] == [[-1]] and len(network["w_in"]) == 1 == len(network["w_in"][0])


def section(runs: Runs) -> list[Cell]:
    """Return the cells of question 1."""
    heading = text("# Question 1: Recurrences using RNNs")
    run = choose(runs)
    if run is None:
        missing = not_run_yet("the trace of the homework's network", "hw2 rnn-trace")
        return [heading, missing, OWN]
    summary, network = run.summary, run.config["network"]
    w_in, w_out = Fraction(network["w_in"][0][0]), Fraction(network["w_out"])
    T = summary["length"]
    checks = summary["checks"]
    # The output differs from its class by less than exp(-|z|), and |z| is an integer's multiple.
    digits = math.floor(abs(w_in * w_out) / Fraction(math.log(10)))
    return [
        heading,
        text(
            rf"""
            **The network.** One linear hidden unit with input weight ${w_in}$ and recurrent weight
            $-1$, a logistic output unit with weight ${w_out}$, no biases, $h_0 = 0$. It reads
            integers $x_1, \dots, x_T$ and answers after the last one, here $T = {T}$:

            $$h_t = -h_{{t-1}} + {_times(w_in)}x_t, \qquad z_t = {w_out}\,h_t, \qquad
            y_t = \sigma(z_t) = \frac{{1}}{{1 + e^{{-z_t}}}}.$$

            **The recurrence unrolled.** Each step turns the sign of everything read before and adds
            the new input:

            $$\begin{{aligned}}
            {_unrolled(w_in)}
            \end{{aligned}}$$
            """
        ),
        code(
            f"""
            from hwcli.config import load
            from hwcli.experiments import rnn_trace
            from hwcli.rnn.closed_form import closed_form
            from hwcli.rnn.tables import closed_form_lines, steps_table
            from hwcli.rnn.trace import trace

            run = read_run(RUNS / "{run.id}")
            config = load(rnn_trace.Config, "rnn-trace", path=run.path / "config.yaml")
            network, inputs = config.network.network(), rnn_trace.input_sequence(config)
            traced, closed = trace(network, inputs), closed_form(network)
            show(steps_table(network, closed, traced, config.steps))
            """
        ),
        text(
            rf"""
            **Closed form.** For every $T \ge 1$

            $$h_T = \sum_{{t=1}}^{{T}} (-1)^{{T-t}}\,{_times(w_in)}x_t, \qquad
            z_T = {w_out} \sum_{{t=1}}^{{T}} (-1)^{{T-t}}\,{_times(w_in)}x_t.$$

            *Proof* by induction on $T$. For $T = 1$, $h_1 = -h_0 + {_times(w_in)}x_1 =
            {_times(w_in)}x_1$. If the claim holds for $T - 1$, then

            $$h_T = -\sum_{{t=1}}^{{T-1}} (-1)^{{T-1-t}}\,{_times(w_in)}x_t + {_times(w_in)}x_T
            = \sum_{{t=1}}^{{T-1}} (-1)^{{T-t}}\,{_times(w_in)}x_t + (-1)^0\,{_times(w_in)}x_T
            = \sum_{{t=1}}^{{T}} (-1)^{{T-t}}\,{_times(w_in)}x_t. \qquad\blacksquare$$

            **The property.** $(-1)^{{T-t}}$ is $+1$ where $t$ has the parity of $T$, and $-1$ where
            it has not. With positions counted from 1, let $A$ be the sum of the inputs at positions
            of the parity of $T$, and $B$ the sum at the others: for even $T$

            $$z_T = {_times(w_out * w_in)}(A - B), \qquad
            A = x_2 + x_4 + \dots + x_T, \qquad B = x_1 + x_3 + \dots + x_{{T-1}},$$

            and for odd $T$ the even and the odd positions change places. As $\sigma(z) > \tfrac12$
            exactly where $z > 0$, the output unit **compares the sum of the inputs at even
            positions with the sum at odd positions**:

            $$y_T \;\begin{{cases}}
            \approx 1 & \text{{if }} A > B, \\
            = \tfrac12 & \text{{if }} A = B, \\
            \approx 0 & \text{{if }} A < B.
            \end{{cases}}$$

            How near is $\approx$? The inputs are integers, so that off a tie $|z_T| \ge
            {abs(w_out * w_in)}$ and $y_T$ differs from its class by
            $1/(1 + e^{{|z_T|}}) < e^{{-{abs(w_out * w_in)}}} < 10^{{-{digits}}}$: the output weight
            makes of the logistic unit a step. $T$ being {T} here,
            {"even" if T % 2 == 0 else "odd"}, the answer is: *{_answer(T)}*
            """
        ),
        code(
            """
            even, odd = sum(x for (x,) in inputs[1::2]), sum(x for (x,) in inputs[0::2])
            print(f"sum at even positions {even}, at odd {odd}, difference {even - odd}")
            print(f"h_T = {traced.final.hidden[0]}, z_T = {traced.final.preactivation}, "
                  f"y_T = {traced.final.output:g}")
            assert [traced.final.hidden[0]] == run.summary["final"]["hidden"]
            print(closed_form_lines(closed)[0])
            """
        ),
        code(
            """
            from hwcli.rnn.pictures import draw_trace

            show(draw_trace(traced), f"Hidden state and output, {traced.length:,} random inputs")
            """
        ),
        text(
            f"""
            Besides the proof, the stated property was held against the network itself on all
            {checks["num_exhaustive"]:,} short sequences and {checks["num_random"]:,} random longer
            ones, in exact arithmetic: {checks["num_failed"]} disagreed.
            {_gradients(run)}
            """
        ),
        OWN,
    ]


def _times(weight: Fraction) -> str:
    return {1: "", -1: "-"}.get(int(weight) if weight.denominator == 1 else 0, rf"{weight}\,")


def _unrolled(weight: Fraction) -> str:
    """Spell the first steps: each with its recurrence and what it comes to."""
    factor = _times(weight)
    lines = []
    for t in range(1, STEPS_WRITTEN + 1):
        terms = [("-" if i % 2 else "+", t - i) for i in range(t)]
        spelled = " ".join(
            f"{sign if i else ''} {factor}x_{{{s}}}" for i, (sign, s) in enumerate(terms)
        )
        lines.append(rf"h_{{{t}}} &= -h_{{{t - 1}}} + {factor}x_{{{t}}} &&= {spelled.strip()}")
    return "\\\\\n            ".join(lines)


def _answer(T: int) -> str:
    first, second = ("even", "odd") if T % 2 == 0 else ("odd", "even")
    return (
        f"the output unit says whether the sum of the inputs at {first} positions exceeds the sum "
        f"at {second} positions; 1 if so, 0 if it is smaller, 1/2 on a tie."
    )


def _gradients(run: Run) -> str:
    meaning = run.summary.get("gradients", {}).get("meaning")
    return f"What this means for learning: {meaning[0].lower()}{meaning[1:]}" if meaning else ""
