"""A survey of what changed is a survey of everything: the same plan, whatever was edited."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from hashlib import md5, sha256
from pathlib import Path
from random import Random

import pytest

from benchmarks.generate import generate, set_rate
from mlspec import worktree
from mlspec.compilers.generated import GeneratedFile
from mlspec.errors import SpecError
from mlspec.memo import TABLE
from mlspec.plan import Plan
from mlspec.planner import file_steps
from mlspec.providers.files import delete_file, write_files
from mlspec.reconcile import CACHE, MOST_NAMED, Project, open_project
from mlspec.resources import DatasetResource, FileResource
from mlspec.spec.edit import append_item

MODELS = 6


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made") / "repository"
    generate(root, MODELS, "files")
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose models are settled, and whose files count as old at once."""
    monkeypatch.setattr(worktree, "RACE", -(10**18))
    root = tmp_path / "repository"
    shutil.copytree(made, root, symlinks=True)
    return root


def check_files(root: Path) -> None:
    """That compile, which looks at less, finds the same files to write."""
    with open_project(root) as project:
        quick = file_steps(project.file_facts)
        assert quick == file_steps(project.survey())


def both(root: Path) -> tuple[Plan, Plan]:
    """The plan from what changed since the last time, and from everything."""
    with open_project(root) as project:
        quick = project.plan()
        return quick, project.plan_of(project.survey())


