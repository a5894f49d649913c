"""An independent grader: what each question asks for is in the hand-in, in order."""

import json
import re
import shlex
import shutil
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from hwcli.config import every_value, load
from hwcli.report import front_and_back_matter, notebook, sentiment, vision
from hwcli.report.cells import Cell
from hwcli.report.runs import SUMMARIES, Environment, Run, find_runs, named, read_run
from hwcli.sentiment.summary import SentimentSummary
from hwcli.sentiment.tables import answers_table
from hwcli.vision.augmentation import AugmentationConfig

from .conftest import COMMITTED

AUTHOR = notebook.Author("Ada", ("Worked with a friend.",))

# What a strict grader looks for, question by question; a regular expression each.
ASKED = {
    "Question 1": [
        r"Answer.*even positions.*odd positions",
        r"\$T = \\text\{1,000\}\$ \(even\)",
        r"10\^\{-434\}",
        r"h_t = -h_\{t-1\} \+ x_t",
        r"\\sum_\{t=1\}\^\{T\}",
        r"Proof",
        r"own words \(question 1\)",
    ],
    "Question 2": [
        r"Answer.*O\(T D\^2\)",
        r"no such finite sum",
        r"\\frac\{q_i\^\\top S\}\{q_i\^\\top z\}",
        r"4TD\^2 \+ 3TD = O\(TD\^2\)",
        r"softmax-sdpa: softmax attention by torch's fused kernel",
        r"\$T\^\{2\.01\}\$ \(1\.96 to 2\.06\) for softmax-sdpa",
        r"fused kernel takes 3\.80 s and linear by the compiled C\+\+ kernel of hw2 takes 3\.58 ms",
        r"negative",
        r"own words \(question 2\)",
    ],
    "Question 3": [
        r"Answer.*accuracies lie between",
        r"Of all 105 pairs of cells 1 differs significantly \(Tukey's range\): 8 layers, 4 heads",
        r"grid_table_of",
        r"What this supports",
        r"X_0 &=",
        r"show_source\(ViT\.tokens, ViT\.forward\).*show_source\(Attention, MLP, Block\)",
        r"compiled C\+\+ kernel.*largest difference of the logits",
        r"show_source\(load\).*show_source\(batches\)",
        r"show_source\(lr_factor_at, make_optimizers\).*show_source\(train\)",
        r"show_source\(classify\)",
        r"own words \(question 3\)",
    ],
    "Question 4": [
        r"Answer.*accuracy on",
        r"± is the standard error over the test reviews. Of the test texts, 123 also occur",
        r"a significant difference by McNemar's exact test",
        r"112,241,409",
        r"2,759,169",
        r"answers_table",
        r"Q2a.*`homework` uses the first 5 encoder layers and at most 256 tokens",
        r"show_source\(GRUHead\)",
        r"Q3a, Q3b, Q3c, Q3d, the code that ran",
        r"show_source\(batch_loss, mean_of\)",
        r"epochs_table",
        r"Q4b: your own two reviews",
        r"own words \(question 4\)",
    ],
    "Collaborators and tools": [r"Worked with a friend", r"torch \d", r"Appendix"],
}


def joined(cells: list[Cell]) -> str:
    return " ".join("\n".join(cell.source for cell in cells).split())


def cells_of(own: Path) -> list[Cell]:
    return notebook.all_cells(find_runs(own), {"runs": ".."}, AUTHOR)


def parts(text: str) -> dict[str, str]:
    found = re.split(r"# (Question \d|Collaborators and tools)", text)
    return dict(zip(found[1::2], found[2::2], strict=True))


@pytest.fixture(scope="module")
def text() -> str:
    return joined(notebook.all_cells(find_runs(COMMITTED), {"runs": ".."}, AUTHOR))


@pytest.mark.parametrize("question", ASKED)
def test_everything_asked_for_stands_in_its_question(text: str, question: str) -> None:
    sections = parts(text)
    assert list(sections) == list(ASKED)
    missing = [wanted for wanted in ASKED[question] if not re.search(wanted, sections[question])]
    assert missing == []


