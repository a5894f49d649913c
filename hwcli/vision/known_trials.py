"""What is known of a sweep's trials: by the store of all sweeps, and by the folder of this run."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hwcli.output import terminal
from hwcli.output.files import read_mapping
from hwcli.output.run_folder import RunFolder
from hwcli.sweep.store import TrialStore
from hwcli.training.progress import Epoch
from hwcli.vision.cells import LabelArray, Predictions, TrialRecord
from hwcli.vision.places import TrainedOn
from hwcli.vision.record import SweepRecord, read_known, read_predictions, read_trial


class KnownTrials:
    """Reads trials; what does not fit its files is told once and not used.

    A run keeps the results that its folder has. They may be of another machine, or of a trial that
    is damaged in the store.

    Args:
        folder: of the run.
        store: where its trials are trained.

    Attributes:
        in_folder: what the run's folder had.
    """

    def __init__(self, folder: RunFolder, store: TrialStore):
        self._folder, self._store = folder, store
        self._told: set[str] = set()
        self._trained_elsewhere: set[str] = set()
        self.read_folder()

    def read_folder(self) -> None:
        """Read the run's folder again: another process may have finished a run meanwhile."""
        self.in_folder: SweepRecord = read_known(self._folder.path)
        self._kept = self.in_folder.done()

    def read(
        self, blank: TrialRecord, name: str, labels: LabelArray
    ) -> tuple[TrialRecord, Predictions | None, Sequence[Epoch]]:
        """Return a trial as it is now, its predictions of the test images and its epochs.

        Args:
            blank: the trial, as missing, to be filled in.
            name: for a line about it.
            labels: (N,) true classes of the test images.
        """
        folder = self._store.folder(blank.id)
        stored, predictions, epochs = read_trial(blank, folder, labels)
        kept = self._kept.get(blank.id)
        if kept is None or (self._folder.may_replace and stored.state == "done"):
            if stored.state == "damaged":
                self._tell(
                    name, f"not used: {stored.reason}; delete {folder.path} to train it again"
                )
            elif stored.state == "missing" and stored.reason is not None:
                has_weights = folder.checkpoint.is_file()
                again = "its network is tested again" if has_weights else "it is trained again"
                self._tell(name, f"{stored.reason}; {again}")
            return stored, predictions, epochs
        its_epochs = self.in_folder.epochs.get(blank.id, ())
        if stored.result is None:
            if stored.reason is not None:
                self._tell(name, f"{stored.reason}; using its copy in {self._folder.path}")
        elif stored.result.is_same_training_as(kept.result):
            its_epochs = max(epochs, its_epochs, key=len)
        else:
            self._trained_elsewhere.add(blank.id)
            self._tell(
                name,
                "this run keeps its own result; --replace takes that of another training, "
                f"{folder.path}",
            )
        return replace(kept, point=blank.point), self.in_folder.predictions[blank.id], its_epochs

    def state(self, found: TrialRecord) -> str:
        """Return the state of a trial that was read, as it is now."""
        if found.state == "done":
            return "done"
        state = self._store.folder(found.id).state()
        has_lost_predictions = found.state == "missing" and state == "done"
        return "interrupted" if has_lost_predictions else state

    def has_begun(self, trial_id: str) -> bool:
        """Tell whether the store has the trial of an id, or finished epochs of it."""
        return self._store.folder(trial_id).state() in ("done", "running", "interrupted")

    def begun_by(self, found: Sequence[TrialRecord]) -> list[TrainedOn]:
        """Return what trained the trials so far that were interrupted."""
        places = []
        for trial in found:
            folder = self._store.folder(trial.id)
            if trial.state != "missing" or folder.state() != "interrupted":
                continue
            if environment := read_mapping(folder.environment):
                places.append(TrainedOn.from_environment(environment))
        return places

    def checkpoint(self, found: TrialRecord) -> Path | None:
        """Return the file of a trial's weights; None where the store's are of another training."""
        elsewhere = found.id in self._trained_elsewhere
        return None if elsewhere else self._store.folder(found.id).checkpoint

    def forget_what_lost_its_predictions(self, found: Sequence[TrialRecord]) -> None:
        """Let networks be tested again whose predictions are gone.

        Raises:
            OutputError: a folder cannot be written.
        """
        for trial in found:
            if trial.state == "missing" and trial.reason is not None:
                folder = self._store.folder(trial.id)
                with folder.own(0) as owned:
                    # Another process may have tested it meanwhile.
                    if owned.taken and read_predictions(folder.predictions) is None:
                        folder.forget_result()

    def _tell(self, name: str, text: str) -> None:
        if name not in self._told:
            self._told.add(name)
            terminal.log(f"{name}: {text}")
