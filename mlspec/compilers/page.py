"""The page of `mlspec serve`: a model's signature in, HTML out that loads nothing from elsewhere.

Names of columns are anybody's: they enter the page as JSON in which no tag can begin, and its
script makes text of them, never markup. The page's policy lets nothing else run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mlspec.compilers.templates import render_template

TEMPLATE = "look/page.html.jinja"
_UNSAFE = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


def compile_page(model: str, version: str, signature: Mapping[str, Any], nonce: str) -> str:
    """`nonce` is what the policy of the page lets run: see :func:`page_policy`."""
    shown = {
        "model": model,
        "version": version,
        "columns": signature["columns"],
        "example": signature["example"],
    }
    return render_template(TEMPLATE, data=json.dumps(shown).translate(_UNSAFE), nonce=nonce)


def page_policy(nonce: str) -> str:
    """A Content-Security-Policy: the page's own script and style, requests to its own origin."""
    return (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
