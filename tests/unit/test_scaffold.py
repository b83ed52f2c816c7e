"""Projects from templates: what is written, what is refused, and that nothing is half-written."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput

from mlspec.commands.init import init
from mlspec.errors import MlspecError
from mlspec.render.console import Console
from mlspec.scaffold import init_project, load_templates
from mlspec.spec.load import load_spec

TEMPLATES = ["image-classification", "regression", "tabular-classification"]


def tree(folder: Path) -> dict[str, str]:
    """What is in the folder, without Git's own."""
    return {
        path.relative_to(folder).as_posix(): "" if path.is_dir() else path.read_text()
        for path in folder.rglob("*")
        if ".git" not in path.relative_to(folder).parts
    }


@pytest.fixture
def keys() -> Iterator[PipeInput]:
    """A keyboard to type on."""
    with create_pipe_input() as keyboard, create_app_session(keyboard, DummyOutput()):
        yield keyboard


def test_templates_have_summaries() -> None:
    templates = load_templates()
    assert [template.name for template in templates] == TEMPLATES
    assert all("scikit-learn" in template.summary for template in templates)


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_project_is_complete_and_valid(tmp_path: Path, template: str) -> None:
    made = init_project(tmp_path / "demo", template)
    assert set(made.files) == {path for path, text in tree(made.directory).items() if text}
    assert {"mlspec.yaml", "README.md", "request.json", "requirements.txt"} < set(made.files)
    loaded = load_spec(made.directory)
    assert loaded.spec.project == "demo"
    assert loaded.spec.ci.github is not None


@pytest.mark.parametrize("template", TEMPLATES)
def test_no_template_syntax_is_left(tmp_path: Path, template: str) -> None:
    made = init_project(tmp_path / "demo", template)
    for path, text in tree(made.directory).items():
        assert not re.search(r"\{\{|\}\}|\{%|%\}", text), path
        assert not path.endswith(".jinja")
        assert not text or text.endswith("\n"), path


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_request_is_the_smoke_row(tmp_path: Path, template: str) -> None:
    made = init_project(tmp_path / "demo", template)
    request = json.loads((made.directory / "request.json").read_text())
    (deployment,) = load_spec(made.directory).spec.deployments.values()
    assert [smoke.input for smoke in deployment.smoke] == request["rows"]


@pytest.mark.parametrize("template", TEMPLATES)
def test_every_requirement_is_pinned(tmp_path: Path, template: str) -> None:
    made = init_project(tmp_path / "demo", template)
    lines = (made.directory / "requirements.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert pins
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9.]+", pin) for pin in pins)


def test_editors_find_the_schema(tmp_path: Path) -> None:
    made = init_project(tmp_path / "demo", "regression")
    header = (made.directory / "mlspec.yaml").read_text().splitlines()[0]
    schema = header.removeprefix("# yaml-language-server: $schema=")
    assert json.loads((made.directory / schema).read_text())["title"] == "mlspec.yaml"


def test_answers_are_used_and_remembered(tmp_path: Path) -> None:
    answers = {"project": "sugar", "owner": "The Risk Team", "port": 4321, "github": False}
    made = init_project(tmp_path / "demo", "regression", answers)
    spec = load_spec(made.directory).spec
    assert spec.project == "sugar"
    assert spec.models["diabetes"].owner == spec.datasets["diabetes"].owner == "The Risk Team"
    assert spec.deployments["diabetes"].owner == "The Risk Team"
    assert spec.targets["local"].port == 4321
    assert spec.ci.github is None
    readme = (made.directory / "README.md").read_text()
    assert readme.startswith("# sugar\n")
    assert "http://127.0.0.1:4321/predict" in readme
    remembered = yaml.safe_load((made.directory / ".copier-answers.yml").read_text())
    assert {key: remembered[key] for key in answers} == answers == made.answers
    assert remembered["_src_path"] == "mlspec:regression"


def test_stages_get_the_python_that_runs_init(tmp_path: Path) -> None:
    made = init_project(tmp_path / "demo", "regression")
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert load_spec(made.directory).spec.python.version == running
    other = init_project(tmp_path / "other", "regression", {"python": "3.13"})
    assert load_spec(other.directory).spec.python.version == "3.13"


