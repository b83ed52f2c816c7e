"""The tests of hosts once more with a real systemd, the manager of a user, and its sandbox.

They are run in a namespace of mounts that looks as if systemd had booted. Services have another
`/tmp` than the tests there, so what they need is mounted elsewhere.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mlspec.providers.local.proxy import find_program
from tests.e2e.sshd import REAL, SSHD

CHECKOUT = Path(__file__).parents[2]
SYSTEMD = Path("/lib/systemd/systemd")
ENTER = ["unshare", "--mount", "--propagation", "private"]
SCRIPT = """\
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system /run/log/journal /run/checkout /run/environment
mount --bind "$1" /run/checkout
mount --bind "$2" /run/environment
cd /run/checkout
exec /run/environment/bin/python -m pytest -q -p no:cacheprovider tests/e2e/test_ssh.py \
    -k "not built_once and not anywhere"
"""


def missing() -> str:
    """Why it can not be tried here; empty if it can."""
    for program, there in (
        ("root", os.getuid() == 0),
        ("sshd", SSHD),
        ("haproxy", find_program()),
        ("systemd", SYSTEMD.exists()),
        ("dbus-daemon", shutil.which("dbus-daemon")),
        ("unshare", shutil.which("unshare")),
    ):
        if not there:
            return f"needs {program}"
    mount = [*ENTER, "mount", "-t", "tmpfs", "tmpfs", "/run"]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        return "needs the right to mount"
    return ""


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.skipif(REAL, reason="it is what runs")
def test_all_of_it_with_a_real_systemd() -> None:
    if problem := missing():
        pytest.skip(problem)
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    done = subprocess.run(
        [*ENTER, "sh", "-c", SCRIPT, "sh", str(CHECKOUT), sys.prefix],
        env={**kept, "MLSPEC_TEST_SYSTEMD": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
