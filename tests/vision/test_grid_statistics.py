import pytest
from scipy import stats

from hwcli.training.significance import mcnemar
from hwcli.vision.cells import Cell, gather_cells
from hwcli.vision.grid import Axis
from hwcli.vision.grid_statistics import (
    compare_with_best,
    conclude,
    differing_pairs,
    fit_effects,
    least_significant,
    percentage_points,
)
from hwcli.vision.record import SweepRecord
from tests.vision.made_up import hits, record


def compared(found: SweepRecord) -> list[Cell]:
    return compare_with_best(gather_cells(found.trials), found.trials, found.hits())


def test_one_seed_is_tested_by_mcnemar_and_corrected_for_the_number_of_cells() -> None:
    validation = {(1, 2): 0.95, (2, 2): 0.9, (3, 2): 0.9, (4, 2): 0.9}
    best, close, far, above = compared(
        record({(1, 2): [900], (2, 2): [898], (3, 2): [870], (4, 2): [940]}, validation=validation)
    )
    assert (best.versus_best, best.p_value, best.is_best) == ("best", None, True)
    # Thirty lost and none won, and thrice that for three comparisons less one already rejected.
    assert far.p_value == pytest.approx(2 * 0.5**30)
    assert far.p_value_adjusted == pytest.approx(4 * 0.5**30)
    assert (close.p_value, close.p_value_adjusted, close.versus_best) == (0.5, 0.5, "similar")
    assert (far.versus_best, above.versus_best) == ("worse", "better")
    assert above.p_value == mcnemar(hits(940, 1009), hits(900, 1009))


def test_several_seeds_are_tested_by_tukeys_range_over_all_cells() -> None:
    found = record({(1, 2): [900, 904], (2, 2): [880, 884], (3, 2): [899, 901], (4, 2): [890]})
    best, low, close, one = compared(found)
    # Pooled variance (8 + 8 + 2) / 3 = 6 with three degrees of freedom; means of two and two: q is
    # the difference over sqrt(6 / 2 (1/2 + 1/2)).
    q = 20 / 3**0.5
    assert low.p_value_adjusted == pytest.approx(stats.studentized_range.sf(q, 4, 3), rel=1e-6)
    # Alone it is Student's test: t = 20 / sqrt(6 (1/2 + 1/2)).
    assert low.p_value == pytest.approx(2 * stats.t.sf(20 / 6**0.5, 3), rel=1e-4)
    assert (best.versus_best, low.versus_best, close.versus_best) == ("best", "worse", "similar")
    q = 12 / (6 / 2 * (1 / 2 + 1)) ** 0.5
    assert one.p_value_adjusted == pytest.approx(stats.studentized_range.sf(q, 4, 3), rel=1e-6)


def test_pairs_that_differ_are_those_further_apart_than_the_least_difference() -> None:
    found = record({(1, 2): [900, 904], (2, 2): [880, 884], (3, 2): [899, 901]})
    cells = gather_cells(found.trials)
    # Pooled variance (8 + 8 + 2) / 3 = 6, means of two.
    least = stats.studentized_range.ppf(0.95, 3, 3) * (6 / 2) ** 0.5 / 1009
    assert least_significant(cells) == pytest.approx(least)
    assert [(a.key, b.key) for a, b in differing_pairs(cells)] == [
        ((1, 2), (2, 2)),
        ((3, 2), (2, 2)),
    ]
    one_seed = gather_cells(record({(1, 2): [900], (2, 2): [400]}).trials)
    assert least_significant(one_seed) is None
    assert differing_pairs(one_seed) == []


def test_one_cell_that_is_done_has_no_least_difference() -> None:
    cells = gather_cells(record({(1, 2): [900, 904], (2, 2): [None, None]}).trials)
    assert least_significant(cells) is None
    assert differing_pairs(cells) == []


def test_cells_without_results_or_predictions_are_not_tested() -> None:
    found = record({(1, 2): [900], (2, 2): [None], (3, 2): [890]})
    lost = SweepRecord(found.trials, {}, found.labels)
    cells = compare_with_best(gather_cells(lost.trials), lost.trials, lost.hits())
    assert [cell.versus_best for cell in cells] == ["best", None, None]
    nothing = record({(1, 2): [None]})
    assert [cell.versus_best for cell in compared(nothing)] == [None]


AXES = [Axis(field="layers", values=(4, 5, 6)), Axis(field="heads", values=(2, 3))]


def cells_of(accuracy: dict[tuple[object, ...], float], axes: list[Axis]) -> list[Cell]:
    return [
        Cell(
            point=dict(zip([axis.field for axis in axes], key, strict=True)),
            num_seeds=1,
            status="done",
            num_params=1,
            test_accuracy_mean=value,
        )
        for key, value in accuracy.items()
    ]


def test_what_the_grid_supports_is_said_in_plain_words() -> None:
    noise = {(4, 2): 1, (4, 3): -1, (5, 2): -1, (5, 3): 1, (6, 2): 0, (6, 3): 0}
    cells = cells_of({(n, h): 0.8 + 0.01 * n + 0.0005 * e for (n, h), e in noise.items()}, AXES)
    effects = fit_effects(cells, AXES)
    assert effects[0].slope is not None
    assert effects[0].slope.value == pytest.approx(0.01)
    sentence = conclude(cells, AXES, effects)
    assert sentence.startswith(
        "Effects on test accuracy (additive fit over 6 cells): each extra layer adds +1.00 points "
        "between 4 and 6 layers (95 % interval +0.8"
    )
    assert "; no significant effect of heads (" in sentence
    assert sentence.endswith("The 2 intervals hold jointly.")


def test_an_axis_that_counts_nothing_is_told_over_its_range() -> None:
    axes = [
        Axis(field="layers", values=(4,)),
        Axis(field="model.width", values=(48, 72, 96)),
        Axis(field="model.attention", values=("softmax", "linear")),
    ]
    cells = cells_of(
        {
            (4, w, kind): 0.8 + 0.0005 * (w - 48) + 0.001 * (kind == "linear") + 0.00005 * (w == 72)
            for w in (48, 72, 96)
            for kind in ("softmax", "linear")
        },
        axes,
    )
    sentence = conclude(cells, axes, fit_effects(cells, axes))
    assert "width 96 instead of 48 adds +2.40 points (95 % interval" in sentence
    assert "attention linear instead of softmax adds +0.10 points (95 % interval" in sentence
    assert "no statement about layers (all cells have 4 layers)" in sentence


@pytest.mark.parametrize(
    ("accuracies", "said"),
    [
        ({(4, 2): 0.9}, "One cell says nothing about the effect of layers or heads."),
        (
            {(4, 2): 0.90, (5, 2): 0.91},
            "no statement about layers (+1.00 points for each extra layer, too few cells); "
            "no statement about heads (all cells have 2 heads)",
        ),
        ({(4, 2): 0.90, (5, 3): 0.91}, "no statement about layers (too few cells)"),
    ],
)
def test_a_degenerate_grid_supports_nothing(
    accuracies: dict[tuple[object, ...], float], said: str
) -> None:
    cells = cells_of(accuracies, AXES)
    assert said in conclude(cells, AXES, fit_effects(cells, AXES))


@pytest.mark.parametrize(
    ("fraction", "text"),
    [
        (0.00137, "+0.14"),
        (-0.02, "-2.00"),
        (-0.000037, "-0.0037"),
        (0.0, "+0.00"),
        (-1e-17, "+0.00"),
    ],
)
def test_points_are_signed_and_never_seem_zero(fraction: float, text: str) -> None:
    assert percentage_points(fraction) == text
