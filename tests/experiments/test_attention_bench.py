"""The whole command on tiny lengths, and what it makes of points that it must not start."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hwcli.attention.bench import points, reference
from hwcli.attention.bench.cases import METHODS, Case
from hwcli.attention.bench.results import AttentionSummary
from hwcli.config import load
from hwcli.errors import ConfigError
from hwcli.experiment import PROGRAM_BYTES
from hwcli.experiments import attention_bench
from hwcli.experiments.attention_bench import Config
from hwcli.native import linear_attention as native
from hwcli.output.run_folder import RunFolder
from hwcli.output.tables import Table


@pytest.fixture(autouse=True)
def short_measurements(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The machine's limits take a second on what fits no cache; here anything will do."""
    measure = attention_bench.measure
    for name, value in {
        "PEAK_SIDE": 64,
        "STREAM_BYTES": 2**16,
        "SECONDS_A_ROUND": 0.001,
        "ROUNDS": 2,
    }.items():
        monkeypatch.setattr(measure, name, value)
    monkeypatch.setattr(reference, "GATE_LENGTHS", (1, 37))
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def run(tmp_path: Path, **values: Any) -> tuple[dict[str, Any], Path]:
    config = load(
        Config, "attention-bench", flags={"dim": 8, "threads": 1, "device": "cpu", **values}
    )
    with RunFolder(tmp_path, "attention-bench", config.name) as folder:
        found = attention_bench.run(config, folder)
        path = folder.finish(found)
    stored = json.loads(path.read_text())
    assert AttentionSummary.model_validate(stored) == found
    return stored, path.parent


@pytest.mark.slow
def test_a_run_leaves_every_figure_and_file(tmp_path: Path) -> None:
    summary, folder = run(tmp_path, T="31,62,124", direction="both", causal=True, heads=3, batch=2)
    assert (summary["command"], summary["name"]) == ("attention-bench", "default")
    assert summary["status"] == "complete"
    assert len(summary["rows"]) == 2 * 3 * 5
    for row in summary["rows"]:
        assert row["status"] == "measured"
        assert 0 < row["p20_ms"] <= row["median_ms"] <= row["p80_ms"]
    assert set(summary["exponents"]) == {
        method + suffix for method in METHODS for suffix in ("", "+backward")
    }
    for law in summary["exponents"].values():
        assert law["time_ci"][0] <= law["time"] <= law["time_ci"][1]
        assert law["memory"] is None  # all below 16 MiB
    assert len(summary["gate"]) == 4 + 5
    assert all(entry["passed"] and entry["max_error"] < 1e-4 for entry in summary["gate"])
    assert all(entry["max_error_float64"] < 1e-13 for entry in summary["gate"])
    studies = {(s["feature_map"], s["T"]): s for s in summary["normalizers"]}
    assert len(studies) == 4 * 3
    assert studies["identity", 124]["negative_share"] > 0.2
    assert studies["elu1", 124]["negative_share"] == 0.0
    assert summary["machine"]["matmul_peak_gflops"] > 0
    files = {path.name for path in folder.iterdir()}
    assert {"table.csv", "table.md", "time.png", "memory.png", "metrics.jsonl"} <= files
    assert (
        "**Answer: without the exponential, attention takes O(T D^2)"
        in (folder / "table.md").read_text()
    )
    points = summary["crossing_points"]
    assert [point["T"] for point in points] == [8 * 2**k for k in range(len(points))]
    assert all(min(point["median_ms"].values()) > 0 for point in points)
    assert "**Search for the crossing: median time of one call" in (folder / "table.md").read_text()
    assert (folder / "time.png").read_bytes().startswith(b"\x89PNG")


def test_one_length_has_no_exponent(tmp_path: Path) -> None:
    summary, _ = run(tmp_path, T=7, methods="linear")
    assert summary["exponents"] == {"linear": {"time": None, "time_ci": None, "memory": None}}
    assert summary["crossover_T"] is None


def test_what_would_not_fit_is_predicted_and_never_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    make_call = points.make_call

    def watched(case: Case, *inputs: Sequence[Tensor]) -> Any:
        made.append(case.T)
        return make_call(case, *inputs)

    monkeypatch.setattr(points, "make_call", watched)
    summary, folder = run(
        tmp_path, T="64,128,1024,100000000", methods="softmax-naive", memory_limit="1MiB"
    )
    assert max(made) <= points.PROBE_T
    assert [row["status"] for row in summary["rows"]] == ["measured"] * 2 + ["predicted"] * 2
    last = summary["rows"][-1]
    assert last["median_ms"] > 1e9
    assert last["analytic_bytes"] > 7e16
    assert (last["p20_ms"], last["peak_bytes"], last["gflops"]) == (None, None, None)
    assert "limit 1 MiB" in (folder / "table.csv").read_text()


