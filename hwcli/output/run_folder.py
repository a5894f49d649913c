"""The folder ``OUT/<command>/<name>/`` that one run writes.

``config.yaml`` (reloads to an equal config), ``env.json``, ``metrics.jsonl``, ``table.csv`` and
``table.md``, plots as PNG and, last and atomically, ``summary.json``: a folder without it holds
no finished run. One process at a time writes a folder; a second one waits and says so.

A finished run stays as it is until the next one of its name is whole: meanwhile the new files lie
in its subfolder ``.new``. And it is replaced only by a run that contains it: the same config, or
one whose ``contains`` method says so (a wider grid, more seeds). Anything else needs another name,
or ``--replace``.
"""

import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hwcli.config import RunConfig, Section, dump_yaml, load
from hwcli.errors import NO_ROOM, HwError, OutputError, short
from hwcli.locks import Closing, Lock, make_folder
from hwcli.output.files import (
    append_jsonl,
    read_mapping,
    remove_leftovers,
    write_atomic,
    write_json,
)
from hwcli.output.tables import Table
from hwcli.paths import nearest_folder
from hwcli.yaml_files import read_yaml

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def with_start(environment: Mapping[str, Any]) -> dict[str, Any]:
    """Return an ``env.json`` that says when its run was started: now, unless it says it already."""
    return {"started": datetime.now(UTC).isoformat(timespec="seconds"), **environment}


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


# Settings that a refusal names.
NAMED_SETTINGS = 3
# Room asked for before anything is touched: more than the tables and plots of any run here.
HEADROOM_BYTES = 16 * 2**20
# Where the files of a run lie while a finished run of the same name is still there.
STAGING = ".new"


