"""A port is bound once, and who has it is named."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from mlspec.providers.local.ports import PortTaken, bind_port, find_holder


@pytest.fixture
def holder():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        yield held


def test_a_bound_port_does_not_listen_yet():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    with bind_port(port) as bound, socket.socket() as line:
        assert line.connect_ex(("127.0.0.1", port)) != 0
        bound.listen()
        assert line.connect_ex(("127.0.0.1", port)) == 0


def test_a_port_in_use_is_refused(holder):
    port = holder.getsockname()[1]
    with pytest.raises(PortTaken, match=f"port {port} is in use"):
        bind_port(port)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows who holds a port")
def test_its_holder_is_found(holder):
    assert find_holder(holder.getsockname()[1]).startswith(f"process {os.getpid()} (")


def test_nobody_holds_a_free_port(holder):
    port = holder.getsockname()[1]
    holder.close()
    assert find_holder(port) == ""
