"""Every call of podman or docker: arguments in, text or data out, problems in words.

No shell has a part in it. What a service of a compose file says becomes arguments here, key by key;
a key that is not known is an error and never left out.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlspec.children import withhold_credentials
from mlspec.errors import MlspecError, RemoteUnreachable

PROGRAMS = ("podman", "docker")
CALL_SECONDS = 60.0
PULL_SECONDS = 900.0
"""With time for an image that is not here yet."""
TAIL = 12
# No words that a program in a container may say, too: `exec` and `run` pass those on.
_UNREACHABLE = (
    "cannot connect to the docker daemon",
    "cannot connect to podman",
    "unable to connect to podman",
    "is the docker daemon running",
    "error during connect",
    "permission denied while trying to connect",
    "dial unix",
)
_TAKEN = ("address already in use", "port is already allocated", "ports are not available")


class Refused(MlspecError):
    """The program said no; `said` is what it said."""

    def __init__(self, message: str, said: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.said = said


@dataclass(frozen=True, slots=True)
class Engine:
    """podman or docker, for the target `where`; the first that is installed, if none is named."""

    name: str | None
    where: str

    def containers(self, labels: Mapping[str, str]) -> list[dict[str, Any]]:
        """What `inspect` tells of all containers with these labels, running or not."""
        chosen = [f"--filter=label={key}={value}" for key, value in sorted(labels.items())]
        found = self.run("ps", "--all", "--quiet", "--no-trunc", *chosen).split()
        return self._inspect("container", found) if found else []

    def image_id(self, reference: str) -> str:
        """What the program itself calls an image that it has."""
        return plain_id(self._inspect("image", [reference])[0]["Id"])

    def create(self, document: Mapping[str, Any], service: str, folder: Path) -> None:
        """Run a container of a service of a compose file in `folder`, in its first network."""
        network, *_ = document["services"][service].get("networks", ["default"])
        options = ["--detach", f"--network={document['networks'][network]['name']}"]
        arguments = run_arguments(document, service, folder)
        self.run("run", *options, *arguments, seconds=PULL_SECONDS)

    def complete(self, document: Mapping[str, Any], service: str, folder: Path) -> None:
        """Run a container of a service that ends by itself, and remove it."""
        arguments = run_arguments(document, service, folder)
        self.run("run", "--rm", "--network=none", *arguments)

    def stop(self, names: Iterable[str], grace: int) -> None:
        """End containers, giving them `grace` seconds."""
        if wanted := list(names):
            self.run("stop", f"--time={grace}", *wanted, seconds=CALL_SECONDS + 2.0 * grace)

    def remove(self, names: Iterable[str]) -> None:
        """Remove containers, running or not."""
        if wanted := list(names):
            self.run("rm", "--force", "--volumes", *wanted, seconds=2 * CALL_SECONDS)

    def ensure_network(self, name: str, labels: Mapping[str, str]) -> None:
        """Have a network of this name."""
        if name not in self.run("network", "ls", "--format={{.Name}}").split():
            given = [f"--label={key}={value}" for key, value in sorted(labels.items())]
            self.run("network", "create", *given, name)

    def join(self, container: str, network: str, alias: str) -> None:
        """Have a container in a further network, under another name."""
        self.run("network", "connect", f"--alias={alias}", network, container)

    def forget(self, kind: str, name: str) -> None:
        """Remove a network or a volume, if there is one of this name."""
        if name in self.run(kind, "ls", "--format={{.Name}}").split():
            self.run(kind, "rm", name)

    def run(
        self,
        *arguments: str,
        stdin: str = "",
        seconds: float = CALL_SECONDS,
        errors: bool = False,
    ) -> str:
        """What a call prints, with `errors` also what it prints as such.

        :class:`Refused`, or :class:`RemoteUnreachable` with its reason.
        """
        program = self.program
        try:
            done = subprocess.run(
                [program, *arguments],
                input=stdin.encode(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT if errors else subprocess.PIPE,
                env=withhold_credentials(),
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            what = f"`{Path(program).name} {arguments[0]}` took more than {seconds:.0f} s"
            raise RemoteUnreachable(f"{self.where}: {what}") from None
        if done.returncode:
            said = done.stderr if done.stderr is not None else done.stdout
            raise self._problem(Path(program).name, arguments[0], said.decode(errors="replace"))
        return done.stdout.decode(errors="replace")

    def _inspect(self, kind: str, names: list[str]) -> list[dict[str, Any]]:
        try:
            found = json.loads(self.run("inspect", f"--type={kind}", *names))
        except ValueError:
            raise MlspecError(f"{self.where}: `inspect` answered what is no JSON") from None
        return list(found)

    @property
    def program(self) -> str:
        """Where the program is."""
        names = (self.name,) if self.name else PROGRAMS
        found = next((path for name in names if (path := shutil.which(name))), None)
        if found is None:
            raise RemoteUnreachable(
                f"{self.where}: {' and '.join(names)} {'is' if self.name else 'are'} not installed "
                "here",
                hint=f"install {' or '.join(names)} on the machine where `mlspec apply` runs",
            )
        return found

    def _problem(self, program: str, verb: str, stderr: str) -> MlspecError:
        lines = [line for line in stderr.strip().splitlines() if line.strip()]
        said = "\n".join(lines[-TAIL:])
        low = said.lower()
        if any(words in low for words in _UNREACHABLE):
            return RemoteUnreachable(
                f"{self.where}: {program} does not answer: {lines[-1]}",
                hint=f"`{program} ps` tells whether it is there, and whether you may ask it",
            )
        hint = ""
        if any(words in low for words in _TAKEN):
            hint = "free the port, or give the target another one"
        elif "already in use" in low:
            hint = "another checkout may run it: `mlspec destroy` there takes it away"
        return Refused(f"{self.where}: `{program} {verb}` was refused: {said}", said, hint=hint)


def plain_id(identity: str) -> str:
    """An image's digest; docker writes it with its algorithm, podman without."""
    return identity.removeprefix("sha256:")


