"""The GitHub workflow of a repository: the spec comes in, `.github/workflows/mlspec.yml` goes out.

A pull request is planned: read only, without secrets, by nobody's approval. A commit on `main` is
applied: in an environment that people protect, with a token of its own that lives for one step.
The steps call mlspec and little else, so what CI does can be done by hand.

No expression stands inside a script: values reach it as environment variables. The job that plans
installs what the *base* branch locks, so that a pull request cannot choose what checks it.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import mlspec
from mlspec.compilers.generated import GeneratedFile, header
from mlspec.compilers.pins import CHECKOUT, SETUP_PYTHON, UPLOAD_ARTIFACT, Pin
from mlspec.compilers.yaml_text import Noted, render_yaml
from mlspec.plan import canonical_json
from mlspec.spec.models import GitHub, Python, Spec

PATH = ".github/workflows/mlspec.yml"
BATCH_PATH = ".github/workflows/mlspec-batch.yml"
LOCK = "requirements.lock"
BRANCH = "main"
ENVIRONMENT = "mlspec"

_HOSTED = "ubuntu-24.04"
# Seconds: longer than the lease of a runner that vanished while it held the lock.
_APPLY = "exec mlspec apply --yes --lock-timeout 600"
# A pattern may match nothing: the first pull request comes before the first ledger.
_FETCH_LEDGER = "git fetch --no-tags origin '+refs/mlspec/*:refs/mlspec/*'"
# Later steps of a plan have no credentials, so mlspec must be content with what was fetched.
_FETCH_LEDGER_ONCE = f"{_FETCH_LEDGER}\ngit config mlspec.remote ''"
_INSTALL = (
    f'git show "$LOCKED_AT:{LOCK}" > "$RUNNER_TEMP/{LOCK}"\n'
    "pip install --no-deps --only-binary=:all: --require-hashes"
    f' --requirement "$RUNNER_TEMP/{LOCK}"'
)
# What the spec says and what training prints must not be taken for a command to the runner. The
# word that would end the silence is random and never used.
_SILENCE = "echo \"::stop-commands::$(python -I -c 'import secrets; print(secrets.token_hex())')\""
# Four spaces make any line of the plan a line of code: nothing in it is read as Markdown.
_PLAN = (
    "code=0\n"
    'mlspec plan --detailed-exitcode > "$RUNNER_TEMP/plan.txt" || code=$?\n'
    'cat "$RUNNER_TEMP/plan.txt"\n'
    'head -c 500000 "$RUNNER_TEMP/plan.txt" | sed "s/^/    /" >> "$GITHUB_STEP_SUMMARY"\n'
    'test "$code" -eq 0 || test "$code" -eq 2'
)


def compile_github(spec: Spec) -> tuple[GeneratedFile, ...]:
    """The workflows, or nothing if the spec has no `ci.github`."""
    if spec.ci.github is None:
        return ()
    return (*_compile_main(spec, spec.ci.github), *_compile_batch(spec, spec.ci.github))


def _compile_batch(spec: Spec, github: GitHub) -> Iterator[GeneratedFile]:
    """That of the deployments with a schedule, if there are any: a job for each time."""
    times: dict[str, list[str]] = {}
    for name, deployment in sorted(spec.deployments.items()):
        if deployment.batch is not None and deployment.batch.schedule is not None:
            addresses = [f"deployment.{name}@{target}" for target in deployment.targets]
            times.setdefault(deployment.batch.schedule, []).extend(addresses)
    if not times:
        return
    jobs = {}
    for number, (schedule, addresses) in enumerate(sorted(times.items()), start=1):
        select = shlex.quote(" | ".join(addresses))
        job = _apply_job(spec.python.version, github, f"{_APPLY} --select {select}")
        own = f"(github.event_name == 'workflow_dispatch' || github.event.schedule == '{schedule}')"
        guard = f"{job['if'].removesuffix(' }}')} && {own} }}}}"
        jobs[f"score-{number}"] = {**job, "name": f"Score at {schedule}", "if": guard}
    workflow = {
        "name": "mlspec batch",
        "on": {"schedule": [{"cron": each} for each in sorted(times)], "workflow_dispatch": None},
        "permissions": {},
        "defaults": {"run": {"shell": "bash"}},
        "jobs": jobs,
    }
    head = (header("the schedules of deployments of mlspec.yaml"),)
    yield GeneratedFile(BATCH_PATH, render_yaml(workflow, head=head), "project")


def _compile_main(spec: Spec, github: GitHub) -> tuple[GeneratedFile, ...]:
    source = {
        "python": spec.python.model_dump(mode="json", exclude={"image"}),
        "github": github.model_dump(mode="json"),
    }
    workflow = {
        "name": "mlspec",
        "on": {
            "pull_request": {"branches": [BRANCH]},
            "push": {"branches": [BRANCH]},
            "workflow_dispatch": None,
        },
        "permissions": {},
        "defaults": {"run": {"shell": "bash"}},
        "jobs": {
            "plan": _plan_job(spec.python.version),
            "apply": _apply_job(spec.python.version, github),
        },
    }
    text = render_yaml(workflow, head=_head(source, spec.python))
    return (GeneratedFile(PATH, text, "project"),)


def _head(source: Mapping[str, Any], python: Python) -> tuple[str, ...]:
    digest = hashlib.sha256(canonical_json(source).encode()).hexdigest()
    return (
        header("python and ci.github of mlspec.yaml"),
        f"mlspec {mlspec.__version__}, source sha256:{digest}",
        "",
        f"Pull requests into the branch {BRANCH} are planned, and {BRANCH} is applied.",
        f"Where it has another name, rename it: git branch --move {BRANCH}.",
        "",
        f"Both jobs install what {LOCK} says on {BRANCH}. Make it, and commit it, with",
        "  uv pip compile --universal --generate-hashes --only-binary :all: \\",
        f"    --python-version {shlex.quote(python.version)} --output-file {LOCK} \\",
        f"    requirements.in {shlex.quote(python.requirements)}",
        "where requirements.in names mlspec[serve] by the address of its wheel: the package of",
        "this name on a public index may be another.",
        f"Give the environment {ENVIRONMENT} required reviewers and the branch {BRANCH} alone.",
        f"Name the owners of /.github/, /mlspec.yaml and /{LOCK} in CODEOWNERS.",
    )


def _plan_job(python: str) -> dict[str, Any]:
    return {
        "name": "Plan",
        "if": "${{ github.event_name == 'pull_request' }}",
        "runs-on": _HOSTED,
        "timeout-minutes": 10,
        "permissions": {"contents": Noted("read", "to check out the pull request and the ledger")},
        "concurrency": {
            "group": "mlspec-plan-${{ github.event.pull_request.number }}",
            "cancel-in-progress": True,
        },
        "steps": [
            *_set_up(
                python,
                fetch=_FETCH_LEDGER_ONCE,
                locked_at="${{ github.event.pull_request.base.sha }}",
            ),
            _run("Validate the spec", f"{_SILENCE}\nmlspec validate"),
            _run("Compare the generated files", f"{_SILENCE}\nmlspec compile --check"),
            _run("Plan", f"{_SILENCE}\n{_PLAN}"),
            _use(
                "Keep the plan for people to read",
                UPLOAD_ARTIFACT,
                {
                    "name": "mlspec-plan",
                    "path": "${{ runner.temp }}/plan.txt",
                    "if-no-files-found": "error",
                    "retention-days": 7,
                },
            ),
        ],
    }


def _apply_job(python: str, github: GitHub, script: str = _APPLY) -> dict[str, Any]:
    home = "!github.event.repository.fork"
    if github.repository is not None:
        home = f"github.repository == '{github.repository}'"
    guards = ("github.event_name != 'pull_request'", home, f"github.ref == 'refs/heads/{BRANCH}'")
    return {
        "name": "Apply",
        "if": f"${{{{ {' && '.join(guards)} }}}}",
        "runs-on": _literal(github.runner),
        "timeout-minutes": 360,
        "environment": ENVIRONMENT,
        "permissions": {
            "contents": Noted("write", "to push the ledger, refs/mlspec/ledger"),
            "id-token": Noted("write", "to reach storage and targets without stored keys (OIDC)"),
        },
        "concurrency": {"group": f"mlspec-apply-{ENVIRONMENT}", "cancel-in-progress": False},
        "steps": [
            *_set_up(python, fetch=_FETCH_LEDGER, locked_at="${{ github.sha }}"),
            _run("Apply", f"{_SILENCE}\n{script}", env=_CREDENTIALS),
        ],
    }


# The token reaches git from the environment of one step, for one host, and no file holds it.
_CREDENTIALS = {
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "credential.${{ github.server_url }}.helper",
    "GIT_CONFIG_VALUE_0": '!f() { echo username=x-access-token; echo "password=$GIT_TOKEN"; }; f',
    "GIT_TOKEN": "${{ github.token }}",
}


def _set_up(python: str, *, fetch: str, locked_at: str) -> list[dict[str, Any]]:
    return [
        _use("Check out", CHECKOUT, {"fetch-depth": 0, "persist-credentials": False}),
        _run("Fetch the ledger", fetch, env=_CREDENTIALS),
        _use("Set up Python", SETUP_PYTHON, {"python-version": _literal(python)}),
        _run("Install what is locked", _INSTALL, env={"LOCKED_AT": locked_at}),
    ]


def _use(name: str, pin: Pin, inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "uses": pin.uses, "with": inputs}


def _run(name: str, script: str, *, env: Mapping[str, str] | None = None) -> dict[str, Any]:
    return {"name": name, **({"env": env} if env else {}), "run": script}


def _literal(text: str) -> str:
    """`text` where GitHub would evaluate expressions: an expression in it stays text."""
    return text.replace("${{", "${{ '${{' }}")
