"""The grid of a sweep: which fields of the recipe vary, and over which values.

An axis is a dotted field of a trial's config with its values. Layers and heads are two axes that
every grid has; ``--grid model.width=32,64,96`` adds another, which is swept, shown and tested as
they are. Tables and pictures put one axis down, one across, and repeat that for each combination
of the others.
"""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from hwcli.config import Section, flatten
from hwcli.ranges import MAX_RANGE_LENGTH, parse_range
from hwcli.yaml_files import parse_yaml

T = TypeVar("T")

Value = int | float | str | bool | None
"""A value on an axis."""

Point = Mapping[str, Value]
"""One place of the grid: the value of each axis, by its dotted field, in the axes' order."""

CellKey = tuple[Value, ...]
"""The values of a point alone, in the axes' order."""

LAYERS, HEADS, SEEDS = "layers", "heads", "seeds"
ALWAYS = (LAYERS, HEADS)  # the axes that every grid has, and that have flags of their own
SPELLING = "KEY=VALUES, such as model.width=32,64,96"
COUNTED = {LAYERS: "layer", HEADS: "head"}  # axes that count things, and the name of one


class Axis(Section):
    """A field of the recipe that varies over the grid."""

    field: str
    values: tuple[Value, ...]

    @property
    def name(self) -> str:
        """Return the name of the field as tables show it: ``layers``, ``width``."""
        return self.field.rpartition(".")[2].replace("_", " ")

    @property
    def varies(self) -> bool:
        """Tell whether it has more than one value."""
        return len(self.values) > 1

    @property
    def is_numeric(self) -> bool:
        """Tell whether all values are numbers, so that they can be fitted."""
        return all(type(value) in (int, float) for value in self.values)

    def text(self, value: Value) -> str:
        """Spell one value with its name: ``4 layers``, ``1 head``, ``width 48``."""
        if self.field in COUNTED:
            return f"{value} {COUNTED[self.field] if value == 1 else self.name}"
        return f"{self.name} {show(value)}"


def show(value: Value) -> str:
    """Spell a value as YAML does."""
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def describe(axes: Sequence[Axis], point: Point) -> str:
    """Spell a point: ``4 layers, 2 heads``."""
    return ", ".join(axis.text(point[axis.field]) for axis in axes)


def points(axes: Sequence[Axis]) -> Iterator[dict[str, Value]]:
    """Yield every point of the grid, the last axis running fastest."""
    fields = [axis.field for axis in axes]
    for values in itertools.product(*(axis.values for axis in axes)):
        yield dict(zip(fields, values, strict=True))


@dataclass(frozen=True)
class Layout:
    """How a grid is put on a page.

    Attributes:
        down: the axis whose values are rows.
        across: the axis whose values are columns.
        groups: further axes that vary: each combination of their values is a block of its own.
        fixed: axes with one value that are not shown as rows or columns.
    """

    down: Axis
    across: Axis
    groups: tuple[Axis, ...]
    fixed: tuple[Axis, ...]

    @staticmethod
    def of(axes: Sequence[Axis]) -> "Layout":
        """Put the first two axes that vary down and across.

        Layers go down and heads across where no other axis varies; where only one of all axes
        does, an axis of one value fills up.
        """
        if any(axis.varies for axis in axes[len(ALWAYS) :]):
            down, across, *others = sorted(axes, key=lambda axis: not axis.varies)
        else:
            down, across, *others = axes
        return Layout(
            down,
            across,
            tuple(axis for axis in others if axis.varies),
            tuple(axis for axis in others if not axis.varies),
        )

    def blocks(self) -> list[dict[str, Value]]:
        """Return the combinations of the groups' values: ``[{}]`` where there are no groups."""
        return list(points(self.groups))

    def key(self, axes: Sequence[Axis], block: Point, row: Value, column: Value) -> CellKey:
        """Return the key of the cell in a block, row and column."""
        point = {
            **{axis.field: axis.values[0] for axis in self.fixed},
            **block,
            self.down.field: row,
            self.across.field: column,
        }
        return tuple(point[axis.field] for axis in axes)

    def grid(
        self, axes: Sequence[Axis], block: Point, cells: Mapping[CellKey, T]
    ) -> list[list[T | None]]:
        """Return a block's cells row by row, None where a cell is missing."""
        return [
            [cells.get(self.key(axes, block, row, column)) for column in self.across.values]
            for row in self.down.values
        ]


def parse_axes(value: object) -> dict[str, tuple[Any, ...]]:
    """Read the axes that a sweep has besides layers and heads.

    Args:
        value: ``{"model.width": "32,64,96"}``, nested mappings of the same, or the texts
            ``["model.width=32,64,96"]`` of the command line. Values are ranges as everywhere, or
            lists.

    Raises:
        ValueError: a text without ``=``, a field twice, or no values.
    """
    if value is None:
        return {}
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list | tuple):
        value = split_axes(value)
    if isinstance(value, Mapping):
        pairs = list(flatten(value))
    else:
        raise ValueError(f"expected {SPELLING}")
    axes: dict[str, tuple[Any, ...]] = {}
    for field, values in pairs:
        if field in axes:
            raise ValueError(f"{field} is given twice")
        if field in ALWAYS:
            raise ValueError(f"{field} has a flag and a config field of its own: --{field}")
        if field in ("seed", SEEDS):
            given = values if isinstance(values, str) else "0..2"
            raise ValueError(f"every cell is trained by every seed: --{SEEDS} {given}")
        axes[field] = _parse_values(field, values)
    return axes


def split_axes(texts: Iterable[object]) -> dict[str, str]:
    """Read texts such as ``model.width=32,64,96`` as fields with the texts of their values.

    Raises:
        ValueError: a text without ``=``, or a field twice.
    """
    axes: dict[str, str] = {}
    for text in texts:
        field, equals, values = (part.strip() for part in str(text).partition("="))
        if not (field and equals and values):
            raise ValueError(f"{text}: write {SPELLING}")
        if field in axes:
            raise ValueError(f"{field} is given twice")
        axes[field] = values
    return axes


def _parse_values(field: str, values: object) -> tuple[Any, ...]:
    if isinstance(values, str):
        try:
            return parse_range(values)
        except ValueError as error:
            if ".." in values:
                raise ValueError(
                    f"{field}: {error}; values may also be a list, such as 1e-3,1e-2"
                ) from None
        try:
            values = parse_yaml(f"[{values}]")
        except ValueError:
            raise ValueError(f"{field} = {values!r}: expected a range or a list") from None
    items = tuple(values) if isinstance(values, list | tuple) else (values,)
    if not items:
        raise ValueError(f"{field}: expected at least one value")
    if len(items) > MAX_RANGE_LENGTH:
        raise ValueError(f"{field}: more than {MAX_RANGE_LENGTH:,} values")
    return items
