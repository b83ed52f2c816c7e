"""What a command does with a local deployment: observe, deploy, stop, start, destroy, logs.

Comes in: the repository's root, a target's name and port, a staged release. Goes out:
:class:`Running`. The work is done by the supervisor (`supervisor.py`); this module starts it, talks
to it over its socket and has the smoke requests sent (`smoke.py`).
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlspec.children import NEUTRAL_FOLDER, make_command
from mlspec.compilers.haproxy import challenger_rule
from mlspec.errors import MlspecError, RolledBack
from mlspec.providers.local.ports import HOST
from mlspec.providers.local.release import load_release, prune_releases
from mlspec.providers.local.rundir import (
    CAPTURE,
    CONTROL,
    DOOR,
    LOGS,
    SUPERVISOR_LOG,
    is_alive,
    load_state,
    own_headers,
    run_folder,
    socket_folder,
)
from mlspec.providers.secrets import find_secret
from mlspec.providers.target import Release, Running

if TYPE_CHECKING:
    from mlspec.rollouts.counts import Counts
    from mlspec.rollouts.driver import Trial

READY_SECONDS = 60.0
DRAIN_SECONDS = 15.0
REACH_SECONDS = 30.0
LOG_TAIL = 20
KEPT_ENVIRONMENT = ("HOME", "LANG", "LD_LIBRARY_PATH", "PATH", "TMPDIR", "TZ", "VIRTUAL_ENV")
"""A daemon lives long and must not keep the secrets of the command that started it."""

Ask = Callable[..., dict[str, Any]]
"""Sends a command to a supervisor and returns its answer."""


@dataclass(frozen=True, slots=True)
class LocalTarget:
    """A target of kind `local`: this machine, one port, one supervisor for each deployment."""

    root: Path
    name: str
    port: int
    ready_seconds: float = READY_SECONDS
    drain_seconds: float = DRAIN_SECONDS

    def run_dir(self, deployment: str) -> Path:
        return run_folder(self.root, deployment, self.name)

    def observe(self, deployment: str) -> Running | None:
        run_dir = self.run_dir(deployment)
        state = load_state(run_dir)
        if state is None or "release" not in state:
            return None
        return _running(state, alive=state["status"] == "stopped" or is_alive(run_dir))

    def release(self, deployment: str) -> Release | None:
        running, state = self.observe(deployment), load_state(self.run_dir(deployment))
        if running is None or running.status != "serving" or state is None:
            return None
        with suppress(MlspecError):
            found = load_release(Path(state["folder"]))
            return found if found.digest == running.release else None
        return None

    def deploy(
        self, deployment: str, release: Release, smoke: Sequence[Mapping[str, Any]]
    ) -> Running:
        run_dir = self.run_dir(deployment)
        while True:
            started = self._ensure_supervisor(deployment)
            try:
                with _connect(run_dir) as ask:
                    running = self._switch(ask, deployment, release, smoke)
            except _Gone:
                if not started:
                    continue  # one with nothing left to run was ending by itself
                raise
            except MlspecError:
                if started:
                    self.stop(deployment)
                raise
            prune_releases(self.root)
            return running

    def _switch(
        self, ask: Ask, deployment: str, release: Release, smoke: Sequence[Mapping[str, Any]]
    ) -> Running:
        with self._tried(ask, deployment, release, smoke):
            state = ask(do="activate")
        ask(do="settle")
        return _running(state, alive=True)

    @contextmanager
    def _tried(
        self, ask: Ask, deployment: str, release: Release, smoke: Sequence[Mapping[str, Any]]
    ) -> Iterator[None]:
        """A candidate that is ready and has answered; what fails then is the fault of it, too."""
        launch = make_launch(release, self.drain_seconds, self._tokens(deployment, release))
        launch |= self._together(deployment, release)
        if launch.get("rule"):
            from mlspec.providers.local.proxy import find_program

            if find_program() is None:
                raise MlspecError(
                    f"deployment.{deployment}@{self.name}: a challenger that answers clients needs "
                    "HAProxy, which is not installed",
                    hint="install it, for example with `apt-get install haproxy`, or write "
                    "`mode: shadow`",
                )
        candidate = ask(do="deploy", launch=launch, port=self.port, token=release.token)
        # An HTTP client costs half of the import of this module, and planning observes targets; it
        # is imported while the candidate starts.
        from mlspec.providers.local.smoke import SmokeFailed, check_smoke

        try:
            ask(do="await", seconds=self.ready_seconds)
            check_smoke(candidate["private"], smoke, own_headers(self.run_dir(deployment)))
            yield
        except (_Failed, SmokeFailed) as failed:
            ask(do="discard")
            where = f"deployment.{deployment}@{self.name}"
            raise RolledBack(
                f"{where}: version {release.version} of {release.model} was not taken into "
                f"service: {failed}\n{_tail(Path(candidate['log']), candidate['log_start'])}",
                hint=f"the whole log is {candidate['log']}",
            ) from None

    @contextmanager
    def try_out(
        self,
        deployment: str,
        release: Release,
        smoke: Sequence[Mapping[str, Any]],
        *,
        splits: bool,
    ) -> Iterator[Trial]:
        from mlspec.providers.local.proxy import find_program
        from mlspec.providers.local.trial import LocalTrial
        from mlspec.rollouts.captures import Captures

        where = f"deployment.{deployment}@{self.name}"
        if splits and find_program() is None:
            raise MlspecError(
                f"{where}: a canary on a local target needs HAProxy, which is not installed",
                hint="install it, for example with `apt-get install haproxy`, or use the strategy "
                "blue-green",
            )
        run_dir, running = self.run_dir(deployment), self.observe(deployment)
        champion = running.version if running else 0
        captures = None
        # of one model version, what another service made of it is captured alike
        if splits and release.capture and champion != release.version:
            captures = Captures(run_dir / CAPTURE, champion)
        with _connect(run_dir) as ask:
            with self._tried(ask, deployment, release, smoke):
                pass
            headers = own_headers(run_dir)
            yield LocalTrial(ask, where, (champion, release.version), captures, headers)
        prune_releases(self.root)

    def _together(self, deployment: str, release: Release) -> dict[str, Any]:
        """What a supervisor is told of the challenger of a release, which has its own."""
        part = release.settings.get("challenger")
        if not part:
            return {}
        from mlspec.spec.models import challenger_name  # observing does without

        door = socket_folder(self.run_dir(challenger_name(deployment))) / DOOR
        if part["shadow"]:
            return {"door": str(door), "copied": part["share"]}
        return {"door": str(door), "rule": challenger_rule(part, deployment)}

    def counts(self, deployment: str) -> Counts | None:
        from mlspec.providers.local.trial import read_counts

        run_dir = self.run_dir(deployment)
        state = load_state(run_dir)
        if state is None or "private" not in state:
            return None
        return read_counts(state["private"], own_headers(run_dir))

    def stop(self, deployment: str) -> None:
        run_dir = self.run_dir(deployment)
        if is_alive(run_dir):
            with suppress(_Gone), _connect(run_dir) as ask:
                ask(do="stop")
            _await_end(run_dir)

    def start(self, deployment: str) -> Running:
        running = self.observe(deployment)
        if running is None:
            raise MlspecError(
                f"deployment.{deployment}@{self.name} was never deployed here",
                hint="run `mlspec apply`",
            )
        if running.status == "serving":
            return running
        state = load_state(self.run_dir(deployment)) or {}
        return self.deploy(deployment, load_release(Path(state["folder"])), ())

    def rename(self, deployment: str, name: str) -> None:
        running = self.observe(deployment)
        before, after = self.run_dir(deployment), self.run_dir(name)
        if running is None or after.exists():
            return
        self.stop(deployment)
        if (sockets := socket_folder(before)) != before:
            shutil.rmtree(sockets, ignore_errors=True)
        before.rename(after)
        if running.status == "serving":
            self.start(name)

    def destroy(self, deployment: str) -> None:
        self.stop(deployment)
        run_dir = self.run_dir(deployment)
        if run_dir.exists():
            if (sockets := socket_folder(run_dir)) != run_dir:
                shutil.rmtree(sockets, ignore_errors=True)
            shutil.rmtree(run_dir)

    def logs(self, deployment: str) -> tuple[Path, ...]:
        run_dir = self.run_dir(deployment)
        found = [run_dir / SUPERVISOR_LOG, *(run_dir / LOGS).glob("*.log")]
        present = [path for path in found if path.exists()]
        return tuple(sorted(present, key=lambda path: (path.stat().st_mtime_ns, path)))

    def _tokens(self, deployment: str, release: Release) -> str | None:
        auth = release.settings.get("auth")
        if not auth:
            return None
        where = f"deployment.{deployment}@{self.name}"
        return str(find_secret(auth["file"], self.root, where))

    def _ensure_supervisor(self, deployment: str) -> bool:
        """Whether it had to be started."""
        run_dir = self.run_dir(deployment)
        run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if is_alive(run_dir):
            return False
        settings = {"deployment": deployment, "target": self.name, "port": self.port}
        environment = {
            key: value
            for key, value in os.environ.items()
            if key in KEPT_ENVIRONMENT or key.startswith(("LC_", "PYTHON"))
        }
        done = subprocess.run(
            make_command("mlspec.providers.local.daemon", str(run_dir), json.dumps(settings)),
            cwd=NEUTRAL_FOLDER,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment,
            check=False,
        )
        try:
            answer = json.loads(done.stdout)
        except ValueError:
            raise MlspecError(
                f"deployment.{deployment}@{self.name}: the supervisor did not start",
                hint=f"its log is {run_dir / SUPERVISOR_LOG}",
            ) from None
        if not answer["ok"]:
            raise MlspecError(
                f"deployment.{deployment}@{self.name}: {answer['problem']}",
                hint=f"free the port, or give targets.{self.name} another one",
            )
        return True


class _Failed(Exception):
    """The supervisor said no."""


class _Gone(MlspecError):
    """The supervisor ended while it was looked for or talked to."""

    def __init__(self, run_dir: Path) -> None:
        super().__init__(
            f"{run_dir.name}: the supervisor has ended",
            hint=f"its log is {run_dir / SUPERVISOR_LOG}",
        )


@contextmanager
def _connect(run_dir: Path) -> Iterator[Ask]:
    """A function that sends a command and returns the answer."""
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line,
        line.makefile("rb") as answers,
    ):
        _reach(line, run_dir)

        def ask(**command: Any) -> dict[str, Any]:
            try:
                line.sendall(json.dumps(command).encode() + b"\n")
                answer = json.loads(answers.readline())
            except (OSError, ValueError):
                raise _Gone(run_dir) from None
            if not answer.pop("ok"):
                raise _Failed(answer["problem"])
            return dict(answer)

        try:
            yield ask
        except _Failed as failed:
            raise MlspecError(f"{run_dir.name}: {failed}") from None


def _reach(line: socket.socket, run_dir: Path) -> None:
    """Connect; a supervisor that has just started may need a moment."""
    deadline = time.monotonic() + REACH_SECONDS
    while True:
        told = (load_state(run_dir) or {}).get("control")
        for path in dict.fromkeys((told, str(socket_folder(run_dir) / CONTROL))):
            try:
                return line.connect(path or "")
            except OSError:
                continue
        if not is_alive(run_dir):
            raise _Gone(run_dir)
        if time.monotonic() > deadline:
            raise MlspecError(
                f"{run_dir.name}: the supervisor does not answer",
                hint=f"its log is {run_dir / SUPERVISOR_LOG}",
            )
        time.sleep(0.02)


def _await_end(run_dir: Path) -> None:
    deadline = time.monotonic() + REACH_SECONDS
    while is_alive(run_dir):
        if time.monotonic() > deadline:
            raise MlspecError(f"{run_dir.name}: the supervisor was told to stop and still runs")
        time.sleep(0.02)


def make_launch(
    release: Release, drain_seconds: float, tokens: str | None = None
) -> dict[str, Any]:
    """What a supervisor is told of a release: a :class:`mlspec.providers.local.group.Launch`.

    `tokens` is the file with those of its clients, if they need one.
    """
    return {
        "digest": release.digest,
        "folder": str(release.path.resolve()),
        "bento": str(release.bento.resolve()),
        "model": release.model,
        "version": release.version,
        "workers": release.workers,
        "memory": release.memory,
        "capture": release.capture,
        "drain_timeout": drain_seconds,
        **({"tokens": tokens} if tokens else {}),
    }


def _running(state: Mapping[str, Any], *, alive: bool) -> Running:
    status = state["status"]
    if status != "stopped":
        status = "serving" if alive and status == "serving" and state["ready"] else "down"
    return Running(
        status=status,
        release=state["release"],
        model=state["model"],
        version=state["version"],
        url=_address(state),
        since=state["since"],
        workers=state["workers"],
        ready=len(state["ready"]) if status == "serving" else 0,
        restarts=state["restarts"],
    )


def _address(state: Mapping[str, Any]) -> str:
    if state["port"]:
        return f"http://{HOST}:{state['port']}"
    return f"unix:{Path(state['control']).with_name(DOOR)}"


def _tail(path: Path, start: int) -> str:
    """The last lines of what was written to a log since `start`."""
    try:
        with path.open("rb") as file:
            file.seek(start)
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-LOG_TAIL:])
