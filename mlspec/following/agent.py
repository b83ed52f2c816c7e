"""The agent: goes round, and does what :mod:`~mlspec.following.decision` says.

A commit is attempted once. What was recorded of it is true whenever the agent is killed: the next
one takes up the commit that was under way, and an apply that is begun again converges.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from mlspec.apply import Ended, Lingering, Pace
from mlspec.apply import Event as StepEvent
from mlspec.errors import (
    ExitCode,
    Interrupted,
    Locked,
    MlspecError,
    RemoteUnreachable,
    SpecError,
    unusable,
)
from mlspec.following.clone import Clone, Kept
from mlspec.following.decision import (
    Branch,
    Choices,
    GiveUp,
    Observe,
    Try,
    decide,
    heals,
    pause_after,
)
from mlspec.following.memory import (
    Attempt,
    Ending,
    Memory,
    ending_of,
    keep_memory,
    load_memory,
)
from mlspec.following.telemetry import Board
from mlspec.git import Git
from mlspec.ledger.entry import iso_time, make_entry
from mlspec.ledger.history import log
from mlspec.ledger.lock import Holder, acquire
from mlspec.ledger.store import Ledger
from mlspec.plan import Plan, Report, Status
from mlspec.planner import check_deletes
from mlspec.planner.drift import Drift, heal_steps
from mlspec.reconcile import Project, apply_project, locked_plan, open_project, settle
from mlspec.spec.show import redact

COMMAND = "reconcile"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that people and machines are told: `text` in words, `data` in fields."""

    name: str
    text: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Setting:
    """What the agent follows and how."""

    root: Path
    remote: str
    branch: str
    choices: Choices
    interval: float
    pace: Pace


@dataclass(frozen=True, slots=True)
class _Result:
    """What an attempt came to."""

    ending: Ending
    detail: str
    exit_code: int


