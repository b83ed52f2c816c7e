"""`mlspec explain CODE`: the page of an error code."""

from __future__ import annotations

from mlspec.codes import CODES, load_page
from mlspec.errors import MlspecError
from mlspec.render.console import Console
from mlspec.render.style import escape


def explain(console: Console, *, code: str) -> int:
    """Print the page."""
    if code.upper() not in CODES:
        raise MlspecError(
            f"there is no code {escape(code)}",
            hint="an error shows its code in brackets, such as MLS012",
        )
    console.say(load_page(code))
    return 0