class RunFolder(Closing):
    """One run's folder: claimed, written, finished.

    Used as a context manager, which lets the claim go::

        with RunFolder(out, "rnn-trace", config.name) as folder:
            folder.claim(config, fingerprint())
            folder.write_table(table)
            folder.finish(summary)

    Args:
        out: where runs are written.
        command: that writes this one.
        name: of the run.
        log: is told that another process writes the folder.
        replace: whether a finished run of the name may be replaced by any other.
    """

    def __init__(
        self,
        out: Path,
        command: str,
        name: str,
        log: Callable[[str], None] = print,
        *,
        replace: bool = False,
    ):
        self.command = command
        self.name = name
        self.path = out / command / name
        self.trials_path = out / command / "trials"
        self._log = log
        self.may_replace = replace
        self._lock = Lock(self.path / ".lock")
        self._writes_to = self.path
        self._discarded: set[str] = set()

    def close(self, error: BaseException | None) -> None:
        """Let the claim go."""
        self._lock.release()
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise OutputError(
                f"{error.filename or self.path}: {error.strerror}; free some space and run the "
                "command again"
            ) from None

    def check_writable(self) -> None:
        """Make sure of a writable folder with some room, before anything there changes.

        Raises:
            OutputError: the folder cannot be made or written, or the disk is full.
        """
        probe = self.path / f".room.{os.getpid()}.tmp"
        try:
            make_folder(self.path)
            try:
                with probe.open("wb") as file:
                    file.write(bytes(HEADROOM_BYTES))
                    file.flush()
                    os.fsync(file.fileno())
            finally:
                probe.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"out: {self.path} cannot be written ({error.strerror})") from None
        except OutputError as error:
            raise OutputError(f"out: {error}") from None

    def claim(
        self, config: RunConfig, environment: Mapping[str, Any], *, wait: bool = True
    ) -> bool:
        """Become the one who writes this folder, and start its files again.

        Where somebody else writes it: wait for them, and say so; or with ``wait=False``
        return False and leave the folder alone. Calling it twice is harmless.

        Raises:
            OutputError: the folder cannot be written, or holds a finished run that this one does
                not contain.
        """
        if self._lock.held:
            return True
        self.refuse_to_lose(config)
        self.check_writable()
        # hw2 status holds it for a moment when it looks.
        if not self._lock.acquire(timeout_s=0.2):
            if not wait:
                return False
            self._log(
                f"{self.command} {self.name}: another process is writing this run; waiting (if its "
                "machine is lost: Ctrl-C, and the same command with another --name)"
            )
            self._lock.acquire(timeout_s=None)
            self.refuse_to_lose(config)
        remove_leftovers(self.path)
        shutil.rmtree(self.path / STAGING, ignore_errors=True)
        self._writes_to = self.path
        if self._is_finished():
            self._writes_to = self.path / STAGING
            make_folder(self._writes_to)
        else:
            with suppress(FileNotFoundError):
                (self.path / "metrics.jsonl").unlink()
        write_json(self._writes_to / "env.json", with_start(environment))
        self.write("config.yaml", dump_yaml(config))
        return True

    def refuse_to_lose(self, config: RunConfig) -> None:
        """Make sure that no finished run is lost if this config's run is written here.

        Raises:
            OutputError: there is one that this run would not contain.
        """
        if not self._is_finished() or self.may_replace:
            return
        path = self.path / "config.yaml"
        try:
            is_empty = not read_yaml(path)
            earlier = load(type(config), self.command, path=path)
        except HwError:
            is_empty = True
        if is_empty:
            what = "is a finished run whose config.yaml cannot be read"
        else:
            if config.contains(earlier):
                return
            what = f"is a finished run with other settings{_describe(config, earlier)}"
        raise OutputError(
            f"{self.path} {what}; choose another name with --name, or replace that run with "
            "--replace"
        )

    def refuse_another_run(self, config: RunConfig) -> None:
        """Make sure that the run which another process writes here is one that this one contains.

        Raises:
            OutputError: it has other settings, so that this run would be refused in the end.
        """
        for folder in (self.path / STAGING, self.path):
            path = folder / "config.yaml"
            if not path.exists():
                continue
            try:
                theirs = load(type(config), self.command, path=path)
            except HwError:  # it is being written
                return
            if not config.contains(theirs):
                raise OutputError(
                    f"{self.path}: another process is writing a run of this name with other "
                    f"settings{_describe(config, theirs)}; choose another name with --name"
                )
            return

    def forecast(self, config: RunConfig) -> str:
        """Say what a run with this config would do to the folder; reads only."""
        there = nearest_folder(self.path)
        if not os.access(there, os.W_OK):
            return f"The run would be refused: {there} cannot be written."
        if not self._is_finished():
            return f"The run would write {self.path}."
        try:
            self.refuse_to_lose(config)
        except OutputError as error:
            return f"The run would be refused: {error}."
        verb = "replace" if self.may_replace else "extend or rewrite"
        return f"The run would {verb} {self.path}."

    def summary(self) -> dict[str, Any] | None:
        """Return what the folder's finished run found; None if there is none that can be read."""
        return read_mapping(self.path / "summary.json") or None

    def _is_finished(self) -> bool:
        """Tell whether a finished run is here, even one whose summary is damaged."""
        return (self.path / "summary.json").exists()

    def append_metrics(self, **record: object) -> None:
        """Append one record to ``metrics.jsonl``."""
        append_jsonl(self._writes_to / "metrics.jsonl", record)

    def write_table(self, table: Table, stem: str = "table") -> None:
        """Write a table as ``<stem>.csv`` (raw values) and ``<stem>.md`` (as shown)."""
        self.write(f"{stem}.csv", table.to_csv())
        self.write(f"{stem}.md", table.to_markdown())

    def write(self, name: str, content: str | bytes) -> None:
        """Write a file."""
        self._discarded.discard(name)
        write_atomic(self._writes_to / name, content)

    def save_figure(self, name: str, figure: "Figure") -> None:
        """Write a figure as ``<name>.png``."""
        from hwcli.output.plots import to_png

        self.write(f"{name}.png", to_png(figure))

    def subfolder(self, name: str) -> Path:
        """Return where a folder of this run is to be written, such as a model's."""
        return self._writes_to / name

    def discard(self, *names: str) -> None:
        """Remove files of an earlier run that this one has not written again, when it finishes."""
        self._discarded.update(names)

    def finish(self, summary: Summary) -> Path:
        """Write ``summary.json``, the sign that the run is finished, and return its full path.

        Until then the finished run that was here before is untouched; its files are now replaced
        one by one, the summary last.

        Raises:
            OutputError: a file cannot be written.
        """
        path = self.path / "summary.json"
        write_json(self._writes_to / "summary.json", summary.model_dump(mode="json"))
        try:
            if self._writes_to != self.path:
                staged = sorted(self._writes_to.iterdir(), key=lambda p: p.name == "summary.json")
                for file in staged:
                    if file.is_dir():  # a folder that is not empty cannot be replaced as one
                        shutil.rmtree(self.path / file.name, ignore_errors=True)
                    file.replace(self.path / file.name)
                self._writes_to.rmdir()
                self._writes_to = self.path
            for name in self._discarded:
                (self.path / name).unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written ({error.strerror})") from None
        return path.resolve()


def _describe(config: RunConfig, earlier: RunConfig) -> str:
    """Return the first settings in which two configs differ, in brackets."""
    differences = config.differences_from(earlier)
    named = [
        f"{key} {short(theirs)} there, {short(ours)} here"
        for key, (theirs, ours) in list(differences.items())[:NAMED_SETTINGS]
    ]
    more = len(differences) - len(named)
    return f" ({'; '.join(named)}{f'; and {more} more' if more else ''})" if named else ""
