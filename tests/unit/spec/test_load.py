"""Loading: defaults, includes, digests, addresses, and all problems at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mlspec.errors import Diagnostic, SpecError
from mlspec.spec.load import Loaded, load_spec

HEAD = "mlspec: 1\nproject: demo\n"
MODEL = "models:\n  churn:\n    stages:\n      train: {command: python a.py, timeout: 30m}\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path


def load(root: Path, text: str, **files: str) -> Loaded:
    (root / "mlspec.yaml").write_text(HEAD + text, encoding="utf-8")
    for name, content in files.items():
        (root / f"{name}.yaml").write_text(content, encoding="utf-8")
    return load_spec(root)


def problems(root: Path, text: str, **files: str) -> tuple[Diagnostic, ...]:
    with pytest.raises(SpecError) as error:
        load(root, text, **files)
    return error.value.diagnostics


def test_values_are_parsed_once(root: Path) -> None:
    loaded = load(root, MODEL + "datasets: {loans: {path: ./data//loans.csv}}\n")
    assert loaded.spec.models["churn"].stages["train"].timeout == 1800
    assert loaded.spec.datasets["loans"].path == "data/loans.csv"
    assert loaded.files == ("mlspec.yaml",)


def test_stages_keep_their_order(root: Path) -> None:
    stages = "".join(f"      {name}: {{command: c}}\n" for name in ("z", "a", "m"))
    loaded = load(root, f"models:\n  churn:\n    stages:\n{stages}")
    assert list(loaded.spec.models["churn"].stages) == ["z", "a", "m"]


def test_defaults_complete_members_and_what_a_member_says_wins(root: Path) -> None:
    loaded = load(
        root,
        "defaults:\n  models: {owner: team, card: {risk: low, limitations: none known}}\n"
        + MODEL
        + "    card: {risk: high}\n"
        + "  loyal: {owner: other, stages: {train: {command: python b.py}}}\n",
    )
    churn, loyal = loaded.spec.models["churn"], loaded.spec.models["loyal"]
    assert churn.card is not None
    assert (churn.owner, churn.card.risk, churn.card.limitations) == ("team", "high", "none known")
    assert loyal.owner == "other"
    assert "defaults" not in type(loaded.spec).model_fields


def test_a_wrong_default_is_one_problem_at_its_own_place(root: Path) -> None:
    found = problems(root, "defaults:\n  models: {card: {risk: severe}}\n" + MODEL + (
        "  loyal: {stages: {train: {command: python b.py}}}\n"
    ))  # fmt: skip
    assert {(each.code, str(each.place)) for each in found} == {("MLS013", "mlspec.yaml:4:25")}


def test_included_resources_join_and_know_their_file(root: Path) -> None:
    more = "datasets:\n  loans: {path: a.csv}\n"
    loaded = load(root, "include: ['*.yaml']\ndatasets: {other: {path: b.csv}}\n", more=more)
    assert set(loaded.spec.datasets) == {"loans", "other"}
    assert loaded.files == ("mlspec.yaml", "more.yaml")
    assert str(loaded.place("dataset.loans")) == "more.yaml:2:3"


def test_digest_is_of_what_the_spec_says(root: Path) -> None:
    plain = load(root, MODEL).digest
    assert load(root, "# a comment\n\n" + MODEL.replace("churn", "'churn'")).digest == plain
    assert load(root, MODEL.replace("30m", "0.5h")).digest == plain
    assert load(root, "include: [more.yaml]\n", more=MODEL).digest == plain
    assert load(root, MODEL + "    owner: x\n").digest != plain
    assert load(root, MODEL.replace("30m", "31m")).digest != plain


@pytest.mark.parametrize(
    ("at", "place"),
    [
        ("model.churn", "mlspec.yaml:4:3"),
        ("stage.churn.train", "mlspec.yaml:6:7"),
        (("models", "churn", "stages", "train", "timeout"), "mlspec.yaml:6:37"),
        ("gate.churn.accuracy", "mlspec.yaml:8:7"),
        ("deployment.churn@here", "mlspec.yaml:13:3"),
        ("target.here", "mlspec.yaml:11:3"),
        ("file.pipelines/churn/dvc.yaml", "None"),
        ("project", "None"),
    ],
)
def test_place_of_an_address_or_path(root: Path, at: str | tuple[str, ...], place: str) -> None:
    text = MODEL.replace("30m", "30m, metrics: m.json, outputs: [m.onnx]") + (
        "    gates:\n      accuracy: {metric: accuracy, min: 0.8}\n"
        "    artifact: {path: m.onnx, format: onnx}\n"
        "targets:\n  here: {kind: local}\n"
        "deployments:\n  churn: {model: churn, targets: [here]}\n"
    )
    assert str(load(root, text).place(at)) == place


def test_references_are_checked_beside_problems_of_types(root: Path) -> None:
    found = problems(
        root,
        "datasets:\n  loans: {path: 3}\n"
        "models:\n  churn: {stages: {train: {command: c, inputs: [loans, lones]}}}\n",
    )
    assert [(each.code, each.hint) for each in found] == [
        ("MLS012", 'quote it: "3"'),
        ("MLS040", "did you mean `loans`?"),
    ]


def test_a_missing_head_does_not_hide_the_rest(root: Path) -> None:
    (root / "mlspec.yaml").write_text(
        "datasets: {}\nmodels: {a: {stages: {b: {command: c, inputs: [loans]}}}}\n"
    )
    with pytest.raises(SpecError) as error:
        load_spec(root)
    codes = sorted(each.code for each in error.value.diagnostics)
    assert codes == ["MLS011", "MLS011", "MLS040"]


def test_a_value_in_a_message_is_short_and_escaped(root: Path) -> None:
    (problem,) = problems(root, f"datasets: {{loans: {{path: a.csv, owner: [{'x' * 500}]}}}}\n")
    assert problem.message == "expected text, got a list"
    (problem,) = problems(root, 'ci: {github: {runner: "a\\n' + "b" * 500 + '"}}\n')
    assert len(problem.message) < 120
    assert "\\n" in problem.message and "\n" not in problem.message


def test_the_places_of_one_load_are_in_order(root: Path) -> None:
    found = problems(root, "x: 1\ndatasets: {a: {path: no}}\ny: 2\n")
    assert [each.place.line for each in found if each.place] == [3, 4, 5]


def test_nothing_heavy_is_imported() -> None:
    script = (
        "import sys, mlspec.spec.load; "
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    heavy = {"dvc", "bentoml", "rich", "copier", "numpy", "jinja2", "typer", "ruamel", "jsonschema"}
    assert heavy.isdisjoint(run.stdout.split())
