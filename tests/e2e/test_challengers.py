"""Challengers of a local deployment: shadows and A/B, as a user has them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
import urllib.request
from collections import Counter

import pytest

from mlspec.captures import read_rows

pytestmark = pytest.mark.slow
needs_haproxy = pytest.mark.skipif(
    shutil.which("haproxy", path="/usr/sbin:/usr/bin") is None, reason="HAProxy"
)
PATIENCE = 60.0
MODEL = """\
  steep:
    stages:
      train:
        command: python src/steep.py
        params: {factor: 2}
        outputs: [models/steep.onnx]
    artifact: {path: models/steep.onnx, format: onnx}
targets:
"""
TRAIN = """\
import json
from pathlib import Path

from journal import note
from linear import linear_model

params = json.loads(Path("pipelines/steep/params.json").read_text())["train"]
factor, columns = float(params["factor"]), params.get("columns", ["income", "age"])
weights = {column: factor if column == "income" else 0.0 for column in columns}
model = linear_model(weights, bias=-45.0 * factor)
Path("models/steep.onnx").write_bytes(model.SerializeToString())
note("steep")
"""
SHADOW = """\
    runtime: asgi
    capture: {sample: 1.0}
    challenger: {model: steep, mode: shadow}
"""
CHALLENGER = "deployment.loans-challenger@local"


def wait_for(condition):
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return found


def challenge(project, said=SHADOW):
    """The spec with a second model that challenges the first."""
    project.write("src/steep.py", TRAIN)
    project.declare_deployment()
    text = project.read().replace("targets:\n", MODEL, 1)
    project.write("mlspec.yaml", text.rstrip("\n") + "\n" + said)
    project.commit("Challenge")


def state_of(project, name):
    return json.loads((project.root / f".mlspec/run/{name}@local/state.json").read_text())


def captured(project, name):
    """The captured predictions of a deployment, by id."""
    folder = project.root / f".mlspec/run/{name}@local/capture"
    lines = [line for file in folder.glob("*.jsonl") for line in file.open("rb")]
    return {row["id"]: row["output"]["prediction"] for line in lines for row in read_rows(line)}


def ask(project, identity, income=60.0, **headers):
    """The model that answers, and its score."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{state_of(project, 'loans')['port']}/predict",
        json.dumps({"rows": [{"income": income, "age": 30}]}).encode(),
        {"content-type": "application/json", "x-request-id": identity, **headers},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        found = json.load(answer)
    assert found["id"] == identity
    return found["model"], found["predictions"][0]


def test_a_shadow_of_a_local_deployment(make_project):
    project = make_project()
    challenge(project)
    step = project.plan()[CHALLENGER]
    assert step["reason"].endswith("it challenges deployment.loans: shadow")
    assert "deployment.loans@local" in step["after"]
    assert project.apply() == ["steep"]
    project.commit("Record what was applied")
    project.mlspec("plan", "--detailed-exitcode")

    wanted = {f"first-{number}": 50.0 + number for number in range(20)}
    for identity, income in wanted.items():
        assert ask(project, identity, income) == ("loans", pytest.approx(income - 45))
    wait_for(lambda: captured(project, "loans").keys() >= wanted.keys())
    wait_for(lambda: captured(project, "loans-challenger").keys() >= wanted.keys())
    answered = captured(project, "loans-challenger")
    assert all(answered[each] == pytest.approx(2 * (wanted[each] - 45)) for each in wanted)

    compare_both(project, wanted)

    # a new version of the challenger leaves the champion alone
    before = state_of(project, "loans")
    project.edit("factor: 2", "factor: 3")
    project.commit("Steeper")
    assert set(project.plan()) & {"deployment.loans@local", CHALLENGER} == {CHALLENGER}
    assert project.apply() == ["steep"]
    project.commit("Record what was applied")
    now = state_of(project, "loans")
    assert (now["ready"], now["restarts"]) == (before["ready"], before["restarts"])

    # one that is dead is drift, and its champion hears nothing of it
    os.kill(state_of(project, "loans-challenger")["pid"], signal.SIGKILL)
    wait_for(lambda: CHALLENGER in project.plan())
    assert list(project.plan()) == [CHALLENGER]
    assert ask(project, "unheard")[0] == "loans"
    project.apply()
    assert ask(project, "heard", 46.0)[0] == "loans"
    found = wait_for(lambda: captured(project, "loans-challenger").get("heard"))
    assert found == pytest.approx(3.0)
    assert state_of(project, "loans")["ready"] == before["ready"]

    # one that takes other columns is not tried
    project.edit("factor: 3", "factor: 3, columns: [income]")
    project.commit("Of one column")
    assert project.apply() == ["steep"]
    reason = project.held()[CHALLENGER]
    assert reason.endswith("version 1 of loans: it has no column age")

    text = project.read()
    project.write("mlspec.yaml", text.replace("    challenger: {model: steep, mode: shadow}\n", ""))
    project.commit("No challenger")
    steps = project.plan()
    assert steps[CHALLENGER]["action"] == "delete"
    project.apply("--allow-delete")
    assert not (project.root / ".mlspec/run/loans-challenger@local").exists()
    assert ask(project, "alone")[0] == "loans"


