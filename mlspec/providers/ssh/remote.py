"""The far end of a connection to a plain host: carries out small requests there, one at a time.

This file is sent over the connection itself and needs nothing of mlspec, only Python 3.9 or later.
A request is a line of JSON, `{"do": NAME, ...}`, after which `size` bytes may follow; its answer is
a line with `value`, or with `error`. No shell has a part in any of it.

Calls that are to be made `if_lost` are made when the connection ends without a `bye`, or is silent
for too long: what served before has all requests again, whatever happened to who asked.
"""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import json
import os
import platform
import pwd
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BEGIN = b"mlspec: the far end is ready\n"
"""The first line that is meant for mlspec; a login shell may have said something before."""
SILENT_SECONDS = 120.0
"""Without a request for so long, while calls are to be made `if_lost`, the other side is lost."""
CHUNK = 1 << 20
BUILD_SECONDS = 1800.0
STAGING = ".new-"
ANSWER_SECONDS = 10.0
SMOKE_TRIES = 10
MOST_LATER = 5.0
ABANDONED_SECONDS = 3600.0
KEPT = 3
TAIL = 12
SBIN = ("/usr/sbin", "/usr/local/sbin", "/sbin")


class Problem(Exception):
    """What could not be done, in words; `kind` tells mlspec what to make of it."""

    def __init__(self, message: str, kind: str = "refused", hint: str = "") -> None:
        super().__init__(message)
        self.answer = {"error": message, "kind": kind, "hint": hint}


class Lost(Exception):
    """Nobody asks any more."""


class Line:
    """What comes in and goes out; reads no further than it is asked to."""

    def __init__(self) -> None:
        self._read = b""

    def next(self, seconds: float | None) -> dict[str, Any]:
        """The next request; raises :class:`Lost`."""
        while b"\n" not in self._read:
            self._read += self._more(seconds)
        line, _, self._read = self._read.partition(b"\n")
        request: dict[str, Any] = json.loads(line)
        return request

    def follow(self, size: int) -> Iterator[bytes]:
        """What follows a request."""
        while size:
            part, self._read = self._read[:size], self._read[size:]
            if not part:
                self._read = self._more(SILENT_SECONDS)
                continue
            size -= len(part)
            yield part

    def answer(self, answer: dict[str, Any]) -> None:
        data = json.dumps(answer).encode() + b"\n"
        try:
            while data:
                data = data[os.write(1, data) :]
        except OSError:
            raise Lost from None

    def _more(self, seconds: float | None) -> bytes:
        if seconds is not None and not select.select([0], [], [], seconds)[0]:
            raise Lost
        data = os.read(0, CHUNK)
        if not data:
            raise Lost
        return data


