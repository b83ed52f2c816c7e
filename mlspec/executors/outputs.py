"""What a command left where its outputs belong. Comes in: paths. Goes out: nothing, or an error."""

from __future__ import annotations

from collections.abc import Collection

from mlspec.errors import MlspecError
from mlspec.executors.retry import remove_output
from mlspec.worktree import Worktree


def check_written(
    worktree: Worktree, address: str, outputs: Collection[str], single: Collection[str]
) -> None:
    """Raise unless every output is there and can be kept; those in `single` must be files."""
    for path in outputs:
        try:
            seen = worktree.digest(path)
        except MlspecError as error:
            remove_output(worktree.root / path)  # while it is there, no plan can be made
            raise MlspecError(
                f"{address} wrote what cannot be kept: {error.message}",
                hint="have the stage write files and folders, no links",
            ) from error
        if seen is None:
            remove_output(worktree.root / path)  # a link to nothing
            raise MlspecError(
                f"{address} ended well and did not write {path}",
                hint="write it, or take it out of the stage's outputs",
            )
        if path in single and seen.nfiles is not None:
            raise MlspecError(f"{address} made {path} a folder", hint="have the stage write a file")
