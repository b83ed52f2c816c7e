"""What files are called in a service, for those who write it and those who fill it."""

from __future__ import annotations

import re

_ENDING = re.compile(r"(?<=[^/])\.[A-Za-z0-9_-]{1,16}\Z")


def artifact_name(path: str) -> str:
    """The name of the artifact at `path`: loaders may go by how a name ends.

    It is none that `model.json`, which lies beside it, could have.
    """
    ending = _ENDING.search(path)
    return f"artifact{ending[0]}" if ending else "artifact"
