"""The ledger under new names: what the spec says was renamed, before and while that is recorded.

Comes in: the records under their former names, and the renames of the spec. Goes out: the same
under the present names. A plan is made from the ledger as it will be, so a model that was renamed
needs nothing but the step that writes this down.

A stage's fingerprint covers the path of the model's params, so runs get other fingerprints, and
what they were called by is called by the new ones. A run's command, and code that it read, may name
`pipelines/<model>/` too. They count as the same if they differ only in that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mlspec.dvc.hashing import md5_of_bytes
from mlspec.dvc.lock import LockEntry, entry_as_dict, entry_from_dict
from mlspec.fingerprint import entry_fingerprint, model_fingerprint
from mlspec.ledger.paths import (
    MODELS,
    candidate_path,
    dataset_path,
    deployment_path,
    model_path,
    run_path,
    shard_of,
    state_path,
    version_path,
)
from mlspec.ledger.records import Candidate, Deployed, Record, Version
from mlspec.ledger.state import Reader, Recorded
from mlspec.ledger.store import record_data
from mlspec.spec.moves import Renames

Records = Mapping[str, Record | None]
Read = Callable[[str], bytes | None]
"""The bytes of a file of the repository."""


@dataclass(frozen=True, slots=True)
class Moves:
    """The renames of a spec, and how to look at the code that was renamed along."""

    renames: Renames
    read: Read


NO_MOVES = Moves(Renames(), lambda _path: None)


def moved_recorded(reader: Reader, moves: Moves) -> Recorded:
    """What is recorded, each under its present name."""
    recorded = Recorded(reader)
    pending = dict(_pending(recorded, reader, moves.renames))
    return Recorded(_Moved(reader, recorded, pending, moves.read), pending) if pending else recorded


def moved_records(reader: Reader, moves: Moves, former: str) -> Records:
    """What to write, and to delete (`None`), so that `former` is under its present name only.

    Nothing if it is already.
    """
    recorded = Recorded(reader)
    pending = dict(_pending(recorded, reader, moves.renames))
    if former not in pending:
        return {}
    (kind, old), (_, new) = (each.split(".", 1) for each in (former, pending[former]))
    match kind:
        case "model":
            changes: dict[str, Record | None] = dict.fromkeys(reader.list(model_path(old)))
            changes.update(_Model(recorded, reader, old, new, moves.read).records)
            changes.update(_served(recorded, old, new))
            return changes
        case "deployment":
            deployed = recorded.deployed(former)
            return {_place(former): None, _place(pending[former]): _under(deployed, new)}
        case _:
            imported = recorded.imported(old)
            assert imported is not None
            renamed = imported.model_copy(update={"dataset": new})
            return {dataset_path(old): None, dataset_path(new): renamed}


def renamed_lock(
    entries: Mapping[str, LockEntry], old: str, new: str, read: Read
) -> dict[str, LockEntry]:
    """What dvc.lock has of the stages of `old`, by name, if the model had been called `new`."""
    name = _Name(old, new, read)
    return {
        stage: entry_from_dict(name.renamed(entry_as_dict(entry)))
        for stage, entry in entries.items()
    }


def _pending(recorded: Recorded, reader: Reader, renames: Renames) -> Iterator[tuple[str, str]]:
    """Former and present address of what the ledger has under its former name alone."""
    deployed: Mapping[str, Deployed] | None = None
    for now, formers in renames.former.items():
        kind, _, name = now.partition(".")
        names = [former.partition(".")[2] for former in formers]
        if kind == "model":
            if not reader.names(model_path(name)):
                known = (old for old in names if recorded.model_state(old) is not None)
                yield from ((f"model.{old}", now) for old in list(known)[:1])
        elif kind == "dataset":
            if recorded.imported(name) is None:
                known = (old for old in names if recorded.imported(old) is not None)
                yield from ((f"dataset.{old}", now) for old in list(known)[:1])
        else:
            deployed = recorded.deployments() if deployed is None else deployed
            taken = {each for each in deployed if each.startswith(f"{now}@")}
            for former in formers:
                for address in deployed:
                    present = f"{now}@{address.partition('@')[2]}"
                    if address.startswith(f"{former}@") and present not in taken:
                        taken.add(present)
                        yield address, present


class _Moved:
    """A :class:`~mlspec.ledger.state.Reader` of the ledger as it will be."""

    def __init__(
        self, reader: Reader, recorded: Recorded, pending: Mapping[str, str], read: Read
    ) -> None:
        self._reader = reader
        self._recorded = recorded
        self._read = read
        self._models = _names(pending, "model")
        self._former = {new: old for old, new in self._models.items()}
        self._datasets = _names(pending, "dataset")
        self._deployments = _names(pending, "deployment")
        self._made: dict[str, Mapping[str, bytes]] = {}

    @property
    def serial(self) -> int:
        return self._reader.serial

    def read(self, path: str) -> bytes | None:
        match path.split("/"):
            case ["models", _, name, *_]:
                if name in self._models:
                    return None
                model = self._model(name)
                return self._reader.read(path) if model is None else model.get(path)
            case ["deployments", _, _]:
                return self._deployed.get(path)
            case ["datasets", _, _] if self._datasets:
                return self._imported(path)
        return self._reader.read(path)

    def list(self, prefix: str) -> tuple[str, ...]:
        match prefix.split("/"):
            case ["models", _, name, *_]:
                if name in self._models:
                    return ()
                model = self._model(name)
                if model is not None:
                    return tuple(path for path in sorted(model) if path.startswith(f"{prefix}/"))
            case ["deployments"]:
                return tuple(self._deployed)
        return self._reader.list(prefix)

    def names(self, folder: str) -> tuple[str, ...]:
        found = set(self._reader.names(folder))
        if folder == MODELS:
            found.update(map(shard_of, self._former))
        elif folder.startswith(f"{MODELS}/") and folder.count("/") == 1:
            shard = folder.removeprefix(f"{MODELS}/")
            found -= self._models.keys()
            found.update(name for name in self._former if shard_of(name) == shard)
        return tuple(sorted(found))

    def _model(self, name: str) -> Mapping[str, bytes] | None:
        """The records of a model that will have another's; none of any other."""
        if name not in self._made:
            former = self._former.get(name)
            if former is None:
                return None
            model = _Model(self._recorded, self._reader, former, name, self._read)
            self._made[name] = {p: record_data(p, each) for p, each in model.records.items()}
        return self._made[name]

    @cached_property
    def _deployed(self) -> Mapping[str, bytes]:
        records: dict[str, Record] = {}
        for address, deployed in self._recorded.deployments().items():
            old = address.removeprefix("deployment.")
            present = self._deployments.get(old, old)
            model = self._models.get(deployed.model, deployed.model)
            renamed = _under(deployed, present).model_copy(update={"model": model})
            records[_place(f"deployment.{present}")] = renamed
        return {path: record_data(path, records[path]) for path in sorted(records)}

    def _imported(self, path: str) -> bytes | None:
        for old, new in self._datasets.items():
            if path == dataset_path(old):
                return None
            if path == dataset_path(new):
                imported = self._recorded.imported(old)
                assert imported is not None
                return record_data(path, imported.model_copy(update={"dataset": new}))
        return self._reader.read(path)