class Remote:
    """Every request by its name: the methods whose names begin with `do_`."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._locks: list[int] = []
        self.if_lost: list[dict[str, Any]] = []
        self.ended = False

    def carry_out(self, request: dict[str, Any]) -> Any:
        details = {key: value for key, value in request.items() if key != "do"}
        return getattr(self, f"do_{request['do']}")(**details)

    def do_hello(self, folder: str | None, units: str | None) -> dict[str, Any]:
        """What this host has, and where mlspec's own things are on it."""
        user = pwd.getpwuid(os.getuid())
        home = Path(os.environ.get("HOME") or user.pw_dir)
        units = units or ("user" if os.getuid() else "system")
        if folder is None:
            folder = "/opt/mlspec" if units == "system" else "~/mlspec"
        own = home / folder[2:] if folder.startswith("~/") else Path(folder)
        settings = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
        if units == "user":
            os.environ.setdefault("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")
        wide = os.pathsep.join([os.environ.get("PATH", os.defpath), *SBIN])
        programs = ("haproxy", "systemctl", "journalctl", "loginctl")
        return {
            "user": user.pw_name,
            "folder": str(own.resolve()),
            "units": units,
            "unit_folder": (
                "/etc/systemd/system" if units == "system" else str(settings / "systemd/user")
            ),
            "runtime": "/run" if units == "system" else os.environ["XDG_RUNTIME_DIR"],
            "version": "{}.{}".format(*sys.version_info[:2]),
            "interpreter": f"{platform.machine()} {sys.executable}",
            **{name: shutil.which(name, path=wide) for name in programs},
        }

    def do_many(self, calls: list[dict[str, Any]]) -> list[Any]:
        """The answers to several requests that nothing follows."""
        return [self.carry_out(call) for call in calls]

    def do_if_lost(self, calls: list[dict[str, Any]]) -> None:
        self.if_lost = calls

    def do_bye(self) -> None:
        self.ended = True

    def do_hold(self, path: str, seconds: float) -> None:
        """Have a lock until the connection ends; nobody else has it meanwhile."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if time.monotonic() > deadline:
                    raise Problem("another command of mlspec is at work there", "locked") from None
                time.sleep(0.2)
                continue
            self._locks.append(lock)
            return

    def do_read(self, path: str) -> str | None:
        try:
            return Path(path).read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, NotADirectoryError):
            return None

    def do_write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Whole, or as it was before, whatever happens meanwhile."""
        folder = Path(path).parent
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=STAGING, dir=folder)
        staged = Path(name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
            staged.replace(path)
        except BaseException:
            staged.unlink()
            raise
        sync(folder)

    def do_folder(self, path: str, mode: int) -> None:
        """Have a folder; one that is there stays as it is."""
        if not Path(path).is_dir():
            Path(path).mkdir(parents=True)
            Path(path).chmod(mode)

    def do_list(self, path: str) -> list[str]:
        folder = Path(path)
        return sorted(each.name for each in folder.iterdir()) if folder.is_dir() else []

    def do_remove(self, path: str) -> None:
        """A file or a folder; nothing to do if it is not there."""
        found = Path(path)
        if found.is_dir() and not found.is_symlink():
            shutil.rmtree(found)
        elif found.is_symlink() or found.exists():
            found.unlink()

    def do_has(self, path: str, files: dict[str, str]) -> bool:
        """Whether a folder has these files, by their SHA-256, and no others."""
        folder = Path(path)
        if not folder.is_dir():
            return False
        found = {name: sha256(folder / name) for name in walk(folder)}
        if found == files:
            os.utime(folder)
        return found == files

    def do_begin(self, path: str) -> str:
        """A folder in which `path` is put together."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        staged = tempfile.mkdtemp(prefix=STAGING, dir=Path(path).parent)
        Path(staged).chmod(0o755)
        return staged

    def do_put(self, path: str, size: int) -> None:
        """The file that follows."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with Path(path).open("xb") as file:
            for part in self._line.follow(size):
                file.write(part)
            file.flush()
            os.fsync(file.fileno())

    def do_seal(self, staged: str, path: str, files: dict[str, str]) -> None:
        """Have what was put together at its place, if it is what it should be."""
        if not self.do_has(staged, files):
            shutil.rmtree(staged)
            raise Problem(f"{path}: what arrived is not what was sent")
        for folder, _, _ in os.walk(staged):
            sync(Path(folder))
        if Path(path).is_dir():  # somebody changed it
            aside = Path(self.do_begin(path))
            Path(path).rename(aside / "changed")
            shutil.rmtree(aside, ignore_errors=True)
        Path(staged).rename(path)
        sync(Path(path).parent)

    def do_environment(self, path: str, requirements: str) -> None:
        """Have an environment of Python with these packages, which others may use too."""
        place = Path(path)
        if (place / "bin/python").exists():
            os.utime(place)
            return
        staged = Path(self.do_begin(path))
        try:
            build(staged, requirements)
            if not place.is_dir():  # another connection may have been faster
                staged.rename(place)
            sync(place.parent)
        finally:
            shutil.rmtree(staged, ignore_errors=True)

    def do_run(
        self, command: list[str], seconds: float = 90.0, refusal: bool = True
    ) -> dict[str, Any]:
        """A program; that it refuses is a problem unless it is said otherwise."""
        code, said = run(command, f"`{' '.join(command[:3])}`", seconds)
        if code and refusal:
            name = Path(command[0]).name
            raise Problem(f"`{' '.join([name, *command[1:]])}` was refused: {last(said)}")
        return {"code": code, "said": said}

    def do_port(self, first: int, taken: list[int]) -> int:
        """The first port from this one on that nothing listens on."""
        for port in range(first, first + 2000):
            if port not in taken and self.do_is_free("127.0.0.1", port):
                return port
        raise Problem("no port is free for a release")

    def do_is_free(self, address: str, port: int) -> bool:
        """Whether nothing listens there."""
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError:
                return False
        return True

    def do_is_file(self, path: str) -> bool:
        return Path(path).is_file()

    def do_get(self, port: int, path: str, token: str) -> dict[str, Any]:
        """What a service of this host answers; status 0 if it does not.

        `token` is the file with the one that lets in whoever looks after the service, if there is
        any.
        """
        return ask(port, "GET", path, None, token)

    def do_predict(self, port: int, row: dict[str, Any], token: str) -> dict[str, Any]:
        """The same for a row; asked again if it is to be asked later."""
        for _ in range(SMOKE_TRIES):
            answer = ask(port, "POST", "/predict", json.dumps({"rows": [row]}), token)
            if answer["status"] != http.client.TOO_MANY_REQUESTS:
                break
            time.sleep(answer["later"])
        return answer

    def do_proxy(self, socket_path: str, commands: list[str]) -> list[str]:
        """What HAProxy answers to each of these."""
        answers = []
        back = os.open(".", os.O_RDONLY)
        try:
            os.chdir(Path(socket_path).parent)  # a socket's own path must be short
            for command in commands:
                with socket.socket(socket.AF_UNIX) as line:
                    line.settimeout(10)
                    line.connect(Path(socket_path).name)
                    line.sendall(command.encode() + b"\n")
                    answers.append(b"".join(iter(lambda: line.recv(65536), b"")).decode())
        except OSError as error:
            raise Problem(f"HAProxy does not answer: {error.strerror or error}") from None
        finally:
            os.fchdir(back)
            os.close(back)
        return answers

    def do_prune(self, folder: str) -> None:
        """Remove what no deployment of this folder uses or used lately.

        Nothing is removed while others are at work here: what their releases use is in no record.
        """
        if any(self._is_held(each) for each in sorted(Path(folder, "locks").glob("*"))):
            return
        used = set()
        for name in self.do_list(f"{folder}/deployments"):
            text = self.do_read(f"{folder}/deployments/{name}/record.json")
            try:
                record = json.loads(text or "{}")
            except ValueError:  # nobody knows what it uses
                return
            used |= {record.get("files"), record.get("environment")}
        for kind in ("releases", "environments"):
            place = Path(folder, kind)
            paths = [(place / name) for name in self.do_list(str(place))]
            newest_first = sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True)
            for path in newest_first[KEPT:]:
                old = time.time() - path.stat().st_mtime > ABANDONED_SECONDS
                if old and path.name not in used:
                    aside = Path(self.do_begin(str(path)))  # half of one is none
                    path.rename(aside / "unused")
                    shutil.rmtree(aside, ignore_errors=True)

    def _is_held(self, path: Path) -> bool:
        """Whether another connection has this lock."""
        lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            if any(os.path.sameopenfile(lock, own) for own in self._locks):
                return False
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(lock)
        return False


