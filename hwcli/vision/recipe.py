"""What decides a trial's numbers: the recipe that all trials of a sweep share, and one trial's.

The fields here, with the recipe version and the digest of the data, are a trial's identity. A
field added later must be left out of ``model_dump`` at its old value (``exclude_if``), or every
trial trained before it becomes another one: a test holds the committed trials to that.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    model_validator,
)

from hwcli.config import Section, dotted_fields, every_value, near_fields
from hwcli.errors import short
from hwcli.ranges import IntRange
from hwcli.training.optimizers import OptimizerConfig
from hwcli.vision.augmentation import AugmentationConfig
from hwcli.vision.fashion_mnist import IMAGE_SIDE, NUM_TRAINING_IMAGES
from hwcli.vision.grid import HEADS, LAYERS, Axis, Point, Value, parse_axes, points, show
from hwcli.vision.vit import MAX_PARAMS, ViTConfig, check_patch_size, num_params

# Raised whenever the same config would give other numbers, beyond the rounding of sums in another
# order: trials of another version are not reused. tests/vision/test_training.py holds the losses
# that must then change too.
RECIPE_VERSION = 1

MOST_TRIALS = 10_000
# PyTorch takes longer seeds, NumPy does not.
MOST_LAYERS_OR_HEADS, LARGEST_SEED = 1000, 2**32 - 1


class DataConfig(Section):
    """Which images are trained on, and which are set aside for validation."""

    valid_size: int = Field(
        5000,
        ge=10,
        le=NUM_TRAINING_IMAGES // 2,
        multiple_of=10,
        description="Training images set aside for validation, equally many of each class.",
    )
    split_seed: int = Field(
        0, ge=0, lt=2**32, description="Seed of the choice of validation images."
    )
    train_limit: int | None = Field(
        None, ge=1, description="Train on the first N images after the seeded shuffle; null: all."
    )

    @property
    def num_train(self) -> int:
        """Return how many images one epoch shows."""
        available = NUM_TRAINING_IMAGES - self.valid_size
        return available if self.train_limit is None else min(available, self.train_limit)


USUAL_DATA = DataConfig()
"""The images of the committed runs; a run on others says so in its titles."""


class Recipe(Section):
    """The settings that decide the numbers of a trial and are the same for all trials of a run.

    The grid may vary some of them. A trial has layers, heads, seed, device, precision and kernels
    besides.
    """

    epochs: int = Field(ge=1, le=10_000, description="Passes over the training images.")
    batch_size: int = Field(ge=1, le=NUM_TRAINING_IMAGES, description="Images per training step.")
    label_smoothing: float = Field(
        ge=0, lt=1, description="Share of each target spread evenly over the ten classes."
    )
    model: ViTConfig = Field(description="The network, except for its layers and heads.")
    optimizer: OptimizerConfig = Field(description="How the weights are updated.")
    augmentation: AugmentationConfig = Field(description="Random changes to training images.")
    data: DataConfig = Field(description="The split into training and validation images.")


class TrialConfig(Recipe):
    """One point of the grid with one seed, everything resolved."""

    layers: int = Field(ge=1, le=MOST_LAYERS_OR_HEADS)
    heads: int = Field(ge=1, le=MOST_LAYERS_OR_HEADS)
    seed: int = Field(ge=0, le=LARGEST_SEED)
    device: str
    precision: str
    kernels: Literal["compiled", "torch"]
    # The path of the images decides no number: their digest does.
    data_path: Path = Field(exclude=True)

    @model_validator(mode="after")
    def _network_exists(self) -> "TrialConfig":
        check_network(self.layers, self.heads, self.model)
        return self


def every_setting(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a trial's config as its identity has it, with the fields that are left out there."""
    try:
        recipe = Recipe.model_validate(
            {k: v for k, v in config.items() if k in Recipe.model_fields}
        )
    except ValidationError:  # of another version
        return dict(config)
    return {**config, **every_value(recipe)}


def check_network(layers: int, heads: int, model: ViTConfig) -> None:
    """Make sure that a network of these sizes can be built.

    Raises:
        ValueError: one line with the field, its value and what would do.
    """
    check_patch_size(model.patch_size, IMAGE_SIDE)
    model.head_width_for(heads)
    if (size := num_params(layers, heads, model)) > MAX_PARAMS:
        raise ValueError(
            f"layers = {layers}, heads = {heads}: a network of {size:,} parameters; "
            f"at most {MAX_PARAMS:,} are allowed"
        )


def with_point(values: dict[str, Any], point: Point) -> dict[str, Any]:
    """Return a config's values with those of a point of the grid put in, by their dotted fields.

    Raises:
        ValueError: a field is not part of the recipe.
    """
    changed = dict(values)
    for field, value in point.items():
        section, (*parents, last) = changed, field.split(".")
        for parent in parents:
            if not isinstance(section.get(parent), dict):
                raise ValueError(_no_such_field(field))
            section[parent] = dict(section[parent])
            section = section[parent]
        section[last] = value
    return changed


