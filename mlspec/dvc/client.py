"""DVC, as the rest of mlspec sees it.

Comes in: paths and names of stages. Goes out: files where DVC puts them, or an error in words. What
is asked for often is done here (:mod:`mlspec.dvc.direct`), if the repository is as mlspec generates
it. The rest is done by DVC in a child process, started when it is first needed; the protocol and
what each request does are in :mod:`mlspec.dvc.worker`.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mlspec.dvc.commit import Digest
from mlspec.dvc.direct import Direct
from mlspec.dvc.locking import Busy
from mlspec.dvc.settings import Unusual
from mlspec.errors import Locked, MlspecError, RemoteUnreachable, why_not_started

LOG = Path(".mlspec", "logs", "dvc.log")
FAREWELL = 4.0
"""Seconds for a request under way to end when the client leaves."""

_DOING = {
    "add": "put the data under DVC",
    "checkout": "bring the files back",
    "commit": "record the run",
    "fetch": "fetch the files",
    "import_git": "import the data",
    "ignore": "have Git ignore the outputs",
    "import_url": "import the data",
    "inventory": "read the DVC repository",
    "place": "bring the files",
    "places": "tell where storage is",
    "probe": "write to storage",
    "push": "push to storage",
    "read_lists": "read what folders in storage hold",
    "remove": "remove objects from storage",
    "sizes": "look at all that storage has",
    "status": "compare with dvc.lock",
}


class Dvc:
    """Requests are carried out one after the other, from whatever thread. A context manager."""

    def __init__(self, root: Path, digest: Digest | None = None) -> None:
        """`digest` says what a file or folder holds now; without it, inputs are read anew."""
        self._root = root
        self._direct = Direct(root, digest)
        self._turn = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process; a request under way has a moment to end."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(FAREWELL)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    def find_tracked(self, paths: Iterable[str]) -> list[str]:
        """Those of `paths` that cannot be recorded because Git tracks them, as far as is known."""
        with self._turn:
            return self._direct.find_tracked(paths)

    def commit(self, dvcfile: str, stage: str) -> None:
        """Record what `stage` wrote: cache, dvc.lock, .gitignore, run cache."""
        self._do("commit", dvcfile=dvcfile, stage=stage)

    def checkout(self, dvcfile: str, stage: str | None = None) -> None:
        """Bring what dvc.lock or a `.dvc` file records, from the cache, else from storage."""
        self._ask("checkout", dvcfile=dvcfile, stage=stage)

    def push(self, dvcfile: str, stage: str | None = None) -> None:
        """Have in storage what dvc.lock or a `.dvc` file records."""
        self._do("push", dvcfile=dvcfile, stage=stage)

    def fetch(self, outs: Mapping[str, str]) -> dict[str, Path]:
        """Have objects in the cache, and say where; `outs`: md5 by any name for it.

        The worktree is left alone, so this gives the bytes of an earlier version. Do not write to
        the paths that it answers.
        """
        places: dict[str, str] = self._do("fetch", outs=dict(outs))
        return {name: Path(place) for name, place in places.items()}

    def place(self, outs: Mapping[str, str]) -> None:
        """Have objects in the worktree, from the cache, else from storage; `outs`: md5 by path."""
        self._ask("place", outs=dict(outs))

    def ignore(self, dvcfile: str, stage: str) -> None:
        """Have Git ignore what the stage writes."""
        self._ask("ignore", dvcfile=dvcfile, stage=stage)

    def probe(self) -> str:
        """Write to storage and delete it again; says where storage is."""
        place: str = self._ask("probe")
        return place

    def places(self) -> dict[str, str]:
        """Where the `cache` is, and `storage`; empty if that keeps no objects by their md5."""
        places: dict[str, str] = self._ask("places")
        return places

    def sizes(self) -> dict[str, int]:
        """The bytes of every object in storage, by md5."""
        sizes: dict[str, int] = self._ask("sizes")
        return sizes

    def read_lists(self, md5s: Sequence[str]) -> dict[str, str]:
        """What storage has of folders' own objects, by md5; those that it has."""
        texts: dict[str, str] = self._ask("read_lists", md5s=list(md5s))
        return texts

    def remove(self, md5s: Sequence[str]) -> None:
        """Take objects away from storage."""
        self._ask("remove", md5s=list(md5s))

    def add(self, path: str) -> None:
        """Put data that Git does not track under DVC (`<path>.dvc`), or take their changes."""
        self._ask("add", path=path)

    def import_url(self, url: str, path: str) -> None:
        """Fetch `url` to `path`; `<path>.dvc` says where the data are from."""
        self._ask("import_url", url=url, path=path)

    def import_git(self, url: str, path: str, *, rev: str | None, out: str) -> None:
        """Fetch `path` of the repository `url` at `rev` to `out`; `<out>.dvc` says so."""
        self._ask("import_git", url=url, path=path, rev=rev, out=out)

    def status(self, targets: Sequence[str] = ()) -> dict[str, Any]:
        """What DVC holds to be out of date, as `dvc status --json` has it; empty if nothing."""
        status: dict[str, Any] = self._ask("status", targets=list(targets))
        return status

    def inventory(self) -> dict[str, Any]:
        """All that the repository has, as :func:`mlspec.dvc.inventory.take` gives it."""
        found: dict[str, Any] = self._ask("inventory")
        return found

    def warm_up(self, *, brings_back: bool) -> None:
        """Start the process now if it will be needed, so that it is ready for the first request.

        It is needed to bring files back, and for all else where DVC's settings ask for it.
        """
        if brings_back or self._direct.needs_help():
            with self._turn:
                self._started()

    def _do(self, do: str, **arguments: Any) -> Any:
        """Carry a request out here; leave it to the process if that is too much asked."""
        with self._turn:
            try:
                return getattr(self._direct, do)(**arguments)
            except Unusual:
                pass
            except Busy as error:
                raise _error(do, "locked", str(error)) from error
            except OSError as error:
                where = f"{error.filename}: " if error.filename else ""
                message = f"{where}{error.strerror or error}"
                if do != "commit":
                    raise _error(do, "unreachable", message) from error
                raise MlspecError(
                    f"cannot {_DOING[do]}: {message}", hint="mend the cause and apply again"
                ) from error
        return self._ask(do, **arguments)

    def _ask(self, do: str, **arguments: Any) -> Any:
        with self._turn:
            process = self._started()
            assert process.stdin is not None and process.stdout is not None
            line = ""
            try:
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.write(json.dumps({"do": do, "with": arguments}) + "\n")
                    process.stdin.flush()
                    line = process.stdout.readline()
            except BaseException:  # a signal: the answer must not go to whoever asks next
                self.close()
                raise
            if not line.endswith("\n"):
                self.close()
                raise MlspecError(
                    f"DVC ended before it could {_DOING[do]} (exit code {process.returncode})",
                    hint=f"the whole log is {LOG}",
                )
        answer = json.loads(line)
        if "error" in answer:
            raise _error(do, answer["error"], answer["message"])
        return answer["value"]

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            log = self._root / LOG
            try:
                log.parent.mkdir(parents=True, exist_ok=True)
                with log.open("ab") as errors:
                    # -P: modules of the repository must not take the place of DVC's
                    self._process = subprocess.Popen(
                        [sys.executable, "-P", "-m", "mlspec.dvc.worker"],
                        cwd=self._root,
                        env={**os.environ, "DVC_NO_ANALYTICS": "1", "PYTHONUTF8": "1"},
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=errors,
                        start_new_session=True,
                        encoding="utf-8",
                    )
            except OSError as error:
                raise MlspecError(why_not_started("DVC", error)) from error
        return self._process


def _error(do: str, kind: str, message: str) -> MlspecError:
    doing = _DOING[do]
    match kind:
        case "unreachable":
            return RemoteUnreachable(
                f"cannot {doing}: {message}",
                hint="check that the address is right and answers, then apply again",
            )
        case "missing":
            return MlspecError(
                f"cannot {doing}: storage does not have {message}",
                hint="push it from a checkout that has it (dvc push); unless the spec has "
                "`storage: {url: ...}`, storage is a folder that only one checkout has",
            )
        case "locked":
            return Locked(f"cannot {doing}: another DVC process is at work here: {message}")
        case _:
            return MlspecError(f"cannot {doing}: {message}", hint=f"the whole log is {LOG}")
