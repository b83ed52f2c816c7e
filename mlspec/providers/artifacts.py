"""The bytes of a version's artifact, under a name that ends as the artifact's does.

Comes in: what the ledger has of it, and where its object lies in the cache. Goes out: a link to
it; of a folder, a folder of links. Whoever copies from there has the registered bytes.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path, PurePosixPath

from mlspec.dvc.hashing import DIRECTORY, object_path
from mlspec.errors import MlspecError
from mlspec.ledger.records import File


def name_artifact(file: File, place: Path, folder: Path) -> Path:
    """Link what lies at `place` in the cache into `folder`."""
    named = folder / f"{file.md5.removesuffix(DIRECTORY)}{Path(file.path).suffix}"
    if not file.md5.endswith(DIRECTORY):
        named.unlink(missing_ok=True)
        named.symlink_to(place.resolve())
        return named
    shutil.rmtree(named, ignore_errors=True)
    cache = place.resolve().parents[3]
    for entry in json.loads(place.read_bytes()):
        inner = PurePosixPath(entry["relpath"])
        if inner.is_absolute() or ".." in inner.parts:
            raise MlspecError(f"{file.path} lists {inner}, which is not in it")
        (named / inner).parent.mkdir(parents=True, exist_ok=True)
        (named / inner).symlink_to(cache / object_path(entry["md5"]))
    return named
