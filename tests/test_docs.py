"""Every command line that the documents show is one that the program takes."""

import importlib
import re
import shlex
from contextlib import nullcontext
from typing import Any

import pytest
import typer

from hwcli import cli
from hwcli.cli import experiment_command
from hwcli.config import load
from hwcli.errors import ConfigError
from tests.shown_lines import ROOT, SHOWN


def test_the_readmes_python_runs_as_printed(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("For even T and integer inputs, y_T is 1 ")


def test_there_are_lines_to_look_at() -> None:
    assert len(SHOWN) > 20


@pytest.mark.parametrize(("line", "page"), SHOWN)
def test_a_shown_command_line_is_taken(
    line: str, page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build_config(module: str, flags: dict[str, object], **common: Any) -> None:
        experiment = importlib.import_module(f"hwcli.experiments.{module}")
        load(
            experiment.Config,
            experiment.COMMAND,
            path=common["config"],
            preset=common["preset"],
            flags=flags,
            overrides=common["settings"] or (),
        )

    monkeypatch.setattr(experiment_command, "run", build_config)
    monkeypatch.chdir(ROOT)
    _, name, *arguments = shlex.split(line)
    group: Any = typer.main.get_command(cli.app)
    if name.startswith("--"):
        assert name == "--help" or any(name in option.opts for option in group.params)
        return
    command = group.commands[name]
    if name == "config" and not arguments:
        return
    context = command.make_context(name, list(arguments))
    if name in cli.COMMANDS:
        # A file that a user would write is not there.
        spec = "--spec" in arguments
        with pytest.raises(ConfigError, match="no such file") if spec else nullcontext():
            command.invoke(context)
