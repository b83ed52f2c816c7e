"""`mlspec gc` removes only what it showed, and what may go at the moment of the answer."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from mlspec.collection.reading import Shelves
from mlspec.commands import gc as module
from mlspec.errors import MlspecError
from mlspec.planner.garbage import plan_garbage
from mlspec.planner.known import Known, Place, Rules, RunFact, RunKey


def test_what_is_needed_since_the_question_is_not_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    key = RunKey("risk", "train", "f" * 64)
    known = Known(
        runs=(RunFact(key, frozenset({"out"})),), places=(Place("cache", "/", {"out": 1}),)
    )
    rules = Rules(keep_days=0, keep_versions=1)
    plan = plan_garbage(known, rules)
    now = [known]
    monkeypatch.setattr(module, "load_left", lambda _: frozenset())
    monkeypatch.setattr(module, "read_known", lambda *_: now[0])
    project = SimpleNamespace(look_again=lambda: None, git=None)
    module._check_current(project, plan, Shelves({}))  # type: ignore[arg-type]
    now[0] = Known(runs=known.runs, places=known.places, named={"out": "a new branch"})
    with pytest.raises(MlspecError, match="needed by now; nothing was removed"):
        module._check_current(project, plan, Shelves({}))  # type: ignore[arg-type]
