"""`mlspec stop`, `start` and `logs`: a deployment by hand."""

from __future__ import annotations

from pathlib import Path

from mlspec.errors import MlspecError
from mlspec.ledger.entry import make_entry
from mlspec.ledger.lock import acquire
from mlspec.ledger.paths import deployment_path
from mlspec.providers.local.rundir import SUPERVISOR_LOG
from mlspec.providers.targets import target_of
from mlspec.reconcile import Project, open_project
from mlspec.render.console import Console
from mlspec.render.style import escape
from mlspec.resources import DeploymentResource


def stop(start: Path, console: Console, *, name: str, lock_timeout: float) -> int:
    """End it; plans leave it stopped."""
    with open_project(start) as project, acquire(project.git, lock_timeout, console.note):
        project.ledger.sync()
        resource = find_deployment(project, name)
        _here(project, resource)
        target_of(project.root, resource).stop(resource.name)
        _record(project, resource, "stop", "stopped")
    console.say(f"{resource.address}: stopped; `mlspec start {name}` serves it again.")
    return 0


def start(start: Path, console: Console, *, name: str, lock_timeout: float) -> int:
    """Serve again what was served."""
    with open_project(start) as project, acquire(project.git, lock_timeout, console.note):
        project.ledger.sync()
        resource = find_deployment(project, name)
        _here(project, resource)
        try:
            running = target_of(project.root, resource).start(resource.name)
        except MlspecError:
            # It is meant to serve from now on, so the next apply brings it back.
            _record(project, resource, "start", "serving", outcome="failed")
            raise
        _record(project, resource, "start", "serving")
    console.say(f"{resource.address}: version {running.version} serves at {running.url}.")
    return 0


def logs(start: Path, console: Console, *, name: str, lines: int, every: bool) -> int:
    """The last lines of the newest log; with `every`, of every log."""
    with open_project(start) as project:
        resource = find_deployment(project, name)
        paths = target_of(project.root, resource).logs(resource.name)
    if not paths:
        raise MlspecError(f"{resource.address} has no logs on this machine")
    services = [path for path in paths if path.name != SUPERVISOR_LOG]
    for path in paths if every or not services else services[-1:]:
        console.note(f"==> {path.relative_to(project.root)}")
        text = path.read_text(encoding="utf-8", errors="replace")
        for line in text.splitlines()[-lines:]:
            console.say(escape(line))
    return 0


def find_deployment(project: Project, name: str) -> DeploymentResource:
    """By address, by `NAME@TARGET`, or by name when it has one target."""
    wanted = name.removeprefix("deployment.")
    deployments = project.resolver.desired(project.resolver.deployments())
    all_resources = list(deployments.of(DeploymentResource))
    found = [r for r in all_resources if wanted in (r.name, f"{r.name}@{r.target}")]
    if len(found) == 1:
        return found[0]
    known = ", ".join(resource.address for resource in found or all_resources) or "none"
    problem = "names more than one deployment" if found else "is not a deployment of the spec"
    raise MlspecError(f"{escape(name)} {problem}", hint=f"there are: {known}")


def _here(project: Project, resource: DeploymentResource) -> None:
    deployed = project.recorded().deployed(resource.address)
    if deployed is None:
        raise MlspecError(f"{resource.address} is not deployed", hint="run `mlspec apply`")
    if not deployed.is_at(project.place):
        raise MlspecError(
            f"{resource.address} runs on another machine or in another checkout",
            hint="run the command there",
        )


def _record(
    project: Project,
    resource: DeploymentResource,
    command: str,
    status: str,
    *,
    outcome: str = "done",
) -> None:
    deployed = project.recorded().deployed(resource.address)
    assert deployed is not None
    entry = make_entry(project.git, command).about(resource.address, command, outcome)
    record = deployed.model_copy(update={"status": status})
    project.ledger.record({deployment_path(resource.name, resource.target): record}, entry)
    project.ledger.publish()
