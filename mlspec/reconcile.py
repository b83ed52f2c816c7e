"""The way through: load, resolve, observe, plan, apply, record.

A :class:`Project` is a repository with a spec, opened for one command. Every command that plans or
applies goes through it; nothing else wires the parts together.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from mlspec import __version__
from mlspec.atomic import OWN, make_own_folder
from mlspec.cache import Cache
from mlspec.errors import MlspecError
from mlspec.git import Git, GitError
from mlspec.incremental import survey_changes, survey_file_changes, survey_model
from mlspec.ledger.moves import NO_MOVES, Moves, moved_recorded, moved_records
from mlspec.ledger.snapshot import Snapshot
from mlspec.ledger.state import Recorded, load_recorded
from mlspec.ledger.store import FETCHED, Ledger
from mlspec.memo import Memo
from mlspec.observe import observe, observe_resources, place_of
from mlspec.plan import Action, Outcome, Plan, Report, Status, Step
from mlspec.planner import (
    NONE,
    Facts,
    Leave,
    conclude,
    make_destroy_plan,
    make_restore_plan,
    survey,
    survey_again,
)
from mlspec.resolve import GitFiles, Resolver
from mlspec.resources import Desired, FileResource, Observed, around
from mlspec.spec.load import ROOT, Loaded, load_edited, load_spec
from mlspec.spec.moves import Renames, renames_of
from mlspec.spec.show import redact
from mlspec.undo import is_unfinished
from mlspec.worktree import Worktree

if TYPE_CHECKING:
    from mlspec.apply import Event, Pace
    from mlspec.ledger.entry import Entry
    from mlspec.ledger.lock import Holder
    from mlspec.ledger.records import Record
    from mlspec.planner.drift import Drift
    from mlspec.selection import Expression, Selected

CACHE = Path(OWN, "cache", "cache.db")
MOST_NAMED = 500
"""Datasets that Git is asked about by name; of more, it is asked for all that it tracks."""
SHARED = ("model.", "deployment.")
"""Steps whose records go to the remote at once; others may wait for the end."""
SERVES = "deployment."
"""Steps that others see at once, before they are recorded."""
USES_DVC = {Action.RUN, Action.RESTORE, Action.ADOPT, Action.DEPLOY, Action.ROLLBACK}
WORTH_A_LOOK = 10.0
"""Seconds of waiting after which the spec may have changed, too."""
BRINGS_BACK = {Action.RESTORE, Action.ADOPT}
"""Steps that put files into the worktree, which only DVC itself does."""


@dataclass
class Project:
    """A repository that has a spec at its root."""

    root: Path
    git: Git
    ledger: Ledger
    worktree: Worktree
    leave: Leave = NONE
    selection: Expression | None = None
    thorough: bool = False
    """Check all that the spec names on disk, also what was found well before and is unchanged."""
    _all_moved: bool = field(default=False, init=False)
    """Whether the ledger has all under the names of the spec: what is written here has, too."""

    @cached_property
    def loaded(self) -> Loaded:
        return load_spec(self.root, None if self.thorough else self.worktree.cache)

    @cached_property
    def resolver(self) -> Resolver:
        return Resolver(self.loaded, self.worktree, self._git_files())

    @cached_property
    def desired(self) -> Desired:
        """All that the spec asks for, of the files as they were when this was first asked."""
        return self.resolver.all()

    def desired_as(self, instead: Mapping[str, bytes]) -> Desired:
        """All that the spec would ask for if some of its files, by path, said something else."""
        loaded = load_edited(self.root, instead)
        return Resolver(loaded, self.worktree, self._git_files()).all()

    @cached_property
    def selected(self) -> Selected | None:
        """What `selection` stands for; none stands for everything."""
        if self.selection is None:
            return None
        from mlspec.changes import find_touched
        from mlspec.selection import Graph, select

        touched = partial(find_touched, self.git, self.resolver)
        graph = Graph(self.loaded.spec, self.loaded.interfaces, self._matrices)
        return select(self.selection, graph, touched)

    def _matrices(self) -> Mapping[str, Sequence[str]]:
        from mlspec.spec.precise import read_matrices

        return read_matrices(self.root, self.loaded.files)

    def recorded(self) -> Recorded:
        """What the ledger has now."""
        self.ledger.reload()
        return load_recorded(self.ledger)

    @cached_property
    def moves(self) -> Moves:
        """What the spec says was renamed; nothing while it is broken."""
        renames = Renames()
        with suppress(MlspecError):
            renames = renames_of(self.loaded.spec.moved)
        return Moves(renames, self.worktree.read_bytes)

    def recorded_so_far(self) -> Recorded:
        """What was seen or written here, all under the names that the spec has."""
        if self._all_moved:
            return load_recorded(self.ledger)
        recorded = moved_recorded(self.ledger.snapshot, self.moves)
        self._all_moved = not recorded.moving
        return recorded

    def observe(self) -> Observed:
        """What is there now."""
        return observe(self.desired, self.worktree)

    @cached_property
    def facts(self) -> Facts:
        """What changed, as of when this was first asked; models that need nothing are left out.

        With leave to do more than the spec asks for, nothing is left out.
        """
        if self.leave != NONE:
            return self.survey()
        return self._changes(survey_changes)

    @cached_property
    def file_facts(self) -> Facts:
        """As :attr:`facts`, but only what concerns files, and the steps of these."""
        return self._changes(survey_file_changes)

    def _changes(self, find: Callable[[Resolver, Worktree, Snapshot, Memo], Facts]) -> Facts:
        if self.worktree.cache is None:
            return self.survey()
        self.ledger.reload()
        memo = Memo(self.worktree.cache, self.worktree)
        return find(self.resolver, self.worktree, self.ledger.snapshot, memo)

    def survey(self) -> Facts:
        """The three readings of this moment of everything, and what follows from them."""
        return survey(self.desired, self.observe(), self._recorded_now(), self.leave)

    def _recorded_now(self) -> Recorded:
        self.ledger.reload()
        self._all_moved = False
        return self.recorded_so_far()

    def survey_model(self, name: str) -> Facts:
        """As :meth:`survey`, of one model and of what it takes from."""
        self.ledger.reload()
        return survey_model(self.resolver, self.worktree, self.ledger.snapshot, name)

    def look(self, facts: Facts, address: str) -> Facts:
        """`facts` with new readings of what is at `address`, of its model and of what this reads.

        The ledger is read as this project has written it, the worktree where it was told to forget.
        """
        facts.recorded = self.recorded_so_far()
        observe_resources(around(facts.desired, address), self.worktree, facts.observed)
        survey_again(facts, address)
        return facts

    def plan(self) -> Plan:
        """From the readings to a plan; takes the ledger from the remote where there is none yet."""
        self.ledger.ensure_local()
        selected = self.selected
        return self.plan_of(self.facts, selected)

    def look_again(self) -> None:
        """Forget all that was read, but for the ledger, which is told by itself."""
        self.worktree = Worktree(self.root, self.worktree.cache)
        self._all_moved = False
        for name in ("loaded", "resolver", "desired", "selected", "moves", "facts", "file_facts"):
            self.__dict__.pop(name, None)

    def plan_of(self, facts: Facts, selected: Selected | None = None) -> Plan:
        """The plan that a survey of this project comes to, or of it what is selected."""
        commit, ledger = self.git.head(), self.ledger.tip
        return conclude(facts, commit=commit, ledger=ledger, selection=selected)

    def drifts(self, plan: Plan) -> tuple[Drift, ...]:
        """What of a plan of this project is drift: nobody asked for it."""
        from mlspec.planner.drift import find_drifts

        written = [step for step in plan.steps if step.address.startswith("file.")]
        edited = self._edited_files(written) if written else frozenset[str]()
        return tuple(find_drifts(plan.steps, lambda step: step.address in edited))

    def _edited_files(self, steps: Sequence[Step]) -> frozenset[str]:
        """Of the steps of generated files, those whose file has left what Git or the ledger has.

        While the spec has edits that are not committed, most steps follow from these; then only a
        file that Git has just as the spec compiles it was edited.
        """
        from mlspec.planner.drift import is_known

        paths = [step.address.removeprefix("file.") for step in steps]
        committed = self.git.blobs("HEAD", paths) if self.git.head() else {}
        said = self.git.run("status", "--porcelain", "-z", "--no-renames", "--untracked-files=all")
        changed = {line[3:] for line in said.split("\0")}
        clean = changed.isdisjoint(self.loaded.files)
        edited = set()
        for step in steps:
            blob = committed.get(step.address.removeprefix("file."))
            resource = self.facts.desired.resources.get(step.address)
            if isinstance(resource, FileResource):
                text = resource.generated.text.encode()
                known = blob is not None or is_known(self.facts, step)
                if (clean and known) or blob == self.git.blob_name(text):
                    edited.add(step.address)
            elif clean:
                edited.add(step.address)
        return frozenset(edited)

    def destroy_plan(self) -> Plan:
        """A plan that stops and forgets every deployment, each under the name that it has."""
        self.ledger.ensure_local()
        self.moves = NO_MOVES
        deployments = self.resolver.desired(self.resolver.deployments())
        return make_destroy_plan(
            deployments,
            observe(deployments, self.worktree),
            self.recorded(),
            commit=self.git.head(),
            ledger=self.ledger.tip,
        )

    def restore_plan(self) -> Plan:
        """A plan that brings the outputs of every known run into the worktree."""
        self.ledger.ensure_local()
        self.leave = Leave(bring=True)
        return make_restore_plan(
            self.desired,
            self.observe(),
            self._recorded_now(),
            commit=self.git.head(),
            ledger=self.ledger.tip,
        )

    @property
    def place(self) -> str:
        """Names this machine and checkout."""
        return place_of(self.root)

    def _git_files(self) -> GitFiles:
        paths = [dataset.path for dataset in self.loaded.spec.datasets.values()]
        ignored = frozenset[str]()
        # of more, the names would be too long for one command
        some = (OWN, *paths) if len(paths) <= MOST_NAMED else ()
        listed = self.git.run("ls-files", "-z", "--", *(f":(literal){path}" for path in some))
        tracked = frozenset(_with_parents(listed.split("\0")))
        if OWN in tracked:
            raise MlspecError(
                f"Git tracks files in {OWN}, which mlspec trusts as its own",
                hint=f"take them out of Git: git rm -r --cached {OWN}",
            )
        if others := [path for path in paths if path not in tracked]:
            listed = self.git.call(
                "check-ignore", "-z", "--stdin", stdin="\0".join(others).encode()
            ).stdout.decode()
            ignored = frozenset(filter(None, listed.split("\0")))
        return GitFiles(tracked, ignored)


@contextmanager
def open_project(
    start: Path, select: Sequence[str] = (), *, adopting: bool = False
) -> Iterator[Project]:
    """The project that `start` lies in; its memory of digests is kept when the block ends.

    `select` are expressions of what it is about; without one, everything. Raises
    :class:`MlspecError` outside of a Git repository, when its root has no spec, or has only a part
    of what an adoption writes, unless the caller is that one.
    """
    selection = None
    if select:
        from mlspec.selection import parse

        selection = parse(*select)
    git = Git(start)
    root = git.toplevel
    if not adopting and is_unfinished(root):
        raise MlspecError(
            "an adoption was cut short, or is still at work: not all that it writes is there",
            hint="`mlspec adopt` takes back what it wrote, and begins anew",
        )
    if not (root / ROOT).exists():
        nearer = next((p for p in (start, *start.parents) if (p / ROOT).exists()), None)
        raise MlspecError(
            f"there is no {ROOT} at the root of the Git repository, {root}",
            hint=f"the spec in {nearer} must be at the root: run `git init` there"
            if nearer
            else "`mlspec init` makes a project; in an empty folder of its own, not below another",
        )
    git = Git(root)
    with suppress(OSError):
        make_own_folder(root)
    # another Python has other modules of its own
    cache = Cache(root / CACHE, f"{__version__} {sys.hexversion:x} {place_of(root)}")
    try:
        yield Project(root, git, Ledger(git), Worktree(root, cache), selection=selection)
    finally:
        cache.close()
        git.close()


def apply_project(
    project: Project,
    plan: Plan,
    *,
    command: str,
    on_event: Callable[[Event], None],
    pace: Pace,
    clean: bool = False,
) -> Report:
    """Carry `plan` out and record every step; the caller holds the lock.

    `clean` if the caller knows that only mlspec itself wrote what differs from the commit. Raises
    :class:`MlspecError` when the ledger cannot be written or published.
    """
    from mlspec.apply import apply_plan
    from mlspec.dvc.client import Dvc
    from mlspec.executors import Stop
    from mlspec.executors.capacity import Machine
    from mlspec.executors.local import LocalExecutor
    from mlspec.executors.registry import Executors
    from mlspec.ledger.entry import make_entry
    from mlspec.ledger.unfinished import at_work
    from mlspec.providers.context import Context, Source

    remove_what_is_left(project)
    entry = make_entry(project.git, command, plan.digest, plan.selection)
    if clean:
        entry = entry.model_copy(update={"dirty": False})
    head = project.git.head()
    recorded = project.recorded()
    stop, machine = Stop(), Machine()
    executors = Executors(project.git, project.loaded.spec.executors)
    working = at_work(project.ledger, entry)
    with working, Dvc(project.root, project.worktree.digest) as dvc, closing(executors):
        context = Context(
            root=project.root,
            desired=project.facts.desired,
            facts=project.facts,
            recorded=recorded,
            worktree=project.worktree,
            dvc=dvc,
            executor=LocalExecutor(stop, machine),
            logs=project.root / ".mlspec" / "logs" / _run_name(),
            source=Source(head, entry.dirty, project.git.commit_time() if head else 0),
            place=project.place,
            executors=executors,
            stop=stop,
            moved=partial(_moved, project),
            token=project.ledger.lease.token if project.ledger.lease else 0,
        )
        actions = {step.action for step in plan.steps}
        if actions & USES_DVC:
            dvc.warm_up(brings_back=bool(actions & BRINGS_BACK))
        report = apply_plan(
            plan,
            context,
            world=_Reconciled(project, entry),
            on_event=on_event,
            machine=machine,
            pace=pace,
        )
        project.ledger.publish(last=True)
        project.ledger.tidy()
    return report


@contextmanager
def locked_plan(
    project: Project,
    plan: Callable[[], Plan],
    holder: Holder,
    *,
    deadline: float,
    note: Callable[[str], None],
) -> Iterator[Plan]:
    """The plan, while other clones are kept from doing the same; the caller is `holder` here.

    The lock at the remote is taken if there is more to do than to write files. If others did
    something since the plan was made, it is made again. Raises :class:`Locked` after `deadline`, in
    seconds of the monotonic clock.
    """
    made = plan()
    if project.ledger.alone or all(step.address.startswith("file.") for step in made.steps):
        yield made
        return
    from mlspec.ledger.lease import hold

    began, ledger = time.monotonic(), project.ledger
    timeout = max(0.0, deadline - began)
    with hold(project.git, holder, timeout=timeout, at_least=ledger.serial, note=note) as lease:
        waited = time.monotonic() - began > WORTH_A_LOOK
        if lease is not None and (waited or lease.ledger != project.git.ref(FETCHED)):
            ledger.sync()
            project.look_again()
            made = plan()
        ledger.lease = lease
        try:
            yield made
        finally:
            ledger.lease = None


def settle(project: Project) -> None:
    """When there is nothing to apply: tell the audit and the remote what is left to tell."""
    from mlspec.ledger.unfinished import settle_unfinished

    remove_what_is_left(project)
    settle_unfinished(project.ledger)
    project.ledger.publish()


def remove_what_is_left(project: Project) -> None:
    """End the commands, and take away the unnamed files, of applies that did not end.

    The caller holds the lock. Also in other worktrees of the repository: who applies there next is
    told of nothing.
    """
    from mlspec.ledger.unfinished import worktrees_left

    if places := worktrees_left(project.git, project.root):
        from mlspec.executors.orphans import end_orphans
        from mlspec.leftovers import remove_leftovers

        for place in places:
            end_orphans(place)
            remove_leftovers(place, project.git, storage_folder(place))


def storage_folder(root: Path) -> Path | None:
    """Where DVC's storage is, if that is a folder."""
    from mlspec.dvc.settings import Unusual, load_settings, settings_files

    with suppress(Unusual, OSError):
        return load_settings(settings_files(root)).storage
    return None