@pytest.mark.parametrize("word", ["null", "true", "on", "no", "y"])
def test_words_that_yaml_reads_otherwise_stay_words(tmp_path: Path, word: str) -> None:
    made = init_project(tmp_path / "demo", "regression", {"project": word, "owner": word})
    spec = load_spec(made.directory).spec
    assert (spec.project, spec.models["diabetes"].owner) == (word, word)


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("project", "Upper"),
        ("project", "1st"),
        ("project", ""),
        ("project", "a" * 64),
        ("project", "line\n"),
        ("project", "a: b"),
        ("owner", ""),
        ("owner", "x}\nmlspec: 2"),
        ("owner", "{{ 7 * 7 }}"),
        ("owner", "o" * 101),
        ("port", 80),
        ("port", 65536),
    ],
)
def test_bad_answers_are_refused(tmp_path: Path, answer: str, value: object) -> None:
    with pytest.raises(MlspecError, match=answer):
        init_project(tmp_path / "demo", "regression", {answer: value})
    assert tree(tmp_path) == {}


@pytest.mark.parametrize(
    ("folder", "project"),
    [
        ("churn", "churn"),
        ("My Project (2)", "my-project-2"),
        ("2024_sales", "sales"),
        ("a" * 70, "a" * 63),
        ("données", "donn-es"),
        ("数据", "regression"),
        ("123", "regression"),
    ],
)
def test_a_project_is_named_after_its_folder(tmp_path: Path, folder: str, project: str) -> None:
    made = init_project(tmp_path / folder, "regression")
    assert load_spec(made.directory).spec.project == project


def test_questions_are_asked_on_a_terminal(tmp_path: Path, keys: PipeInput) -> None:
    keys.send_text("-two\r")  # after the default name, which the folder gives
    keys.send_text("\r")
    keys.send_text("\x7f1\r")
    keys.send_text("n")
    made = init_project(tmp_path / "demo", "regression", ask=True)
    assert made.answers == {
        "project": "demo-two",
        "owner": "ml-team",
        "port": 3001,
        "github": False,
    }


def test_interrupted_questions_leave_nothing(tmp_path: Path, keys: PipeInput) -> None:
    keys.send_text("\r\x03")
    with pytest.raises(KeyboardInterrupt):
        init_project(tmp_path / "demo", "regression", ask=True)
    assert tree(tmp_path) == {}


def test_a_new_repository_has_a_main_branch_and_no_commit(tmp_path: Path) -> None:
    made = init_project(tmp_path / "demo", "regression")
    assert made.new_repository
    head = (made.directory / ".git" / "HEAD").read_text()
    assert head == "ref: refs/heads/main\n"
    assert not list((made.directory / ".git" / "refs" / "heads").iterdir())


def test_the_root_of_a_repository_keeps_it(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", "-b", "trunk", tmp_path], check=True)
    (tmp_path / "LICENSE").write_text("ours")
    made = init_project(tmp_path, "regression")
    assert not made.new_repository
    assert (tmp_path / ".git" / "HEAD").read_text() == "ref: refs/heads/trunk\n"
    assert (tmp_path / "LICENSE").read_text() == "ours"
    assert "LICENSE" not in made.files


def test_a_project_inside_a_repository_gets_its_own(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    made = init_project(tmp_path / "team" / "demo", "regression")
    assert made.new_repository
    assert (made.directory / ".git").is_dir()


def test_an_unknown_template_has_a_hint(tmp_path: Path) -> None:
    with pytest.raises(MlspecError, match="there is no template `regresion`") as caught:
        init_project(tmp_path / "demo", "regresion")
    assert caught.value.hint == "did you mean `regression`?"
    with pytest.raises(MlspecError) as caught:
        init_project(tmp_path / "demo", "../regression")
    assert "regression" in caught.value.hint
    assert tree(tmp_path) == {}


def test_a_project_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "mlspec.yaml").write_text("mlspec: 1\n")
    with pytest.raises(MlspecError, match=r"has an mlspec\.yaml"):
        init_project(tmp_path, "regression")
    assert tree(tmp_path) == {"mlspec.yaml": "mlspec: 1\n"}


def test_files_in_the_way_are_all_named(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("ours")
    (tmp_path / "data").write_text("a file, where a folder goes")
    (tmp_path / "request.json").symlink_to("nowhere")
    with pytest.raises(MlspecError, match=r"already has README\.md, data, request\.json$"):
        init_project(tmp_path, "regression")
    assert {path.name for path in tmp_path.iterdir()} == {"README.md", "data", "request.json"}


def test_a_linked_folder_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "src").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MlspecError, match=r"already has src$"):
        init_project(tmp_path / "demo", "regression")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("")
    with pytest.raises(MlspecError, match="demo is a file"):
        init_project(tmp_path / "demo", "regression")
    with pytest.raises(MlspecError, match="demo is a file"):
        init_project(tmp_path / "demo" / "inner", "regression")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("existing", [True, False])
