"""Paths as people write them: relative to the repository, with `/`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

MAX_PATH = 1024
MAX_DEPTH = 64

BARE = re.compile(r"[a-z][a-z0-9-]*")
"""An input that is written like this is the name of a dataset."""


def tidy(path: str) -> str:
    """The path without `./`, doubled and trailing slashes; one that starts with `/` keeps that."""
    if path.startswith("/"):
        return path
    steps = [step for step in path.split("/") if step not in ("", ".")]
    if len(path) > MAX_PATH or len(steps) > MAX_DEPTH:
        limits = {"characters": MAX_PATH, "depth": MAX_DEPTH}
        message = "a path has at most {characters} characters and is at most {depth} folders deep"
        raise PydanticCustomError("path_too_long", message, limits)
    return "/".join(steps) or path


RepositoryPath = Annotated[str, AfterValidator(tidy)]


def parents(path: str) -> Iterator[str]:
    """The folders that `path` lies in, the topmost first."""
    steps = path.split("/")
    for count in range(1, len(steps)):
        yield "/".join(steps[:count])
