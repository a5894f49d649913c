import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

# With these, which rich and typer read when they are imported, output has colours or another
# width wherever it goes.
for _name in (
    *("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "GITHUB_ACTIONS", "PY_COLORS"),
    *("COLUMNS", "TERMINAL_WIDTH"),
):
    os.environ.pop(_name, None)

import pytest  # noqa: E402
from filelock import FileLock  # noqa: E402
from hypothesis import settings  # noqa: E402

from hwcli import cli  # noqa: E402
from hwcli.output import terminal  # noqa: E402

# A busy machine is no fault of the code.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


@pytest.fixture(autouse=True)
def _nothing_stays_silent() -> Iterator[None]:
    """Undo a test's ``--quiet``, so that the order of tests does not matter."""
    yield
    terminal.progress.quiet = False


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Let torch compute with one thread, as in a sweep's workers: networks here are tiny."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def hw2(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run the command line in this process and return its exit code."""

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["hw2", *arguments])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        code = exit_.value.code
        assert isinstance(code, int)
        return code

    return run


@pytest.fixture
def refused(
    hw2: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Callable[[list[str], str], None]:
    """Check that a command is a user's mistake: one line, exit code 2, and no file written."""

    def check(arguments: list[str], line: str) -> None:
        monkeypatch.chdir(tmp_path)
        files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
        assert hw2(*arguments) == 2
        shown = capsys.readouterr()
        assert shown.out == ""
        assert shown.err.startswith(f"error: {line}")
        assert shown.err.count("\n") == 1
        assert len(shown.err) <= len("error: \n") + 300
        assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == files

    return check


@pytest.fixture
def waiting_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Return a command that says "waiting" and waits for the test to end: it needs a lock."""
    monkeypatch.setenv("HW2_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HW2_DATA", raising=False)
    folder = tmp_path / "cache/fashion-mnist"
    folder.mkdir(parents=True)
    with FileLock(folder / ".lock"):
        yield ["data", "fetch", "fashion-mnist"]
