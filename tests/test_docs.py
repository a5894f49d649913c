"""Every command line that the documents show is one that the program takes."""

import importlib
import re
import shlex
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import typer

from hwcli import cli
from hwcli.cli import experiment_command
from hwcli.config import load
from hwcli.errors import ConfigError

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("configs/*.yaml")]
# A word that stands for another, as in `hw2 data fetch NAME`.
PLACEHOLDER = re.compile(r"\b[A-Z]{3,}\b|\.\.\.|…|\[")


def command_lines(page: Path) -> set[str]:
    """Return a page's ``hw2 ...`` lines: of code blocks, in back quotes, of a YAML's comments."""
    text = page.read_text().replace("\\\n", " ")
    blocks = "\n".join(re.findall(r"^```[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    shown = text if page.suffix == ".yaml" else blocks
    lines = re.findall(r"^(?:\$ |#? *(?:Command: )?)(hw2 [^\n]+)", shown, re.MULTILINE)
    inline = re.findall(r"`(hw2 [^`\n]+)`", text)
    found = {re.split(r":(?:\s|$)|\s+#|\s\s+|[|>&;]|\s*$", line)[0] for line in [*lines, *inline]}
    return {line for line in found if not PLACEHOLDER.search(line)}


SHOWN = sorted(
    {
        (line, str(page.relative_to(ROOT)))
        for page in PAGES
        for line in command_lines(page)
        # The guide's own example is no command.
        if "coin" not in line
    }
)


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
    with pytest.raises(typer.Exit) if "--list-presets" in arguments else nullcontext():
        context = command.make_context(name, list(arguments))
        if name in cli.COMMANDS:
            # A file that a user would write is not there.
            spec = "--spec" in arguments
            with pytest.raises(ConfigError, match="no such file") if spec else nullcontext():
                command.invoke(context)