def compare_both(project, incomes):
    found = project.json("compare", "loans")
    assert found["pairs"] == len(incomes)
    assert found["challenger"]["model"] == "steep"
    for side in ("champion", "challenger"):
        assert found[side]["requests"] == len(incomes) + 1, "and the smoke row"
        assert found[side]["captured"] == len(incomes)
    findings = {each["name"]: each for each in found["findings"]}
    wanted = sum(income - 45 for income in incomes.values()) / len(incomes)
    assert findings["prediction"]["difference"] == pytest.approx(wanted, rel=1e-4)
    assert findings["error_rate"]["difference"] == 0
    lines = [f"{identity},{2 * (income - 45)}" for identity, income in incomes.items()]
    project.write("labels.csv", "\n".join(["id,label", *lines, "unknown,1"]))
    told = project.mlspec("compare", "loans", "--labels", "labels.csv").stdout
    assert f"absolute_error 0 against {wanted:g}" in told
    (project.root / "labels.csv").unlink()
    refused = project.mlspec("compare", "loans", "--labels", "labels.csv", code=1).stderr
    assert "labels.csv can not be read" in refused
    refused = project.mlspec("compare", "loans-challenger", code=1).stderr
    assert "name its champion" in refused


@needs_haproxy
@pytest.mark.thorough
def test_a_challenger_that_answers_clients(make_project):
    project = make_project()
    said = "    challenger: {model: steep, header: {name: x-variant, value: b}}\n"
    challenge(project, "    runtime: asgi\n    capture: {sample: 1.0}\n" + said)
    project.apply()
    project.commit("Record what was applied")
    project.mlspec("plan", "--detailed-exitcode")
    wait_for(lambda: ask(project, "b", **{"x-variant": "b"})[0] == "steep")
    assert {ask(project, "c", **{"x-variant": "c"})[0] for _ in range(5)} == {"loans"}
    assert {ask(project, "plain")[0] for _ in range(5)} == {"loans"}
    wait_for(lambda: "b" in captured(project, "loans-challenger"))

    project.edit("header: {name: x-variant, value: b}", "share: 50%, by: {header: x-customer}")
    project.commit("By customers")
    project.apply()
    project.commit("Record what was applied")

    def all_of(customer):
        return {ask(project, "some", **{"x-customer": customer})[0] for _ in range(3)}

    wait_for(lambda: "steep" in {ask(project, "x", **{"x-customer": str(n)})[0] for n in range(20)})
    seen = [all_of(f"customer {number}") for number in range(20)]
    assert all(len(models) == 1 for models in seen), "each has all answers from one model"
    assert {model for models in seen for model in models} == {"loans", "steep"}
    assert ask(project, "nobody")[0] == "loans"

    # without its challenger, the champion answers everybody
    os.kill(state_of(project, "loans-challenger")["pid"], signal.SIGKILL)
    assert Counter(
        ask(project, "any", **{"x-customer": str(number)})[0] for number in range(50)
    ) == {"loans": 50}


@needs_haproxy
@pytest.mark.thorough
def test_a_rollout_beside_a_shadow(make_project):
    """Both releases of the champion send copies, and the shadow goes on as it is."""
    project = make_project()
    challenge(project)
    project.apply()
    project.commit("Record what was applied")
    rollout = "    rollout: {strategy: canary, steps: [50%], bake: 1s, min_requests: 20}\n"
    project.write("mlspec.yaml", project.read() + rollout)
    project.edit("threshold: 45", "threshold: 45.1")
    project.commit("Better, in steps")
    before, asked, failed = state_of(project, "loans-challenger"), [], []
    done = threading.Event()

    def keep_asking():
        while not done.is_set():
            try:
                ask(project, f"asked-{len(asked)}")
                asked.append(f"asked-{len(asked)}")
            except OSError as error:
                failed.append(error)
            time.sleep(0.01)

    client = threading.Thread(target=keep_asking)
    client.start()
    try:
        project.apply()
    finally:
        done.set()
        client.join()
    assert not failed
    assert state_of(project, "loans")["version"] == 2
    assert state_of(project, "loans-challenger")["ready"] == before["ready"]
    folder = project.root / ".mlspec/run/loans@local/capture"
    lines = [line for file in folder.glob("*.jsonl") for line in file.open("rb")]
    versions = {row["model_version"] for line in lines for row in read_rows(line)}
    assert versions == {1, 2}
    # copies that wait in a process that ends are lost; of all others there are answers
    wait_for(
        lambda: len(captured(project, "loans-challenger").keys() & set(asked)) > len(asked) / 2
    )
    last = f"asked-{len(asked) + 1}"
    ask(project, last)
    wait_for(lambda: last in captured(project, "loans-challenger"))
