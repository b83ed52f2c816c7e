"""What becomes of a DVC repository, stage by stage; DVC itself has no part in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlspec.adoption.convert import NO_REQUIREMENTS, Adoption, convert
from mlspec.adoption.names import make_name
from mlspec.adoption.repository import read_repository
from mlspec.compilers.yaml_text import render_yaml
from mlspec.spec.load import load_spec
from mlspec.worktree import Worktree

MD5 = "d41d8cd98f00b204e9800998ecf8427e"
"""Of a file that is empty."""


def path(name: str, md5: str = MD5, **more: Any) -> dict[str, Any]:
    return {"path": name, "md5": md5, "hash": "md5", "size": 0, "nfiles": None, "isexec": False} | (
        more
    )


def out(name: str, md5: str = MD5, **more: Any) -> dict[str, Any]:
    flags = {"cache": True, "metric": False, "plotted": False, "persist": False}
    return path(name, md5) | flags | {"remote": "", "push": True} | more


def stage(name: str, cmd: Any = "echo", **more: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {"file": "dvc.yaml", "name": name, "line": 1, "cmd": cmd, "wdir": "."}
    plain |= {"frozen": False, "always": False, "changed": False, "deps": [], "params": []}
    return plain | {"outs": [out(f"{name}.out")]} | more


def data(name: str, **more: Any) -> dict[str, Any]:
    return {"file": f"{name}.dvc", "deps": [], "outs": [out(name)]} | more


@pytest.fixture
def adopted(tmp_path: Path) -> Any:
    """Converts, and has mlspec itself load the spec."""

    def run(*stages: dict[str, Any], **more: Any) -> tuple[Adoption, dict[str, Any]]:
        settings = {"remote": "team", "url": "../storage", "local": "", "moved": []}
        found = {
            "stages": stages,
            "data": [],
            "artifacts": [],
            "extras": [],
            "settings": settings,
            "cache": ".",
        }
        (tmp_path / "shop").mkdir(exist_ok=True)
        root = tmp_path / "shop"
        made = convert(read_repository(found | more), Worktree(root))
        (root / "mlspec.yaml").write_text(render_yaml(made.spec))
        models = load_spec(root).spec.models
        return made, {
            f"{model}.{name}": stage
            for model, body in models.items()
            for name, stage in body.stages.items()
        }

    (tmp_path / "shop").mkdir()
    return run


def file(tmp_path: Path, name: str, text: str = "") -> None:
    place = tmp_path / "shop" / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)


def messages(made: Adoption) -> str:
    return "\n".join(f"{note.place}: {note.message}; {note.hint}" for note in made.notes)


@pytest.mark.parametrize(
    ("text", "taken", "name"),
    [
        ("train", (), "train"),
        ("Train_Model@us.east-1", (), "train-model-us-east-1"),
        ("train", ("train", "train-2"), "train-3"),
        ("2024", (), "stage-2024"),
        ("python", (), "python-stage"),
        ("Größe", (), "groe"),
        ("日本", (), "stage"),
        ("x" * 200, (), "x" * 57),
    ],
)
def test_names_are_those_that_a_spec_takes(text: str, taken: tuple[str, ...], name: str) -> None:
    made = make_name(text, taken, otherwise="stage")
    assert made == name or (text == "Größe" and made.startswith("gro"))


def test_stages_of_a_file_become_a_model_each_with_a_name_of_its_own(adopted: Any) -> None:
    made, stages = adopted(
        stage("fit@a"),
        stage("fit-a"),
        stage("fit", file="deep/er/dvc.yaml", outs=[out("deep/x")]),
    )
    assert list(stages) == ["shop.fit-a", "shop.fit-a-2", "deep-er.fit"]
    assert [taken.stale for taken in made.stages] == ["", "", ""]
    assert made.notes == []


def test_commands_run_where_and_as_they_did(adopted: Any) -> None:
    _, stages = adopted(
        stage("a", ["one", "cd x; two", "export A=1", "three"]),
        stage("b", "one && two", wdir="my folder"),
        stage("c", "cd x; two # why"),
    )
    assert stages["shop.a"].command == "one && (cd x; two) && (export A=1) && three"
    assert stages["shop.b"].command == "cd 'my folder' && (one && two)"
    assert stages["shop.c"].command == "cd x; two # why"


def test_inputs_are_named_by_whom_they_belong_to(adopted: Any, tmp_path: Path) -> None:
    file(tmp_path, "query.sql")
    file(tmp_path, "lib/code.py")
    file(tmp_path, "words")
    deps = [path("raw.csv"), path("a.out"), path("folder/x.csv"), path("query.sql")]
    deps += [path("lib"), path("words"), path("many")]
    made, stages = adopted(
        stage("a"),
        stage("b", outs=[out("many/1"), out("many/2")]),
        stage("c", "make it", deps=deps),
        data=[data("raw.csv"), data("folder")],
    )
    assert stages["shop.c"].inputs == (
        *("raw", "a.out", "folder", "query.sql"),
        *("words", "many/1", "many/2"),
    )
    assert stages["shop.c"].code == ("lib",)
    assert "reads the folder many, which holds what others write" in messages(made)


def test_params_are_a_file_where_code_reads_it_and_values_where_none_does(
    adopted: Any, tmp_path: Path
) -> None:
    file(tmp_path, "reads.py", "open('params.yaml')")
    file(tmp_path, "not.py", "print()")
    file(tmp_path, "params.yaml", "a: 1")
    given = [{"path": "params.yaml", "values": {"a.b": 1, "c": [2]}, "changed": []}]
    _, stages = adopted(
        stage("reads", "python reads.py", params=given),
        stage("unknown", "./binary", params=given),
        stage("values", "python not.py 1", params=given),
    )
    assert stages["shop.reads"].inputs == stages["shop.unknown"].inputs == ("params.yaml",)
    assert stages["shop.values"].params == {"a": {"b": 1}, "c": [2]}
    assert stages["shop.values"].inputs == ()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"outs": [out("x", "")]}, "it was never run: DVC knows no x"),
        ({"outs": []}, "it reads and writes nothing"),
        ({"outs": [], "deps": [path("there", "")]}, "there has changed"),
        ({"changed": True}, "its command has changed"),
        ({"deps": [path("there", "0" * 32)]}, "there has changed since it ran"),
        ({"outs": [out("there", "0" * 32)]}, "there has changed since it was written"),
        ({"outs": [out("x", hash="md5-dos2unix")]}, "DVC 2"),
        (
            {"params": [{"path": "there", "values": {}, "changed": ["rate"]}]},
            "there has other values than when it ran: rate",
        ),
    ],
)
def test_what_dvc_would_run_is_not_carried_over(
    adopted: Any, tmp_path: Path, body: dict[str, Any], reason: str
) -> None:
    file(tmp_path, "there")
    made, _ = adopted(stage("a", **body))
    assert reason in made.stages[0].stale


def test_a_stage_that_only_reads_is_carried_over(adopted: Any, tmp_path: Path) -> None:
    file(tmp_path, "there")
    made, _ = adopted(stage("check", deps=[path("there")], outs=[]))
    assert made.stages[0].stale == ""


def test_what_a_frozen_stage_wrote_becomes_data_when_it_would_run(
    adopted: Any, tmp_path: Path
) -> None:
    file(tmp_path, "sites.txt")
    made, stages = adopted(
        stage("scrape", frozen=True, deps=[path("sites.txt", "0" * 32)], outs=[out("pages")]),
        stage("fresh", frozen=True, deps=[path("sites.txt")]),
        stage("fit", deps=[path("pages")]),
    )
    assert stages["shop.fit"].inputs == ("pages",)
    assert list(stages) == ["shop.fresh", "shop.fit"]
    assert made.data_files["pages.dvc"].startswith(f"outs:\n- md5: {MD5}\n")
    assert "scrape is frozen and sites.txt has changed" in messages(made)
    assert "fresh is frozen; a spec has no word" in messages(made)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"deps": [path("s3://bucket/x")]}, "s3://bucket/x lies outside"),
        ({"outs": [out("/data/x")]}, "/data/x lies outside"),
        ({"outs": [out("../x")]}, "../x lies outside"),
        ({"outs": [out("pipelines/x")]}, "pipelines/x: `pipelines` is written by mlspec"),
        ({"outs": [out("a*b")]}, "a*b: a path names one file"),
        ({"wdir": "/elsewhere"}, "it runs in /elsewhere"),
        ({"deps": [path("gone")]}, "gone is not there"),
        ({"deps": [path("x", special=["DbDependency"])]}, "another kind (DbDependency)"),
        ({"cmd": ["for x in 1; do\n echo\ndone"]}, "several lines"),
        ({"cmd": ["one # why", "two"]}, "a comment"),
    ],
)
def test_a_stage_that_a_spec_cannot_say_is_left_and_the_others_are_taken(
    adopted: Any, body: dict[str, Any], message: str
) -> None:
    made, stages = adopted(stage("odd", **({"line": 7} | body)), stage("fine"))
    assert list(stages) == ["shop.fine"]
    assert [left.name for left in made.left] == ["odd"]
    assert "dvc.yaml:7: stage odd is not taken over" in messages(made)
    assert message in messages(made)


def test_a_stage_has_one_file_of_metrics_that_gates_can_read(adopted: Any, tmp_path: Path) -> None:
    file(tmp_path, "words.json", '{"name": "x"}')
    files = ["scores.yaml", "words.json", "a.json", "b.json"]
    made, stages = adopted(
        stage("a", outs=[out(name, metric=True) for name in files], changed=True)
    )
    assert stages["shop.a"].metrics == "a.json"
    assert stages["shop.a"].outputs == ("scores.yaml", "words.json", "b.json")
    assert "scores.yaml is an output and not `metrics`: it is not JSON" in messages(made)
    assert "words.json: name is" in messages(made)


def test_what_two_stages_of_a_model_measure_is_of_the_first(adopted: Any, tmp_path: Path) -> None:
    for name in ("eu.json", "us.json"):
        file(tmp_path, name, '{"auc": 0.9}')
    file(tmp_path, "all.json", '{"rows": 3}')
    made, stages = adopted(
        stage("train@eu", outs=[out("eu.json", metric=True)]),
        stage("train@us", outs=[out("us.json", metric=True)]),
        stage("count", outs=[out("all.json", metric=True)]),
    )
    assert [each.metrics for each in stages.values()] == ["eu.json", None, "all.json"]
    assert stages["shop.train-us"].outputs == ("us.json",)
    told = "us.json is an output and not `metrics`: stage train@eu measures auc, too"
    assert told in messages(made)


def test_what_is_special_about_an_output_is_told(adopted: Any) -> None:
    made, _ = adopted(
        stage("a", outs=[out("x", plotted=True), out("y", persist=True), out("z", remote="far")]),
        stage("b", always=True, outs=[out("w", push=False)]),
    )
    assert [note.message.partition(",")[0] for note in made.notes] == [
        "how x is plotted is not taken over: a spec has no word for it",
        "y persists between runs",
        "z is kept apart (far); mlspec does not",
        "w is kept apart (not pushed); mlspec does not",
        "stage b always runs; a spec runs a stage when what it reads changes",
    ]


def test_artifacts_that_can_be_served_are_the_models(adopted: Any) -> None:
    def artifact(name: str, where: str) -> dict[str, Any]:
        return {"file": "dvc.yaml", "name": name, "line": 9, "path": where}

    made, _ = adopted(
        stage("a", outs=[out("m.onnx"), out("n.skops"), out("o.pkl")]),
        artifacts=[artifact(n, n) for n in ("m.onnx", "n.skops", "o.pkl", "p.onnx")],
    )
    assert made.spec["models"]["shop"]["artifact"] == {"path": "m.onnx", "format": "onnx"}
    said = messages(made)
    assert "model shop has an artifact already" in said
    assert "the format of o.pkl is none" in said
    assert "p.onnx is no output" in said


def test_data_keep_their_source_where_a_spec_can_say_it(adopted: Any) -> None:
    def imported(name: str, url: str) -> dict[str, Any]:
        return data(name, deps=[path(url)])

    repo = path("x.csv", repo={"url": "https://example.org/r.git", "rev": "v1"}, special=[])
    made, _ = adopted(
        data=[
            imported("a/raw.csv", "https://example.org/raw.csv"),
            imported("b/raw.csv", "/mnt/raw.csv"),
            data("c.csv", deps=[repo]),
            data("d.csv", file="other.dvc"),
        ]
    )
    assert made.spec["datasets"] == {
        "b-raw": {"path": "b/raw.csv"},
        "c": {
            "path": "c.csv",
            "source": {"git": "https://example.org/r.git", "path": "x.csv", "rev": "v1"},
        },
        "raw": {"path": "a/raw.csv", "source": {"url": "https://example.org/raw.csv"}},
    }
    assert "where b/raw.csv comes from is not taken over" in messages(made)
    assert "other.dvc: this file is not the one" in messages(made)


def test_packages_and_ignored_files_that_a_spec_cannot_have_are_told(
    adopted: Any, tmp_path: Path
) -> None:
    file(tmp_path, "requirements.txt", "numpy==1.0\n-e .\n")
    file(tmp_path, ".dvcignore", "# a comment\n*.tmp\n")
    made, _ = adopted(stage("a"))
    assert made.spec["python"]["requirements"] == NO_REQUIREMENTS
    assert "requirements.txt:2: packages are not taken over" in messages(made)
    assert ".dvcignore:2: *.tmp is not ignored any more" in messages(made)
