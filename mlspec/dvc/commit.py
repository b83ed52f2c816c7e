"""A run of a stage, taken into DVC's cache, dvc.lock, .gitignore and run cache as DVC would.

Comes in: a stage whose outputs are there. Goes out: the bytes that `dvc commit` writes, and nothing
of what it only remembers (its own cache of digests). What the worktree has is left as it is: DVC
replaces files by equal copies. Anything that mlspec does not generate or that DVC would refuse is
:class:`~mlspec.dvc.settings.Unusual`, found out before anything is written but lines of .gitignore.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlspec.dvc.hashing import FileDigest, dir_listing, md5_of_bytes, md5_of_dir, md5_of_file
from mlspec.dvc.lock import LockedPath, LockEntry, dump_entry, entry_as_dict, with_entry
from mlspec.dvc.objects import SMALL, ObjectFolder
from mlspec.dvc.pipeline import PipelineStage
from mlspec.dvc.scm import Scm
from mlspec.dvc.settings import Unusual
from mlspec.errors import MlspecError

_IGNORED = frozenset({".git", ".hg", ".dvc", ".mlspec"})
_IGNORES = ".dvcignore"
_PLAIN_IGNORES: tuple[list[str], ...] = ([], ["/.mlspec/"])
_TEXT = bytes(range(32, 127)) + b"\n\r\t\f\b"
_EXECUTABLE = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH

Digest = Callable[[str], FileDigest | None]


@dataclass(frozen=True, slots=True)
class _Output:
    locked: LockedPath
    objects: tuple[tuple[str, Path], ...]
    """The digest of each file, and where it lies."""
    listing: bytes | None
    """What the folder's own object holds."""


def commit_stage(
    root: Path, lock: Path, name: str, stage: PipelineStage, scm: Scm, digest: Digest
) -> None:
    """Record the run of `stage`; the caller holds DVC's lock.

    `digest` says what an input holds now. Raises :class:`OSError` for what the system refuses.
    """
    _check_plain(root, stage)
    before = _lock_text(lock)
    deps = tuple(_dependency(root, path, digest) for path in sorted(stage.deps))
    params = {file: _params(root / file, keys) for file, keys in stage.params.items()}
    outputs = [_output(root, path) for path in stage.writes]
    for path in stage.metrics:
        _check_text(root / path)
    _ignore(lock.relative_to(root).as_posix(), stage, scm)

    cache = ObjectFolder(root / ".dvc/cache")
    for output in outputs:
        for md5, file in output.objects:
            cache.add_file(md5, file)
        if output.listing is not None:
            cache.add_bytes(output.locked.md5, output.listing)

    entry = LockEntry(stage.cmd, deps, params, tuple(output.locked for output in outputs))
    alone = dump_entry(entry)
    files = {}
    if (run := _run_cache(root, entry)) is not None:
        files[str(run)] = alone.encode()
    files[str(lock)] = with_entry(before, name, entry, alone=alone).encode()
    cache.flush(then=files)


def _check_plain(root: Path, stage: PipelineStage) -> None:
    """Raise if DVC might not see all of the paths of a stage as they are."""
    if not (root / ".git").exists() or _patterns(root / _IGNORES) not in _PLAIN_IGNORES:
        raise Unusual
    folders = set()
    for path in (*stage.deps, *stage.writes, *stage.params):
        if not _IGNORED.isdisjoint(path.split("/")):
            raise Unusual
        folders |= {path[:at] for at, char in enumerate(path) if char == "/"}
    for folder in folders:
        whole = f"{root}/{folder}"
        odd = (f"{whole}/{_IGNORES}", f"{whole}/.dvc")
        if os.path.islink(whole) or any(map(os.path.exists, odd)):  # noqa: PTH114
            raise Unusual


def _lock_text(path: Path) -> str:
    if path.is_symlink():
        raise Unusual
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        return ""
    except ValueError as error:
        raise Unusual from error


def _patterns(path: Path) -> list[str]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise Unusual from error
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]


