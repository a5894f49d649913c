import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hwcli.config import RunConfig, load
from hwcli.errors import OutputError
from hwcli.output.files import append_jsonl, read_jsonl, write_atomic, write_json
from hwcli.output.plots import figure, heatmap
from hwcli.output.run_folder import RunFolder
from hwcli.output.tables import Column, Table

CONFIG = RunConfig(name="n", device="cpu")


def test_a_finished_run_holds_its_config_environment_and_results(tmp_path: Path) -> None:
    with RunFolder(tmp_path, "command", "n") as folder:
        assert folder.claim(CONFIG, {"cores": 2})
        folder.log(step=1, loss=0.5)
        folder.write_table(Table("t", [Column("a", "a")], [{"a": 1}]))
        made, (axes,) = figure()
        heatmap(axes, [[0.1, None]], [["x", "y"]], rows=[1], columns=[2, 3])
        folder.save_figure("plot", made)
        path = folder.finish({"status": "complete", "answer": 42})
    assert path == tmp_path.resolve() / "command" / "n" / "summary.json"
    summary = json.loads(path.read_text())
    assert summary == {"command": "command", "name": "n", "status": "complete", "answer": 42}
    assert load(RunConfig, "command", path=path.with_name("config.yaml")) == CONFIG
    assert json.loads(path.with_name("env.json").read_text()) == {"cores": 2}
    assert read_jsonl(path.with_name("metrics.jsonl")) == [{"step": 1, "loss": 0.5}]
    assert path.with_name("table.csv").read_text() == "a\n1\n"
    assert path.with_name("plot.png").read_bytes().startswith(b"\x89PNG")


def test_claiming_takes_back_the_sign_of_a_finished_run(tmp_path: Path) -> None:
    with RunFolder(tmp_path, "command", "n") as folder:
        folder.claim(CONFIG, {})
        summary = folder.finish({"status": "complete"})
    with RunFolder(tmp_path, "command", "n") as folder:
        folder.claim(CONFIG, {})
        assert not summary.exists()


def test_a_second_run_of_the_name_waits_and_says_so(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom hwcli.config import RunConfig\n"
        "from hwcli.output.run_folder import RunFolder\n"
        "with RunFolder(Path(sys.argv[1]), 'command', 'n') as folder:\n"
        "    folder.claim(RunConfig(), {})\n    print('mine', flush=True)\n    input()\n"
        "    folder.finish({'status': 'complete'})\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "mine\n"
        said: list[str] = []

        def say(text: str) -> None:
            said.append(text)
            other.stdin.write("\n")  # type: ignore[union-attr]
            other.stdin.flush()  # type: ignore[union-attr]

        with RunFolder(tmp_path, "command", "n", say) as folder:
            assert not folder.claim(CONFIG, {}, wait=False)
            assert folder.claim(CONFIG, {})
        assert said == ["command n: another run is writing it; waiting for it"]


def test_an_unwritable_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "command").write_text("a file, not a folder")
    with (
        pytest.raises(OutputError, match="cannot be written"),
        RunFolder(tmp_path, "command", "n") as folder,
    ):
        folder.claim(CONFIG, {})


def test_a_disk_that_fills_up_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="make room"), RunFolder(tmp_path, "c", "n"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}
    write_atomic(path, "new")
    assert [p.name for p in tmp_path.iterdir()] == ["f.json"]


def test_a_line_torn_by_a_kill_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    append_jsonl(path, {"a": 1})
    with path.open("a") as file:
        file.write('{"a": 2')
    assert read_jsonl(path) == [{"a": 1}]
