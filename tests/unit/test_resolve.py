"""From a spec and files to resources: what each is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from mlspec.errors import SpecError
from mlspec.observe import observe
from mlspec.resolve import GitFiles, resolve
from mlspec.resources import (
    DatasetResource,
    DependencyKind,
    DeploymentResource,
    Desired,
    FileResource,
    StageResource,
)
from mlspec.spec.load import load_spec
from mlspec.worktree import Worktree

SPEC = """\
mlspec: 1
project: p
datasets:
  rows: {path: data/rows.csv}
models:
  m:
    stages:
      train:
        command: python src/train.py
        inputs: [rows, config/labels.txt]
        params: {depth: 3}
        outputs: [model.onnx]
      evaluate:
        command: python src/evaluate.py
        inputs: [model.onnx]
        metrics: metrics.json
    artifact: {path: model.onnx, format: onnx}
targets:
  first: {kind: local, port: 3001}
  second: {kind: local, port: 3002, after: first}
deployments:
  d: {model: m, targets: [first, second]}
"""
FILES = {
    "mlspec.yaml": SPEC,
    "data/rows.csv": "a\n1\n",
    "config/labels.txt": "yes\n",
    "src/train.py": "import shared\n",
    "src/shared.py": "import json\n",
    "src/unrelated.py": "\n",
    "src/evaluate.py": "\n",
    "requirements.txt": "numpy==2.1.0\nOnnxRuntime == 1.20.1  # pinned\nrich>=13\n",
}
Resolve = Callable[..., Desired]


@pytest.fixture
def resolved(tmp_path: Path) -> Resolve:
    def resolved(
        changes: Mapping[str, str | None] | None = None, git: GitFiles | None = None
    ) -> Desired:
        for path, text in (FILES | dict(changes or {})).items():
            file = tmp_path / path
            file.parent.mkdir(parents=True, exist_ok=True)
            if text is None:
                file.unlink(missing_ok=True)
            else:
                file.write_text(text)
        return resolve(load_spec(tmp_path), Worktree(tmp_path), git or GitFiles())

    return resolved


def test_a_stage_reads_its_inputs_its_code_and_the_requirements(resolved: Resolve) -> None:
    stage = resolved().get(StageResource, "stage.m.train")
    assert {dep.path: dep.kind for dep in stage.dependencies} == {
        "config/labels.txt": DependencyKind.INPUT,
        "data/rows.csv": DependencyKind.DATASET,
        "requirements.txt": DependencyKind.REQUIREMENTS,
        "src/shared.py": DependencyKind.CODE,
        "src/train.py": DependencyKind.CODE,
    }
    assert stage.writes == ("model.onnx",)
    assert stage.params == {
        "pipelines/m/params.json": {"python": {"version": "3.11"}, "train": {"depth": 3}}
    }


def test_content_comes_from_producers(resolved: Resolve) -> None:
    desired = resolved()
    train = desired.get(StageResource, "stage.m.train")
    assert train.producers == ("dataset.rows",)
    assert desired.get(StageResource, "stage.m.evaluate").producers == ("stage.m.train",)


def test_later_targets_come_after_earlier_ones(resolved: Resolve) -> None:
    desired = resolved()
    assert desired.get(DeploymentResource, "deployment.d@second").after == ("deployment.d@first",)
    assert desired.get(DeploymentResource, "deployment.d@first").after == ()


def test_what_a_deployment_captures_is_a_setting_of_its_processes(resolved: Resolve) -> None:
    def capture(text: str) -> object:
        desired = resolved({"mlspec.yaml": SPEC.replace("first, second]", f"first]{text}")})
        return desired.get(DeploymentResource, "deployment.d@first").settings["capture"]

    assert capture("") is None
    assert capture(", capture: {}") == {"sample": 1.0}
    assert capture(", capture: {sample: 0.25}") == {"sample": 0.25}


def test_a_service_takes_the_pins_of_the_project(resolved: Resolve) -> None:
    path = "file.services/d/requirements.txt"
    text = resolved().get(FileResource, path).generated.text
    assert "numpy==2.1.0" in text
    assert "onnxruntime==1.20.1" in text


@pytest.mark.parametrize(
    ("git", "in_git"),
    [
        (GitFiles(tracked=frozenset({"data/rows.csv"})), True),
        (GitFiles(), True),
        (GitFiles(ignored=frozenset({"data/rows.csv"})), False),
    ],
)
def test_data_that_git_ignores_belong_in_storage(
    resolved: Resolve, git: GitFiles, in_git: bool
) -> None:
    assert resolved(git=git).get(DatasetResource, "dataset.rows").in_git is in_git


def test_large_new_data_belong_in_storage(
    resolved: Resolve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlspec.resolve.MOST_BYTES_IN_GIT", 3)
    assert not resolved().get(DatasetResource, "dataset.rows").in_git


def test_data_that_are_absent_count_as_recorded(resolved: Resolve, tmp_path: Path) -> None:
    pointer = f"outs:\n- md5: {'a' * 32}\n  size: 4\n  hash: md5\n  path: rows.csv\n"
    desired = resolved({"data/rows.csv": None, "data/rows.csv.dvc": pointer})
    seen = observe(desired, Worktree(tmp_path)).datasets["dataset.rows"]
    assert (seen.md5, seen.recorded_md5) == (None, "a" * 32)


def test_everything_that_is_missing_is_reported_at_once(resolved: Resolve) -> None:
    with pytest.raises(SpecError) as caught:
        resolved({"data/rows.csv": None, "config/labels.txt": None})
    found = {(d.code, d.address): d.place for d in caught.value.diagnostics}
    assert found.keys() == {("MLS601", "dataset.rows"), ("MLS602", "stage.m.train")}
    assert all(place is not None for place in found.values())


@pytest.mark.parametrize("output", ["src/made", "src/made/rules.py"])
def test_code_is_no_part_of_what_stages_write(resolved: Resolve, output: str) -> None:
    spec = SPEC.replace("outputs: [model.onnx]", f"outputs: [model.onnx, {output}]")
    code = {"src/train.py": "import made.rules\n", "src/made/rules.py": "\n"}
    with pytest.raises(SpecError) as error:
        resolved({"mlspec.yaml": spec, **code})
    (problem,) = error.value.diagnostics
    assert (problem.code, problem.address) == ("MLS604", "stage.m.train")
    assert problem.message.startswith("src/made/rules.py is code, and stage.m.train writes ")


def test_code_that_another_stage_writes_comes_from_it(resolved: Resolve) -> None:
    spec = SPEC.replace("metrics: metrics.json", "outputs: [src/shared.py]").replace(
        "inputs: [model.onnx]", ""
    )
    train = resolved({"mlspec.yaml": spec}).get(StageResource, "stage.m.train")
    assert "stage.m.evaluate" in train.producers


def test_a_script_that_is_not_there_is_reported(resolved: Resolve) -> None:
    with pytest.raises(SpecError) as caught:
        resolved({"src/train.py": None})
    assert [d.code for d in caught.value.diagnostics] == ["MLS605"]


def test_what_many_members_lack_is_told_a_few_times_and_counted(resolved: Resolve) -> None:
    spec = (
        "mlspec: 1\nproject: p\nmodels:\n  shop:\n    matrix: {from: shops.csv}\n    stages:\n"
        "      train: {command: python src/no.py, inputs: ['data/${matrix.shop}.csv']}\n"
    )
    shops = "".join(f"s{number}\n" for number in range(50))
    with pytest.raises(SpecError) as caught:
        resolved({"mlspec.yaml": spec, "shops.csv": f"shop\n{shops}"})
    scripts = [each for each in caught.value.diagnostics if each.code == "MLS605"]
    inputs = [each for each in caught.value.diagnostics if each.code == "MLS602"]
    assert [each.hint.rpartition(" (")[2] for each in scripts] == ["others have it too)"]
    assert [each.more for each in inputs] == [*[0] * 9, 40]
    assert all(each.place is not None for each in inputs)


def test_the_same_input_gives_the_same_bytes(resolved: Resolve) -> None:
    first, second = resolved(), resolved()
    assert [f.generated for f in first.of(FileResource)] == [
        f.generated for f in second.of(FileResource)
    ]
    assert first == second


def test_a_comment_changes_nothing(resolved: Resolve) -> None:
    before = resolved()
    assert resolved({"mlspec.yaml": "# a comment\n" + SPEC}) == before


def test_generated_files_have_unique_paths_and_say_so(resolved: Resolve) -> None:
    from mlspec.compilers.generated import MARK

    files = [resource.generated for resource in resolved().of(FileResource)]
    assert len({file.path for file in files}) == len(files)
    assert all(MARK in file.text and file.text.endswith("\n") for file in files)


SERVED = SPEC.replace("model.onnx", "model.txt").replace(
    "format: onnx}", "format: python, class: 'risk.serving:Predictor', code: [src/words.json]}"
)
CODE = {
    "mlspec.yaml": SERVED,
    "src/risk/__init__.py": "",
    "src/risk/serving.py": "from risk import maths\n",
    "src/risk/maths.py": "\n",
    "src/words.json": "{}\n",
}


def test_the_code_of_a_class_that_answers_is_of_its_release_and_of_no_stage(
    resolved: Resolve,
) -> None:
    def code(desired: Desired) -> Mapping[str, str]:
        found = desired.get(DeploymentResource, "deployment.d@first").settings["code"]
        assert isinstance(found, Mapping)
        return found

    before = resolved(CODE)
    assert sorted(code(before)) == [
        "src/risk/__init__.py", "src/risk/maths.py", "src/risk/serving.py", "src/words.json",
    ]  # fmt: skip
    after = resolved({**CODE, "src/risk/maths.py": "pi = 3\n"})
    changed = {path for path, md5 in code(after).items() if md5 != code(before)[path]}
    assert changed == {"src/risk/maths.py"}
    stages = [list(each.of(StageResource)) for each in (before, after)]
    assert stages[0] == stages[1]


def test_a_class_whose_module_is_not_there_is_a_problem(resolved: Resolve) -> None:
    gone = {"src/risk/serving.py": None, "src/words.json": None}
    with pytest.raises(SpecError) as caught:
        resolved(CODE | gone)
    assert [(d.code, d.field) for d in caught.value.diagnostics] == [
        ("MLS607", "artifact.class"),
        ("MLS603", "artifact.code"),
    ]


def test_rows_that_explain_predictions_are_of_the_release(resolved: Resolve) -> None:
    asked = "model: m, explain: {method: permutation, background: rows.csv}"
    spec = SPEC.replace("model: m", asked)
    assert spec != SPEC
    found = [
        resolved({"mlspec.yaml": spec, "rows.csv": text}).get(
            DeploymentResource, "deployment.d@first"
        )
        for text in ("a\n1\n", "a\n2\n")
    ]
    before, after = (each.settings["code"]["rows.csv"] for each in found)
    assert before != after
    assert found[0].service == found[1].service


@pytest.mark.parametrize(
    ("asked", "field", "said"),
    [
        ("{method: shap}", "explain.method", "`shap` explains trees"),
        ("{method: permutation, background: no.csv}", "explain.background", "does not exist"),
    ],
)
def test_what_can_not_be_explained_is_a_problem(
    resolved: Resolve, asked: str, field: str, said: str
) -> None:
    with pytest.raises(SpecError) as caught:
        resolved({"mlspec.yaml": SPEC.replace("model: m", f"model: m, explain: {asked}")})
    [problem] = caught.value.diagnostics
    assert (problem.code, problem.field) == ("MLS608", field)
    assert said in problem.message


ELSEWHERE = """\
mlspec: 1
project: p
models:
  fraud:
    artifact:
      path: models/fraud.json
      format: http
      columns: {amount: number}
      passes: {url: "http://fraud:8080/score"}
