import errno
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hwcli.config import RunConfig, load
from hwcli.errors import OutputError
from hwcli.output.files import append_jsonl, read_jsonl, write_atomic, write_json
from hwcli.output.plots import figure, heatmap
from hwcli.output.run_folder import RunFolder, Summary
from hwcli.output.tables import Column, Table

CONFIG = RunConfig(name="n", device="cpu")


class Answer(Summary):
    answer: int


def found(answer: int = 0) -> Answer:
    return Answer(command="command", name="n", status="complete", answer=answer)


def test_a_finished_run_holds_its_config_environment_and_results(tmp_path: Path) -> None:
    with RunFolder(tmp_path, "command", "n") as folder:
        assert folder.claim(CONFIG, {"cores": 2})
        folder.append_metrics(step=1, loss=0.5)
        folder.write_table(Table("t", [Column("a", "a")], [{"a": 1}]))
        made, (axes,) = figure()
        heatmap(axes, [[0.1, None]], [["x", "y"]], rows=[1], columns=[2, 3])
        folder.save_figure("plot", made)
        path = folder.finish(found(42))
    assert path == tmp_path.resolve() / "command" / "n" / "summary.json"
    summary = json.loads(path.read_text())
    assert summary == {"command": "command", "name": "n", "status": "complete", "answer": 42}
    assert load(RunConfig, "command", path=path.with_name("config.yaml")) == CONFIG
    environment = json.loads(path.with_name("env.json").read_text())
    assert datetime.fromisoformat(environment.pop("started")).tzinfo is UTC
    assert environment == {"cores": 2}
    assert read_jsonl(path.with_name("metrics.jsonl")) == [{"step": 1, "loss": 0.5}]
    assert path.with_name("table.csv").read_text() == "a\n1\n"
    assert path.with_name("plot.png").read_bytes().startswith(b"\x89PNG")


def finished_run(out: Path, config: RunConfig = CONFIG, answer: int = 0) -> Path:
    with RunFolder(out, "command", config.name) as folder:
        folder.claim(config, {"cores": 2})
        folder.append_metrics(step=1)
        folder.write("picture.png", "earlier")
        return folder.finish(found(answer))


def test_a_finished_run_stays_whole_until_the_next_one_is(tmp_path: Path) -> None:
    summary = finished_run(tmp_path, answer=1)
    before = {p.name: p.read_bytes() for p in summary.parent.iterdir() if p.is_file()}
    with RunFolder(tmp_path, "command", "n") as folder:  # it is stopped
        folder.claim(CONFIG, {"cores": 3})
        folder.append_metrics(step=2)
        folder.discard("picture.png")
    assert {p.name: p.read_bytes() for p in summary.parent.iterdir() if p.is_file()} == before
    with RunFolder(tmp_path, "command", "n") as folder:
        folder.claim(CONFIG, {"cores": 3})
        folder.append_metrics(step=3)
        folder.discard("picture.png")
        folder.finish(found(2))
    names = {p.name for p in summary.parent.iterdir()}
    assert names == {".lock", "config.yaml", "env.json", "metrics.jsonl", "summary.json"}
    assert json.loads(summary.read_text())["answer"] == 2
    assert read_jsonl(summary.with_name("metrics.jsonl")) == [{"step": 3}]


class GridConfig(RunConfig):
    seeds: tuple[int, ...] = (0,)
    width: int = 3

    def contains(self, earlier: "GridConfig") -> bool:
        return set(self.seeds) >= set(earlier.seeds) and self.width == earlier.width


@pytest.mark.parametrize(
    ("later", "fits"),
    [
        (GridConfig(seeds=(0, 1)), True),
        (GridConfig(seeds=(0, 1, 2)), True),
        (GridConfig(seeds=(1,)), False),
        (GridConfig(seeds=(0, 1), width=5), False),
    ],
)
def test_a_finished_run_is_replaced_only_by_one_that_contains_it(
    tmp_path: Path, later: GridConfig, fits: bool
) -> None:
    summary = finished_run(tmp_path, GridConfig(seeds=(0, 1)))
    before = summary.read_bytes()
    with RunFolder(tmp_path, "command", later.name) as folder:
        if fits:
            assert folder.forecast(later) == f"The run would extend or rewrite {folder.path}."
            assert folder.claim(later, {})
            return
        line = r"finished run with other settings \(.+ there, .+ here\); choose .*--name, .*--repl"
        with pytest.raises(OutputError, match=line):
            folder.claim(later, {})
        assert folder.forecast(later).startswith("The run would be refused: ")
    assert summary.read_bytes() == before
    with RunFolder(tmp_path, "command", later.name, replace=True) as folder:
        assert folder.forecast(later) == f"The run would replace {folder.path}."
        assert folder.claim(later, {})