def run_arguments(document: Mapping[str, Any], service: str, folder: Path) -> list[str]:
    """Arguments of `run` that say what a service of a compose file says, but for its network.

    `folder` is what `./` stands for.
    """
    volumes = document.get("volumes") or {}
    wanted: Mapping[str, Any] = document["services"][service]

    def mount(text: str) -> str:
        source, _, rest = text.partition(":")
        if source in volumes:
            return f"--volume={volumes[source]['name']}:{rest}"
        return f"--volume={folder / source}:{rest}"

    options: list[str] = []
    for key, value in wanted.items():
        if (write := _WRITERS.get(key)) is not None:
            options += write(value)
        elif key == "volumes":
            options += [mount(each) for each in value]
        elif key not in _ELSEWHERE:
            raise KeyError(key)
    return [*options, str(wanted["image"]), *wanted.get("command", ())]


_ELSEWHERE = frozenset({"image", "command", "depends_on", "networks"})
_WRITERS: Mapping[str, Callable[[Any], list[str]]] = {
    "container_name": lambda name: [f"--name={name}"],
    "labels": lambda labels: [f"--label={key}={value}" for key, value in labels.items()],
    "environment": lambda values: [f"--env={key}={value}" for key, value in values.items()],
    "ports": lambda ports: [f"--publish={each}" for each in ports],
    "tmpfs": lambda paths: [f"--tmpfs={each}" for each in paths],
    "cap_drop": lambda names: [f"--cap-drop={each}" for each in names],
    "cap_add": lambda names: [f"--cap-add={each}" for each in names],
    "security_opt": lambda names: [f"--security-opt={each}" for each in names],
    "read_only": lambda wanted: ["--read-only"] if wanted else [],
    "entrypoint": lambda words: [f"--entrypoint={words[0]}"],
    "user": lambda user: [f"--user={user}"],
    "cpus": lambda cpus: [f"--cpus={cpus}"],
    "mem_limit": lambda size: [f"--memory={size}"],
    "stop_signal": lambda signal: [f"--stop-signal={signal}"],
    "stop_grace_period": lambda time: [f"--stop-timeout={time.removesuffix('s')}"],
    "restart": lambda policy: [f"--restart={policy}"],
}
