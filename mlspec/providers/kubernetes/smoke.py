"""Asks a pod for answers to the smoke rows, from its inside: no request of a client reaches it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlspec.compilers.containerfile import PYTHON
from mlspec.compilers.kubernetes import CONTAINER
from mlspec.providers.inside import SMOKE_CODE, SMOKE_SECONDS, judge_smoke, smoke_input
from mlspec.providers.kubernetes.kubectl import Kubectl


def check_smoke(kubectl: Kubectl, workload: str, rows: Sequence[Mapping[str, Any]]) -> str | None:
    """Why a row was not answered as it should be; nothing if all were."""
    told = kubectl.run(
        "exec",
        "--stdin",
        f"deployment/{workload}",
        f"--container={CONTAINER}",
        "--",
        PYTHON,
        "-c",
        SMOKE_CODE,
        stdin=smoke_input(rows),
        seconds=SMOKE_SECONDS,
    )
    return judge_smoke(told, len(rows))
