"""Question 1: what the network computes, in the trace's own statement, and its proof."""

from collections.abc import Sequence

from hwcli.config import resolve
from hwcli.report.cells import Cell, text, words
from hwcli.report.runs import Run, Runs, mark_of, named, newest
from hwcli.report.templates import render
from hwcli.rnn.spec import NetworkSpec
from hwcli.rnn.summary import TraceSummary, Value

COMMAND = "rnn-trace"
HOMEWORK = "alternating-sum"

# The printed code runs so many steps.
STEPS_RUN = 3

# How to read the picture of a trace that compares two sums: what the answer says, and then see.
SEE = {
    HOMEWORK: (
        (
            "1 when the sum of the inputs at even positions exceeds the sum at odd positions,",
            "1 when the sum of the inputs at odd positions exceeds the sum at even positions,",
        ),
        "after an even step (filled) the output is 1 where the sum at even positions (upper panel) "
        "is the larger one; after an odd step (hollow) where the other is.",
    ),
    "difference-of-sums": (
        ("1 when the sum of the first inputs exceeds the sum of the second inputs,",),
        "the output is 1 where the sum of the first inputs (upper panel) is the larger one.",
    ),
}


def choose(runs: Runs) -> Run | None:
    """Return the trace of the homework's network by its name, else its newest, else the newest."""
    homeworks = [run for run in runs.of(COMMAND) if _is_homeworks(run)]
    return named(HOMEWORK, homeworks) or newest(homeworks) or newest(runs.of(COMMAND))


def _is_homeworks(run: Run) -> bool:
    """Tell whether a trace is of the network that the homework gives."""
    asked = NetworkSpec.model_validate(resolve(COMMAND, preset=HOMEWORK)["network"])
    return run.read(TraceSummary).network.spec.networks() == asked.networks()


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
        folder=run.folder,
        mark=mark_of([run]),
        is_homeworks=_is_homeworks(run),
        picture=run.picture("trace"),
        see=_see(found),
        ending=_ending(found),
        spec=found.network.spec.model_dump(mode="json", exclude_defaults=True),
        **_in_python([step.letter for step in found.steps[:STEPS_RUN]]),
    )


def _see(found: TraceSummary) -> str:
    """Say how to read the picture of the run."""
    if found.property.id not in SEE:
        return "below, the output; above, the hidden state it is made of."
    answers, see = SEE[found.property.id]
    if all(answer in found.property.statement for answer in answers):
        return see
    # Another sign, or a constant: the answer says what the output is then.
    return "above, the two sums that the output compares; below, the output."


def _ending(found: TraceSummary) -> str:
    """Say what the run ends in, and what the answer was checked on."""
    last, checks = found.final, found.checks
    said = (
        f"T = {found.length:,}: h_T = {_vector(last.hidden)}, z_T = {_vector(last.preactivation)}; "
        f"y_T as computed is {_vector(last.output)}."
    )
    if not checks.num_exhaustive:
        return said
    wrong = f"{checks.num_failed:,}" if checks.num_failed else "none"
    return (
        f"{said} {'Besides the proof, the' if found.proof.proved else 'The'} network was run on "
        f"{checks.num_exhaustive:,} short sequences and on {checks.num_random:,} more: the answer "
        f"was wrong for {wrong} of them."
    )


def _vector(numbers: Value | tuple[Value, ...]) -> str:
    """Spell numbers of a summary as they are."""
    if not isinstance(numbers, tuple):
        return str(numbers)
    listed = ", ".join(map(str, numbers))
    return listed if len(numbers) == 1 else f"({listed})"


def _in_python(letters: Sequence[tuple[Value, ...]]) -> dict[str, str]:
    """Spell a sequence of letters as Python does, and what that needs to be imported."""

    def number(x: Value) -> str:
        return f"Fraction({x!r})" if isinstance(x, str) else str(x)

    source = ", ".join(f"({', '.join(map(number, letter))},)" for letter in letters)
    imports = "from fractions import Fraction\n" if "Fraction" in source else ""
    return {"letters": f"[{source}]", "imports": imports}
