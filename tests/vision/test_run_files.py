"""What a run folder keeps where the machine, or the command, would train other networks."""

from pathlib import Path
from typing import Any

import pytest

from hwcli.errors import OutputError
from hwcli.output.run_folder import RunFolder
from hwcli.vision.record import SweepRecord
from hwcli.vision.run_files import Identity, note_on_machine_settings, refuse_other_networks
from tests.vision.made_up import record

ON_CPU = {"device": "cpu", "precision": "bfloat16", "kernels": "compiled"}
ON_GPU = {"device": "cuda", "precision": "bfloat16", "kernels": "torch"}
GRID: Any = {(1, 2): [820, 821], (2, 2): [822, 823]}


def identities(found: SweepRecord) -> dict[str, Identity]:
    return {trial.id: trial.identity for trial in found.trials}


def refusal(known: SweepRecord, own: SweepRecord, tmp_path: Path) -> str:
    folder = RunFolder(tmp_path, "vit-sweep", "standard")
    with pytest.raises(OutputError) as refused:
        refuse_other_networks(folder, known, identities(own))
    return str(refused.value)


def test_the_command_that_adds_to_a_run_is_not_refused_again(tmp_path: Path) -> None:
    there, here = record(GRID, **ON_CPU), record(GRID, **ON_GPU)
    line = refusal(there, here, tmp_path)
    assert "(device cpu there, cuda here, kernels compiled there, torch here)" in line
    # Of the precision, too: ``auto`` may mean another one on the device that is named.
    assert "--set device=cpu --set precision=bfloat16 --set kernels=compiled, where this" in line


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"epochs": 7}, "(epochs 2 there, 7 here)"),
        ({"epochs": 7, **ON_GPU}, "(epochs 2 there, 7 here, device cpu there, cuda here, "),
        ({"augmentation": {"early_tokens": 0.5}}, "augmentation.early_tokens 1.0 there, 0.5 here"),
        ({"model": {"width": 24}}, "(model.mlp_width 17 there, "),
    ],
)
def test_a_run_of_other_settings_is_refused_by_what_differs(
    more: dict[str, Any], said: str, tmp_path: Path
) -> None:
    line = refusal(record(GRID, **ON_CPU), record(GRID, **{**ON_CPU, **more}), tmp_path)
    assert said in line
    assert "other data" not in line
    assert "--set" not in line  # the same settings are no longer enough
    assert "choose another name with --name" in line


def test_a_narrower_grid_and_other_data_are_named(tmp_path: Path) -> None:
    assert "(layers 1 there, 2 here)" in refusal(
        record(GRID), record({(2, 2): [822, 823]}), tmp_path
    )
    moved = record(GRID)
    for trial in moved.trials:
        object.__setattr__(trial, "identity", {**trial.identity, "data": "x"})
        object.__setattr__(trial, "id", f"moved {trial.id}")
    assert "(other data)" in refusal(record(GRID), moved, tmp_path)


def test_a_run_that_was_begun_on_another_device_is_told() -> None:
    there, here = record(GRID, **ON_GPU), record(GRID, **ON_CPU)
    assert note_on_machine_settings(there, identities(here), lambda trial_id: True) == (
        "4 trials of this run were begun with device cuda, kernels torch, and would begin again "
        "here with device cpu, kernels compiled; --set device=cuda --set precision=bfloat16 --set "
        "kernels=torch goes on with what is there, where this machine can."
    )
    first = there.trials[0].id
    told = note_on_machine_settings(there, identities(here), lambda trial_id: trial_id == first)
    assert told is not None
    assert told.startswith("1 trial of this run was begun with device cuda, ")
    assert note_on_machine_settings(there, identities(here), lambda trial_id: False) is None
    assert note_on_machine_settings(here, identities(here), lambda trial_id: True) is None
    # Other settings are no matter of the machine.
    longer = identities(record(GRID, epochs=7, **ON_CPU))
    assert note_on_machine_settings(there, longer, lambda trial_id: True) is None
