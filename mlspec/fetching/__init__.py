"""Models that others made, brought from where they are: an address, a repository, a folder, a
registry.

Comes in: a :class:`Source` and the digest that it must have. Goes out: the file, or the folder, at
its place, whole, or nothing at all. Nothing is believed: what is read is counted and hashed while
it comes, and nothing of it is opened before its digest is the one that was asked for.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlspec.atomic import make_own_folder, sync_folder
from mlspec.errors import MlspecError
from mlspec.fetching import archive, folder, repository, web
from mlspec.fetching import registry as oci
from mlspec.fetching.sink import MOST, STAGING, Budget, Got

__all__ = ["MOST", "STAGING", "Source", "fetch"]

_LFS = b"version https://git-lfs.github.com/spec/v1"
_PAGES = (b"<!doctype html", b"<html")


@dataclass(frozen=True, slots=True)
class Source:
    """One of `url`, `git`, `hf_folder` and `oci`, as a spec has them.

    `token` is the value itself: from the environment, and written nowhere. `most`: bytes.
    """

    url: str = ""
    git: str = ""
    rev: str = ""
    hf_folder: str = ""
    oci: str = ""
    path: str = ""
    unpack: str = ""
    token: str = ""
    most: int = MOST


def fetch(
    source: Source,
    digest: str,
    to: Path | None,
    tell: Callable[[str], None],
    *,
    root: Path,
) -> Got:
    """Have what `source` names at `to`; without that, only find out its digest.

    Raises :class:`MlspecError` if it is not what `digest` says, and leaves what is at `to` alone.
    """
    with _staging(root) as staging:
        got = _bring(source, digest, staging, Budget(source.most, tell))
        _check_what_it_is(got, source)
        if digest and got.digest != digest:
            raise _other(got, digest)
        if source.unpack and to is not None:
            into = staging / "unpacked"
            budget = Budget(source.most, tell)
            got = archive.unpack(got, source.unpack, source.path, into, budget)
        if to is not None:
            _put(got.place, to)
    return got


@contextmanager
def _staging(root: Path) -> Iterator[Path]:
    """A folder on the same disk as the worktree, which goes in the end, whatever happens."""
    try:
        place = make_own_folder(root, STAGING, secrets.token_hex(8))
    except OSError as error:
        raise MlspecError(f"cannot write below {root}: {error.strerror}") from error
    try:
        yield place
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise MlspecError(f"{where}{error.strerror or error}; nothing was changed") from error
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _bring(source: Source, digest: str, staging: Path, budget: Budget) -> Got:
    place = staging / "model"
    if source.url:
        return web.bring(source.url, place, source.token, budget)
    if source.git:
        repository_place = staging / "repository"
        return repository.bring(
            source.git, source.rev, source.path, place, repository_place, budget
        )
    if source.hf_folder:
        return folder.bring(Path(source.hf_folder), source.path, place, budget)
    return oci.bring(source.oci, digest, source.path, place, source.token, budget)


def _check_what_it_is(got: Got, source: Source) -> None:
    """Tell apart what is not the model and only stands for it."""
    if not got.place.is_file():
        return
    with got.place.open("rb") as file:
        begin = file.read(len(_LFS))
    if begin == _LFS:
        where = source.url or source.git or source.hf_folder or source.oci
        raise MlspecError(
            f"{where} has a pointer of Git LFS there, and not the file itself",
            hint="give the address from which LFS serves the file, as `url`; on Hugging Face and "
            "GitHub that is the link to download it",
        )
    if not got.size:
        raise MlspecError("what was fetched is empty", hint="look at the source")


def _other(got: Got, digest: str) -> MlspecError:
    hint = "if the source is trusted and this is meant, put that digest into the spec"
    if got.place.is_file():
        with got.place.open("rb") as file:
            begin = file.read(200).lstrip().lower()
        if begin.startswith(_PAGES):
            hint = "the address answers with a web page: give that of the file itself"
    return MlspecError(
        f"what was fetched is not what the spec names: it is {got.digest} ({got.size:,} bytes), "
        f"and not {digest}; nothing of it was kept",
        hint=hint,
    )


def _put(place: Path, to: Path) -> None:
    """Have it at its place in one step, with all that it holds on disk before."""
    if to.is_dir() and not to.is_symlink() and (place.is_file() or any(to.iterdir())):
        raise MlspecError(f"{to} is a folder; it was left as it is", hint="name the file: --to")
    for path in (place, *(place.rglob("*") if place.is_dir() else ())):
        path.chmod(0o755 if path.is_dir() else 0o644)
    to.parent.mkdir(parents=True, exist_ok=True)
    if place.is_dir() and not to.is_dir():
        to.unlink(missing_ok=True)
    os.replace(place, to)  # noqa: PTH105
    sync_folder(to.parent)
