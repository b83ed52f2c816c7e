"""Times of a freeze: days, minutes, weeks."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from mlspec.spec.windows import check_window, end_of_window


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("window", "now", "end"),
    [
        ("2026-12-20 to 2027-01-03", "2026-12-19 23:59", None),
        ("2026-12-20 to 2027-01-03", "2026-12-20 00:00", "2027-01-04 00:00"),
        ("2026-12-20 to 2027-01-03", "2027-01-03 23:59", "2027-01-04 00:00"),
        ("2026-12-20 to 2027-01-03", "2027-01-04 00:00", None),
        ("2026-12-20 16:00 to 2026-12-21 09:30", "2026-12-21 09:29", "2026-12-21 09:30"),
        ("2026-12-20 16:00 to 2026-12-21 09:30", "2026-12-21 09:30", None),
        # 2026-11-20 is a Friday
        ("Fri 16:00 to Mon 07:00", "2026-11-20 15:59", None),
        ("Fri 16:00 to Mon 07:00", "2026-11-20 16:00", "2026-11-23 07:00"),
        ("Fri 16:00 to Mon 07:00", "2026-11-22 12:00", "2026-11-23 07:00"),
        ("Fri 16:00 to Mon 07:00", "2026-11-23 06:59", "2026-11-23 07:00"),
        ("Fri 16:00 to Mon 07:00", "2026-11-23 07:00", None),
        ("Mon 07:00 to Fri 16:00", "2026-11-23 06:59", None),
        ("Mon 07:00 to Fri 16:00", "2026-11-25 12:00", "2026-11-27 16:00"),
        ("Sat 00:00 to Sat 12:00", "2026-11-21 11:59", "2026-11-21 12:00"),
        ("Sat 00:00 to Sat 12:00", "2026-11-21 12:00", None),
        ("Sat 12:00 to Sat 10:00", "2026-11-21 09:00", "2026-11-21 10:00"),
        ("Sat 12:00 to Sat 10:00", "2026-11-21 11:00", None),
    ],
)
def test_a_window_ends_when_it_says(window: str, now: str, end: str | None) -> None:
    assert check_window(window) == window
    assert end_of_window([window], at(now)) == (end and at(end))


def test_the_last_end_of_windows_that_overlap_counts() -> None:
    windows = ["2026-11-20 to 2026-11-21", "Fri 16:00 to Mon 07:00"]
    assert end_of_window(windows, at("2026-11-21 12:00")) == at("2026-11-23 07:00")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-12-20",
        "2026-12-20 to",
        "2026-02-30 to 2026-03-01",
        "2026-12-20 24:00 to 2026-12-21",
        "2026-12-21 to 2026-12-20",
        "Fri 16:00 to Fri 16:00",
        "Fri to Mon",
        "Fri 16:00 to 2026-12-21",
        "fri 16:00 to mon 07:00",
        "2026-12-20 to 2027-01-03\n",
    ],
)
def test_anything_else_is_no_window(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|day|month"):
        check_window(text)
