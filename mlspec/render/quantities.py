"""Seconds and money as people say them."""

from __future__ import annotations


def render_seconds(seconds: float) -> str:
    """Two units at most: `0.4 s`, `12 s`, `1 min 20 s`, `2 h 5 min`, `3 d 4 h`."""
    if seconds < 0.05:
        return "0 s"
    if seconds < 9.95:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return _two(*divmod(whole, 60), "min", "s")
    if whole < 24 * 3600:
        return _two(*divmod(round(whole / 60), 60), "h", "min")
    return _two(*divmod(round(whole / 3600), 24), "d", "h")


def render_money(amount: float, currency: str) -> str:
    """An amount to the cent, such as `0.03 EUR`; less than one says so."""
    if 0 < amount < 0.01:
        return f"below 0.01 {currency}"
    return f"{amount:.2f} {currency}"


def _two(large: int, small: int, unit: str, smaller: str) -> str:
    return f"{large} {unit} {small} {smaller}" if small else f"{large} {unit}"
