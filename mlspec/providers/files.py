"""Generated files: written whole, deleted with the folders that they leave empty."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from mlspec.atomic import write_atomic, write_together
from mlspec.compilers.dvc import lock_path
from mlspec.dvc.lock import dump_lock, parse_lock
from mlspec.errors import MlspecError
from mlspec.ledger.moves import NO_MOVES, Moves, renamed_lock
from mlspec.plan import Action, Step
from mlspec.providers.context import Change, Context
from mlspec.resources import FileResource
from mlspec.spec.moves import renames_of


def apply(step: Step, context: Context) -> Change:
    """Write or delete one generated file."""
    path = step.address.removeprefix("file.")
    if step.action is Action.DELETE:
        renames = renames_of(context.desired.spec.moved)
        delete_file(context.root, path, Moves(renames, context.worktree.read_bytes))
        return Change("deleted")
    write_file(context.root, path, context.desired.get(FileResource, step.address).generated.text)
    return Change("written")


def write_file(root: Path, path: str, text: str) -> None:
    """Write `path`, which lies within `root`, whole."""
    _check_inside(root, path)
    write_atomic(root / path, text)


def write_files(root: Path, texts: Mapping[str, str]) -> None:
    """Write many files, by path, each whole; much quicker than one after the other.

    A crash of the system may tear them; the next plan compares them with what they should be.
    Raises :class:`MlspecError` with some written and the others as they were.
    """
    try:
        one_of_each_folder = {path.rpartition("/")[0]: path for path in texts}
        for path in one_of_each_folder.values():
            _check_folder(root, path)
        for path in texts:
            _check_no_link(root, path)
        write_together(
            {f"{root}/{path}": text.encode() for path, text in texts.items()},
            written_out=False,
        )
    except OSError as error:
        where = error.filename2 or Path(error.filename or root).parent
        raise MlspecError(
            f"cannot write {where}: {error.strerror or error}",
            hint="mend the cause and run the command again; each file is whole, old or new",
        ) from error


def delete_file(root: Path, path: str, moves: Moves = NO_MOVES) -> None:
    """Delete `path`, the lock of a deleted pipeline, and the folder if that leaves it empty.

    What the lock has of a model that has another name now goes to the lock of that one.
    """
    _check_inside(root, path)
    target = root / path
    if target.name == "dvc.yaml":
        _carry_runs(root, target.parent.name, moves)
    target.unlink(missing_ok=True)
    if target.name == "dvc.yaml":
        target.with_name("dvc.lock").unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        target.parent.rmdir()


def _carry_runs(root: Path, former: str, moves: Moves) -> None:
    now = moves.renames.name_now("model", former)
    text = moves.read(lock_path(former)) if now is not None else None
    if now is None or not text or (root / lock_path(now)).exists():
        return
    _check_inside(root, lock_path(now))
    entries = parse_lock(text.decode(), lock_path(former))
    renamed = dump_lock(renamed_lock(entries, former, now, moves.read))
    write_atomic(root / lock_path(now), renamed)


def _check_inside(root: Path, path: str) -> None:
    _check_folder(root, path)
    _check_no_link(root, path)


def _check_folder(root: Path, path: str) -> None:
    """A folder on the way may be a link that leads out of the repository."""
    target, top = root / path, root.resolve()
    real = target.parent.resolve()
    if not real.is_relative_to(top) or real.is_relative_to(top / ".git"):
        raise MlspecError(
            f"{path} would be written outside of the repository",
            hint=f"put a folder in the place of {Path(path).parent}, which is a link",
        )


def _check_no_link(root: Path, path: str) -> None:
    if (root / path).is_symlink():
        raise MlspecError(f"{path} is a link", hint="delete the link and apply again")
