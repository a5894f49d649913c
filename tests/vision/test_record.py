import csv
import dataclasses
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hwcli.output.files import write_atomic
from hwcli.sweep.trial import Trial
from hwcli.vision.record import (
    RecordError,
    SweepRecord,
    read_record,
    record_files,
    trials_csv,
)
from tests.vision import made_up


def whole() -> SweepRecord:
    validation = {(1, 2): 0.75, (2, 2): 0.5}
    return made_up.record({(1, 2): [900, 901], (2, 2): [905, None]}, validation=validation)


def test_an_id_is_the_one_that_the_sweep_gives() -> None:
    config = made_up.trial_config(layers=1, heads=2)
    trial = Trial(config, {}, {"recipe": 1}, 1.0)
    assert trial.id == whole().trials[0].id


def write(folder: Path, record: SweepRecord) -> None:
    for file, content in record_files(record).items():
        write_atomic(folder / file, content)


def test_a_run_folder_alone_gives_back_every_trial(tmp_path: Path) -> None:
    record = whole()
    write(tmp_path, record)
    found = read_record(tmp_path)
    assert list(found.trials) == record.trials
    assert found.epochs == record.epochs
    for trial_id, predictions in record.predictions.items():
        assert np.array_equal(found.predictions[trial_id].label, predictions.label)
        assert np.array_equal(found.predictions[trial_id].probability, predictions.probability)
    hits = found.hits()
    assert {key: sorted(seeds) for key, seeds in hits.items()} == {(1, 2): [0, 1], (2, 2): [0]}
    assert int(hits[1, 2][1].sum()) == 901
    with (tmp_path / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == ["done", "done", "done", "failed"]
    assert [row["layers"] for row in rows] == ["1", "1", "2", "2"]
    assert rows[3]["reason"] == "no"


@pytest.mark.parametrize("text", ["12345", "1e5", "true", "null", "", 'a "b", c', "line\nbreak"])
def test_texts_that_look_like_numbers_stay_texts(tmp_path: Path, text: str) -> None:
    record = whole()
    first = record.trials[0]
    assert first.result is not None
    place = made_up.INTEL.model_copy(update={"commit": text})
    changed = replace(first, result=first.result.model_copy(update={"trained_on": place}))
    write(tmp_path, dataclasses.replace(record, trials=[changed]))
    (found,) = read_record(tmp_path).trials
    assert found.result is not None
    assert found.result.trained_on == place


def edit(path: Path, old: str, new: str) -> None:
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new, 1))


def test_an_edited_accuracy_does_not_fit_its_predictions(tmp_path: Path) -> None:
    write(tmp_path, whole())
    edit(tmp_path / "trials.csv", repr(900 / 1009), "0.99")
    trial = read_record(tmp_path).trials[0]
    assert (trial.state, trial.result) == ("damaged", None)
    assert trial.reason == "its test accuracy is stored as 99.00%, its predictions have 89.20%"


def test_edited_settings_do_not_fit_the_id(tmp_path: Path) -> None:
    write(tmp_path, whole())
    edit(tmp_path / "trials.csv", ",softmax,", ",linear,")
    trial = read_record(tmp_path).trials[0]
    assert (trial.state, trial.reason) == ("damaged", "its id is not that of its settings")


def test_a_damaged_record_is_one_line_and_lost_predictions_cost_only_themselves(
    tmp_path: Path,
) -> None:
    with pytest.raises(RecordError, match=r"trials\.csv: no such file"):
        read_record(tmp_path)
    write(tmp_path, whole())
    (tmp_path / "predictions.safetensors").write_bytes(b"damaged")
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('5\n{"a": 1}\n{"epoch": 0')
    found = read_record(tmp_path)
    assert found.hits() == {}
    assert [trial.state for trial in found.trials] == ["done", "done", "done", "failed"]
    assert sum(map(len, found.epochs.values())) == 15
    for content in ("<<<<<<< HEAD\nid,seed\n", "id,axes,seed\nx,layers,0\n", '"', "\0"):
        (tmp_path / "trials.csv").write_text(content)
        with pytest.raises(RecordError, match=r"trials\.csv: cannot be read"):
            read_record(tmp_path)
    both = trials_csv(whole().trials).splitlines(keepends=True)
    (tmp_path / "trials.csv").write_text("".join(["<<<<<<< HEAD\n", *both, ">>>>>>> other\n"]))
    with pytest.raises(RecordError, match=r"\(a row is not whole\)"):
        read_record(tmp_path)
