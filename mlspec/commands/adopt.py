"""`mlspec adopt`: take over a repository that was run with DVC alone."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mlspec.adoption.carry import Carried, carry_runs, keep_outputs, lock_files, record
from mlspec.adoption.convert import Adoption, Note, convert
from mlspec.adoption.repository import OldStage, Repository, read_repository
from mlspec.atomic import make_own_folder, write_atomic
from mlspec.compilers.dvc import compile_storage
from mlspec.compilers.generated import MARK
from mlspec.compilers.yaml_text import render_yaml
from mlspec.dvc.client import Dvc
from mlspec.errors import MlspecError, SpecError
from mlspec.git import Git
from mlspec.ledger.lock import acquire
from mlspec.leftovers import remove_leftovers
from mlspec.planner import file_steps
from mlspec.reconcile import Project, open_project
from mlspec.render.console import Console
from mlspec.render.style import escape
from mlspec.resources import FileResource
from mlspec.spec.load import ROOT
from mlspec.spec.models import Storage
from mlspec.undo import Undo, is_unfinished, whole_or_not_at_all
from mlspec.worktree import Worktree

HEAD = "Made by mlspec adopt from what DVC ran here. It is yours: look through it, and change it."
SETTINGS = tuple(generated.path for generated in compile_storage(Storage()))
"""DVC's settings, which mlspec generates."""
LOCAL = ".dvc/config.local"

Write = Callable[[Mapping[str, str]], None]
"""Writes texts to paths."""


def adopt(start: Path, console: Console, *, as_json: bool, lock_timeout: float) -> int:
    """Write the spec and all that follows from it; everything or nothing, even after a kill."""
    root = Git(start).toplevel
    with acquire(Git(root), lock_timeout), whole_or_not_at_all(root) as undo:
        take_back(root, undo, console)
        _check_place(Git(root), root)
        make_own_folder(root)
        with Dvc(root) as dvc:
            old = read_repository(dvc.inventory())
        if not old.stages and not old.data:
            raise MlspecError(
                "this DVC repository has no stages and no data, so there is nothing to adopt",
                hint="write a spec: `mlspec init` in a folder of its own shows one",
            )
        made = convert(old, Worktree(root))
        write = partial(_write, root, undo)
        _write_spec(made, old, write)
        with open_project(root, adopting=True) as project:
            project.ledger.refresh(console.note)
            _check_spec(made, project)
            carried = carry_runs(made, project)
            generated = [each.generated for each in project.desired.of(FileResource)]
            write({each.path: each.text for each in generated} | lock_files(carried))
            moved = keep_outputs(carried, root, old.cache, undo)
            record(made, carried, project, old.cache)
    farewell = Farewell(tuple(_by_hand(made, old)), tuple(_commands(Git(root), made, old, moved)))
    if as_json:
        console.say_json(_as_dict(made, carried, farewell))
    else:
        console.say("\n".join(_render(made, carried, farewell)))
    return 0


def take_back(root: Path, undo: Undo, console: Console) -> None:
    """Undo what an adoption wrote that was cut short; the caller holds the lock."""
    if is_unfinished(root):
        # in the folders that go
        remove_leftovers(root, Git(root))
        undo.take_back()
        console.note("An adoption was cut short; what it had written was taken back.")


def _check_place(git: Git, root: Path) -> None:
    """Raise where there is nothing to adopt, or where something would be lost."""
    if (root / ROOT).exists():
        raise MlspecError(
            f"there is an {ROOT} already; nothing was changed",
            hint=f"to make another one, move {ROOT} and the folder pipelines away first",
        )
    if not (root / ".dvc").is_dir():
        inner = sorted(path.parent for path in root.glob("*/**/.dvc") if path.is_dir())
        where = f"; the one in {inner[0].relative_to(root)} is not at its root" if inner else ""
        raise MlspecError(
            f"{root} is a Git repository without a DVC repository at its root{where}",
            hint="go to the repository whose root has a folder .dvc",
        )
    for path in SETTINGS:
        if not (root / path).exists() or MARK in (root / path).read_text("utf-8"):
            continue
        if git.run("status", "--porcelain", "--", path):
            raise MlspecError(
                f"{path} is not in Git as it is, and it would be replaced",
                hint=f"commit it first: git add {path} && git commit",
            )


def _write(root: Path, undo: Undo, texts: Mapping[str, str]) -> None:
    """Write texts to paths, such that it can be taken back."""
    undo.keep(texts)
    for path, text in texts.items():
        # it may have passwords
        write_atomic(root / path, text, mode=0o600 if path == LOCAL else 0o644)


def _write_spec(made: Adoption, old: Repository, write: Write) -> None:
    """The spec, and what must be there for it to be read; the rest follows from it."""
    notes = [f"{note.place}: {note.message}; {note.hint}" for note in made.notes]
    head = [HEAD, *(["", "Not taken over as it was:", *notes] if notes else [])]
    storage = Storage(**made.spec.get("storage", {}))
    settings = {generated.path: generated.text for generated in compile_storage(storage)}
    local = {LOCAL: old.settings.local} if old.settings.local else {}
    write({ROOT: render_yaml(made.spec, head=head), **made.data_files, **settings, **local})


