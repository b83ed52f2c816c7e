"""What an executor of another machine is asked, and what it answers. All of it is JSON.

Comes in: a stage with everything that its run needs, as a :class:`Request`, for a machine that has
Git, the storage and a Python with mlspec, and nothing else of this one. Goes out: an
:class:`Answer`. :mod:`mlspec.executors.worker` turns one into the other. No message carries a
credential: a machine reaches repository and storage as whoever it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from mlspec import __version__
from mlspec.errors import ExitCode, MlspecError, RemoteUnreachable
from mlspec.executors import Outcome
from mlspec.spec.models import Resources

FORMAT = 1
"""Of the messages: a machine that has another one says so instead of guessing."""
MOST_LOG = 1 << 20
"""Bytes of a log that an answer carries: the last ones."""


class Message(BaseModel):
    """Frozen; an unknown key means that a newer mlspec wrote it."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, ser_json_bytes="base64", val_json_bytes="base64"
    )


class Needs(Message):
    """What the command needs of a machine; memory in bytes."""

    cpus: float = 1.0
    gpus: int = 0
    memory: float | None = None

    @classmethod
    def of(cls, resources: Resources) -> Needs:
        return cls(cpus=resources.cpus, gpus=resources.gpus, memory=resources.memory)


class Input(Message):
    """A path that the command reads, and the md5 that it must have.

    `git`: it is in the repository at the commit. `storage`: another stage wrote it. `dataset`: the
    file `<path>.dvc` is among the request's files and says where it comes from.
    """

    path: str
    md5: str
    origin: Literal["git", "storage", "dataset"]
    executable: bool = False


class Place(Message):
    """Where code and data are: a Git repository, and the texts of DVC's settings, by path."""

    repository: str
    files: Mapping[str, str] = {}


class Request(Message):
    """One run of a stage. `timeout` is in seconds, for each try.

    `files` are the generated files, by path: they need not be in the commit. `single` are the
    outputs that must be files, not folders.
    """

    format: int = FORMAT
    mlspec: str = __version__
    address: str
    stage: str
    dvcfile: str
    place: Place
    commit: str
    files: Mapping[str, str]
    command: str
    inputs: tuple[Input, ...] = ()
    outputs: tuple[str, ...] = ()
    single: tuple[str, ...] = ()
    metrics: str | None = None
    python: str = ""
    needs: Needs = Needs()
    timeout: float | None = None
    retries: int = 0


class Trouble(Message):
    """Why there is no result. `elsewhere`: nothing was run, and another machine may do better."""

    message: str
    hint: str = ""
    exit_code: int = int(ExitCode.ERROR)
    elsewhere: bool = False

    @classmethod
    def of(cls, error: MlspecError, *, elsewhere: bool = False) -> Trouble:
        return cls(
            message=error.message,
            hint=error.hint,
            exit_code=int(error.exit_code),
            elsewhere=elsewhere,
        )

    def error(self, where: str) -> MlspecError:
        """The error to raise for it; `where` names the machine."""
        unreachable = self.exit_code == ExitCode.UNREACHABLE
        kind = RemoteUnreachable if unreachable else MlspecError
        return kind(f"{where}: {self.message}", hint=self.hint)


class Answer(Message):
    """What became of a request: a `trouble`, or an `outcome`.

    `entry` is the entry of dvc.lock, when the command ended well: the digests of all that it read
    and wrote, as they were found afterwards, and all of that is in storage. `metrics` are the bytes
    of the metrics file.
    """

    format: int = FORMAT
    worker: str = ""
    trouble: Trouble | None = None
    outcome: Outcome | None = None
    log: str = ""
    entry: Mapping[str, Any] | None = None
    metrics: bytes = b""


class Question(Message):
    """What `mlspec doctor` wants to know of a machine: whether it could run stages from `place`."""

    format: int = FORMAT
    mlspec: str = __version__
    place: Place
    python: str = ""


class Check(Message):
    """One thing that was looked at. `hint` says how to mend what is lacking."""

    name: str
    ok: bool
    detail: str
    hint: str = ""


class Findings(Message):
    """What was found on one machine."""

    worker: str
    checks: tuple[Check, ...]
