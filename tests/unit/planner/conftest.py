"""A small world for the planner: three readings as plain data, and hands that change them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from mlspec.fingerprint import model_fingerprint, release_digest, stage_fingerprint
from mlspec.ledger.paths import (
    candidate_path,
    deployment_path,
    run_path,
    state_path,
    version_path,
)
from mlspec.ledger.records import (
    Candidate,
    Deployed,
    File,
    ModelState,
    Record,
    Run,
    Verdict,
    Version,
)
from mlspec.ledger.state import Recorded
from mlspec.plan import Plan, Step, canonical_json
from mlspec.planner import Leave, make_plan
from mlspec.resources import (
    NO_DEMAND,
    DatasetResource,
    Demand,
    Dependency,
    DependencyKind,
    DeploymentResource,
    Desired,
    GateResource,
    ModelResource,
    Observed,
    ObservedDataset,
    ObservedDeployment,
    ObservedFile,
    ObservedStage,
    Resource,
    StageResource,
)
from mlspec.spec.models import Quarantine, Resources, Rollout, Spec

PLACE = "here"
PARAMS = "pipelines/m/params.json"
SPEC: dict[str, Any] = {
    "mlspec": 1,
    "project": "p",
    "datasets": {"d": {"path": "data/d.csv"}},
    "models": {
        "m": {
            "stages": {
                "train": {
                    "command": "python train.py",
                    "inputs": ["d"],
                    "params": {"depth": 3},
                    "outputs": ["model.onnx"],
                },
                "evaluate": {
                    "command": "python evaluate.py",
                    "inputs": ["model.onnx"],
                    "metrics": "metrics.json",
                },
            },
            "artifact": {"path": "model.onnx", "format": "onnx"},
            "gates": {"good": {"metric": "auc", "min": 0.8}},
        }
    },
    "targets": {"local": {"kind": "local"}},
    "deployments": {"m": {"model": "m", "targets": ["local"]}},
}


@dataclass
class World:
    """Change the attributes, then ask for the :meth:`plan`; :meth:`settle` is a whole apply."""

    command: str = "python train.py"
    depth: int = 3
    train_code: str = "t1"
    evaluate_code: str = "e1"
    data: str = "d1"
    gate: dict[str, Any] = field(default_factory=lambda: {"metric": "auc", "min": 0.8})
    service: str = "service 1"
    records: dict[str, Record] = field(default_factory=dict)
    files: dict[str, ObservedFile] = field(default_factory=dict)
    locks: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    outputs: dict[str, dict[str, str]] = field(default_factory=dict)
    running: dict[str, ObservedDeployment] = field(default_factory=dict)
    without: set[str] = field(default_factory=set)
    protect: tuple[str, ...] = ()
    adopt: bool = False
    targets: tuple[str, ...] = ("local",)
    auc: float = 0.9
    price: str | None = None
    pin: dict[str, int] = field(default_factory=dict)
    quarantine: tuple[tuple[int, str], ...] = ()
    rollout: Rollout | None = None
    demand: Demand = NO_DEMAND

    @property
    def desired(self) -> Desired:
        policy: dict[str, Any] = {"protect": self.protect}
        if self.demand.approvers:
            policy["approvers"] = {"local": self.demand.approvers}
        local = {"kind": "local", "approvals": self.demand.approvals}
        asked = {"policy": policy, "targets": {"local": local}}
        spec = Spec.model_validate_json(canonical_json(SPEC | asked))
        bad = tuple(Quarantine(version=number, reason=why) for number, why in self.quarantine)
        model = spec.models["m"].model_copy(update={"quarantine": bad})
        update = {"pin": self.pin, "rollout": self.rollout}
        pinned = spec.deployments["m"].model_copy(update=update)
        spec = spec.model_copy(update={"models": {"m": model}, "deployments": {"m": pinned}})
        gate = model.gates["good"].model_validate(self.gate)
        priced = Resources.model_validate({"price": self.price} if self.price else {})
        train = Dependency("train.py", DependencyKind.CODE, self.train_code)
        data = Dependency("data/d.csv", DependencyKind.DATASET, producer="dataset.d")
        evaluate = Dependency("evaluate.py", DependencyKind.CODE, self.evaluate_code)
        artifact = Dependency("model.onnx", DependencyKind.INPUT, producer="stage.m.train")
        resources: list[Resource] = [
            DatasetResource("d", spec.datasets["d"], in_git=True, files=()),
            StageResource(
                model="m",
                name="train",
                stage=model.stages["train"].model_copy(update={"resources": priced}),
                dependencies=(data, train),
                params={PARAMS: {"train": {"depth": self.depth}}},
                command=self.command,
                writes=("model.onnx",),
                files=(),
            ),
            StageResource(
                model="m",
                name="evaluate",
                stage=model.stages["evaluate"],
                dependencies=(evaluate, artifact),
                params={PARAMS: {}},
                command="python evaluate.py",
                writes=("metrics.json",),
                files=(),
            ),
            GateResource("m", "good", gate),
            ModelResource("m", model, ("stage.m.evaluate", "stage.m.train"), ("gate.m.good",)),
            *(
                DeploymentResource(
                    name="m",
                    target=target,
                    deployment=spec.deployments["m"],
                    port=3000,
                    service={"service.py": self.service},
                    settings={},
                    files=(),
                    after=tuple(f"deployment.m@{earlier}" for earlier in self.targets[:place]),
                    demand=self.demand,
                )
                for place, target in enumerate(self.targets)
            ),
        ]
        found = {r.address: r for r in resources if r.address not in self.without}
        gone = {
            section: {n: r for n, r in named.items() if not self._left(f"{section[:-1]}.{n}")}
            for section, named in (("models", spec.models), ("deployments", spec.deployments))
        }
        left = spec.model_copy(update=gone)
        return Desired(left, "sha256:x", dict(sorted(found.items())))

    def _left(self, address: str) -> bool:
        return any(without.partition("@")[0] == address for without in self.without)

    @property
    def observed(self) -> Observed:
        stages = {
            address: ObservedStage(self.locks.get(address), self.outputs.get(address, {}))
            for address in ("stage.m.train", "stage.m.evaluate")
        }
        datasets = {"dataset.d": ObservedDataset(self.data, None)}
        return Observed(self.files, datasets, stages, self.running, PLACE)

    def plan(self) -> Plan:
        return make_plan(
            self.desired, self.observed, Recorded.of(self.records), Leave(adopt=self.adopt)
        )

    def step(self, address: str) -> Step | None:
        return next((step for step in self.plan().steps if step.address == address), None)

    def actions(self) -> dict[str, str]:
        """Address to `action consequence`, with a question mark where it is not certain."""
        return {
            step.address: f"{step.action} {step.consequence}{'' if step.certain else '?'}"
            for step in self.plan().steps
        }

    # What an apply would do ----------------------------------------------------------------------

    def run_train(self, model_md5: str | None = None) -> str:
        md5 = model_md5 or f"model of {self.command} {self.depth} {self.train_code} {self.data}"
        deps = {"data/d.csv": self.data, "train.py": self.train_code}
        params = {PARAMS: {"train": {"depth": self.depth}}}
        self._run("train", self.command, deps, params, {"model.onnx": md5}, {})
        return md5

    def run_evaluate(self, model_md5: str) -> None:
        deps = {"evaluate.py": self.evaluate_code, "model.onnx": model_md5}
        written = {"metrics.json": f"metrics of {model_md5}"}
        self._run("evaluate", "python evaluate.py", deps, {PARAMS: {}}, written, {"auc": self.auc})

    def judge(self) -> None:
        state = self.state
        fingerprint = model_fingerprint(state.runs)
        passed = self.auc >= self.gate["min"]
        verdict = Verdict(
            gate="good",
            metric="auc",
            level="fail",
            result="pass" if passed else "fail",
            value=self.auc,
            detail=f"auc {self.auc}",
        )
        number = (state.version or 0) + 1 if passed else None
        self.records[candidate_path("m", fingerprint)] = Candidate(
            fingerprint=fingerprint,
            stages=state.runs,
            gates={"good": self.gate},
            verdicts=(verdict,),
            status="accepted" if passed else "rejected",
            version=number,
            commit="c",
        )
        if number is not None:
            self.records[version_path("m", number)] = Version(
                model="m",
                number=number,
                fingerprint=fingerprint,
                stages=state.runs,
                artifact=File(path="model.onnx", format="onnx", md5=self.locks_md5, size=1),
                signature=None,
                metrics={"auc": self.auc},
                verdicts=(verdict,),
                commit="c",
            )
            self.records[state_path("m")] = state.model_copy(update={"version": number})

    def deploy(self, number: int, target: str = "local") -> None:
        version = self.records[version_path("m", number)]
        assert isinstance(version, Version)
        assert version.artifact is not None
        release = release_digest({"service.py": self.service}, {}, version.artifact.md5, number)
        self.records[deployment_path("m", target)] = Deployed(
            deployment="m",
            target=target,
            model="m",
            version=number,
            release=release,
            status="serving",
            place=PLACE,
        )
        self.running[f"deployment.m@{target}"] = ObservedDeployment(True, release)

    def settle(self) -> World:
        """Everything is run, judged and, if accepted, deployed."""
        self.run_evaluate(self.run_train())
        self.judge()
        if self.state.version is not None and self.auc >= self.gate["min"]:
            self.deploy(self.state.version)
        return self

    @property
    def state(self) -> ModelState:
        state = self.records.get(state_path("m"), ModelState())
        assert isinstance(state, ModelState)
        return state

    @property
    def deployed(self) -> Deployed:
        record = self.records[deployment_path("m", "local")]
        assert isinstance(record, Deployed)
        return record

    def update_deployed(self, **changes: Any) -> None:
        self.records[deployment_path("m", "local")] = self.deployed.model_copy(update=changes)

    @property
    def locks_md5(self) -> str:
        return str(self.locks["stage.m.train"]["outs"][0]["md5"])

    def _run(
        self,
        stage: str,
        command: str,
        deps: Mapping[str, str],
        params: Mapping[str, Mapping[str, Any]],
        outs: dict[str, str],
        metrics: Mapping[str, float],
    ) -> None:
        entry = {
            "cmd": command,
            "deps": [{"path": path, "md5": md5} for path, md5 in sorted(deps.items())],
            "params": params,
            "outs": [{"path": path, "md5": md5} for path, md5 in sorted(outs.items())],
        }
        fingerprint = stage_fingerprint(command, deps, params, outs)
        self.records[run_path("m", stage, fingerprint)] = Run(
            stage=stage,
            fingerprint=fingerprint,
            entry=entry,
            metrics=metrics,
            seconds=2.0,
            commit="abcdef0123456789",
        )
        runs = {**self.state.runs, stage: fingerprint}
        self.records[state_path("m")] = self.state.model_copy(update={"runs": runs})
        self.locks[f"stage.m.{stage}"] = entry
        self.outputs[f"stage.m.{stage}"] = outs


@pytest.fixture
def new() -> World:
    """Nothing was applied yet."""
    return World()


@pytest.fixture
def settled() -> World:
    """Version 1 serves, and nothing is to do."""
    return World().settle()


@pytest.fixture
def copy_of() -> Callable[..., World]:
    """A world with other attributes; what is recorded is copied, not shared."""

    def copied(world: World, **changes: Any) -> World:
        return replace(world, records=dict(world.records), locks=dict(world.locks), **changes)

    return copied
