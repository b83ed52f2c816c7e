"""The file `packed-refs`, in which Git has refs that it packed: the ledger's may be among them.

One damaged line, and Git answers nothing any more, whatever it is asked about refs; one in another
place, and it finds none of what comes before. So it is read here as what it is: lines.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from mlspec.atomic import write_together
from mlspec.errors import unusable
from mlspec.git import Git

_OID = rb"[0-9a-f]{40}(?:[0-9a-f]{24})?"
_HEAD = re.compile(rb"# pack-refs with:[ a-z-]*")
_REF = re.compile(rb"%s (refs/[^\x00-\x20~^:?*\[\\\x7f]+)" % _OID)
_PEELED = re.compile(rb"\^%s" % _OID)


def packed_refs(git: Git) -> Path:
    return git.common_dir / "packed-refs"


def is_sound(git: Git) -> bool:
    """Whether it is as Git writes it, in whose order Git searches it; so is one that is absent."""
    file = packed_refs(git)
    try:
        return not file.exists() or file.read_bytes() == _mended(file.read_bytes())
    except OSError:
        return False


def mend(git: Git, aside: Path) -> None:
    """Have the lines that are sound in order, and the file as it was in the folder `aside`."""
    if is_sound(git):
        return
    file = packed_refs(git)
    try:
        aside.mkdir(exist_ok=True)
        shutil.copy2(file, aside / file.name)
        write_together({str(file): _mended(file.read_bytes())})
    except OSError as error:
        raise unusable(error) from error


def _mended(data: bytes) -> bytes:
    """The lines that Git can read, sorted by the names of the refs."""
    head: list[bytes] = []
    refs: dict[bytes, list[bytes]] = {}
    last: list[bytes] = []
    *lines, _ = data.split(b"\n")
    for number, line in enumerate(lines):
        found = _REF.fullmatch(line)
        if found:
            last = refs.setdefault(found[1], [line])
        elif _PEELED.fullmatch(line) and len(last) == 1:  # of the tag in the line before
            last.append(line)
        else:
            last = []
            if number == 0 and _HEAD.fullmatch(line):
                head = [line]
    kept = [*head, *(line for name in sorted(refs) for line in refs[name])]
    return b"".join(line + b"\n" for line in kept)
