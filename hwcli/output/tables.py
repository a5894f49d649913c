"""A table is columns and rows; it is spelled as CSV, Markdown and on the terminal."""

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from rich.table import Table as RichTable


@dataclass(frozen=True)
class Column:
    """One column: the key of its values in a row, its heading, and how a value is shown.

    ``show`` is a format such as ``"{:.2f}"`` or a function; None is shown as a dash.
    """

    key: str
    heading: str
    show: str | Callable[[Any], str] = "{}"

    def text(self, row: Mapping[str, Any]) -> str:
        """Return the cell of a row as it is shown."""
        value = row.get(self.key)
        if value is None:
            return "–"
        return self.show(value) if callable(self.show) else self.show.format(value)


@dataclass(frozen=True)
class Table:
    """Rows under columns, with a title above and notes below.

    The CSV holds the values themselves under their keys, for programs; the other spellings hold
    them as shown. Columns whose first value is text are aligned left, the others right.
    """

    title: str
    columns: Sequence[Column]
    rows: Sequence[Mapping[str, Any]]
    notes: Sequence[str] = ()

    def cells(self) -> list[list[str]]:
        """Return every row as shown."""
        return [[column.text(row) for column in self.columns] for row in self.rows]

    def _is_text(self, column: Column) -> bool:
        values = (row.get(column.key) for row in self.rows)
        return isinstance(next((v for v in values if v is not None), None), str)

    def to_csv(self) -> str:
        """Return the raw values as CSV, a heading line of keys first."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow([column.key for column in self.columns])
        writer.writerows([[row.get(column.key) for column in self.columns] for row in self.rows])
        return buffer.getvalue()

    def to_markdown(self) -> str:
        """Return a GitHub-style table under its title, notes below."""
        rules = ["---" if self._is_text(column) else "---:" for column in self.columns]
        lines = [[column.heading for column in self.columns], rules, *self.cells()]
        body = "\n".join("| " + " | ".join(_pipe(cell) for cell in line) + " |" for line in lines)
        # A note that begins with a star explains a mark; it is no item of a list.
        notes = "".join("\n\n" + re.sub(r"^\* ", r"\\* ", note) for note in self.notes)
        return f"**{self.title}**\n\n{body}{notes}\n"

    def to_rich(self) -> "RichTable":
        """Return the table for the terminal."""
        from rich import box
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(
            title=self.title,
            title_justify="left",
            caption="\n".join(self.notes) or None,
            caption_justify="left",
            box=box.SIMPLE_HEAD,
        )
        for column in self.columns:
            justify: Literal["left", "right"] = "left" if self._is_text(column) else "right"
            table.add_column(column.heading, justify=justify, overflow="fold")
        for cells in self.cells():
            table.add_row(*map(Text, cells))
        return table


def _pipe(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", "<br>")
