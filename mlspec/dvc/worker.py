"""DVC, in a process of its own that :class:`mlspec.dvc.client.Dvc` talks to.

Comes in: a request by line on stdin, `{"do": name, "with": {...}}`. Goes out: an answer by line on
stdout, `{"value": ...}` or `{"error": kind, "message": ...}`. It ends when stdin does. What DVC
prints goes to stderr. Importing DVC takes longer than most of what it then does, so the process is
kept for a whole apply, and only the stages asked for are loaded, never the whole repository.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import sys
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any

from mlspec.dvc.locking import PATIENCE

_NETWORK_MODULES = frozenset(
    {"aiobotocore", "aiohttp", "asyncssh", "azure", "botocore", "gcsfs", "google", "httpx"}
    | {"paramiko", "requests", "ssl", "urllib3", "webdav4"}
)


class Unreachable(Exception):
    """Storage did not take or give what it should."""


class Missing(Exception):
    """Storage answered and does not have it."""


class Worker:
    """One repository; a method for each request."""

    def __init__(self, root: Path) -> None:
        from dvc.repo import Repo

        if not (root / ".dvc").is_dir():
            raise FileNotFoundError(f"{root} has no folder .dvc")
        self._repo = Repo(str(root))
        self._repo._skip_graph_checks = True  # they load every stage of the repository
        self._failures = _Failures()

    def commit(self, dvcfile: str, stage: str) -> None:
        """Take what the stage wrote into the cache, dvc.lock, .gitignore and the run cache."""
        self._repo.commit(_target(dvcfile, stage), force=True)

    def checkout(self, dvcfile: str, stage: str | None) -> None:
        """Put in the worktree what is recorded, from the cache, else from storage."""
        self._bring(dvcfile, stage)
        with self._locked():
            for found in self._stages(dvcfile, stage):
                found.checkout(force=True)

    def push(self, dvcfile: str, stage: str | None) -> None:
        """Have in storage what is recorded."""
        with self._locked():
            for found in self._stages(dvcfile, stage):
                if found.is_repo_import:
                    continue
                for odb, objects in found.get_used_objs().items():
                    self._transfer(partial(self._repo.cloud.push, objects, odb=odb))

    def fetch(self, outs: Mapping[str, str]) -> dict[str, str]:
        """Have objects in the cache; `outs`: md5 by path. Answers where each lies."""
        from dvc_data.hashfile.hash_info import HashInfo

        with self._locked():
            cache = self._repo.cache.local
            wanted = {HashInfo("md5", md5) for md5 in outs.values()}
            missing = {info for info in wanted if not self._complete(info)}
            self._pull(missing)
            lost = [path for path, md5 in outs.items() if not self._complete(HashInfo("md5", md5))]
            if lost:
                raise Missing(", ".join(lost))
            return {path: cache.oid_to_path(md5) for path, md5 in outs.items()}

    def place(self, outs: Mapping[str, str]) -> None:
        """Have objects in the worktree; `outs`: md5 by path. What lies there is replaced."""
        from dvc.fs import LocalFileSystem
        from dvc_data.hashfile import load
        from dvc_data.hashfile.checkout import checkout
        from dvc_data.hashfile.hash_info import HashInfo

        self.fetch(outs)
        with self._locked():
            cache = self._repo.cache.local
            for path, md5 in outs.items():
                _make_parent(path)
                checkout(
                    str(Path(path).absolute()),
                    LocalFileSystem(),
                    load(cache, HashInfo("md5", md5)),
                    cache,
                    force=True,
                    quiet=True,
                    state=self._repo.state,
                )

    def ignore(self, dvcfile: str, stage: str) -> None:
        """Have Git ignore what the stage writes, as `commit` does."""
        for found in self._stages(dvcfile, stage):
            for out in found.outs:
                _make_parent(str(out.fspath))
                out.ignore()

    def probe(self) -> str:
        """Write to storage and delete what was written; answers where that is."""
        with _as_unreachable():
            remote = self._repo.cloud.get_remote()
            path = remote.fs.join(remote.path, f"mlspec-probe-{uuid.uuid4().hex}")
            remote.fs.makedirs(remote.path, exist_ok=True)
            remote.fs.pipe_file(path, b"mlspec doctor\n")
            remote.fs.remove(path)
            return str(remote.fs.unstrip_protocol(remote.path))

    def places(self) -> dict[str, str]:
        """Where the cache is, and the default remote, if it keeps objects by their md5."""
        from dvc.config import NoRemoteError, RemoteConfigError

        storage = ""
        with contextlib.suppress(NoRemoteError, RemoteConfigError), _as_unreachable():
            odb = self._repo.cloud.get_remote_odb(command="mlspec gc")
            storage = str(odb.fs.unstrip_protocol(odb.path)).removesuffix("/files/md5")
        return {"cache": str(Path(self._repo.cache.local.path).parents[1]), "storage": storage}

    def sizes(self) -> dict[str, int]:
        """The bytes of every object in storage, by md5."""
        with _as_unreachable():
            odb = self._repo.cloud.get_remote_odb(command="mlspec gc")
            try:
                found = odb.fs.fs.find(odb.path, detail=True)
            except FileNotFoundError:
                return {}
            # not every file system tells the sizes along with the names
            infos = found if isinstance(found, dict) else {p: odb.fs.info(p) for p in found}
        return {
            "".join(path.split("/")[-2:]): int(info.get("size") or 0)
            for path, info in infos.items()
        }

    def read_lists(self, md5s: list[str]) -> dict[str, str]:
        """What storage has of folders' own objects, by md5; those that it has."""
        texts: dict[str, str] = {}
        with _as_unreachable():
            odb = self._repo.cloud.get_remote_odb(command="mlspec gc")
            for md5 in md5s:
                with contextlib.suppress(FileNotFoundError):
                    texts[md5] = odb.fs.cat_file(odb.oid_to_path(md5)).decode()
        return texts

    def remove(self, md5s: list[str]) -> None:
        """Take objects away from storage, and have DVC forget what it knew of that."""
        from dvc_data.hashfile.db import get_index

        with _as_unreachable():
            odb = self._repo.cloud.get_remote_odb(command="mlspec gc")
            odb.fs.remove([odb.oid_to_path(md5) for md5 in md5s])
            get_index(odb).clear()

    def add(self, path: str) -> None:
        """Put data that Git does not track under DVC, in `<path>.dvc`, or take their changes."""
        with self._locked():
            if Path(f"{path}.dvc").exists():
                (stage,) = self._stages(f"{path}.dvc", None)
            else:
                folder, name = os.path.split(path)
                stage = self._repo.stage.create(
                    single_stage=True,
                    validate=False,
                    fname=f"{path}.dvc",
                    wdir=folder or os.curdir,
                    outs=[name],
                )
            stage.add_outs()
            stage.dump()

    def import_url(self, url: str, path: str) -> None:
        """Fetch data and remember where from, in `<path>.dvc`."""
        _make_parent(path)
        with _as_unreachable():
            self._repo.imp_url(url, out=path, force=True)

    def import_git(self, url: str, path: str, rev: str | None, out: str) -> None:
        """Fetch `path` of another repository and remember the commit, in `<out>.dvc`."""
        _make_parent(out)
        with _as_unreachable():
            self._repo.imp(url, path, out=out, rev=rev, force=True)

    def status(self, targets: list[str]) -> dict[str, Any]:
        """What DVC holds to be out of date; empty when nothing is."""
        status: dict[str, Any] = self._repo.status(targets=targets or None)
        return status

    def inventory(self) -> dict[str, Any]:
        """All that the repository has: stages, data, settings (:mod:`mlspec.dvc.inventory`)."""
        from mlspec.dvc.inventory import take

        return take(self._repo)

    def _bring(self, dvcfile: str, stage: str | None) -> None:
        with self._locked():
            for found in self._stages(dvcfile, stage):
                missing = [out for out in found.outs if out.changed_cache()]
                if missing and found.is_repo_import:
                    with _as_unreachable():
                        self._repo.fetch([_target(dvcfile, stage)])
                elif missing:
                    self._pull({out.hash_info for out in missing if out.hash_info})
                lost = [str(out) for out in missing if out.changed_cache()]
                if lost:
                    raise Missing(", ".join(lost))

    def _pull(self, objects: set[Any]) -> None:
        """Bring objects into the cache; of folders first their lists, then what is on them."""
        from dvc_data.hashfile.tree import Tree

        folders = {info for info in objects if info.isdir}
        if folders:
            self._transfer(partial(self._repo.cloud.pull, folders))
        files = objects - folders
        for folder in folders:
            with contextlib.suppress(FileNotFoundError):
                files |= {info for _, _, info in Tree.load(self._repo.cache.local, folder)}
        if files:
            self._transfer(partial(self._repo.cloud.pull, files))

    def _transfer(self, transfer: Callable[[], Any]) -> None:
        self._failures.clear()
        with _as_unreachable():
            result = transfer()
        if result.failed:
            why = f": {self._failures.last}" if self._failures.last else ""
            raise Unreachable(f"{len(result.failed)} objects were not transferred{why}")

    def _complete(self, info: Any) -> bool:
        from dvc_data.hashfile import check, load
        from dvc_objects.errors import ObjectFormatError

        cache = self._repo.cache.local
        try:
            check(cache, load(cache, info))
        except (FileNotFoundError, ObjectFormatError):
            return False
        return True

    def _stages(self, dvcfile: str, stage: str | None) -> list[Any]:
        return list(self._repo.stage.collect(_target(dvcfile, stage)))

    def _locked(self) -> contextlib.AbstractContextManager[None]:
        from dvc.repo import lock_repo

        lock: contextlib.AbstractContextManager[None] = lock_repo(self._repo)
        return lock


