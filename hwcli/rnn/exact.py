"""Exact numbers: integers and rationals, how they are read and how they are shown.

An integer is always an ``int``, never a ``Fraction`` with denominator 1: integer networks are
then traced on Python's integers alone, which is ten times faster.
"""

import math
import re
from collections.abc import Iterable
from fractions import Fraction
from typing import TypeAlias

Exact: TypeAlias = int | Fraction
Number: TypeAlias = int | Fraction | float

# Python refuses to print or read longer integers, and so would whoever reads our JSON.
MAX_DIGITS = 4000
MAX_EXPONENT = 1000


def parse_exact(value: object) -> Exact:
    """Read a number exactly as it is spelled: ``0.1`` is 1/10, ``1/3`` a third, ``2e3`` 2000.

    Raises:
        ValueError: no number, not finite, or of more than 1000 digits.
    """
    if isinstance(value, int | Fraction) and not isinstance(value, bool):
        return simplified(value)
    if isinstance(value, float) and math.isfinite(value):
        return simplified(Fraction(repr(value)))
    if isinstance(value, str):
        exponent = re.search(r"e([+-]?\d+)\s*$", value, re.IGNORECASE)
        if len(value) > MAX_EXPONENT or (exponent and abs(int(exponent[1])) > MAX_EXPONENT):
            raise ValueError(f"{value[:20]!r} has more than {MAX_EXPONENT} digits")
        try:
            return simplified(Fraction(value))
        except (ValueError, ZeroDivisionError):
            pass
    raise ValueError(f"{value!r} is not a number such as 3, -0.5 or 1/3")


def simplified(number: Exact) -> Exact:
    """Return an integer as ``int``."""
    return number.numerator if number.denominator == 1 else number


def magnitude(number: Exact) -> Exact:
    """Return the absolute value, with a type that says so."""
    return -number if number < 0 else number


def common_denominator(numbers: Iterable[Exact]) -> int:
    """Return the least positive integer whose product with each number is an integer."""
    return math.lcm(*(number.denominator for number in numbers))


def greatest_common_divisor(numbers: Iterable[Exact]) -> Exact:
    """Return the largest rational of which each number is a whole multiple; 0 for zeros."""
    listed = list(numbers)
    scale = common_denominator(listed)
    return simplified(Fraction(math.gcd(*(int(number * scale) for number in listed)), scale))


def to_float(number: Number) -> float:
    """Return the nearest float64; what lies beyond its range becomes an infinity."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def to_json(number: Number) -> int | float | str:
    """Return a float or an integer of 64 bits as it is, others as text, a rational as ``"p/q"``.

    What has more digits than JSON readers take is rounded and marked: ``"≈1.0715e+301029"``.
    """
    if isinstance(number, float):
        return number
    if max(_num_digits(number.numerator), _num_digits(number.denominator)) > MAX_DIGITS:
        return approximately(number)
    return number if isinstance(number, int) and abs(number) < 2**63 else str(number)


def shown(number: Number, max_digits: int = 15) -> str:
    """Return a number for a reader: exact while it is short, else rounded and marked with ≈."""
    if isinstance(number, float):
        return f"{number:.6g}"
    if max(_num_digits(number.numerator), _num_digits(number.denominator)) > max_digits:
        return approximately(number)
    return str(number)


def approximately(number: Exact) -> str:
    """Return a number of any size as ``≈1.0715e+301``."""
    if number == 0:
        return "≈0"
    log10 = math.log10(abs(number.numerator)) - math.log10(number.denominator)
    exponent = math.floor(log10)
    mantissa = f"{10 ** (log10 - exponent):.4f}"
    if mantissa == "10.0000":
        mantissa, exponent = "1.0000", exponent + 1
    return f"≈{'-' if number < 0 else ''}{mantissa}e{exponent:+d}"


def _num_digits(integer: int) -> float:
    return integer.bit_length() * math.log10(2)
