"""Times, sizes and numbers of things as people spell them."""

from collections.abc import Sequence


def duration(seconds: float) -> str:
    """Spell a time: 45 s, 3 min 20 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def size(num_bytes: float) -> str:
    """Spell a size on disk or in memory: 64 kB, 12 MB, 3.9 GB."""
    if num_bytes < 1e6:
        return f"{num_bytes / 1e3:.0f} kB"
    return f"{num_bytes / 1e6:.0f} MB" if num_bytes < 1e9 else f"{num_bytes / 1e9:.1f} GB"


def counted(num: int, thing: str) -> str:
    """Say how many there are: 1 state, 2 states."""
    return f"{num:,} {thing}" if num == 1 else f"{num:,} {thing}s"


def first_of(names: Sequence[str], most: int = 5) -> str:
    """List the first of some names; dots say that there are more."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def p_text(p_value: float) -> str:
    """Show a p-value; what is below a thousandth is no more than that."""
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"