class Agent:
    """Follows one branch in one clone."""

    def __init__(
        self,
        setting: Setting,
        *,
        on_event: Callable[[Event], None],
        on_report: Callable[[Path, Report], None],
        board: Board,
    ) -> None:
        self._setting = setting
        self._choices = setting.choices
        self._on_event = on_event
        self._on_report = on_report
        self._board = board
        self._failures = 0
        """Rounds in a row that could not reach something."""
        self._look_after = 0.0
        """When the remote is asked again after that, in monotonic time."""
        self._healing_failed = 0
        self._heal_after = 0.0
        self._told: dict[str, object] = {}
        """What was told last about what goes on, so that it is told once."""
        self._postponed = 0
        """The exit code of what this round had to leave for later."""
        self._attempted = False
        """Whether this round came to the end of an attempt."""
        self._spoken = False
        """Whether this round told anything."""

    def once(self) -> int:
        """Go round once; the exit code of what needs attention, 2 for drift that is left."""
        branch, memory = self._round()
        last = memory.last
        if self._postponed:
            return self._postponed
        if branch and last and last.commit == branch.tip and not last.ending.good:
            if not self._attempted:
                text = f"{last.commit[:9]} was {last.ending.value} before, and is not tried again"
                data = {"outcome": last.ending.value, "detail": last.detail}
                self._tell("left", f"{text} without --retry", commit=last.commit, **data)
            return last.exit_code
        if branch and last and not self._spoken:
            self._tell("idle", f"nothing is new since {last.commit[:9]}", commit=last.commit)
        return ExitCode.CHANGES if self._board.now.drift else ExitCode.OK

    def watch(self) -> None:
        """Go round until a signal ends it."""
        try:
            while True:
                _, memory = self._round()
                pause = pause_after(self._failures, self._setting.interval)
                if heals(memory, self._choices):
                    # what dies while the remote is away does not wait for that
                    pause = self._setting.interval
                self._show(turned=time.monotonic(), patience=pause + 60.0, working=False)
                time.sleep(pause)
        finally:
            with suppress(OSError):
                self._tell("stopped", "stopped")

    # One round ------------------------------------------------------------------------------------

    def _round(self) -> tuple[Branch | None, Memory]:
        """Look, then do what is to be done until only observing is left."""
        began, self._postponed = time.monotonic(), 0
        self._attempted = self._spoken = False
        self._show(working=True, rounds=self._board.now.rounds + 1)
        with closing(Git(self._setting.root)) as git:
            clone = Clone(git, self._setting.remote, self._setting.branch)
            memory = load_memory(clone.root, clone.remote, clone.branch)
            due = began >= self._look_after
            branch = self._look(clone, memory) if due else None
            if not memory.busy:
                clone.check_alone(memory)
            if branch is not None:
                memory = self._read_rules(clone, branch, memory)
            memory = self._do(clone, branch, memory)
        self._show_memory(memory)
        self._show(seconds=time.monotonic() - began)
        if due:
            self._failures = self._failures + 1 if self._postponed else 0
            pause = pause_after(self._failures, self._setting.interval)
            self._look_after = time.monotonic() + pause if self._failures else 0.0
            self._show(reached=branch is not None)
        return branch, memory

    def _look(self, clone: Clone, memory: Memory) -> Branch | None:
        try:
            branch = clone.look(memory)
        except RemoteUnreachable as error:
            self._postponed = error.exit_code
            self._tell_once("remote", error.message, "unreachable", error.message)
            return None
        self._tell_once("remote", "", "reached", f"{clone.remote} answers again")
        return branch

    def _read_rules(self, clone: Clone, branch: Branch, memory: Memory) -> Memory:
        rules = clone.rules(branch.tip)
        if rules is None or rules == memory.rules:
            return memory
        return self._keep(clone, replace(memory, rules=rules))

    def _do(self, clone: Clone, branch: Branch | None, memory: Memory) -> Memory:
        if branch is not None and branch.rewritten:
            text = f"{clone.branch} was rewritten: only its newest commit is applied"
            self._tell("rewritten", text, commit=branch.tip)
        while True:
            decision = decide(memory, branch, self._choices, datetime.now(UTC))
            match decision:
                case Try(commit):
                    attempted = self._try(clone, memory, commit)
                    if attempted is None:
                        return load_memory(clone.root, clone.remote, clone.branch)
                    memory = attempted
                case GiveUp(commit):
                    detail = f"its apply began {memory.starts} times and never came to an end"
                    result = _Result(Ending.FAILED, detail, ExitCode.ERROR)
                    memory = self._end(clone, memory, commit, result, resumed=True)
                case Observe(heal=heal, frozen=frozen):
                    self._tell_freeze(frozen)
                    if not memory.busy and memory.at:
                        memory = self._observe(clone, memory, heal=heal, alone=branch is None)
                    return memory
            assert branch is not None
            branch = Branch(branch.tip, branch.new[1:])
            self._choices = replace(self._choices, retry=False)

    def _tell_freeze(self, frozen: datetime | None) -> None:
        self._show(frozen=frozen is not None)
        until = frozen and iso_time(frozen.timestamp())
        text = f"frozen until {until}: nothing is changed" if until else "the freeze is over"
        self._tell_once("frozen", until or "", "frozen" if until else "thawed", text, until=until)

    # One commit -----------------------------------------------------------------------------------

    def _try(self, clone: Clone, memory: Memory, commit: str) -> Memory | None:
        """What is remembered after the attempt; none if it must be made later."""
        began, resumed = time.monotonic(), memory.busy == commit
        subject = clone.subject(commit)
        try:
            with acquire(clone.git) as holder:
                self._tell("applying", f"{commit[:9]} {subject}", commit=commit, subject=subject)
                memory = self._keep(clone, _begun(memory, commit))
                kept, result = self._attempt(clone, memory, commit, holder)
                if result.ending.untouched and memory.at:
                    clone.back(memory.at, kept)
                memory = load_memory(clone.root, clone.remote, clone.branch)
                seconds = time.monotonic() - began
                return self._end(clone, memory, commit, result, seconds, resumed=resumed)
        except (Locked, RemoteUnreachable) as error:
            self._postponed = error.exit_code
            data = {"commit": commit, "detail": error.message}
            self._tell("postponed", f"{commit[:9]} is postponed: {error.message}", **data)
            return None

    def _attempt(
        self, clone: Clone, memory: Memory, commit: str, holder: Holder
    ) -> tuple[Kept, _Result]:
        """Check the commit out and apply it; raises what only asks for another try."""
        kept: Kept = {}
        begun = False
        try:
            kept = clone.go(commit)
            with ExitStack() as stack:
                project = stack.enter_context(open_project(clone.root))
                project.ledger.sync()
                plan = stack.enter_context(self._locked(project, project.plan, holder))
                check_deletes(
                    plan,
                    project.loaded.spec,
                    allowed=self._choices.allow_delete,
                    allow_empty=False,
                )
                if plan.empty:
                    settle(project)
                    ending = Ending.APPLIED if memory.starts else Ending.UNCHANGED
                    return kept, _Result(ending, "nothing to do", ExitCode.OK)
                self._keep(clone, replace(memory, starts=memory.starts + 1))
                begun = True
                report = self._carry_out(project, plan)
            self._on_report(clone.root, report)
        except Interrupted:
            self._keep(clone, memory)  # that it did not end was asked for, and is not counted
            raise
        except (Locked, RemoteUnreachable):
            raise
        except SpecError as error:
            return kept, _Result(Ending.INVALID, _problems(error), error.exit_code)
        except MlspecError as error:
            ending = Ending.FAILED if begun else Ending.REFUSED
            return kept, _Result(ending, error.message, error.exit_code)
        except OSError as error:
            return kept, _Result(Ending.FAILED, unusable(error).message, ExitCode.ERROR)
        if report.exit_code == ExitCode.UNREACHABLE:
            raise RemoteUnreachable(_summary(report))
        if report.exit_code == ExitCode.LOCKED:
            raise Locked(_summary(report))
        code = report.exit_code
        return kept, _Result(ending_of(code), _summary(report), code)

    def _end(
        self,
        clone: Clone,
        memory: Memory,
        commit: str,
        result: _Result,
        seconds: float = 0.0,
        *,
        resumed: bool,
    ) -> Memory:
        """Remember, record and tell how an attempt ended."""
        self._attempted = True
        detail = redact(result.detail.split("\n")[0][:500])
        attempt = Attempt(
            commit=commit,
            subject=clone.subject(commit),
            parameters=self._choices.parameters,
            ending=result.ending,
            detail=detail,
            exit_code=int(result.exit_code),
            when=iso_time(time.time()),
            seconds=round(seconds, 3),
        )
        if result.ending is not Ending.UNCHANGED:
            _record(clone.git, attempt, resumed=resumed)
        memory = self._keep(clone, memory.after(attempt, clone.changed()))
        text = f"{commit[:9]} {result.ending.value}: {detail}"
        data = {"subject": attempt.subject, "exit_code": attempt.exit_code}
        self._tell(
            "attempted", text, commit=commit, outcome=result.ending.value, detail=detail, **data
        )
        with suppress(RemoteUnreachable):  # the next apply publishes it
            Ledger(clone.git).publish()
        return memory

    # Drift ----------------------------------------------------------------------------------------

    def _observe(self, clone: Clone, memory: Memory, *, heal: bool, alone: bool) -> Memory:
        """Look for drift, and mend it if told so and if that did not just fail.

        What is mended `alone`, without the remote, is recorded here and published later.
        """
        due = heal and time.monotonic() >= self._heal_after
        found = self._find_drift(clone, alone=alone)
        if not alone:
            self._publish(clone)
        if not found or not due:
            return memory
        try:
            report = self._heal(clone, alone=alone)
        except (Locked, RemoteUnreachable) as error:
            self._postponed = error.exit_code
            return memory
        except MlspecError as error:
            self._tell("not healed", f"not healed: {error.message}")
            report = None
        self._healing_failed = 0 if report and not report.exit_code else self._healing_failed + 1
        pause = pause_after(self._healing_failed, self._setting.interval)
        self._heal_after = time.monotonic() + (pause if self._healing_failed else 0.0)
        if report is not None and report.outcomes:
            done, steps = report.count(Status.DONE), len(report.outcomes)
            name = "not healed" if report.exit_code else "healed"
            self._tell(name, f"{name}: {done} of {steps} steps done", done=done, steps=steps)
            memory = self._keep(clone, replace(memory, left=clone.changed()))
            self._find_drift(clone, alone=alone)
        return memory

    def _publish(self, clone: Clone) -> None:
        """Bring to the remote what was recorded while that was out of reach."""
        if (ledger := Ledger(clone.git)).published:
            return
        problem = ""
        try:
            with acquire(clone.git):
                ledger.publish()
        except (Locked, RemoteUnreachable):
            return  # the next round tries again
        except MlspecError as error:
            problem = error.message
        said = f"not published: {problem}" if problem else "published what was recorded here"
        self._tell_once("unpublished", said, "not published" if problem else "published", said)

    def _find_drift(self, clone: Clone, *, alone: bool) -> tuple[Drift, ...]:
        try:
            with open_project(clone.root) as project:
                project.ledger.alone = alone
                project.ledger.refresh(lambda _: None)
                found = project.drifts(project.plan())
        except MlspecError as error:
            self._show(drift=None)
            self._tell_once("drift", error.message, "blind", f"drift is unknown: {error.message}")
            return ()
        self._show(drift=len(found))
        told = ", ".join(f"{each.address} ({each.reason})" for each in found)
        name, text = ("drift", f"drift: {told}") if found else ("in step", "no drift is left")
        self._tell_once("drift", told, name, text, drift=[each.as_dict() for each in found])
        return found

    def _heal(self, clone: Clone, *, alone: bool) -> Report:
        with ExitStack() as stack:
            holder = stack.enter_context(acquire(clone.git))
            project = stack.enter_context(open_project(clone.root))
            project.ledger.alone = alone
            project.ledger.sync()

            def find_healing() -> Plan:
                plan = project.plan()
                found = project.drifts(plan)
                steps = heal_steps(plan.steps, found, deletes=self._choices.allow_delete)
                return replace(plan, steps=tuple(steps))

            healing = stack.enter_context(self._locked(project, find_healing, holder))
            if healing.empty:
                return Report(())
            return self._carry_out(project, healing)

    def _locked(
        self, project: Project, plan: Callable[[], Plan], holder: Holder
    ) -> AbstractContextManager[Plan]:
        """The plan, with the lock at the remote; the agent does not wait for it but comes again."""
        note = partial(self._tell, "warning")
        return locked_plan(project, plan, holder, deadline=time.monotonic(), note=note)

    def _carry_out(self, project: Project, plan: Plan) -> Report:
        return apply_project(
            project,
            plan,
            command=COMMAND,
            on_event=self._on_step,
            pace=self._setting.pace,
            clean=True,
        )

    # What is told ---------------------------------------------------------------------------------

    def _on_step(self, event: StepEvent) -> None:
        match event:
            case Ended(outcome=outcome):
                step, said = outcome.step, outcome.detail.split("\n")[0]
                text = f"  {step.address}: {step.action.value} {outcome.status.value}"
                self._tell(
                    "step",
                    f"{text}, {said}" if said else text,
                    address=step.address,
                    action=step.action.value,
                    outcome=outcome.status.value,
                    detail=said,
                )
            case Lingering(addresses=addresses):
                self._tell("stopping", f"recording what ended: {', '.join(addresses)}")

    def _tell(self, name: str, text: str, **data: Any) -> None:
        self._spoken = True
        self._on_event(Event(name, text, data))

    def _tell_once(self, about: str, state: str, name: str, text: str, **data: Any) -> None:
        """Tell of a state that is another than before; at first, all is well."""
        if self._told.get(about, "") != state:
            self._told[about] = state
            self._tell(name, text, **data)

    def _keep(self, clone: Clone, memory: Memory) -> Memory:
        keep_memory(clone.root, memory)
        self._show_memory(memory)
        return memory

    def _show_memory(self, memory: Memory) -> None:
        succeeded = None
        if memory.applied_at:
            succeeded = datetime.fromisoformat(memory.applied_at).timestamp()
        self._show(commit=memory.applied, ended=memory.ended, succeeded=succeeded)

    def _show(self, **changes: Any) -> None:
        self._board.now = replace(self._board.now, **changes)


