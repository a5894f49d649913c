"""A leading ~ is the home folder wherever a path is named, not only where the shell sees it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from hwcli.config import load
from hwcli.experiments import vit_sweep
from hwcli.paths import named_path
from hwcli.rnn.expectations import read_property
from hwcli.rnn.letters import BITS, Alphabet


def test_a_leading_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert named_path("~/runs") == Path("/home/ada/runs")
    assert named_path("a/~/b") == Path("a/~/b")
    assert named_path("~nobody-of-this-name/x") == Path("~nobody-of-this-name/x")


def test_options_and_configs_take_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hw2: Callable[..., int]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "ada"))
    assert hw2("rnn-trace", "--out=~/results", "--quiet") == 0
    summary = tmp_path / "ada/results/rnn-trace/alternating-sum/summary.json"
    assert json.loads(summary.read_text())["status"] == "complete"
    assert [path.name for path in tmp_path.iterdir()] == ["ada"]
    (tmp_path / "mine.yaml").write_text("data_path: ~/fashion\n")
    config = load(vit_sweep.Config, vit_sweep.COMMAND, path=tmp_path / "mine.yaml")
    assert config.data_path == tmp_path / "ada/fashion"


ODD_NUMBER_OF_ONES = """
start: even
states:
  even: {output: 0, next: {0: even, 1: odd}}
  odd: {output: 1, next: {0: odd, 1: even}}
"""


def test_an_exercise_and_a_machine_are_found_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hw2: Callable[..., int]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "exercise.yaml").write_text("w_in: 1\nw_rec: 1\nw_out: 1\n")
    assert hw2("rnn-trace", "--spec=~/exercise.yaml", "--dry-run", "--out", str(tmp_path)) == 0
    (tmp_path / "odd.yaml").write_text(ODD_NUMBER_OF_ONES)
    machine = read_property("~/odd.yaml", Alphabet(BITS)).machine
    assert machine is not None
    assert machine.run([(1,), (0,), (1,), (1,)]) == 1
