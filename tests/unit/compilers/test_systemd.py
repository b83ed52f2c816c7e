"""Units that systemd takes, and that say what a release was made with."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlspec.compilers.systemd import (
    Track,
    Workload,
    compile_units,
    parse_unit,
    render_haproxy,
    render_unit,
    unit_name,
)

SETTINGS: dict[str, Any] = {
    "cpus": 1.5,
    "memory": 2**29,
    "capture": {"sample": 0.5},
    "port": 8080,
    "auth": {"file": "/etc/mlspec/loans.tokens"},
    "ssh": {"project": "credit", "listen": "0.0.0.0"},
}
TRACK = Track(
    slot="green",
    model="loans",
    version=3,
    release="abc",
    files="/opt/mlspec/credit/releases/abc",
    python="/usr/bin/python3",
    bentoml=False,
    workers=2,
)
WORKLOAD = Workload(
    deployment="loans",
    target="prod",
    settings=SETTINGS,
    folder="/opt/mlspec/credit/deployments/loans@prod",
    haproxy="/usr/sbin/haproxy",
    system=True,
    ports={"blue": 20001, "green": 20002},
    state="mlspec-credit_prod_former",
    track=TRACK,
)


def service(workload: Workload) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, value in compile_units(workload)[workload.track.slot]["Service"]:
        found.setdefault(key, []).append(value)
    return found


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
@pytest.mark.parametrize("system", [True, False], ids=["system", "user"])
@pytest.mark.parametrize("bentoml", [True, False], ids=["bentoml", "asgi"])
def test_systemd_takes_them(tmp_path: Path, system: bool, bentoml: bool) -> None:
    workload = replace(
        WORKLOAD,
        system=system,
        haproxy="/bin/true",  # verify wants the programs to be there
        track=replace(TRACK, bentoml=bentoml, python="/bin/true", files="/opt/ml spec/100%/$x"),
    )
    files = []
    for part, unit in compile_units(workload).items():
        files.append(tmp_path / unit_name(workload.stem, part))
        files[-1].write_text(render_unit(unit, "loans"))
    manager = "--system" if system else "--user"
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", manager, *map(str, files)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_limits_and_sandbox() -> None:
    found = service(WORKLOAD)
    assert (found["CPUQuota"], found["MemoryMax"]) == (["150%"], ["536870912"])
    assert found["DynamicUser"] == found["NoNewPrivileges"] == ["yes"]
    assert found["ProtectSystem"] == ["strict"]
    assert '"MLSPEC_CAPTURE_SAMPLE=0.5"' in found["Environment"]
    assert found["StateDirectory"] == ["mlspec/mlspec-credit_prod_former-green"]
    assert found["LoadCredential"] == ["tokens:/etc/mlspec/loans.tokens"]
    assert '"MLSPEC_TOKENS=%d/tokens"' in found["Environment"]
    of_user = service(replace(WORKLOAD, system=False))
    assert of_user["NoNewPrivileges"] == ["yes"]
    assert '"MLSPEC_TOKENS=/etc/mlspec/loans.tokens"' in of_user["Environment"]
    # a user's manager may drop no capabilities, and would not start a unit that asks for it
    assert of_user.keys().isdisjoint({"DynamicUser", "CapabilityBoundingSet", "PrivateDevices"})


def test_nothing_is_expanded_that_was_not_meant_to_be() -> None:
    track = replace(TRACK, python='/opt/a b/%n/$HOME/"/python', files="/opt/%h")
    found = service(replace(WORKLOAD, track=track))
    assert found["ExecStart"][0].startswith('"/opt/a b/%%n/$$HOME/\\"/python" -m uvicorn ')
    assert found["WorkingDirectory"] == ["/opt/%%h"]


def test_what_is_written_is_read_again() -> None:
    unit = compile_units(WORKLOAD)["proxy"]
    assert parse_unit(render_unit(unit, "loans")) == {key: list(unit[key]) for key in unit}


@pytest.mark.skipif(not shutil.which("haproxy", path="/usr/sbin:/usr/bin"), reason="needs haproxy")
def test_haproxy_takes_its_configuration(tmp_path: Path) -> None:
    config = tmp_path / "haproxy.cfg"
    config.write_text(render_haproxy(WORKLOAD))
    assert "server green1 127.0.0.1:20002 weight 200" in config.read_text()
    assert "server blue1 127.0.0.1:20001 weight 0" in config.read_text()
    program = shutil.which("haproxy", path="/usr/sbin:/usr/bin")
    assert (
        subprocess.run([str(program), "-c", "-q", "-f", str(config)], check=False).returncode == 0
    )
