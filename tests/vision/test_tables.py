from typing import Any

from hwcli.config import load
from hwcli.experiments.vit_sweep import Config
from hwcli.vision.places import TrainedOn, TrainingPlace, describe_places, training_places
from hwcli.vision.record import SweepRecord
from hwcli.vision.summary import VitSweepSummary, summarize
from hwcli.vision.tables import cells_table, grid_table
from tests.vision.made_up import AMD, INTEL, record


def summary_of(found: SweepRecord, **flags: Any) -> VitSweepSummary:
    config = load(Config, "vit-sweep", flags={"heads": "2,3", "layers": "1,2", **flags})
    return summarize(
        "made-up", config, found, None, num_run=1, precision="float32", kernels="torch"
    )


GRID = {(1, 2): [820, 822], (1, 3): [826, 828], (2, 2): [830, 832], (2, 3): [831, None]}


def test_the_grid_is_layers_down_and_heads_across() -> None:
    summary = summary_of(record(GRID, num_images=1000), seeds="0,1", epochs="7")
    grid = grid_table(summary).to_markdown()
    assert "Test accuracy on Fashion-MNIST, 7 epochs (± standard deviation over seeds)" in grid
    assert "| layers | 2 heads | 3 heads |" in grid
    assert "| 1 | 82.10 ± 0.14 % ↓<br>1,000 parameters, 30 s | 82.70 ± 0.14 %" in grid
    assert "83.10 % *" in grid.replace("± 0.14 ", "")
    assert "83.10 % (1 seed failed)<br>" in grid.replace(" ≈", "").replace(" *", "")
    assert "55,000 training images, 5,000 for validation" in grid
    assert "Tukey's range" in grid
    assert summary.status == "partial"
    assert (summary.num_run, summary.num_reused, len(summary.failures)) == (1, 7, 1)
    assert VitSweepSummary.model_validate_json(summary.model_dump_json()) == summary


def test_one_seed_is_said_to_speak_of_these_networks_only() -> None:
    summary = summary_of(record({key: numbers[:1] for key, numbers in GRID.items()}))
    grid = grid_table(summary).to_markdown()
    assert "(± standard error, one network)" in grid
    assert "exact McNemar test on the same test images, Holm-corrected" in grid
    assert "another seed may rank them differently" in grid


def test_a_run_on_part_of_the_images_says_so() -> None:
    found = record({key: numbers[:1] for key, numbers in GRID.items()})
    summary = summary_of(found, **{"data.train_limit": "2000", "data.split_seed": "3"})
    for table in (grid_table(summary), cells_table(summary)):
        assert "20 epochs, trained on 2,000 images, split 3" in table.title
    assert "2,000 training images" in grid_table(summary).notes[0]
    assert summary.model_dump()["data"]["train_limit"] == 2000


def test_a_grid_over_numbers_of_images_claims_none_below_the_table() -> None:
    places: dict[Any, list[int | None]] = {(1, 2, 100): [820], (1, 2, 200): [821]}
    found = record(places, axes=("layers", "heads", "data.train_limit"))
    summary = summary_of(found, layers="1", heads="2", grid=["data.train_limit=100,200"])
    notes = grid_table(summary).notes
    assert "* selected by validation accuracy. Each network was evaluated on" in notes[0]
    assert "training images" not in " ".join(notes)


def test_seeds_that_are_lacking_are_counted_and_the_test_is_the_one_that_was_done() -> None:
    numbers = [820, None, None], [826, None, 828], [830, 832, 831], [829, 832, 830]
    found = record(dict(zip(GRID, numbers, strict=True)))
    summary = summary_of(found, seeds="0..2", layers="1,2", heads="2,3")
    shown = grid_table(summary).to_markdown()
    assert "Two cells of 3 seeds must differ by" in shown
    assert "(2 seeds failed)" in shown
    alone = record({(1, 2): [820, None], (1, 3): [826, None]})
    summary = summary_of(alone, seeds="0,1", layers="1", heads="2,3")
    grid, cells = grid_table(summary), cells_table(summary)
    assert "exact McNemar test" in " ".join(grid.notes)
    assert "standard error, one network" in grid.title
    assert any(column.heading == "p (Holm)" for column in cells.columns)