def _check_spec(made: Adoption, project: Project) -> None:
    """Raise if mlspec would not take the spec, in words of the old files."""
    try:
        file_steps(project.file_facts)
    except SpecError as error:
        places = {each.address: each.old.place for each in made.stages}
        told = []
        for problem in error.diagnostics:
            where = places.get(_stage_of(problem.address, problem.field), "")
            told.append(f"{where or problem.address}: {problem.message} ({problem.code})")
        first = error.diagnostics[0]
        raise MlspecError(
            "\n".join(["this repository cannot be adopted as it is; nothing was changed", *told]),
            hint=first.hint or f"mlspec explain {first.code}",
        ) from error


def _stage_of(address: str, field: str) -> str:
    """The address of the stage that a problem of a model is about."""
    section, _, rest = field.partition(".")
    if section != "stages" or not address.startswith("model."):
        return address
    return f"stage.{address.removeprefix('model.')}.{rest.partition('.')[0]}"


# what is said -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Farewell:
    """What makes the old pipelines go: until then two stages write one file, which DVC refuses.

    `edits`: what to delete from files that also have something to keep; then the `commands`.
    """

    edits: tuple[str, ...]
    commands: tuple[str, ...]


def _by_hand(made: Adoption, old: Repository) -> Iterator[str]:
    extras = {each.place.file for each in old.extras}
    for file in sorted(extras | {stage.place.file for stage in made.left}):
        left = [_group(stage) for stage in made.left if stage.place.file == file]
        gone = [_group(stage) for stage in old.stages if stage.place.file == file]
        gone = [name for name in dict.fromkeys(gone) if name not in left]
        if gone and left:
            yield f"in {file}, delete the stages {', '.join(gone)}"
        elif gone:
            sections = (each.section for each in old.extras if each.place.file == file)
            yield f"in {file}, delete all but {', '.join(sections)}"


def _group(stage: OldStage) -> str:
    """The name that is written in the file, of which `foreach` and `matrix` make many."""
    return stage.name.partition("@")[0]


def _commands(git: Git, made: Adoption, old: Repository, moved: list[str]) -> Iterator[str]:
    extras = {each.place.file for each in old.extras}
    kept = {stage.place.file for stage in made.left}
    files = sorted({stage.place.file for stage in old.stages} - kept)
    locks = [f"{file.removesuffix('.yaml')}.lock" for file in files if file.endswith(".yaml")]
    gone = [file for file in (*files, *locks) if file not in extras]
    tracked = set(git.run("ls-files", "-z", "--", *gone).split("\0")) if gone else set()
    if in_git := [file for file in gone if file in tracked]:
        yield shlex.join(["git", "rm", "--quiet", *in_git])
    if others := [file for file in gone if file not in tracked and (git.root / file).exists()]:
        yield shlex.join(["rm", *others])
    if cached := [path for path in moved if git.run("ls-files", "--", path)]:
        yield shlex.join(["git", "rm", "--quiet", "-r", "--cached", *cached])
    yield "git add --all . && git commit --message 'Adopt the pipelines'"
    yield "dvc push"
    yield "mlspec plan"


def _render(made: Adoption, carried: list[Carried], farewell: Farewell) -> Iterator[str]:
    models = len(made.spec.get("models", ()))
    yield (
        f"Wrote {ROOT}: {_count(models, 'model')}, {_count(len(made.stages), 'stage')}, "
        f"{_count(len(made.data), 'dataset')}."
    )
    yield f"Carried over: {_count(len(carried), 'run')}. None of them is run again; code and"
    yield "packages that DVC did not watch count as they are now."
    for taken in made.stages:
        if taken.stale:
            yield f"  {taken.address} will run: {escape(taken.stale)}"
    if made.notes:
        yield f"\nNot taken over as it was, {_count(len(made.notes), 'thing')}:"
        yield from (line for note in made.notes for line in _note(note))
    yield "\nThe old pipelines are still there, and DVC refuses two stages that write one file."
    yield "When you have looked through the spec, before the next `dvc` command, let them go:"
    yield from (f"  {escape(edit)}" for edit in farewell.edits)
    yield from (f"  {escape(command)}" for command in farewell.commands)


def _note(note: Note) -> Iterator[str]:
    yield f"  {escape(str(note.place))}: {escape(note.message)}"
    yield f"    = help: {escape(note.hint)}"


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _as_dict(made: Adoption, carried: list[Carried], farewell: Farewell) -> dict[str, Any]:
    return {
        "spec": ROOT,
        "carried": [each.taken.address for each in carried],
        "stale": {each.address: each.stale for each in made.stages if each.stale},
        "datasets": [f"dataset.{data.name}" for data in made.data],
        "notes": [
            {
                "file": note.place.file,
                "line": note.place.line,
                "message": note.message,
                "hint": note.hint,
            }
            for note in made.notes
        ],
        "edits": list(farewell.edits),
        "commands": list(farewell.commands),
    }
