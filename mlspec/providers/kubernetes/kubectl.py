"""Every call of kubectl: arguments in, text or data out, problems in words.

Cluster and namespace are named in each call, whatever kubectl's own settings have as current. No
shell has a part in it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlspec.compilers.kubernetes import MANAGER
from mlspec.errors import MlspecError, RemoteUnreachable

PROGRAM = "kubectl"
REQUEST_SECONDS = 20
CALL_SECONDS = 60.0
TAIL = 12
_UNREACHABLE = (
    "unable to connect to the server",
    "connection refused",
    "was refused",
    "i/o timeout",
    "no such host",
    "tls handshake timeout",
    "context deadline exceeded",
    "client.timeout exceeded",
    "network is unreachable",
    "the server is currently unable to handle the request",
)
_NO_CONTEXT = ("does not exist", "no context exists with the name")


class Refused(MlspecError):
    """The cluster, or kubectl, said no; `said` is what it said."""

    def __init__(self, message: str, said: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.said = said


@dataclass(frozen=True, slots=True)
class Kubectl:
    """kubectl for one namespace of one cluster."""

    context: str
    namespace: str

    @property
    def where(self) -> str:
        return f"{self.context}, namespace {self.namespace}"

    def get(self, *arguments: str) -> list[dict[str, Any]]:
        """The objects that `kubectl get` finds; none if there are none."""
        text = self.run("get", *arguments, "--ignore-not-found", "--output", "json")
        if not text.strip():
            return []
        try:
            found = json.loads(text)
        except ValueError:
            raise MlspecError(f"{self.where}: kubectl answered what is no JSON") from None
        items = found.get("items", [found])
        return list(items)

    def apply(self, objects: Sequence[Mapping[str, Any]], *, dry: bool = False) -> None:
        """Server-side apply: the cluster merges, and remembers which fields are mlspec's."""
        options = ["--dry-run=server"] if dry else []
        content = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        self.run(
            "apply",
            "--server-side",
            "--force-conflicts",
            f"--field-manager={MANAGER}",
            *options,
            "--filename=-",
            stdin=content,
        )

    def delete(self, *arguments: str) -> None:
        """What is not there counts as deleted; what was there is gone afterwards."""
        self.run("delete", *arguments, "--ignore-not-found", "--wait=true", seconds=180.0)

    def run(self, *arguments: str, stdin: str = "", seconds: float = CALL_SECONDS) -> str:
        """What a call prints; :class:`Refused`, or :class:`RemoteUnreachable` with its reason."""
        program = shutil.which(PROGRAM)
        if program is None:
            raise RemoteUnreachable(
                f"{self.where}: kubectl is not installed here", hint="install kubectl 1.22 or later"
            )
        place = [f"--context={self.context}", f"--namespace={self.namespace}"]
        limit = (
            []
            if arguments[0] in ("exec", "logs", "rollout", "delete")
            else [f"--request-timeout={REQUEST_SECONDS}s"]
        )
        try:
            done = subprocess.run(
                [program, *place, *limit, *arguments],
                input=stdin.encode(),
                capture_output=True,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            what = f"`kubectl {arguments[0]}` took more than {seconds:.0f} s"
            raise RemoteUnreachable(f"{self.where}: {what}") from None
        except OSError as error:
            raise RemoteUnreachable(f"{program} cannot be started: {error.strerror}") from None
        if done.returncode:
            raise self._problem(arguments[0], done.stderr.decode(errors="replace"))
        return done.stdout.decode(errors="replace")

    def _problem(self, verb: str, stderr: str) -> MlspecError:
        lines = [line for line in stderr.strip().splitlines() if line.strip()]
        said = "\n".join(lines[-TAIL:])
        low = said.lower()
        if "context" in low and any(words in low for words in _NO_CONTEXT):
            return RemoteUnreachable(
                f"kubectl knows no context {self.context!r} here",
                hint="`kubectl config get-contexts` has those that it knows; KUBECONFIG says where",
            )
        if any(words in low for words in _UNREACHABLE):
            return RemoteUnreachable(
                f"{self.where}: the cluster does not answer: {lines[-1]}",
                hint=f"`kubectl --context {self.context} version` tells whether it is there",
            )
        hint = ""
        if "forbidden" in low or "unauthorized" in low or "must be logged in" in low:
            hint = "whoever kubectl is logged in as must be allowed to do that in the namespace"
        elif low.endswith("eof") or "for password" in low:  # it asked, and nobody is there
            hint = f"kubectl has no credentials for {self.context}: log in to the cluster first"
        elif "namespaces" in low and "not found" in low:
            hint = f"create it: `kubectl --context {self.context} create ns {self.namespace}`"
        elif "no matches for kind" in low or "doesn't have a resource type" in low:
            hint = "the cluster lacks this kind: install its definition, or take the key out"
        return Refused(f"{self.where}: `kubectl {verb}` was refused: {said}", said, hint=hint)
