"""A stage of DVC's, looked at: its command, whether a spec can say it, whether DVC would run it.

Comes in: the stage and the files of the repository. Goes out: text. Changes nothing.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Collection, Iterator, Mapping

from pydantic import ValidationError

from mlspec.adoption.repository import MD5, Known, OldStage
from mlspec.spec.checks import paths as path_checks
from mlspec.spec.checks import values as value_checks
from mlspec.spec.models import Model
from mlspec.spec.paths import BARE, parents
from mlspec.worktree import Worktree

_OWN_SHELL = re.compile(r"[;&|]|^\s*(?:cd|export|set|source|unset|alias|\.|\w+=\S*$)(?:\s|$)")
"""Lines that mean something else, or do something to the next, when they share a shell."""
_COMMENT = re.compile(r"(?:^|\s)#")


def command_of(stage: OldStage) -> str:
    """One line that runs at the root: DVC gives each line a shell, and stops when one fails."""
    alone = stage.wdir == "." and len(stage.lines) == 1
    parts = [line if alone or not _OWN_SHELL.search(line) else f"({line})" for line in stage.lines]
    folder = [] if stage.wdir == "." else [f"cd {shlex.quote(stage.wdir)}"]
    return " && ".join([*folder, *parts])


def as_input(path: str) -> str:
    """As an input is written: a bare word would be a dataset."""
    return f"./{path}" if BARE.fullmatch(path) else path


def find_obstacle(
    stage: OldStage, tree: Worktree, owned: Collection[str]
) -> tuple[str, str] | None:
    """Why a spec cannot say the stage, and what to do; `owned`: what stages write, and data."""
    return next(_obstacles(stage, tree, owned), None)


def why_stale(stage: OldStage, contents: Mapping[str, Known], tree: Worktree) -> str:
    """Why DVC would run the stage; empty if it would not."""
    lacking = [out.path for out in stage.outs if not out.known.md5]
    if lacking:
        return f"it was never run: DVC knows no {', '.join(lacking)}"
    if not (stage.outs or stage.deps or stage.params):
        return "it reads and writes nothing, so nothing tells that it ran"
    if any(known.kind != MD5 for known in (*stage.deps, *(out.known for out in stage.outs))):
        return "it was run by DVC 2, whose digests are of another kind"
    if stage.changed:
        return "its command has changed since it ran"
    for params in stage.params:
        if params.changed:
            return f"{params.path} has other values than when it ran: {params.changed[0]}"
    for dep in stage.deps:
        now = _digest(dep.path, contents, tree)
        if not dep.md5 or now not in (None, dep.md5):
            return f"{dep.path} has changed since it ran"
    for out in stage.outs:
        seen = tree.digest(out.path)
        if seen is not None and seen.md5 != out.known.md5:
            return f"{out.path} has changed since it was written"
    return ""


def _digest(path: str, contents: Mapping[str, Known], tree: Worktree) -> str | None:
    """What a path holds as recorded, else as it is; None if nobody knows."""
    if path in contents:
        return contents[path].md5
    seen = tree.digest(path)
    return seen.md5 if seen else None


def _obstacles(
    stage: OldStage, tree: Worktree, owned: Collection[str]
) -> Iterator[tuple[str, str]]:
    named = [*stage.deps, *(out.known for out in stage.outs)]
    for known in named:
        if known.special:
            message = f"{known.path} is a dependency of another kind ({known.special[0]})"
            yield message, "import it with `dvc import`, and name the file that this gives"
        if _is_outside(known.path):
            hint = "keep the data in the repository, or declare a dataset with a `source`"
            yield f"{known.path} lies outside of the repository", hint
    if _is_outside(stage.wdir):
        yield f"it runs in {stage.wdir}, outside of the repository", "move what it runs"
    apart = len(stage.lines) == 1 and stage.wdir == "."
    if any("\n" in line or (_COMMENT.search(line) and not apart) for line in stage.lines):
        hint = "put it into a script, and name that as the command"
        yield "one of its commands has several lines or a comment", hint
    body = {"command": command_of(stage), "outputs": [out.path for out in stage.outs]}
    body["inputs"] = [as_input(dep.path) for dep in stage.deps if not _is_outside(dep.path)]
    try:
        model = Model.model_validate_json(json.dumps({"stages": {"stage": body}}))
    except ValidationError as error:
        yield str(error.errors()[0]["msg"]), "mend it in dvc.yaml, then adopt again"
        return
    for check in (
        path_checks.check_model("m", model, ()),
        value_checks.check_model("m", model),
    ):
        for problem in check:
            at = problem.path[-2:]
            path = body[str(at[0])][int(at[1])] if isinstance(at[-1], int) else "its command"
            yield f"{path}: {problem.message}", problem.hint
    for dep in stage.deps:
        if not tree.exists(dep.path) and not _is_made(dep.path, owned):
            yield f"{dep.path} is not there", "bring it back, then adopt again"


def _is_made(path: str, owned: Collection[str]) -> bool:
    """Whether `path` is an output or data, lies in one or holds one."""
    around = {path, *parents(path)}
    return any(out in around or out.startswith(f"{path}/") for out in owned)


def _is_outside(path: str) -> bool:
    return path.startswith(("/", "../", "~")) or path == ".." or "://" in path
