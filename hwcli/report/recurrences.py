"""Question 1: what the network computes, in the trace's own statement, and its proof."""

from hwcli.report.cells import Cell, text, words
from hwcli.report.runs import Run, Runs
from hwcli.report.templates import render
from hwcli.rnn.summary import TraceSummary

COMMAND = "rnn-trace"
HOMEWORK = "alternating-sum"


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
    is_alternating = found.property.id == HOMEWORK
    return render(
        "q1",
        found=found,
        folder=folder_of(run),
        picture=run.picture("trace"),
        see="the hidden state changes its sign at every step, and the output jumps between 0 and 1."
        if is_alternating
        else "how the output follows the hidden state.",
    )


def folder_of(run: Run) -> str:
    """Spell a run's folder as the notebook does."""
    return f'{"REFERENCE" if run.is_reference else "RUNS"} / "{run.id}"'
