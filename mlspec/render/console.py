"""Where a command's words go: results to standard output, everything else to standard error."""

from __future__ import annotations

import json
import sys
from typing import Any

from mlspec.errors import MlspecError, SpecError
from mlspec.render.style import Style, escape, wants_color


class Console:
    """Writes for people or machines; `style` colours standard output, `aside` standard error."""

    def __init__(self) -> None:
        self.style = Style(color=wants_color(sys.stdout))
        self.aside = Style(color=wants_color(sys.stderr))

    @property
    def interactive(self) -> bool:
        """Whether a person can be asked."""
        return sys.stdin.isatty() and sys.stderr.isatty()

    def say(self, text: str) -> None:
        """A result."""
        sys.stdout.write(text if text.endswith("\n") else f"{text}\n")
        sys.stdout.flush()

    def say_json(self, value: Any) -> None:
        """A result for machines: one indented document, keys in the order they are given."""
        self.say(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))

    def note(self, text: str) -> None:
        """Something on the way: progress, a warning."""
        sys.stderr.write(text if text.endswith("\n") else f"{text}\n")
        sys.stderr.flush()

    def fail(self, error: MlspecError) -> None:
        """An error, with what mends it."""
        if isinstance(error, SpecError):
            from mlspec.render.diagnostics import render_diagnostics

            self.note(render_diagnostics(error.diagnostics, color=self.aside.color))
            return
        first, *more = map(escape, error.message.split("\n"))
        self.note(f"{self.aside.paint('error:', 'red', 'bold')} {first}")
        for line in more:
            self.note(f"  | {line}")
        if error.hint:
            self.note(f"  = help: {escape(error.hint)}")

    def confirm(self, question: str) -> bool:
        """Ask on the terminal; all but `yes` or `y` is no."""
        sys.stderr.write(f"{question} [yes/no] ")
        sys.stderr.flush()
        return sys.stdin.readline().strip().lower() in ("yes", "y")
