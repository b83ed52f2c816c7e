"""Times at which nothing is to be changed: `2026-12-20 to 2027-01-03`, `Fri 16:00 to Mon 07:00`.

All are in UTC. Days are whole, the last one too; with a time, a window ends at that minute.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_DATE = rf"[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}(?: {_TIME})?"
_WEEKLY = rf"(?:{'|'.join(_DAYS)}) {_TIME}"
_PATTERN = rf"{_DATE} to {_DATE}|{_WEEKLY} to {_WEEKLY}"
_WEEK = timedelta(days=7)


def check_window(text: str) -> str:
    """`text` if it is a window that ends after it begins; raises `ValueError`."""
    if not re.fullmatch(_PATTERN, text):
        raise ValueError('expected times such as "2026-12-20 to 2027-01-03"')
    begin, end = _around(text, datetime(2026, 1, 1, tzinfo=UTC))
    if begin >= end:
        raise ValueError("expected times of which the second is later")
    return text


def end_of_window(windows: Iterable[str], now: datetime) -> datetime | None:
    """When the windows that `now` lies in have all ended; none if it lies in none."""
    ends = [end for begin, end in (_around(text, now) for text in windows) if begin <= now < end]
    return max(ends, default=None)


def _around(text: str, now: datetime) -> tuple[datetime, datetime]:
    """Begin and end; of a weekly window, those of the last one that began before `now`."""
    first, _, last = text.partition(" to ")
    if first[:3] not in _DAYS:
        whole_day = timedelta(days=0 if " " in last else 1)
        return _moment(first), _moment(last) + whole_day
    week = now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=now.weekday())
    begin, end = week + _since_monday(first), week + _since_monday(last)
    if end == begin:
        return begin, begin
    while begin > now:
        begin -= _WEEK
    while end <= begin:
        end += _WEEK
    while end - begin > _WEEK:
        end -= _WEEK
    return begin, end


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _since_monday(text: str) -> timedelta:
    day, _, time = text.partition(" ")
    hours, _, minutes = time.partition(":")
    return timedelta(days=_DAYS.index(day), hours=int(hours), minutes=int(minutes))


Window = Annotated[
    str,
    AfterValidator(check_window),
    WithJsonSchema(
        {"type": "string", "pattern": f"^({_PATTERN})$", "examples": ["2026-12-20 to 2027-01-03"]}
    ),
]
