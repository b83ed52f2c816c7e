"""Finds the templates of mlspec and renders them: values in, text out.

A template is dumb: it names values and chooses between blocks. What a user wrote enters Python
source only through the filter `literal`, which makes a Python literal of it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment


@cache
def templates_folder() -> Path:
    """Inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    packaged = package / "templates"
    return packaged if packaged.is_dir() else package.parent / "templates"


def render_template(template: str, **values: Any) -> str:
    """The text of `template` (a path under the folder, with `/`); an unknown value is an error."""
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    # Jinja costs 50 ms of import, and most commands render nothing.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(templates_folder()),
        undefined=StrictUndefined,
        autoescape=False,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["literal"] = _literal
    return environment


def _literal(value: object) -> str:
    """A Python literal; text in double quotes where that needs no escape."""
    text = repr(value)
    if isinstance(value, str) and text.startswith("'") and '"' not in text and "\\" not in text:
        return f'"{text[1:-1]}"'
    return text
