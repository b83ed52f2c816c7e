"""A plan that `mlspec plan --out` saved: applied exactly, or refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlspec.errors import MlspecError
from mlspec.plan import Action, Plan, digest_of_body

_HINT = "plan again: `mlspec plan --out FILE`"


@dataclass(frozen=True, slots=True)
class SavedPlan:
    """The plan in the file `path`."""

    path: Path
    body: Mapping[str, Any]
    text: str

    @property
    def adopts(self) -> bool:
        """Whether it was made with leave to adopt runs."""
        steps = self.body.get("steps")
        return isinstance(steps, list) and any(
            isinstance(step, dict) and step.get("action") == Action.ADOPT for step in steps
        )

    @property
    def select(self) -> tuple[str, ...]:
        """What it is about, as `--select` says it; nothing for everything."""
        selection = self.body.get("selection")
        return (selection,) if isinstance(selection, str) and selection else ()

    def check_current(self, now: Plan, find_moved: Callable[[], Iterable[str]] = tuple) -> None:
        """Raise :class:`MlspecError` if it is not what is planned `now`.

        `find_moved` says more of what changed since, a line each.
        """
        if self.body == now.as_dict():
            if self.text != render_saved(now.as_dict()):
                raise self.altered
            return
        base, current = self.body["base"], now.as_dict()["base"]
        moved = [name for name in ("spec", "commit", "ledger") if base.get(name) != current[name]]
        selects = " what it selects," if self.select else ""
        files = f"files of the repository,{selects} or the plan itself"
        raise self.stale(" and ".join(f"the {name}" for name in moved) or files, find_moved())

    def stale(self, what: str, more: Iterable[str] = ()) -> MlspecError:
        """It cannot be applied any more, for `what` it was made from is another now."""
        message = f"{self.path} is stale: {what} changed since it was planned"
        return MlspecError("\n".join([message, *more]), hint=_HINT)

    @property
    def altered(self) -> MlspecError:
        """It is not what was saved, to the byte."""
        return MlspecError(f"{self.path} was altered after it was planned", hint=_HINT)

    @property
    def whole(self) -> bool:
        """Whether it is as it was saved."""
        rest = {key: value for key, value in self.body.items() if key != "digest"}
        try:
            same = self.body.get("digest") == digest_of_body(rest)
        except ValueError:  # numbers that no plan has
            return False
        return same and isinstance(self.body.get("base"), dict)


def render_saved(body: Mapping[str, Any]) -> str:
    """What the file of a saved plan holds, to the byte."""
    return json.dumps(body, indent=2, ensure_ascii=False) + "\n"


def load_saved_plan(path: Path) -> SavedPlan:
    """The plan in a file; raises :class:`MlspecError` if it holds none, or was altered."""
    try:
        text = path.read_bytes().decode()
        body = json.loads(text)
    except FileNotFoundError as error:
        raise MlspecError(f"there is no file {path}", hint=_HINT) from error
    except OSError as error:
        raise MlspecError(f"cannot read the plan {path}: {error.strerror}", hint=_HINT) from error
    except (ValueError, RecursionError) as error:
        raise MlspecError(f"{path} is not a saved plan, or was altered", hint=_HINT) from error
    if not isinstance(body, dict) or "digest" not in body:
        raise MlspecError(f"{path} is not a saved plan, or was altered", hint=_HINT)
    saved = SavedPlan(path, body, text)
    if not saved.whole:
        raise saved.altered
    return saved