def test_the_methods_are_timed_on_the_same_inputs_drawn_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[str, int]] = []
    random_inputs = points.random_inputs

    def watched(case: Case) -> list[Tensor]:
        drawn.append((case.direction, case.T))
        return random_inputs(case)

    monkeypatch.setattr(points, "random_inputs", watched)
    monkeypatch.setattr(points, "find_crossover", lambda *_: (None, ()))
    run(tmp_path, T="8,16", methods="softmax-naive,softmax-sdpa,linear", direction="both")
    assert drawn == [("forward", 8), ("forward", 16), *[("forward+backward", T) for T in (8, 16)]]


def test_what_would_take_too_long_is_predicted(tmp_path: Path) -> None:
    summary, _ = run(tmp_path, T="16,4096", methods="softmax-naive", time_limit_s=1e-3)
    assert [row["status"] for row in summary["rows"]] == ["measured", "predicted"]


def test_a_method_that_fails_its_gate_has_no_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = reference.attend

    def wrong(case: Case, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        y = right(case, q, k, v)
        return y * 1.001 if case.method == "linear" else y

    monkeypatch.setattr(reference, "attend", wrong)
    summary, _ = run(tmp_path, T=16, methods="softmax-sdpa,linear", feature_map="elu1")
    assert summary["status"] == "partial"
    by_method = {row["method"]: row for row in summary["rows"]}
    assert by_method["softmax-sdpa"]["status"] == "measured"
    assert (by_method["linear"]["status"], by_method["linear"]["median_ms"]) == ("failed", None)


def test_a_call_that_runs_out_of_memory_is_predicted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_call, random_inputs = points.make_call, points.random_inputs
    refusal = "MPS backend out of memory (MPS allocated: 17.9 GB)\na hint"

    def refuse() -> None:
        raise RuntimeError(refusal)

    def watched(case: Case, *inputs: Sequence[Tensor]) -> Any:
        is_refused = inputs and (case.method, case.T) == ("softmax-naive", 31)
        return refuse if is_refused else make_call(case, *inputs)

    def drawn(case: Case) -> list[Tensor]:
        return refuse() if case.T == 62 else random_inputs(case)  # type: ignore[func-returns-value,return-value]

    monkeypatch.setattr(points, "make_call", watched)
    monkeypatch.setattr(points, "random_inputs", drawn)
    monkeypatch.setattr(points.measure, "peak_memory_bytes", lambda *_, **__: None)
    summary, _ = run(tmp_path, T="31,62", methods="softmax-naive,linear")
    naive, linear, *longer = summary["rows"]
    assert naive["status"] == "predicted"
    assert naive["median_ms"] > 0
    assert summary["status"] == "complete"
    assert naive["note"] == f"out of memory: {refusal.splitlines()[0]}"
    assert linear["status"] == "measured"
    assert {row["status"] for row in longer} == {"predicted"}
    assert naive["note"] in capsys.readouterr().err


def test_a_search_for_the_crossing_ends_where_memory_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_call = points.make_call

    def refuse() -> None:
        raise RuntimeError("Invalid buffer size: 64.00 GiB")

    def watched(case: Case, *inputs: Sequence[Tensor]) -> Any:
        return refuse if inputs and case.T == 8 else make_call(case, *inputs)

    monkeypatch.setattr(points, "make_call", watched)
    summary, _ = run(tmp_path, T=31, methods="softmax-naive,linear")
    assert summary["crossing_points"] == []
    assert {row["status"] for row in summary["rows"]} == {"measured"}


def test_a_call_whose_process_crashes_is_named_and_never_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = points.measure.MeasurementError("the process was ended by SIGSEGV")

    def crash(case: Case, *, threads: int) -> None:
        raise error

    monkeypatch.setattr(points.measure, "peak_memory_bytes", crash)
    summary, _ = run(tmp_path, T=7, methods="linear")
    (row,) = summary["rows"]
    assert (row["status"], row["median_ms"]) == ("failed", None)
    assert summary["status"] == "partial"
    assert row["note"] == f"its memory could not be measured: {error}"


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_other_number_formats(tmp_path: Path, dtype: str) -> None:
    direction = "forward+backward"
    summary, _ = run(tmp_path, T=5, dim=1, dtype=dtype, feature_map="elu1", direction=direction)
    assert summary["status"] == "complete"
    assert {row["status"] for row in summary["rows"]} == {"measured"}


@pytest.mark.parametrize("kernels", ["auto", "torch"])
def test_what_computes_linear_attention_is_said_and_is_what_is_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernels: str
) -> None:
    if (reason := native.reason_against(8, torch.float32)) is not None:
        pytest.skip(reason)
    used: set[str] = set()
    make_call = points.make_call

    def watched(case: Case, *inputs: Sequence[Tensor]) -> Any:
        used.add("compiled" if case.compiled else "torch")
        return make_call(case, *inputs)

    monkeypatch.setattr(points, "make_call", watched)
    summary, folder = run(tmp_path, T=7, methods="linear", kernels=kernels)
    expected = "compiled" if kernels == "auto" else "torch"
    assert summary["machine"]["kernels"] == expected
    assert json.loads((folder / "env.json").read_text())["kernels"] == expected
    code = "the compiled C++ kernel of hw2" if kernels == "auto" else "torch's matrix products"
    assert f"Computed by: linear: {code}." in (folder / "table.md").read_text()
    assert used == {expected}


