"""An apply as it goes: a live line on a terminal, a line for each step elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from mlspec.apply import Ended, Event, Printed, Started
from mlspec.plan import Outcome, Report, Status
from mlspec.render.console import Console
from mlspec.render.style import escape

_SIGNS = {
    Status.DONE: ("ok", "green"),
    Status.UNCHANGED: ("same", "dim"),
    Status.FAILED: ("failed", "red"),
    Status.SKIPPED: ("skipped", "yellow"),
}

_WARNING = "warning: "
"""How the detail of a gate that only warns begins."""


class Progress:
    """Shows events; give it to `apply_plan` as `on_event`, inside a `with`.

    Lines of a stage's command are shown as they come, so that a long training is never silent.
    """

    def __init__(self, console: Console, steps: int) -> None:
        self._console = console
        self._steps = steps
        self._ended = 0
        self._bar: Any = None

    def __enter__(self) -> Self:
        if self._console.aside.color:
            from rich.console import Console as RichConsole
            from rich.progress import Progress as Bar
            from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

            columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
            self._bar = Bar(*columns, console=RichConsole(stderr=True), transient=True)
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, event: Event) -> None:
        match event:
            case Started(step=step):
                self._show(f"{step.address}: {step.action.value}")
            case Printed(address=address, line=line):
                shown = self._console.aside.paint(f"  {address} | {escape(line)}", "dim")
                self._write(shown)
            case Ended(outcome=outcome):
                self._ended += 1
                self._write(self._line(outcome))

    def _show(self, text: str) -> None:
        """The step that runs, and how long it has."""
        if self._bar is not None:
            from rich.markup import escape as plain

            for task in self._bar.task_ids:
                self._bar.remove_task(task)
            self._bar.add_task(plain(f"[{self._ended + 1}/{self._steps}] {escape(text)}"))

    def _write(self, text: str) -> None:
        """A line above the live one."""
        if self._bar is None:
            self._console.note(text)
        else:
            from rich.text import Text

            self._bar.console.print(Text.from_ansi(text), soft_wrap=True)

    def _line(self, outcome: Outcome) -> str:
        warned = outcome.detail.startswith(_WARNING)
        word, color = ("warn", "yellow") if warned else _SIGNS[outcome.status]
        style = self._console.aside
        said = outcome.detail.removeprefix(outcome.step.address).lstrip(": ")
        detail = said.removeprefix(_WARNING).removeprefix(f"{word}: ").split("\n")
        took = f" ({outcome.seconds:.1f} s)" if outcome.seconds >= 0.1 else ""
        line = f"{style.paint(f'{word:>7}', color)}  {escape(outcome.step.address)}"
        if detail[0]:
            line += f": {escape(detail[0])}"
        lines = [
            line + style.paint(took, "dim"),
            *(f"         | {escape(more)}" for more in detail[1:]),
        ]
        if outcome.hint:
            lines.append(f"         = help: {escape(outcome.hint)}")
        return "\n".join(lines)


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
