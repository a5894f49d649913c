"""The weights of the best epoch so far, on disk."""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import nn

from hwcli.errors import SourceError
from hwcli.output.files import write_atomic
from hwcli.training.metrics import Mean


class BestEpoch:
    """Keeps the weights of the epoch with the lowest validation loss, on disk.

    A resumed run repeats its last epoch's evaluation at most, which gives the same loss, so the
    file stays what an uninterrupted run would have.
    """

    def __init__(self, path: Path):
        self.path = path

    def start_over(self) -> None:
        """Forget an earlier training, whose losses are no measure for those of a new one."""
        self.path.unlink(missing_ok=True)

    def loss(self) -> float:
        """Return the lowest loss so far; infinity before the first epoch."""
        try:
            with safe_open(self.path, framework="pt") as file:
                return float(json.loads(file.metadata()["valid_loss"]))
        except (OSError, SafetensorError, KeyError, ValueError, TypeError):
            return float("inf")

    def save_if_best(self, model: nn.Module, valid: Mean) -> None:
        """Keep a model's weights if its loss is the lowest yet."""
        if valid.loss < self.loss():
            tensors = {name: t.detach().contiguous() for name, t in model.state_dict().items()}
            write_atomic(self.path, save(tensors, {"valid_loss": json.dumps(valid.loss)}))

    def restore(self, model: nn.Module, lowest_loss: float) -> None:
        """Load the kept weights into the model.

        Args:
            model: that was trained.
            lowest_loss: of all epochs; the file must hold the epoch that had it.

        Raises:
            SourceError: the file is missing, damaged or another epoch's; only training again
                restores it.
        """
        try:
            if self.loss() > lowest_loss:
                raise OSError("another epoch's weights")
            model.load_state_dict(load_file(self.path))
        except (OSError, SafetensorError, RuntimeError):
            raise SourceError(
                f"{self.path}: the best epoch's weights are lost or damaged; remove "
                f"{self.path.parent} and train again"
            ) from None
