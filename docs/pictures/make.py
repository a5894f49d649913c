"""Make the pictures of README and docs: terminals as SVG, the hand-in's first page as PNG.

    python docs/pictures/make.py

A terminal shows what the command prints now, in a folder of its own; the page is that of
results/reference/report/hw2.pdf. `make pictures` runs this.
"""

import fcntl
import io
import os
import pty
import shlex
import shutil
import struct
import sys
import tempfile
import termios
from pathlib import Path

import typst
from rich.console import Console
from rich.text import Text

HERE = Path(__file__).parent
REFERENCE = HERE.parents[1] / "results" / "reference"
WIDTH = 100
TERMINALS = {
    "rnn-trace": "hw2 rnn-trace --length 20 --steps 4",
    "dry-run": "hw2 vit-sweep --layers 4..5 --heads 2..4 --preset quick --dry-run",
}
PAGE_WIDTH = "360pt"


def printed(command: str, folder: Path) -> str:
    """Run a command of hw2 in a terminal of WIDTH columns; return what it prints."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 40, WIDTH, 0, 0))
        hw2 = Path(sys.executable).with_name("hw2")
        os.execv(hw2, shlex.split(command))
    parts = []
    while True:
        try:
            part = os.read(terminal, 1 << 16)
        except OSError:  # what Linux says when the command has ended
            break
        if not part:
            break
        parts.append(part)
    os.waitpid(child, 0)
    return b"".join(parts).decode().replace("\r\n", "\n")


def draw_terminal(name: str, command: str) -> None:
    """Write a picture of a command and of what it prints."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        shutil.copytree(REFERENCE, folder / "results" / "reference")
        text = printed(command, folder).replace(f"{folder}/", "")
    text = text.replace(str(Path.home()), "~")
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(Text(f"$ {command}"))
    console.print(Text.from_ansi(text))
    console.save_svg(str(HERE / f"{name}.svg"), title="hw2", unique_id=name)


def draw_first_page() -> None:
    """Write the hand-in's first page as PNG."""
    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / "page.typ"
        shutil.copy(REFERENCE / "report" / "hw2.pdf", place)
        source.write_text(
            "#set page(width: auto, height: auto, margin: 0pt)\n"
            f'#image("hw2.pdf", page: 1, width: {PAGE_WIDTH})\n'
        )
        typst.compile(source, output=HERE / "hand-in.png", format="png", ppi=144)


def main() -> None:
    """Make all of them."""
    for name, command in TERMINALS.items():
        draw_terminal(name, command)
    draw_first_page()


if __name__ == "__main__":
    main()
