"""`mlspec explain CODE`: the page of an error code; without one, all codes and their titles."""

from __future__ import annotations

import re

from mlspec.codes import CODES, SECTIONS, load_page
from mlspec.errors import MlspecError
from mlspec.render.console import Console
from mlspec.render.style import escape
from mlspec.spec.suggest import closest

_SHORT = re.compile(r"(?:MLS)?(\d{1,3})", re.IGNORECASE)


def explain(console: Console, *, code: str | None) -> int:
    """Print the page, or the list."""
    if code is None:
        console.say("\n\n".join(map(_section, SECTIONS)))
        return 0
    if short := _SHORT.fullmatch(code):
        code = f"MLS{int(short[1]):03d}"
    if code.upper() not in CODES:
        near = closest(code.upper(), CODES, likeness=0.8)
        raise MlspecError(
            f"there is no code {escape(code)}",
            hint=f"did you mean {near}? `mlspec explain` lists all"
            if near
            else "an error shows its code in brackets, such as MLS012; `mlspec explain` lists all",
        )
    console.say(load_page(code))
    return 0


def _section(title: str) -> str:
    codes = (code for code in CODES if int(code.removeprefix("MLS")) in SECTIONS[title])
    return "\n".join((title, *(f"  {code}  {CODES[code]}" for code in codes)))
