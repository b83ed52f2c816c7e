"""How this interpreter is started again, for work that mlspec's own process does not do.

Comes in: a module and its arguments. Goes out: a command, and an environment for it. Used wherever
the child loads what somebody else wrote: stages, artifacts, services. And whether a process lives.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

WITHHELD = ("ACTIONS_ID_TOKEN_", "ACTIONS_RUNTIME_", "CI_JOB_TOKEN", "GIT_CONFIG_", "GIT_TOKEN")
"""Beginnings of the names of a CI job's own credentials."""

NEUTRAL_FOLDER = "/"
"""Where a child runs that needs no folder: nothing of the repository is found from there."""


def make_command(module: str, *arguments: str, python: str = sys.executable) -> list[str]:
    """`python -m module`; a module of the repository never takes the place of another (`-P`)."""
    return [python, "-P", "-m", module, *arguments]


def withhold_credentials(base: Mapping[str, str] = os.environ) -> dict[str, str]:
    """`base` without what lets a CI job write to the repository or ask for a cloud's token."""
    return {key: value for key, value in base.items() if not key.startswith(WITHHELD)}


def is_alive(pid: int) -> bool:
    """Whether there is a process of that number here, whoever's it is."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
