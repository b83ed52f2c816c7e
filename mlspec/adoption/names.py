"""Names for what DVC calls anything at all. Comes in: words. Goes out: names that a spec takes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container

from mlspec.spec.checks.names import MAX_NAME, RESERVED

_TAKEN = RESERVED | {"python"}


def make_name(text: str, taken: Container[str], *, otherwise: str) -> str:
    """The name that is most like `text` and is not taken; `otherwise` if nothing is left of it."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    name = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[: MAX_NAME - 6].rstrip("-") or otherwise
    name = name if name[0].isalpha() else f"{otherwise}-{name}"
    name = f"{name}-{otherwise}" if name in _TAKEN else name
    number, free = 2, name
    while free in taken:
        free, number = f"{name}-{number}", number + 1
    return free
