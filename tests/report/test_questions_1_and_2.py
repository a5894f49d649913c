"""The sections of questions 1 and 2: what they print, and for runs of another kind."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hwcli.report import attention, recurrences
from hwcli.report.cells import Cell
from hwcli.report.display import trace_table
from hwcli.report.runs import find_runs, read_run
from hwcli.rnn.summary import TraceSummary

from .conftest import COMMITTED


def cells_by_id(cells: list[Cell]) -> dict[str, str]:
    return {cell.id: cell.source for cell in cells}


@pytest.fixture
def traced(tmp_path: Path, hw2: Callable[..., int]) -> Callable[..., dict[str, str]]:
    """Run ``hw2 rnn-trace``, and return the cells of question 1 that are made of it."""

    def run(*arguments: str) -> dict[str, str]:
        given = ["--name", "alternating-sum", "--length", "7", "--out", str(tmp_path)]
        assert hw2("rnn-trace", *given, *arguments) == 0
        return cells_by_id(recurrences.section(find_runs(tmp_path)))

    return run


def test_the_printed_code_of_question_1_runs_by_itself(
    traced: Callable[..., dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    code = traced("--inputs", "3,-1/2,4")["q1-here"]
    capsys.readouterr()
    exec(compile(code, "q1-here", "exec"), {})
    assert capsys.readouterr().out.splitlines() == [
        "t = 1 h_t = 3 z_t = 3000 y_t = 1.0",
        "t = 2 h_t = -7/2 z_t = -3500 y_t = 0.0",
        "t = 3 h_t = 15/2 z_t = 7500 y_t = 1.0",
    ]


def test_a_table_of_steps_has_no_empty_column(tmp_path: Path, hw2: Callable[..., int]) -> None:
    simple = "{w_in: 1, w_rec: 1}"
    specs = {"one": simple, "two": f"{{layers: [{simple}, {simple}]}}"}
    for name, network in specs.items():
        spec = tmp_path / f"{name}.yaml"
        spec.write_text(f"network: {network}\ninputs: [1, 2]\n")
        assert hw2("rnn-trace", "--spec", str(spec), "--out", str(tmp_path)) == 0
    headings = [
        [column.key for column in trace_table(run.read(TraceSummary)).columns]
        for run in map(read_run, (tmp_path / "rnn-trace/one", tmp_path / "rnn-trace/two"))
    ]
    assert headings == [
        ["t", "input", "recurrence", "unrolled", "hidden", "output"],
        ["t", "input", "recurrence", "hidden", "output"],
    ]


def test_the_printed_code_of_question_2_runs_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    code = cells_by_id(attention.section(find_runs(COMMITTED)))["q2-check"]
    exec(compile(code, "q2-check", "exec"), {})
    assert [line.rpartition(" ")[2] for line in capsys.readouterr().out.splitlines()] == [
        "True",
        "True",
    ]


def test_question_1_says_for_which_inputs_and_what_the_run_ends_in(
    traced: Callable[..., dict[str, str]],
) -> None:
    cells = traced("--inputs", "3,-1,4")
    assert "**Answer.** For $T = 3$ (odd) and integer inputs: y_T is 1" in cells[
        "q1-answer"
    ].replace("$y_T$", "y_T")
    assert "the answer was wrong for none of them." in cells["q1-end"]
    assert "$h_T = 8$, $z_T = 8000$; $y_T$ as computed is 1.0." in cells["q1-end"]
    assert "the sum at even positions (upper panel) is the larger one" in cells["q1-picture"]


@pytest.mark.parametrize("change", [("--w-out", "-1000"), ("--set", "network.bias=1/2")])
def test_the_picture_is_not_read_as_the_homeworks_where_the_answer_differs(
    traced: Callable[..., dict[str, str]], change: tuple[str, str]
) -> None:
    cells = traced("--inputs", "3,-1,4", *change)
    assert "is the larger one" not in cells["q1-picture"]
    assert "above, the two sums that the output compares" in cells["q1-picture"]
