"""Whether what an apply wrote reached the disk before it got its name.

Comes in: what strace noted of an apply. Goes out: renames of files that nothing was asked to write
out before, and of files whose folder was not written out afterwards. Of what is compared with what
it should be and made again, as `.mlspec/` is, nothing is asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_SYNC = re.compile(r" (?:fsync|fdatasync|sync_file_range)\(\d+<([^>]+)>")
_ORDER = re.compile(r" sync_file_range\(\d+<([^>]+)>")
_RENAME = re.compile(r' rename\("([^"]+)", "([^"]+)"\)')
_MADE_AGAIN = ("/.mlspec/", "/.dvc/tmp/", "/home/", "/__pycache__/")


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


def find_unsettled(lines: Iterable[str]) -> Iterator[str]:
    """New names that may not be on disk when the apply is done.

    Who asks for the order of writes alone (`sync_file_range`) has it from the file system that a
    name comes no later than what is made durable after it.
    """
    open_names: dict[str, str] = {}
    ordered: set[str] = set()
    for line in lines:
        if found := _ORDER.search(line):
            ordered.add(found[1])
        elif found := _SYNC.search(line):
            folder = found[1]
            open_names = {new: place for new, place in open_names.items() if place != folder}
        elif found := _RENAME.search(line):
            old, new = found.groups()
            if old not in ordered and not any(part in new for part in _MADE_AGAIN):
                open_names[new] = new.rpartition("/")[0]
    yield from open_names