def test_networks_of_two_machines_are_told_below_the_table() -> None:
    one, two = record({(1, 2): [820], (1, 3): [821]}), record({(2, 2): [822]}, trained_on=AMD)
    summary = summary_of(SweepRecord([*one.trials, *two.trials]), layers="1", heads="2,3")
    assert [place.machine for place in summary.trained_on] == ["Intel X", "AMD Y"]
    table = cells_table(summary)
    assert [row["train_s"] for row in table.rows] == [30.0, 30.0, None]
    assert describe_places(summary.trained_on) == (
        "Networks trained: 2 on Intel X, 1 on AMD Y. Training times are those of Intel X only."
    )
    # Of the machine that trained most, whatever it had of commits.
    one, two = INTEL.model_copy(update={"commit": "a"}), INTEL.model_copy(update={"commit": "b"})
    places = [*([one] * 3), *([two] * 3), *([AMD] * 4)]
    told = describe_places(training_places(places))
    assert told is not None
    assert "4 on AMD Y" in told
    assert "Training times are those of Intel X only" in told


def test_other_software_is_told_below_the_table() -> None:
    old, new = (INTEL.model_copy(update={"versions": {"torch": n}}) for n in ("2.11.0", "2.14.1"))
    one, two = record({(1, 2): [820]}, trained_on=old), record({(2, 2): [822]}, trained_on=new)
    summary = summary_of(SweepRecord([*one.trials, *two.trials]), heads="2")
    assert [place.torch for place in summary.trained_on] == ["2.11.0", "2.14.1"]
    told = "Networks trained: 2 on Intel X; torch 2.11.0 (1), 2.14.1 (1)."
    assert grid_table(summary).notes[-1] == told
    assert VitSweepSummary.model_validate(summary.model_dump(mode="json")) == summary
    first, second = (INTEL.model_copy(update={"code": code}) for code in ("abcdefgh", "ijklmnop"))
    assert describe_places(training_places([first, second, second])) == (
        "Networks trained: 3 on Intel X; versions of the code ijklmno (2), abcdefg (1)."
    )
    mixed = INTEL.model_copy(update={"partly_by": "commit a, torch 2.11.0"})
    assert describe_places(training_places([mixed])) == (
        "Networks trained: 1 on Intel X; 1 of them partly by commit a, torch 2.11.0."
    )
    # What all have in common, or earlier code did not store, is not told: as it was before.
    assert describe_places(training_places([INTEL, first, first])) is None
    (place,) = training_places([new, new])
    before = {"machine": "Intel X", "commit": "c0ffee", "dirty": None, "num_trials": 2}
    assert place.model_dump() == {**before, "threads": 1}
    assert TrainingPlace.model_validate(before).threads is None


def test_layers_in_another_precision_are_told_below_the_table() -> None:
    summary = summary_of(record({(1, 2): [820], (1, 3): [821]}), layers="1", heads="2,3")
    assert "note_on_precision" not in summary.model_dump()
    told = summary.model_copy(update={"note_on_precision": "All layers are in float32."})
    assert "All layers are in float32." in grid_table(told).notes
    assert VitSweepSummary.model_validate(told.model_dump(mode="json")) == told


def test_a_gpu_that_emulates_bfloat16_is_told_below_the_table() -> None:
    environment = {"cpu": "Intel X", "gpu": "Tesla V100", "bfloat16": "emulated"}
    place = TrainedOn.from_environment(environment)
    summary = summary_of(
        record({(1, 2): [820], (1, 3): [821]}, trained_on=place), layers="1", heads="2,3"
    )
    assert (
        "bfloat16 is emulated, which is slow, on Tesla V100: no such hardware; "
        "--set precision=float32 avoids that."
    ) in grid_table(summary).notes
    assert VitSweepSummary.model_validate(summary.model_dump(mode="json")) == summary
    # What is not so is not written: files of before read and write as they were.
    assert "emulated_bfloat16" not in INTEL.model_dump()


def test_another_axis_adds_a_column_of_its_values() -> None:
    axes = ("layers", "heads", "model.width")
    places = {(n, h, w): [800 + n + 10 * h + w] for n in (1, 2) for h in (2, 3) for w in (24, 48)}
    summary = summary_of(record(places, axes=axes), grid=["model.width=24,48"])
    table = grid_table(summary)
    assert [column.heading for column in table.columns] == ["width", "layers", "2 heads", "3 heads"]
    assert [(row["model.width"], row["layers"]) for row in table.rows] == [
        (24, 1),
        (24, 2),
        (48, 1),
        (48, 2),
    ]
    only = {key: numbers for key, numbers in places.items() if key[:2] == (1, 2)}
    flags = {"layers": "1", "heads": "2", "grid": ["model.width=24,48"]}
    table = grid_table(summary_of(record(only, axes=axes), **flags))
    assert [column.heading for column in table.columns] == ["width", "1 layer"]
    assert "2 heads" in table.title


def test_one_cell_has_no_best_and_no_comparison() -> None:
    table = grid_table(summary_of(record({(1, 2): [820]}), layers="1", heads="2")).to_markdown()
    assert "*" not in table.replace("**", "")
    assert "selected" not in table
    assert "Effects" not in table
