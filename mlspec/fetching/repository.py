"""A file of a Git repository, at a tag or a commit.

Nothing is checked out: no hook, no filter and no submodule of it ever runs, and a link stays one.
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
from pathlib import Path

from mlspec.errors import MlspecError, RemoteUnreachable
from mlspec.fetching.sink import Budget, Got, Sink
from mlspec.spec.show import escape, redact

PROTOCOLS = "https:http:ssh:git:file"
WANTED = "refs/mlspec/wanted"

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_OPTIONS = (
    *("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false"),
    *("-c", "protocol.ext.allow=never", "-c", "fetch.recurseSubmodules=false"),
    *("-c", "gc.auto=0", "-c", "maintenance.auto=false", "-c", "transfer.bundleURI=false"),
    *(
        "-c",
        "http.lowSpeedLimit=1",
        "-c",
        "http.lowSpeedTime=60",
        "-c",
        "http.followRedirects=initial",
    ),
)
_OF_THE_USER = ("GIT_SSL_", "GIT_SSH", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_NOSYSTEM")
"""Variables that say how to reach others, wherever Git works."""
_SLACK = 1 << 26
"""Bytes that a pack may have beyond the file itself."""


def bring(url: str, rev: str, path: str, place: Path, work: Path, budget: Budget) -> Got:
    """Have the file `path` of `url` at `rev` at `place`; `work` is for what Git needs."""
    git = _Git(url, work, budget)
    git.fetch(rev)
    oid = git.find(rev, path)
    budget.check(int(git.run("cat-file", "-s", oid)))
    with Sink(place, budget) as sink:
        git.copy(oid, sink)
    return sink.got


def _is_of_another(variable: str) -> bool:
    """Whether it tells Git of another repository: a hook's, for example."""
    return variable.startswith("GIT_") and not variable.startswith(_OF_THE_USER)


class _Git:
    def __init__(self, url: str, work: Path, budget: Budget) -> None:
        self._url = url
        self._work = work
        self._budget = budget
        self._environment = {
            **{key: value for key, value in os.environ.items() if not _is_of_another(key)},
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "true",
            "GIT_SSH_COMMAND": os.environ.get("GIT_SSH_COMMAND", "ssh -o BatchMode=yes"),
            "GIT_ALLOW_PROTOCOL": PROTOCOLS,
            "GIT_LITERAL_PATHSPECS": "1",
            "GIT_LFS_SKIP_SMUDGE": "1",
            "LC_ALL": "C",
        }
        self._call("init", "--quiet", "--bare", "--template=", str(work))
        self.run("config", "remote.origin.url", url)

    def fetch(self, rev: str) -> None:
        """Have the commit at `rev` as :data:`WANTED`, and as little else as the server can do."""
        self._budget.tell(f"asking {self._url} for {rev}")
        commit = _COMMIT.fullmatch(rev) is not None
        what = f"+{rev if commit else f'refs/tags/{rev}'}:{WANTED}"
        little = ("--depth=1", "--filter=blob:none", "--no-tags", "--no-recurse-submodules")
        done = self._try("fetch", "--quiet", *little, "origin", what)
        if done.returncode and commit:
            # a server that gives no commit by its name gives all that its branches and tags have
            done = self._try("fetch", "--quiet", *little[1:], "origin", "+refs/*:refs/all/*")
            if not done.returncode:
                done = self._try("update-ref", WANTED, rev)
        if done.returncode:
            raise self._failed(done, rev)
        found = self.run("rev-parse", "--verify", f"{WANTED}^{{commit}}").strip()
        if commit and found != rev:
            raise MlspecError(f"{self._url} gave commit {found}, and not {rev}")

    def find(self, rev: str, path: str) -> str:
        """The name of the content of a regular file."""
        listed = self.run("ls-tree", "-z", "--full-tree", WANTED, "--", path).split("\0")[0]
        about, _, name = listed.partition("\t")
        if name != path:
            raise MlspecError(f"{self._url} has no {path} at {rev}", hint="look at `path`")
        mode, _, oid = about.split()
        if mode not in ("100644", "100755"):
            kind = {"120000": "a link", "160000": "a submodule"}.get(mode, "a folder")
            raise MlspecError(
                f"{path} is {kind} in {self._url}, and not a file",
                hint="name the file itself; submodules are not fetched",
            )
        return oid

    def run(self, *arguments: str) -> str:
        done = self._try(*arguments)
        if done.returncode:
            raise self._failed(done, arguments[0])
        return os.fsdecode(done.stdout)

    def copy(self, oid: str, sink: Sink) -> None:
        command = ["git", "-C", str(self._work), *_OPTIONS, "cat-file", "blob", oid]
        with subprocess.Popen(
            command,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as process:
            assert process.stdout is not None
            try:
                sink.copy(process.stdout)
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            raise MlspecError(f"Git cannot read the file from {self._url}", hint="try again")

    def _try(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return self._call("-C", str(self._work), *arguments)

    def _call(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        try:
            return subprocess.run(
                ["git", *arguments[:2], *_OPTIONS, *arguments[2:]]
                if arguments[0] == "-C"
                else ["git", *_OPTIONS, *arguments],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                preexec_fn=self._limit,
                check=False,
            )
        except OSError as error:
            raise MlspecError(f"cannot start git: {error.strerror}") from error

    def _limit(self) -> None:
        """No file that Git writes is larger than the model may be."""
        most = self._budget.most + _SLACK
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    def _failed(self, done: subprocess.CompletedProcess[bytes], what: str) -> MlspecError:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        why = redact(escape(said[-1]))[:300] if said else f"exit code {done.returncode}"
        return RemoteUnreachable(
            f"{self._url} does not give {what}: {why}",
            hint="look at the address and at `rev`, and whether `git ls-remote` may read it here",
        )