def _dependency(root: Path, path: str, digest: Digest) -> LockedPath:
    try:
        mode = (root / path).lstat().st_mode
    except FileNotFoundError as error:
        raise Unusual from error
    found = None if stat.S_ISLNK(mode) else digest(path)
    if found is None:
        raise Unusual
    executable = found.nfiles is None and bool(mode & _EXECUTABLE)
    return LockedPath(path, found.md5, found.size, found.nfiles, executable)


def digest_of(root: Path, path: str) -> FileDigest | None:
    """What a file or a folder holds, read anew."""
    return _output(root, path).locked.digest


def _output(root: Path, path: str) -> _Output:
    whole = root / path
    try:
        found = whole.lstat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Unusual from error
    if stat.S_ISREG(found.st_mode):
        md5, size = _md5(whole, found)
        executable = bool(found.st_mode & _EXECUTABLE)
        return _Output(LockedPath(path, md5, size, None, executable), ((md5, whole),), None)
    if not stat.S_ISDIR(found.st_mode):
        raise Unusual
    files, total = {}, 0
    for name, inner in _walk(str(whole)):
        md5, size = _md5(whole / name, inner)
        files[name] = md5
        total += size
    locked = LockedPath(path, md5_of_dir(files), total, len(files))
    objects = tuple((md5, whole / name) for name, md5 in files.items())
    return _Output(locked, objects, dir_listing(files))


def _walk(folder: str, prefix: str = "") -> Iterator[tuple[str, os.stat_result]]:
    """The regular files in and below a folder, by path from it."""
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if not _is_utf_8(name):
                raise MlspecError(
                    f"DVC cannot keep the file {prefix}{ascii(name)[1:-1]}: its name is not UTF-8",
                    hint="have the stage give it another name",
                )
            if name in _IGNORED or name == _IGNORES:
                raise Unusual
            found = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                yield from _walk(f"{folder}/{name}", f"{prefix}{name}/")
            elif stat.S_ISREG(found.st_mode):
                yield f"{prefix}{name}", found
            else:
                raise Unusual


def _is_utf_8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _md5(path: Path, found: os.stat_result) -> tuple[str, int]:
    if found.st_size > SMALL:
        return md5_of_file(path), found.st_size
    data = path.read_bytes()
    return md5_of_bytes(data), len(data)


def _params(path: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text("utf-8"))
        return {key: values[key] for key in keys}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise Unusual from error


def _check_text(path: Path) -> None:
    """DVC refuses metrics that look binary."""
    if path.is_file():
        with path.open("rb") as file:
            block = file.read(512)
        if b"\0" in block or len(block.translate(None, _TEXT)) > 0.3 * len(block):
            raise Unusual


def _ignore(lock: str, stage: PipelineStage, scm: Scm) -> None:
    if any(scm.is_tracked(path) for path in stage.writes):
        raise Unusual
    unlisted = [path for path in stage.writes if not scm.listed(path)]
    if unlisted:
        pipeline = {lock, lock.replace(".lock", ".yaml")}
        ignored = scm.ignored({*unlisted, *pipeline})
        if not ignored.isdisjoint(pipeline):
            raise Unusual
        for path in unlisted:
            if path not in ignored:
                scm.ignore(path)


def _run_cache(root: Path, entry: LockEntry) -> Path | None:
    """Where the run belongs in DVC's run cache; None if it is there or is none that DVC keeps."""
    if not (entry.outs and (entry.deps or entry.params)):
        return None
    body = _without_sizes(entry_as_dict(entry))
    value = _sha256(body)
    key = _sha256({**body, "outs": [out["path"] for out in body["outs"]]})
    path = root / ".dvc/cache/runs" / key[:2] / key / value
    return None if path.is_file() else path


def _without_sizes(value: Any) -> Any:
    """`value` without what DVC leaves out at every depth, even of params."""
    if isinstance(value, list):
        return [_without_sizes(item) for item in value]
    if isinstance(value, Mapping):
        return {
            key: _without_sizes(item)
            for key, item in value.items()
            if key not in ("size", "nfiles")
        }
    return value


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