def test_ids_are_unique_and_every_cell_has_one() -> None:
    cells = notebook.all_cells(find_runs(COMMITTED), {"runs": ".."}, AUTHOR)
    ids = [cell.id for cell in cells]
    assert all(ids)
    assert len(set(ids)) == len(ids)


def test_reference_runs_are_marked_in_front_and_in_the_appendix(tmp_path: Path) -> None:
    folders = {"runs": "..", "reference": "../reference"}
    cells = notebook.all_cells(find_runs(tmp_path, COMMITTED), folders, AUTHOR)
    shown = joined(cells)
    assert "These runs are the hw2 project's: the author of this hand-in did not make them" in shown
    assert "`vit-sweep/standard (reference)`" in shown
    assert 'REFERENCE / "vit-sweep/standard"' in shown
    assert 'RUNS / "vit-sweep/standard"' not in shown
    assert 'read_run(REFERENCE / "vit-sweep/standard", is_reference=True)' in shown


@pytest.mark.parametrize(
    ("given", "printed"),
    [
        ("hw2 rnn-trace --out results/reference --replace", "hw2 rnn-trace --out reproduced"),
        ("hw2 rnn-trace --out=/tmp/x --T 7", "hw2 rnn-trace --T 7 --out reproduced"),
        (
            "hw2 vit-sweep --compare-with standard --name 'a b'",
            "hw2 vit-sweep --name 'a b' --out reproduced",
        ),
        ("", "unknown"),
    ],
)
def test_a_printed_command_replaces_no_run(given: str, printed: str) -> None:
    (trace,) = find_runs(COMMITTED).of("rnn-trace")
    run = replace(trace, environment=Environment(command_line=tuple(shlex.split(given))))
    assert front_and_back_matter._command_line(run) == printed


def test_the_first_page_says_where_the_reference_runs_were_measured(tmp_path: Path) -> None:
    shown = joined(notebook.all_cells(find_runs(tmp_path, COMMITTED), {"runs": ".."}, AUTHOR))
    assert "did not make them. The appendix names the machine of each." in shown
    runs = find_runs(COMMITTED).of("vit-sweep")[:1]
    (here,) = {run.machine for run in runs}
    assert front_and_back_matter._measured(runs) == f"Measured on {here}."


def test_the_kept_epoch_is_named_with_its_reason(own: Path) -> None:
    shown = joined(notebook.all_cells(find_runs(own), {"runs": ".."}, AUTHOR))
    assert "Of 5 epochs, epoch 4 is kept: it has the lowest validation loss. It fits" in shown
    assert "Of 2 epochs, the last one is kept. It fits" in shown


def test_the_cells_of_a_run_of_question_4_are_found_again_by_its_name(own: Path) -> None:
    ids = {cell.id for cell in cells_of(own)}
    assert {"q4-run-homework", "q4-run-cells-homework", "q4-run-strong"} <= ids
    shutil.rmtree(own / "sentiment-train/homework")
    alone = {cell.id: cell.source for cell in cells_of(own)}
    assert "q4-run-strong" in alone
    assert 'trained}["strong"]' in alone["q4-run-cells-strong"]
    # A name that no id of a cell can be.
    (own / "sentiment-train/strong").rename(own / "sentiment-train/My_films.2")
    change(own / "sentiment-train/My_films.2/summary.json", '"strong"', '"My_films.2"')
    (id_,) = [cell.id for cell in cells_of(own) if cell.id.startswith("q4-run-cells-")]
    assert re.fullmatch("q4-run-cells-my-films-2-[0-9a-f]{6}", id_)


