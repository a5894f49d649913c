"""What the README quotes is what the committed runs wrote."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", README)
    local = [target for target in targets if "://" not in target]
    assert local
    assert [target for target in local if not (ROOT / target).exists()] == []


def test_the_table_of_the_quick_grid_is_that_of_its_run() -> None:
    written = (ROOT / "results/vit-sweep/quick/table.md").read_text()
    grid, _, _ = written.partition("**Vision Transformers")
    assert grid.strip() in README
    summary = json.loads((ROOT / "results/vit-sweep/quick/summary.json").read_text())
    assert summary["status"] == "complete"


def test_the_statement_of_the_homework_network_is_that_of_its_run() -> None:
    path = ROOT / "results/rnn-trace/alternating-sum/summary.json"
    statement = json.loads(path.read_text())["property"]["statement"]
    assert statement in " ".join(README.replace("\n> ", " ").split())
