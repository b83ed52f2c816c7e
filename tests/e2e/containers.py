"""Podman as the tests of containers need it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

BASE = "docker.io/library/python:3.11-slim"
"""What images are built on. It is not pulled: these tests reach no registry but their own."""

PROXY = f"localhost/mlspec-test-haproxy:{os.getpid()}"
"""HAProxy's own image, made of the program that is installed, to pull none. Others that run these
tests meanwhile have their own: a tag that moves is another HAProxy."""
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


def make_proxy_image(program: str, folder: Path) -> str:
    """HAProxy with the libraries that it needs, and nothing else."""
    told = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    for path in [program, *(word for word in told.split() if word.startswith("/"))]:
        to = folder / "root" / path.lstrip("/")
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, to)
    file = str(folder / "root.tar")
    subprocess.run(["tar", "-C", str(folder / "root"), "-cf", file, "."], check=True)
    subprocess.run(["podman", "import", "--quiet", file, PROXY], check=True, capture_output=True)
    return PROXY
