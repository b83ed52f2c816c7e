"""How the steps of an apply ended: what is told at once, what at the end, and what is only counted.

Comes in: outcomes, one by one. Goes out: lines. A long apply would hide its failures among lines
that say "ok", so it counts what ends well without a command; every apply repeats what failed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from mlspec.plan import Action, Outcome, Plan, Status
from mlspec.render.alike import NAMED, counted, fold, listed, name_of, nameless
from mlspec.render.style import Style, escape

MOST_LINES = 40
"""Steps of an apply that has a line for each; of a longer one much is counted."""
MOST_FAILURES = 10
"""Failures told apart by all their lines; more are by their first."""

_SIGNS = {
    Status.DONE: ("ok", "green"),
    Status.UNCHANGED: ("same", "dim"),
    Status.FAILED: ("failed", "red"),
    Status.SKIPPED: ("skipped", "yellow"),
}
_LOG = "log is "
_WARNING = "warning: "
"""How the detail of a gate that only warns begins."""
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?(?:e[-+]?[0-9]+)?")
_QUICK = {Action.EVALUATE: "gate", Action.REGISTER: "version"}


class Endings:
    """Takes the outcomes of one plan, all or those until it was cut short."""

    def __init__(self, plan: Plan) -> None:
        self._long = len(plan.steps) > MOST_LINES
        self._counts: Counter[str] = Counter()
        self._unchanged = 0
        self._failures: list[Outcome] = []
        self._told: set[str] = set()
        self._skipped: list[Outcome] = []

    def add(self, outcome: Outcome) -> bool:
        """Whether it is to be told now."""
        told = not self._long
        match outcome.status:
            case Status.FAILED:
                self._failures.append(outcome)
                sort = _words(outcome)
                told |= sort not in self._told
                self._told.add(sort)
            case Status.SKIPPED:
                self._skipped.append(outcome)
            case Status.UNCHANGED:
                self._unchanged += 1
            case _:
                kind = _quick(outcome)
                self._counts[kind] += 1
                told |= not kind
        return told

    def render(self, style: Style) -> Iterator[str]:
        """What was counted and not told, and all that failed."""
        if self._long:
            counts = [counted(count, kind) for kind, count in self._counts.items() if kind]
            if counts:
                yield _line("ok", "green", f"also {', '.join(counts)}", style)
            if self._unchanged:
                steps = counted(self._unchanged, "step")
                yield _line("same", "dim", f"{steps}: nothing was to do", style)
        if self._failures:
            yield f"\n{style.paint('What failed:', 'bold')}"
        waiting, unstarted = self._left_out()
        alike = list(fold(self._failures, _words, most=1))
        if len(alike) > MOST_FAILURES:
            alike = list(fold(self._failures, lambda each: _words(each).split("\n")[0], most=1))
        for failures in alike:
            yield render_failures(failures, style)
            left = sum(waiting[failure.step.address] for failure in failures)
            if left:
                yield f"         = not tried because of it: {counted(left, 'step')}"
        for same in fold(unstarted, lambda each: each.detail, most=1) if self._long else ():
            steps = counted(len(same), "step")
            yield _line("skipped", "yellow", f"{steps} {escape(same[0].detail)}", style)

    def _left_out(self) -> tuple[Counter[str], list[Outcome]]:
        """How many steps waited for each failure, by its address; and steps that waited for none.

        Steps were skipped in an order in which each comes after those that it waited for.
        """
        roots = {failure.step.address: failure.step.address for failure in self._failures}
        waiting: Counter[str] = Counter()
        others = []
        for outcome in self._skipped:
            root = next((roots[address] for address in outcome.step.after if address in roots), "")
            if root:
                roots[outcome.step.address] = root
                waiting[root] += 1
            else:
                others.append(outcome)
        return waiting, others


def render_outcome(outcome: Outcome, style: Style) -> str:
    """One line; of a failure only the first, for all of it comes at the end."""
    word, color = _sign(outcome)
    said, *more = _said(outcome)
    took = f" ({outcome.seconds:.1f} s)" if outcome.seconds >= 0.1 else ""
    text = f"{escape(outcome.step.address)}{f': {escape(said)}' if said else ''}"
    lines = [_line(word, color, text, style) + style.paint(took, "dim")]
    if outcome.status is not Status.FAILED:
        lines += [f"         | {escape(line)}" for line in more]
    return "\n".join(lines)


def render_failures(alike: Sequence[Outcome], style: Style) -> str:
    """One failure, or several with like words, with all that is said of the first."""
    _, *more = _said(alike[0])
    said = "; ".join(_first_words(alike))
    which = listed([failure.step.address for failure in alike])
    lines = [_line("failed", "red", f"{which}: {escape(said)}", style)]
    lines += [f"         | {escape(line)}" for line in more]
    if hint := alike[0].hint:
        others = "; those of the others are beside it" if len(alike) > 1 and _LOG in hint else ""
        lines.append(f"         = help: {escape(hint)}{others}")
    return "\n".join(lines)


def _first_words(alike: Sequence[Outcome]) -> list[str]:
    """The first lines that differ in more than names, as many as are named."""
    found: dict[str, str] = {}
    for failure in alike:
        line = _said(failure)[0]
        found.setdefault(nameless(line, name_of(failure.step.address)), line)
    lines = list(found.values())
    return lines if len(lines) <= NAMED else [*lines[:NAMED], "..."]


def _sign(outcome: Outcome) -> tuple[str, str]:
    return ("warn", "yellow") if _warns(outcome) else _SIGNS[outcome.status]


def _said(outcome: Outcome) -> list[str]:
    """The lines of an outcome's detail, without what the line says already."""
    word, _ = _sign(outcome)
    said = outcome.detail.removeprefix(outcome.step.address).lstrip(": ")
    return said.removeprefix(_WARNING).removeprefix(f"{word}: ").split("\n")


def _warns(outcome: Outcome) -> bool:
    return outcome.detail.startswith(_WARNING)


def _quick(outcome: Outcome) -> str:
    """The kind of a step that ended well, took no time and is one of many; else nothing."""
    if outcome.step.address.startswith("file."):
        return "generated file"
    return "" if _warns(outcome) else _QUICK.get(outcome.step.action, "")


def _words(failure: Outcome) -> str:
    """What is said of it, without its names, of a gate without its numbers: equal for like ones."""
    words = nameless("\n".join(_said(failure)), name_of(failure.step.address))
    return _NUMBER.sub("\0", words) if failure.step.action is Action.EVALUATE else words


def _line(word: str, color: str, text: str, style: Style) -> str:
    return f"{style.paint(f'{word:>7}', color)}  {text}"
