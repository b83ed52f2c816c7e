"""Whether what an apply wrote reached the disk before it got its name.

Comes in: what strace noted of an apply. Goes out: renames of files that nothing was asked to write
out before. Of what is compared with what it should be and made again, as `.mlspec/` is, nothing is
asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_SYNC = re.compile(r" (?:fsync|fdatasync|sync_file_range)\(\d+<([^>]+)>")
_RENAME = re.compile(r' rename\("([^"]+)", "([^"]+)"\)')
_MADE_AGAIN = ("/.mlspec/", "/.dvc/tmp/", "/home/")


def find_hasty(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """From and to of each rename of a file whose data may not be on disk yet."""
    synced: set[str] = set()
    for line in lines:
        if found := _SYNC.search(line):
            synced.add(found[1])
        elif found := _RENAME.search(line):
            old, new = found.groups()
            if old not in synced and not any(part in new for part in _MADE_AGAIN):
                yield old, new