def _record(git: Git, attempt: Attempt, *, resumed: bool) -> None:
    """Have the attempt in the audit: once, also if the agent was killed right after that."""
    ledger = Ledger(git)
    address, outcome = f"commit.{attempt.commit[:12]}", attempt.ending.value
    if resumed and any((e.address, e.outcome) == (address, outcome) for e in log(ledger, 1)):
        return
    entry = make_entry(git, COMMAND).about(address, "apply", outcome, attempt.detail)
    ledger.record({}, entry.model_copy(update={"commit": attempt.commit, "dirty": False}))


def _begun(memory: Memory, commit: str) -> Memory:
    """What is remembered while a commit is under way."""
    return replace(memory, busy=commit, starts=memory.starts if memory.busy == commit else 0)


def _summary(report: Report) -> str:
    """What was done, or the first thing that failed."""
    failed = [each for each in report.outcomes if each.status is Status.FAILED]
    if not failed:
        count = report.count(Status.DONE)
        return f"{count} step{'' if count == 1 else 's'} done"
    first = failed[0].detail.split("\n")[0]
    said = first if failed[0].step.address in first else f"{failed[0].step.address}: {first}"
    return said if len(failed) == 1 else f"{said}; and {len(failed) - 1} more failed"


def _problems(error: SpecError) -> str:
    first = error.diagnostics[0]
    where = f" at {first.place}" if first.place else ""
    said = f"{first.code}{where}: {first.message}"
    more = len(error.diagnostics) - 1
    return f"{said}; and {more} more problem{'' if more == 1 else 's'}" if more else said
