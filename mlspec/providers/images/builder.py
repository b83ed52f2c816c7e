"""The programs that build images: podman, buildah or docker, whichever there is.

Every call has a list of arguments and no shell, a limit of time, and credentials by reference only:
the path of a file, which the program itself reads.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlspec.children import withhold_credentials
from mlspec.compilers.containerfile import FILE, PYTHON
from mlspec.errors import MlspecError, RemoteUnreachable
from mlspec.providers.images.scrub import scrub

PROGRAMS = ("podman", "buildah", "docker")
CHOICE = "MLSPEC_IMAGE_BUILDER"
"""The environment variable that says which of them to use."""
PIP_SETTINGS = "PIP_CONFIG_FILE"
BUILD_SECONDS = 1800.0
MOVE_SECONDS = 900.0
TAIL = 15
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_UNREACHABLE = ("connection refused", "no such host", "timeout", "timed out", "network is unreach")


@dataclass(frozen=True, slots=True)
class Builder:
    """One of the programs. `auth_file` has the registry's credentials, if it asks for any."""

    program: str
    auth_file: Path | None = None

    @property
    def name(self) -> str:
        return Path(self.program).name

    def build(self, context: Path, reference: str, epoch: int) -> None:
        """Build the folder's Containerfile; no clock enters the image but `epoch`, in seconds."""
        shared = ["--tag", reference, "--file", str(context / FILE)]
        if settings := os.environ.get(PIP_SETTINGS):
            shared += ["--secret", f"id=pip,src={settings}"]
        if self.name == "docker":
            command = ["build", "--build-arg", f"SOURCE_DATE_EPOCH={epoch}", *shared]
        else:
            # Docker's own format has health checks, and podman understands it too.
            command = ["build", "--format", "docker", "--timestamp", str(epoch)]
            command += ["--build-arg", f"SOURCE_DATE_EPOCH={epoch}", *shared]
        problem = f"{reference} was not built"
        self._run([*command, str(context)], BUILD_SECONDS, problem)
        if self.name != "docker":
            self._scrub(reference, problem)

    def _scrub(self, reference: str, problem: str) -> None:
        with tempfile.TemporaryDirectory(prefix="mlspec-image-") as folder:
            self._run(["push", "--quiet", reference, f"dir:{folder}"], MOVE_SECONDS, problem)
            scrub(Path(folder))
            taken = self._run(["pull", "--quiet", f"dir:{folder}"], MOVE_SECONDS, problem)
        self._run(["tag", taken.split()[-1], reference], MOVE_SECONDS, problem)

    def push(self, reference: str) -> str:
        """Put an image into its registry; its digest there."""
        problem = f"{reference} was not pushed"
        if self.name == "docker":
            self._run(["push", reference], MOVE_SECONDS, problem)
            return self._docker_digest(reference)
        with tempfile.TemporaryDirectory() as folder:
            written = Path(folder) / "digest"
            command = ["push", *self._registry(reference), "--digestfile", str(written)]
            self._run([*command, reference], MOVE_SECONDS, problem)
            return _digest(written.read_text(encoding="utf-8"), reference)

    def pull(self, reference: str, inputs: str, label: str) -> str | None:
        """The digest of an image that the registry has with these inputs; else nothing."""
        command = ["pull", "--quiet", *self._registry(reference), reference]
        try:
            self._run(command, MOVE_SECONDS, "")
        except MlspecError:
            return None
        try:
            found = json.loads(self._run([*self._inspect(), reference], MOVE_SECONDS, ""))
        except (MlspecError, ValueError):
            return None
        about = found[0] if isinstance(found, list) and found else found
        if _labels(about).get(label) != inputs:
            return None
        if "@" in reference:
            return reference.rpartition("@")[2]
        digest = about.get("FromImageDigest") or about.get("Digest") or ""
        for each in about.get("RepoDigests") or ():
            if each.startswith(f"{reference.rpartition(':')[0]}@"):
                digest = each.rpartition("@")[2]
        return digest if _DIGEST.fullmatch(digest) else None

    def find(self, reference: str, inputs: str, label: str) -> str | None:
        """What the program itself calls an image that it has, by digest; else nothing."""
        try:
            about = json.loads(self._run([*self._inspect(), reference], MOVE_SECONDS, ""))[0]
        except (MlspecError, ValueError, LookupError):
            return None
        if _labels(about).get(label) != inputs:
            return None
        return f"sha256:{str(about['Id']).removeprefix('sha256:')}"

    def tag(self, reference: str, name: str) -> None:
        """Have an image that is here under another name as well."""
        self._run(["tag", reference, name], MOVE_SECONDS, f"{reference} has no other name")

    def fetch(self, reference: str) -> None:
        """Have an image of a registry here, by its digest."""
        try:
            self._run([*self._inspect(), reference], MOVE_SECONDS, "")
        except MlspecError:
            command = ["pull", "--quiet", *self._registry(reference), reference]
            self._run(command, MOVE_SECONDS, f"{reference} cannot be had")

    def run_python(self, reference: str, code: str) -> str:
        """What a piece of Python prints inside an image, without a network."""
        problem = f"{reference} does not run"
        if self.name != "buildah":
            command = ["run", "--rm", "--network", "none", "--entrypoint", PYTHON, reference]
            return self._run([*command, "-c", code], MOVE_SECONDS, problem)
        made = self._run(["from", reference], MOVE_SECONDS, problem).strip()
        try:
            return self._run(["run", made, "--", PYTHON, "-c", code], MOVE_SECONDS, problem)
        finally:
            self._run(["rm", made], MOVE_SECONDS, problem)

    def _docker_digest(self, reference: str) -> str:
        problem = f"{reference}: docker does not know its digest"
        told = self._run([*self._inspect(), reference], MOVE_SECONDS, problem)
        repository = reference.rpartition(":")[0]
        for each in json.loads(told)[0].get("RepoDigests") or ():
            if each.startswith(f"{repository}@"):
                return _digest(each.rpartition("@")[2], reference)
        raise MlspecError(problem)

    def _inspect(self) -> list[str]:
        if self.name == "buildah":
            return ["inspect", "--type", "image"]
        return ["image", "inspect"]

    def _registry(self, reference: str) -> list[str]:
        """How the registry is met, for podman and buildah; docker has it in its settings."""
        if self.name == "docker":
            return []
        options = [f"--authfile={self.auth_file}"] if self.auth_file else []
        host = reference.partition("/")[0].partition(":")[0]
        return options + (["--tls-verify=false"] if host in ("localhost", "127.0.0.1") else [])

    def _run(self, arguments: Sequence[str], seconds: float, problem: str) -> str:
        settings: Sequence[str] = ()
        if self.name == "docker" and self.auth_file is not None:
            settings = ("--config", str(self.auth_file.parent))
        try:
            done = subprocess.run(
                [self.program, *settings, *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env=_environment(self.name),
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise MlspecError(f"{problem}: {self.name} took more than {seconds:.0f} s") from None
        except OSError as error:
            raise MlspecError(f"{self.program} cannot be started: {error.strerror}") from None
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines()[-TAIL:]
            text = "\n".join([f"{problem}: {self.name} ended with {done.returncode}", *said])
            remote = any(word in text.lower() for word in _UNREACHABLE)
            raise (RemoteUnreachable if remote else MlspecError)(text)
        return done.stdout.decode(errors="replace")


def find_builder(auth_env: str | None = None, program: str = "") -> Builder:
    """The program to build with: this one, or else the one that is chosen, or is there.

    `auth_env` names the variable with the path of its credentials.
    """
    chosen = program or os.environ.get(CHOICE)
    if chosen and chosen not in PROGRAMS:
        raise MlspecError(f"{CHOICE} is {chosen!r}", hint=f"set it to {', '.join(PROGRAMS)}")
    programs = (chosen,) if chosen else PROGRAMS
    found = next((path for name in programs if (path := shutil.which(name))), None)
    if found is None:
        raise MlspecError(
            f"there is no {' and no '.join(programs)} here, and one of them builds images",
            hint="install podman, buildah or docker where `mlspec apply` runs",
        )
    return Builder(found, _auth_file(auth_env))


def _auth_file(variable: str | None) -> Path | None:
    if variable is None:
        return None
    named = os.environ.get(variable)
    if not named or not Path(named).is_file():
        raise MlspecError(
            f"{variable}, which should hold the path of the registry's credentials, "
            + ("names no file" if named else "is not set"),
            hint="log in with `podman login --authfile FILE REGISTRY`, and set it to FILE",
        )
    return Path(named)


def _environment(name: str) -> Mapping[str, str]:
    more = {"DOCKER_BUILDKIT": "1", "BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}
    return withhold_credentials() | (more if name == "docker" else {})


def _labels(about: Mapping[str, object]) -> Mapping[str, str]:
    """The labels of what podman, docker or buildah tells of an image."""
    for place in (about, about.get("Config"), about.get("config"), about.get("Docker")):
        if isinstance(place, dict):
            inner = place.get("config") or place
            labels = inner.get("Labels") if isinstance(inner, dict) else None
            if isinstance(labels, dict):
                return labels
    return {}


def _digest(text: str, reference: str) -> str:
    found = text.strip()
    if not _DIGEST.fullmatch(found):
        raise MlspecError(f"{reference}: {found[:100]!r} is not the digest of an image")
    return found
