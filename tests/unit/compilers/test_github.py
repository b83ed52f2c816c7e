from __future__ import annotations

import io
import re
from typing import Any

import pytest
import yaml
from ruamel.yaml import YAML

from mlspec import __version__
from mlspec.compilers.generated import MARK
from mlspec.compilers.github import compile_github
from mlspec.spec.models import Spec

HOSTILE = [
    "x\njobs: {}",
    "${{ github.event.pull_request.title }}",
    "a: b # c",
    "'; rm -rf / #",
    "$(id)",
    "::set-env name=a::b",
    "no",
    "1e3",
    "\u2028x: y",
]


def _spec(
    *,
    runner: str = "ubuntu-24.04",
    python: str = "3.11",
    repository: str | None = "acme/credit-risk",
    **more: Any,
) -> Spec:
    return Spec.model_validate(
        {
            "mlspec": 1,
            "project": "credit-risk",
            "python": {"version": python},
            "ci": {"github": {"runner": runner, "repository": repository}},
            **more,
        },
        strict=False,
    )


def _text(spec: Spec) -> str:
    (workflow,) = compile_github(spec)
    assert workflow.path == ".github/workflows/mlspec.yml"
    assert workflow.owner == "project"
    return workflow.text


def _read(text: str) -> dict[str, Any]:
    data = yaml.safe_load(text)
    assert YAML(typ="safe", pure=True).load(io.StringIO(text)) == data
    assert isinstance(data, dict)
    return data


def _jobs(spec: Spec | None = None) -> dict[str, Any]:
    jobs = _read(_text(spec or _spec()))["jobs"]
    assert isinstance(jobs, dict)
    return jobs


def _scripts(job: dict[str, Any]) -> list[str]:
    return [step["run"] for step in job["steps"] if "run" in step]


def test_no_ci_no_workflow() -> None:
    assert compile_github(Spec(mlspec=1, project="p")) == ()


def test_only_pull_requests_the_main_branch_and_people_start_it() -> None:
    assert _read(_text(_spec()))["on"] == {
        "pull_request": {"branches": ["main"]},
        "push": {"branches": ["main"]},
        "workflow_dispatch": None,
    }


def test_each_job_has_its_own_permissions_each_with_a_reason() -> None:
    text = _text(_spec())
    assert _read(text)["permissions"] == {}
    assert _jobs()["plan"]["permissions"] == {"contents": "read"}
    assert _jobs()["apply"]["permissions"] == {"contents": "write", "id-token": "write"}
    assert len(re.findall(r'^      [a-z-]+: "(?:read|write)" # to .+$', text, re.MULTILINE)) == 3


def test_actions_are_pinned_by_commit_and_named_by_release() -> None:
    lines = [line for line in _text(_spec()).splitlines() if "uses:" in line]
    pinned = r' +uses: "[a-z]+/[a-z-]+@[0-9a-f]{40}" # v[0-9]+\.[0-9]+\.[0-9]+'
    assert len(lines) == 5
    assert all(re.fullmatch(pinned, line) for line in lines)


def test_a_checkout_leaves_no_token_behind() -> None:
    for job in _jobs().values():
        (checkout,) = (step for step in job["steps"] if "checkout" in step.get("uses", ""))
        assert checkout["with"] == {"fetch-depth": 0, "persist-credentials": False}


def test_a_plan_fetches_the_ledger_once_for_later_steps_have_no_credentials() -> None:
    fetch = "git fetch --no-tags origin '+refs/mlspec/*:refs/mlspec/*'"
    for name, script in (("plan", f"{fetch}\ngit config mlspec.remote ''"), ("apply", fetch)):
        (step,) = (s for s in _jobs()[name]["steps"] if s["name"] == "Fetch the ledger")
        assert step["run"] == script
        assert "GIT_TOKEN" in step["env"]
    for step in _jobs()["plan"]["steps"]:
        assert ("GIT_TOKEN" in step.get("env", {})) == (step["name"] == "Fetch the ledger")


def test_the_head_names_the_branch() -> None:
    assert "# Pull requests into the branch main are planned, and main is applied" in _text(_spec())


def test_no_script_holds_an_expression_and_variables_come_from_a_fixed_list() -> None:
    allowed = {
        "github.server_url",
        "github.token",
        "github.sha",
        "github.event.pull_request.base.sha",
    }
    for job in _jobs().values():
        for step in job["steps"]:
            assert "${{" not in step.get("run", "")
            for value in step.get("env", {}).values():
                assert set(re.findall(r"\$\{\{ (.*?) \}\}", value)) <= allowed


@pytest.mark.parametrize(
    ("job", "commit"),
    [("plan", "${{ github.event.pull_request.base.sha }}"), ("apply", "${{ github.sha }}")],
)
def test_what_is_installed_is_locked_by_a_commit_on_the_branch(job: str, commit: str) -> None:
    (step,) = (step for step in _jobs()[job]["steps"] if "pip" in step.get("run", ""))
    assert step["env"] == {"LOCKED_AT": commit}
    assert step["run"].splitlines() == [
        'git show "$LOCKED_AT:requirements.lock" > "$RUNNER_TEMP/requirements.lock"',
        (
            "pip install --no-deps --only-binary=:all: --require-hashes"
            ' --requirement "$RUNNER_TEMP/requirements.lock"'
        ),
    ]


