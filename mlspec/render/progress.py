"""An apply as it goes: lines for what ends, above a live table if there is a terminal.

:mod:`mlspec.render.endings` has what the lines say, and what is told at the end.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from mlspec.apply import Ended, Event, Lingering, Printed, Started
from mlspec.errors import Interrupted
from mlspec.plan import Plan, Report, Status
from mlspec.render.alike import counted
from mlspec.render.console import Console
from mlspec.render.endings import Endings, render_outcome
from mlspec.render.quantities import render_seconds
from mlspec.render.style import escape
from mlspec.render.tally import Tally

if TYPE_CHECKING:
    from mlspec.render.screen import Screen

MOST_ROWS = 12
"""Steps that run and are shown as such; more are counted."""


class Progress:
    """Shows events; give it to `apply_plan` as `on_event`, inside a `with`.

    Lines of a stage's command are shown as they come, so that a long training is never silent.
    """

    def __init__(self, console: Console, plan: Plan, jobs: int = 1) -> None:
        self._console = console
        self._tally = Tally(plan, jobs)
        self._endings = Endings(plan)
        self._screen: Screen | None = None

    def __enter__(self) -> Self:
        if self._console.aside.color:
            from mlspec.render.screen import Screen

            self._screen = Screen(self._table)
            self._screen.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._screen is not None:
            self._screen.stop()
            self._screen = None
        if error is None or isinstance(error, Interrupted):
            for line in self._endings.render(self._console.aside):
                self._write(line)
        if isinstance(error, Interrupted):
            ended = sum(self._tally.ended.values())
            self._write(
                f"{ended} of {counted(self._tally.steps, 'step')} ended, and that is recorded; "
                "the next apply goes on from there."
            )

    def __call__(self, event: Event) -> None:
        match event:
            case Started(step=step):
                self._tally.start(step, time.monotonic())
            case Printed(address=address, line=line):
                shown = self._console.aside.paint(f"  {address} | {escape(line)}", "dim")
                self._write(shown)
            case Ended(outcome=outcome):
                self._tally.end(outcome)
                if self._endings.add(outcome):
                    self._write(render_outcome(outcome, self._console.aside))
            case Lingering(addresses=addresses):
                ran = ", ".join(map(escape, addresses))
                self._write(f"recording what ended: {ran} (a second signal ends at once)")

    def _table(self) -> Any:
        """What runs, each with its seconds, above the counts."""
        from rich.table import Table
        from rich.text import Text

        now = time.monotonic()
        table = Table.grid(padding=(0, 2))
        running = tuple(self._tally.running.values())
        for step, began in running[:MOST_ROWS]:
            table.add_row(
                Text(f"{step.action.value:>8}", "cyan"),
                Text(escape(step.address), overflow="ellipsis", no_wrap=True),
                Text(render_seconds(now - began), "dim"),
            )
        if len(running) > MOST_ROWS:
            table.add_row("", Text(f"and {len(running) - MOST_ROWS} more"))
        whole = Table.grid()
        whole.add_row(table)
        whole.add_row(Text(render_tally(self._tally, now), "bold"))
        return whole

    def _write(self, text: str) -> None:
        """A line, above the table if there is one."""
        if self._screen is None:
            self._console.note(text)
        else:
            self._screen.write(text)


def render_tally(tally: Tally, now: float) -> str:
    """One line: how many steps run, are done, wait and failed, and what time is left."""
    ended = tally.ended
    counts = (
        (len(tally.running), "running"),
        (ended[Status.DONE] + ended[Status.UNCHANGED], "done"),
        (tally.waiting, "waiting"),
        (ended[Status.FAILED], "failed"),
        (ended[Status.SKIPPED], "skipped"),
    )
    words = [f"{count} {word}" for count, word in counts if count or word in ("running", "done")]
    left = tally.remaining(now)
    if left is not None and left >= 1:
        words.append(f"about {render_seconds(round(left))} left")
    return ", ".join(words)


def render_report(report: Report, command: str = "apply") -> str:
    """One line: what was done, what was not."""
    words = [
        f"{report.count(status)} {word}"
        for status, word in (
            (Status.DONE, "done"),
            (Status.UNCHANGED, "unchanged"),
            (Status.FAILED, "failed"),
            (Status.SKIPPED, "skipped"),
        )
        if report.count(status)
    ]
    return f"{command.capitalize()}: {', '.join(words) or 'nothing to do'}."