def looked_at(root: Path, monkeypatch: pytest.MonkeyPatch, facts: str = "facts") -> set[str]:
    """The models that a plan reads."""
    read = set[str]()
    from mlspec.resolve import Resolver

    real = Resolver.model

    def model(self: Resolver, name: str) -> object:
        read.add(name)
        return real(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(Resolver, "model", model)
        with open_project(root) as project:
            getattr(project, facts)
    return read


def name(number: int) -> str:
    return f"shop-{number:05d}"


def spec_of(root: Path, model: str) -> Path:
    return root / f"shops/{model}/model.yaml"


def test_what_is_settled_is_not_read_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(looked_at(root, monkeypatch)) == MODELS
    assert looked_at(root, monkeypatch) == set()
    (root / f"shops/{name(2)}/data.csv").write_text("other,data\n1,2\n")
    assert looked_at(root, monkeypatch) == {name(2)}
    assert looked_at(root, monkeypatch) == {name(2)}, "until it has been applied"


def test_files_that_are_written_are_not_made_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at(root, monkeypatch)
    (root / f"shops/{name(2)}/data.csv").write_text("other,data\n1,2\n")
    assert looked_at(root, monkeypatch, "file_facts") == {name(2)}
    assert looked_at(root, monkeypatch, "file_facts") == set(), "though it is to be trained"
    assert looked_at(root, monkeypatch) == {name(2)}


def test_what_all_have_in_common_makes_all_be_read(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at(root, monkeypatch)
    (root / "requirements.txt").write_text("numpy==2.0.0\n")
    assert len(looked_at(root, monkeypatch)) == MODELS


@pytest.mark.parametrize(
    "damage",
    [
        lambda cache: cache.write_bytes(b"not a database"),
        lambda cache: cache.write_bytes(cache.read_bytes()[:5000]),
        lambda cache: cache.unlink(),
        lambda cache: (cache.unlink(), cache.mkdir()),
    ],
    ids=["another file", "half written", "gone", "a folder"],
)
def test_a_cache_that_is_lost_changes_nothing(root: Path, damage: Callable[[Path], object]) -> None:
    before, _ = both(root)
    damage(root / CACHE)
    assert both(root) == (before, before)
    assert before.empty


def test_the_cache_of_another_place_is_not_believed(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both(root)
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(root, elsewhere, symlinks=True)
    assert len(looked_at(elsewhere, monkeypatch)) == MODELS


def edit_data(root: Path, random: Random) -> None:
    file = root / f"shops/{name(random.randrange(MODELS))}/data.csv"
    file.write_text(file.read_text() + f"{random.randrange(9)},{random.randrange(9)}\n")


def edit_code(root: Path, random: Random) -> None:
    file = root / "src" / random.choice(["train.py", "prepare.py", "rows.py"])
    file.write_text(file.read_text() + f"# {random.random()}\n")


def add_a_module_that_is_found_first(root: Path, _random: Random) -> None:
    (root / "src" / "csv.py").write_text("reader = None\n")


def edit_param(root: Path, random: Random) -> None:
    number = random.randrange(MODELS)
    if spec_of(root, name(number)).exists():
        set_rate(root, "files", number, random.choice([0.1, 0.2, 0.3]))


def edit_lock(root: Path, random: Random) -> None:
    lock = root / f"pipelines/{name(random.randrange(MODELS))}/dvc.lock"
    if lock.exists():
        lock.write_text(lock.read_text().replace("size: 2", "size: 3", 1))


def remove_something(root: Path, random: Random) -> None:
    model = name(random.randrange(MODELS))
    place = random.choice(
        [f"shops/{model}/model.json", f"pipelines/{model}/dvc.lock", f"cards/{model}.md"]
    )
    (root / place).unlink(missing_ok=True)


def edit_output(root: Path, random: Random) -> None:
    file = root / f"shops/{name(random.randrange(MODELS))}/prepared.csv"
    file.write_text(f"something,else\n{random.random()},1\n")


def edit_generated(root: Path, random: Random) -> None:
    file = root / f"pipelines/{name(random.randrange(MODELS))}/params.json"
    file.write_text(file.read_text() + " ")


def leave_the_spec(root: Path, random: Random) -> None:
    spec_of(root, name(random.randrange(MODELS))).unlink(missing_ok=True)


def go_back(root: Path, _random: Random) -> None:
    subprocess.run(["git", "checkout", "-q", "--", "."], cwd=root, check=True)


def forget_in_the_ledger(root: Path, random: Random) -> None:
    from mlspec.ledger.entry import make_entry
    from mlspec.ledger.paths import state_path

    with open_project(root) as project:
        path = state_path(name(random.randrange(MODELS)))
        project.ledger.record({path: None}, make_entry(project.git, "test"))


def rename(root: Path, random: Random) -> None:
    model = name(random.randrange(MODELS))
    file = spec_of(root, model)
    if file.exists() and f"  {model}:" in file.read_text():
        text = file.read_text().replace(f"  {model}:", f"  new-{model}:")
        file.write_text(f"{text}\nmoved:\n- {{from: model.{model}, to: model.new-{model}}}\n")


def rename_without_saying_so(root: Path, random: Random) -> None:
    file = spec_of(root, name(random.randrange(MODELS)))
    if file.exists():
        file.write_text(file.read_text().partition("\nmoved:")[0] + "\n")


def record_the_renames(root: Path, _random: Random) -> None:
    from mlspec.ledger.entry import make_entry
    from mlspec.ledger.moves import moved_records

    with open_project(root) as project:
        for former in project.recorded_so_far().moving:
            records = moved_records(project.ledger.snapshot, project.moves, former)
            project.ledger.record(records, make_entry(project.git, "test"))


EDITS = [
    rename,
    rename_without_saying_so,
    record_the_renames,
    edit_data,
    edit_code,
    add_a_module_that_is_found_first,
    edit_param,
    edit_lock,
    remove_something,
    edit_output,
    edit_generated,
    leave_the_spec,
    go_back,
    forget_in_the_ledger,
]


@pytest.mark.parametrize("seed", range(4))
def test_any_edits_give_the_plan_of_everything(root: Path, seed: int) -> None:
    random = Random(seed)
    done = []
    for _ in range(25):
        edit = random.choice(EDITS)
        edit(root, random)
        done.append(edit.__name__)
        # Two changes within one tick of the file system's clock may have one stamp.
        time.sleep(0.02)
        if random.random() < 0.5:
            check_files(root)
        quick, whole = both(root)
        assert quick == whole, done


def test_a_rename_is_looked_at_and_needs_nothing_but_its_record(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at(root, monkeypatch)
    rename(root, Random(1))
    quick, whole = both(root)
    assert quick == whole
    [moved] = [step for step in quick.steps if not step.address.startswith("file.")]
    assert (moved.action, moved.consequence) == ("move", "none")
    with open_project(root) as project:
        for step in file_steps(project.file_facts):
            if step.action == "delete":
                delete_file(root, step.address.removeprefix("file."), project.moves)
        write_files(root, {f.path: f.text for f in generated(project)})
    assert [step.action for step in both(root)[0].steps] == ["move"]
    record_the_renames(root, Random(1))
    assert len(looked_at(root, monkeypatch)) == 1
    assert looked_at(root, monkeypatch) == set()
    assert both(root)[0].empty and both(root)[1].empty


@pytest.mark.parametrize(
    ("version", "why"),
    [(1, "version 1 is quarantined: bad"), (7, "quarantined, and the ledger does not have it")],
)
def test_a_quarantine_is_seen_and_kept_and_taken_back(
    root: Path, version: int, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert both(root)[0].empty
    file, path = spec_of(root, name(2)), ("models", name(2), "quarantine")
    before = file.read_text()
    file.write_text(append_item(before, path, {"version": version, "reason": "bad"}) or "")
    for _ in range(2):
        quick, whole = both(root)
        assert quick == whole
        assert quick.empty
        assert [each.address for each in quick.held] == [f"model.{name(2)}"]
        assert why in quick.held[0].reason
    assert looked_at(root, monkeypatch) == set(), "what is held is settled"
    file.write_text(before)
    quick, whole = both(root)
    assert quick == whole
    assert not quick.held


def test_the_memory_is_small(root: Path) -> None:
    with open_project(root) as project:
        project.plan()
        kept = sum(len(value) for _, value in cache_of(project).items(TABLE))
    assert kept / MODELS < 6000


def cache_of(project: Project):
    assert project.worktree.cache is not None
    return project.worktree.cache


def test_plans_as_json_are_the_same(root: Path) -> None:
    edit_data(root, Random(1))
    quick, whole = both(root)
    assert json.dumps(quick.as_dict()) == json.dumps(whole.as_dict())
    assert not quick.empty


def chained(writes: str, datasets: str = "{}") -> str:
    return f"""
mlspec: 1
project: chain
datasets: {datasets}
models:
  first:
    stages: {{copy: {{command: make, inputs: [in.txt], outputs: [{writes}]}}}}
  second:
    stages: {{copy: {{command: make, inputs: [a.txt], outputs: [b.txt]}}}}
"""


def test_who_reads_what_nobody_writes_any_more_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worktree, "RACE", -(10**18))
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / "in.txt").write_text("in")
    (tmp_path / "mlspec.yaml").write_text(chained("a.txt"))
    with open_project(tmp_path) as project:
        write_files(tmp_path, {f.path: f.text for f in generated(project)})
    both(tmp_path)
    assert looked_at(tmp_path, monkeypatch, "file_facts") == set()
    (tmp_path / "mlspec.yaml").write_text(chained("other.txt"))
    with open_project(tmp_path) as project, pytest.raises(SpecError, match="1 problem"):
        project.file_facts  # noqa: B018
    (tmp_path / "mlspec.yaml").write_text(chained("a.txt"))
    check_files(tmp_path)
    (tmp_path / "mlspec.yaml").write_text(chained("a.txt", "{raw: {path: in.txt}}"))
    with open_project(tmp_path) as project:
        assert "file.cards/first.md" in {step.address for step in file_steps(project.file_facts)}
    check_files(tmp_path)


def test_who_reads_what_a_deleted_model_made_is_named_by_every_plan(root: Path) -> None:
    from mlspec.ledger.entry import make_entry
    from mlspec.ledger.paths import run_path

    data = f"shops/{name(3)}/data.csv"
    with open_project(root) as project:
        recorded = project.recorded()
        state = recorded.model_state(name(2))
        assert state is not None
        stage, fingerprint = min(state.runs.items())
        run = recorded.run(name(2), stage, fingerprint)
        assert run is not None
        entry = {**run.entry, "outs": [*run.entry["outs"], {"path": data}]}
        path = run_path(name(2), stage, fingerprint)
        changed = run.model_copy(update={"entry": entry})
        project.ledger.record({path: changed}, make_entry(project.git, "test"))
    both(root)
    spec_of(root, name(2)).unlink()
    for _ in range(2):
        quick, whole = both(root)
        assert quick == whole
        [gone] = [step for step in quick.steps if step.address == f"model.{name(2)}"]
        assert f"still read by stage.{name(3)}." in gone.reason


def generated(project: Project) -> list[GeneratedFile]:
    return [each.generated for each in project.desired.of(FileResource)]


def test_more_datasets_than_git_can_be_asked_about_by_name(tmp_path: Path) -> None:
    names = [f"data-{number}" for number in range(MOST_NAMED + 1)]
    lines = [f"  {name}: {{path: data/{name}.csv}}" for name in names]
    (tmp_path / "data").mkdir()
    for name in names:
        (tmp_path / f"data/{name}.csv").write_text(name)
    (tmp_path / "mlspec.yaml").write_text(
        "\n".join(["mlspec: 1", "project: many", "datasets:", *lines])
    )
    (tmp_path / ".gitignore").write_text("/data/data-7.csv\n")
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    subprocess.run(["git", "-C", tmp_path, "add", "."], check=True)
    with open_project(tmp_path) as project:
        kept = {each.name: each.in_git for each in project.desired.of(DatasetResource)}
    assert kept == {name: name != "data-7" for name in names}


def test_a_model_of_others_is_settled_until_its_file_changes(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlspec.ledger.entry import make_entry
    from mlspec.ledger.paths import candidate_path, state_path
    from mlspec.ledger.records import Candidate, ModelState

    file, data = root / "shops/credit/credit.onnx", b"what others made"
    file.parent.mkdir()
    file.write_bytes(data)
    Path(f"{file}.dvc").write_text(f"outs:\n- md5: {md5(data).hexdigest()}\n  path: credit.onnx\n")
    digest = f"sha256:{sha256(data).hexdigest()}"
    spec_of(root, "credit").write_text(
        "models:\n  credit:\n"
        f"    from: {{mlflow: 'mlruns#credit/1', digest: '{digest}', licence: MIT}}\n"
        "    artifact: {path: shops/credit/credit.onnx, format: onnx}\n"
    )
    quick, whole = both(root)
    assert quick == whole
    assert {step.address: step.action for step in quick.steps} == {
        "file.cards/credit.md": "create",
        "model.credit": "register",
    }
    with open_project(root) as project:
        fingerprint = project.facts.fingerprints["model.credit"]
        card = project.desired.get(FileResource, "file.cards/credit.md").generated
        write_files(root, {card.path: card.text})
        candidate = Candidate(
            fingerprint=fingerprint,
            stages={},
            status="accepted",
            version=1,
            commit="",
            source={"mlflow": "mlruns#credit/1", "digest": digest, "licence": "MIT"},
        )
        records = {
            candidate_path("credit", fingerprint): candidate,
            state_path("credit"): ModelState(candidate=fingerprint, version=1),
        }
        project.ledger.record(records, make_entry(project.git, "test"))
    assert both(root)[0].empty
    assert looked_at(root, monkeypatch) == set()
    file.write_bytes(b"something else")
    for _ in range(2):
        with pytest.raises(SpecError) as error:
            both(root)
        assert [each.code for each in error.value.diagnostics] == ["MLS606"]
    file.unlink()
    assert both(root)[0].empty, "its `.dvc` file stands for it"
    Path(f"{file}.dvc").unlink()
    with pytest.raises(SpecError):
        both(root)
    file.write_bytes(data)
    assert both(root)[0].empty
    pipeline = root / "pipelines/credit/dvc.yaml"
    pipeline.parent.mkdir()
    pipeline.write_text(f"# Generated {card.text[:60]}\nstages: {{}}\n")
    file.write_bytes(data)  # looked at again, as after an edit of the spec that took its stages
    quick, whole = both(root)
    assert quick == whole
    assert [step.address for step in quick.steps] == ["file.pipelines/credit/dvc.yaml"]
    assert both(root)[0] == quick, "until it is gone"


def test_a_model_that_is_fetched_is_looked_at_when_what_is_wanted_changes(root: Path) -> None:
    (root / "shops/credit").mkdir()
    asked = "models:\n  credit:\n    from: {{url: '{}', digest: 'sha256:{}', licence: MIT}}\n"
    rest = "    artifact: {path: shops/credit/credit.onnx, format: onnx}\n"
    there = "https://example.org/credit.onnx"
    spec = spec_of(root, "credit")
    spec.write_text(asked.format(there, "0f" * 32) + rest)
    quick, whole = both(root)
    assert quick == whole
    actions = {step.address: step.action for step in quick.steps if step.address[:5] != "file."}
    assert actions == {"stage.credit.fetch": "run", "model.credit": "register"}
    before = {step.address: step for step in quick.steps}["stage.credit.fetch"]
    write_files(root, {"requirements.txt": "another==1\n"})
    quick, whole = both(root)
    assert quick == whole
    assert before in quick.steps, "packages have nothing to do with it"
    for place, digest in ((there, "f0" * 32), ("https://example.org/other.onnx", "f0" * 32)):
        spec.write_text(asked.format(place, digest) + rest)
        quick, whole = both(root)
        assert quick == whole
        fetch = {step.address: step for step in quick.steps}["stage.credit.fetch"]
        assert place in fetch.reason
        assert digest[:12] in fetch.reason
