"""Datasets: bring data from their source, keep the team's own data in storage."""

from __future__ import annotations

from mlspec.errors import MlspecError
from mlspec.ledger.paths import dataset_path
from mlspec.ledger.records import Imported
from mlspec.plan import Action, Step
from mlspec.providers.context import Change, Context
from mlspec.providers.moves import move
from mlspec.resources import DatasetResource


def apply(step: Step, context: Context) -> Change:
    """Fetch, restore or add one dataset."""
    if step.action is Action.MOVE:
        return move(step, context)
    resource = context.desired.get(DatasetResource, step.address)
    path = resource.dataset.path
    source = resource.dataset.source
    if step.action is Action.RESTORE:
        context.dvc.checkout(f"{path}.dvc", None)
        context.worktree.forget(path)
        return Change("the data are as fetched again")
    if source is None:
        context.dvc.add(path)
        said = "added to storage"
    elif source.git is not None:
        context.dvc.import_git(source.git, source.path or path, rev=source.rev, out=path)
        said = f"fetched from {source.git}"
    else:
        assert source.url is not None
        context.dvc.import_url(source.url, path)
        said = f"fetched from {source.url}"
    context.dvc.push(f"{path}.dvc", None)
    context.worktree.forget(path, f"{path}.dvc")
    digest = context.worktree.recorded_digest(path)
    if digest is None:
        raise MlspecError(f"{path}.dvc does not say what the data are")
    record = Imported(
        dataset=resource.name,
        source=source.model_dump(exclude_none=True) if source else None,
        md5=digest.md5,
        size=digest.size,
        nfiles=digest.nfiles,
    )
    return Change(said, {dataset_path(resource.name): record})
