"""Which resources a difference touched: between two commits, or from one to the worktree.

Comes in: revisions as `changed:` has them, and the project's resolver. Goes out: addresses. A
resource is touched when a file that it is made of differs (data, code, requirements), or when the
spec says something else of it. Generated files count for themselves.

What a stage reads is found by tracing its code as it is after the difference. While no file was
deleted and no spec differs, its code read nothing else before: any file that led to another one
differs itself. Else the commit before is resolved too, in a folder of its own, and what the two
ask for is compared.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path

from mlspec.cache import Cache
from mlspec.errors import SpecError
from mlspec.git import Git
from mlspec.resolve import GitFiles, Resolver
from mlspec.resources import (
    DatasetResource,
    DeploymentResource,
    FileResource,
    GateResource,
    ModelResource,
    Resource,
    StageResource,
)
from mlspec.selection import SelectionError
from mlspec.spec.load import Loaded, load_spec
from mlspec.spec.paths import parents
from mlspec.spec.suggest import did_you_mean
from mlspec.worktree import Worktree

_COMMIT = re.compile(r"[0-9a-f]{40,64}")
_FETCH = (
    "fetch it if another repository has it; in CI, check out the whole history (fetch-depth: 0)"
)


def find_touched(git: Git, resolver: Resolver, revisions: str) -> set[str]:
    """The addresses that a difference touched; raises :class:`SelectionError` if it is none.

    `A...B`: what B changed since it left A. `A..B`: from A to B. `A`: from A to the worktree, with
    what is not committed.
    """
    before, after = _commits(git, revisions)
    difference = _difference(git, before, after)
    if after is not None and not difference.files:
        return set()
    now = _State(Resolver(resolver.loaded, resolver.worktree, resolver.git_files))
    if after is not None and _is_another(_difference(git, after, None), now):
        other = _state_of(git, after)
        if other is None:
            raise SelectionError(f"the spec of commit {after[:9]} cannot be used")
        now = other
    if not (difference.deleted or difference.touches(now.spec_files)):
        return set(_touched(difference, now))
    old = _state_of(git, before, beside=None if difference.deleted else now)
    return set(now.resources) if old is None else set(_touched(difference, now, old))


@dataclass(frozen=True, slots=True)
class _Difference:
    """Files that differ, with every folder that one lies in; whether one of them is gone."""

    files: frozenset[str]
    around: frozenset[str]
    deleted: bool
    local: bool
    """It goes up to the worktree."""

    def touches(self, paths: Iterable[str]) -> bool:
        """Whether one of these files differs, or something in one of these folders."""
        return not self.around.isdisjoint(paths)


class _State:
    """What the spec of a commit, or of the worktree, asks for.

    `alike` are models of which it says what the state `beside` it says; they are not read.
    """

    def __init__(self, resolver: Resolver, beside: _State | None = None) -> None:
        self._resolver = resolver
        self.spec_files = resolver.loaded.files
        self.alike = _alike(resolver.loaded, beside._resolver.loaded) if beside else frozenset()

    @cached_property
    def datasets(self) -> Mapping[str, Resource]:
        """Datasets by address; what they hold is not looked at."""
        named = self._resolver.spec.datasets.items()
        return {f"dataset.{name}": DatasetResource(name, each, True, ()) for name, each in named}

    @cached_property
    def resources(self) -> Mapping[str, Resource]:
        """Everything by address. Nothing is raised for what is missing: a plan does."""
        resolver = self._resolver
        files = map(FileResource, resolver.project_files())
        names = (name for name in resolver.spec.models if name not in self.alike)
        models = (each for name in names for each in resolver.model(name))
        found = chain(files, models, resolver.deployments())
        return {**self.datasets, **{each.address: each for each in found}}

    def whole(self) -> _State:
        """This, with all of it read: its files may be gone afterwards."""
        _ = self.resources
        return self

    def reads(self, resource: Resource) -> Iterator[str]:
        """The paths that a resource is made of."""
        match resource:
            case FileResource(generated=generated):
                yield generated.path
            case DatasetResource(dataset=dataset):
                yield from (dataset.path, f"{dataset.path}.dvc")
            case StageResource(dependencies=dependencies):
                yield from (each.path for each in dependencies if each.producer is None)
            case ModelResource(artifact=artifact, taken=taken) if artifact and taken:
                yield from (artifact.path, f"{artifact.path}.dvc")
            case DeploymentResource():
                yield self._resolver.spec.python.requirements

    def is_unrecorded(self, resource: Resource) -> bool:
        """Whether data that Git does not see are not those that their `.dvc` file names."""
        if not isinstance(resource, DatasetResource):
            return False
        path, worktree = resource.dataset.path, self._resolver.worktree
        if path in self._resolver.git_files.tracked:
            return False
        seen, recorded = worktree.digest(path), worktree.recorded_digest(path)
        return seen is not None and (recorded is None or seen.md5 != recorded.md5)


def _touched(difference: _Difference, now: _State, old: _State | None = None) -> Iterator[str]:
    for address, resource in (now.resources if difference.files else now.datasets).items():
        if (
            difference.touches(now.reads(resource))
            or (difference.local and now.is_unrecorded(resource))
            or (old is not None and not _asks_the_same(resource, old))
        ):
            yield address


def _is_another(local: _Difference, state: _State) -> bool:
    """Whether a commit may ask for something else than the worktree, from which it differs."""
    if local.deleted or local.touches(state.spec_files):
        return True
    stages = (each for each in state.resources.values() if isinstance(each, StageResource))
    return any(local.touches(state.reads(stage)) for stage in stages)


def _alike(one: Loaded, other: Loaded) -> frozenset[str]:
    """The models of which two specs say the same."""
    if (one.spec.python, one.spec.datasets) != (other.spec.python, other.spec.datasets):
        return frozenset()
    return frozenset(
        name
        for name, digest in one.model_digests.items()
        if other.model_digests.get(name) == digest
    )


def _asks_the_same(now: Resource, old: _State) -> bool:
    """Whether the spec says the same of a resource, whatever its files hold."""
    match now:
        case FileResource():
            return True
        case StageResource(model=model) | GateResource(model=model) | ModelResource(name=model):
            if model in old.alike:
                return True
    before = old.resources.get(now.address)
    return before is not None and _wish(now) == _wish(before)


def _wish(resource: Resource) -> Resource:
    match resource:
        case StageResource(dependencies=dependencies):
            paths = tuple(replace(each, md5=None) for each in dependencies)
            return replace(resource, dependencies=paths)
        case ModelResource(model=model):
            # its stages and gates are resources of their own; it names them
            alone = model.model_copy(update={"stages": {}, "gates": {}})
            return replace(resource, model=alone)
    return resource


def _state_of(git: Git, commit: str, beside: _State | None = None) -> _State | None:
    """What a commit asks for, from its files in a folder; none if it has no valid spec."""
    with tempfile.TemporaryDirectory(prefix="mlspec-") as folder:
        index, tree, cache = (Path(folder, name) for name in ("index", "tree", "cache.db"))
        env = {"GIT_INDEX_FILE": str(index), "GIT_LFS_SKIP_SMUDGE": "1"}
        tree.mkdir()
        git.run("read-tree", commit, env=env)
        git.run("checkout-index", "--all", "--quiet", f"--prefix={tree}/", env=env)
        try:
            loaded = load_spec(tree)
        except SpecError:
            return None
        with closing(Cache(cache, commit)) as remembered:
            resolver = Resolver(loaded, _Committed(tree, remembered), GitFiles())
            return _State(resolver, beside).whole()


class _Committed(Worktree):
    """The files of a commit."""

    def is_tracked(self, path: str) -> bool:
        return self.is_file(path)


def _commits(git: Git, revisions: str) -> tuple[str, str | None]:
    """The ends of a difference; the second is none for the worktree. One left out is HEAD."""
    if "..." in revisions:
        first, second = (_commit(git, each or "HEAD") for each in revisions.split("...", 1))
        base = git.merge_base(first, second)
        if not base:
            message = f"`{revisions}` have no commit in common"
            raise SelectionError(message, hint=_FETCH)
        return base, second
    if ".." in revisions:
        first, second = (_commit(git, each or "HEAD") for each in revisions.split("..", 1))
        return first, second
    return _commit(git, revisions), None


def _commit(git: Git, revision: str) -> str:
    if revision.startswith("-"):
        hint = "such as changed:main...HEAD or changed:HEAD~1"
        raise SelectionError(f"`{revision}` is not a revision", hint=hint)
    asked = ("--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    said = git.call("rev-parse", *asked).stdout.decode("utf-8", "replace").strip()
    if not _COMMIT.fullmatch(said):
        heads = (ref.removeprefix("refs/heads/") for ref in git.refs("refs/heads"))
        hint = did_you_mean(revision, heads) or _FETCH
        raise SelectionError(f"Git has no commit `{revision}` here", hint=hint)
    return said


def _difference(git: Git, before: str, after: str | None) -> _Difference:
    """Without an `after`, with files that are not ignored and not yet Git's."""
    options = ("--name-status", "-z", "--no-renames", "--no-ext-diff", "--ignore-submodules=none")
    ends = (before,) if after is None else (before, after)
    told = git.run("diff", *options, "--end-of-options", *ends, "--").split("\0")
    states = dict(zip(told[1::2], told[::2], strict=False))
    if after is None:
        listed = git.run("ls-files", "--others", "--exclude-standard", "-z").split("\0")
        states |= {path: "A" for path in listed if path}
    files = frozenset(states)
    return _Difference(
        files=files,
        around=files.union(*map(parents, files)),
        deleted="D" in states.values(),
        local=after is None,
    )
