"""What holds for a table on a terminal of any width."""

import io

from rich.console import Console

from hwcli.output.tables import Table


def hold_whole(table: Table, width: int) -> None:
    """Check that a table fits, that its words and numbers are whole, and that it owns up."""
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(table.to_rich(width))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(map(len, lines)) <= width
    shown, left_out = table.fit(width)
    text = " ".join(lines)
    for row in table.rows:
        for column in shown:
            for word in column.text(row).split():
                assert f" {word} " in f"{text} "
    joined = " ".join(text.split())
    for column in left_out:
        assert column.heading in joined
    assert all(column in shown for column in table.columns if column.priority == 0)
