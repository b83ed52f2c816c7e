"""`mlspec serve`, `predict`, `bench` and `trace`, on the small project with its real model."""

from __future__ import annotations

import csv
import json
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mlspec.captures import read_rows
from tests.e2e.conftest import MakeProject, Project

pytestmark = pytest.mark.slow
PATIENCE = 120.0


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


@contextmanager
def running(project: Project, *arguments: str, **extra: str) -> Iterator[subprocess.Popen[str]]:
    """A command that is still at work; killed if the block fails."""
    process = subprocess.Popen(
        ["mlspec", *arguments],
        cwd=project.root,
        env={**project.environment, **extra},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def post(url: str, rows: list[dict[str, float]], identity: str = "") -> dict[str, object]:
    headers = {"content-type": "application/json"}
    headers |= {"x-request-id": identity} if identity else {}
    request = urllib.request.Request(f"{url}/predict", json.dumps({"rows": rows}).encode(), headers)
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        content: dict[str, object] = json.load(answer)
    return content


def ledger(project: Project) -> str:
    return project.git("rev-parse", "refs/mlspec/ledger")


def test_serve_is_gone_when_it_ends(project: Project, tmp_path: Path) -> None:
    before = ledger(project)
    with running(project, "serve", "loans", TMPDIR=str(tmp_path)) as serving:
        assert serving.stdout is not None
        said = serving.stdout.readline()
        found = re.search(r"version 1 of loans answers at (http://127\.0\.0\.1:\d+)", said)
        assert found, said
        url = found[1]
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            page = answer.read().decode()
            assert "script-src 'nonce-" in answer.headers["content-security-policy"]
        assert '"model": "loans"' in page
        with urllib.request.urlopen(f"{url}/schema.json", timeout=PATIENCE) as answer:
            assert json.load(answer)["routes"][0]["route"] == "/predict"
        predicted = post(url, [{"income": 70, "age": 30}, {"income": 20, "age": 30}])
        assert (predicted["version"], len(predicted["predictions"])) == (1, 2)  # type: ignore[arg-type]
        serving.send_signal(signal.SIGINT)
        _, errors = serving.communicate(timeout=PATIENCE)
        assert serving.returncode == 130, errors
        assert "Traceback" not in errors
    assert list(tmp_path.glob("mlspec-*")) == []
    assert ledger(project) == before
    assert not (project.root / ".mlspec/run").exists()
    assert project.git("status", "--porcelain") == ""


def test_what_cannot_be_served_is_said(project: Project) -> None:
    assert "did you mean `loans`?" in project.mlspec("serve", "loan", code=1).stderr
    assert "there are: 1" in project.mlspec("serve", "loans", "--version", "2", code=1).stderr
    project.edit("threshold: 45", "threshold: 46")
    (project.root / "models/loans.onnx").unlink()
    failed = project.mlspec("serve", "loans", "--working-tree", code=1)
    assert "models/loans.onnx, the artifact of model.loans, is not in the worktree" in failed.stderr


def test_predict_gives_what_the_service_answers(served: Project, tmp_path: Path) -> None:
    rows = [{"income": 10.5 * n, "age": 20 + n} for n in range(7)]
    url = f"http://127.0.0.1:{served.serving()['port']}"
    answered = post(url, rows)["predictions"]
    lines = [f"{n},{row['age']},{row['income']}" for n, row in enumerate(rows)]
    (tmp_path / "rows.csv").write_text("\n".join(["client,age,income", *lines, ""]))
    out = tmp_path / "out.csv"

    predict = ("predict", "loans", str(tmp_path / "rows.csv"), "--batch-size", "3")
    done = served.mlspec(*predict, "--id", "client", "--out", str(out))
    assert "7 rows scored by version 1 of loans" in done.stderr
    with out.open() as file:
        found = list(csv.DictReader(file))
    assert [float(each["prediction"]) for each in found] == answered
    assert [(each["row"], each["id"]) for each in found] == [(str(n + 1), str(n)) for n in range(7)]

    printed = served.mlspec(*predict, "--working-tree")
    assert "Not taken, for the model does not: client." in printed.stderr
    objects = [json.loads(line) for line in printed.stdout.splitlines()]
    assert [each["prediction"] for each in objects] == answered
    assert {each["model_version"] for each in objects} == {0}


def test_predict_refuses_a_file_with_wrong_rows_or_skips_them(
    project: Project, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    good = '{"income": 70, "age": 30}'
    rows.write_text("\n".join([good, '{"income": "much", "age": 30}', "{", good, '{"age": 1}']))
    out = tmp_path / "out.jsonl"
    refused = project.mlspec("predict", "loans", str(rows), "--out", str(out), code=1)
    for said in (
        "row 2, column income: must be a number",
        "row 3: is not JSON",
        "row 5, column income: is missing",
    ):
        assert said in refused.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl"]

    done = project.mlspec("predict", "loans", str(rows), "--out", str(out), "--skip-bad")
    assert "2 rows scored" in done.stderr
    assert "3 skipped" in done.stderr
    assert [json.loads(line)["row"] for line in out.read_text().splitlines()] == [1, 4]
    bad = [json.loads(line) for line in (tmp_path / "out.bad.jsonl").read_text().splitlines()]
    assert [(each["row"], each["input"]) for each in bad] == [
        (2, {"income": "much", "age": 30}),
        (3, "{"),
        (5, {"age": 1}),
    ]


def test_predict_that_is_interrupted_leaves_nothing(project: Project, tmp_path: Path) -> None:
    scratch, data = tmp_path / "scratch", tmp_path / "data"
    scratch.mkdir()
    data.mkdir()
    (data / "rows.csv").write_text("income,age\n" + "70,30\n" * 1_000_000)
    arguments = ("predict", "loans", str(data / "rows.csv"), "--out", str(data / "out.csv"))
    with running(project, *arguments, TMPDIR=str(scratch)) as scoring:
        wait_for(
            lambda: (
                scoring.poll() is not None
                or any(path.stat().st_size for path in data.glob(".mlspec-*"))
            )
        )
        scoring.send_signal(signal.SIGINT)
        _, errors = scoring.communicate(timeout=PATIENCE)
        assert scoring.returncode == 130, errors
    assert [path.name for path in data.iterdir()] == ["rows.csv"]
    assert list(scratch.glob("mlspec-*")) == []


def test_a_prediction_is_traced_and_a_measurement_is_none(make_project: MakeProject) -> None:
    project = make_project()
    project.declare_deployment()
    project.edit("resources: {cpus: 1}", "resources: {cpus: 1}\n    capture: {sample: 1.0}")
    commit = project.commit("Serve and capture")
    project.apply()
    url = f"http://127.0.0.1:{project.serving()['port']}"
    identity = post(url, [{"income": 70, "age": 30}, {"income": 20, "age": 31}])["id"]

    measured = project.json("bench", "loans", "--seconds", "0.3", "--connections", "1,2")
    assert [each["connections"] for each in measured["measured"]] == [1, 2]
    assert all(each["requests"] and not each["errors"] for each in measured["measured"])
    shown = project.mlspec("bench", "loans", "--seconds", "0.2", "--connections", "1").stdout
    assert "CPU ms/request" in shown

    folder = project.root / ".mlspec/run/loans@local/capture"

    def captured() -> list[dict[str, object]]:
        return [
            row
            for file in folder.iterdir()
            for line in file.read_bytes().splitlines()
            for row in read_rows(line)
        ]

    wait_for(lambda: len(captured()) >= 2)
    assert [line["id"] for line in captured()] == [identity] * 2

    [found] = project.json("trace", str(identity))["found"]
    assert (found["captured"], found["version"]) == ("deployment.loans@local", 1)
    assert [row["inputs"] for row in found["rows"]] == [
        {"income": 70, "age": 30},
        {"income": 20, "age": 31},
    ]
    assert found["deployed"]["commit"] == commit
    version = project.json("show", "model.loans@1")
    assert found["lineage"] == {k: v for k, v in version.items() if k != "signature"}
    read = found["lineage"]["stages"]["prepare"]["read"]
    assert read["data/loans.csv"] in project.read("pipelines/loans/dvc.lock")
    assert {verdict["result"] for verdict in found["lineage"]["verdicts"]} == {"pass"}
    assert "data/loans.csv: " in project.mlspec("trace", str(identity)).stdout

    elsewhere = project.root.with_name("elsewhere")
    folder.replace(elsewhere)
    missing = project.mlspec("trace", str(identity), code=1)
    assert "nothing was captured here" in missing.stderr
    given = project.json("trace", str(identity), "--captures", str(elsewhere))
    assert given["found"][0]["version"] == 1
    assert (
        "no captured prediction has the id x"
        in project.mlspec("trace", "x", "--captures", str(elsewhere), code=1).stderr
    )
    project.mlspec("stop", "loans")
    assert "does not run here" in project.mlspec("bench", "loans", code=1).stderr
