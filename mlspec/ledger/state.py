"""Typed reading of the ledger, for the planner: lazily, each record once, and as of one commit."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol, TypeVar

from pydantic import ValidationError

from mlspec.errors import MlspecError
from mlspec.fingerprint import entry_outputs
from mlspec.ledger import paths
from mlspec.ledger.records import (
    Approval,
    Candidate,
    Deployed,
    Imported,
    ModelState,
    Policy,
    Record,
    Run,
    Version,
)
from mlspec.ledger.store import Ledger, record_data

R = TypeVar("R", bound=Record)


class Reader(Protocol):
    """What records are read from, as :class:`mlspec.ledger.snapshot.Snapshot` does."""

    @property
    def serial(self) -> int: ...
    def read(self, path: str) -> bytes | None: ...
    def list(self, prefix: str) -> tuple[str, ...]: ...
    def names(self, folder: str) -> tuple[str, ...]: ...


class Recorded:
    """What the ledger remembers. What is not asked for is not read."""

    def __init__(self, reader: Reader, moving: Mapping[str, str] = MappingProxyType({})) -> None:
        self._reader = reader
        self.moving = moving
        """Present address by the former one, of what is read as if it were moved already."""
        self._records: dict[str, Record | None] = {}

    @classmethod
    def of(cls, records: Mapping[str, Record]) -> Recorded:
        """A ledger with these records, by path; no Git needed."""
        return cls(_Written(records))

    def models(self) -> tuple[str, ...]:
        """All models that anything is recorded of, sorted."""
        shards = self._reader.names("models")
        return tuple(
            sorted(name for shard in shards for name in self._reader.names(f"models/{shard}"))
        )

    def model_state(self, model: str) -> ModelState | None:
        return self._read(paths.state_path(model), ModelState)

    def run(self, model: str, stage: str, fingerprint: str) -> Run | None:
        return self._read(paths.run_path(model, stage, fingerprint), Run)

    def latest_run(self, model: str, stage: str) -> Run | None:
        """The run whose outputs are the stage's at present."""
        state = self.model_state(model)
        fingerprint = state.runs.get(stage) if state else None
        return self.run(model, stage, fingerprint) if fingerprint else None

    def has_written(self, model: str, stage: str, path: str, md5: str) -> bool:
        """Whether any run of the stage left that at `path`."""
        files = self._reader.list(paths.runs_path(model, stage))
        runs = (self._read(file, Run) for file in files)
        return any(run and entry_outputs(run.entry).get(path) == md5 for run in runs)

    def candidate(self, model: str, fingerprint: str) -> Candidate | None:
        return self._read(paths.candidate_path(model, fingerprint), Candidate)

    def version(self, model: str, number: int) -> Version | None:
        return self._read(paths.version_path(model, number), Version)

    def versions(self, model: str) -> tuple[Version, ...]:
        """A model's versions, oldest first."""
        files = self._reader.list(paths.versions_path(model))
        found = (self._read(path, Version) for path in files)
        return tuple(sorted(filter(None, found), key=lambda version: version.number))

    def deployed(self, address: str) -> Deployed | None:
        """What the target was told that `address` (`deployment.name@target`) names."""
        deployment, _, target = address.removeprefix("deployment.").partition("@")
        return self._read(paths.deployment_path(deployment, target), Deployed)

    def deployments(self) -> dict[str, Deployed]:
        """What every target was told, by address."""
        found = (self._read(path, Deployed) for path in self._reader.list("deployments"))
        addressed = (
            (paths.deployment_address(deployed.deployment, deployed.target), deployed)
            for deployed in filter(None, found)
        )
        return dict(sorted(addressed, key=lambda item: item[0]))

    def imported(self, dataset: str) -> Imported | None:
        return self._read(paths.dataset_path(dataset), Imported)

    def approvals(self, address: str, release: str) -> tuple[Approval, ...]:
        """Who approved that this release is deployed at `address`."""
        deployment, _, target = address.removeprefix("deployment.").partition("@")
        files = self._reader.list(paths.approvals_path(deployment, target, release))
        found = (self._read(path, Approval) for path in files)
        return tuple(sorted(filter(None, found), key=lambda each: (each.when, each.by)))

    def policy(self) -> Policy | None:
        return self._read(paths.POLICY, Policy)

    def _read(self, path: str, kind: type[R]) -> R | None:
        if path not in self._records:
            data = self._reader.read(path)
            self._records[path] = None if data is None else self._load(path, data, kind)
        record = self._records[path]
        assert record is None or isinstance(record, kind)
        return record

    def _load(self, path: str, data: bytes, kind: type[R]) -> R:
        try:
            return kind.model_validate_json(data)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            reason = f"{where}: {first['msg']}" if where else first["msg"]
            raise MlspecError(
                f"the ledger's {path} at serial {self._reader.serial} is not a {kind.__name__} "
                f"that this mlspec knows: {reason}",
                hint="install a newer mlspec if that wrote it; `mlspec log` tells who did",
            ) from error


class _Written:
    """Records by path, as a :class:`Reader`."""

    serial = 0

    def __init__(self, records: Mapping[str, Record]) -> None:
        self._files = {path: record_data(path, record) for path, record in sorted(records.items())}

    def read(self, path: str) -> bytes | None:
        return self._files.get(path)

    def list(self, prefix: str) -> tuple[str, ...]:
        return tuple(path for path in self._files if path.startswith(f"{prefix}/"))

    def names(self, folder: str) -> tuple[str, ...]:
        inside = (path.removeprefix(f"{folder}/").split("/")[0] for path in self.list(folder))
        return tuple(sorted(set(inside)))


def load_recorded(ledger: Ledger) -> Recorded:
    """The state at the ledger's tip; it stays as it is when the ledger goes on."""
    return Recorded(ledger.snapshot)
