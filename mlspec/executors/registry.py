"""The executors of a spec: which kinds there are, and each one that is used, opened once.

Comes in: the section `executors`. Goes out: a :class:`RemoteExecutor` by name. A package adds a
kind by an entry point in the group `mlspec.executors`: a callable that takes the executor's name
and its section (:class:`mlspec.spec.models.Executor`).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Protocol, cast

from mlspec.errors import MlspecError
from mlspec.executors import Stop
from mlspec.executors.messages import Answer, Findings, Question, Request
from mlspec.executors.origin import Origin
from mlspec.git import Git
from mlspec.spec.checks.executors import BUILT_IN, GROUP
from mlspec.spec.models import Executor, Model, Own, Stage


class RemoteExecutor(Protocol):
    """Has requests carried out on other machines; called from many threads at the same time."""

    def run(self, request: Request, on_line: Callable[[str], None], stop: Stop) -> Answer:
        """Have it done, which may take hours; `on_line` hears what the command prints.

        Returns soon, with the cause `interrupted`, when `stop.asked` is set, and ends the command.
        Raises :class:`MlspecError` when no machine could even try.
        """

    def inspect(self, question: Question) -> Sequence[Findings]:
        """What each machine has and lacks, for `mlspec doctor`."""

    def close(self) -> None:
        """Let go of what is held; nothing is asked afterwards."""


Make = Callable[[str, Executor], RemoteExecutor]


class Executors:
    """The executors of a spec by name, each opened when it is first asked for.

    `origin` is where they get the code from.
    """

    def __init__(self, git: Git, sections: Mapping[str, Executor]) -> None:
        self.origin = Origin(git)
        self._sections = sections
        self._open: dict[str, RemoteExecutor] = {}

    def get(self, name: str) -> RemoteExecutor:
        """The executor of that name; call it one at a time, use what it gives from any thread."""
        if name not in self._open:
            section = self._sections[name]
            self._open[name] = load_kind(section.kind)(name, section)
        return self._open[name]

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].close()


def executor_name(stage: Stage, model: Model) -> str | None:
    """Where a stage runs: the name of an executor, or none for here, where mlspec's own run."""
    return None if isinstance(stage, Own) else stage.executor or model.executor


def load_kind(kind: str) -> Make:
    """What makes executors of that kind; raises :class:`MlspecError` where it cannot be loaded."""
    try:
        if kind in BUILT_IN:
            module, _, name = BUILT_IN[kind].partition(":")
            return cast("Make", getattr(importlib.import_module(module), name))
        for entry in entry_points(group=GROUP, name=kind):
            return cast("Make", entry.load())
    except ImportError as error:
        extra = f'pip install "mlspec[{kind}]"' if kind in BUILT_IN else "install it again"
        raise MlspecError(
            f"executors of the kind {kind} cannot be loaded: {error}", hint=extra
        ) from error
    raise MlspecError(
        f"no executor of the kind {kind} is installed",
        hint=f"install the package that has it as an entry point of the group {GROUP}",
    )
