"""A DVC repository as types. Comes in: what :mod:`mlspec.dvc.inventory` gives.

Goes out: stages, each of them written out (no `foreach`, `matrix` or `${}`), and data, with paths
from the root.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlspec.dvc.lock import LockedPath

MD5 = "md5"
"""The only kind of digest that DVC 3 and mlspec write."""


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a file; 0 if it is about the whole file."""

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class Known:
    """A path with the digest that DVC recorded; `md5` is empty if it recorded none."""

    path: str
    md5: str
    kind: str = MD5
    size: int | None = None
    nfiles: int | None = None
    isexec: bool = False
    special: tuple[str, ...] = ()
    """What is unusual about a dependency, in DVC's words."""

    @property
    def locked(self) -> LockedPath:
        return LockedPath(self.path, self.md5, self.size or 0, self.nfiles, self.isexec)


@dataclass(frozen=True, slots=True)
class Out:
    """What a stage writes, or the data of a `.dvc` file."""

    known: Known
    cache: bool
    metric: bool
    plotted: bool
    """Whether something is said of how it is plotted."""
    persist: bool
    remote: str
    push: bool

    @property
    def path(self) -> str:
        return self.known.path


@dataclass(frozen=True, slots=True)
class Params:
    """Values that a stage reads from a file, and the keys whose values are not as recorded."""

    path: str
    values: Mapping[str, Any]
    changed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OldStage:
    """A stage of a dvc.yaml, or a `.dvc` file with a command; `wdir` is `.` at the root."""

    place: Place
    name: str
    lines: tuple[str, ...]
    """Of the command: each is run by itself."""
    wdir: str
    frozen: bool
    always: bool
    changed: bool
    deps: tuple[Known, ...]
    params: tuple[Params, ...]
    outs: tuple[Out, ...]

    @property
    def title(self) -> str:
        return f"stage {self.name}" if self.name else "the stage"


@dataclass(frozen=True, slots=True)
class Data:
    """A `.dvc` file: data that somebody added, or imported from `source`."""

    place: Place
    outs: tuple[Out, ...]
    source: Mapping[str, str] | None
    special: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OldArtifact:
    """An entry of the section `artifacts`."""

    place: Place
    name: str
    path: str


@dataclass(frozen=True, slots=True)
class Extra:
    """A section of a dvc.yaml that a spec has no word for."""

    place: Place
    section: str


@dataclass(frozen=True, slots=True)
class OldSettings:
    """`url` of the default remote, as written; `local`: the new text of `.dvc/config.local`."""

    remote: str
    url: str
    local: str
    moved: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Repository:
    """All of it."""

    stages: tuple[OldStage, ...]
    data: tuple[Data, ...]
    artifacts: tuple[OldArtifact, ...]
    extras: tuple[Extra, ...]
    settings: OldSettings
    cache: Path
    """Where its objects are."""


def read_repository(found: Mapping[str, Any]) -> Repository:
    """The types of what DVC told."""
    settings = found["settings"]
    return Repository(
        stages=tuple(map(_stage, found["stages"])),
        data=tuple(map(_data, found["data"])),
        artifacts=tuple(
            OldArtifact(Place(each["file"], each["line"]), each["name"], each["path"])
            for each in found["artifacts"]
        ),
        extras=tuple(
            Extra(Place(each["file"], each["line"]), each["section"]) for each in found["extras"]
        ),
        settings=OldSettings(
            settings["remote"], settings["url"], settings["local"], tuple(settings["moved"])
        ),
        cache=Path(found["cache"]),
    )


def _stage(body: Mapping[str, Any]) -> OldStage:
    command = body["cmd"]
    lines = command if isinstance(command, list) else command.strip().splitlines()
    return OldStage(
        place=Place(body["file"], body["line"]),
        name=body["name"],
        lines=tuple(map(str.strip, lines)),
        wdir=body["wdir"],
        frozen=body["frozen"],
        always=body["always"],
        changed=body["changed"],
        deps=tuple(map(_known, body["deps"])),
        params=tuple(
            Params(each["path"], each["values"], tuple(each["changed"])) for each in body["params"]
        ),
        outs=tuple(map(_out, body["outs"])),
    )


def _data(body: Mapping[str, Any]) -> Data:
    source, special = None, []
    if body["deps"]:
        dep = body["deps"][0]
        special = dep.get("special", [])
        if "repo" in dep:
            source = {"git": dep["repo"]["url"], "path": dep["path"]}
            if dep["repo"]["rev"]:
                source["rev"] = dep["repo"]["rev"]
        else:
            source = {"url": dep["path"]}
    outs = tuple(map(_out, body["outs"]))
    return Data(Place(body["file"]), outs, source, tuple(special))


def _known(body: Mapping[str, Any]) -> Known:
    return Known(
        path=body["path"],
        md5=body["md5"],
        kind=body["hash"] or MD5,
        size=body["size"],
        nfiles=body["nfiles"],
        isexec=body["isexec"],
        special=(*(["repo"] if "repo" in body else []), *body.get("special", ())),
    )


def _out(body: Mapping[str, Any]) -> Out:
    return Out(
        known=_known(body),
        cache=body["cache"],
        metric=body["metric"],
        plotted=body["plotted"],
        persist=body["persist"],
        remote=body["remote"],
        push=body["push"],
    )
