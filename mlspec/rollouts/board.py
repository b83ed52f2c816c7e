"""Where a rollout is shown and takes orders: two files in `.mlspec/rollouts/` of its checkout.

::

    <deployment>@<target>.json   the state, replaced whole at each look; it outlives the driver
    <deployment>@<target>.lock   held by the driver as long as it lives
    <deployment>@<target>.order  what a person tells it: `pause`, `resume` or `abort`

What is left of a driver that was killed tells the next one at which step it was, or that the
release had been aborted and nobody could record it any more.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mlspec.atomic import make_own_folder
from mlspec.errors import MlspecError
from mlspec.held import is_held
from mlspec.rollouts.engine import Order, Phase, State, Terms

FOLDER = ".mlspec/rollouts"
_KEYS = frozenset(
    "model version trial shares bake phase step since verdict refused reason".split()  # noqa: SIM905
)


class Board:
    """The board of one deployment on one target; `name` is `<deployment>@<target>`."""

    def __init__(self, root: Path, name: str) -> None:
        self._folder = root / FOLDER
        self._root = root
        self._name = name

    def load(self) -> dict[str, Any] | None:
        """What was last shown; nothing if there never was a rollout."""
        try:
            shown: dict[str, Any] = json.loads(self._path("json").read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        return shown if isinstance(shown, dict) and shown.keys() >= _KEYS else None

    def alive(self) -> bool:
        """Whether a driver holds the lock."""
        return is_held(self._path("lock"))

    def tell(self, order: Order) -> None:
        """Leave an order; the last one counts. Raises when nobody is there to take it."""
        if not self.alive():
            raise MlspecError(
                f"no rollout of deployment.{self._name} is under way here",
                hint="one goes on while the `mlspec apply` that began it runs, in its own checkout",
            )
        self._write("order", order.value)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be the one driver; orders to an earlier one are void."""
        make_own_folder(self._root, "rollouts")
        handle = os.open(self._path("lock"), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            self.take_order()
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def take_order(self) -> Order | None:
        """What was told since this was last asked."""
        path = self._path("order")
        with suppress(FileNotFoundError, ValueError):
            order = Order(path.read_text(encoding="utf-8"))
            path.unlink()
            return order
        return None

    def show(self, trial: str, terms: Terms, state: State, about: Mapping[str, Any]) -> None:
        """Have the state seen. `trial` names what is tried; `about` is shown with it."""
        shown = {
            **about,
            "trial": trial,
            "strategy": terms.strategy,
            "shares": list(terms.shares),
            "bake": terms.bake,
            **state.as_dict(),
        }
        self._write("json", json.dumps(shown))

    def forget(self) -> None:
        """Take the state away: it is recorded elsewhere, or the deployment is no more."""
        self._path("json").unlink(missing_ok=True)

    def left_of(self, trial: str) -> dict[str, Any] | None:
        """What an earlier driver left of the very same trial, if it did not come to its record."""
        shown = self.load()
        if shown is None or shown.get("trial") != trial or shown["phase"] == Phase.PROMOTED:
            return None
        return shown

    def _path(self, kind: str) -> Path:
        return self._folder / f"{self._name}.{kind}"

    def _write(self, kind: str, text: str) -> None:
        draft = self._path(f"{kind}.new")
        draft.write_text(text, encoding="utf-8")
        draft.replace(self._path(kind))