def test_without_a_compiler_it_is_torchs_and_a_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(native, "reason_against", lambda D, dtype: "no C++ compiler")
    summary, _ = run(tmp_path, T=7, methods="linear")
    assert summary["machine"]["kernels"] == "torch"
    assert "kernels: torch's own (no C++ compiler)" in capsys.readouterr().err
    with pytest.raises(ConfigError, match=r"kernels = 'compiled': no C\+\+ compiler"):
        run(tmp_path, T=7, kernels="compiled")


def test_a_plan_counts_the_memory_of_inputs_and_of_the_machines_limits(tmp_path: Path) -> None:
    def planned_bytes(T: str) -> int:
        values = {"T": T, "dim": 8, "device": "cpu", "memory_limit": "200MiB"}
        config = load(
            Config, "attention-bench", flags={**values, "methods": "linear,softmax-naive"}
        )
        with RunFolder(tmp_path, "attention-bench", "default") as folder:
            return attention_bench.plan(config, folder).memory_bytes - PROGRAM_BYTES

    # Of linear attention: q, k, v, a gradient and y of 8 float32 a token, and a normalizer.
    assert planned_bytes("64,1048576") == 2**20 * 4 * (5 * 8 + 1)
    # Three arrays of STREAM are more than 64 tokens need.
    assert planned_bytes("64") == 3 * 2**16


def test_a_plan_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = {"T": "64,1048576", "dim": 8, "methods": "linear,softmax-naive", "device": "cpu"}
    config = load(Config, "attention-bench", flags=values)
    with RunFolder(tmp_path, "attention-bench", "default") as folder:
        planned = attention_bench.plan(config, folder)
    assert list(tmp_path.iterdir()) == []
    assert isinstance(planned.shown, Table)
    shown = planned.shown.to_markdown()
    assert "measured" in shown
    assert "predicted: needs" in shown
    assert planned.needs().startswith("The run would take about 1 min ")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--T", "0"], "T = '0': 0 is below 1"),
        (["--T", "8..4"], "T = '8..4': the range ends at 4, before its start 8"),
        (["--T", "many"], "T = 'many': 'many' is not a range"),
        (["--methods", "linear,fast"], "methods = 'linear,fast': 'fast' is unknown; choices: auto"),
        (["--methods", "linear-chunked"], "methods = 'linear-chunked': only with causal"),
        (["--dtype", "float16"], "dtype = 'float16': Input should be 'float64', 'float32' or"),
        (["--feature-map", "exp"], "feature_map = 'exp': Input should be 'identity', 'elu1'"),
        (["--direction", "back"], "direction = 'back': Input should be 'forward'"),
        (["--memory-limit", "much"], "memory_limit = 'much': expected auto, or bytes such as 8GiB"),
        (["--threads", "0"], "threads = '0': expected auto, or a number from 1"),
        (
            ["--set", "kernels=compiled", "--dtype", "float64"],
            "kernels = 'compiled': none for float64; choices here: auto, torch",
        ),
        (["--dim", "0"], "dim = '0': Input should be greater than or equal to 1"),
        (
            ["--methods", "auto,linear"],
            "methods = 'auto,linear': auto stands for all methods: give",
        ),
        (
            ["--set", "fit_octaves=2000"],
            "fit_octaves = 2000: Input should be less than or equal to",
        ),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    refused: Callable[[list[str], str], None], arguments: list[str], line: str
) -> None:
    refused(["attention-bench", "--device", "cpu", *arguments], line)


@pytest.mark.parametrize(
    ("text", "number"), [("8GiB", 2**33), ("512 MiB", 2**29), ("1.5k", 1536), ("7", 7)]
)
def test_sizes_are_read_with_their_unit(text: str, number: int) -> None:
    assert load(Config, "attention-bench", flags={"memory_limit": text}).memory_limit == number
