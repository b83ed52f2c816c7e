"""A connection to a host over the system's OpenSSH: requests in, answers out, problems in words.

One process of `ssh` carries a whole command: its far end, :mod:`.remote`, comes over the connection
first and ends with it. Host keys are checked always; nothing asks for a password.
"""

from __future__ import annotations

import json
import os
import select
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from mlspec.children import withhold_credentials
from mlspec.errors import Locked, MlspecError, RemoteUnreachable
from mlspec.providers.ssh.remote import BEGIN

PROGRAM = "ssh"
CONNECT_SECONDS = 15
START_SECONDS = 60.0
"""Until the far end is there."""
CALL_SECONDS = 180.0
CHUNK = 1 << 20
BOOTSTRAP = (
    "import sys; i = sys.stdin.buffer; "
    'exec(compile(i.read(int(i.readline())), "mlspec", "exec"), {"__name__": "__main__"})'
)
OPTIONS: Mapping[str, str | int] = {
    "BatchMode": "yes",
    "StrictHostKeyChecking": "yes",
    "ConnectTimeout": CONNECT_SECONDS,
    "ServerAliveInterval": 15,
    "ServerAliveCountMax": 3,
    "ClearAllForwardings": "yes",
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "PermitLocalCommand": "no",
    "EscapeChar": "none",
    "LogLevel": "ERROR",
}


class Refused(MlspecError):
    """The host said no; `said` is what it said."""

    def __init__(self, message: str, said: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.said = said


@dataclass(frozen=True, slots=True)
class Way:
    """How a host is reached, as the spec says it. `known_hosts` counts from the repository."""

    name: str
    user: str | None
    port: int | None
    identity_env: str | None
    known_hosts: Path | None
    python: str

    def command(self) -> list[str]:
        """The call of ssh; raises :class:`MlspecError` for a key that is not there."""
        program = shutil.which(PROGRAM)
        if program is None:
            raise RemoteUnreachable(
                f"{self.name}: ssh is not installed here", hint="install OpenSSH's client"
            )
        options = dict(OPTIONS)
        if self.known_hosts is not None:
            options["UserKnownHostsFile"] = f'"{self.known_hosts}"'
            options["GlobalKnownHostsFile"] = "none"
        if self.identity_env is not None:
            options["IdentitiesOnly"] = "yes"
        words = [program, "-T", *(f"-o{key}={value}" for key, value in options.items())]
        if self.identity_env is not None:
            words += ["-i", self._identity(self.identity_env)]
        if self.port is not None:
            words += ["-p", str(self.port)]
        if self.user is not None:
            words += ["-l", self.user]
        # ssh hands the last word to a shell of the host
        return [*words, "--", self.name, shlex.join(["exec", self.python, "-I", "-c", BOOTSTRAP])]

    def _identity(self, variable: str) -> str:
        path = os.environ.get(variable)
        if not path:
            raise MlspecError(
                f"{self.name}: the environment variable {variable} is not set",
                hint="it is to hold the path of a private key",
            )
        if not Path(path).is_file():
            raise MlspecError(
                f"{self.name}: {variable} names {path}, which is no file",
                hint="it is to hold the path of a private key",
            )
        return path


class Host:
    """A host while there is a connection to it; to be used as a context manager."""

    def __init__(self, way: Way, where: str) -> None:
        self.way = way
        self.where = f"{where}, host {way.name}"
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self._read = b""
        self._waits = False

    def __enter__(self) -> Self:
        command = self.way.command()
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=withhold_credentials(),
            bufsize=0,
            start_new_session=True,  # Ctrl-C is for mlspec, which still has to put things in order
        )
        try:
            program = Path(__file__).with_name("remote.py").read_bytes()
            self._send(b"%d\n%s" % (len(program), program))
            deadline = time.monotonic() + START_SECONDS
            while self._line(deadline) != BEGIN:
                continue
            self._line(deadline)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            # without a `bye` the far end does what was to be done if it lost the connection
            if kind is None:
                self.ask("bye", patience=10.0)
        finally:
            self._close()

    def ask(self, do: str, *, patience: float = CALL_SECONDS, **what: Any) -> Any:
        """What it answers to a request of :mod:`.remote`, within so many seconds."""
        self._request(do, what)
        return self._answer(patience)

    def many(self, calls: Sequence[Mapping[str, Any]], patience: float = CALL_SECONDS) -> list[Any]:
        """The answers to several requests, with one way there and back."""
        answers: list[Any] = self.ask(
            "many", calls=[dict(call) for call in calls], patience=patience
        )
        return answers

    def put(self, path: str, source: Path) -> None:
        """Have a file there."""
        size = source.stat().st_size
        self._request("put", {"path": path, "size": size})
        with source.open("rb") as file:
            while size and (part := file.read(min(CHUNK, size))):
                self._send(part)
                size -= len(part)
        if size:
            raise MlspecError(f"{source} became shorter while it was sent", hint="apply again")
        self._answer(CALL_SECONDS)

    def _request(self, do: str, what: Mapping[str, Any]) -> None:
        if self._waits:  # the next answer would be that of another request
            raise RemoteUnreachable(
                f"{self.where}: it has not answered what it was asked before",
                hint="apply again when it is there",
            )
        self._waits = True
        self._send(json.dumps({"do": do, **what}).encode() + b"\n")

    def _answer(self, seconds: float) -> Any:
        answer = json.loads(self._line(time.monotonic() + seconds))
        self._waits = False
        if "error" not in answer:
            return answer["value"]
        said, hint = str(answer["error"]), str(answer.get("hint") or "")
        if answer["kind"] == "locked":
            hint = "wait until it is done; what was killed is put in order within two minutes"
            raise Locked(f"{self.where}: {said}", hint=hint)
        raise Refused(f"{self.where}: {said}", said, hint=hint)

    def _send(self, data: bytes) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        view = memoryview(data)
        try:
            while view:
                view = view[self._process.stdin.write(view) :]
        except OSError:
            raise self._lost() from None

    def _line(self, deadline: float) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        while b"\n" not in self._read:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([self._process.stdout], [], [], left)[0]:
                raise RemoteUnreachable(
                    f"{self.where}: no answer in time", hint="apply again when it is there"
                )
            data = os.read(self._process.stdout.fileno(), CHUNK)
            if not data:
                raise self._lost()
            self._read += data
        line, _, self._read = self._read.partition(b"\n")
        return line + b"\n"

    def _lost(self) -> MlspecError:
        """Why the connection ended."""
        assert self._process is not None
        assert self._errors is not None
        try:
            code = self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip()
        return explain(self.way, self.where, code, said)

    def _close(self) -> None:
        if self._process is not None:
            for stream in (self._process.stdin, self._process.stdout):
                assert stream is not None
                stream.close()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._errors is not None:
            self._errors.close()


