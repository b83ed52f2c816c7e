"""What a difference touched: through data, code, requirements and the spec, on both sides of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mlspec.changes import find_touched
from mlspec.git import Git
from mlspec.reconcile import open_project
from mlspec.selection import SelectionError

SPEC = """\
mlspec: 1
project: p
include: [specs/*.yaml]
datasets:
  rows: {path: data/rows.csv}
  images: {path: data/images}
  other: {path: data/other.csv}
models:
  m:
    stages:
      prepare:
        command: python src/prepare.py
        inputs: [rows, config/labels.txt]
        outputs: [work/clean.csv]
      train:
        command: python src/train.py
        inputs: [work/clean.csv]
        params: {depth: 3}
        code: [conf]
        outputs: [model.onnx]
      evaluate:
        command: python src/evaluate.py
        inputs: [model.onnx]
        metrics: metrics.json
    artifact: {path: model.onnx, format: onnx}
    gates:
      good: {metric: auc, min: 0.8}
targets:
  here: {kind: local}
deployments:
  d: {model: m, targets: [here]}
"""
INCLUDED = """\
models:
  n:
    stages:
      look: {command: python src/look.py, inputs: [images], outputs: [look.json]}
"""
FILES = {
    "mlspec.yaml": SPEC,
    "specs/n.yaml": INCLUDED,
    "data/rows.csv": "a\n1\n",
    "data/other.csv": "b\n",
    "data/images/1.txt": "one",
    "data/images/2.txt": "two",
    "config/labels.txt": "yes\n",
    "conf/a.yaml": "a: 1\n",
    "conf/b.yaml": "b: 1\n",
    "src/prepare.py": "import shared\n",
    "src/train.py": "import shared\nimport package.deep\n",
    "src/evaluate.py": "\n",
    "src/look.py": "\n",
    "src/shared.py": "import json\n",
    "src/package/__init__.py": "",
    "src/package/deep.py": "\n",
    "src/unrelated.py": "\n",
    "requirements.txt": "numpy==2.1.0\n",
    "README.md": "about\n",
}
STAGES = {"stage.m.prepare", "stage.m.train", "stage.m.evaluate", "stage.n.look"}


class Repository:
    """A repository on disk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.git = Git(root)

    def write(self, files: dict[str, str | None]) -> None:
        for path, text in files.items():
            file = self.root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            if text is None:
                file.unlink()
            else:
                file.write_text(text)

    def replace(self, old: str, new: str, path: str = "mlspec.yaml") -> None:
        text = (self.root / path).read_text()
        assert text.count(old) == 1
        self.write({path: text.replace(old, new)})

    def commit(self) -> str:
        self.git.run("add", "--all")
        who = ("-c", "user.name=x", "-c", "user.email=x@y")
        self.git.run(*who, "commit", "--quiet", "--allow-empty", "--message", "Commit")
        return self.git.head()

    def touched(self, revisions: str = "main...HEAD") -> set[str]:
        with open_project(self.root) as project:
            return find_touched(project.git, project.resolver, revisions)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one commit, which `main` and the branch that is checked out are at."""
    repository = Repository(tmp_path_factory.mktemp("start"))
    repository.git.run("init", "--quiet", "--initial-branch=main")
    repository.write(FILES)
    repository.commit()
    repository.git.run("checkout", "--quiet", "-b", "work")
    return repository.root


@pytest.fixture
def repository(start: Path, tmp_path: Path) -> Repository:
    return Repository(shutil.copytree(start, tmp_path / "repository"))


CHANGES: list[tuple[str, dict[str, str | None], set[str]]] = [
    ("nothing of it", {"README.md": "new\n", "src/unrelated.py": "1\n"}, set()),
    ("a dataset", {"data/rows.csv": "a\n2\n"}, {"dataset.rows"}),
    ("its .dvc file", {"data/other.csv.dvc": "outs: []\n"}, {"dataset.other"}),
    ("a file in a dataset", {"data/images/2.txt": "2"}, {"dataset.images"}),
    ("one more file in a dataset", {"data/images/3.txt": "3"}, {"dataset.images"}),
    ("one less file in a dataset", {"data/images/2.txt": None}, {"dataset.images"}),
    ("an input", {"config/labels.txt": "no\n"}, {"stage.m.prepare"}),
    ("a script", {"src/train.py": "import shared\n"}, {"stage.m.train"}),
    ("a module", {"src/shared.py": "\n"}, {"stage.m.prepare", "stage.m.train"}),
    ("a module of a package", {"src/package/deep.py": "1\n"}, {"stage.m.train"}),
    ("a package on the way", {"src/package/__init__.py": "1\n"}, {"stage.m.train"}),
    ("a new module", {"src/package/more.py": "1\n"}, set()),
    ("a package that is gone", {"src/package/__init__.py": None}, {"stage.m.train"}),
    ("a new import", {"src/evaluate.py": "import unrelated\n"}, {"stage.m.evaluate"}),
    ("named code", {"conf/b.yaml": "b: 2\n"}, {"stage.m.train"}),
    ("more of named code", {"conf/c.yaml": "c: 1\n"}, {"stage.m.train"}),
    ("less of named code", {"conf/b.yaml": None}, {"stage.m.train"}),
    ("something that is gone", {"src/unrelated.py": None}, set()),
    ("requirements", {"requirements.txt": "numpy==2.2.0\n"}, STAGES | {"deployment.d@here"}),
    ("a generated file", {"cards/m.md": "by hand\n"}, {"file.cards/m.md"}),
    ("an output", {"metrics.json": "{}\n"}, set()),
]


@pytest.mark.parametrize(("files", "found"), [c[1:] for c in CHANGES], ids=[c[0] for c in CHANGES])
def test_a_file_that_differs_touches_what_is_made_of_it(
    repository: Repository, files: dict[str, str | None], found: set[str]
) -> None:
    repository.write(files)
    assert repository.touched("HEAD") == found
    repository.commit()
    assert repository.touched("main...HEAD") == found


def test_each_way_to_say_what_differs(repository: Repository) -> None:
    repository.write({"data/rows.csv": "a\n2\n"})
    assert repository.touched("main...HEAD") == set()
    repository.commit()
    for revisions in ("main", "main..HEAD", "main..", "main...HEAD", "main...", "HEAD..main"):
        assert repository.touched(revisions) == {"dataset.rows"}
    for revisions in ("HEAD", "HEAD..", "...", "HEAD...main"):
        assert repository.touched(revisions) == set()


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("depth: 3", "depth: 4", {"stage.m.train"}),
        ("project: p", "project: p  # a comment", set()),
        ("min: 0.8", "min: 0.9", {"gate.m.good"}),
        ("gates:", "gates:\n      new: {metric: auc, min: 0}", {"gate.m.new", "model.m"}),
        ("    artifact:", "    owner: ada\n    artifact:", {"model.m"}),
        ("python src/evaluate.py", "python -O src/evaluate.py", {"stage.m.evaluate"}),
        ("path: data/other.csv}", "path: data/other.csv, owner: ada}", {"dataset.other"}),
        ("path: data/other.csv", "path: README.md", {"dataset.other"}),
        ("kind: local", "kind: local, port: 3001", {"deployment.d@here"}),
        ("targets: [here]", "targets: [here], capture: {}", {"deployment.d@here"}),
        ("project: p", "project: p\npython: {version: '3.12'}", STAGES),
    ],
)  # fmt: skip
def test_what_the_spec_says_anew_is_touched(
    repository: Repository, old: str, new: str, found: set[str]
) -> None:
    repository.replace(old, new)
    assert repository.touched("HEAD") == found
    repository.commit()
    assert repository.touched("main...HEAD") == found


def test_what_is_new_is_touched_and_what_left_is_not_there(repository: Repository) -> None:
    look = "stage.n.look"
    repository.write({"specs/o.yaml": INCLUDED.replace("n:", "o:").replace("look.json", "o.json")})
    assert repository.touched("HEAD") == {"model.o", "stage.o.look"}
    repository.commit()
    repository.write({"specs/n.yaml": None})
    assert repository.touched("HEAD") == set()
    repository.commit()
    assert repository.touched("main...HEAD") == {"model.o", "stage.o.look"}
    assert look in repository.touched("HEAD..main")


def test_a_branch_is_compared_with_where_it_began(repository: Repository) -> None:
    repository.write({"src/look.py": "1\n"})
    repository.commit()
    repository.git.run("checkout", "--quiet", "main")
    repository.write({"data/rows.csv": "a\n3\n"})
    repository.commit()
    repository.git.run("checkout", "--quiet", "work")
    assert repository.touched("main...HEAD") == {"stage.n.look"}
    assert repository.touched("main..HEAD") == {"stage.n.look", "dataset.rows"}


def test_the_code_of_another_commit_is_read_there(repository: Repository) -> None:
    """What is checked out, and not committed, does not hide what a commit touched."""
    repository.write({"src/look.py": "import shared\n"})
    first = repository.commit()
    repository.write({"src/shared.py": "1\n"})
    second = repository.commit()
    repository.write({"src/look.py": "\n", "src/train.py": "\n"})
    found = {"stage.n.look", "stage.m.prepare", "stage.m.train"}
    assert repository.touched(f"{first}..{second}") == found
    repository.git.run("checkout", "--quiet", "--force", "main")
    assert repository.touched(f"{first}..{second}") == found


def test_what_is_not_committed_counts_from_a_revision_on(repository: Repository) -> None:
    repository.write({"src/look.py": "1\n"})
    repository.commit()
    repository.write({"data/rows.csv": "a\n4\n"})
    repository.git.run("add", "data/rows.csv")
    repository.write({"config/labels.txt": "maybe\n"})
    assert repository.touched("HEAD") == {"dataset.rows", "stage.m.prepare"}
    assert repository.touched("main") == {"dataset.rows", "stage.m.prepare", "stage.n.look"}
    assert repository.touched("HEAD~1") == repository.touched("main")


def test_data_that_git_does_not_see_are_compared_with_their_record(repository: Repository) -> None:
    record = "outs:\n- md5: 60b725f10c9c85c70d97880dfe8191b3\n  size: 2\n  path: other.csv\n"
    repository.git.run("rm", "--quiet", "--cached", "data/other.csv")
    repository.write(
        {"data/other.csv": "a\n", "data/other.csv.dvc": record, ".gitignore": "/data/other.csv\n"}
    )
    repository.commit()
    assert repository.touched("HEAD") == set()
    repository.write({"data/other.csv": "b\n"})
    assert repository.touched("HEAD") == {"dataset.other"}


def test_before_there_was_a_spec_all_is_new(repository: Repository) -> None:
    repository.write({"mlspec.yaml": "mlspec: 1\n"})
    broken = repository.commit()
    repository.write({"mlspec.yaml": SPEC})
    repository.commit()
    found = repository.touched(f"{broken}..HEAD")
    assert {"dataset.rows", "model.m", "deployment.d@here"} | STAGES <= found
    with pytest.raises(SelectionError, match="cannot be used"):
        repository.touched(f"main..{broken}")


Refused = Callable[[str], str]


@pytest.fixture
def refused(repository: Repository) -> Refused:
    def refused(revisions: str) -> str:
        with pytest.raises(SelectionError) as caught:
            repository.touched(revisions)
        return caught.value.message

    return refused


@pytest.mark.parametrize(
    "revision",
    ["nowhere", "main:mlspec.yaml", "HEAD^5", "^main", "main^{tree}", "0" * 40, "a b", "@{u}"],
)
def test_a_revision_that_is_no_commit_is_refused(refused: Refused, revision: str) -> None:
    assert refused(revision) == f"Git has no commit `{revision}` here"
    assert refused(f"main...{revision}") == f"Git has no commit `{revision}` here"


@pytest.mark.parametrize("revision", ["--output=written", "-p", "--all"])
def test_a_revision_is_never_an_option(
    refused: Refused, repository: Repository, revision: str
) -> None:
    for revisions in (revision, f"{revision}..HEAD", f"HEAD...{revision}"):
        assert refused(revisions) == f"`{revision}` is not a revision"
    assert not (repository.root / "written").exists()


def test_strangers_have_no_common_commit(refused: Refused, repository: Repository) -> None:
    repository.git.run("checkout", "--quiet", "--orphan", "stranger")
    repository.commit()
    assert refused("main...HEAD") == "`main...HEAD` have no commit in common"
