"""The file `packed-refs`, in which Git has refs that it packed: the ledger's may be among them.

One damaged line, and Git answers nothing any more, whatever it is asked about refs. So it is read
here as what it is: lines.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from mlspec.atomic import write_together
from mlspec.git import Git

_OID = rb"[0-9a-f]{40}(?:[0-9a-f]{24})?"
_LINE = re.compile(
    rb"# pack-refs with:[ a-z-]*|%s refs/[^\x00-\x20~^:?*\[\\\x7f]+|\^%s" % (_OID, _OID)
)


def packed_refs(git: Git) -> Path:
    return git.common_dir / "packed-refs"


def is_sound(git: Git) -> bool:
    """Whether every line is as Git writes it; so is a file that is not there."""
    _, bad = _split(packed_refs(git))
    return not bad


def mend(git: Git, aside: Path) -> None:
    """Have the lines that are sound, and the file as it was in the folder `aside`."""
    file = packed_refs(git)
    good, bad = _split(file)
    if bad:
        aside.mkdir(exist_ok=True)
        shutil.copy2(file, aside / file.name)
        write_together({str(file): b"".join(line + b"\n" for line in good)})


def _split(file: Path) -> tuple[list[bytes], list[bytes]]:
    """The lines that are sound, and all others."""
    try:
        lines = file.read_bytes().split(b"\n")
    except FileNotFoundError:
        return [], []
    good: list[bytes] = []
    bad = [lines[-1]] if lines.pop() else []
    for line in lines:
        belongs = not line.startswith(b"^") or (good and not good[-1].startswith((b"^", b"#")))
        (good if belongs and _LINE.fullmatch(line) else bad).append(line)
    return good, bad
