"""A rollback is a commit: it deploys an earlier version, trains nothing, and it sticks."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.slow
DEPLOYMENT = "deployment.loans@local"
TRAINED = ["train", "evaluate"]


def test_a_rollback_sticks_until_there_is_something_better(served: Any) -> None:
    served.edit("threshold: 45", "threshold: 48")
    served.commit("Take less risk")
    assert served.apply() == TRAINED
    assert served.ask(70) == (2, 22.0)
    head = served.commit("Record what was applied")

    served.write("notes.txt", "not a part of it\n")
    served.git("add", "notes.txt")
    said = served.mlspec("rollback", "loans", "--reason", "wrong on weekends").stdout
    assert said.startswith(f"{DEPLOYMENT}: version 1 pinned, version 2 quarantined (mlspec.yaml).")
    assert served.git("rev-parse", "HEAD~1") == head
    assert served.git("show", "--format=%s", "--name-only").split("\n") == [
        f"Roll {DEPLOYMENT} back to version 1",
        "",
        "mlspec.yaml",
    ]
    assert served.git("status", "--porcelain") == "A  notes.txt"

    step = served.plan()[DEPLOYMENT]
    assert (step["action"], step["reason"]) == ("rollback", "the spec pins version 1")
    assert served.apply() == []
    assert served.ask(70) == (1, 25.0)
    assert served.held() == {"model.loans": "version 2 is quarantined: wrong on weekends"}
    served.check_settled()
    assert served.apply() == [], "a second apply does not bring it back"

    served.edit("    pin: {local: 1}\n", "")
    served.edit("AGE_WEIGHT = 0.0", "AGE_WEIGHT = 0.00", "src/train.py")
    assert served.apply() == ["train"]
    same = "version 3 is the same as version 2, which is quarantined: wrong on weekends"
    assert served.held() == {"model.loans": same}
    assert served.ask(70) == (1, 25.0), "another number does not make it another model"

    served.git("checkout", "mlspec.yaml")
    served.edit("threshold: 48", "threshold: 47")
    assert served.apply() == TRAINED
    waits = "the spec pins version 1; version 4, accepted, has to wait"
    assert served.held() == {DEPLOYMENT: waits}
    assert served.ask(70) == (1, 25.0)
    served.edit("    pin: {local: 1}\n", "")
    assert served.apply() == []
    assert served.ask(70) == (4, 23.0)


def test_with_a_remote_it_is_a_branch_to_merge(served: Any) -> None:
    served.edit("threshold: 45", "threshold: 48")
    assert served.apply() == TRAINED
    refused = served.mlspec("rollback", DEPLOYMENT, code=1).stderr
    assert "mlspec.yaml has changes that are not committed" in refused
    head = served.commit("Take less risk")
    remote = served.root.parent / "remote.git"
    served.git("init", "--quiet", "--bare", str(remote))
    served.git("remote", "add", "origin", str(remote))

    made = served.json("rollback", DEPLOYMENT, "--to", "1")
    branch = "mlspec/rollback-loans-local-1"
    assert (made["from"], made["to"], made["branch"]) == (2, 1, branch)
    assert served.git("ls-remote", "origin", branch).split()[0] == made["commit"]
    assert served.git("rev-parse", "HEAD") == head
    assert served.git("status", "--porcelain") == ""
    assert served.plan() == {}, "nothing is asked for before it is merged"
    assert f"the branch {branch} is there" in served.mlspec("rollback", "loans", code=1).stderr

    served.git("merge", "--quiet", "--ff-only", branch)
    assert served.apply() == []
    assert served.ask(70) == (1, 25.0)
    refused = served.mlspec("rollback", "loans", code=1).stderr
    assert "has no accepted version before version 1" in refused
