"""Where a training run stands, in one safetensors file: enough to continue bit for bit.

Tensors are the model's, the optimisers' and the random generator's (as uint8); everything else
(steps, position in the data, history) is JSON in the file's metadata, next to a digest of all of
it. Nothing is pickled.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from hwcli.output.files import write_atomic

FORMAT = "hw2 checkpoint 2"


def save_checkpoint(
    path: Path,
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    position: dict[str, Any],
) -> None:
    """Write a checkpoint in one step.

    Args:
        path: the file.
        model: its ``state_dict`` is stored, buffers included.
        optimizers: the states of all of them, in this order.
        position: JSON: where in the data and the schedule the run stands, and its history.
    """
    tensors = {f"model/{name}": tensor for name, tensor in model.state_dict().items()}
    for index, optimizer in enumerate(optimizers):
        for parameter, entries in optimizer.state_dict()["state"].items():
            for name, value in entries.items():
                tensors[f"optimizer/{index}/{parameter}/{name}"] = torch.as_tensor(value)
    tensors["random/cpu"] = torch.get_rng_state()
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        tensors["random/cuda"] = torch.cuda.get_rng_state()
    if torch.backends.mps.is_available():
        tensors["random/mps"] = torch.mps.get_rng_state()
    whole = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(position)
    metadata = {"format": FORMAT, "position": text, "sha256": _digest(whole, text)}
    write_atomic(path, save(whole, metadata))


def restore_checkpoint(
    path: Path, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]
) -> dict[str, Any] | None:
    """Load a checkpoint into a model and its optimisers, and return the position stored with it.

    Everything is checked before anything is loaded. Returns None and changes nothing if there is
    no file, if its digest does not match, or if it belongs to another model: the run then starts
    over, which costs time and never correctness.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                return None
            position: dict[str, Any] = json.loads(metadata["position"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if metadata["sha256"] != _digest(tensors, metadata["position"]):
                return None
    except (OSError, SafetensorError, ValueError, KeyError):
        return None
    weights = _under("model/", tensors)
    own = model.state_dict()
    if {k: v.shape for k, v in weights.items()} != {k: v.shape for k, v in own.items()}:
        return None
    # Copied into the tensors that are there: those of the file may be aligned in another way,
    # and some kernels round differently on them.
    model.load_state_dict(weights)
    for index, optimizer in enumerate(optimizers):
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in _under(f"optimizer/{index}/", tensors).items():
            parameter, name = key.split("/")
            state.setdefault(int(parameter), {})[name] = tensor.clone()
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    torch.set_rng_state(tensors["random/cpu"].clone())
    if "random/cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["random/cuda"].clone())
    if "random/mps" in tensors and torch.backends.mps.is_available():
        torch.mps.set_rng_state(tensors["random/mps"].clone())
    return position


def _digest(tensors: Mapping[str, Tensor], position: str) -> str:
    """Return the SHA-256 of all that a checkpoint holds."""
    digest = hashlib.sha256(position.encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
