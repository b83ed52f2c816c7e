"""Where a machine keeps what it works with: clones of repositories, each for one job at a time.

Comes in: the address of a repository and a commit. Goes out: a :class:`Clone` that is exactly that
commit. All lies below one folder (`MLSPEC_WORK`, else in the user's cache), by repository::

    <id>/source.git     what was fetched, each commit once and without its history
    <id>/clones/<n>     clones that borrow its objects; <n>.lock says that somebody works there
    <id>/cache          data and models, shared by the clones (DVC's cache)

Whoever holds a clone is the only one to write in it. The lock is the kernel's, so it is gone when
its holder is. What a clone was left with does not matter: it is cleaned before each job, and made
anew if that fails. The folder may be deleted while no job runs.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from mlspec.atomic import OWN, write_atomic
from mlspec.dvc.client import Dvc
from mlspec.errors import MlspecError, RemoteUnreachable, unusable
from mlspec.git import Git, GitError
from mlspec.git.errors import hide_password, reason_of
from mlspec.worktree import Worktree

FETCH_TIMEOUT = 900.0
"""Seconds for the repository to be fetched."""
_KEPT = ("/.dvc/tmp/", "/.dvc/config.local", f"/{OWN}/")
"""What cleaning leaves in a clone: locks and memories that DVC and mlspec have there."""
_SPECIAL = re.compile(r"([\\*?\[\]! #])")
_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")


def work_folder() -> Path:
    """Where this machine's clones and caches are."""
    named = os.environ.get("MLSPEC_WORK")
    if named:
        return Path(named).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).absolute() / "mlspec" / "work"


