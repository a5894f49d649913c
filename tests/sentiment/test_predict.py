"""sentiment-predict: one text, one prediction, in order; labelled files; several models."""

import io
import json
import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from hwcli.errors import SourceError
from hwcli.sentiment import encoder as encoders
from hwcli.sentiment.classifier import KNOWN_TEXTS, assemble, make_head, save_classifier
from hwcli.sentiment.columns import DataConfig, LabelNames
from hwcli.sentiment.heads import HeadConfig
from hwcli.sentiment.predict import (
    ModelPredictions,
    Texts,
    accuracy_table,
    find_runs,
    gather_texts,
    predict,
    to_json_lines,
    to_tables,
    trained_labels,
)
from hwcli.sentiment.summary import Prediction
from hwcli.sentiment.tokens import TextConfig

PLAIN = DataConfig()


def quiet(line: str) -> None:
    pass


def save_run(
    out: Path,
    name: str,
    encoder: Path,
    seed: int,
    trained_on: Sequence[str] = (),
    label_names: LabelNames | None = None,
) -> Path:
    torch.manual_seed(seed)
    config = HeadConfig(kind="mean")
    model = encoders.load_encoder(encoder)
    head = make_head(config, model, finetuned=True)
    run = out / "sentiment-train" / name
    save_classifier(
        run / "model",
        assemble(model, head, config, finetuned=True),
        encoders.load_tokenizer(encoder),
        head=config,
        text=TextConfig(max_length=31),
        finetuned=True,
        encoder_name="tiny",
        trained_on=trained_on,
        label_names=label_names,
    )
    return run


