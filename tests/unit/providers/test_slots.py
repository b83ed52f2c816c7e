"""What happens to two slots when something goes wrong."""

from __future__ import annotations

import pytest

from mlspec.errors import MlspecError, RolledBack
from mlspec.providers.slots import Look, NotUp, SlotTrial, trying


def make_trial(done, *, settled):
    return SlotTrial(
        lambda: Look(None, None, ""),
        give=done.append,
        take=lambda: done.append("take"),
        leave=lambda: done.append("leave"),
        settled=lambda: settled,
    )


@pytest.mark.parametrize("settled", [False, True])
def test_what_fails_is_taken_back_unless_it_is_settled(settled):
    done = []
    trial = make_trial(done, settled=settled)
    with pytest.raises(MlspecError, match="lost"), trying(trial, lambda: None, "failed"):
        try:
            trial.promote()
            raise MlspecError("lost")
        except MlspecError:  # as whoever drives a rollout does
            trial.abort()
            raise
    assert ("leave" in done) is not settled


def test_what_haproxy_does_not_reach_is_rolled_back():
    def prepare():
        raise NotUp("no way")

    done = []
    trial = make_trial(done, settled=False)
    with pytest.raises(RolledBack, match="failed: no way"), trying(trial, prepare, "failed"):
        pass
    assert done == ["leave"]
