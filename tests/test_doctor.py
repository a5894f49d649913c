import errno
import json
import re
import shutil
import sys
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from hwcli import cli, doctor, processor, resources, runtime
from hwcli.config import load
from hwcli.experiments import vit_sweep
from hwcli.native import compiler

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "time_kernels", lambda *_: {"compiled": 0.010, "torch": 0.020})


def config() -> vit_sweep.Config:
    return load(vit_sweep.Config, vit_sweep.COMMAND)


def kernels(device: str = "cpu") -> dict[str, doctor.Finding]:
    compiler.find_compiler.cache_clear()
    findings = doctor.look_at_kernels(config(), torch.device(device))
    found = {finding.topic: finding for finding in findings}
    compiler.find_compiler.cache_clear()
    return found


def test_the_screen_is_80_columns_wide_and_shows_no_folder_of_the_users(
    quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hwcli.output.terminal.output.width", 80)
    result = CliRunner().invoke(cli.app, ["doctor"])
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 40
    assert str(Path.home()) not in result.output.replace("\n", "")
    assert str(tmp_path) not in result.output.replace("\n", "")
    assert list(tmp_path.iterdir()) == []


def test_as_json_every_topic_has_its_facts(quick: None, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli.app, ["doctor", "--json", "--out", str(tmp_path)])
    told = json.loads(result.output)
    topics = told["findings"]
    assert {"versions", "device", "processor", "precision", "memory", "locks", "disk"} <= set(
        topics
    )
    assert topics["memory"]["facts"]["jobs"] >= 1
    assert topics["processor"]["facts"]["cores"] == resources.num_cores()
    assert told["healthy"] == (not any(topic["fault"] for topic in topics.values()))


@pytest.mark.parametrize("row", doctor.SPEED_ROWS)
def test_a_processor_is_told_its_row_of_the_table_of_times(
    row: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    has = list(compiler.EXTENSIONS)[list(compiler.EXTENSIONS).index(row) :]
    flags = frozenset(compiler.EXTENSIONS[name][1] for name in has)
    monkeypatch.setattr(processor, "cpu_flags", lambda: flags)
    assert f"docs/speed.md, row {row}" in doctor.look_at_processor().text
    page = (Path(__file__).parents[1] / "docs/speed.md").read_text()
    assert re.search(rf"^\| {row}[ ,|]", page, re.MULTILINE)


def test_a_timing_holds_both_ways_and_leaves_the_threads_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor, "TIMING_S", 0.0)
    monkeypatch.setattr(doctor, "TIMED_IMAGES", 3)
    if (reason := compiler.reason_against()) is not None:
        pytest.skip(reason)
    before = torch.get_num_threads()
    seconds = doctor.time_kernels(config(), torch.float32)
    assert min(seconds["compiled"], seconds["torch"]) > 0
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(("compiled_s", "fault"), [(0.010, False), (0.022, True)])
def test_kernels_that_are_slower_than_torchs_are_a_defect(
    compiled_s: float, fault: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (reason := compiler.reason_against()) is not None:
        pytest.skip(reason)
    times = {"compiled": compiled_s, "torch": 0.020}
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(doctor, "time_kernels", lambda *_: times)
    finding = kernels()["kernels"]
    assert finding.fault == fault
    assert ("defect" in finding.text) == fault
    assert finding.facts["compiled_s"] == compiled_s


def test_without_a_compiler_the_reason_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    found = kernels()
    assert found["compiler"].fault
    assert "no-such-compiler" in found["compiler"].text
    assert found["kernels"].facts == {"auto": "torch"}


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_beside_a_gpu_nothing_about_the_cpus_kernels_is_a_fault(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (reason := compiler.reason_against()) is not None:
        pytest.skip(reason)
    precisions: list[torch.dtype] = []

    def time_kernels(_: vit_sweep.Config, precision: torch.dtype) -> dict[str, float]:
        precisions.append(precision)
        return {"compiled": 0.030, "torch": 0.020}

    monkeypatch.setattr(doctor, "time_kernels", time_kernels)
    # A GPU that multiplies bfloat16 fast, beside a processor that does not.
    monkeypatch.setattr(runtime, "has_fast_bf16", lambda asked: asked.type != "cpu")
    finding = kernels(device)["kernels"]
    assert finding.text.startswith(f"torch's own on {device}; compiled with --device cpu, 30.0 ms ")
    assert not finding.fault
    assert "defect" not in finding.text
    assert finding.facts["auto"] == "torch"
    assert precisions == [torch.float32]


def test_beside_a_gpu_a_missing_compiler_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    found = kernels("cuda")
    assert not any(finding.fault for finding in found.values())
    assert found["compiler"].text.endswith("(only --device cpu uses it)")
    assert found["kernels"].text.startswith("torch's own on cuda, and with --device cpu: ")


def test_on_a_mac_a_slower_figure_is_no_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    if (reason := compiler.reason_against()) is not None:
        pytest.skip(reason)
    monkeypatch.setattr(doctor, "time_kernels", lambda *_: {"compiled": 0.022, "torch": 0.020})
    monkeypatch.setattr(compiler, "_has_command_line_tools", lambda: True)
    monkeypatch.setattr(sys, "platform", "darwin")
    finding = kernels()["kernels"]
    assert not finding.fault
    assert finding.text.endswith("(1.10 of the time)")


def test_on_a_mac_a_step_is_timed_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    if (reason := compiler.reason_against()) is not None:
        pytest.skip(reason)
    monkeypatch.setattr(doctor, "TIMING_S", 0.0)
    monkeypatch.setattr(doctor, "TIMED_IMAGES", 3)
    monkeypatch.setattr(doctor.sys, "platform", "darwin")
    monkeypatch.setattr(doctor.time, "thread_time", lambda: pytest.fail("misses Apple's threads"))
    assert doctor.time_kernels(config(), torch.float32)["torch"] > 0


def test_a_processor_of_apples_has_neon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "cpu_flags", frozenset)
    monkeypatch.setattr(doctor.platform, "machine", lambda: "arm64")
    assert doctor.look_at_processor().facts["extensions"] == ["NEON"]
    monkeypatch.setattr(doctor.platform, "machine", lambda: "x86_64")
    assert doctor.look_at_processor().facts["extensions"] == []


@pytest.mark.parametrize(
    ("version", "out", "fault"),
    [
        ("Linux version 5.15.90.1-microsoft-standard-WSL2", "/mnt/c/Users/me/hw2/results", True),
        ("Linux version 4.4.0-19041-Microsoft", "/mnt/d", True),
        ("Linux version 5.15.90.1-microsoft-standard-WSL2", "/mnt/data/results", False),
        ("Linux version 5.15.90.1-microsoft-standard-WSL2", "/home/me/mnt/c", False),
        ("Linux version 6.1.0-13-amd64", "/mnt/c/results", False),
    ],
)
def test_under_wsl_a_disk_of_windows_is_a_fault(
    version: str, out: str, fault: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "version").write_text(version)
    monkeypatch.setattr(doctor, "KERNEL_VERSION", tmp_path / "version")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(2**40, 0, 2**40))
    finding = doctor.look_at_disk(Path(out))
    assert finding.fault == finding.facts["out_on_windows_disk"] == fault
    assert ("below ~" in finding.text) == fault


def test_a_disk_without_locks_is_a_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert not doctor.look_at_locks(tmp_path / "not" / "there").fault

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(doctor.fcntl, "flock", refuse)
    finding = doctor.look_at_locks(tmp_path)
    assert finding.fault
    assert "No locks available" in finding.text
    monkeypatch.setattr(doctor.fcntl, "flock", lambda *_: None)
    assert "two processes" in doctor.look_at_locks(tmp_path).text


def test_a_full_disk_is_a_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(2**40, 2**40, 2**20))
    assert doctor.look_at_disk(tmp_path).fault
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(2**40, 0, 2**40))
    assert not doctor.look_at_disk(tmp_path).fault


def test_memory_says_what_decides_the_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(resources, "num_cores", lambda: 8)
    monkeypatch.setattr(resources, "free_memory_bytes", lambda: 4 * 10**9)
    finding = doctor.look_at_memory(cpu)
    assert (finding.facts["jobs"], finding.facts["decided_by"]) == (4, "memory")
    assert finding.text.startswith("4.0 GB free of ")
    assert "memory allows no more at 700 MB each" in finding.text
    monkeypatch.setattr(resources, "free_memory_bytes", lambda: 10**8)
    assert doctor.look_at_memory(cpu).fault
    assert doctor.look_at_memory(torch.device("mps")).facts["jobs"] == 1
