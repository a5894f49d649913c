"""A table is columns and rows; it is spelled as CSV, Markdown and on the terminal."""

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from rich.table import Table as RichTable

# Columns of the terminal that separate two columns of a table.
PADDING = 3


@dataclass(frozen=True)
class Column:
    """One column: the key of its values in a row, its heading, and how a value is shown.

    Attributes:
        key: of its values in a row.
        heading: above them.
        show: a format such as ``"{:.2f}"``, or a function; None is shown as a dash.
        priority: where a table is wider than the terminal, columns without values are left out
            first, then those of the highest number, and of equal ones the last; 0 always stays.
    """

    key: str
    heading: str
    show: str | Callable[[Any], str] = "{}"
    priority: int = 1

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
        return isinstance(next((v for v in values if v is not None), None), str | list | tuple)

    def to_csv(self) -> str:
        """Return the raw values as CSV, a heading line of keys first."""
        return csv_text(self.rows, [column.key for column in self.columns])

    def to_markdown(self) -> str:
        """Return a GitHub-style table under its title, notes below."""
        rules = ["---" if self._is_text(column) else "---:" for column in self.columns]
        lines = [[column.heading for column in self.columns], rules, *self.cells()]
        body = "\n".join("| " + " | ".join(_pipe(cell) for cell in line) + " |" for line in lines)
        # A note that begins with a star explains a mark; it is no item of a list.
        notes = "".join("\n\n" + re.sub(r"^\* ", r"\\* ", note) for note in self.notes)
        return f"**{self.title}**\n\n{body}{notes}\n"

    def fit(self, width: int) -> tuple[list[Column], list[Column]]:
        """Return the columns that a terminal of this width shows whole, and those it leaves out."""
        shown, left_out = list(self.columns), list[Column]()
        while len(shown) > 1 and 1 + sum(self._least_width(c) + PADDING for c in shown) > width:
            droppable = [column for column in shown if column.priority > 0]
            if not droppable:
                break
            empty = [c for c in droppable if all(row.get(c.key) is None for row in self.rows)]
            candidates = empty or droppable
            highest = max(column.priority for column in candidates)
            last = [column for column in candidates if column.priority == highest][-1]
            shown.remove(last)
            left_out.insert(0, last)
        return shown, left_out

    def _least_width(self, column: Column) -> int:
        """Return the width a column needs: numbers stay on one line, text breaks at spaces."""
        heading = max((len(word) for word in column.heading.split()), default=1)
        texts = [line for row in self.rows for line in column.text(row).split("\n")]
        if not self._is_text(column):
            return max([heading, *map(len, texts)])
        return max([heading, *(len(word) for text in texts for word in text.split())])

    def _widths(self, shown: Sequence[Column], width: int | None) -> list[int | None]:
        """Share the width out: each column gets what it needs, then what it would like."""
        if width is None:
            return [None] * len(shown)
        widths = [self._least_width(column) for column in shown]
        wishes = [
            max(
                len(column.heading),
                *(len(line) for row in self.rows for line in column.text(row).split("\n")),
            )
            if self.rows
            else len(column.heading)
            for column in shown
        ]
        spare = width - 1 - sum(w + PADDING for w in widths)
        if spare < 0:  # one column that is wider than the terminal
            return [None] * len(shown)
        while spare > 0:
            lacks = [wish - has for wish, has in zip(wishes, widths, strict=True)]
            most = max(range(len(lacks)), key=lacks.__getitem__)
            if lacks[most] <= 0:
                break
            widths[most] += 1
            spare -= 1
        return list(widths)

    def to_rich(self, width: int | None = None) -> "RichTable":
        """Return the table for the terminal.

        Args:
            width: of the terminal; columns that do not fit are left out, and a note names them.
        """
        from rich import box
        from rich.table import Table as RichTable
        from rich.text import Text

        shown, left_out = (list(self.columns), []) if width is None else self.fit(width)
        widths = self._widths(shown, width)
        notes = list(self.notes)
        if left_out:
            names = ", ".join(column.heading for column in left_out)
            notes.append(f"Left out at this width: {names}.")
        table = RichTable(
            title=Text(self.title) if self.title else None,
            title_justify="left",
            caption=Text("\n".join(notes)) if notes else None,
            caption_justify="left",
            box=box.SIMPLE_HEAD,
        )
        for column, column_width in zip(shown, widths, strict=True):
            justify: Literal["left", "right"] = "left" if self._is_text(column) else "right"
            table.add_column(column.heading, justify=justify, overflow="fold", width=column_width)
        for row in self.rows:
            table.add_row(*(Text(column.text(row)) for column in shown))
        return table


def csv_text(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> str:
    """Return rows as CSV under a line of keys, by default every key that a row has."""
    if columns is None:
        columns = list(dict.fromkeys(key for row in rows for key in row))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _pipe(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", "<br>")