def ask(port: int, method: str, path: str, body: str | None, token: str) -> dict[str, Any]:
    headers = {"content-type": "application/json", "x-request-id": "mlspec"}
    if Path(token).is_file():
        headers["authorization"] = f"Bearer {Path(token).read_text(encoding='ascii').strip()}"
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS)
    try:
        line.request(method, path, body, headers)
        answer = line.getresponse()
        text = answer.read().decode(errors="replace")
        later = min(float(answer.getheader("retry-after") or 1), MOST_LATER)
        return {"status": answer.status, "text": text, "later": later}
    except (OSError, ValueError, http.client.HTTPException) as error:
        return {"status": 0, "text": str(error), "later": 0}
    finally:
        line.close()


def build(folder: Path, requirements: str) -> None:
    """An environment that `requirements` say, with bytecode that no clock is part of."""
    step([sys.executable, "-I", "-m", "venv", str(folder)], "make an environment")
    python, file = str(folder / "bin/python"), folder / "requirements.txt"
    file.write_text(requirements, encoding="utf-8")
    if any(line.strip() and not line.startswith("#") for line in requirements.splitlines()):
        pip = [python, "-I", "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
        # wheels only: nothing of a package runs before the service does
        pip += ["--no-compile", "--only-binary", ":all:", "--requirement", str(file)]
        step(pip, "install its packages")
    bytecode = ["-m", "compileall", "-qq", "--invalidation-mode", "unchecked-hash"]
    run([python, "-I", *bytecode, str(folder / "lib")], "to compile its packages", BUILD_SECONDS)


def step(command: list[str], what: str) -> None:
    code, said = run(command, f"to {what}", BUILD_SECONDS)
    if code:
        hint = "Python of Debian and Ubuntu needs the package python3-venv" * ("venv" in command)
        raise Problem(f"it cannot {what}: {last(said)}", hint=hint)


def run(command: list[str], what: str, seconds: float) -> tuple[int, str]:
    """How a program ended and what it said; `what` is what it does, for who waited too long."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Problem(f"{what} took more than {seconds:.0f} s") from None
    return done.returncode, done.stdout.decode(errors="replace")


def walk(folder: Path) -> Iterator[str]:
    """The files in a folder, by their paths from it, with `/`."""
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_dir():
            yield path.relative_to(folder).as_posix()


def sha256(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        for part in iter(lambda: file.read(CHUNK), b""):
            found.update(part)
    return found.hexdigest()


def sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def last(said: str) -> str:
    """The end of what a program said, which tells what went wrong."""
    return "\n".join([line for line in said.strip().splitlines() if line.strip()][-TAIL:])


def serve() -> None:
    """Answer until nobody asks any more."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.umask(0o022)
    line = Line()
    remote = Remote(line)
    try:
        line.answer({})
        while not remote.ended:
            request = line.next(SILENT_SECONDS if remote.if_lost else None)
            try:
                answer = {"value": remote.carry_out(request)}
            except Problem as problem:
                answer = problem.answer
            except OSError as error:
                where = f"{error.filename}: " if error.filename else ""
                answer = {"error": f"{where}{error.strerror or error}", "kind": "refused"}
            except Lost:
                raise
            except Exception as error:  # what is to be made if lost still is
                said = f"{request['do']}: {type(error).__name__}: {error}"
                answer = {"error": said, "kind": "refused"}
            line.answer(answer)
    except Lost:
        for call in remote.if_lost:
            try:
                remote.carry_out(call)
            except Exception:  # nobody is told any more, and the next one may go well
                continue


if __name__ == "__main__":
    os.write(1, BEGIN)
    serve()
