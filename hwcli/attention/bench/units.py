"""Times, sizes and numbers as tables and sentences write them."""


def bytes_text(number: float) -> str:
    """Write a size with its unit."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number_text(number)} {unit}"
        number /= 1024
    return f"{number:,.1f} TiB"


def time_text(milliseconds: float) -> str:
    """Write a time with its unit."""
    if milliseconds >= 120_000:
        return f"{milliseconds / 60_000:,.0f} min"
    if milliseconds >= 1000:
        return f"{milliseconds / 1000:,.2f} s"
    return f"{milliseconds:.3g} ms" if milliseconds < 100 else f"{milliseconds:.0f} ms"


def number_text(number: float) -> str:
    """Write a number to three digits, without an exponent where it is large."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def listed(parts: list[str]) -> str:
    """Write several things as a sentence does: one, another and a third."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def round_text(number: float) -> str:
    """Write a ratio to three significant digits: 1,060, 24.1, 0.35."""
    return f"{float(f'{number:.3g}'):,.0f}" if number >= 100 else f"{number:.3g}"
