"""What the sections say, from the summaries, before anything is executed."""

import json
from pathlib import Path

import pytest

from hwcli.output.tables import Table
from hwcli.report import attention, notebook, recurrences, sentiment, vision
from hwcli.report.cells import Cell
from hwcli.report.runs import find_runs, read_run
from hwcli.vision.tables import grid_table


def said(cells: list[Cell]) -> str:
    return " ".join("\n".join(cell.source for cell in cells).split())


def shown(table: Table) -> str:
    return table.to_markdown()


def test_the_four_questions_stand_in_their_order(made_up: Path) -> None:
    cells = notebook.all_cells(find_runs(made_up), "..", ["Worked with a friend."])
    headings = [c.source.partition("\n")[0] for c in cells if c.source.startswith("# ")]
    assert [heading.partition(":")[0] for heading in headings] == [
        "# Question 1",
        "# Question 2",
        "# Question 3",
        "# Question 4",
        "# Collaborators and tools",
        "# Environment",
    ]
    assert "Worked with a friend." in said(cells)
    assert "Not run yet" not in said(recurrences.section(find_runs(made_up)))


def test_without_runs_every_question_says_what_to_run(tmp_path: Path) -> None:
    cells = notebook.all_cells(find_runs(tmp_path), "..", [])
    commands = [c.source for c in cells if "Not run yet" in c.source]
    for command in (
        "`hw2 rnn-trace`",
        "`hw2 attention-bench`",
        "`hw2 vit-sweep --layers 4..8 --heads 2..4 --preset standard`",
        "`hw2 sentiment-train --preset homework`",
        "`hw2 sentiment-train --preset strong`",
    ):
        assert any(command in source for source in commands), command
    # Theory needs no run.
    assert r"\frac{q_i^\top S}{q_i^\top z}" in said(cells)


def test_every_command_that_is_recommended_is_valid(tmp_path: Path) -> None:
    from hwcli.config import load
    from hwcli.experiments import sentiment_train, vit_sweep

    load(sentiment_train.Config, "sentiment-train", preset="homework")
    for name in (vision.MAIN, *vision.OTHERS):
        words = vision._command(name).split()[2:]
        flags = {k.removeprefix("--"): v for k, v in zip(words[::2], words[1::2], strict=True)}
        preset = flags.pop("preset")
        keys = {"attention": "model.attention", "compare-with": "compare_with"}
        config = load(
            vit_sweep.Config,
            "vit-sweep",
            preset=preset,
            flags={keys.get(key, key): value for key, value in flags.items()},
        )
        assert config.name == name


def test_the_recurrence_is_unrolled_and_its_numbers_are_the_runs(made_up: Path) -> None:
    text = said(recurrences.section(find_runs(made_up)))
    assert "h_{3} &= -h_{2} + x_{3} &&= x_{3} - x_{2} + x_{1}" in text
    assert r"h_T = \sum_{t=1}^{T} (-1)^{T-t}\,x_t" in text
    assert "10^{-434}" in text
    assert "T = 1000" in text
    assert "7,239 short sequences" in text


def test_attention_quotes_its_run(made_up: Path) -> None:
    summary = json.loads((made_up / "attention-bench/default/summary.json").read_text())
    text = said(attention.section(find_runs(made_up)))
    for method in ("softmax-sdpa", "linear"):
        assert f"T^{summary['exponents'][method]['time']:.2f} for {method}" in text


def test_the_accuracy_table_has_every_cell(made_up: Path) -> None:
    found = vision.summary_of(read_run(made_up / "vit-sweep/standard"))
    table = shown(grid_table(found))
    for cell in found.cells:
        assert f"{100 * (cell.test_accuracy_mean or 0):.2f} ± 0.3" in table
        assert f"{cell.num_params:,} parameters" in table
    assert "90.17 ± 0.30 % *" in table


def test_the_conclusion_is_the_runs(made_up: Path) -> None:
    run = read_run(made_up / "vit-sweep/standard")
    text = said(vision.section(find_runs(made_up)))
    assert run.summary["conclusion"] in text
    assert "Validation selects 4 layers, 2 heads" in text


def test_the_notebooks_questions_are_answered_by_name(made_up: Path) -> None:
    runs = sentiment.choose(find_runs(made_up))
    table = shown(sentiment.answers_table(runs))
    for answer in ("Q1a", "30,522", "17,500 / 7,500 / 25,000", "23,456,789", "2,345,678", "0.2345"):
        assert answer in table
    for question in ("Q1b", "Q2a", "Q2b", "Q2c", "Q3a", "Q3b, Q3c", "Q3d", "Q4a", "Q4b"):
        assert f"| {question}" in table
    assert "“Avengers was great!!”: positive (0.9000)" in table
    text = said(sentiment.section(find_runs(made_up)))
    assert "0.34 points below the better bag of words (NB-SVM bigrams, 91.57 %)" in text


def test_the_authors_words_are_kept_and_a_damaged_notebook_is_not_lost(tmp_path: Path) -> None:
    import nbformat

    from hwcli.errors import OutputError

    cells = notebook.all_cells(find_runs(tmp_path), "..", [])
    made = notebook.assemble(cells, title="T", author=None, kept={"own-q2": "It forgets."})
    nbformat.validate(made)
    path = tmp_path / "hw2.ipynb"
    nbformat.write(made, path)
    assert notebook.own_words(path) == {"own-q2": "It forgets."}
    assert sum(notebook.is_open(cell) for cell in made.cells) == 4
    path.write_text("{")
    with pytest.raises(OutputError, match="may hold your words"):
        notebook.own_words(path)
