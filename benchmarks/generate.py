"""Makes a repository of N models with two stages each, as a finished `mlspec apply` leaves it.

    python -m benchmarks.generate FOLDER --models 1000 --spec shards

Comes in: a folder that is not there yet. Goes out: a committed and packed repository with the spec,
what mlspec generates from it, data, outputs with their `dvc.lock`, DVC's cache and storage, and a
ledger. Contents and digests are real: the stages' own functions are called, in this process.
DVC's run cache is left out; only a later `dvc repro` would look at it.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from mlspec.compilers.dvc import lock_path
from mlspec.dvc.hashing import md5_of_bytes, object_path
from mlspec.dvc.lock import LockedPath, LockEntry, dump_lock, entry_as_dict
from mlspec.fingerprint import entry_fingerprint, model_fingerprint
from mlspec.gates import Evidence, check_gate
from mlspec.ledger.entry import make_entry
from mlspec.ledger.paths import candidate_path, run_path, state_path, version_path
from mlspec.ledger.records import Candidate, ModelState, Record, Run, Version
from mlspec.reconcile import Project, open_project
from mlspec.resources import Desired, FileResource, GateResource, ModelResource, StageResource

SOURCE = Path(__file__).parent / "project"
STAGES = ("prepare", "train")
RATE = 0.1
SHARD = 100
"""Models in a file of the spec."""
BATCH = 2000
"""Models in a commit of the ledger."""
ROWS = 40
SECONDS = 0.03
"""What a run is said to have taken."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--spec", choices=sorted({**SPECS, **TO_APPLY}), default="shards")
    parser.add_argument("--unapplied", action="store_true", help="stop before the first apply")
    options = parser.parse_args()
    make = start if options.unapplied or options.spec in TO_APPLY else generate
    make(options.folder, options.models, options.spec)
    return 0


def generate(root: Path, models: int, spec: str = "shards") -> None:
    """The repository at `root`, new; `spec` is one of :data:`SPECS`."""
    start(root, models, spec)
    with open_project(root) as project:
        desired = project.desired
        _write_generated(root, desired)
        finished = _finish(root, desired)
        _record(project, finished)
    shutil.rmtree(root / ".mlspec" / "cache", ignore_errors=True)
    commit(root, "Record what was applied")
    _git(root, "gc", "--quiet")


