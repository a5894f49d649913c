"""Find finished runs and read what they found: the user's, and the reference runs if asked for."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image
from pydantic import BaseModel, ConfigDict, ValidationError

from hwcli.attention.bench.results import AttentionSummary
from hwcli.config import FOLDER_NAME, Section, every_value
from hwcli.errors import HwError, OutputError
from hwcli.output.files import read_json
from hwcli.output.run_folder import Summary
from hwcli.output.units import counted
from hwcli.processor import short_cpu_name
from hwcli.rnn.summary import TraceSummary
from hwcli.sentiment import recipe as sentiment
from hwcli.sentiment.summary import SentimentSummary
from hwcli.vision import recipe as vision
from hwcli.vision.record import PREDICTIONS, RecordError, read_record
from hwcli.vision.summary import VitSweepSummary
from hwcli.yaml_files import read_yaml

SUMMARIES: Mapping[str, type[Summary]] = {
    "rnn-trace": TraceSummary,
    "attention-bench": AttentionSummary,
    "vit-sweep": VitSweepSummary,
    "sentiment-train": SentimentSummary,
}


class _Measured(Section):
    """What is read of a config of attention-bench."""

    causal: bool


class _Trained(sentiment.Recipe):
    """What is read of a config of sentiment-train."""

    texts: tuple[str, ...]


class _Read(Section):
    """What is read of a file that says more."""

    model_config = ConfigDict(extra="ignore")


class _Place(_Read):
    """A machine that trained some of a run's trials."""

    machine: str
    num_trials: int
    threads: int | None = None


class Environment(_Read):
    """What is read of an ``env.json``; runs of earlier versions lack some of it.

    Attributes:
        started: when the run was started, in ISO 8601.
        commit: of the code.
        dirty: it had changes that were not committed.
        command_line: of the run, word by word.
        versions: of the packages.
        cpu: its name, with its widest vectors.
        gpu: its name.
        threads: that computed.
        dtype: of the numbers.
        trained_on: the machines that trained the trials.
    """

    started: str | None = None
    commit: str | None = None
    dirty: bool | None = None
    command_line: tuple[str, ...] = ()
    versions: Mapping[str, str] = {}
    cpu: str | None = None
    gpu: str | None = None
    threads: int | None = None
    dtype: str | None = None
    trained_on: tuple[_Place, ...] = ()


# Of each command, the part of a config that decides its numbers; it belongs to no experiment.
CONFIGS: Mapping[str, type[Section]] = {
    "attention-bench": _Measured,
    "vit-sweep": vision.SweepRecipe,
    "sentiment-train": _Trained,
}

S = TypeVar("S", bound=Summary)
M = TypeVar("M", bound=BaseModel)


class DamagedRunError(HwError):
    """A run folder is not finished or not whole; the text says why, without the folder."""


