from pathlib import Path
from typing import Any

import pytest

from hwcli.config import load
from hwcli.errors import ConfigError
from hwcli.experiments.vit_sweep import Config
from hwcli.vision.grid import Axis, Layout, describe, parse_axes, points, split_axes

LAYERS, HEADS = Axis(field="layers", values=(4, 5)), Axis(field="heads", values=(2, 3))
WIDTH = Axis(field="model.width", values=(48, 96))


def make(**flags: Any) -> Config:
    small = {"layers": "1,2", "heads": "2", **flags}
    return load(Config, "vit-sweep", flags=small)


@pytest.mark.parametrize(
    ("given", "axes"),
    [
        (["model.width=48,64"], {"model.width": (48, 64)}),
        (["model.width=16..48..16"], {"model.width": (16, 32, 48)}),
        ({"model": {"width": "8..32*2"}}, {"model.width": (8, 16, 32)}),
        ({"model.attention": ["softmax", "linear"]}, {"model.attention": ("softmax", "linear")}),
        ("optimizer.learning_rate=1e-3,3e-3", {"optimizer.learning_rate": (0.001, 0.003)}),
        ("model.attention=no, 'on', 1:30", {"model.attention": ("no", "on", "1:30")}),
        ({"data.train_limit": "null,5"}, {"data.train_limit": (None, 5)}),
        (None, {}),
    ],
)
def test_an_axis_is_a_field_with_a_range_or_a_list(given: object, axes: dict[str, Any]) -> None:
    assert parse_axes(given) == axes


def test_a_config_reads_values_as_the_recipe_does_and_reads_back_to_itself() -> None:
    config = make(grid=["optimizer.learning_rate=1e-3,3e-3", "model.width=48,64"])
    assert config.grid == {"optimizer.learning_rate": (0.001, 0.003), "model.width": (48, 64)}
    assert Config.model_validate(config.model_dump()) == config
    assert len(list(points(config.axes))) == 2 * 1 * 2 * 2


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        (["model.width"], "write KEY=VALUES"),
        (["epochs=1", "epochs = 2"], "epochs is given twice"),
        (["seeds=0..2"], "every cell is trained by every seed: --seeds 0..2"),
        (
            ["optimizer.learning_rate=1e-3..1e-2"],
            "optimizer.learning_rate: '1e-3..1e-2' is not a range; .* a list, such as 1e-3,1e-2",
        ),
        (["jobs=2"], r"choices: epochs, .*, model\.\*, optimizer\.\*"),
        (["layers=4..8"], "layers has a flag and a config field of its own: --layers"),
        (
            ["model.widht=4"],
            r"'model.widht' is not a field of the recipe; did you mean model.width",
        ),
        (["mlp=4"], r"'mlp' is not a field of the recipe; did you mean model.mlp_width\?"),
        (["jobs=2"], "grid: 'jobs' is not a field of the recipe"),
        (["model.width=-3"], "grid: model.width = -3: Input should be greater"),
        (["model.attention=soft"], "grid: model.attention = 'soft': "),
        (["model=4"], "grid: model = 4: "),
        (["epochs=3,3.0"], "grid: epochs has a value twice"),
        (
            ["model.patch_size=4,5"],
            r"model.patch_size = 5 does not divide .* \(at model.patch_size",
        ),
        (["batch_size=1..9000"], "the grid has 18,000 trials; at most 10,000 are allowed"),
        (["model.width=65536"], r"layers = 1, heads = 2: a network of [\d,]+ parameters; at most"),
    ],
)
def test_a_grid_that_cannot_be_trained_is_one_line_before_anything_trains(
    grid: list[str], said: str
) -> None:
    mlp = {"model.mlp_width": 2**18} if "65536" in grid[0] else {}
    with pytest.raises(ConfigError, match=said) as error:
        make(grid=grid, **mlp)
    assert len(str(error.value)) < 300
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"model.width": "32,48"}, "model.width = '32,48': .* --grid model.width=32,48"),
        ({"model.width": [32, 48]}, r"model.width = \[32, 48\]: .* --grid model.width=32,48"),
        ({"model.attention": "softmax,linear"}, "--grid model.attention=softmax,linear"),
        ({"model.width": "wide"}, "model.width = 'wide': Input should be a valid integer"),
        ({"jobs": "2,3"}, "jobs = '2,3': expected auto, or a number"),
    ],
)
def test_several_values_of_one_field_are_answered_with_the_axis(
    values: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        make(**values)


def test_an_axis_of_the_command_line_goes_beside_those_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("grid: {epochs: [3, 5]}\n")
    flags = {"grid": split_axes(["model.width=32, 64", " batch_size = 7"])}
    config = load(Config, "vit-sweep", path=tmp_path / "c.yaml", flags=flags)
    assert config.grid == {"epochs": (3, 5), "model.width": (32, 64), "batch_size": (7,)}


def test_heads_that_do_not_divide_the_width_are_refused_at_the_point_that_has_them() -> None:
    with pytest.raises(ConfigError, match=r"width = 50 .* heads = 3.* \(at model.width = 50, "):
        make(heads="2,3", grid=["model.width=48,50", "model.head_width=null"])


def test_a_wider_grid_contains_a_narrower_one_of_the_same_recipe_alone() -> None:
    narrow = make()
    assert make(layers="1..3").contains(narrow)
    assert make(seeds="0,1").contains(narrow)
    assert make(grid=["model.width=48,64"]).contains(narrow)  # 64 is the recipe's own width
    assert make(jobs="3").contains(narrow)
    assert not narrow.contains(make(layers="1..3"))
    assert not make(layers="1..3", epochs="3").contains(narrow)
    assert not make(grid=["model.width=48,96"]).contains(narrow)
    # What auto means is the machine's; the trials' ids tell whether it is the same.
    assert make(precision="float32").contains(narrow)


def test_points_are_named_as_people_count() -> None:
    axes = [Axis(field="layers", values=(1,)), HEADS, WIDTH]
    assert describe(axes, {"layers": 1, "heads": 2, "model.width": 48}) == (
        "1 layer, 2 heads, width 48"
    )


def test_layers_go_down_and_heads_across_unless_another_axis_varies() -> None:
    one_layer, one_head = Axis(field="layers", values=(4,)), Axis(field="heads", values=(2,))
    layout = Layout.of([one_layer, HEADS])
    assert (layout.down, layout.across, layout.groups) == (one_layer, HEADS, ())
    layout = Layout.of([one_layer, one_head, WIDTH])
    assert (layout.down, layout.across, layout.fixed) == (WIDTH, one_layer, (one_head,))
    layout = Layout.of([LAYERS, HEADS, WIDTH])
    assert (layout.groups, layout.blocks()) == ((WIDTH,), [{"model.width": w} for w in (48, 96)])
    assert layout.key([LAYERS, HEADS, WIDTH], {"model.width": 96}, 5, 3) == (5, 3, 96)
