"""A deployment on a host by the command line, with real Git, DVC, sshd, HAProxy and service.

systemd is a stand-in, and the environment is the tests' own: see `test_ssh.py`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from mlspec.providers.local.proxy import find_program
from tests.e2e.load import wait
from tests.e2e.sshd import SSHD, Server, lend_environment, run_server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.thorough,
    pytest.mark.skipif(SSHD is None, reason="needs sshd: apt-get install openssh-server"),
    pytest.mark.skipif(find_program() is None, reason="needs haproxy"),
]
DEPLOYMENT = "deployment.loans@host"
SPEC = """
targets:
  host:
    kind: ssh
    host: 127.0.0.1
    ssh_port: {ssh_port}
    identity_env: DEPLOY_KEY
    known_hosts: known_hosts
    port: {port}
    python: {python}
    units: user

deployments:
  loans:
    model: loans
    targets: [host]
    runtime: asgi
    resources: {{cpus: 1, memory: 2GiB}}
    auth: {{file: {tokens}}}
    limits: {{rate: 5/s}}
    smoke:
      - input: {{income: 70, age: 30}}
"""
TOKEN = "a-token-of-ada-which-is-long-enough"
ROLLOUT = """
    rollout: {strategy: canary, steps: [50%], bake: 10m}
"""


@pytest.fixture
def server(free_port: Callable[[], int]) -> Iterator[Server]:
    with run_server(free_port()) as server:
        yield server


@pytest.fixture
def host(project: Any, server: Server, free_port: Callable[[], int]) -> Iterator[Any]:
    """The trained project with a deployment on a host, not applied yet."""
    environment = {**project.environment, "DEPLOY_KEY": str(server.key)}
    found = replace(project, environment=environment)
    port = free_port()
    tokens = server.home / "loans.tokens"
    tokens.write_text(f"ada {TOKEN}\n")
    spec = SPEC.format(ssh_port=server.port, port=port, python=sys.executable, tokens=tokens)
    found.write("mlspec.yaml", found.read() + spec)
    found.write("known_hosts", server.known_hosts)
    found.mlspec("compile")
    requirements = found.read("services/loans/requirements.txt")
    lend_environment(server.home / "mlspec/loans", requirements)
    found.commit("Serve on a host")
    yield found
    found.write("mlspec.yaml", found.read().partition("\ntargets:")[0] + "\n")
    found.mlspec("apply", "--yes", "--allow-delete")
    assert list((server.home / "mlspec/loans/deployments").iterdir()) == []
    assert list((server.home / ".config/systemd/user").glob("*.service")) == []


def version_of(host: Any) -> int:
    [row] = host.json("status")["deployments"]
    body = json.dumps({"rows": [{"income": 70, "age": 30}]}).encode()
    headers = {"content-type": "application/json", "authorization": f"Bearer {TOKEN}"}
    request = urllib.request.Request(f"{row['url']}/predict", body, headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return int(json.load(answer)["version"])


def test_from_apply_to_destroy(host: Any, server: Server) -> None:
    said = host.mlspec("apply", "--yes").stderr
    assert "version 1 serves at http://127.0.0.1:" in said
    assert "of 127.0.0.1" in said
    host.commit("Record what was applied")
    host.mlspec("plan", "--detailed-exitcode")
    [row] = host.json("status")["deployments"]
    assert (row["runs"], row["state"]) == ("running", "in step")
    assert version_of(host) == 1
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{row['url']}/metrics", timeout=30)
    assert "Uvicorn running" in host.mlspec("logs", "loans").stdout

    unit = server.home / ".config/systemd/user/mlspec-loans_host_loans-blue.service"
    unit.write_text(unit.read_text().replace("MemoryMax=2147483648", "MemoryMax=1073741824"))
    changes = host.json("drift", code=2)["drift"][0]["changes"]
    assert {(each["field"], each["recorded"], each["observed"]) for each in changes} >= {
        ("blue.MemoryMax", "2147483648", "1073741824")
    }
    assert host.apply() == []
    host.mlspec("plan", "--detailed-exitcode")

    # what a plan shows of a key that changed
    host.edit("memory: 2GiB", "memory: 3GiB")
    changed = {each["field"]: each for each in host.plan()[DEPLOYMENT]["changes"]}
    assert "resources.memory" in changed
    host.edit("memory: 3GiB", "memory: 2GiB")

    host.mlspec("stop", "loans")
    host.mlspec("start", "loans")
    assert version_of(host) == 1

    host.write("known_hosts", "")
    assert "its host key is unknown" in host.held()[DEPLOYMENT]
    host.mlspec("drift", code=5)
    host.write("known_hosts", server.known_hosts)


def test_an_apply_that_is_killed_leaves_what_served(host: Any) -> None:
    host.mlspec("apply", "--yes")
    host.write("mlspec.yaml", host.read().rstrip("\n") + ROLLOUT)
    host.edit("threshold: 45", "threshold: 48")
    with subprocess.Popen(
        ["mlspec", "apply", "--yes"],
        cwd=host.root,
        env={**host.environment, "STAGE_JOURNAL": str(host.journal)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as applying:
        wait(lambda: applying.poll() is not None or version_of(host) == 2)
        assert applying.poll() is None
        os.killpg(applying.pid, signal.SIGKILL)
    wait(lambda: host.json("drift", code=None)["drift"] == [])
    assert {version_of(host) for _ in range(10)} == {1}

    host.edit("bake: 10m", "bake: 1s, min_requests: 0")
    host.mlspec("apply", "--yes")
    assert {version_of(host) for _ in range(10)} == {2}