def _moved(project: Project, former: str) -> Mapping[str, Record | None]:
    return moved_records(project.ledger.snapshot, project.moves, former)


@dataclass(frozen=True)
class _Reconciled:
    """A project while it is applied: a :class:`mlspec.apply.World`."""

    project: Project
    entry: Entry

    def look(self, address: str) -> Facts:
        return self.project.look(self.project.facts, address)

    def guard(self, step: Step) -> None:
        if (lease := self.project.ledger.lease) is None:
            return
        if step.address.startswith(SERVES):
            lease.check()
        elif not step.address.startswith("file."):
            lease.check_late()

    def recorded(self) -> Recorded:
        return self.project.recorded_so_far()

    def record(self, outcome: Outcome, records: Mapping[str, Record | None]) -> None:
        step = outcome.step
        about = self.entry.about(
            step.address, step.action.value, outcome.status.value, _remembered(outcome)
        )
        with _recording(outcome):
            self.project.ledger.stage(records, about)

    def settle(self, outcome: Outcome) -> None:
        with _recording(outcome):
            self.project.ledger.flush()
        if outcome.step.address.startswith(SHARED) and outcome.status is Status.DONE:
            self.project.ledger.publish()


@contextmanager
def _recording(outcome: Outcome) -> Iterator[None]:
    try:
        yield
    except GitError as error:
        raise MlspecError(
            f"{outcome.step.address} ({outcome.status}) cannot be recorded: {error.message}",
            hint=error.hint or "mend the cause and apply again",
        ) from error


def _remembered(outcome: Outcome) -> str:
    """What the ledger keeps of an outcome: no line of a user's program, which may hold a secret."""
    return redact(outcome.detail.split("\n", 1)[0][:500])


def _run_name() -> str:
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%S") + f"-{os.getpid()}"


def _with_parents(paths: list[str]) -> Iterator[str]:
    """Each tracked path and the folders that it lies in: a dataset may be a folder."""
    for path in filter(None, paths):
        yield path
        yield from (str(parent) for parent in Path(path).parents if str(parent) != ".")
