"""Objects from one folder of objects to another: from the cache to storage, and back.

Comes in: digests. Goes out: files; a folder's own object after those of its files, so that a folder
that is there is there whole.
"""

from __future__ import annotations

from collections.abc import Iterable

from mlspec.dvc.hashing import DIRECTORY
from mlspec.dvc.objects import ObjectFolder
from mlspec.dvc.settings import Unusual


def copy_objects(md5s: Iterable[str], source: ObjectFolder, target: ObjectFolder) -> None:
    """Have in `target` every object of `md5s`, and of the folders among them.

    Raises :class:`Unusual` where `source` lacks one, :class:`OSError` for what the system refuses.
    """
    folders = []
    for md5 in sorted(md5s):
        if not md5.endswith(DIRECTORY):
            _copy(md5, source, target)
            continue
        listing = target.listing(md5)
        if listing is None:
            listing = source.listing(md5)
        if listing is None:
            raise Unusual
        for inner in listing:
            _copy(inner, source, target)
        folders.append(md5)
    target.flush()
    for md5 in folders:
        _copy(md5, source, target)
    target.flush()


def _copy(md5: str, source: ObjectFolder, target: ObjectFolder) -> None:
    if target.has(md5):
        return
    if not source.has(md5):
        raise Unusual
    target.add_file(md5, source.path(md5))