@dataclass(frozen=True)
class Run:
    """One finished run.

    Attributes:
        path: its folder.
        command: that wrote it.
        name: of the run.
        summary: ``summary.json`` as it is stored.
        config: ``config.yaml``; what it lacks, because it is older than the setting, is what the
            run did without it.
        environment: ``env.json``.
        is_reference: it is one of the project's own runs, not the user's.
        is_copy: of a reference run, among the user's.
        twin: the reference run with the same predictions, where the run is not a copy of one.
    """

    path: Path
    command: str
    name: str
    summary: Mapping[str, Any]
    config: Mapping[str, Any]
    environment: Environment
    is_reference: bool = False
    is_copy: bool = False
    twin: str | None = None

    @property
    def id(self) -> str:
        """Return the folder's place among the results: ``vit-sweep/standard``."""
        return f"{self.command}/{self.name}"

    @property
    def folder(self) -> str:
        """Spell the folder as the notebook does."""
        return f'{"RUNS" if self.is_the_users else "REFERENCE"} / "{self.id}"'

    @property
    def is_the_users(self) -> bool:
        """Tell whether it lies in the user's folder, a copy of a reference run too."""
        return self.is_copy or not self.is_reference

    def read(self, kind: type[S]) -> S:
        """Return what the run found, as its command's own type."""
        return kind.model_validate(self.summary)

    def picture(self, name: str) -> Path | None:
        """Return one of the run's pictures; None where it is not drawn, or cannot be read."""
        path = self.path / f"{name}.png"
        try:
            with Image.open(path, formats=["PNG"]) as picture:
                picture.verify()
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            return None
        return path

    @property
    def machine(self) -> str:
        """Return processor with its widest vectors, or GPU, and the threads."""
        here = self.environment
        own = here.gpu or here.cpu
        places, threads = Counter[str](), Counter[int]()
        for place in here.trained_on:
            name = place.machine.partition(", partly on ")[0]
            places[name] += place.num_trials
            if name == own and place.threads is not None:
                threads[place.threads] += place.num_trials
        if places and own not in places:  # a cluster trained what this machine sent there
            return short_cpu_name(places.most_common(1)[0][0])
        name = here.gpu or (short_cpu_name(here.cpu) if here.cpu else "an unknown machine")
        # What was trained may be older than the run, which only uses it again.
        most = threads.most_common(1)[0][0] if threads else here.threads
        return name + (f", {counted(most, 'thread')}" if most else "")


def read_run(path: Path, *, is_reference: bool = False) -> Run:
    """Read a run folder and check that it is whole.

    Raises:
        DamagedRunError: it is not finished, a part of it failed, or a file is damaged.
    """
    command = path.parent.name
    if not (path / "summary.json").exists():
        raise DamagedRunError("not finished: it has no summary.json")
    if not FOLDER_NAME.fullmatch(path.name):
        raise DamagedRunError("its folder's name cannot be a run's")
    summary = _read(path / "summary.json", read_json)
    for key, expected in (("command", command), ("name", path.name)):
        if summary.get(key) != expected:
            raise DamagedRunError(f"damaged: summary.json is of another {key}")
    if summary.get("status") != "complete":
        raise DamagedRunError("a part of it failed")
    _checked(SUMMARIES[command], summary, "summary.json")
    config = _read(path / "config.yaml", read_yaml)
    if model := CONFIGS.get(command):
        known = {key: value for key, value in config.items() if key in model.model_fields}
        config |= every_value(_checked(model, known, "config.yaml"))
    environment = _checked(Environment, _read(path / "env.json", read_json), "env.json")
    if SUMMARIES[command] is VitSweepSummary:
        try:
            read_record(path)
        except RecordError as error:
            raise DamagedRunError(f"damaged: {str(error).removeprefix(f'{path}/')}") from None
    return Run(path, command, path.name, summary, config, environment, is_reference)


def _read(path: Path, reader: Callable[[Path], Any]) -> dict[str, Any]:
    try:
        content = reader(path)
    except (OSError, ValueError, HwError):
        raise DamagedRunError(f"damaged: {path.name} cannot be read") from None
    if not isinstance(content, dict):
        raise DamagedRunError(f"damaged: {path.name} holds no mapping")
    return content


def _checked(model: type[M], content: Mapping[str, Any], file: str) -> M:
    """Return what a file of a run holds, as its model."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"])) or "settings"
        raise DamagedRunError(f"damaged: {file} has no usable {where!r}") from None


@dataclass(frozen=True)
class Runs:
    """The runs that a report can show, and why others are left out.

    Attributes:
        whole: by ``<command>/<name>``; a user's run comes before a reference run.
        left_out: the reason, by ``<command>/<name>``.
    """

    whole: Mapping[str, Run] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)

    def of(self, command: str, fits: Callable[[Run], bool] = lambda _: True) -> list[Run]:
        """Return the runs of one command: the user's, or the reference runs if there are none.

        Args:
            command: that wrote them.
            fits: tells whether a run can be shown; others are as if they were not there.
        """
        runs = [run for run in self.whole.values() if run.command == command and fits(run)]
        own = [run for run in runs if not run.is_reference]
        return own or runs

    def not_shown(self, command: str, shown: Iterable[Run]) -> list[Run]:
        """Return the user's runs of one command; none where the report shows one of them."""
        if any(run.is_the_users for run in shown if run.command == command):
            return []
        return [run for run in self.whole.values() if run.command == command and run.is_the_users]


