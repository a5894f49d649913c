"""The folder ``OUT/<command>/<name>/`` that one run writes.

``config.yaml`` (reloads to an equal config), ``env.json``, ``metrics.jsonl``, ``table.csv`` and
``table.md``, plots as PNG and, last and atomically, ``summary.json``: a folder without it holds
no finished run. One process at a time writes a folder; a second one waits and says so.
"""

import errno
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from filelock import FileLock, Timeout

from hwcli.config import RunConfig, Section, dump_yaml
from hwcli.errors import OutputError
from hwcli.output.files import append_jsonl, read_json, write_atomic, write_json
from hwcli.output.tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Summary(Section):
    """What a run found: ``summary.json``, which a command's own subclass writes and reads.

    Attributes:
        command: such as ``vit-sweep``.
        name: of the run.
        status: ``partial`` where the run finished with failed trials.
    """

    command: str
    name: str
    status: Literal["complete", "partial"]

    @property
    def exit_code(self) -> int:
        """Return the exit code of the command: 0, or 1 where something failed."""
        return int(self.status != "complete")


# Room asked for before anything is touched: more than the tables and plots of any run here.
HEADROOM_BYTES = 16 * 2**20


class RunFolder:
    """One run's folder: claimed, written, finished.

    Used as a context manager, which lets the claim go::

        with RunFolder(out, "rnn-trace", config.name) as folder:
            folder.claim(config, runtime.fingerprint())
            folder.write_table(table)
            folder.finish(summary)
    """

    def __init__(self, out: Path, command: str, name: str, say: Callable[[str], None] = print):
        self.command = command
        self.name = name
        self.path = out / command / name
        self.trials_path = out / command / "trials"
        self._say = say
        self._lock = FileLock(self.path / ".lock")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lock.release()
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise OutputError(
                f"{self.path}: {error.strerror}; make room and run it again"
            ) from None

    def check_writable(self) -> None:
        """Make sure of a writable folder with some room, before anything there changes.

        Raises:
            OutputError: the folder cannot be made or written, or the disk is full.
        """
        probe = self.path / f".room.{os.getpid()}.tmp"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                with probe.open("wb") as file:
                    file.write(bytes(HEADROOM_BYTES))
                    file.flush()
                    os.fsync(file.fileno())
            finally:
                probe.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"out: {self.path} cannot be written ({error.strerror})") from None

    def claim(
        self,
        config: RunConfig,
        environment: Mapping[str, Any],
        *,
        wait: bool = True,
        keep_environment: bool = False,
    ) -> bool:
        """Become the one who writes this folder, and mark its results as not finished.

        Where somebody else writes it: wait for them, and say so; or with ``wait=False``
        return False and leave the folder alone. Claiming what is claimed already is no work.
        ``keep_environment`` leaves an ``env.json`` that is there: for a run that only shows anew
        what was computed before, maybe elsewhere.

        Raises:
            OutputError: the folder cannot be written.
        """
        if self._lock.is_locked:
            return True
        self.check_writable()
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            if not wait:
                return False
            self._say(f"{self.command} {self.name}: another run is writing it; waiting for it")
            self._lock.acquire()
        (self.path / "summary.json").unlink(missing_ok=True)
        (self.path / "metrics.jsonl").unlink(missing_ok=True)
        write_atomic(self.path / "config.yaml", dump_yaml(config))
        if not (keep_environment and (self.path / "env.json").exists()):
            write_json(self.path / "env.json", environment)
        return True

    def summary(self) -> dict[str, Any] | None:
        """Return what the folder's finished run found; None if there is none that can be read."""
        try:
            found = read_json(self.path / "summary.json")
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def log(self, **record: object) -> None:
        """Append one record to ``metrics.jsonl``."""
        append_jsonl(self.path / "metrics.jsonl", record)

    def write_table(self, table: Table, stem: str = "table") -> None:
        """Write a table as ``<stem>.csv`` (raw values) and ``<stem>.md`` (as shown)."""
        self.write(f"{stem}.csv", table.to_csv())
        self.write(f"{stem}.md", table.to_markdown())

    def write(self, name: str, content: str) -> None:
        """Write a text file."""
        write_atomic(self.path / name, content)

    def save_figure(self, name: str, figure: "Figure") -> None:
        """Write a figure as ``<name>.png``."""
        from hwcli.output.plots import to_png

        write_atomic(self.path / f"{name}.png", to_png(figure))

    def discard(self, *names: str) -> None:
        """Remove files of an earlier run that this one has not made anew."""
        for name in names:
            (self.path / name).unlink(missing_ok=True)

    def finish(self, summary: Summary | dict[str, Any]) -> Path:
        """Write ``summary.json``, the sign that the run is finished, and return its full path."""
        path = self.path / "summary.json"
        found = summary.model_dump(mode="json") if isinstance(summary, Summary) else summary
        write_json(path, {"command": self.command, "name": self.name, **found})
        return path.resolve()