targets:
  cluster: {kind: kubernetes, context: c, namespace: ml, image: {repository: r.example.org/ml}}
deployments: {fraud: {model: fraud, targets: [cluster]}}
"""


ON_SAGEMAKER = """\
{kind: sagemaker, region: eu-central-1, role: "arn:aws:iam::123456789012:role/r",
 instance: ml.m5.large, image: {repository: 123456789012.dkr.ecr.eu-central-1.amazonaws.com/ml}}
"""


@pytest.mark.parametrize("place", ["", ON_SAGEMAKER.replace("\n", "")])
def test_a_service_that_may_not_call_what_answers(resolved: Resolve, place: str) -> None:
    line = next(each for each in ELSEWHERE.splitlines() if "cluster:" in each)
    text = ELSEWHERE.replace(line, f"  cluster: {place}") if place else ELSEWHERE
    with pytest.raises(SpecError) as caught:
        resolved({"mlspec.yaml": text})
    assert [(d.code, d.field) for d in caught.value.diagnostics] == [("MLS609", "targets")]


def test_a_service_that_may_call_what_answers(resolved: Resolve) -> None:
    outgoing = ELSEWHERE.replace("namespace: ml,", "namespace: ml, network: {outgoing: true},")
    stage = resolved({"mlspec.yaml": outgoing}).get(StageResource, "stage.fraud.declare")
    assert stage.writes == ("models/fraud.json",)
    asked = "model: fraud, explain: {method: permutation, background: rows.csv}"
    with pytest.raises(SpecError) as caught:
        resolved({"mlspec.yaml": outgoing.replace("model: fraud", asked)})
    assert [(d.code, d.field) for d in caught.value.diagnostics] == [("MLS608", "explain.method")]


def test_a_challenger_hides_what_its_champion_does(resolved: Resolve) -> None:
    other = """\
  forest:
    sensitive: [age]
    stages:
      train: {command: python src/train.py, outputs: [other.onnx]}
    artifact: {path: other.onnx, format: onnx}
targets:
"""
    shadow = "targets: [first], capture: {sample: 1}, challenger: {model: forest, mode: shadow}"
    spec = SPEC.replace("  m:\n", "  m:\n    sensitive: [income]\n", 1)
    spec = spec.replace("targets:\n", other, 1).replace("targets: [first, second]", shadow)
    desired = resolved({"mlspec.yaml": spec})
    texts = {
        name: desired.get(DeploymentResource, f"deployment.{name}@first").service["service.py"]
        for name in ("d", "d-challenger")
    }
    assert 'SENSITIVE: list[str] = ["income"]' in texts["d"]
    assert 'SENSITIVE: list[str] = ["age", "income"]' in texts["d-challenger"]
