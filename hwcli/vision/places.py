"""Where networks were trained and by which software, and what is said of it."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from pydantic import ConfigDict, Field

from hwcli.config import Section
from hwcli.output.units import counted

CODE_DIGITS = 7  # of a digest of the code, as of a commit: what is shown


class TrainedOn(Section):
    """The machine and the code that trained a network: on another, numbers differ like a seed's.

    Attributes:
        processor: its name and the vector instructions that kernels use.
        gpu: its name, where it was trained on one.
        partly_on: other machines, or this one with other threads, that trained some of its epochs;
            it was resumed here.
        partly_by: other code, or another torch, that trained some of its epochs.
        emulated_bfloat16: whether it computed in bfloat16 on a GPU that has none in hardware.
        threads: that it was trained with.
        commit: of the code; None where it was installed without a repository.
        dirty: whether the code had changes that no commit has.
        code: digest of the files that a trial's numbers come from; None in results of earlier code.
        versions: of Python and of the packages that compute.
    """

    model_config = ConfigDict(extra="ignore")

    processor: str
    gpu: str | None = None
    partly_on: str | None = Field(None, exclude_if=lambda others: others is None)
    partly_by: str | None = Field(None, exclude_if=lambda others: others is None)
    emulated_bfloat16: bool = Field(False, exclude_if=lambda emulated: not emulated)
    threads: int | None = None
    commit: str | None = None
    dirty: bool | None = None
    code: str | None = Field(None, exclude_if=lambda digest: digest is None)
    versions: dict[str, str] = Field(default_factory=dict)

    @classmethod
    def from_environment(cls, environment: Mapping[str, Any]) -> Self:
        """Take what matters from an ``env.json``."""
        versions = environment.get("versions") or {}
        named = {"hw2": environment.get("hw2"), "python": environment.get("python")}
        named |= {name: versions.get(name) for name in ("torch", "numpy")}
        return cls(
            processor=environment.get("cpu", "unknown processor"),
            gpu=environment.get("gpu"),
            partly_on=environment.get("partly_on"),
            partly_by=environment.get("partly_by"),
            emulated_bfloat16=environment.get("bfloat16") == "emulated",
            threads=environment.get("threads"),
            commit=environment.get("commit"),
            dirty=environment.get("dirty"),
            code=environment.get("code"),
            versions={name: version for name, version in named.items() if version is not None},
        )

    @property
    def machine(self) -> str:
        """Return what trained the network: the GPU, else the processor."""
        return self._own if self.partly_on is None else f"{self._own}, partly on {self.partly_on}"

    @property
    def _own(self) -> str:
        return self.processor if self.gpu is None else self.gpu

    @property
    def num_threads(self) -> int:
        """Return how many threads of the processor trained it; 1 on a GPU, where they wait."""
        return 1 if self.gpu is not None else self.threads or 1

    @property
    def timed_on(self) -> str:
        """Return what the training time belongs to: the machine and its threads."""
        return _with_threads(self.machine, self.num_threads)

    @property
    def software(self) -> str:
        """Name the code and the library that computed."""
        own = self._own_software
        return own if self.partly_by is None else f"{own}, partly by {self.partly_by}"

    @property
    def _own_software(self) -> str:
        return f"{self._commit}, {self._torch}"

    @property
    def _commit(self) -> str:
        commit = "unknown commit" if self.commit is None else f"commit {self.commit[:7]}"
        return f"{commit} with changes" if self.dirty else commit

    @property
    def _torch(self) -> str:
        return f"torch {self.versions.get('torch', 'unknown')}"

    @property
    def _torch_and_code(self) -> str:
        code = "" if self.code is None else f", code {self.code[:CODE_DIGITS]}"
        return f"{self._torch}{code}"

    @property
    def _exact_software(self) -> str:
        """Name the software by the digest of its code, too: a commit may have been edited."""
        return f"{self._commit}, {self._torch_and_code}"

    def differs_in_software(self, here: "TrainedOn") -> bool:
        """Tell whether other code or another torch trained a network, or some of its epochs."""
        return self.partly_by is not None or self._is_by_other_software(here)

    def _is_by_other_software(self, here: "TrainedOn") -> bool:
        """Tell whether its last epochs are of other software, as far as it is known."""
        ours, theirs = here.versions.get("torch"), self.versions.get("torch")
        return (self.code or here.code) != here.code or (theirs or ours) != ours

    def resumed_by(self, here: "TrainedOn") -> str | None:
        """Name the software that trained a network before this one resumed it, but for this one."""
        before = set() if self.partly_by is None else set(self.partly_by.split(" and "))
        if self._is_by_other_software(here):
            before.add(self._exact_software)
        if here.code is not None:  # the same code under another commit is no other software
            before = {each for each in before if not each.endswith(here._torch_and_code)}
        return " and ".join(sorted(before - {here._exact_software})) or None

    def resumed_on(self, here: "TrainedOn") -> str | None:
        """Name what a network was timed on before it was resumed here, but for this."""
        before = {_with_threads(self._own, self.num_threads)}
        if self.partly_on is not None:
            before |= set(self.partly_on.split(" and "))
        others = before - {here.timed_on}
        return " and ".join(sorted(others)) or None


def _with_threads(machine: str, threads: int | None) -> str:
    own, partly, others = machine.partition(", partly on ")
    return machine if threads in (None, 1) else f"{own} with {threads} threads{partly}{others}"


def notes_on_software(
    done: Sequence[TrainedOn], begun: Sequence[TrainedOn], environment: Mapping[str, Any]
) -> list[str]:
    """Say that other code or another torch trained what is used again, or what goes on.

    Args:
        done: what trained the trials of a sweep that are done.
        begun: what trained those so far that were interrupted.
        environment: an ``env.json`` of what would train now.
    """
    here = TrainedOn.from_environment(environment)
    notes = []
    if others := [place for place in done if place.differs_in_software(here)]:
        notes.append(
            f"trained by other software: {len(others)} of them ({_names_of(others, here)}); "
            "--out FOLDER trains all of them again"
        )
    if others := [place for place in begun if place.differs_in_software(here)]:
        notes.append(
            f"begun by other software: {counted(len(others), 'trial')} "
            f"({_names_of(others, here)}), to go on from the last epoch; "
            "--out FOLDER trains everything again"
        )
    return notes


def _names_of(others: Sequence[TrainedOn], here: TrainedOn) -> str:
    names = {place.software for place in others}
    now = "edited since" if names == {here.software} else f"now {here.software}"
    return f"{', '.join(sorted(names))}; {now}"


def note_on_emulation(gpus: Sequence[str]) -> str:
    """Say that GPUs without bfloat16 in hardware computed in it."""
    return (
        f"bfloat16 is emulated, which is slow, on {', '.join(gpus)}: no such hardware; "
        "--set precision=float32 avoids that."
    )


class TrainingPlace(Section):
    """A machine and the software that trained some of a sweep's networks.

    Attributes:
        machine: processor or GPU.
        threads: of the processor; None in results of earlier code.
        commit: of the code.
        dirty: whether the code had changes that no commit has.
        num_trials: that were trained so.
        emulated_bfloat16: as in :class:`TrainedOn`.
        torch: its version; None where all networks of the sweep have the same.
        code: digest of the code that computes; None where all have the same.
        partly_by: as in :class:`TrainedOn`.
    """

    machine: str
    threads: int | None = Field(None, exclude_if=lambda number: number is None)
    commit: str | None
    dirty: bool | None
    num_trials: int
    emulated_bfloat16: bool = Field(False, exclude_if=lambda emulated: not emulated)
    torch: str | None = Field(None, exclude_if=lambda version: version is None)
    code: str | None = Field(None, exclude_if=lambda digest: digest is None)
    partly_by: str | None = Field(None, exclude_if=lambda others: others is None)


def training_places(found: Sequence[TrainedOn]) -> list[TrainingPlace]:
    """Count the networks of each machine and software, the largest number first."""
    # What all have in common, or what only some results say, tells no places apart.
    has_several_torches = len({place.versions.get("torch") for place in found} - {None}) > 1
    has_several_codes = len({place.code for place in found} - {None}) > 1
    counts = Counter(
        TrainingPlace(
            machine=place.machine,
            threads=place.num_threads,
            commit=place.commit,
            dirty=place.dirty,
            num_trials=1,
            emulated_bfloat16=place.emulated_bfloat16,
            torch=place.versions.get("torch") if has_several_torches else None,
            code=place.code if has_several_codes else None,
            partly_by=place.partly_by,
        )
        for place in found
    )
    return [
        place.model_copy(update={"num_trials": number}) for place, number in counts.most_common()
    ]


def describe_places(places: Sequence[TrainingPlace]) -> str | None:
    """Say where networks were trained; None where it is one machine and one state of the code."""
    mixed = sum(place.num_trials for place in places if place.partly_by is not None)
    if len(places) < 2 and not mixed:
        return None
    machines = _count(places, lambda place: _with_threads(place.machine, place.threads))
    text = "Networks trained: "
    text += ", ".join(f"{number} on {machine}" for machine, number in machines.items())
    for name, of in (
        ("commits", _commit_of),
        ("torch", lambda place: place.torch or "unknown"),
        ("versions of the code", lambda place: (place.code or "unknown")[:CODE_DIGITS]),
    ):
        counts = _count(places, of)
        if len(counts) > 1:
            text += f"; {name} " + ", ".join(f"{one} ({n})" for one, n in counts.items())
    if mixed:
        others = sorted({place.partly_by for place in places if place.partly_by is not None})
        text += f"; {mixed} of them partly by {', '.join(others)}"
    if len(machines) > 1:
        most = max(machines, key=lambda machine: machines[machine])
        text += f". Training times are those of {most} only"
    return f"{text}."


def _count(places: Sequence[TrainingPlace], of: Callable[[TrainingPlace], str]) -> dict[str, int]:
    """Count trials by what a place has."""
    counts: dict[str, int] = {}
    for place in places:
        counts[of(place)] = counts.get(of(place), 0) + place.num_trials
    return counts


def _commit_of(place: TrainingPlace) -> str:
    return (place.commit or "unknown")[:10] + ("+" if place.dirty else "")