@pytest.mark.parametrize(
    ("training", "sentence"),
    [
        (0.95, "It fits the training reviews 5.0 points better than the validation reviews."),
        (0.905, "Its training and validation accuracy are close together."),
        (0.83, "Its training accuracy is 7.0 points below its validation accuracy"),
    ],
)
def test_how_well_it_fits_is_said_on_both_sides(own: Path, training: float, sentence: str) -> None:
    path = own / "sentiment-train/strong/summary.json"
    stored = json.loads(path.read_text())
    stored["epochs"][-1] |= {"train_accuracy": training, "valid_accuracy": 0.90}
    path.write_text(json.dumps(stored))
    cells = {cell.id: cell.source for cell in cells_of(own)}
    assert sentence in cells["q4-run-strong"]


def test_a_head_without_epochs_has_no_table_of_them(own: Path) -> None:
    path = own / "sentiment-train/homework/summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"batch_size": None}))
    cells = notebook.all_cells(find_runs(own), {"runs": ".."}, AUTHOR)
    sources = {cell.id: cell.source for cell in cells}
    assert (
        "The head was fitted by logistic regression, without epochs." in sources["q4-run-homework"]
    )
    assert "epochs_table" not in sources["q4-run-cells-homework"]
    assert "epochs_table" in sources["q4-run-cells-strong"]


# Dependencies that read, write and print, but compute nothing: no hand-in names them.
UNNAMED = {
    *("huggingface-hub", "datasets", "pyarrow", "safetensors", "filelock", "certifi", "pillow"),
    *("typer", "rich", "pyyaml", "pydantic", "jinja2"),
}


def test_the_tools_of_a_hand_in_are_the_packages_that_its_runs_need() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    declared = {re.match(r"[\w-]+", line)[0] for line in project["dependencies"]}  # type: ignore[index]
    assert declared == {*front_and_back_matter.TOOLS} | UNNAMED
    assert set().union(*front_and_back_matter.NEEDED_BY.values()) <= set(SUMMARIES)
    runs = find_runs(COMMITTED)
    everything = front_and_back_matter.tools(list(runs.whole.values()))
    assert [name for name in declared - UNNAMED if f" {name} " not in everything] == []
    (trace,) = runs.of("rnn-trace")
    for used in ([trace], []):
        named = re.findall(r"[\w-]+(?= \d)", front_and_back_matter.tools(used))
        assert named == ["torch", "numpy", "matplotlib"]


@pytest.mark.parametrize(
    ("similar", "said"),
    [
        (3, "none of the other 3 is significantly"),
        (2, "2 of the other 3 are not significantly"),
        (1, "1 of the other 3 is not significantly"),
        (0, "each of the other 3 is significantly"),
    ],
)
def test_the_answer_counts_the_networks_that_may_be_as_good(
    own: Path, similar: int, said: str
) -> None:
    path = own / "vit-sweep/standard/summary.json"
    stored = json.loads(path.read_text())
    cells = [
        cell | {"versus_best": "similar" if k < similar else "worse"}
        for k, cell in enumerate(stored["cells"][:4])
    ]
    path.write_text(json.dumps(stored | {"cells": cells}))
    assert said in vision._sentence(read_run(path.parent))


@pytest.mark.parametrize(
    ("encoder", "said"),
    [
        ("bert-base-uncased", "are the same: it is that model."),
        ("google-bert/bert-base-uncased@main", "are the same: it is that model."),
        ("bert-base-cased", "are the same; its encoder is bert-base-cased."),
        (None, "differ from these, because `homework` is another model (all-MiniLM-L6-v2, "),
    ],
)
def test_a_run_is_the_assignments_model_by_its_encoder_and_its_counts(
    own: Path, encoder: str | None, said: str
) -> None:
    path = own / "sentiment-train/homework/summary.json"
    stored = json.loads(path.read_text())
    if encoder is not None:
        counts = stored["assignment"]
        stored |= {
            "encoder": encoder,
            "num_params": counts["total"],
            "num_trainable_params": counts["trainable"],
        }
    path.write_text(json.dumps(stored))
    answer = {cell.id: cell.source for cell in cells_of(own)}["q4-answer"]
    assert said in answer
    assert ("it is that model" in answer) == ("it is that model" in said)