class Workplace:
    """What this machine has of one repository."""

    def __init__(self, repository: str, folder: Path | None = None) -> None:
        self.repository = repository
        name = hashlib.sha256(repository.encode()).hexdigest()[:16]
        self.folder = (folder or work_folder()) / name
        self.source = self.folder / "source.git"

    @contextlib.contextmanager
    def claim(self) -> Iterator[Clone]:
        """A clone that is nobody else's meanwhile."""
        clones = self.folder / "clones"
        try:
            clones.mkdir(parents=True, exist_ok=True)
            number, lock = next(
                (number, lock)
                for number in range(10_000)
                if (lock := _taken(clones / f"{number}.lock", wait=False)) is not None
            )
        except OSError as error:
            raise unusable(error) from error
        try:
            with contextlib.closing(Clone(self, clones / str(number))) as clone:
                yield clone
        finally:
            os.close(lock)

    def fetch(self, commit: str) -> None:
        """Have `commit` in `source.git`; raises :class:`RemoteUnreachable` where that fails."""
        if not _COMMIT.fullmatch(commit):
            raise MlspecError(f"{commit!r} is not a commit")
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = _taken(self.folder / "source.lock", wait=True)
        assert lock is not None
        try:
            self._fetch(commit)
        finally:
            os.close(lock)

    def _fetch(self, commit: str) -> None:
        git = Git(self.source)
        kept = f"refs/mlspec/{commit}"
        if not (self.source / "HEAD").exists():
            self.source.mkdir(parents=True, exist_ok=True)
            size = "sha1" if len(commit) == 40 else "sha256"
            git.run("init", "--quiet", "--bare", f"--object-format={size}")
        if git.call("rev-parse", "--verify", "--quiet", kept).returncode == 0:
            return
        options = ("--quiet", "--no-tags", "--no-write-fetch-head", "--recurse-submodules=no")
        refs = ((f"+{commit}:{kept}",), ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"))
        said = b""
        # a server may refuse to give a commit by its name; then by the branches that have it
        for shallow, wanted in ((("--depth=1",), refs[0]), ((), refs[1])):
            done = git.call(
                "fetch", *options, *shallow, "--", self.repository, *wanted, timeout=FETCH_TIMEOUT
            )
            said = done.stderr or said
            if done.returncode == 0 and not git.call("cat-file", "-e", f"{commit}^{{tree}}").stderr:
                git.run("update-ref", kept, commit)
                return
        reason = reason_of(hide_password(said.decode("utf-8", "backslashreplace")))
        address = hide_password(self.repository)
        raise RemoteUnreachable(
            f"commit {commit[:9]} cannot be fetched from {address}: {reason}",
            hint="push the commit, and let the machine read the repository: "
            f"`git ls-remote {address}` must work there",
        )


class Clone:
    """One clone: a worktree, and DVC at work in it."""

    def __init__(self, workplace: Workplace, root: Path) -> None:
        self.root = root
        self._workplace = workplace
        self._dvc: Dvc | None = None
        self._settings: Mapping[str, str] = {}

    @property
    def dvc(self) -> Dvc:
        """DVC with the settings of the last :meth:`settle`; its process is kept between jobs."""
        if self._dvc is None:
            self._dvc = Dvc(self.root)
        return self._dvc

    def close(self) -> None:
        if self._dvc is not None:
            self._dvc.close()
            self._dvc = None

    def settle(self, commit: str, files: Mapping[str, str], keep: Iterable[str] = ()) -> Worktree:
        """Be exactly `commit` with `files` on top, whatever was left here.

        Paths in `keep` may stay as they are, because the caller looks at them anyway.
        """
        self._workplace.fetch(commit)
        if not (self.root / ".git").is_dir():
            self._make()
        try:
            self._clean(commit, tuple(keep))
        except (GitError, OSError):
            self._make()
            self._clean(commit, tuple(keep))
        for path, text in files.items():
            _write(self.root, path, text)
        self._configure({path: text for path, text in files.items() if path == ".dvc/config"})
        return Worktree(self.root)

    def _make(self) -> None:
        self.close()
        if self.root.exists():
            _remove(self.root)
        self.root.mkdir(parents=True)
        git = Git(self.root)
        shared = Git(self._workplace.source).object_format
        git.run("init", "--quiet", f"--object-format={shared}")
        borrowed = self.root / ".git/objects/info/alternates"
        borrowed.write_text(f"{self._workplace.source / 'objects'}\n")

    def _clean(self, commit: str, keep: tuple[str, ...]) -> None:
        git = Git(self.root)
        (self.root / ".git/index.lock").unlink(missing_ok=True)
        # only the user's own settings of Git count, none that a job may have left
        git.run("checkout", "--quiet", "--force", "--detach", commit, "--")
        kept = (*_KEPT, *(f"/{_SPECIAL.sub(_escape, path)}" for path in keep))
        git.run("clean", "-ffdxq", *(f"--exclude={pattern}" for pattern in kept))

    def _configure(self, settings: Mapping[str, str]) -> None:
        """DVC reads its settings once: another storage needs another process."""
        folder = self._workplace.folder
        local = "\n".join(
            (
                "[cache]",
                f'    dir = "{folder / "cache"}"',
                "[core]",
                f'    site_cache_dir = "{folder / "state"}"',
                "    analytics = false",
                "",
            )
        )
        settings = {**settings, ".dvc/config.local": local}
        if settings != self._settings:
            self.close()
        _write(self.root, ".dvc/config.local", local)
        self._settings = settings


def _taken(path: Path, *, wait: bool) -> int | None:
    """The descriptor of a lock; none if another process holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _write(root: Path, path: str, text: str) -> None:
    """Replace a file of the clone; never through a link that leads out of it."""
    target = root / path
    if not target.parent.resolve().is_relative_to(root.resolve()):
        raise MlspecError(f"{path} leads out of the repository")
    if target.is_dir() and not target.is_symlink():
        _remove(target)
    write_atomic(target, text)


def _escape(match: re.Match[str]) -> str:
    return f"\\{match[0]}"


def _remove(folder: Path) -> None:
    """Delete a folder, also one whose folders were made read-only."""

    def retry(remove: Callable[[str], object], path: str, _error: object) -> None:
        Path(path).parent.chmod(0o700)
        with contextlib.suppress(OSError):
            Path(path).chmod(0o700)
        remove(path)

    shutil.rmtree(folder, onerror=retry)
