import pytest

from hwcli.attention.bench.units import bytes_text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1.5, "1.5 B"),
        (12_345, "12.1 KiB"),
        (1010 * 2**20, "1,010 MiB"),
        (1023.6 * 2**20, "1,024 MiB"),
        (3.25 * 2**30, "3.25 GiB"),
        (5000 * 2**40, "5,000.0 TiB"),
    ],
)
def test_a_size_has_no_exponent(number: float, text: str) -> None:
    assert bytes_text(number) == text
