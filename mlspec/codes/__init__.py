"""A page for each code of a problem: what it means, why it is one, and how to mend it.

A page is the Markdown file of its code in this folder; `mlspec explain MLS012` shows it.

===========  =====================================================
codes        about
===========  =====================================================
MLS001-029   files, YAML, keys and values
MLS030-039   names
MLS040-049   references between resources
MLS050-059   gates
MLS060-069   paths
MLS070-079   commands, URLs and other values for other programs
MLS080-089   models with a matrix
MLS600-609   files that the spec names and the repository lacks
===========  =====================================================
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
