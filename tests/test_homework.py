"""One command for all four questions: what it runs, what it reuses, and what a failure leaves."""

import importlib.util
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from hwcli import homework
from hwcli.cli import experiment_command
from hwcli.config import dump_yaml, load
from hwcli.errors import ConfigError, HwError, SourceError
from hwcli.experiment import Plan
from hwcli.experiments import attention_bench, rnn_trace, sentiment_train, vit_sweep
from hwcli.report import make

MODULES = {
    module.COMMAND: module for module in (rnn_trace, attention_bench, vit_sweep, sentiment_train)
}


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """What the hand-in is made with; nothing is made."""
    told: dict[str, Any] = {}

    def build(runs: Path, out: Path, **more: Any) -> list[Path]:
        told.update(more, runs=runs, out=out)
        return [tmp_path / "hw2.pdf"]

    monkeypatch.setattr(make, "build", build)
    return told


@pytest.fixture
def ran(built: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """The commands that are run; each leaves a finished run, vit-sweep fails."""
    commands: list[list[str]] = []

    def hw2(arguments: Sequence[str]) -> int:
        commands.append(list(arguments))
        part = next(p for p in homework.PRESETS["quick"] if p.command == arguments[0])
        if part.command == "vit-sweep":
            return 1
        finish(tmp_path, part)
        return 0

    monkeypatch.setattr(homework, "_hw2", hw2)
    return commands


def finish(
    out: Path, part: homework.Part, settings: dict[str, str | int | bool] | None = None
) -> None:
    folder = out / part.command / part.name
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps({"status": "complete"}))
    module = MODULES[part.command]
    config = load(
        module.Config, part.command, preset=part.preset, flags={**part.values, **(settings or {})}
    )
    (folder / "config.yaml").write_text(dump_yaml(config))


