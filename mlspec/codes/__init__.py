"""A page for each code of a problem: what it means, why it is one, and how to mend it.

A page is the Markdown file of its code in this folder; `mlspec explain MLS012` shows it.
"""

from __future__ import annotations

from importlib.resources import files

_SUFFIX = ".md"
_PAGES = {
    page.name.removesuffix(_SUFFIX): page
    for page in sorted(files(__name__).iterdir(), key=lambda page: page.name)
    if page.name.endswith(_SUFFIX)
}


def load_page(code: str) -> str:
    """The page of a code, as Markdown; raises `KeyError` for a code that is not known."""
    return _PAGES[code.upper()].read_text(encoding="utf-8")


def _title(code: str) -> str:
    first = load_page(code).partition("\n")[0]
    return first.partition(": ")[2]


CODES = {code: _title(code) for code in _PAGES}
"""Each code and its title."""

SECTIONS = {
    "Files, YAML, keys and values": range(1, 30),
    "Names": range(30, 40),
    "References between resources": range(40, 50),
    "Gates": range(50, 60),
    "Paths": range(60, 70),
    "Commands, URLs and other values for other programs": range(70, 80),
    "Models with a matrix": range(80, 90),
    "Formats of artifacts": range(90, 95),
    "Targets": range(95, 100),
    "Rollouts and challengers": range(100, 105),
    "Approvals": range(105, 110),
    "Services": range(110, 120),
    "Batch deployments": range(120, 125),
    "Files that the spec names and the repository lacks": range(600, 610),
}
"""What codes are about, and their numbers."""
