"""Starts a project from a template; the only module that knows Copier.

Comes in: a folder, the name of a template, answers to its questions. Goes out: the project's files
in the folder, all of them or none, a Git repository around them, and :class:`Scaffold`.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

import mlspec
from mlspec.compilers.templates import templates_folder
from mlspec.errors import MlspecError
from mlspec.git import Git, GitError
from mlspec.spec.suggest import did_you_mean, known_words

ROOT = "mlspec.yaml"
SCHEMA = "mlspec.schema.json"
"""Named by the first line of a scaffold's spec; editors check the spec with it as it is written."""


@dataclass(frozen=True, slots=True)
class Template:
    """A kind of project."""

    name: str
    summary: str


@dataclass(frozen=True, slots=True)
class Scaffold:
    """What was made: `files` are relative to `directory`, sorted."""

    directory: Path
    template: str
    answers: Mapping[str, Any]
    files: tuple[str, ...]
    new_repository: bool


def load_templates() -> tuple[Template, ...]:
    """Every template that comes with mlspec, by name."""
    return tuple(
        Template(questions.parent.name, _load_yaml(questions)["summary"]["default"])
        for questions in sorted(_projects().glob("*/copier.yml"))
    )


def init_project(
    directory: Path, template: str, answers: Mapping[str, Any] | None = None, *, ask: bool = False
) -> Scaffold:
    """Write a project into `directory`, which may exist but may not hold any of its files.

    What `answers` leaves open is asked on the terminal if `ask`, else the default is taken. A
    project is the root of its repository: one that lies inside another gets its own.
    """
    directory = directory.absolute()
    known = [each.name for each in load_templates()]
    if template not in known:
        hint = did_you_mean(template, known) or known_words(known)
        raise MlspecError(f"there is no template `{template}`", hint=hint)
    if os.path.lexists(directory / ROOT):
        hint = "choose another folder; this one is a project already"
        raise MlspecError(f"{directory} has an {ROOT}", hint=hint)
    existing = next(folder for folder in (directory, *directory.parents) if folder.exists())
    if not existing.is_dir():
        raise MlspecError(f"{existing} is a file", hint="choose another folder")
    new_repository = _repository_of(existing) != directory.resolve()
    try:
        with tempfile.TemporaryDirectory(dir=existing, prefix=".mlspec-init-") as temporary:
            rendered = Path(temporary, "project")
            _render(template, rendered, directory.name, dict(answers or {}), ask=ask)
            files = tuple(sorted(_files_under(rendered)))
            _check_free(directory, files)
            given = _load_yaml(rendered / ".copier-answers.yml")
            _move(rendered, directory, files)
    except OSError as error:
        raise MlspecError(
            f"cannot write {error.filename or directory}: {error.strerror or error}",
            hint="mend the cause and run the command again; nothing was changed",
        ) from error
    if new_repository:
        Git(directory).run("init", "--quiet", "--initial-branch=main")
    answered = {key: value for key, value in given.items() if not key.startswith("_")}
    return Scaffold(directory, template, answered, files, new_repository)


def _projects() -> Path:
    return templates_folder() / "projects"


def _load_yaml(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return loaded


def _render(template: str, into: Path, folder: str, answers: dict[str, Any], *, ask: bool) -> None:
    # Copier takes half a second to import, and only `init` needs it.
    from copier import run_copy
    from copier.errors import CopierError

    from mlspec.spec.schema import json_schema

    name = _as_project_name(folder)
    defaults = {"python": "{}.{}".format(*sys.version_info)} | ({"project": name} if name else {})
    try:
        run_copy(
            str(_projects() / template),
            into,
            {**answers, "mlspec_version": mlspec.__version__},
            user_defaults=defaults,
            defaults=not ask,
            quiet=True,
        )
    except KeyboardInterrupt as error:
        # Copier's own kind of interrupt carries its whole state along.
        raise KeyboardInterrupt from error
    except (CopierError, ValueError, TypeError) as error:
        raise MlspecError(f"the template `{template}` cannot be used: {error}") from error
    schema = json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"
    (into / SCHEMA).write_text(schema, encoding="utf-8")


def _as_project_name(folder: str) -> str:
    """The folder's name with what a project's name cannot have made a hyphen; may be empty."""
    name = re.sub(r"[^a-z0-9]+", "-", folder.lower()).lstrip("-0123456789")
    return name[:63].rstrip("-")


def _repository_of(folder: Path) -> Path | None:
    """The root of the Git repository that the folder lies in."""
    try:
        return Git(folder).toplevel
    except GitError as error:
        if "not a git repository" in error.stderr:
            return None
        raise


def _files_under(folder: Path) -> Iterable[str]:
    for path in folder.rglob("*"):
        if not path.is_dir():
            yield path.relative_to(folder).as_posix()


def _check_free(directory: Path, files: Iterable[str]) -> None:
    """Nothing may stand where a file goes, and only a real folder where a folder goes."""
    taken = set()
    for file in files:
        if os.path.lexists(directory / file):
            taken.add(file)
        for parent in list(PurePosixPath(file).parents)[:-1]:
            place = directory / parent
            if place.is_symlink() or (place.exists() and not place.is_dir()):
                taken.add(str(parent))
    if taken:
        shown = ", ".join(sorted(taken))
        hint = "move them away, or choose another folder"
        raise MlspecError(f"{directory} already has {shown}", hint=hint)


def _move(rendered: Path, directory: Path, files: Iterable[str]) -> None:
    """Move the files, the spec last; after a failure everything is as it was."""
    made: list[Path] = []
    try:
        for file in sorted(files, key=lambda file: file == ROOT):
            place = directory / file
            for folder in reversed([place.parent, *place.parent.parents]):
                if not folder.exists():
                    folder.mkdir()
                    made.append(folder)
            (rendered / file).rename(place)
            made.append(place)
    except BaseException:
        for path in reversed(made):
            path.rmdir() if path.is_dir() else path.unlink()
        raise
