"""What a supervisor refuses without starting anything."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from mlspec.providers.local.rundir import load_state, write_state
from mlspec.providers.local.supervisor import Refused, Settings, Supervisor

LAUNCH = {
    "digest": "r" * 64,
    "folder": "/none",
    "bento": "/none",
    "model": "risk",
    "version": 4,
    "workers": 1,
    "memory": None,
    "capture": None,
    "drain_timeout": 1.0,
}


@pytest.fixture
def obey(tmp_path):
    """Asks a supervisor whose state says that it saw the token 7."""
    write_state(tmp_path, {"release": "r" * 64, "token": 7})
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        supervisor = Supervisor(tmp_path, Settings("api", "local", port), listener)

        def obey(**command: Any) -> Any:
            return asyncio.run(supervisor._obey({"port": port, "launch": LAUNCH, **command}))

        yield obey


def test_an_apply_that_lost_the_lock_deploys_nothing(obey, tmp_path):
    with pytest.raises(Refused, match="its token is 6, and 7 was seen"):
        obey(do="deploy", token=6)
    assert not (tmp_path / "metrics").exists()
    assert load_state(tmp_path)["token"] == 7


def test_the_highest_token_is_told(obey):
    assert obey(do="status")["token"] == 7
    with pytest.raises(Refused, match="no candidate"):
        obey(do="activate", token=9)