class _Model:
    """The records of the model `old` as those of `new`."""

    def __init__(self, recorded: Recorded, reader: Reader, old: str, new: str, read: Read) -> None:
        self._recorded = recorded
        self._old, self._new = old, new
        self._name = _Name(old, new, read)
        self._paths = [path.split("/")[3:] for path in reader.list(model_path(old))]
        self._fingerprints: dict[tuple[str, str], str] = {}
        """The new one of each run, by stage and the first letters of the old one."""

    @cached_property
    def records(self) -> Mapping[str, Record]:
        """All of them, by path."""
        return {**dict(self._runs()), **dict(self._rest())}

    def _runs(self) -> Iterator[tuple[str, Record]]:
        for path in self._paths:
            match path:
                case ["runs", stage, file]:
                    run = self._recorded.run(self._old, stage, file.removesuffix(".json"))
                    assert run is not None
                    entry = self._name.renamed(run.entry)
                    now = entry_fingerprint(entry)
                    self._fingerprints[stage, run.fingerprint] = now
                    update = {"entry": entry, "fingerprint": now}
                    yield run_path(self._new, stage, now), run.model_copy(update=update)

    def _rest(self) -> Iterator[tuple[str, Record]]:
        old, new = self._old, self._new
        candidates: dict[str, str] = {}
        for path in self._paths:
            match path:
                case ["candidates", file]:
                    candidate = self._recorded.candidate(old, file.removesuffix(".json"))
                    assert candidate is not None
                    update = self._stages(candidate)
                    candidates[candidate.fingerprint] = now = update["fingerprint"]
                    yield candidate_path(new, now), candidate.model_copy(update=update)
                case ["versions", file]:
                    version = self._recorded.version(old, int(file.removesuffix(".json")))
                    assert version is not None
                    update = {**self._stages(version), "model": new}
                    yield version_path(new, version.number), version.model_copy(update=update)
        state = self._recorded.model_state(old)
        assert state is not None
        runs = {stage: self._now(stage, run) for stage, run in state.runs.items()}
        candidate_now = candidates.get(state.candidate) if state.candidate else None
        heads = {"runs": runs, "candidate": candidate_now, "retired": False}
        yield state_path(new), state.model_copy(update=heads)

    def _stages(self, judged: Candidate | Version) -> dict[str, Any]:
        stages = judged.stages.items()
        now = {stage: self._now(stage, fingerprint) for stage, fingerprint in stages}
        return {"stages": now, "fingerprint": model_fingerprint(now, judged.taken)}

    def _now(self, stage: str, fingerprint: str) -> str:
        return self._fingerprints.get((stage, fingerprint), fingerprint)


