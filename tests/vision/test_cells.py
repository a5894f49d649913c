from dataclasses import replace

import pytest
import torch

from hwcli.vision.cells import (
    Cell,
    TrialResult,
    best_cell,
    best_cells,
    gather_cells,
    mostly_timed_on,
    places_of,
)
from hwcli.vision.places import describe_places, training_places
from hwcli.vision.vit import ViT, ViTConfig, num_params
from tests.vision.made_up import AMD, INTEL, record, trial_config


def test_cells_are_means_over_the_seeds_that_are_done() -> None:
    cells = gather_cells(record({(1, 2): [900, 902], (1, 3): [905, None]}).trials)
    assert [(c.key, c.num_seeds, c.status) for c in cells] == [
        ((1, 2), 2, "done"),
        ((1, 3), 1, "failed"),
    ]
    # 901 of 1009; the deviation of two values is their distance over sqrt(2), and the standard
    # error of their mean is half their distance.
    assert cells[0].test_accuracy_mean == pytest.approx(901 / 1009)
    assert cells[0].test_accuracy_std == pytest.approx(2 / 1009 / 2**0.5)
    assert cells[0].test_accuracy_se == pytest.approx(1 / 1009)
    p = 905 / 1009
    assert cells[1].test_accuracy_std is None
    assert cells[1].test_accuracy_se == pytest.approx((p * (1 - p) / 1009) ** 0.5)
    assert Cell.model_validate_json(cells[0].model_dump_json()) == cells[0]


def test_the_best_cell_is_selected_by_validation() -> None:
    validation = {(1, 2): 0.9, (1, 3): 0.8}
    best = best_cell(gather_cells(record({(1, 2): [1], (1, 3): [2]}, validation=validation).trials))
    assert best is not None
    assert best.key == (1, 2)
    assert best_cell(gather_cells(record({(1, 2): [None]}).trials)) is None


def test_of_cells_with_the_same_validation_accuracy_the_smallest_is_selected() -> None:
    validation = {(2, 2): 0.9, (1, 2): 0.9, (3, 2): 0.8}
    cells = gather_cells(
        record({(2, 2): [1], (1, 2): [1], (3, 2): [1]}, validation=validation).trials
    )
    best = best_cell(cells)
    assert best is not None
    assert best.key == (1, 2)
    assert [cell.key for cell in best_cells(cells)] == [(2, 2), (1, 2)]


def test_times_of_another_machine_are_left_out_of_the_mean() -> None:
    trials = list(record({(1, 2): [900, 902], (2, 2): [900, 902]}).trials)
    foreign = trials[1].result
    assert foreign is not None
    there = foreign.model_copy(update={"train_s": 500.0, "trained_on": AMD})
    trials[1] = replace(trials[1], result=there)
    cells = gather_cells(trials)
    assert [cell.train_s for cell in cells] == [30.0, 60.0]
    places = training_places(places_of(trials))
    assert [(place.machine, place.num_trials) for place in places] == [("Intel X", 3), ("AMD Y", 1)]


def test_times_by_another_number_of_threads_are_left_out_too_and_a_line_says_so() -> None:
    trials = list(record({(1, 2): [900, 902], (2, 2): [900, 902]}).trials)
    with_two = trials[1].result
    assert with_two is not None
    there = INTEL.model_copy(update={"threads": 2})
    faster = with_two.model_copy(update={"train_s": 500.0, "trained_on": there})
    trials[1] = replace(trials[1], result=faster)
    assert mostly_timed_on(trials) == "Intel X"
    assert [cell.train_s for cell in gather_cells(trials)] == [30.0, 60.0]
    places = training_places(places_of(trials))
    assert [(place.machine, place.threads) for place in places] == [("Intel X", 1), ("Intel X", 2)]
    assert describe_places(places) == (
        "Networks trained: 3 on Intel X, 1 on Intel X with 2 threads. Training times are those of "
        "Intel X only."
    )
    alike = [replace(trial, result=faster) for trial in trials]
    places = training_places(places_of(alike))
    assert [(place.threads, place.num_trials) for place in places] == [(2, 4)]
    assert describe_places(places) is None
    assert mostly_timed_on(alike) == "Intel X with 2 threads"


def test_results_from_before_today_are_read_and_impossible_ones_are_not() -> None:
    result = record({(1, 2): [900]}).trials[0].result
    assert result is not None
    old = result.model_dump(exclude={"trained_on"}) | {"layers": 4, "heads": 2, "seed": 0}
    assert TrialResult.model_validate(old).trained_on is None
    for key, value in (("test_accuracy", 1.5), ("train_s", float("nan")), ("num_params", "x")):
        with pytest.raises(ValueError, match=key):
            TrialResult.model_validate(old | {key: value})


@pytest.mark.parametrize("pooling", ["mean", "class"])
def test_parameters_are_counted_without_building_the_network(pooling: str) -> None:
    config = ViTConfig.model_validate({"width": 24, "mlp_width": 17, "pooling": pooling})
    with torch.device("meta"):
        model = ViT(layers=3, heads=2, config=config)
    assert num_params(3, 2, config) == sum(p.numel() for p in model.parameters())


def test_a_failed_cell_still_has_its_number_of_parameters() -> None:
    (cell,) = gather_cells(record({(2, 3): [None]}).trials)
    assert cell.num_params == num_params(2, 3, trial_config().model)
    assert (cell.test_accuracy_mean, cell.train_s, cell.status) == (None, None, "failed")
