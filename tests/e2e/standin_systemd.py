"""Pretends to be systemd: `systemctl`, `journalctl` and `loginctl` for the tests of hosts.

No systemd runs where tests do. This one takes the calls that mlspec makes, as the manager of a
user, and really runs what unit files say: ExecStart, Environment, WorkingDirectory, the folders of
RuntimeDirectory and StateDirectory, Restart, KillSignal, KillMode and TimeoutStopSec. Of the
sandbox it does nothing; `systemd-analyze verify` is asked about it elsewhere.

Each unit that runs has a process of this program as its supervisor. Its state is in a folder of the
unit below `$XDG_RUNTIME_DIR/standin`: `state.json`, `log`, `loaded` (the unit file as it was at the
last `daemon-reload`). A file `offline` beside them makes every call fail.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

RUNTIME = Path(os.environ["XDG_RUNTIME_DIR"])
CONFIG = Path(os.environ["XDG_CONFIG_HOME"])
UNITS = CONFIG / "systemd/user"
OWN = RUNTIME / "standin"


def main(program: str, words: list[str]) -> int:
    if (OWN / "offline").exists():
        say("Failed to connect to bus: No such file or directory")
        return 1
    options = [word for word in words if word.startswith("-")]
    verb, *names = [word for word in words if not word.startswith("-")] or [""]
    values = dict(option.partition("=")[::2] for option in options)
    if program == "loginctl":
        say("Linger=yes")
        return 0
    if program == "journalctl":
        log = OWN / values["--user-unit"] / "log"
        lines = log.read_text().splitlines() if log.exists() else ["-- No entries --"]
        say("\n".join(lines[-int(values["--lines"]) :]))
        return 0
    assert "--user" in options
    if verb == "daemon-reload":
        for path in UNITS.glob("*.service"):
            (OWN / path.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, OWN / path.name / "loaded")
        return 0
    if verb == "show":
        keys = values["--property"].split(",")
        say("\n\n".join(show(Unit(name), keys) for name in names))
        return 0
    return max(VERBS[verb](Unit(name)) for name in names)


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


class Unit:
    def __init__(self, name: str) -> None:
        self.name, self.file, self.folder = name, UNITS / name, OWN / name
        self.wanted = UNITS / "default.target.wants" / name

    @property
    def settings(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for line in (self.folder / "loaded").read_text().splitlines():
            key, equals, value = line.partition("=")
            if equals and not line.startswith("#"):
                value = value.replace("%t", str(RUNTIME)).replace("%S", str(CONFIG))
                found.setdefault(key, []).append(value.replace("%%", "%"))
        return found

    def one(self, key: str, default: str = "") -> str:
        return self.settings.get(key, [default])[-1]

    def state(self) -> dict[str, object]:
        try:
            state = json.loads((self.folder / "state.json").read_text())
        except (OSError, ValueError):
            return {"active": "inactive", "restarts": 0, "pid": 0, "supervisor": 0}
        if state["active"] == "active" and not Path(f"/proc/{state['supervisor']}").exists():
            state["active"] = "failed"
        return state

    def tell(self, active: str, restarts: int = 0, pid: int = 0) -> None:
        state = {"active": active, "restarts": restarts, "pid": pid, "supervisor": os.getpid()}
        staged = self.folder / "staged"
        staged.write_text(json.dumps(state))
        staged.replace(self.folder / "state.json")


def show(unit: Unit, keys: list[str]) -> str:
    state = unit.state()
    reload = unit.file.exists() and unit.file.read_text() != (unit.folder / "loaded").read_text()
    told = {
        "Id": unit.name,
        "ActiveState": state["active"],
        "SubState": "running" if state["active"] == "active" else "dead",
        "NRestarts": state["restarts"],
        "MainPID": state["pid"],
        "UnitFileState": "enabled" if unit.wanted.is_symlink() else "disabled",
        "DropInPaths": " ".join(map(str, sorted(UNITS.glob(f"{unit.name}.d/*.conf")))),
        "NeedDaemonReload": "yes" if reload else "no",
    }
    return "\n".join(f"{key}={told[key]}" for key in keys)


def start(unit: Unit) -> int:
    if not (unit.folder / "loaded").exists():
        say(f"Failed to start {unit.name}: Unit {unit.name} not found.")
        return 5
    if unit.state()["active"] == "active":
        return 0
    (unit.folder / "state.json").unlink(missing_ok=True)
    program = shlex.split(unit.one("ExecStart"))[0]
    if not os.access(program, os.X_OK):
        say(f"Job for {unit.name} failed.")
        return 1
    if os.fork() == 0:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        supervise(unit)
        os._exit(0)
    while not (unit.folder / "state.json").exists():
        time.sleep(0.01)
    return 0


def supervise(unit: Unit) -> None:
    folders = {"RuntimeDirectory": RUNTIME, "StateDirectory": CONFIG}
    made = [base / unit.one(key) for key, base in folders.items() if unit.one(key)]
    for folder in made:
        folder.mkdir(parents=True, exist_ok=True)
    environment = {"PATH": os.environ["PATH"]}
    for text in unit.settings.get("Environment", []):
        key, _, value = shlex.split(text)[0].partition("=")
        environment[key] = value
    command = [word.replace("$$", "$") for word in shlex.split(unit.one("ExecStart"))]
    asked = False

    def end(*_: object) -> None:
        nonlocal asked
        asked = True
        number = getattr(signal, unit.one("KillSignal", "SIGTERM"))
        process.send_signal(number)

    restarts = 0
    while True:
        with (unit.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=unit.one("WorkingDirectory"),
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        signal.signal(signal.SIGTERM, end)
        unit.tell("active", restarts, process.pid)
        code = wait(process, unit, lambda: asked)
        if asked or code == 0 or unit.one("Restart") != "on-failure":
            break
        unit.tell("active", restarts, 0)
        time.sleep(float(unit.one("RestartSec", "0.1")))
        if asked:
            break
        restarts += 1
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    shutil.rmtree(made[0], ignore_errors=True)
    unit.tell("inactive" if asked or code == 0 else "failed", restarts)


def wait(process: subprocess.Popen[bytes], unit: Unit, asked: Callable[[], bool]) -> int:
    deadline = None
    while process.poll() is None:
        time.sleep(0.02)
        if asked() and deadline is None:
            deadline = time.monotonic() + float(unit.one("TimeoutStopSec", "90"))
        if deadline is not None and time.monotonic() > deadline:
            process.kill()
    return process.returncode


def stop(unit: Unit) -> int:
    state = unit.state()
    if state["active"] != "active":
        return 0
    os.kill(int(str(state["supervisor"])), signal.SIGTERM)
    while unit.state()["active"] == "active":
        time.sleep(0.02)
    return 0


def restart(unit: Unit) -> int:
    return stop(unit) or start(unit)


def enable(unit: Unit) -> int:
    unit.wanted.parent.mkdir(exist_ok=True)
    if not unit.wanted.is_symlink():
        unit.wanted.symlink_to(unit.file)
    return 0


def disable(unit: Unit) -> int:
    unit.wanted.unlink(missing_ok=True)
    return 0


def clean(unit: Unit) -> int:
    if (unit.folder / "loaded").exists() and unit.one("StateDirectory"):
        shutil.rmtree(CONFIG / unit.one("StateDirectory"), ignore_errors=True)
    return 0


def revert(unit: Unit) -> int:
    shutil.rmtree(UNITS / f"{unit.name}.d", ignore_errors=True)
    return 0


def forget(unit: Unit) -> int:
    if not unit.file.exists():
        shutil.rmtree(unit.folder, ignore_errors=True)
    return 0


VERBS = {
    "start": start,
    "stop": stop,
    "restart": restart,
    "enable": enable,
    "disable": disable,
    "clean": clean,
    "reset-failed": forget,
    "revert": revert,
}

if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[0]).name, sys.argv[1:]))