def test_a_model_is_replaced_together_with_its_summary(tmp_path: Path) -> None:
    model = tmp_path / "command/n/model"
    for answer, names in (("1", ["weights", "card"]), ("2", ["weights"])):
        with RunFolder(tmp_path, "command", "n") as folder:
            folder.claim(CONFIG, {})
            folder.subfolder("model").mkdir()
            for name in names:
                (folder.subfolder("model") / name).write_text(answer)
            if answer == "2":  # it is not finished yet
                assert (model / "weights").read_text() == "1"
            folder.finish(found())
    assert {path.name: path.read_text() for path in model.iterdir()} == {"weights": "2"}
    assert not (model.parent / ".new").exists()


def test_a_run_beside_one_of_other_settings_is_refused_at_once(tmp_path: Path) -> None:
    with RunFolder(tmp_path, "command", "n") as first:
        assert first.claim(GridConfig(), {})
        with RunFolder(tmp_path, "command", "n") as second:
            for fits, later in ((True, GridConfig(seeds=(0, 1))), (False, GridConfig(width=5))):
                assert not second.claim(later, {}, wait=False)
                if fits:
                    second.refuse_another_run(later)
                else:
                    with pytest.raises(
                        OutputError, match=r"other settings \(width 3 there, 5 here"
                    ):
                        second.refuse_another_run(later)


def test_a_refusal_names_three_settings_that_differ(tmp_path: Path) -> None:
    class Wide(GridConfig):
        depth: int = 1
        height: int = 1

    finished_run(tmp_path, Wide())
    later = Wide(seeds=(1,), width=5, depth=2, height=2)
    with (
        RunFolder(tmp_path, "command", later.name) as folder,
        pytest.raises(OutputError) as refused,
    ):
        folder.claim(later, {})
    assert (
        "(seeds [0] there, [1] here; width 3 there, 5 here; depth 1 there, 2 here; and 1 more)"
        in str(refused.value)
    )


@pytest.mark.parametrize(
    "content", [b"", b"\xff", b"[]", b"a: &a [*a]", b"<<<<<<< HEAD\n", b"x: 1"]
)
def test_a_finished_run_whose_config_is_damaged_is_not_lost(tmp_path: Path, content: bytes) -> None:
    summary = finished_run(tmp_path)
    summary.with_name("config.yaml").write_bytes(content)
    with (
        RunFolder(tmp_path, "command", "n") as folder,
        pytest.raises(OutputError, match=r"config\.yaml cannot be read"),
    ):
        folder.claim(CONFIG, {})


@pytest.mark.parametrize("content", [b"", b"\xff", b"<<<<<<< HEAD\n{}", b"[]"])
def test_a_finished_run_whose_summary_is_damaged_is_not_lost(
    tmp_path: Path, content: bytes
) -> None:
    earlier, other = GridConfig(), GridConfig(width=5)
    summary = finished_run(tmp_path, earlier)
    summary.write_bytes(content)
    config = summary.with_name("config.yaml").read_bytes()
    with RunFolder(tmp_path, "command", earlier.name) as folder:
        with pytest.raises(OutputError, match="is a finished run with other settings"):
            folder.claim(other, {})
        assert "would be refused" in folder.forecast(other)
        # The same run once more lies beside it until it is whole.
        assert folder.claim(earlier, {})
        assert folder.subfolder("model").parent.name == ".new"
    assert summary.read_bytes() == content
    assert summary.with_name("config.yaml").read_bytes() == config


def test_a_second_run_of_the_name_waits_and_says_so(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom hwcli.config import RunConfig\n"
        "from hwcli.output.run_folder import RunFolder, Summary\n"
        "with RunFolder(Path(sys.argv[1]), 'command', 'n') as folder:\n"
        "    folder.claim(RunConfig(), {})\n    print('mine', flush=True)\n    input()\n"
        "    folder.finish(Summary(command='command', name='n', status='complete'))\n"
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
            assert folder.claim(RunConfig(), {})
        (line,) = said
        assert line.startswith("command n: another process is writing this run; waiting (if")


def test_an_unwritable_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "command").write_text("a file, not a folder")
    with (
        pytest.raises(OutputError, match="cannot be made"),
        RunFolder(tmp_path, "command", "n") as folder,
    ):
        folder.claim(CONFIG, {})


def test_a_dry_run_says_that_the_folder_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path / "out", "command", "n")
    assert folder.forecast(RunConfig(name="n")) == f"The run would write {folder.path}."
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    said = folder.forecast(RunConfig(name="n"))
    assert said == f"The run would be refused: {tmp_path} cannot be written."


def test_a_disk_that_fills_up_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="free some space"), RunFolder(tmp_path, "c", "n"):
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