def test_a_failure_in_the_middle_leaves_all_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, existing: bool
) -> None:
    if existing:
        (tmp_path / "demo" / "src").mkdir(parents=True)
        (tmp_path / "demo" / "src" / "ours.py").write_text("ours")
    before = tree(tmp_path)
    rename, left = Path.rename, iter(range(8))

    def failing(self: Path, target: Path) -> Path:
        if next(left, None) is None:
            raise error
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises((MlspecError, KeyboardInterrupt)):
        init_project(tmp_path / "demo", "regression")
    assert tree(tmp_path) == before
    assert not (tmp_path / "demo" / ".git").exists()


def test_the_command_says_what_is_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    options = {"template": "regression", "yes": True, "list_templates": False}
    assert init(Path("my demo"), Console(), name="demo", **options) == 0
    said = capsys.readouterr().out
    assert said.startswith("Made demo in my demo: 20 files, a new Git repository.\n")
    assert "  cd 'my demo'\n" in said
    assert said.endswith("  mlspec plan\n  mlspec apply\n")


def test_the_command_lists_templates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {"template": None, "name": None, "yes": False}
    assert init(tmp_path, Console(), list_templates=True, **options) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == TEMPLATES
    with pytest.raises(MlspecError, match="choose a template") as caught:
        init(tmp_path, Console(), list_templates=False, **options)
    assert all(template in caught.value.message for template in TEMPLATES)


def test_copier_is_imported_only_to_render() -> None:
    code = (
        "import sys; from mlspec import scaffold; scaffold.load_templates();"
        "sys.exit(any(name in sys.modules for name in ('copier', 'jinja2', 'prompt_toolkit')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


Bundled = Callable[[], list[list[float]]]


def breast_cancer() -> list[list[float]]:
    datasets = pytest.importorskip("sklearn.datasets")
    bunch = datasets.load_breast_cancer()
    return [[*row, 1 - label] for row, label in zip(bunch.data, bunch.target, strict=True)]


def diabetes() -> list[list[float]]:
    datasets = pytest.importorskip("sklearn.datasets")
    bunch = datasets.load_diabetes(scaled=False)
    return [[*row, label] for row, label in zip(bunch.data, bunch.target, strict=True)]


def digits() -> list[list[float]]:
    datasets = pytest.importorskip("sklearn.datasets")
    bunch = datasets.load_digits()
    return [[*row, label] for row, label in zip(bunch.data, bunch.target, strict=True)]


@pytest.mark.parametrize(
    ("template", "path", "bundled"),
    [
        ("tabular-classification", "data/breast-cancer.csv", breast_cancer),
        ("regression", "data/diabetes.csv", diabetes),
        ("image-classification", "data/digits.csv", digits),
    ],
)
def test_the_data_is_what_scikit_learn_has(
    tmp_path: Path, template: str, path: str, bundled: Bundled
) -> None:
    made = init_project(tmp_path / "demo", template)
    with (made.directory / path).open(newline="") as file:
        _, *rows = csv.reader(file)
    assert [row[0] for row in rows] == [str(number) for number in range(1, len(rows) + 1)]
    assert [[float(value) for value in row[1:]] for row in rows] == bundled()
