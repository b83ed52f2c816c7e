"""New objects, written as Git writes them: each in a file of its own below `objects`.

Comes in: objects with their header, by id. Goes out: files, on disk before any ref that is moved
later.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from pathlib import Path

from mlspec.atomic import write_together
from mlspec.git.errors import GitError

_TEMPORARY = "tmp_obj_"
"""How Git's own begin: `git gc` removes what a killed process left."""


def write_loose(folder: Path, objects: Mapping[str, bytes]) -> None:
    """Have objects in Git's database at `folder`. What is there already is only touched.

    So a `git gc` meanwhile sees that they are wanted. Raises :class:`GitError`, with some of the
    objects written: they do no harm.
    """
    files: dict[str, bytes] = {}
    base = str(folder)
    try:
        for oid, content in objects.items():
            path = f"{base}/{oid[:2]}/{oid[2:]}"
            try:
                os.utime(path)
            except FileNotFoundError:
                files[path] = zlib.compress(content, 1)
        write_together(files, mode=0o444, prefix=_TEMPORARY)
    except OSError as error:
        where = error.filename or base
        raise GitError(
            f"cannot write {where}: {error.strerror or error}",
            hint="mend the cause and apply again",
        ) from error