def test_without_runs_every_question_says_what_to_run(tmp_path: Path) -> None:
    from hwcli.experiments import vit_sweep

    shown = joined(notebook.all_cells(find_runs(tmp_path), {"runs": ".."}, AUTHOR))
    for command in ("hw2 rnn-trace", "hw2 attention-bench", "hw2 vit-sweep", "hw2 sentiment-train"):
        assert re.search(rf"Not run yet:\*\* [^`]*`{command}", shown), command
    assert load(vit_sweep.Config, "vit-sweep", preset="standard").name == "standard"
    # Nothing is said of a run that is not there.
    for sentence in ("code that ran", "divides by every", "computed by torch", "This run"):
        assert sentence not in shown
    # Theory needs no run.
    assert r"\frac{q_i^\top S}{q_i^\top z}" in shown


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


PRESET = "Two hours of my life that nobody will ever give back to me."


def test_texts_of_a_preset_are_never_called_reviews_of_the_author(own: Path) -> None:
    shown = joined(notebook.all_cells(find_runs(own), {"runs": ".."}, AUTHOR))
    assert "They are not reviews by the author of this hand-in, and do not answer Q4b." in shown
    assert "and of texts that came with its preset" in shown
    assert "author's reviews" not in shown
    assert "with_own_reviews" not in shown
    assert "Q4b: your own two reviews. Write one positive and one negative review" in shown
    found = find_runs(own).of("sentiment-train")[0].read(SentimentSummary)
    assert PRESET in {prediction.text for prediction in found.predictions}
    (answer,) = [r for r in answers_table([found]).rows if r["question"] == "Q4b own two reviews"]
    assert answer[found.name] == "none were given to this run"


def test_reviews_given_by_text_are_the_authors_unless_the_run_is_a_reference(own: Path) -> None:
    mine = "Ten hours of my own life"
    for file in ("config.yaml", "summary.json"):
        change(own / "sentiment-train/homework" / file, "Two hours of my life", mine)
    runs = find_runs(own)
    shown = joined(notebook.all_cells(runs, {"runs": ".."}, AUTHOR))
    assert "they stand in the table of `homework`." in shown
    assert "with_own_reviews=['homework']" in shown
    assert "what homework says of the given sentences and of the author's reviews" in shown
    assert "what strong says of the given sentences, and of texts that came with" in shown
    assert "Which of those in the table is meant to be positive" in shown
    run = named("homework", runs.of("sentiment-train"))
    assert run is not None
    found = run.read(SentimentSummary)
    table = answers_table([found], with_own_reviews=["homework"])
    (answer,) = [row for row in table.rows if row["question"] == "Q4b own two reviews"]
    assert mine in answer["homework"]
    # The same run of somebody else's is not the author's.
    shown = joined(notebook.all_cells(find_runs(own.parent, own), {"runs": ".."}, AUTHOR))
    assert "they stand in the table of" not in shown
    assert "with_own_reviews" not in shown


def test_each_question_says_whose_run_it_shows(tmp_path: Path, own: Path) -> None:
    mark = "*Reference run of the hw2 project, not of the author:*"
    shown = parts(
        joined(notebook.all_cells(find_runs(tmp_path, COMMITTED), {"runs": ".."}, AUTHOR))
    )
    assert [mark in shown[f"Question {n}"] for n in range(1, 5)] == [True] * 4
    assert mark not in joined(notebook.all_cells(find_runs(own), {"runs": ".."}, AUTHOR))


def test_the_accuracies_stand_alone_and_their_costs_apart() -> None:
    run = named("standard", find_runs(COMMITTED).of("vit-sweep"))
    assert run is not None
    accuracies, costs = vision.grid_table_of(run), vision.details_table_of(run)
    for table, pattern in (
        (accuracies, r"9[23]\.\d\d ± 0\.\d\d %.*"),
        (costs, r"\d{3},\d{3} parameters, \d+ s"),
    ):
        rows = table.cells()
        assert [row[0] for row in rows] == ["4", "5", "6", "7", "8"]
        cells = [cell for row in rows for cell in row[1:]]
        assert len(cells) == 15
        assert all(re.fullmatch(pattern, cell) for cell in cells)
    assert sum("*" in cell for row in accuracies.cells() for cell in row) == 1