def test_a_failed_part_leaves_the_others_and_the_hand_in(
    ran: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert homework.run("quick", tmp_path) == 1
    assert [arguments[0] for arguments in ran] == list(MODULES)
    shown = capsys.readouterr()
    assert str(tmp_path / "hw2.pdf") in shown.out
    assert "part 3 of 5, question 3: vit-sweep failed" in shown.err


def test_the_hand_in_has_the_name_and_words_that_were_given(
    ran: list[list[str]], built: dict[str, Any], hw2: Callable[..., int], tmp_path: Path
) -> None:
    given = ["--author", "Ada", "--acknowledge", "Bob.", "--acknowledge", "A book."]
    assert hw2("homework", "--out", str(tmp_path), *given) == 1
    assert (built["author"], built["acknowledged"]) == ("Ada", ["Bob.", "A book."])
    assert built["formats"] == ("ipynb", "pdf", "html")
    assert (built["runs"], built["out"]) == (tmp_path, tmp_path)


@pytest.mark.parametrize("package", ["ipykernel", "pypandoc", "typst"])
def test_a_package_that_the_hand_in_lacks_is_named_before_anything_is_trained(
    package: str, ran: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    find = importlib.util.find_spec

    def find_others(name: str, *more: str) -> Any:
        return None if name == package else find(name, *more)

    monkeypatch.setattr(importlib.util, "find_spec", find_others)
    with pytest.raises(HwError, match=f"needs the package {package}; run make report"):
        homework.run("quick", tmp_path)
    assert ran == []


def test_finished_parts_are_reused(ran: list[list[str]], tmp_path: Path) -> None:
    finish(tmp_path, homework.PRESETS["quick"][0])
    finish(tmp_path, homework.PRESETS["quick"][2])
    assert homework.run("quick", tmp_path) == 0
    assert [arguments[0] for arguments in ran] == ["attention-bench", "sentiment-train"]


@pytest.mark.parametrize(
    ("number", "settings", "line"),
    [
        (1, {"causal": True}, "causal True, not False"),
        (2, {"data.train_limit": 2000}, "data.train_limit 2000, not None"),
        (3, {"split.train_limit": 300}, "split.train_limit 300, not"),
    ],
)
def test_a_run_with_other_settings_is_kept_and_told(
    ran: list[list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    number: int,
    settings: dict[str, str | int | bool],
    line: str,
) -> None:
    parts = homework.PRESETS["quick"]
    for part in parts:
        finish(tmp_path, part, settings if part is parts[number] else None)
    assert homework.run("quick", tmp_path) == 0
    assert ran == []
    shown = capsys.readouterr()
    assert f"already done, reused as it is ({line}" in shown.err
    assert f"hw2 {parts[number].command} " in shown.err
    assert "--replace" in shown.err
    assert "differs" in shown.out


def test_a_part_of_the_grid_is_extended_and_what_holds_it_all_is_reused(
    ran: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = homework.PRESETS["quick"]
    for part in parts:
        finish(tmp_path, part, {"layers": "4", "heads": "2"} if part is parts[2] else None)
    # The command fails here, and the smaller grid that is finished is not the part's.
    assert homework.run("quick", tmp_path) == 1
    assert [arguments[0] for arguments in ran] == ["vit-sweep"]
    assert "vit-sweep failed (exit code 1)" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "vit-sweep")
    ran.clear()
    finish(tmp_path, parts[2], {"seeds": "0..2", "device": "cpu", "precision": "float32"})
    assert homework.run("quick", tmp_path) == 0
    assert ran == []
    assert "differs" not in capsys.readouterr().out


def test_a_stopped_part_stops_the_homework(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(homework, "_hw2", lambda arguments: 130)
    assert homework.run("quick", tmp_path) == 130


def test_a_part_is_a_command_of_its_own(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    part = homework.PRESETS["quick"][0]
    assert not part.is_done(tmp_path)
    assert homework._hw2([*part.arguments(tmp_path), "--length", "10"]) == 0
    assert part.is_done(tmp_path)
    shown = capfd.readouterr()
    assert shown.out.splitlines()[-1] == str(tmp_path / part.command / part.name / "summary.json")
    assert homework._hw2([part.command, "--length", "none"]) == 2
    assert capfd.readouterr().err.startswith("error: length = 'none': ")


def test_a_part_does_not_outlive_a_homework_that_is_killed(waiting_command: list[str]) -> None:
    program = "import sys; from hwcli import homework; homework._hw2(sys.argv[1:])"
    with subprocess.Popen(
        [sys.executable, "-c", program, *waiting_command],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL),
    ) as killed:
        assert killed.stderr is not None
        assert "waiting" in killed.stderr.readline()
        killed.kill()
        # The stream is the part's, too: it is gone when that ends.
        killed.communicate(timeout=30)
    assert killed.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_sigterm_stops_the_part_that_runs_and_then_the_homework(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "hwcli", "homework", "--out", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever started the tests may have it ignored.
        preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL),
    ) as program:
        # Question 2 measures for minutes.
        while not (tmp_path / "attention-bench/default/config.yaml").exists():
            assert program.poll() is None
            time.sleep(0.05)
        program.terminate()
        # Both streams are the part's, too: it is gone when they end.
        _, told = program.communicate(timeout=60)
    assert program.returncode == 143
    part, own = told.splitlines()[-2:]
    assert part == attention_bench.WHEN_STOPPED
    assert own == "stopped; run the same command again to continue"
    assert homework.PRESETS["quick"][0].is_done(tmp_path)
    assert not homework.PRESETS["quick"][1].is_done(tmp_path)


@pytest.mark.parametrize("preset", homework.PRESETS)
def test_every_part_is_a_command_line_that_means_its_config(
    preset: str, hw2: Callable[..., int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def build_config(module: str, flags: dict[str, object], **common: Any) -> None:
        command = module.replace("_", "-")
        config = load(MODULES[command].Config, command, preset=common["preset"], flags=flags)
        built.append((common["out"], config))

    built: list[tuple[Path, Any]] = []
    monkeypatch.setattr(experiment_command, "run", build_config)
    for part in homework.PRESETS[preset]:
        assert hw2(*part.arguments(tmp_path)) == 0
        assert built.pop() == (tmp_path, part._config())


def test_a_dry_run_asks_every_missing_part(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(tmp_path, homework.PRESETS["quick"][1])
    needed = Plan("a table", seconds=600, memory_bytes=2 * 10**9, disk_bytes=10**6)
    monkeypatch.setattr(vit_sweep, "plan", lambda config, folder: needed)

    def refused(config: object, folder: object) -> Plan:
        raise SourceError("no reviews here")

    monkeypatch.setattr(sentiment_train, "plan", refused)
    homework.plan("quick", tmp_path)
    shown = capsys.readouterr()
    rows = [line.split()[:2] for line in shown.out.splitlines() if line.strip()[:1].isdigit()]
    assert rows == [["1", "missing"], ["2", "finished"], ["3", "missing"], ["4", "blocked"]]
    assert "10 min 00 s 2.0 GB 1 MB" in " ".join(shown.out.split())
    assert "About 11 min" in shown.out
    assert "question 4: no reviews here" in shown.err
    assert not (tmp_path / "rnn-trace").exists()


@pytest.mark.parametrize("preset", homework.PRESETS)
def test_every_part_names_a_preset_that_is_there_and_its_run(preset: str) -> None:
    for part in homework.PRESETS[preset]:
        module = MODULES[part.command]
        config = load(module.Config, module.COMMAND, preset=part.preset, flags=part.values)
        assert config.name == part.name


def test_an_unknown_preset_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="choices: quick, standard"):
        homework.run("slow", tmp_path)
