from __future__ import annotations

import pytest

from mlspec.errors import MlspecError
from mlspec.ledger import paths

FINGERPRINT = "0123456789abcdef" * 4
HOSTILE = ["", ".", "..", "../x", "a/b", "/x", ".git", "a\nb", "a b", "a@b", "-x", "ü", "x" * 200]


def test_each_record_has_its_place() -> None:
    shard = paths.model_path("credit-risk").split("/")[1]
    assert len(shard) == 2
    model = f"models/{shard}/credit-risk"
    assert paths.state_path("credit-risk") == f"{model}/state.json"
    assert paths.version_path("credit-risk", 3) == f"{model}/versions/3.json"
    run = paths.run_path("credit-risk", "train", FINGERPRINT)
    assert run == f"{model}/runs/train/{FINGERPRINT[:32]}.json"
    candidate = paths.candidate_path("credit-risk", FINGERPRINT)
    assert candidate == f"{model}/candidates/{FINGERPRINT[:32]}.json"
    assert paths.deployment_path("scores", "local").endswith("/scores@local.json")
    assert paths.dataset_path("loans").startswith("datasets/")


def test_many_models_are_spread() -> None:
    shards = {paths.model_path(f"model-{number}").split("/")[1] for number in range(10_000)}
    assert len(shards) == 256


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_have_no_place(name: str) -> None:
    for place in (
        lambda: paths.state_path(name),
        lambda: paths.run_path("model", name, FINGERPRINT),
        lambda: paths.deployment_path(name, "local"),
        lambda: paths.deployment_path("scores", name),
        lambda: paths.dataset_path(name),
        lambda: paths.candidate_path("model", name),
    ):
        with pytest.raises(MlspecError):
            place()


@pytest.mark.parametrize("path", ["ledger.json", "../x", "a//b", "/a", "a/", "a/.git/b", "a\0b"])
def test_paths_that_lead_elsewhere(path: str) -> None:
    with pytest.raises(MlspecError, match="cannot be the path"):
        paths.check_path(path)
