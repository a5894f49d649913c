from typing import Any

import pytest

from hwcli.sweep.trial_rows import read_fields, read_value, spell_value


def test_a_row_tells_settings_from_points_identity_and_results() -> None:
    row = {
        "id": "a1",
        "model.width": "64",
        "model.head_width": "null",
        "model.mlp_width": "",
        "point.augmentation.flip": "true",
        "identity.command": "vit-sweep",
        "axes": "layers heads",
        "state": "done",
        "reason": "",
        "result.trained_on.cpu": "Intel X",
        "result.scores": "[0.5, 1]",
    }
    assert list(read_fields(row)) == [
        ("config", "model.width", 64),
        ("config", "model.head_width", None),
        ("point", "augmentation.flip", True),
        ("identity", "command", "vit-sweep"),
        ("result", "trained_on.cpu", "Intel X"),
        ("result", "scores", [0.5, 1]),
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e-3, "0.001"), ("1e-3", '"1e-3"'), ("no", "no"), ("", '""'), (None, "null"), ([1], "[1]")],
)
def test_a_value_is_spelled_so_that_it_reads_back(value: Any, text: str) -> None:
    assert spell_value(value) == text
    assert read_value(text) == value


def test_a_text_that_is_nested_too_deeply_stays_a_text() -> None:
    text = "[" * 100_000
    assert read_value(text) == text