def _no_such_field(field: str) -> str:
    near = near_fields(field, list(dotted_fields(Recipe)))
    meant = f"did you mean {', '.join(near)}? " if near else ""
    sections = {name.partition(".")[0] for name in dotted_fields(Recipe) if "." in name}
    known = ", ".join(f"{name}.*" if name in sections else name for name in Recipe.model_fields)
    return f"grid: {short(field)} is not a field of the recipe; {meant}choices: {known}"


def _all_from(lowest: int, highest: int) -> AfterValidator:
    def check(numbers: tuple[int, ...]) -> tuple[int, ...]:
        if min(numbers) < lowest:
            raise ValueError(f"{min(numbers)} is below {lowest}")
        if max(numbers) > highest:
            raise ValueError(f"{max(numbers)} is above {highest}")
        return numbers

    return AfterValidator(check)


class SweepRecipe(Recipe):
    """A recipe and the grid of networks that are trained by it."""

    layers: Annotated[IntRange, _all_from(1, MOST_LAYERS_OR_HEADS)] = Field(
        description="Numbers of layers in the grid, a range such as 4..8 or a list."
    )
    heads: Annotated[IntRange, _all_from(1, MOST_LAYERS_OR_HEADS)] = Field(
        description="Numbers of attention heads in the grid, a range such as 2..4 or a list."
    )
    grid: Annotated[dict[str, tuple[Value, ...]], BeforeValidator(parse_axes)] = Field(
        description="More axes of the grid: fields of the recipe with their values."
    )
    seeds: Annotated[IntRange, _all_from(0, LARGEST_SEED)] = Field(
        description="Seeds of weights, dropout and batches; every cell is trained once with each."
    )

    @classmethod
    def hint_on(cls, key: str, value: object) -> str | None:
        """Say how several values of a field are swept."""
        several = ",".join(map(show, value)) if isinstance(value, list) else str(value)
        if key not in dotted_fields(Recipe) or not ("," in several or ".." in several):
            return None
        return f"expected one value; to sweep several: --grid {key}={several}"

    @property
    def axes(self) -> list[Axis]:
        """Return the axes of the grid, layers and heads first."""
        return [
            Axis(field=LAYERS, values=self.layers),
            Axis(field=HEADS, values=self.heads),
            *(Axis(field=field, values=values) for field, values in self.grid.items()),
        ]

    def recipe_values(self) -> dict[str, Any]:
        """Return the recipe's fields as plain values."""
        return {k: v for k, v in every_value(self).items() if k in Recipe.model_fields}

    @model_validator(mode="after")
    def _every_point_exists(self) -> "SweepRecipe":
        """Build each point of the grid, so that none fails after others were trained."""
        size = math.prod(len(axis.values) for axis in self.axes) * len(self.seeds)
        if size > MOST_TRIALS:
            raise ValueError(f"the grid has {size:,} trials; at most {MOST_TRIALS:,} are allowed")
        values = self.recipe_values()
        for field, given in self.grid.items():
            read = tuple(_read_back(values, field, value) for value in given)
            if len(set(read)) < len(read):
                raise ValueError(f"grid: {field} has a value twice")
            self.grid[field] = read
        for point in points(self.axes):
            recipe = _recipe_at(values, {f: v for f, v in point.items() if f in self.grid})
            try:
                check_network(int(point[LAYERS] or 0), int(point[HEADS] or 0), recipe.model)
            except ValueError as error:
                where = ", ".join(f"{f} = {show(v)}" for f, v in point.items() if f in self.grid)
                raise ValueError(f"{error}" + (f" (at {where})" if where else "")) from None
        return self

    def trial_keys(self) -> set[str]:
        """Return one JSON text per trial: its seed and complete recipe."""
        values = self.recipe_values()
        return {
            json.dumps([seed, with_point(values, point)], sort_keys=True)
            for point in points(self.axes)
            for seed in self.seeds
        }


def _recipe_at(values: dict[str, Any], point: dict[str, Value]) -> Recipe:
    """Return the recipe at a point of the grid.

    Raises:
        ValueError: one line that names the field.
    """
    try:
        return Recipe.model_validate(with_point(values, point))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            raise ValueError(_no_such_field(field)) from None
        message = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"grid: {field} = {first['input']!r}: {message}") from None


def _read_back(values: dict[str, Any], field: str, value: Value) -> Value:
    """Return a value of an axis as the recipe reads it: 1 is 1.0 where a fraction belongs."""
    found: Any = _recipe_at(values, {field: value})
    for name in field.split("."):
        found = getattr(found, name)
    if not isinstance(found, Value):
        raise ValueError(f"grid: {field!r} is a section; name one of its fields")
    return found
