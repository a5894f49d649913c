import pytest

from hwcli.output.units import counted, duration, first_of, p_text, size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (3725, "1 h 02 min")],
)
def test_a_time_has_two_units_at_most(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [(64_000, "64 kB"), (12_300_000, "12 MB"), (3_940_000_000, "3.9 GB")],
)
def test_a_size_has_the_unit_that_leaves_a_short_number(num_bytes: float, text: str) -> None:
    assert size(num_bytes) == text


def test_one_thing_is_not_several() -> None:
    assert [counted(n, "epoch") for n in (0, 1, 2000)] == ["0 epochs", "1 epoch", "2,000 epochs"]


def test_a_list_names_the_first_and_says_that_there_are_more() -> None:
    assert first_of(["a", "b"], 2) == "a, b"
    assert first_of(["a", "b", "c"], 2) == "a, b, ..."


def test_a_p_value_that_is_tiny_is_not_spelled_out() -> None:
    assert (p_text(0.0493), p_text(0.001), p_text(1e-9)) == ("0.049", "0.001", "< 0.001")