def test_each_augmentation_of_a_recipe_is_named_with_its_function() -> None:
    config = AugmentationConfig(max_shift=2, erase_probability=0.25, cutmix_probability=0.5)
    said = vision.changes_to_images(every_value(config), patches=49, epochs=20)
    assert "`shift` moves each by up to 2 pixels." in said
    assert "`erase` fills a rectangle with noise in 25% of them." in said
    assert "`cutmix` takes a rectangle of another image, and its label likewise, in 50%." in said
    assert "patches" not in said
    assert vision.changes_to_images(every_value(AugmentationConfig(flip=False)), 49, 20) == ""
    early = every_value(AugmentationConfig(flip=False, early_tokens=0.5))
    said = "In the first half of the epochs the network sees 24 of each image's 49 patches"
    assert said in vision.changes_to_images(early, 49, 20)
    # One epoch has no first half.
    assert vision.changes_to_images(early, 49, 1) == ""


STANDARD = "vit-sweep/standard"


def set_values(run: Path, settings: dict[str, Any], summary: dict[str, Any] | None = None) -> None:
    """Give a run other settings, by dotted fields, and its summary other values."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    for field, value in settings.items():
        *parents, last = field.split(".")
        section = config
        for parent in parents:
            section = section[parent]
        section[last] = value
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    if summary is not None:
        stored = json.loads((run / "summary.json").read_text())
        (run / "summary.json").write_text(json.dumps(stored | summary))


@pytest.mark.parametrize(
    ("settings", "summary", "said", "unsaid"),
    [
        ({}, {}, "This run trained in bfloat16 with the compiled C++ kernel", "Torch computes"),
        ({"model.dropout": 0.1}, {}, "has no dropout. Torch computes", "This run trained"),
        ({"model.patch_size": 1}, {}, "takes at most 256 tokens. Torch", "This run trained"),
        ({}, {"kernels": "torch"}, "by torch, exactly as shown", "compiled C++ kernel of"),
        (
            {"model.width": 48},
            {"note_on_precision": "All layers are computed in float32, not in bfloat16."},
            "This run trained with the compiled C++ kernel",
            "trained in bfloat16",
        ),
    ],
)
def test_the_code_that_ran_is_that_of_the_run(
    own: Path, settings: dict[str, Any], summary: dict[str, Any], said: str, unsaid: str
) -> None:
    set_values(own / STANDARD, settings, summary)
    shown = {cell.id: cell.source for cell in cells_of(own)}["q3-kernels"]
    assert said in shown
    assert unsaid not in shown
    assert summary.get("note_on_precision", "") in shown


def test_question_3_describes_the_network_and_the_recipe_of_its_run(own: Path) -> None:
    usual = {cell.id: cell.source for cell in cells_of(own)}
    assert "to Muon, which orthogonalises" in usual["q3-optimiser"]
    assert "X_0 &= [E p_1;" in usual["q3-model"]
    set_values(
        own / STANDARD,
        {
            "optimizer.kind": "adamw",
            "model.pooling": "class",
            "model.attention": "linear",
            "data.train_limit": 60_000,
        },
    )
    changed = {cell.id: cell.source for cell in cells_of(own)}
    assert "gives all weights to AdamW." in changed["q3-optimiser"]
    assert "Muon" not in changed["q3-optimiser"]
    assert r"X_0 &= [x_{\mathrm{class}}; E p_1; \dots; E p_N]" in changed["q3-model"]
    assert "with linear attention in place of softmax" in changed["q3-model"]
    rows = vision.recipe_table(read_run(own / STANDARD)).cells()
    # What a limit leaves is not more than there is.
    assert ["training images", "55,000"] in rows


def test_an_axis_of_one_value_is_a_setting_of_the_run(own: Path) -> None:
    run = own / STANDARD
    stored = json.loads((run / "summary.json").read_text())
    point = {"epochs": 1, "model.width": 96}
    axes = [{"field": field, "values": [value]} for field, value in point.items()]
    cells = [cell | {"point": cell["point"] | point} for cell in stored["cells"]]
    set_values(run, {}, {"axes": stored["axes"] + axes, "cells": cells})
    shown = {cell.id: cell.source for cell in cells_of(own)}
    assert r"\mathbb{R}^{96}" in shown["q3-model"]
    assert "first half" not in shown["q3-data"]
    rows = dict(vision.recipe_table(read_run(run)).cells())
    assert rows["epochs; batch size"] == "1; 128"
    assert rows["width; hidden width of the MLP"] == "96; 128"
    assert "first half" not in rows["augmentation"]


@pytest.mark.parametrize(
    ("head", "finetuned", "said"),
    [
        ("2-layer bidirectional GRU of 256, dropout 0.25", False, ""),
        (
            "1-layer bidirectional GRU of 256",
            False,
            " (`mine` has a 1-layer bidirectional GRU of 256)",
        ),
        ("2-layer bidirectional GRU of 256", True, " (`mine` trains the encoder, too)"),
        ("mean", True, " (`mine` has another head, mean and trains the encoder, too)"),
    ],
)
def test_a_head_that_is_not_the_homeworks_is_named(
    own: Path, head: str, finetuned: bool, said: str
) -> None:
    found = read_run(own / "sentiment-train/homework").read(SentimentSummary)
    mine = found.model_copy(update={"name": "mine", "head": head, "finetuned": finetuned})
    assert sentiment._other_heads([found, mine]) == said


def test_a_model_without_mistakes_has_no_share_of_them(own: Path) -> None:
    found = read_run(own / "sentiment-train/homework").read(SentimentSummary)
    for confusion, said in (
        ([[9, 0], [0, 7]], "No test review is classified wrongly."),
        ([[8, 1], [0, 7]], "Of 1 wrong test review, 1 was called positive."),
    ):
        assert sentiment._line(found.model_copy(update={"confusion": confusion})).endswith(said)


def test_the_versions_are_those_of_the_authors_runs() -> None:
    (trace,) = find_runs(COMMITTED).of("rnn-trace")

    def with_torch(version: str, *, is_reference: bool) -> Run:
        environment = trace.environment.model_copy(update={"versions": {"torch": version}})
        return replace(trace, environment=environment, is_reference=is_reference)

    old, new = (with_torch(version, is_reference=False) for version in ("2.9.1", "2.10.0"))
    named = front_and_back_matter.tools([new, with_torch("2.7.0", is_reference=True)])
    assert "with torch 2.10.0, numpy" in named
    assert "with torch 2.10.0 and 2.9.1, numpy" in front_and_back_matter.tools([old, new])


def test_sentences_of_thanks_stand_one_after_another(own: Path) -> None:
    author = notebook.Author("Ada", ("Worked with B. Friend.", "Used a spell checker"))
    cells = notebook.all_cells(find_runs(own), {"runs": ".."}, author)
    shown = {cell.id: cell.source for cell in cells}["back-tools"]
    assert "Worked with B. Friend. Used a spell checker.\n" in shown


def test_a_review_of_two_paragraphs_stays_in_the_command_that_is_printed(own: Path) -> None:
    environment = own / "sentiment-train/homework/env.json"
    stored = json.loads(environment.read_text())
    stored["command_line"] = ["hw2", "sentiment-train", "--text", "One.\nTwo.\n\nThree."]
    environment.write_text(json.dumps(stored))
    commands = {cell.id: cell.source for cell in cells_of(own)}["back-commands"]
    assert "--text 'One.\n  Two.\n\n  Three.' --out" in commands
