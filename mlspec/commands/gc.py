"""`mlspec gc`: plan what nothing needs any more, ask, remove it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from mlspec.collection.reading import Shelves, find_shelves, read_known
from mlspec.collection.removing import carry_out, load_left
from mlspec.dvc.client import Dvc
from mlspec.dvc.locking import Busy
from mlspec.dvc.locking import locked as dvc_locked
from mlspec.errors import Locked, MlspecError
from mlspec.ledger.lease import hold
from mlspec.ledger.lock import acquire
from mlspec.planner.garbage import Garbage, plan_garbage
from mlspec.planner.known import Rules
from mlspec.reconcile import Project, open_project, remove_what_is_left
from mlspec.render.console import Console
from mlspec.render.garbage_text import render_garbage


@dataclass(frozen=True, slots=True)
class GcOptions:
    """What may go, and how; each is a flag of the command."""

    keep_days: int
    keep_versions: int
    data: bool
    shared: bool
    dry_run: bool
    yes: bool
    as_json: bool
    lock_timeout: float

    @property
    def rules(self) -> Rules:
        return Rules(self.keep_days, self.keep_versions, self.data, self.shared)


def gc(start: Path, console: Console, options: GcOptions) -> int:
    """Show the plan; unless that is all, ask and carry it out, with everybody else kept out."""
    with ExitStack() as stack:
        project = stack.enter_context(open_project(start))
        dvc = stack.enter_context(Dvc(project.root))
        if options.dry_run:
            project.ledger.refresh(console.note)
        else:
            stack.enter_context(_alone(project, console, options))
        shelves = find_shelves(project.git, dvc)
        plan = _plan(project, shelves, options.rules)
        if not options.as_json:
            console.say(render_garbage(plan, console.style, shelves.left_alone))
        removed = None
        if not (options.dry_run or plan.empty):
            if not options.yes:
                _confirm(console)
                _check_current(project, plan, shelves)
            removed = carry_out(project, plan, shelves)
    if options.as_json:
        told = {"left_alone": list(shelves.left_alone), "removed": removed and asdict(removed)}
        console.say_json({**plan.as_dict(), **told})
    elif removed is not None:
        console.say(f"Removed {removed}.")
    return 0


def _plan(project: Project, shelves: Shelves, rules: Rules) -> Garbage:
    """What may go at this moment."""
    return plan_garbage(read_known(project, shelves, rules, load_left(project.git)), rules)


def _check_current(project: Project, plan: Garbage, shelves: Shelves) -> None:
    """Raise if something needs by now what may go by a plan that was looked at for some time."""
    project.look_again()
    if not _plan(project, shelves, plan.rules).allows(plan):
        raise MlspecError(
            "some of these files are needed by now; nothing was removed",
            hint="run `mlspec gc` again",
        )


@contextmanager
def _alone(project: Project, console: Console, options: GcOptions) -> Iterator[None]:
    """Hold every lock that there is: nobody applies, here or elsewhere, and no DVC writes here."""
    deadline = time.monotonic() + options.lock_timeout
    with ExitStack() as stack:
        holder = stack.enter_context(acquire(project.git, options.lock_timeout, console.note))
        remove_what_is_left(project)
        lease = stack.enter_context(
            hold(
                project.git,
                holder,
                timeout=max(0.0, deadline - time.monotonic()),
                at_least=project.ledger.serial,
                note=console.note,
            )
        )
        project.ledger.sync()
        if (project.root / ".dvc").is_dir():
            try:
                stack.enter_context(dvc_locked(project.root))
            except Busy as error:
                raise Locked(f"another DVC is at work here: {error}") from error
        project.ledger.lease = lease
        try:
            yield
        finally:
            project.ledger.lease = None


def _confirm(console: Console) -> None:
    """Raises :class:`MlspecError` for no, and when nobody is there."""
    if not console.interactive:
        raise MlspecError(
            "nobody is here to confirm that these files are removed for good",
            hint="look at `mlspec gc --dry-run`, then run `mlspec gc --yes`",
        )
    if not console.confirm("Remove these files for good?"):
        raise MlspecError("not confirmed; nothing was removed")