class _Failures(logging.Handler):
    """Hears why a transfer failed: DVC logs it, and says only how many did."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.last = ""
        for name in ("dvc", "dvc_data", "dvc_objects"):
            logging.getLogger(name).addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self.last = str(error) if error else record.getMessage()

    def clear(self) -> None:
        self.last = ""


@contextlib.contextmanager
def _as_unreachable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unreachable(str(error)) from error
    except Exception as error:
        if _is_network(error):
            raise Unreachable(_message(error)) from error
        raise


def _is_network(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ConnectionError | TimeoutError) or type(error).__name__ in (
            "CloneError",
            "gaierror",
        ):
            return True
        if type(error).__module__.partition(".")[0] in _NETWORK_MODULES:
            return True
        error = error.__cause__ or error.__context__
    return False


def _message(error: BaseException) -> str:
    """What DVC says, with the reason below it if that says more."""
    texts = [str(error) or type(error).__name__]
    cause = error.__cause__
    if cause is not None and str(cause) and str(cause) not in texts[0]:
        texts.append(str(cause))
    return ": ".join(texts)


def _target(dvcfile: str, stage: str | None) -> str:
    return f"{dvcfile}:{stage}" if stage else dvcfile


def _make_parent(path: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)


def _mend_rwlock(root: Path) -> None:
    """A DVC that was killed while writing leaves a file that no later one can read."""
    path = root / ".dvc/tmp/rwlock"
    try:
        json.loads(path.read_bytes())
        return
    except FileNotFoundError:
        return
    except ValueError:
        pass
    from dvc.lock import LockError, make_lock

    with contextlib.suppress(LockError), make_lock(str(path.with_name("rwlock.lock"))):
        path.unlink(missing_ok=True)


def _answer(worker: Worker, root: Path, request: Mapping[str, Any]) -> dict[str, Any]:
    from dvc.exceptions import DvcException
    from dvc.lock import LockError
    from dvc.rwlock import RWLockFileCorruptedError

    limit = time.monotonic() + PATIENCE
    while True:
        try:
            return {"value": getattr(worker, request["do"])(**request["with"])}
        except (LockError, RWLockFileCorruptedError) as error:
            if time.monotonic() > limit:
                return {"error": "locked", "message": str(error)}
            _mend_rwlock(root)
            time.sleep(0.1)
        except Unreachable as error:
            traceback.print_exc()
            return {"error": "unreachable", "message": str(error)}
        except Missing as error:
            return {"error": "missing", "message": str(error)}
        except DvcException as error:
            traceback.print_exc()
            return {"error": "refused", "message": _message(error)}
        except Exception as error:
            traceback.print_exc()
            return {"error": "failed", "message": f"{type(error).__name__}: {error}"}


def _claim_stdout() -> IO[str]:
    """The pipe to the client; whatever else is printed goes to stderr from now on."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return answers


def main() -> int:
    """Answer requests until there are no more."""
    answers = _claim_stdout()
    root = Path.cwd()
    worker = _make_worker(root)
    for line in sys.stdin:
        if isinstance(worker, Exception):
            answer = {"error": "refused", "message": _message(worker)}
        else:
            answer = _answer(worker, root, json.loads(line))
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    return 0


def _make_worker(root: Path) -> Worker | Exception:
    # nothing that is imported becomes garbage: looking for it takes over a tenth of the CPU time
    gc.disable()
    try:
        return Worker(root)
    except Exception as error:
        traceback.print_exc()
        return error
    finally:
        gc.freeze()
        gc.enable()


if __name__ == "__main__":
    sys.exit(main())
