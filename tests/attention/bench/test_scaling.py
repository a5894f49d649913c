import pytest

from hwcli.attention.bench.scaling import crossing, fit_power_law, local_slopes


def test_a_power_law_is_found_again_with_no_doubt_about_it() -> None:
    law = fit_power_law({T: 3e-4 * T**1.5 for T in (8, 16, 32, 64)}, octaves=3)
    assert law is not None
    assert law.exponent == pytest.approx(1.5)
    assert law.interval == pytest.approx((1.5, 1.5))
    assert law(128) == pytest.approx(3e-4 * 128**1.5)


def test_the_interval_is_students() -> None:
    """Logarithms (base 2) 0, 1.3, 2 at 0, 1, 2: slope 1, residual 0.2 sqrt(1.5), t = 12.706."""
    law = fit_power_law({1: 1.0, 2: 2**1.3, 4: 4.0}, octaves=2)
    assert law is not None
    assert law.exponent == pytest.approx(1.0)
    half = 12.7062 * (0.06 / 2) ** 0.5
    assert law.interval == pytest.approx((1 - half, 1 + half), rel=1e-4)


def test_only_the_top_octaves_count() -> None:
    points = {1: 100.0, 2: 100.0, 4: 100.0} | {T: float(T) for T in (256, 512, 1024)}
    law = fit_power_law(points, octaves=2)
    assert law is not None
    assert law.exponent == pytest.approx(1.0)
    assert law.xs == (256.0, 512.0, 1024.0)


@pytest.mark.parametrize("points", [{}, {8: 1.0}, {8: 1.0, 16: 2.0}, {1: 1.0, 2: 1.0, 1024: 1.0}])
def test_under_three_points_there_is_no_exponent(points: dict[int, float]) -> None:
    assert fit_power_law(points, octaves=3) is None


def test_local_slopes() -> None:
    assert local_slopes({2: 1.0, 4: 4.0, 8: 8.0}) == pytest.approx({(2, 4): 2.0, (4, 8): 1.0})


def test_two_curves_cross_where_their_logarithms_do() -> None:
    """T^2 / 100 and T are equal at 100."""
    lengths = [16, 64, 256]
    found = crossing(lengths, [T * T / 100 for T in lengths], [float(T) for T in lengths])
    assert found == pytest.approx(100.0)


@pytest.mark.parametrize(
    ("first", "second"),
    [([1.0, 2.0], [2.0, 3.0]), ([3.0, 3.0], [1.0, 1.0]), ([1.0, 5.0, 1.0], [2.0, 2.0, 2.0])],
    ids=["never", "from the start", "not for good"],
)
def test_no_crossing(first: list[float], second: list[float]) -> None:
    assert crossing([8, 16, 32][: len(first)], first, second) is None