def named(name: str, runs: Iterable[Run]) -> Run | None:
    """Return the run of a name."""
    return next((run for run in runs if run.name == name), None)


def newest(runs: Iterable[Run]) -> Run | None:
    """Return the run that was started last; of those of one second, by name."""
    return max(runs, default=None, key=lambda run: (_time_of(run), run.name))


def _time_of(run: Run) -> str:
    """Return when a run was started; of one that does not say it, its file's time.

    A copied file has the time of the copy.
    """
    finished = datetime.fromtimestamp((run.path / "summary.json").stat().st_mtime, UTC)
    return run.environment.started or finished.isoformat(timespec="seconds")


def mark_of(shown: Iterable[Run]) -> str:
    """Say under a question's heading that its runs are the project's; empty for the author's."""
    names = ", ".join(f"`{run.id}`" for run in shown if run.is_reference)
    return f"*Reference run of the hw2 project, not of the author:* {names}." if names else ""


def find_runs(root: Path, reference: Path | None = None, project: Path | None = None) -> Runs:
    """Read every run folder of a user, and the reference runs where asked for.

    Args:
        root: the user's folder, which holds ``<command>/<name>/``.
        reference: the folder of reference runs to show for questions without a run.
        project: the folder of the project's reference runs; a copy of one of them in ``root`` is
            a reference run, too.

    Raises:
        OutputError: the user's folder is not there, or is the folder of one command or run.
    """
    if not root.is_dir():
        raise OutputError(f"runs = {str(root)!r}: no such folder; experiments write one")
    for inner in (root, root.parent):
        if inner.resolve().name in SUMMARIES and not _run_folders(root):
            raise OutputError(
                f"runs = {str(root)!r}: belongs to one experiment; the hand-in needs the folder of "
                f"all of them: --runs {inner.parent}"
            )
    projects = list(_run_folders(project)) if project else []
    published = {_digest(path) for path in projects} - {None}
    predictions = {
        digest: path.name for path in projects if (digest := _predictions(path)) is not None
    }
    whole: dict[str, Run] = {}
    left_out: dict[str, str] = {}
    for folder in (root, reference):
        if folder is None:
            continue
        for path in _run_folders(folder):
            name = f"{path.parent.name}/{path.name}"
            if name in whole:
                continue
            try:
                is_copy = folder is not reference and _digest(path) in published
                run = read_run(path, is_reference=is_copy or folder is reference)
                twin = None if run.is_reference else predictions.get(_predictions(path) or "")
                whole[name] = replace(run, is_copy=is_copy, twin=twin)
            except DamagedRunError as error:
                left_out[name] = str(error)
    return Runs(whole, left_out)


def _digest(path: Path) -> str | None:
    """Return what tells a run from every other; None for one without a summary.

    The environment names the commit, and the summary holds times: no two runs agree in both.
    """
    try:
        files = [(path / name).read_bytes() for name in ("env.json", "summary.json")]
    except OSError:
        return None
    return hashlib.sha256(b"\0".join(files)).hexdigest()


def _predictions(path: Path) -> str | None:
    """Return a digest of what the networks of a sweep say of the test images."""
    file = path / PREDICTIONS
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else None


def _run_folders(root: Path) -> list[Path]:
    return [
        path
        for command in SUMMARIES
        for path in sorted((root / command).glob("*/"))
        if path.name != "trials" and any(path.glob("*.*"))
    ]
