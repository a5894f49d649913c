"""Question 1: what the network computes, in the trace's own statement, and its proof."""

from collections.abc import Sequence

from hwcli.report.cells import Cell, text, words
from hwcli.report.runs import Run, Runs
from hwcli.report.templates import render
from hwcli.rnn.summary import TraceSummary

COMMAND = "rnn-trace"
HOMEWORK = "alternating-sum"

# How to read the picture of a trace, by what the output compares.
SEE = {
    HOMEWORK: "after an even step (filled) the output is 1 where the sum at even positions, above, "
    "is the larger one; after an odd step (hollow) where the other is.",
    "difference-of-sums": "the output is 1 where the sum of the first inputs, above, is the "
    "larger one.",
}


def choose(runs: Runs) -> Run | None:
    """Return the trace of the homework's network by its name, else the newest trace."""
    return runs.get(COMMAND, HOMEWORK) or runs.newest(runs.of(COMMAND))


def section(runs: Runs) -> list[Cell]:
    """Return the cells of question 1."""
    run = choose(runs)
    if run is None:
        return [
            text("# Question 1: Recurrences using RNNs", "q1-answer"),
            text(
                "**Not run yet:** the trace of the homework's network. Run `hw2 rnn-trace`.",
                "q1-not-run",
            ),
            words("q1", "In your own words (question 1): explain the recurrence."),
        ]
    found = run.read(TraceSummary)
    return render(
        "q1",
        found=found,
        folder=folder_of(run),
        mark=mark_of([run]),
        picture=run.picture("trace"),
        see=SEE.get(
            found.property.id or "", "below, the output; above, the hidden state it is made of."
        ),
    )


def folder_of(run: Run) -> str:
    """Spell a run's folder as the notebook does."""
    root = "RUNS" if run.is_the_users else "REFERENCE"
    return f'{root} / "{run.id}"'


def mark_of(shown: Sequence[Run]) -> str:
    """Say under a question's heading that its runs are the project's; empty for the author's."""
    names = ", ".join(f"`{run.id}`" for run in shown if run.is_reference)
    return f"*Reference run of the hw2 project, not of the author:* {names}." if names else ""
