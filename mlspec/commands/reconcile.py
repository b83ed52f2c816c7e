"""`mlspec reconcile`: follow a branch, and apply each new commit once."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from mlspec.apply import Pace
from mlspec.commands.failures import keep_failures
from mlspec.errors import MlspecError
from mlspec.executors.capacity import count_cpus
from mlspec.following.agent import Agent, Event, Setting
from mlspec.following.decision import Choices
from mlspec.following.telemetry import Board, serve
from mlspec.git import Git
from mlspec.ledger.entry import iso_time
from mlspec.render.console import Console
from mlspec.render.style import escape
from mlspec.spec.quantities import parse_seconds


@dataclass(frozen=True, slots=True)
class ReconcileOptions:
    """What is followed, how often, and what may be done; each is a flag of the command."""

    watch: bool = False
    interval: str = "30s"
    remote: str = "origin"
    branch: str = "main"
    allow_delete: bool = False
    self_heal: bool = False
    retry: bool = False
    listen: str | None = None
    jobs: int | None = None
    as_json: bool = False


def reconcile(start: Path, console: Console, options: ReconcileOptions) -> int:
    """Go round once, or until a signal; the exit code of what needs attention."""
    setting = Setting(
        root=Git(start).toplevel,
        remote=options.remote,
        branch=options.branch,
        choices=Choices(options.allow_delete, options.self_heal, options.retry),
        interval=_interval(options.interval),
        pace=Pace(options.jobs or count_cpus()),
    )
    board = Board()

    def tell(event: Event) -> None:
        when = iso_time(time.time())
        if options.as_json:
            said = {"time": when, "event": event.name, **event.data}
            console.say(json.dumps(said, ensure_ascii=False))
        else:
            console.say(f"{when} {escape(event.text)}")

    agent = Agent(setting, on_event=tell, on_report=keep_failures, board=board)
    with ExitStack() as stack:
        if options.listen is not None:
            port = stack.enter_context(serve(options.listen, board))
            text = f"listening on http://127.0.0.1:{port}/healthz and /metrics"
            tell(Event("listening", text, {"port": port}))
        if not options.watch:
            return agent.once()
        agent.watch()
    return 0


def _interval(text: str) -> float:
    try:
        seconds = parse_seconds(text)
    except ValueError as error:
        raise MlspecError(f"--interval {text}: {error}", hint="write it as 30s or 5m") from error
    assert isinstance(seconds, float)
    return max(seconds, 0.1)
