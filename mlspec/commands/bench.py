"""`mlspec bench DEPLOYMENT`: how fast a deployment that runs answers, and what that costs.

The load comes from a process of its own (:mod:`mlspec.traffic`). Its requests say that they are not
to be captured, with the token of the run folder, which who may not read that folder does not know;
in the metrics of the service they count like others.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mlspec.children import NEUTRAL_FOLDER, make_command, withhold_credentials
from mlspec.commands.deployment import find_deployment
from mlspec.errors import MlspecError
from mlspec.providers.local.rundir import CAPTURE_TOKEN, load_state, own_headers, run_folder
from mlspec.providers.target import Running
from mlspec.providers.targets import LOCAL, target_of
from mlspec.reconcile import Project, open_project
from mlspec.render.console import Console
from mlspec.render.style import escape
from mlspec.render.waiting import waiting
from mlspec.resources import DeploymentResource

WARM_UP = 1.0
MORE_SECONDS = 90.0
COLUMNS = (
    ("connections", "connections", ""),
    ("per_second", "requests/s", ".0f"),
    ("p50", "p50 ms", ".2f"),
    ("p95", "p95 ms", ".2f"),
    ("p99", "p99 ms", ".2f"),
    ("longest", "max ms", ".2f"),
    ("errors", "errors", ""),
    ("cpu", "CPU ms/request", ".3f"),
)


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What load, for how long; each is a flag of the command."""

    connections: str
    seconds: float
    rows: int
    token_env: str | None
    as_json: bool


def bench(start: Path, console: Console, name: str, options: BenchOptions) -> int:
    """Measure one number of connections after the other; exit code 1 if a request failed."""
    steps = _connections(options.connections)
    with open_project(start) as project:
        project.ledger.refresh(console.note)
        resource = find_deployment(project, name)
        running = target_of(project.root, resource).observe(resource.name)
        if running is None or running.status != "serving":
            raise MlspecError(
                f"{resource.address} does not run here",
                hint="`mlspec apply` deploys it, `mlspec start` starts one that was stopped",
            )
        if urlsplit(running.url).scheme != "http":
            raise MlspecError(
                f"{resource.address} answers at {running.url}, which is no plain HTTP to measure",
                hint="measure it on a target of kind local, or with a tool for load beside it",
            )
        rows = _rows(project, resource, running)
        processes = _processes(project.root, resource)
        spared = _uncaptured(project.root, resource)
        if resource.deployment.capture and not spared:
            console.note(f"{resource.address} captures requests of this measurement like others.")
        headers = spared | _admission(project.root, resource, options.token_env)
    body = json.dumps({"rows": [rows[each % len(rows)] for each in range(options.rows)]})
    measured = []
    for connections in steps:
        with waiting(f"{connections} connection{'s' if connections > 1 else ''}"):
            measured.append(
                _measure(running.url, body, headers, connections, options.seconds, processes)
            )
    if options.as_json:
        console.say_json(
            {
                "deployment": resource.address,
                "model": running.model,
                "version": running.version,
                "workers": running.workers,
                "rows": options.rows,
                "bytes": len(body),
                "measured": measured,
            }
        )
    else:
        _tell(console, resource, running, options, measured)
    return int(any(each["errors"] for each in measured))


def _connections(text: str) -> list[int]:
    try:
        steps = [int(part) for part in text.split(",")]
    except ValueError:
        steps = [0]
    if not all(1 <= step <= 1000 for step in steps):
        raise MlspecError(
            f"--connections {escape(text)} is not a list of numbers from 1 to 1000",
            hint="write it as 1,16",
        )
    return steps


def _rows(
    project: Project, resource: DeploymentResource, running: Running
) -> Sequence[Mapping[str, Any]]:
    """Its smoke rows, else the example of what the version takes."""
    if resource.smoke:
        return resource.smoke
    version = project.recorded().version(running.model, running.version)
    if version is None or not version.signature:
        raise MlspecError(
            f"nothing is known of what {resource.address} takes",
            hint=f"give deployments.{resource.name} a `smoke` request",
        )
    return [version.signature["example"]]


def _processes(root: Path, resource: DeploymentResource) -> tuple[int, ...]:
    """The supervisor, with all that it started; of other targets the processes are not known."""
    if resource.kind != LOCAL:
        return ()
    state = load_state(run_folder(root, resource.name, resource.target))
    return (int(state["pid"]),) if state else ()


def _admission(root: Path, resource: DeploymentResource, variable: str | None) -> dict[str, str]:
    """The header with a token: that of an environment variable, else mlspec's own if there is."""
    if variable is None:
        if resource.kind != LOCAL:
            return {}
        return own_headers(run_folder(root, resource.name, resource.target))
    token = os.environ.get(variable, "").strip()
    if not token or not token.isascii() or not token.isprintable():
        raise MlspecError(
            f"the environment variable {escape(variable)} has no token",
            hint="--token-env takes the name of one that has",
        )
    return {"authorization": f"Bearer {token}"}


def _uncaptured(root: Path, resource: DeploymentResource) -> dict[str, str]:
    """What keeps a request from being captured; nothing where no token is at hand."""
    try:
        token = (run_folder(root, resource.name, resource.target) / CAPTURE_TOKEN).read_text()
    except OSError:
        return {}
    return {"x-mlspec-capture": f"no {token}"}


def _measure(
    url: str,
    body: str,
    headers: Mapping[str, str],
    connections: int,
    seconds: float,
    processes: Sequence[int],
) -> dict[str, Any]:
    place = urlsplit(url)
    load = {
        "host": place.hostname,
        "port": place.port or 80,
        "path": f"{place.path.rstrip('/')}/predict",
        "body": body,
        "headers": dict(headers),
        "connections": connections,
        "seconds": seconds,
        "warm_up": min(WARM_UP, seconds),
        "processes": list(processes),
    }
    try:
        done = subprocess.run(
            make_command("mlspec.traffic"),
            input=json.dumps(load).encode(),
            cwd=NEUTRAL_FOLDER,
            env=withhold_credentials(),
            capture_output=True,
            timeout=seconds + MORE_SECONDS,
            check=False,
        )
        answer: dict[str, Any] = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        raise MlspecError(f"{url} could not be measured: the load did not end") from None
    if "problem" in answer:
        raise MlspecError(f"{url} could not be measured: {answer['problem']}")
    return answer


def _tell(
    console: Console,
    resource: DeploymentResource,
    running: Running,
    options: BenchOptions,
    measured: Sequence[Mapping[str, Any]],
) -> None:
    workers = f"{running.workers} worker{'s' if running.workers != 1 else ''}"
    rows = f"{options.rows} row{'s' if options.rows != 1 else ''} a request"
    console.say(
        f"{resource.address}: version {running.version}, {workers}, {rows}, "
        f"{options.seconds:g} s each"
    )
    lines = [[title for _, title, _ in COLUMNS]]
    lines += [[_shown(each[key], form) for key, _, form in COLUMNS] for each in measured]
    widths = [max(len(line[place]) for line in lines) for place in range(len(COLUMNS))]
    for line in lines:
        console.say("  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)))
    for each in measured:
        if each["errors"]:
            statuses = ", ".join(
                f"{count} × {status}" for status, count in each["statuses"].items()
            )
            console.note(f"With {each['connections']} connections: {statuses}.")
        if each["client_cpu"] > 0.9:
            console.note(
                f"With {each['connections']} connections the client was the limit, not the service."
            )


def _shown(value: Any, form: str) -> str:
    return "-" if value is None else format(value, form)
