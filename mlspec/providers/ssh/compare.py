"""What of a deployment on a host is not as mlspec made it: unit files and what systemd and HAProxy
tell in, differences out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mlspec.compilers.systemd import Unit, parse_unit

Difference = tuple[str, Any, Any]
"""A field; what was deployed, and what is there instead (`None`: nothing)."""

Shown = Mapping[str, str]
"""What `systemctl show` tells of a unit."""

PROPERTIES = (
    "Id",
    "ActiveState",
    "SubState",
    "NRestarts",
    "MainPID",
    "UnitFileState",
    "DropInPaths",
    "NeedDaemonReload",
)


def parse_show(text: str, count: int) -> list[dict[str, str]]:
    """What `systemctl show` tells of each of some units, in their order."""
    blocks = [block for block in text.split("\n\n") if block.strip()]
    found = [dict(line.partition("=")[::2] for line in block.splitlines()) for block in blocks]
    return [*found, *({} for _ in range(count - len(found)))]


def is_running(shown: Shown) -> bool:
    """Whether a unit's process is there."""
    return shown.get("ActiveState") in ("active", "reloading")


def restarts_of(shown: Shown) -> int:
    """How often a unit's process began anew since the unit was started."""
    count = shown.get("NRestarts", "0")
    return int(count) if count.isdecimal() else 0


def compare_unit(name: str, wanted: Unit, text: str | None, shown: Shown) -> Iterator[Difference]:
    """What differs of a unit, setting by setting."""
    if text is None:
        yield name, "unit", None
        return
    seen = parse_unit(text)
    for section in [*wanted, *(each for each in seen if each not in wanted)]:
        was, now = _by_key(wanted.get(section, ())), _by_key(seen.get(section, ()))
        for key in [*was, *(each for each in now if each not in was)]:
            if was.get(key) != now.get(key):
                yield f"{name}.{key}", _plain(was.get(key)), _plain(now.get(key))
    drop_ins = [path for path in shown.get("DropInPaths", "").split() if _is_of(shown, path)]
    if drop_ins:
        yield f"{name}.drop-in", None, ", ".join(drop_ins)
    if shown.get("NeedDaemonReload") == "yes":
        yield f"{name}.loaded", "as it is written", "as it was before"
    if shown.get("UnitFileState") != "enabled":
        yield f"{name}.enabled", True, False
    if not is_running(shown):
        yield f"{name}.running", True, False


def compare_lines(name: str, wanted: str, text: str | None) -> Iterator[Difference]:
    """What differs of a file, by its lines."""
    if text is None:
        yield name, "file", None
        return
    was, now = wanted.splitlines(), text.splitlines()
    if was != now:
        gone = [line.strip() for line in was if line not in now]
        new = [line.strip() for line in now if line not in was]
        yield name, "; ".join(gone) or "other lines", "; ".join(new) or "fewer lines"


def _is_of(shown: Shown, path: str) -> bool:
    """Whether a drop-in is of this unit alone; those of all services are the administrator's."""
    return path.split("/")[-2:-1] == [f"{shown.get('Id')}.d"]


def _by_key(settings: Any) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for key, value in settings:
        found[key] = (*found.get(key, ()), value)
    return found


def _plain(values: tuple[str, ...] | None) -> str | None:
    return None if values is None else ", ".join(values)
