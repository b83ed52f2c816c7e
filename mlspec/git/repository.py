"""A thin wrapper around the `git` executable: what mlspec asks of Git, and nothing that it decides.

Comes in: a folder. Goes out: plain strings and bytes; an absent commit, branch or remote is `""`.
No hook is run, nothing is asked on the terminal, and the index is not refreshed by a question.
What Git complains about becomes a :class:`GitError`, without any password that an address holds.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import time
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mlspec.errors import why_not_started
from mlspec.git.errors import GitError, hide_password, reason_of
from mlspec.git.objects import ObjectReader, close_pipes
from mlspec.git.pack import Packs, make_pack
from mlspec.git.refs import RefMover

NETWORK_TIMEOUT = 300.0
"""Seconds for one fetch or push."""

_SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.fsync=objects,reference",
    "core.fsyncMethod=batch",
    "core.quotePath=false",
    "i18n.commitEncoding=UTF-8",
    "gc.auto=0",
    "maintenance.auto=false",
    "http.lowSpeedLimit=1",
    "http.lowSpeedTime=60",
)
_OF_ANOTHER_REPOSITORY = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_CEILING_DIRECTORIES",
)
_STALE = 3.0
"""Seconds after which the lock of a ref is nobody's."""
_FEW = 100
_MANY_OF_256 = 6700
"""So many loose objects are too many for `git gc --auto`, which also counts one folder of 256."""
_MANY_PACKS = 50
"""So many are too many for `git gc --auto`."""
_DURABLE = ("-c", "core.fsync=objects,derived-metadata,reference")
_NOT_SHARED = frozenset({"umask", "false", "no", "off", "0"})
_NOT_IN_A_NAME = re.compile(r"[<>\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a commit is by."""

    name: str
    email: str

    def __str__(self) -> str:
        return f"{self.name} <{self.email}>"


class Git:
    """The repository that holds the folder `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.patience = NETWORK_TIMEOUT
        """Seconds for one fetch or push."""
        self._online: set[subprocess.Popen[bytes]] = set()
        self.objects = ObjectReader(self._serve)
        self._refs = RefMover(lambda: self._serve("update-ref", "--stdin"))

    def command(self, *arguments: str) -> list[str]:
        """The argument list of `git ARGUMENTS`, hardened."""
        settings = [part for setting in _SETTINGS for part in ("-c", setting)]
        options = ["--no-pager", "--no-optional-locks", "-C", str(self.root)]
        return ["git", *options, *settings, *arguments]

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """This process's environment, without what would point Git at another repository."""
        kept = {
            key: value for key, value in os.environ.items() if key not in _OF_ANOTHER_REPOSITORY
        }
        return {**kept, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", **(extra or {})}

    def call(
        self,
        *arguments: str,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run Git and wait; raises only if it cannot be run or takes longer than `timeout`."""
        with self.start(*arguments, env=env) as process:
            if timeout is not None:
                self._online.add(process)
            try:
                stdout, stderr = process.communicate(stdin, timeout)
            except subprocess.TimeoutExpired as error:
                # Git's own children (ssh, a helper) may hold the pipes: do not wait for their end.
                process.kill()
                close_pipes(process)
                verb = arguments[2 if arguments[0] == "-c" else 0]
                message = f"git {verb} did not end within {timeout:g} seconds"
                raise GitError(message) from error
            except BaseException:
                if timeout is not None:  # a network that does not answer must not hold us up
                    process.terminate()
                raise
            finally:
                self._online.discard(process)
        return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)

    def start(
        self,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        stderr: int = subprocess.PIPE,
        apart: bool = False,
    ) -> subprocess.Popen[bytes]:
        """Start Git with pipes; `apart` if Ctrl-C in the terminal does not concern it."""
        try:
            return subprocess.Popen(
                self.command(*arguments),
                env=self.environment(env),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=apart,
            )
        except FileNotFoundError as error:
            hint = "install Git 2.30 or newer and put it on PATH"
            raise GitError("cannot find the program git", hint=hint) from error
        except OSError as error:
            raise GitError(why_not_started("git", error)) from error

    def run(self, *arguments: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> str:
        """Git's output without the last line end; any exit code but 0 raises."""
        done = self.call(*arguments, stdin=stdin, env=env)
        if done.returncode != 0:
            raise self.failure(arguments[0], done.stderr)
        return done.stdout.decode("utf-8", "surrogateescape").rstrip("\n")

    def failure(self, verb: str, stderr: bytes) -> GitError:
        """What to raise for what Git said."""
        said = hide_password(stderr.decode("utf-8", "backslashreplace")).strip()
        if "not a git repository" in said:
            hint = "run `git init` in the project's folder"
            return GitError(f"{self.root} is not in a Git repository", hint=hint, stderr=said)
        if "dubious ownership" in said:
            hint = f"trust it, if you do: git config --global --add safe.directory {self.root}"
            message = f"Git does not trust {self.root}, which belongs to another user"
            return GitError(message, hint=hint, stderr=said)
        return GitError(f"git {verb} failed: {reason_of(said)}", stderr=said)

    @cached_property
    def _places(self) -> tuple[Path, str]:
        said = self.run("rev-parse", "--git-common-dir", "--show-object-format").splitlines()
        return (self.root / said[0]).resolve(), said[1]

    @property
    def common_dir(self) -> Path:
        """The folder `.git` that all worktrees of the repository share."""
        return self._places[0]

    @property
    def object_format(self) -> str:
        """`sha1` or `sha256`."""
        return self._places[1]

    @cached_property
    def toplevel(self) -> Path:
        """The worktree's topmost folder."""
        return Path(self.run("rev-parse", "--show-toplevel"))

    def head(self) -> str:
        """The commit that is checked out; none before the first."""
        with suppress(GitError):
            found = self.objects.get("HEAD")
            if found is not None and found.kind == "commit":
                return found.oid
        return self._answer("rev-parse", "--verify", "--quiet", "HEAD^{commit}")

    def branch(self) -> str:
        """The branch that is checked out; none when HEAD is detached."""
        return self._answer("symbolic-ref", "--quiet", "--short", "HEAD")

    def dirty(self) -> bool:
        """Whether `root` differs from the commit, in files that are tracked or new; not ignored."""
        status = ("status", "--porcelain", "-z", "--untracked-files=normal", "--", ".")
        return self.run(*status) != ""

    def blobs(self, commit: str, paths: Iterable[str] = ()) -> dict[str, str]:
        """The blobs that a commit has, by path; at and below `paths`, if there are any."""
        names = [f":(literal){path}" for path in paths]
        # many names are too long for one command
        some = names if len(names) <= _FEW else []
        listed = self.run("ls-tree", "-r", "-z", "--full-tree", commit, "--", *some)
        rows = (row.partition("\t") for row in listed.split("\0") if row)
        return {path: about.split()[2] for about, _, path in rows}

    def blob_name(self, content: bytes) -> str:
        """What Git calls a file of this content."""
        header = b"blob %d\0" % len(content)
        return hashlib.new(self.object_format, header + content, usedforsecurity=False).hexdigest()

    def commit_time(self, commit: str = "HEAD") -> int:
        """Seconds since 1970 of the commit."""
        return int(self.run("show", "--no-patch", "--format=%ct", commit, "--").splitlines()[0])

    def refs(self, prefix: str) -> dict[str, str]:
        """The refs at and below `prefix`, by name. A ref that cannot be read raises."""
        done = self.call("for-each-ref", "--format=%(objectname) %(refname)", prefix)
        if done.returncode != 0 or b"broken ref" in done.stderr:
            raise self.failure("for-each-ref", done.stderr)
        lines = (line.split(" ", 1) for line in done.stdout.decode().splitlines())
        return {name: oid for oid, name in lines}

    def ref(self, name: str) -> str:
        """The commit of the ref with the whole name `name`; none if there is no such ref."""
        found = self.objects.get(name)
        if found is not None and found.kind == "commit":
            return found.oid
        return self.refs(name).get(name, "")

    def move_ref(self, name: str, new: str, *, expected: str) -> str:
        """Make the ref `new` if it is `expected` (`""`: absent); why not, or `""` if done."""
        expected = expected or "0" * len(new)
        if self._refs.move(name, new, expected):
            return ""
        done = self.call("update-ref", name, new, expected)
        if done.returncode == 0:
            return ""
        return done.stderr.decode("utf-8", "backslashreplace") or "no reason given"

    def break_lock(self, name: str) -> bool:
        """Take the lock of a ref away if it stays as it is: who made it was killed. Whether so.

        Git holds one for milliseconds. One that was only stopped finds, when it goes on, that its
        lock is gone, and moves nothing.
        """
        lock = self.common_dir / f"{name}.lock"
        deadline = time.monotonic() + _STALE
        with suppress(OSError):
            found = lock.stat()
            while time.monotonic() < deadline:
                time.sleep(0.02)
                now = lock.stat()
                if (now.st_ino, now.st_mtime_ns) != (found.st_ino, found.st_mtime_ns):
                    return False
            lock.unlink()
            return True
        return False

    def add_objects(self, objects: Mapping[str, bytes]) -> None:
        """Have objects in the database: header and data by id. They are on disk after this."""
        if not self._is_shared:
            self._packs.add(objects)
        else:
            verb = ("unpack-objects", "-q") if len(objects) < _FEW else ("index-pack", "--stdin")
            self.run(*verb, stdin=make_pack(objects, self.object_format))

    def add_loose(self, kind: str, data: bytes, draft: str) -> str:
        """Have an object in a file of its own, which its owner may take away; its id.

        Until it is whole it is `draft` in the shared Git folder, so that one is left at most of
        many that were cut short. There is one writer of a draft at a time.
        """
        content = b"%s %d\0%s" % (kind.encode(), len(data), data)
        oid = hashlib.new(self.object_format, content, usedforsecurity=False).hexdigest()
        place, file = self.common_dir / "objects" / oid[:2] / oid[2:], self.common_dir / draft
        if self._is_shared:
            return self.run("hash-object", "-t", kind, "-w", "--stdin", stdin=data)
        if not place.exists():
            try:
                file.unlink(missing_ok=True)
                with file.open("wb") as handle:
                    handle.write(zlib.compress(content))
                    handle.flush()
                    os.fsync(handle.fileno())
                file.chmod(0o444)
                place.parent.mkdir(exist_ok=True)
                file.replace(place)
            except OSError as error:
                with suppress(OSError):
                    file.unlink()
                raise GitError(f"cannot write {file}: {error.strerror}") from error
        return oid

    @property
    def _is_shared(self) -> bool:
        """Whether other users write to the repository, so that rights are Git's business."""
        return self.config.get("core.sharedrepository", "umask").lower() not in _NOT_SHARED

    @cached_property
    def _packs(self) -> Packs:
        return Packs(self.common_dir / "objects/pack", self.object_format)

    def tidy(self, ref: str) -> None:
        """Have few files: of the objects of `ref`, and of packs, where Git would do it too."""
        self._packs.merge()
        self._pack_loose(ref)
        packs = self.common_dir / "objects/pack"
        if len([*packs.glob("*.pack")]) > _MANY_PACKS:
            self.run(*_DURABLE, "repack", "--geometric=2", "-d", "-l", "-q")

    def _pack_loose(self, ref: str) -> None:
        """Put the objects of `ref` into one pack, if there are about as many files as Git minds."""
        objects = self.common_dir / "objects"
        if len([*objects.glob("17/*")]) <= _MANY_OF_256 // 256:
            return
        options = ("--revs", "--unpacked", "--incremental", "--non-empty", "--window=3", "-q")
        place = str(objects / "pack/pack")
        self.run(*_DURABLE, "pack-objects", *options, place, stdin=f"{ref}\n".encode())
        self.run("prune-packed", "-q")

    def merge_base(self, one: str, other: str) -> str:
        """The newest commit that both come from; none for strangers."""
        return self._answer("merge-base", one, other)

    @cached_property
    def config(self) -> Mapping[str, str]:
        """All settings, the last of each; section and key are in small letters."""
        settings = self.run("config", "--list", "--null").split("\0")
        pairs = (setting.partition("\n") for setting in settings if setting)
        return {key: value if newline else "true" for key, newline, value in pairs}

    @property
    def remote(self) -> str:
        """The remote to share with: `mlspec.remote`, where empty means none, or else `origin`."""
        default = "origin" if "remote.origin.url" in self.config else ""
        return self.config.get("mlspec.remote", default)

    @property
    def user(self) -> Identity:
        """The user as Git knows them; `mlspec` where Git does not."""
        return Identity(self._user("name", "mlspec"), self._user("email", "mlspec@localhost"))

    @property
    def knows_user(self) -> bool:
        """Whether Git knows how to name the user, rather than that mlspec has to."""
        return bool(os.environ.get("GIT_AUTHOR_EMAIL") or self.config.get("user.email"))

    @property
    def signs(self) -> bool:
        """Whether the user signs commits."""
        return self.config.get("commit.gpgsign", "").lower() in {"true", "yes", "on", "1"}

    def hang_up(self) -> None:
        """End the fetches and pushes of other threads: they fail."""
        for process in [*self._online]:
            process.terminate()

    def close(self) -> None:
        """End the processes that read objects and move refs; the next question starts another."""
        self.objects.close()
        self._refs.close()

    def _serve(self, *arguments: str) -> subprocess.Popen[bytes]:
        return self.start(*arguments, stderr=subprocess.DEVNULL, apart=True)

    def _answer(self, *arguments: str) -> str:
        """Like :meth:`run` for questions that Git answers with exit code 1 for no."""
        done = self.call(*arguments)
        if done.returncode == 0:
            return done.stdout.decode("utf-8", "surrogateescape").strip()
        if done.returncode == 1:
            return ""
        raise self.failure(arguments[0], done.stderr)

    def _user(self, part: str, fallback: str) -> str:
        given = os.environ.get(f"GIT_AUTHOR_{part.upper()}") or self.config.get(f"user.{part}", "")
        # Git strips these itself, and then refuses a name of which nothing is left.
        return _NOT_IN_A_NAME.sub("", given).strip(" .,:;\"'\\") or fallback