@pytest.fixture(scope="module")
def runs(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    out = tmp_path_factory.mktemp("out")
    return [save_run(out, name, tiny_encoder, seed) for seed, name in enumerate(("one", "two"))]


def test_every_line_of_standard_input_has_one_prediction(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = ["good\u2028film", "", "bad\x85film"]
    stdin = io.TextIOWrapper(io.BytesIO("\r\n".join(lines).encode()))
    monkeypatch.setattr("sys.stdin", stdin)
    assert gather_texts([], None, PLAIN, quiet).texts == lines


def test_a_labelled_file_gives_its_labels_and_a_doubtful_one_says_why(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("review,sentiment\ngood,positive\nbad,negative\n")
    assert gather_texts([], path, PLAIN, quiet) == Texts(["good", "bad"], [1, 0])
    path.write_text("text,label\ngood,3\nbad,7\n")
    told: list[str] = []
    assert gather_texts([], path, PLAIN, told.append) == Texts(["good", "bad"])
    assert told[0].startswith("accuracy is not computed: ")
    told.clear()
    path.write_text("text,rating,feedback\ngood,5,1\n")
    assert gather_texts([], path, PLAIN, told.append) == Texts(["good"])
    assert "'rating' and 'feedback' could each be the label" in told[0]


def test_a_file_of_one_row_is_not_called_empty(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("A fine film\n")
    with pytest.raises(SourceError, match="is the first row a header"):
        gather_texts([], tmp_path / "a.csv", PLAIN, quiet)


def test_what_stars_are_taken_for_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,stars\ngood,5\nso so,3\n")
    told: list[str] = []
    assert gather_texts([], path, PLAIN, told.append) == Texts(["good", "so so"], [1, None])
    assert told == [
        f"{path}: column 'stars' is taken for the label",
        f"accuracy: {path}: 1 and 2 stars are taken for negative, 4 and 5 for positive",
        f"accuracy: {path}: left out: 1 row labelled 3",
    ]


def said(*probabilities: float) -> list[Prediction]:
    return [
        Prediction(
            text=f"text {i}",
            label="positive" if p > 0.5 else "negative",
            probability_positive=p,
        )
        for i, p in enumerate(probabilities)
    ]


def test_accuracy_balanced_accuracy_and_f1_by_hand() -> None:
    models = [
        ModelPredictions("a", said(0.9, 0.8, 0.1, 0.7), [False] * 4),
        ModelPredictions("b", said(0, 1, 0, 1), [True, False, False, True]),
    ]
    first, second, majority = accuracy_table([1, 1, 1, 0], models).rows
    assert (first["accuracy"], first["f1"]) == (0.5, pytest.approx(4 / 6))
    assert first["balanced_accuracy"] == pytest.approx((2 / 3 + 0) / 2)
    assert (second["accuracy"], second["difference"]) == (0.25, -0.25)
    assert majority["accuracy"] == 0.75


def test_what_a_model_was_trained_on_is_told_with_its_accuracy_on_the_rest() -> None:
    models = [
        ModelPredictions("a", said(0.9, 0.8, 0.1, 0.7), [False, True, True, False]),
        ModelPredictions("b", said(0, 1, 0, 1), [True] * 4),
        ModelPredictions("c", said(0, 1, 0, 1), [False] * 4),
    ]
    first, second, third = accuracy_table([1, 1, 1, 0], models).notes
    assert first == (
        "a was trained or validated on 2 of these 4 texts, so its accuracy may be too high. "
        "On the others: 50.00%."
    )
    assert second.startswith("b was trained or validated on 4 ")
    assert second.endswith("There are no others.")
    assert "McNemar" in third


def test_a_saved_model_knows_its_texts(tiny_encoder: Path, tmp_path: Path) -> None:
    run = save_run(tmp_path, "mine", tiny_encoder, 0, trained_on=["A film.<br />", "bad"])
    (model,) = predict(["good", "bad", " A film."], [run], "cpu", quiet)
    assert model.known == [False, True, True]
    (run / "model" / KNOWN_TEXTS).unlink()  # of an earlier version
    (model,) = predict(["bad"], [run], "cpu", quiet)
    assert model.known == [False]


def test_typed_texts_beside_a_labelled_file_leave_its_labels(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("review,sentiment\ngood,positive\nbad,negative\n")
    assert gather_texts(["mine"], path, PLAIN, quiet) == Texts(
        ["mine", "good", "bad"], [None, 1, 0]
    )
    # Of one class alone the accuracy is computed, too.
    path.write_text("review,mark\ngood,hot\nfine,hot\n")
    named = DataConfig(label_column="mark", labels={"negative": ["cold"], "positive": ["hot"]})  # type: ignore[arg-type]
    assert gather_texts([], path, named, quiet).classes == [1, 1]


def test_two_models_are_compared_and_mistakes_shown(runs: list[Path]) -> None:
    texts = Texts(["good", "bad", "a film"], [1, 0, None])
    models = predict(texts.texts, runs, "cpu", quiet)
    assert [model.name for model in models] == ["one", "two"]
    tables = to_tables(texts, models)
    assert [len(table.rows) for table in tables[:2]] == [3, 3]
    assert tables[1].rows[0]["num_texts"] == 2
    lines = [json.loads(line) for line in to_json_lines(texts, models).splitlines()]
    assert [line["expected"] for line in lines] == ["positive", "negative", None]
    assert set(lines[0]["models"]) == {"one", "two"}
    (alone,) = predict(texts.texts, runs[:1], "cpu", quiet)
    assert json.loads(to_json_lines(Texts(texts.texts), [alone]).splitlines()[0]) == {
        "text": "good",
        "label": alone.predictions[0].label,
        "probability_positive": alone.predictions[0].probability_positive,
    }


def test_the_newest_model_with_weights_is_taken(runs: list[Path], tmp_path: Path) -> None:
    out = runs[0].parents[1]
    (out / "sentiment-train" / "bare").mkdir()
    (out / "sentiment-train" / "bare" / "summary.json").write_text("{}")
    for newest, time in ((runs[0], 2e9), (runs[1], 3e9)):
        os.utime(newest / "model/hw2.json", (time, time))
        assert find_runs([], out) == [newest]
    line = r"no trained model in .*; train one by: hw2 sentiment-train \(minutes\)"
    with pytest.raises(SourceError, match=line):
        find_runs([], tmp_path)


def test_a_run_without_weights_says_what_makes_them(tmp_path: Path) -> None:
    summary = {"name": "strong", "encode_s": 60.0, "train_s": 3960.0}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(
        SourceError, match=r"weights are not here; .*--config .*/config.yaml \(took 67 minutes\)"
    ):
        find_runs([tmp_path], tmp_path)


def test_the_command_prints_a_json_line_for_each_row_and_its_accuracy_beside(
    runs: list[Path],
    hw2: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    path = tmp_path / "labelled.csv"
    path.write_text('text,label\n"a good, good film",1\nbad\u2028film,0\nit was dull,0\n')
    model = ("--model", str(runs[0]), "--device", "cpu")
    assert hw2("sentiment-predict", *model, "--file", str(path), "--json") == 0
    shown = capsys.readouterr()
    lines = [json.loads(line) for line in shown.out.removesuffix("\n").split("\n")]
    assert [line["text"] for line in lines] == ["a good, good film", "bad\u2028film", "it was dull"]
    assert [line["expected"] for line in lines] == ["positive", "negative", "negative"]
    assert "Accuracy on the labels of the file" in shown.err
    right = sum(line["label"] == line["expected"] for line in lines)
    assert f"{right / 3:.2%}" in shown.err
    assert "Predictions" not in shown.err


def test_the_command_classifies_standard_input_by_the_newest_model(
    runs: list[Path],
    hw2: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    os.utime(runs[1] / "model/hw2.json", (4e9, 4e9))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"good film\n\nbad\n")))
    out = str(runs[0].parents[1])
    assert hw2("sentiment-predict", "--json", "--out", out, "--device", "cpu") == 0
    shown = capsys.readouterr()
    lines = [json.loads(line) for line in shown.out.splitlines()]
    assert [line["text"] for line in lines] == ["good film", "", "bad"]
    assert [set(line) for line in lines] == [{"text", "label", "probability_positive"}] * 3
    assert shown.err == f"the newest model: {runs[1]}\n"


def test_json_lines_go_to_a_terminal_of_few_letters_too(
    runs: list[Path], hw2: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding="latin-1"))
    texts = ("très good", "😀")
    assert hw2("sentiment-predict", *texts, "--json", "--model", str(runs[0])) == 0
    lines = written.getvalue().decode("latin-1").splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["très good", "?"]


def test_a_language_that_the_encoder_does_not_know_is_told(runs: list[Path]) -> None:
    told: list[str] = []
    predict(["unheard of words"], runs[:1], "cpu", told.append)
    assert told[0].startswith("warning: 100% of the tokens are unknown to one")
    told.clear()
    # One name in ten words is not another language.
    predict(["it was a film and the plot was bad Kurosawa"], runs[:1], "cpu", told.append)
    assert told == []


def test_a_long_pass_says_how_far_it_is(
    runs: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("hwcli.sentiment.classifier.TOKENS_PER_BATCH", 64)
    predict(["a good film"] * 7, runs[:1], "cpu", quiet)
    assert "texts judged by one: 7 of 7 (" in capsys.readouterr().err
    predict(["a good film"], runs[:1], "cpu", quiet)
    assert capsys.readouterr().err == ""


def test_labels_mean_what_they_meant_in_training(tiny_encoder: Path, tmp_path: Path) -> None:
    flipped, other = (
        LabelNames(negative=negative, positive=positive)
        for negative, positive in (((1, "no"), (0,)), (("x",), ("y",)))
    )
    runs = [
        save_run(tmp_path, str(number), tiny_encoder, 0, label_names=names)
        for number, names in enumerate((flipped, flipped, other, None))
    ]
    assert trained_labels(runs[:2], tmp_path) == flipped
    assert trained_labels(runs[1:3], tmp_path) is None
    assert trained_labels(runs[3:], tmp_path) is None
    assert "label_names" not in (runs[3] / "model/hw2.json").read_text()

    path, told = tmp_path / "a.csv", list[str]()
    path.write_text("text,label\nbad,1\ngood,0\n")

    def classes(data: DataConfig = PLAIN) -> Sequence[int | None] | None:
        told.clear()
        return gather_texts([], path, data, told.append, lambda: flipped).classes

    assert classes() == [0, 1]
    assert told == ["accuracy: labels as in training: 1, no for negative; 0 for positive"]
    # What the user says counts more, and other labels mean what they always do.
    assert classes(DataConfig(labels=LabelNames(negative=(0,), positive=(1,)))) == [1, 0]
    assert told == []
    path.write_text("text,label\nbad,neg\ngood,pos\n")
    assert classes() == [0, 1]
    assert told == []


def test_labels_of_another_scale_do_not_mean_what_they_meant_in_training(tmp_path: Path) -> None:
    stars = LabelNames(negative=(1, 2), positive=(4, 5))
    path, told = tmp_path / "a.csv", list[str]()

    def classes(rows: str) -> Sequence[int | None] | None:
        told.clear()
        path.write_text(f"text,label\n{rows}")
        return gather_texts([], path, PLAIN, told.append, lambda: stars).classes

    assert classes("bad,0\ngood,1\n") == [0, 1]
    assert classes("bad,1\ngood,5\n") == [0, 1]
    # What hw2 cannot tell by itself, training can.
    assert classes("bad,1\nso so,3\ngood,4\n") == [0, None, 1]
    assert "accuracy: labels as in training: 1, 2 for negative; 4, 5 for positive" in told


def test_texts_that_are_cut_are_counted(runs: list[Path]) -> None:
    told: list[str] = []
    predict(["film " * 40, "film", "good " * 30], runs[:1], "cpu", told.append)
    assert told == ["2 of 3 texts are longer than the 31 tokens that one reads"]


def test_a_tilde_is_the_home_folder(
    runs: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.txt").write_text("good\n")
    assert gather_texts([], Path("~/a.txt"), PLAIN, quiet) == Texts(["good"])
    monkeypatch.setenv("HOME", str(runs[0].parent))
    assert find_runs([Path("~/one")], tmp_path) == [runs[0]]


def test_a_packed_file_is_read_too(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.writestr("a.csv", "text,label\ngood,1\nbad,0\n")
    read = gather_texts([], tmp_path / "archive.zip", PLAIN, quiet)
    assert read == Texts(["good", "bad"], [1, 0])


def test_of_several_mistakes_the_surest_come_first() -> None:
    model = ModelPredictions("a", said(0.9, 0.99, 0.2, 0.6), [False] * 4)
    (*_, mistakes) = to_tables(Texts(["", "", "", ""], [0, 0, 1, None]), [model])
    assert mistakes.title == "The most confident mistakes of a"
    assert [row["text"] for row in mistakes.rows] == ["text 1", "text 0", "text 2"]
    assert [row["expected"] for row in mistakes.rows] == ["negative", "negative", "positive"]


def test_exchanged_weights_are_refused(runs: list[Path], tmp_path: Path) -> None:
    import shutil

    shutil.copytree(runs[0], tmp_path / "mixed")
    shutil.copy(runs[1] / "model/head.safetensors", tmp_path / "mixed/model/head.safetensors")
    with pytest.raises(SourceError, match=r"head\.safetensors: damaged \(not the file"):
        predict(["good"], [tmp_path / "mixed"], "cpu", quiet)
    (tmp_path / "mixed/model/encoder/tokenizer.json").unlink()
    with pytest.raises(SourceError, match="has no tokenizer"):
        predict(["good"], [tmp_path / "mixed"], "cpu", quiet)