def start(root: Path, models: int, spec: str = "shards") -> None:
    """One before its first apply: spec, code and data, committed."""
    root.mkdir(parents=True)
    shutil.copytree(SOURCE, root, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    names = [f"shop-{number:05d}" for number in range(models)]
    for path, text in {**SPECS, **TO_APPLY}[spec](names):
        _write(root / path, text)
    for number, name in enumerate(names):
        _write(root / "shops" / name / "data.csv", _data(number))
    _git(root, "init", "--quiet", "--initial-branch", "main")
    _git(root, "config", "user.name", "Ada")
    _git(root, "config", "user.email", "ada@example.org")
    commit(root, "Start")


def commit(root: Path, message: str) -> None:
    """Commit all that Git does not ignore."""
    _git(root, "add", "--all")
    _git(root, "-c", "gc.auto=0", "commit", "--quiet", "--message", message)


def data_path(number: int) -> str:
    """Where the data of the model of that number lie."""
    return f"shops/shop-{number:05d}/data.csv"


# The spec -----------------------------------------------------------------------------------------

_HEAD = """\
mlspec: 1
project: shops
python: {{version: "{version}"}}
{more}"""

_MODEL = """\
  {key}:
    owner: retail
    tags: ["{tag}"]
    stages:
      prepare:
        command: python src/prepare.py {name}
        inputs: ["shops/{name}/data.csv"]
        outputs: ["shops/{name}/prepared.csv"]
      train:
        command: python src/train.py {name}
        inputs: ["shops/{name}/prepared.csv"]
        params:
          rate: {rate}
        outputs: ["shops/{name}/model.json"]
        metrics: shops/{name}/metrics.json
    gates:
      error: {{metric: error, max: 1000}}
"""

Files = Iterator[tuple[str, str]]


def _head(more: str) -> tuple[str, str]:
    version = "{}.{}".format(*sys.version_info)
    return "mlspec.yaml", _HEAD.format(version=version, more=more)


def _model(name: str, tag: str) -> str:
    return _MODEL.format(key=name, name=name, tag=tag, rate=RATE)


def _shards(names: Sequence[str]) -> Files:
    """A file for each hundred models."""
    yield _head('include: ["specs/*.yaml"]\n')
    for first in range(0, len(names), SHARD):
        part = f"part-{first // SHARD:03d}"
        texts = (_model(name, part) for name in names[first : first + SHARD])
        yield f"specs/{part}.yaml", "models:\n" + "".join(texts)


def _files(names: Sequence[str]) -> Files:
    """A file for each model, beside its data."""
    yield _head('include: ["shops/*/model.yaml"]\n')
    for name in names:
        yield f"shops/{name}/model.yaml", "models:\n" + _model(name, "one")


def _matrix(names: Sequence[str]) -> Files:
    """One model for the rows of a table."""
    model = _MODEL.format(
        key="shop", name="${matrix.shop}", tag="${matrix.tag}", rate="${matrix.rate}"
    )
    about = '    matrix: {from: shops.csv}\n    name: "${matrix.shop}"\n'
    yield _head("models:\n" + model + about)
    rows = (f"{name},part-{number // SHARD:03d},{RATE}\n" for number, name in enumerate(names))
    yield "shops.csv", "shop,tag,rate\n" + "".join(rows)


_COMMANDS = """\
  {name}:
    stages:
      prepare:
        command: {before}cp shops/{name}/data.csv shops/{name}/prepared.csv
        inputs: [shops/{name}/data.csv]
        outputs: [shops/{name}/prepared.csv]
      train:
        command: {before}cp shops/{name}/prepared.csv shops/{name}/model.json
        inputs: [shops/{name}/prepared.csv]
        outputs: [shops/{name}/model.json]
"""


def _commands(names: Sequence[str], before: str = "") -> Files:
    """Stages that cost next to nothing, so that what is around them can be measured."""
    texts = (_COMMANDS.format(name=name, before=before) for name in names)
    yield _head("models:\n" + "".join(texts))


def _sleeps(names: Sequence[str]) -> Files:
    return _commands(names, "sleep 1; ")


SPECS: Mapping[str, Callable[[Sequence[str]], Files]] = {
    "files": _files,
    "matrix": _matrix,
    "shards": _shards,
}
"""Ways to write the same spec: path and text of each file."""
TO_APPLY: Mapping[str, Callable[[Sequence[str]], Files]] = {"copies": _commands, "sleeps": _sleeps}
"""Specs of repositories that are made to be applied."""


def set_rate(root: Path, spec: str, number: int, rate: float) -> None:
    """Change the param of one model where it is written."""
    name = f"shop-{number:05d}"
    places = {
        "files": f"shops/{name}/model.yaml",
        "matrix": "shops.csv",
        "shards": f"specs/part-{number // SHARD:03d}.yaml",
    }
    path = root / places[spec]
    text = path.read_text(encoding="utf-8")
    if spec == "matrix":
        changed = re.sub(rf"^({name},.*,)[0-9.]+$", rf"\g<1>{rate}", text, flags=re.MULTILINE)
    else:
        before, model, after = text.partition(f"  {name}:\n")
        changed = before + model + re.sub(r"rate: [0-9.]+", f"rate: {rate}", after, count=1)
    path.write_text(changed, encoding="utf-8")


def _data(number: int) -> str:
    chance = random.Random(number)
    rows = ((chance.uniform(10, 200), chance.uniform(-1, 9)) for _ in range(ROWS))
    return "".join(f"{size:.2f},{price:.2f}\n" for size, price in rows)


# What an apply makes ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Finished:
    """A model whose stages have run: the entries of its lock by stage, and its metrics."""

    model: ModelResource
    gates: Sequence[GateResource]
    entries: Mapping[str, LockEntry]
    metrics: Mapping[str, float]


def _write_generated(root: Path, desired: Desired) -> None:
    for resource in desired.of(FileResource):
        _write(root / resource.generated.path, resource.generated.text)


def _finish(root: Path, desired: Desired) -> list[Finished]:
    """Outputs in the worktree, in DVC's cache and in storage, and the lock files."""
    sys.path.insert(0, str(SOURCE / "src"))
    prepare: Callable[[str], str] = import_module("prepare").prepare
    train: Callable[[str, float], tuple[str, str]] = import_module("train").train
    known: dict[str, LockedPath] = {}
    finished = []
    for model in desired.of(ModelResource):
        folder = f"shops/{model.name}"
        prepared = prepare((root / folder / "data.csv").read_text(encoding="utf-8"))
        artifact, metrics = train(prepared, RATE)
        contents = {
            f"{folder}/prepared.csv": prepared,
            f"{folder}/model.json": artifact,
            f"{folder}/metrics.json": metrics,
        }
        written = {path: _store(root, path, text.encode()) for path, text in contents.items()}
        ignored = "".join(f"/{path.rpartition('/')[2]}\n" for path in contents)
        _write(root / folder / ".gitignore", ignored)
        stages = {name: desired.get(StageResource, f"stage.{model.name}.{name}") for name in STAGES}
        entries = {
            name: _entry(root, resource, {**known, **written}, known)
            for name, resource in stages.items()
        }
        gates = [desired.get(GateResource, address) for address in model.gates]
        finished.append(Finished(model, gates, entries, json.loads(metrics)))
    locks = [(str(root / lock_path(done.model.name)), done.entries) for done in finished]
    with get_context("fork").Pool() as pool:
        for _ in pool.imap_unordered(_write_lock, locks, chunksize=100):
            pass
    return finished


def _entry(
    root: Path,
    resource: StageResource,
    written: Mapping[str, LockedPath],
    known: dict[str, LockedPath],
) -> LockEntry:
    """What DVC records of a run; `known` remembers what all models read."""
    deps = []
    for dependency in resource.dependencies:
        path = dependency.path
        found = written.get(path)
        if found is None:
            found = _locked(path, (root / path).read_bytes())
            if not path.startswith("shops/"):
                known[path] = found
        deps.append(found)
    outs = tuple(written[path] for path in resource.writes)
    return LockEntry(resource.command, tuple(deps), resource.params, outs)


def _write_lock(lock: tuple[str, Mapping[str, LockEntry]]) -> None:
    path, entries = lock
    _write(Path(path), dump_lock(entries))


def _locked(path: str, data: bytes) -> LockedPath:
    return LockedPath(path, md5_of_bytes(data), len(data))


def _store(root: Path, path: str, data: bytes) -> LockedPath:
    """An output in its place, and its object in the cache and in storage (one file, two names)."""
    found = _locked(path, data)
    (root / path).write_bytes(data)
    cached, stored = (
        root / base / object_path(found.md5) for base in (".dvc/cache", ".mlspec/storage")
    )
    if not cached.exists():
        for place in (cached, stored):
            place.parent.mkdir(parents=True, exist_ok=True)
        cached.write_bytes(data)
        cached.chmod(0o444)
        stored.hardlink_to(cached)
    return found


# The ledger ---------------------------------------------------------------------------------------


def _record(project: Project, finished: Sequence[Finished]) -> None:
    source = project.git.head()
    entry = make_entry(project.git, "apply")
    models = iter(finished)
    while batch := list(islice(models, BATCH)):
        records: dict[str, Record | None] = {}
        for done in batch:
            records |= _records(done, source)
        told = f"{len(batch)} models"
        project.ledger.record(records, entry.about("", "register", "done", told))


def _records(done: Finished, source: str) -> dict[str, Record | None]:
    name = done.model.name
    plain = {stage: entry_as_dict(entry) for stage, entry in done.entries.items()}
    stages = {stage: entry_fingerprint(entry) for stage, entry in sorted(plain.items())}
    fingerprint = model_fingerprint(stages)
    evidence = Evidence(fingerprint, done.metrics)
    verdicts = tuple(check_gate(gate.name, gate.gate, evidence) for gate in done.gates)
    shared: dict[str, Any] = {"fingerprint": fingerprint, "stages": stages, "verdicts": verdicts}
    runs: dict[str, Record | None] = {
        run_path(name, stage, stages[stage]): Run(
            stage=stage,
            fingerprint=stages[stage],
            entry=entry,
            metrics=done.metrics if stage == "train" else {},
            seconds=SECONDS,
            commit=source,
        )
        for stage, entry in plain.items()
    }
    return {
        **runs,
        candidate_path(name, fingerprint): Candidate(
            **shared,
            gates={gate.name: gate.question for gate in done.gates},
            status="accepted",
            version=1,
            commit=source,
        ),
        version_path(name, 1): Version(
            **shared,
            model=name,
            number=1,
            artifact=None,
            signature=None,
            metrics=done.metrics,
            commit=source,
        ),
        state_path(name): ModelState(
            runs=stages,
            candidate=fingerprint,
            version=1,
            durations=dict.fromkeys(stages, (SECONDS,)),
        ),
    }


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=root, check=True)


if __name__ == "__main__":
    sys.exit(main())
