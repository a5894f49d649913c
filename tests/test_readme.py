"""README and docs: links lead somewhere, and what they quote is what the committed runs wrote."""

import csv
import itertools
import json
import math
import re
import statistics
from collections import Counter
from pathlib import Path

import pytest

from hwcli.config import load
from hwcli.experiments import vit_sweep
from hwcli.sentiment.summary import SentimentSummary
from hwcli.vision.record import read_record
from hwcli.vision.vit import training_flops

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
TEXT = "\n".join(page.read_text() for page in PAGES)
QUOTED = " ".join(TEXT.replace("\n> ", " ").split())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)]+)\)", page.read_text())
    lost = []
    for target in targets:
        path, _, anchor = target.partition("#")
        there = page.parent / path if path else page
        if "://" not in target and (
            not there.exists() or (anchor and anchor not in anchors(there.read_text()))
        ):
            lost.append(target)
    assert lost == []


def anchors(text: str) -> list[str]:
    """Return what GitHub calls the headings of a page in links to them."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    found: list[str] = []
    for heading in re.findall(r"^#+ +(.+?) *$", prose, re.MULTILINE):
        words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        # The second heading of a name has a number.
        again = sum(re.sub(r"-\d+$", "", other) == name for other in found)
        found.append(f"{name}-{again}" if again else name)
    return found


def test_a_heading_is_linked_to_by_its_words() -> None:
    text = "# Your own file, from CSV\n```\n# no heading\n```\n## `a_b`: [c](d)?\n## A_b c\n"
    assert anchors(text) == ["your-own-file-from-csv", "a_b-c", "a_b-c-1"]


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 160


@pytest.mark.parametrize("name", ["quick", "standard"])
def test_the_table_of_a_grid_is_that_of_its_run(name: str) -> None:
    run = ROOT / "results/reference/vit-sweep" / name
    grid, _, _ = (run / "table.md").read_text().partition("**Vision Transformers")
    assert grid.strip() in TEXT
    summary = json.loads((run / "summary.json").read_text())
    assert summary["status"] == "complete"


def test_the_time_of_the_quick_grid_is_that_of_its_trials() -> None:
    run = ROOT / "results/reference/vit-sweep/quick"
    results = [trial.result for trial in read_record(run).trials]
    minutes = sum(result.train_s for result in results if result is not None) / 2 / 60
    assert f"the instructions of an ordinary laptop: {minutes:.0f} minutes of training" in QUOTED
    assert "(avx2)" in json.loads((run / "env.json").read_text())["cpu"]
    accuracies = [100 * result.test_accuracy for result in results if result is not None]
    reached = f"reach {min(accuracies):.1f} to {max(accuracies):.1f} %"
    assert reached in (ROOT / "configs/vit_sweep.yaml").read_text()


def test_the_time_of_the_standard_grid_is_that_of_its_trials() -> None:
    sweep = ROOT / "results/reference/vit-sweep"
    trials = read_record(sweep / "standard").trials
    results = [(t.seed, t.result) for t in trials if t.result is not None]
    assert len(results) == len(trials)
    m = [sum(r.train_s for seed, r in results if seed == s) / 2 / 60 for s in range(3)]
    said = f"{m[0]:.0f} and {m[2]:.0f} minutes for the first and the third seed; the second, "
    assert f"{said}while other programs ran, took {m[1]:.0f}. All {len(results)} networks" in QUOTED
    summary = json.loads((sweep / "standard/summary.json").read_text())
    cells = [100 * cell["test_accuracy_mean"] for cell in summary["cells"]]
    row = f"{min(cells):.2f} to {max(cells):.2f} % on the official test images"
    assert row in (ROOT / "README.md").read_text()
    reached = f"{m[2]:.0f} minutes per seed, {min(cells):.1f} to {max(cells):.1f} %"
    assert reached in (ROOT / "configs/vit_sweep.yaml").read_text()
    least = min(result.test_accuracy for _, result in results)
    assert f"are above {math.floor(1000 * least - 1e-9) / 10:.1f} %" in QUOTED


ROWS = {
    "AMX-BF16": (
        "tests/benchmarks/quick_amx",
        "results/reference/vit-sweep/standard",
        "results/reference/vit-sweep/strong",
    ),
    "AVX512-BF16": ("tests/benchmarks/quick_zen4", None, "tests/benchmarks/strong_zen4"),
    "AVX2": ("results/reference/vit-sweep/quick",),
    "a GPU": (None, "results/reference/vit-sweep/standard-gpu"),
}


@pytest.mark.parametrize("machine", ROWS)
def test_the_minutes_and_accuracies_of_a_machine_are_those_of_its_runs(machine: str) -> None:
    lines = [row for row in TEXT.splitlines() if " min, " in row]
    (line,) = (row for row in lines if row.startswith((f"| {machine} |", f"| {machine} (")))
    cells = [cell.strip() for cell in line.strip("| ").split("|")]
    for run, cell in zip(ROWS[machine], cells[2:], strict=False):
        if run is None:
            continue
        rows = list(csv.DictReader((ROOT / run / "table.csv").read_text().splitlines()))
        accuracies = [100 * float(row["test_accuracy_mean"]) for row in rows]
        if "strong" in run:
            threads = json.loads((ROOT / run / "env.json").read_text())["threads"]
            cores = {1: "one core", 2: "two cores"}[threads]
            minutes = float(rows[0]["train_s"]) / 60
            assert cell == f"{minutes:.0f} min on {cores}, {accuracies[0]:.1f} %"
            continue
        minutes = sum(float(row["train_s"]) for row in rows) / 60 / (1 if "gpu" in run else 2)
        if run.endswith("/standard"):  # other programs ran beside its second seed
            trials = read_record(ROOT / run).trials
            minutes = sum(t.result.train_s for t in trials if t.result and t.seed == 2) / 2 / 60
        shown = f"{minutes:.1f}" if minutes < 10 and "gpu" in run else f"{minutes:.0f}"
        assert cell == f"{shown} min, {min(accuracies):.1f} to {max(accuracies):.1f} %"


def test_standard_held_to_avx2_is_told_by_its_smallest_and_largest_cell() -> None:
    config = load(vit_sweep.Config, "vit-sweep", preset="standard")

    def operations(layers: int, heads: int) -> int:
        # Half of the epochs see 24 of the 49 patches.
        return sum(
            training_flops(layers=layers, heads=heads, config=config.model, patches=patches)
            for patches in (24, 49)
        )

    trained = {(4, 2): "4x2", (8, 4): "8x4"}
    seconds, accuracies = [], []
    for name in trained.values():
        (row,) = csv.DictReader(
            (ROOT / f"tests/benchmarks/standard_avx2/{name}/table.csv").read_text().splitlines()
        )
        seconds.append(float(row["train_s"]))
        accuracies.append(100 * float(row["test_accuracy_mean"]))
    assert f"in the same way: {seconds[0]:,.0f} and {seconds[1]:,.0f} s on one core" in QUOTED
    grid = sum(itertools.starmap(operations, itertools.product(range(4, 9), range(2, 5))))
    minutes = sum(seconds) * grid / sum(itertools.starmap(operations, trained)) / 2 / 60
    shown = f"about {round(minutes, -1):.0f} min, {accuracies[0]:.2f} and {accuracies[1]:.2f} %"
    assert f"| {shown} (two of the cells) |" in TEXT


def test_the_accuracy_of_the_strong_network_is_that_of_its_run() -> None:
    run = ROOT / "results/reference/vit-sweep/strong/summary.json"
    (cell,) = json.loads(run.read_text())["cells"]
    mean, std = cell["test_accuracy_mean"], cell["test_accuracy_std"]
    assert f"**{100 * mean:.2f} ± {100 * std:.2f} %** on the official test images" in QUOTED
    there = ROOT / "tests/benchmarks/strong_zen4/table.csv"
    (row,) = csv.DictReader(there.read_text().splitlines())
    accuracy, error = float(row["test_accuracy_mean"]), float(row["test_accuracy_se"])
    reached = f"seed 0 reached {100 * accuracy:.2f} ± {100 * error:.2f} %"
    minutes = float(row["train_s"]) / 60
    assert f"{reached} after {minutes:.0f} minutes of training on two cores" in QUOTED
    assert abs(accuracy - mean) < 2 * std
    took = f"Training took {cell['train_s'] / 60:.0f} minutes a seed on one core"
    assert f"{cell['num_params']:,} parameters. {took}" in QUOTED


@pytest.mark.parametrize("name", ["linear-equal-time", "strong"])
def test_how_one_run_stands_beside_another_is_what_it_says(name: str) -> None:
    run = ROOT / "results/reference/vit-sweep" / name / "summary.json"
    conclusion = json.loads(run.read_text())["comparison"]["conclusion"]
    assert conclusion in QUOTED


def test_how_bfloat16_stands_beside_float32_over_the_quick_grid_is_what_it_says() -> None:
    def accuracies(path: str) -> list[float]:
        rows = csv.DictReader((ROOT / path / "table.csv").read_text().splitlines())
        return [100 * float(row["test_accuracy_mean"]) for row in rows]

    pairs = zip(
        accuracies("results/reference/vit-sweep/quick"),
        accuracies("tests/benchmarks/quick_zen4"),
        strict=True,
    )
    gaps = [first - second for first, second in pairs]
    mean = statistics.fmean(gaps)
    reach = 2.1448 * statistics.stdev(gaps) / len(gaps) ** 0.5  # Student's, 14 degrees of freedom
    assert f"float32 minus bfloat16 is {mean:+.2f} points" in QUOTED
    assert f"over the cells: {mean - reach:+.2f} to {mean + reach:+.2f})" in QUOTED


def test_the_share_of_time_of_linear_attention_is_that_of_the_benchmark() -> None:
    figures = json.loads((ROOT / "tests/benchmarks/vit_speed.json").read_text())["amx-bf16"]
    share = figures["time_of_linear_over_softmax"]
    assert f"linear attention takes {share:.2f} of the time of one with softmax" in QUOTED


def test_the_figures_of_the_gpu_are_those_of_its_runs() -> None:
    run = ROOT / "results/reference/vit-sweep/standard-gpu"
    cells = json.loads((run / "summary.json").read_text())["cells"]
    accuracies = [100 * cell["test_accuracy_mean"] for cell in cells]
    seconds = [cell["train_s"] for cell in cells]
    assert f"which reach {min(accuracies):.2f} to {max(accuracies):.2f} %" in QUOTED
    assert f"{min(seconds):.0f} to {max(seconds):.0f} s a cell" in QUOTED
    assert f"took {sum(seconds) / 60:.1f} minutes of training" in QUOTED
    figures = json.loads((ROOT / "tests/benchmarks/vit_speed_gpu.json").read_text())
    assert f"{figures['ratio_to_best_peer']:.1f} times the fastest library as people run" in QUOTED
    assert f"{figures['ratio_to_tuned_peer']:.1f} times the fastest tuned one" in QUOTED
    fastest = figures["images_per_s"]["hw2, bfloat16, GPU"]
    assert f"{round(fastest, -2):,.0f} images/s" in QUOTED


INSTRUCTIONS = {
    "amx-bf16": "AMX | S",
    "avx512-bf16": "AVX512-BF16 | Z",
    "avx512": "AVX-512 | Z",
    "avx2": "AVX2 | Z",
    "none": "AMX, no compiler | S",
    "none-avx2": "AVX2, no compiler | S",
}


@pytest.mark.parametrize("isa", INSTRUCTIONS)
def test_the_speed_of_a_step_is_that_of_the_benchmark(isa: str) -> None:
    figures = json.loads((ROOT / "tests/benchmarks/vit_speed.json").read_text())[isa]
    rates, precision = figures["images_per_s"], figures["precision"]
    plain = max(rate for who, rate in rates.items() if "1 x 2 threads" in who)
    tuned = max(rate for who, rate in rates.items() if "2 x 1 threads, " in who)
    cells = (
        INSTRUCTIONS[isa],
        precision,
        f"{rates[f'hw2, {precision}, 2 x 1 threads']:,.0f}",
        f"{plain:,.0f}",
        f"{figures['ratio_to_best_peer']:.1f}",
        f"{tuned:,.0f}",
        f"{figures['ratio_to_tuned_peer']:.1f}",
        f"{100 * figures['share_of_peak_in_layers']:.0f} %",
    )
    assert f"| {' | '.join(cells)} |" in TEXT
    if isa == "amx-bf16":
        assert f"do {figures['all_workers_over_one']:.2f} times the work of one" in QUOTED
        assert figures["overhead_share"] < 0.01


@pytest.mark.parametrize(("isa", "instructions"), [("native", "AVX-512"), ("avx2", "AVX2")])
def test_the_speed_of_linear_attention_is_that_of_the_benchmark(
    isa: str, instructions: str
) -> None:
    figures = json.loads((ROOT / "tests/benchmarks/attention_speed.json").read_text())[isa]
    assert "AMD EPYC" in figures["cpu"]
    ratios, share = figures["ratios"].values(), figures["share_of_peak"]["forward+backward"]
    cells = (
        instructions,
        f"{1e3 * figures['linear_forward_backward_65536_s']:.1f} ms",
        f"{min(ratios):.1f} to {max(ratios):.1f}",
        f"{100 * share['matmul']:.0f} %",
    )
    assert f"| {' | '.join(cells)} |" in TEXT


def test_the_speed_of_a_frozen_encoder_is_that_of_the_benchmark() -> None:
    by_isa = json.loads((ROOT / "tests/benchmarks/sentiment_speed.json").read_text())
    assert "avx512_bf16" in by_isa["native"]["cpu"]
    assert f"with {by_isa['native']['train']} training reviews" in QUOTED
    heads = {
        "the notebook's GRU": "",
        "one linear layer on the mean of the tokens, by steps": "_mean",
    }
    for (head, kind), (isa, name) in itertools.product(
        heads.items(), [("native", "AVX512-BF16"), ("avx2", "AVX2")]
    ):
        once, five = (by_isa[isa][f"ratio_{n}{kind}"] for n in ("one_epoch", "five_epochs"))
        assert f"| {head} | {name} | {once:.1f} | {five:.1f} |" in TEXT


def test_the_statement_of_the_homework_network_is_that_of_its_run() -> None:
    path = ROOT / "results/reference/rnn-trace/alternating-sum/summary.json"
    stated = json.loads(path.read_text())["property"]
    assert stated["here"] in QUOTED
    assert stated["elsewhere"] in QUOTED


def test_the_times_of_attention_are_those_of_its_run() -> None:
    path = ROOT / "results/reference/attention-bench/default/summary.json"
    rows = json.loads(path.read_text())["rows"]
    longest = {row["method"]: row["median_ms"] for row in rows if row["T"] == 65536}
    softmax, linear = longest["softmax-sdpa"], longest["linear"]
    assert f"fused kernel takes {softmax / 1e3:.2f} s and linear attention {linear:.2f}" in QUOTED
    assert f"{round(softmax / linear, -1):,.0f} times less" in QUOTED
    ratio = f"{round(softmax / linear, -1):,.0f} times as fast as torch's fused kernel of softmax"
    assert f"hw2's compiled C++ kernel of linear attention is {ratio}" in QUOTED


def test_the_accuracies_of_sentiment_are_those_of_its_runs() -> None:
    for name in ("quick", "homework", "strong"):
        path = ROOT / "results/reference/sentiment-train" / name / "summary.json"
        summary = SentimentSummary.model_validate_json(path.read_text())
        ours, bag = summary.test_accuracy, max(summary.baselines.values())
        row = rf"{name}/table.md\)[^|]*\| {100 * ours:.2f} ± \d\.\d\d % \| {100 * bag:.2f} % \|"
        assert re.search(row, TEXT)
        if name != "quick":
            assert f"{100 * ours:.2f} % {'fine-tuned' if name == 'strong' else 'frozen'}" in QUOTED


def test_the_second_seed_of_the_fine_tuned_encoder_is_that_of_its_run() -> None:
    folder = ROOT / "tests/benchmarks/sentiment_strong_zen4"
    epochs = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    row = next(csv.DictReader((folder / "table.csv").read_text().splitlines()))
    accuracy, error = (100 * float(row[key]) for key in ("test_accuracy", "test_accuracy_se"))
    minutes = sum(epoch["train_s"] for epoch in epochs) / 60
    said = f"took {minutes:.0f} minutes and reached {accuracy:.2f} ± {error:.2f} %"
    assert said in QUOTED
    first = ROOT / "results/reference/sentiment-train/strong/summary.json"
    assert json.loads(first.read_text())["test_accuracy"] == float(row["test_accuracy"])
    assert f"classify {accuracy * 250:,.0f} of the 25,000 test reviews correctly" in QUOTED


@pytest.mark.parametrize(("grid", "trials"), [("quick", 15), ("standard", 4)])
def test_the_kills_of_a_grid_are_those_of_the_log(grid: str, trials: int) -> None:
    log = json.loads((ROOT / f"tests/benchmarks/kills_{grid}.json").read_text())
    killed = Counter(event["killed"] for event in log["kills"])
    page = (ROOT / "docs/resume.md").read_text()
    (row,) = (line for line in page.splitlines() if f"kills_{grid}.json" in line)
    said = f"driver {killed['driver']} times, a worker {killed['worker']}, all {killed['all']}"
    assert said in row
    assert f"within {log['kills'][-1]['at_s'] / 60:.0f} minutes" in row
    assert f"{killed.total()} in {log['trials']} trials, {log['epochs']} epochs" in row
    assert f"{log['tensors_compared']:,} tensors" in row
    assert log["unlike"] == []
    assert (log["trials"], killed.total()) == (trials, 20)