def test_the_plan_has_no_secret_and_no_environment_and_is_cut_short_by_a_newer_one() -> None:
    plan = _jobs()["plan"]
    assert plan["if"] == "${{ github.event_name == 'pull_request' }}"
    assert plan["timeout-minutes"] == 10
    assert plan["concurrency"]["cancel-in-progress"] is True
    assert "environment" not in plan
    assert "${{ secrets." not in _text(_spec())


def test_the_apply_is_guarded_waits_its_turn_and_ends_with_mlspec() -> None:
    apply = _jobs()["apply"]
    assert apply["environment"] == "mlspec"
    assert apply["concurrency"] == {"group": "mlspec-apply-mlspec", "cancel-in-progress": False}
    assert apply["timeout-minutes"] == 360
    assert (
        apply["steps"][-1]["run"].splitlines()[-1] == "exec mlspec apply --yes --lock-timeout 600"
    )
    assert apply["if"] == (
        "${{ github.event_name != 'pull_request' && github.repository == 'acme/credit-risk'"
        " && github.ref == 'refs/heads/main' }}"
    )


def test_without_a_known_repository_apply_runs_in_any_that_is_no_fork() -> None:
    assert "!github.event.repository.fork" in _jobs(_spec(repository=None))["apply"]["if"]


def test_apply_takes_nothing_from_the_plan() -> None:
    text = _text(_spec())
    assert "download-artifact" not in text
    assert "cache" not in text
    assert "needs" not in _jobs()["apply"]


def test_the_artifact_is_one_named_file_for_a_week() -> None:
    assert _jobs()["plan"]["steps"][-1]["with"] == {
        "name": "mlspec-plan",
        "path": "${{ runner.temp }}/plan.txt",
        "if-no-files-found": "error",
        "retention-days": 7,
    }


def test_the_runner_takes_no_command_from_what_mlspec_prints() -> None:
    for job in _jobs().values():
        for script in _scripts(job):
            if "mlspec " in script:
                assert script.startswith('echo "::stop-commands::$(python -I -c ')
            assert "set -x" not in script


def test_a_runner_of_ones_own_is_for_apply_alone() -> None:
    jobs = _jobs(_spec(runner="gpu-box"))
    assert jobs["plan"]["runs-on"] == "ubuntu-24.04"
    assert jobs["apply"]["runs-on"] == "gpu-box"


@pytest.mark.parametrize("text", HOSTILE)
def test_values_of_the_spec_stay_values(text: str) -> None:
    plain, hostile = _jobs(), _jobs(_spec(runner=text, python=text, project=text))
    quoted = text.replace("${{", "${{ '${{' }}")
    assert hostile["apply"]["runs-on"] == quoted
    for job in hostile.values():
        (step,) = (step for step in job["steps"] if "setup-python" in step.get("uses", ""))
        assert step["with"] == {"python-version": quoted}
        step["with"] = {"python-version": "3.11"}
    hostile["apply"]["runs-on"] = "ubuntu-24.04"
    assert hostile == plain


def test_hostile_requirements_stay_in_their_comment() -> None:
    spec = _spec(python="3.11\nx: y")
    named = spec.model_copy(
        update={"python": spec.python.model_copy(update={"requirements": "a\nb: c"})}
    )
    assert set(_read(_text(named))) == set(_read(_text(_spec())))


def test_the_head_says_by_what_and_from_what_and_changes_only_with_it() -> None:
    text = _text(_spec())
    first, second, *_ = text.splitlines()
    assert first.startswith(f"# {MARK} from python and ci.github of mlspec.yaml")
    assert re.fullmatch(rf"# mlspec {re.escape(__version__)}, source sha256:[0-9a-f]{{64}}", second)
    assert _text(_spec(datasets={"d": {"path": "d.csv"}})) == text
    assert _text(_spec(python="3.12")).splitlines()[1] != second
    assert _text(_spec(repository=None)).splitlines()[1] != second


def test_schedules_have_a_workflow_with_a_job_for_each_time() -> None:
    assert [file.path for file in compile_github(_spec())] == [".github/workflows/mlspec.yml"]
    times = {"a": "0 3 * * *", "b": "0 3 * * *", "c": "*/5 * 1 * 1-5", "d": None}
    deployments = {
        name: {
            "model": "m",
            "targets": ["scoring"],
            "batch": {"input": "rows", "output": f"{name}.csv", "schedule": schedule},
        }
        for name, schedule in times.items()
    }
    spec = _spec(targets={"scoring": {"kind": "batch"}}, deployments=deployments)
    main, batch = compile_github(spec)
    assert main == compile_github(_spec())[0]
    assert batch.path == ".github/workflows/mlspec-batch.yml"
    assert MARK in batch.text
    workflow = _read(batch.text)
    on = workflow[True] if True in workflow else workflow["on"]
    assert on["schedule"] == [{"cron": "*/5 * 1 * 1-5"}, {"cron": "0 3 * * *"}]
    jobs = workflow["jobs"].values()
    assert [job["name"] for job in jobs] == ["Score at */5 * 1 * 1-5", "Score at 0 3 * * *"]
    last = [*jobs][1]
    assert "github.event.schedule == '0 3 * * *'" in last["if"]
    assert last["environment"] == "mlspec"
    script = last["steps"][-1]["run"]
    assert script.endswith(" --select 'deployment.a@scoring | deployment.b@scoring'")
