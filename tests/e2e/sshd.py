"""A host that is reached by ssh: a real sshd on the loopback, and the key that it lets in.

Its sessions have a home, and programs, of their own.
"""

from __future__ import annotations

import os
import platform
import shutil
import site
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from mlspec.providers.ssh.client import environment_name

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
START_SECONDS = 30.0
REAL = "MLSPEC_TEST_SYSTEMD" in os.environ
"""Whether systemd is real: in a namespace of mounts, as `test_ssh.py` makes one."""
SYSTEMD = Path(__file__).with_name("standin_systemd.py")
VERSION = "{}.{}".format(*sys.version_info[:2])


@dataclass
class Server:
    """sshd, running as whoever runs the tests. `home` is that of its sessions."""

    folder: Path
    port: int
    environment: Mapping[str, str]

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def key(self) -> Path:
        return self.folder / "key"

    @property
    def known_hosts(self) -> str:
        kind, key = (self.folder / "host.pub").read_text().split()[:2]
        return f"[127.0.0.1]:{self.port} {kind} {key}\n"

    @contextmanager
    def running(self) -> Iterator[None]:
        log = self.folder / "log"
        with log.open("wb") as errors:
            command = [str(SSHD), "-D", "-e", "-f", str(self.folder / "config")]
            server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=errors)
        try:
            deadline = time.monotonic() + START_SECONDS
            while "listening" not in log.read_text():
                assert server.poll() is None, log.read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield
        finally:
            server.terminate()
            server.wait()


@contextmanager
def run_server(port: int) -> Iterator[Server]:
    """One with HAProxy, and what stands in for systemd."""
    # a short one, as a socket's path must be
    # and with a real systemd, where services have another /tmp, none in /tmp
    with tempfile.TemporaryDirectory(prefix="mlspec-host-", dir="/run" if REAL else None) as folder:
        server = _make_server(Path(folder), port)
        with server.running(), _real_systemd(server) if REAL else nullcontext():
            yield server


def lend_environment(own: Path, requirements: str) -> None:
    """Have the tests' own packages where a project's environment would have been built."""
    interpreter = f"{platform.machine()} {sys.executable}"
    folder = own / "environments" / environment_name(requirements, interpreter, VERSION)
    folder.parent.mkdir(parents=True)
    make = [sys.executable, "-m", "venv", "--without-pip", str(folder)]
    subprocess.run(make, check=True)
    packages = folder / f"lib/python{VERSION}/site-packages/tests.pth"
    packages.write_text("\n".join(site.getsitepackages()))


@contextmanager
def _real_systemd(server: Server) -> Iterator[None]:
    """The manager of a user, with a journal."""
    bus = f"unix:path={server.environment['XDG_RUNTIME_DIR']}/bus"
    environment = {**server.environment, "DBUS_SESSION_BUS_ADDRESS": bus}
    # the group in which a journal looks for the units of a user
    tops = ("/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup")
    top = next(each for each in tops if Path(each).is_dir())
    group = Path(top, f"user.slice/user-{os.getuid()}.slice/user@{os.getuid()}.service")
    group.mkdir(parents=True, exist_ok=True)
    join = f'echo $$ > "{group}/cgroup.procs"; exec "$@"'
    commands = (
        ["/lib/systemd/systemd-journald"],
        ["dbus-daemon", "--session", "--nofork", "--nopidfile", f"--address={bus}"],
        ["sh", "-c", join, "sh", "/lib/systemd/systemd", "--user", "--unit=basic.target"],
    )
    started = [
        subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        for command in commands
    ]
    try:
        ask = ["systemctl", "--user", "is-system-running"]
        deadline = time.monotonic() + START_SECONDS
        while (
            b"running"
            not in subprocess.run(ask, env=environment, capture_output=True, check=False).stdout
        ):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait()


def _make_server(folder: Path, port: int) -> Server:
    (folder / "home").mkdir()
    (folder / "run").mkdir(mode=0o700)
    (folder / "bin").mkdir()
    for name in ("loginctl",) if REAL else ("systemctl", "journalctl", "loginctl"):
        program = folder / "bin" / name
        program.write_text(f"#!{sys.executable} -IS\n{SYSTEMD.read_text()}")
        program.chmod(0o755)
    for name in ("key", "host"):
        make = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name))
        subprocess.run(make, check=True)
    home = folder / "home"
    environment = {
        "HOME": home,
        "PATH": f"{folder / 'bin'}:/usr/sbin:/usr/bin:/bin",
        "XDG_CONFIG_HOME": home / ".config",
        "XDG_RUNTIME_DIR": folder / "run",
    }
    settings = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "key.pub",
        "PidFile": "none",
        "StrictModes": "no",
        "UsePAM": "no",
        "PasswordAuthentication": "no",
        "SetEnv": " ".join(f"{key}={value}" for key, value in environment.items()),
    }
    (folder / "config").write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    return Server(folder, port, {key: str(value) for key, value in environment.items()})
