"""Podman as the tests of containers need it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

BASE = "docker.io/library/python:3.11-slim"
"""What images are built on. It is not pulled: these tests reach no registry but their own."""

SETTINGS = """\
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]

[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
"""For a machine that is a container itself: it may not raise limits, and has no systemd."""


def problem_of_podman(settings: Path) -> str:
    """Why containers can not be tested here; empty if they can.

    Podman's settings are written to the file `settings`, and the environment names it from then
    on, unless it names one already.
    """
    if not shutil.which("podman"):
        return "needs podman"
    if "CONTAINERS_CONF" not in os.environ:
        settings.write_text(SETTINGS)
        os.environ["CONTAINERS_CONF"] = str(settings)
    if subprocess.run(["podman", "image", "exists", BASE], check=False).returncode:
        return f"needs the image {BASE}"
    try_out = ["podman", "run", "--rm", "--network", "none", BASE, "true"]
    done = subprocess.run(try_out, capture_output=True, text=True, check=False)
    said = done.stderr.strip().splitlines() or [f"exit {done.returncode}"]
    return f"podman runs no container here: {said[-1]}" if done.returncode else ""
