"""Records under new names: what a plan sees is what is written, and nothing is lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from mlspec.dvc.hashing import md5_of_bytes
from mlspec.fingerprint import entry_fingerprint, model_fingerprint
from mlspec.ledger.moves import Moves, moved_recorded, moved_records
from mlspec.ledger.paths import (
    candidate_path,
    dataset_path,
    deployment_path,
    run_path,
    state_path,
    version_path,
)
from mlspec.ledger.records import Candidate, Deployed, Imported, ModelState, Record, Run, Version
from mlspec.ledger.store import record_data
from mlspec.spec.models import Move
from mlspec.spec.moves import renames_of

NOW = b"PARAMS = 'pipelines/new/params.json'  # not my/pipelines/old/, nor pipelines/older/\n"
BEFORE = NOW.replace(b"'pipelines/new/", b"'pipelines/old/")


class Reader:
    """Records by path, as the ledger's tree has them."""

    serial = 1

    def __init__(self, records: Mapping[str, Record]) -> None:
        self.files = {path: record_data(path, record) for path, record in sorted(records.items())}

    def read(self, path: str) -> bytes | None:
        return self.files.get(path)

    def list(self, prefix: str) -> tuple[str, ...]:
        return tuple(path for path in self.files if path.startswith(f"{prefix}/"))

    def names(self, folder: str) -> tuple[str, ...]:
        inside = (path.removeprefix(f"{folder}/").split("/")[0] for path in self.list(folder))
        return tuple(sorted(set(inside)))


def entry(model: str, code: bytes = BEFORE) -> dict[str, Any]:
    """A run whose command and code name the folder of the model's generated files."""
    command = (
        f"python t.py ./pipelines/{model}/params.json pipelines/older/x --at=pipelines/{model}/"
    )
    return {
        "cmd": command,
        "deps": [{"path": "t.py", "hash": "md5", "md5": md5_of_bytes(code), "size": len(code)}],
        "params": {f"pipelines/{model}/params.json": {"train": {"depth": 3}}},
        "outs": [{"path": "m.bin", "hash": "md5", "md5": "a" * 32, "size": 1}],
    }


def history(model: str, *, code: bytes = BEFORE, retired: bool = False) -> dict[str, Record]:
    """A model with one version, which serves."""
    body = entry(model, code)
    run = entry_fingerprint(body)
    fingerprint = model_fingerprint({"train": run})
    stages = {"train": run}
    made: dict[str, Any] = {"fingerprint": fingerprint, "stages": stages, "commit": "c"}
    version = Version(
        model=model, number=1, artifact=None, signature=None, metrics={}, verdicts=(), **made
    )
    return {
        run_path(model, "train", run): Run(
            stage="train", fingerprint=run, entry=body, seconds=2.0, commit="c"
        ),
        candidate_path(model, fingerprint): Candidate(status="accepted", version=1, **made),
        version_path(model, 1): version,
        state_path(model): ModelState(
            runs=stages,
            candidate=fingerprint,
            version=1,
            retired=retired,
            durations={"train": (2.0,)},
        ),
    }


def deployed(deployment: str, model: str) -> Deployed:
    return Deployed(
        deployment=deployment,
        target="prod",
        model=model,
        version=1,
        release="r",
        status="serving",
        place="here",
    )


def moves(*pairs: tuple[str, str], code: bytes = NOW) -> Moves:
    renames = renames_of(Move.model_validate({"from": old, "to": new}) for old, new in pairs)
    return Moves(renames, {"t.py": code}.get)


def carry_out(records: Mapping[str, Record], asked: Moves) -> dict[str, Record]:
    """The records after every move, each computed from those before it."""
    now = dict(records)
    for former in moved_recorded(Reader(now), asked).moving:
        for path, record in moved_records(Reader(now), asked, former).items():
            if record is None:
                del now[path]
            else:
                now[path] = record
    return now


ALL: dict[str, Record] = {
    **history("old"),
    **history("other"),
    deployment_path("shop", "prod"): deployed("shop", "old"),
    deployment_path("else", "prod"): deployed("else", "other"),
    dataset_path("raw"): Imported(dataset="raw", source=None, md5="d" * 32, size=1),
}
EVERYTHING = moves(
    ("model.old", "model.new"),
    ("deployment.shop", "deployment.store"),
    ("dataset.raw", "dataset.clean"),
)


def test_everything_is_as_if_it_had_always_had_its_name() -> None:
    assert carry_out(ALL, EVERYTHING) == {
        **history("new", code=NOW),
        **history("other"),
        deployment_path("store", "prod"): deployed("store", "new"),
        deployment_path("else", "prod"): deployed("else", "other"),
        dataset_path("clean"): Imported(dataset="clean", source=None, md5="d" * 32, size=1),
    }


def test_what_is_read_before_is_what_is_written() -> None:
    seen, after = moved_recorded(Reader(ALL), EVERYTHING), carry_out(ALL, EVERYTHING)
    written = moved_recorded(Reader(after), EVERYTHING)
    assert sorted(seen.moving) == ["dataset.raw", "deployment.shop@prod", "model.old"]
    assert not written.moving, "there is nothing left to do"
    assert seen.models() == written.models() == ("new", "other")
    assert seen.deployments() == written.deployments()
    for model in ("old", "new", "other"):
        assert seen.model_state(model) == written.model_state(model)
        assert seen.versions(model) == written.versions(model)
        assert seen.latest_run(model, "train") == written.latest_run(model, "train")
        state = seen.model_state(model)
        if state is not None and state.candidate is not None:
            assert seen.candidate(model, state.candidate) == written.candidate(
                model, state.candidate
            )
    for dataset in ("raw", "clean"):
        assert seen.imported(dataset) == written.imported(dataset)


@pytest.mark.parametrize("code", [BEFORE, NOW + b"\n", b"", b"\xff\x00pipelines/new/"])
def test_code_that_changed_otherwise_is_other_code(code: bytes) -> None:
    records = history("old")
    after = carry_out(records, moves(("model.old", "model.new"), code=code))
    assert after == history("new", code=BEFORE)


def test_a_name_that_changed_twice() -> None:
    chain = (("model.old", "model.between"), ("model.between", "model.new"))
    expected = history("new", code=NOW)
    assert carry_out(history("old"), moves(*chain)) == expected
    between = history("between", code=BEFORE.replace(b"'pipelines/old/", b"'pipelines/between/"))
    assert carry_out(between, moves(*chain)) == expected
    assert carry_out(expected, moves(*chain)) == expected


def test_two_histories_do_not_become_one() -> None:
    both = {**history("old"), **history("new")}
    assert carry_out(both, moves(("model.old", "model.new"))) == both


def test_what_was_deleted_before_it_was_said_to_be_renamed_is_back() -> None:
    after = carry_out(history("old", retired=True), moves(("model.old", "model.new")))
    assert after == history("new", code=NOW)


def test_a_rename_of_what_the_ledger_does_not_know() -> None:
    asked = moves(
        ("model.a", "model.b"), ("deployment.a", "deployment.b"), ("dataset.a", "dataset.b")
    )
    assert not moved_recorded(Reader(ALL), asked).moving
    assert moved_records(Reader(ALL), asked, "model.a") == {}