class _Name:
    """What is made of `old` where it is called `new`."""

    def __init__(self, old: str, new: str, read: Read) -> None:
        self._old, self._new = old, new
        self._read = read
        self._alike: dict[str, tuple[str, str, int] | None] = {}

    def renamed(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """An entry of dvc.lock."""
        body: dict[str, Any] = {**entry, "cmd": self._text(entry["cmd"])}
        for key in ("deps", "outs"):
            if key in entry:
                body[key] = [self._path(item) for item in entry[key]]
        if "params" in entry:
            body["params"] = {self._text(path): keys for path, keys in entry["params"].items()}
        return entry_as_dict(entry_from_dict(body))

    def _path(self, item: Mapping[str, Any]) -> dict[str, Any]:
        path = self._text(item["path"])
        if path not in self._alike:
            self._alike[path] = self._compare(path)
        alike = self._alike[path]
        if alike is None or alike[0] != item.get("md5"):
            return {**item, "path": path}
        return {**item, "path": path, "md5": alike[1], "size": alike[2]}

    def _compare(self, path: str) -> tuple[str, str, int] | None:
        """Of code that names the model: the md5 that it had before, and md5 and size of now."""
        data = self._read(path) if path.endswith(".py") else None
        if data is None:
            return None
        before = _replaced(data, self._new, self._old)
        return None if before == data else (md5_of_bytes(before), md5_of_bytes(data), len(data))

    def _text(self, text: str) -> str:
        data = text.encode("utf-8", "surrogatepass")
        return _replaced(data, self._old, self._new).decode("utf-8", "surrogatepass")


def names_folder(data: bytes, model: str) -> bool:
    """Whether a command, or code, names the folder of the model's generated files."""
    return _mention(model).search(data) is not None


def _replaced(data: bytes, old: str, new: str) -> bytes:
    """`data` with the folder of one model's generated files in the place of the other's."""
    return _mention(old).sub(rb"\g<1>pipelines/" + new.encode() + b"/", data)


def _mention(model: str) -> re.Pattern[bytes]:
    return re.compile(rb"(?<![\w.~/-])((?:\./)?)pipelines/" + re.escape(model.encode()) + rb"/")


def _names(pending: Mapping[str, str], kind: str) -> dict[str, str]:
    start = f"{kind}."
    return {
        old.removeprefix(start): new.removeprefix(start)
        for old, new in pending.items()
        if old.startswith(start)
    }


def _served(recorded: Recorded, old: str, new: str) -> dict[str, Record | None]:
    """Where the model is served, under its new name."""
    return {
        _place(address): deployed.model_copy(update={"model": new})
        for address, deployed in recorded.deployments().items()
        if deployed.model == old
    }


def _under(deployed: Deployed | None, name: str) -> Deployed:
    assert deployed is not None
    return deployed.model_copy(update={"deployment": name.partition("@")[0]})


def _place(address: str) -> str:
    name, _, target = address.removeprefix("deployment.").partition("@")
    return deployment_path(name, target)
