"""Every module in hwcli/experiments/ is a whole experiment (hwcli/experiment.py)."""

import importlib
import inspect
from pathlib import Path
from types import ModuleType
from typing import Protocol

import pytest

from hwcli import cli, experiment
from hwcli.config import RunConfig, default_config_path, read_file
from hwcli.output.run_folder import Summary

ROOT = Path(__file__).parents[2]
MODULES = sorted(p.stem for p in ROOT.glob("hwcli/experiments/*.py") if p.stem != "__init__")


@pytest.fixture(params=MODULES)
def module(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(f"hwcli.experiments.{request.param}")


def test_an_experiment_has_all_that_the_protocol_names(module: ModuleType) -> None:
    wanted = {name for name in vars(experiment.Experiment) if not name.startswith("_")}
    wanted |= set(experiment.Experiment.__annotations__)
    assert wanted >= {"COMMAND", "Config", "RunSummary", "run", "plan"}
    assert {name for name in wanted if not hasattr(module, name)} == set()
    assert issubclass(module.Config, RunConfig)
    assert issubclass(module.RunSummary, Summary)
    for name in ("run", "plan"):
        parameters = list(inspect.signature(getattr(module, name)).parameters)
        assert parameters == ["config", "folder"], name
    assert issubclass(experiment.Experiment, Protocol)  # type: ignore[arg-type]


def test_its_command_yaml_and_function_share_its_name(module: ModuleType) -> None:
    name = module.__name__.rpartition(".")[2]
    assert name.replace("_", "-") == module.COMMAND
    assert default_config_path(module.COMMAND) == ROOT / "configs" / f"{name}.yaml"
    assert module.COMMAND in cli.COMMANDS
    assert read_file(default_config_path(module.COMMAND)).values


def test_every_command_line_experiment_is_a_module() -> None:
    assert sorted(command.replace("-", "_") for command in cli.COMMANDS) == MODULES


def test_an_experiment_is_one_file_that_can_be_read(module: ModuleType) -> None:
    source = inspect.getsource(module)
    assert len(source.splitlines()) <= 450
    assert len(inspect.getsource(module.run).splitlines()) < 60
    assert "from hwcli.experiments" not in source


def test_an_experiment_has_a_page_in_the_docs(module: ModuleType) -> None:
    """The page is called after the command or its first word, which is the question."""
    names = {f"{module.COMMAND}.md", f"{module.COMMAND.partition('-')[0]}.md"}
    pages = [path for path in (ROOT / "docs").glob("*.md") if path.name in names]
    assert len(pages) == 1
    assert f"hw2 {module.COMMAND}" in pages[0].read_text(encoding="utf-8")
