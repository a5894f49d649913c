"""Question 2: the O(T) derivation, then what was measured."""

import math

from hwcli.attention.bench.explanation import findings, largest_outputs, price
from hwcli.attention.bench.results import AttentionSummary
from hwcli.attention.bench.tables import method_notes
from hwcli.report.cells import Cell
from hwcli.report.runs import Run, Runs, mark_of, named, newest
from hwcli.report.templates import render

COMMAND = "attention-bench"


def choose(runs: Runs) -> list[Run]:
    """Return the run that is shown: ``default``, else the newest that is not causal."""
    plain = runs.of(COMMAND, lambda run: not run.config["causal"])
    chosen = named("default", plain) or newest(plain)
    return [chosen] if chosen else []


def section(runs: Runs) -> list[Cell]:
    """Return the cells of question 2."""
    chosen = choose(runs)
    if not chosen:
        return render("q2", found=None, price=None, mark="")
    run = chosen[0]
    found = run.read(AttentionSummary)
    T, D = max(found.lengths), found.shape.dim
    return render(
        "q2",
        found=found,
        folder=run.folder,
        mark=mark_of(chosen),
        machine=run.machine,
        T=T,
        with_weights=_power(4 * T * T * D),
        without_weights=_power(4 * T * D * D + 3 * T * D),
        notes=method_notes(found),
        findings=" ".join(findings(found)[:-1] if price(found) else findings(found)),
        price=" ".join(price(found)),
        largest=largest_outputs(found),
    )


def _power(number: float) -> str:
    exponent = math.floor(math.log10(number))
    return rf"{number / 10**exponent:.2f} \times 10^{{{exponent}}}"
