"""What has another name now: its records go there, and that is all."""

from __future__ import annotations

from collections.abc import Iterator

from mlspec.ledger.history import told_move
from mlspec.ledger.moves import names_folder
from mlspec.plan import Step
from mlspec.planner.moves import moved_to
from mlspec.providers.context import Change, Context
from mlspec.resources import DependencyKind, ModelResource, StageResource


def move(step: Step, context: Context) -> Change:
    """Have the ledger know something under its present name only."""
    now = moved_to(step)
    assert now is not None
    detail = told_move(now)
    if left := sorted(set(_naming(step.address, now, context))):
        folder = f"pipelines/{step.address.removeprefix('model.')}/"
        detail += f"; {', '.join(left)} still names {folder}, which is gone"
    return Change(detail, context.moved(step.address))


def _naming(former: str, now: str, context: Context) -> Iterator[str]:
    """Commands and code of a model that read its params where they were under its former name."""
    model, name = context.desired.resources.get(now), former.removeprefix("model.")
    if not isinstance(model, ModelResource):
        return
    for address in model.stages:
        stage = context.desired.get(StageResource, address)
        if names_folder(stage.command.encode(), name):
            yield f"the command of {address}"
        for each in stage.dependencies:
            path = context.root / each.path
            is_code = each.kind is DependencyKind.CODE and path.is_file()
            if is_code and names_folder(path.read_bytes(), name):
                yield each.path
