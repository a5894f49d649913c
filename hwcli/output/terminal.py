"""What a run shows: results on standard output, progress and errors on standard error.

A stream may have no reader any more (``| head``), no room (``/dev/full``), no terminal behind it
(a closed window) or too few letters (Latin-1). None of that may end a run: what cannot be written
is dropped, and :func:`close` says so at the end if it can.
"""

import itertools
import json
import os
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Literal, cast

from rich.console import Console

from hwcli.errors import reason_of
from hwcli.output.tables import Table

# Where nobody watches, a table keeps its columns instead of folding them at 80 characters.
UNWATCHED_WIDTH = 160


class SturdyStream:
    """A standard stream whose writing never fails; the first error is kept in ``error``."""

    def __init__(self, name: Literal["stdout", "stderr"]):
        self._name = name
        self.error: OSError | ValueError | None = None

    @property
    def _stream(self) -> Any:
        """The stream as it is now; not rich's proxy of it, which writes to the asking console."""
        stream = getattr(sys, self._name)
        return getattr(stream, "rich_proxied_file", stream)

    @property
    def encoding(self) -> str:
        """The letters that the stream has."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """Write a text; letters that the stream does not have become question marks."""
        stream = self._stream
        if self.error is None and stream is not None:
            try:
                try:
                    stream.write(text)
                except UnicodeEncodeError:
                    encoding = self.encoding
                    stream.write(text.encode(encoding, "replace").decode(encoding))
            except (OSError, ValueError) as error:
                self.error = error
        return len(text)

    def flush(self) -> None:
        """Pass on what was written."""
        stream = self._stream
        if self.error is None and stream is not None:
            try:
                stream.flush()
            except (OSError, ValueError) as error:
                self.error = error

    def isatty(self) -> bool:
        """Tell whether a person may be watching."""
        stream = self._stream
        with suppress(OSError, ValueError):
            return stream is not None and bool(stream.isatty())
        return False

    def fileno(self) -> int:
        """Return the number of the open file."""
        return int(self._stream.fileno())


def is_watched(console: Console) -> bool:
    """Tell whether a person may be watching: colours can be forced on a file or a pipe, too."""
    return console.is_terminal and console.file.isatty()


_stdout, _stderr = SturdyStream("stdout"), SturdyStream("stderr")
output = Console(file=cast(IO[str], _stdout), highlight=False)
progress = Console(file=cast(IO[str], _stderr), highlight=False)
for console in (output, progress):
    if not is_watched(console):
        console.width = UNWATCHED_WIDTH


def log(line: str) -> None:
    """Print one line of progress, broken at spaces for who watches; ``--quiet`` silences it.

    What has no spaces, such as a path, stays whole: people copy it.
    """
    # By itself rich breaks long words, or drops what does not fit.
    progress.print(_broken(line), markup=False, soft_wrap=True)


def _broken(text: str) -> str:
    """Break lines at spaces where somebody watches."""
    if not is_watched(progress):
        return text
    width = max(20, progress.width)
    lines = [
        textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) or [""]
        for line in text.split("\n")
    ]
    return "\n".join(itertools.chain.from_iterable(lines))


def show(result: Table | str) -> None:
    """Print a part of the result; inside :func:`held_back` at its end."""
    if _held is not None:
        _held.append(result)
        return
    shown = result.to_rich(output.width) if isinstance(result, Table) else result
    output.print(shown, markup=False)


_held: list[Table | str] | None = None


@contextmanager
def held_back() -> Iterator[None]:
    """Print results only at the end of the block, in which they are written to files first."""
    global _held
    _held = []
    try:
        yield
    finally:
        results, _held = _held, None
        for result in results:
            show(result)


def show_error(error: Exception) -> None:
    """Print the one line of a user's mistake; ``--quiet`` does not silence it."""
    _stderr.write(_broken(f"error: {error}") + "\n")


def show_text(text: str) -> None:
    """Print a text as it is, for scripts."""
    _stdout.write(text)


def show_json(value: Any) -> None:
    """Print a result as JSON, for scripts."""
    _stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def show_path(path: Path) -> None:
    """Print a path as a whole line, however long it is."""
    _stdout.write(f"{path}\n")


def silence() -> None:
    """Show nothing but results from here on."""
    progress.quiet = True


def close() -> None:
    """Pass on what was shown, and say if it could not be written; the program ends after this."""
    _stdout.flush()
    error = _stdout.error
    if error is not None and not isinstance(error, BrokenPipeError):
        _stderr.write(
            f"standard output could not be written ({reason_of(error)}); the results are kept\n"
        )
    _stderr.flush()
    # Python itself would complain when it flushes the streams once more.
    for stream, number in ((_stdout, 1), (_stderr, 2)):
        if stream.error is not None:
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), number)


def open_closed_streams() -> None:
    """Put /dev/null where standard input, output or error is closed.

    Otherwise the next file or pipe that is opened takes its number, and what a library prints
    goes there.
    """
    for number, name in ((0, "stdin"), (1, "stdout"), (2, "stderr")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
            if getattr(sys, name) is None:
                mode = "r" if number == 0 else "w"
                setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115
