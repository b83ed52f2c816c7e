"""Names alone, as people write them, and addresses that the ledger has nothing at."""

from __future__ import annotations

from typing import Any

import pytest

from mlspec.commands.named import FORMS, find_address, unknown_address
from mlspec.errors import MlspecError
from mlspec.ledger import paths
from mlspec.ledger.records import Deployed, Imported, ModelState, Version
from mlspec.ledger.state import Recorded

VERSION: dict[str, Any] = {
    "fingerprint": "f" * 64,
    "stages": {},
    "artifact": None,
    "signature": None,
    "metrics": {},
    "verdicts": (),
    "commit": "c" * 40,
}


def deployed(name: str, target: str) -> Deployed:
    return Deployed(
        deployment=name,
        target=target,
        model="churn",
        version=1,
        release="r",
        status="serving",
        place="here",
    )


@pytest.fixture
def recorded() -> Recorded:
    data = Imported(dataset="loans", source=None, md5="0" * 32, size=1)
    return Recorded.of(
        {
            paths.state_path("churn"): ModelState(runs={"train": "f" * 64}, version=1),
            paths.version_path("churn", 1): Version(model="churn", number=1, **VERSION),
            paths.state_path("both"): ModelState(),
            paths.dataset_path("both"): data.model_copy(update={"dataset": "both"}),
            paths.dataset_path("loans"): data,
            paths.deployment_path("churn", "local"): deployed("churn", "local"),
            paths.deployment_path("scores", "local"): deployed("scores", "local"),
            paths.deployment_path("twice", "a"): deployed("twice", "a"),
            paths.deployment_path("twice", "b"): deployed("twice", "b"),
        }
    )


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("churn", "model.churn"),
        ("churn@1", "model.churn@1"),
        ("loans", "dataset.loans"),
        ("scores", "deployment.scores@local"),
        ("twice@b", "deployment.twice@b"),
        ("model.anything", "model.anything"),
    ],
)
def test_a_name_alone_is_enough(written: str, address: str, recorded: Recorded) -> None:
    assert find_address(written, recorded) == address


@pytest.mark.parametrize(
    ("written", "message", "hint"),
    [
        (
            "both",
            "more than one thing has the name `both`",
            "write one of: model.both, dataset.both",
        ),
        (
            "twice",
            "more than one thing has the name `twice`",
            "write one of: deployment.twice@a, deployment.twice@b",
        ),
        ("chrun", "the ledger has nothing of the name `chrun`", "did you mean `churn`?"),
        ("score", "the ledger has nothing of the name `score`", "did you mean `scores`?"),
        ("nothing-alike", "the ledger has nothing of the name `nothing-alike`", FORMS),
    ],
)
def test_a_name_that_is_not_enough(
    written: str, message: str, hint: str, recorded: Recorded
) -> None:
    with pytest.raises(MlspecError) as error:
        find_address(written, recorded)
    assert (error.value.message, error.value.hint) == (message, hint)


@pytest.mark.parametrize(
    ("address", "hint"),
    [
        ("model.chrun", "did you mean `model.churn`?"),
        ("model.churn@7", "known: model.churn@1"),
        ("model.both@7", "no version of it is registered yet"),
        ("model.chrun@1", "did you mean `model.churn@1`?"),
        ("stage.chrun.train", "did you mean `stage.churn.train`?"),
        ("stage.churn.tarin", "did you mean `stage.churn.train`?"),
        ("stage.both.train", "no run of it is recorded yet"),
        ("stage.churn.x", "known: stage.churn.train"),
        ("deployment.scores@lokal", "did you mean `deployment.scores@local`?"),
        ("dataset.nowhere", FORMS),
        ("mdoel.churn", "did you mean `model.churn`?"),
        ("data/loans.csv", FORMS),
    ],
)
def test_an_address_that_there_is_not(address: str, hint: str, recorded: Recorded) -> None:
    assert unknown_address(address, recorded).hint == hint
