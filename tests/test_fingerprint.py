import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hwcli import fingerprint


def test_the_fingerprint_is_json_without_absolute_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/hw2", "run", "--data=/a/b/imdb", "/x/y", "z/w"])
    print_ = fingerprint.fingerprint(dtype="bfloat16", num_threads=1)
    assert print_["command_line"] == ["hw2", "run", "--data=imdb", "y", "z/w"]
    assert (print_["dtype"], print_["threads"]) == ("bfloat16", 1)
    assert torch.__version__.startswith(print_["versions"]["torch"])
    json.dumps(print_, allow_nan=False)


def test_only_changed_code_makes_a_run_that_no_commit_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], check=True)

    for name in ("hwcli/__init__.py", "configs/vit_sweep.yaml", "pyproject.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "all")
    monkeypatch.setattr(fingerprint, "__file__", str(tmp_path / "hwcli/fingerprint.py"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/table.csv").write_text("results of one's own")
    assert fingerprint.fingerprint()["dirty"] is False
    for name in ("configs/vit_sweep.yaml", "hwcli/new.py"):
        (tmp_path / name).write_text("# changed")
        assert fingerprint.fingerprint()["dirty"] is True
        (tmp_path / name).write_text("")
    assert fingerprint.fingerprint()["dirty"] is True  # the new file is still there
    (tmp_path / "hwcli/new.py").unlink()
    assert fingerprint.fingerprint()["dirty"] is False


def test_a_gpu_that_emulates_bfloat16_is_described_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla V100")
    for in_hardware, said in ((True, None), (False, "emulated")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: in_hardware)  # noqa: B023
        found = fingerprint.fingerprint(device="cuda", dtype="bfloat16")
        assert (found["gpu"], found.get("bfloat16")) == ("Tesla V100", said)
    assert "bfloat16" not in fingerprint.fingerprint(device="cuda", dtype="float32")