def explain(way: Way, where: str, code: int, said: str) -> MlspecError:
    """What ssh's exit code and last words come to."""
    low = said.lower()
    tail = said.splitlines()[-1] if said else f"ssh ended with {code}"
    if "host key" in low or "host identification" in low:
        file = way.known_hosts or "~/.ssh/known_hosts"
        changed = "has changed" in low
        port = f"-p {way.port} " if way.port else ""
        return RemoteUnreachable(
            f"{where}: its host key {'is not the one that is known' if changed else 'is unknown'}",
            hint=(
                "somebody may be in between; if the host is new, ask its administrator for the key"
                if changed
                else f"`ssh-keyscan {port}{way.name}` shows it; compare it with what its "
                f"administrator says and add it to {file}"
            ),
        )
    if "permission denied (" in low:  # by which ways; a program that may not be run says it, too
        key = f"the key that {way.identity_env} names" if way.identity_env else "your key"
        return RemoteUnreachable(
            f"{where}: it lets {way.user or 'you'} not in: {tail}",
            hint=f"have {key} in its authorized_keys; no password is asked for",
        )
    if code == 127 or ("no such file" in low and way.python in said):
        return MlspecError(
            f"{where}: it has no {way.python}",
            hint="install it there, or say which Python to use: `python: /path/of/python`",
        )
    return RemoteUnreachable(
        f"{where}: the connection failed: {tail}", hint="`ssh` by hand tells whether it is there"
    )
