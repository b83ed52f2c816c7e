"""What goes wrong in a repository, a stage, an artifact or on a disk: said clearly, and mended.

Each test breaks a trained project, looks at what mlspec says and at what it leaves, mends the
project and sees that nothing is to do again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import http.server
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PATIENCE = 60.0
LOCK = "pipelines/loans/dvc.lock"
LEDGER = "refs/mlspec/ledger"
STAGES = {"train": "src/train.py", "evaluate": "src/evaluate.py", "prepare": "src/prepare.py"}
NO_ROOT = [
    "setpriv",
    "--bounding-set=-dac_override,-dac_read_search",
    "--inh-caps=-dac_override,-dac_read_search",
]
"""In front of a command: permissions hold for root as for others."""


@pytest.fixture
def project(trained: Any, tmp_path: Path) -> Any:
    """A copy of the trained project in which nothing serves."""
    copy = dataclasses.replace(trained, root=tmp_path / "loans", journal=tmp_path / "journal")
    shutil.copytree(trained.root, copy.root, symlinks=True)
    return copy


def fails(project: Any, *arguments: str, code: int = 1, **extra: str) -> str:
    """What a command says that must fail, in words of mlspec."""
    done = project.mlspec(*arguments, code=code, **extra)
    assert "defect" not in done.stderr, done.stderr
    return str(done.stderr)


def digests(project: Any, *left_out: str) -> dict[str, str]:
    """Of all files, of the worktree and of DVC's and mlspec's folders, but Git's."""
    return {
        str(path.relative_to(project.root)): hashlib.md5(path.read_bytes()).hexdigest()
        for path in project.root.rglob("*")
        if path.is_file() and ".git" not in path.parts and not set(left_out) & set(path.parts)
    }


def versions(project: Any) -> list[int]:
    found = project.json("show", "model.loans")["versions"]
    return [version["version"] for version in found]


def check_mended(project: Any) -> None:
    """What Git has is applied: no stage has to run for that, and then nothing is to do."""
    project.git("checkout", "--", ".")
    assert project.apply() == []
    project.mlspec("plan", "--detailed-exitcode")


# Repositories -------------------------------------------------------------------------------------


def test_a_folder_that_is_not_a_repository(project: Any) -> None:
    shutil.rmtree(project.root / ".git")
    before = digests(project)
    for command in ("validate", "plan", "apply", "status", "log", "compile", "destroy"):
        said = fails(project, command)
        assert "is not in a Git repository" in said
        assert "= help: run `git init`" in said
    assert digests(project) == before


def test_a_repository_without_a_commit(project: Any) -> None:
    shutil.rmtree(project.root / ".git")
    project.git("init", "--quiet")
    project.mlspec("plan", "--detailed-exitcode", code=2)
    assert project.apply() == ["prepare", "train", "evaluate"]
    project.mlspec("plan", "--detailed-exitcode")
    assert "no commit (dirty)" in project.mlspec("log").stdout


def test_missing_data_are_named_with_their_place(project: Any) -> None:
    (project.root / "data/loans.csv").unlink()
    for command in ("plan", "apply"):
        said = fails(project, command)
        assert "data/loans.csv does not exist" in said
        assert "--> mlspec.yaml:" in said
        assert "= help: put the data there" in said
    check_mended(project)


@pytest.mark.parametrize(
    ("locked", "arguments", "problem"),
    [
        (".git", ("apply", "--yes"), ".git/mlspec.lock: Permission denied"),
        (".git/objects", ("apply", "--yes"), "cannot be recorded: cannot write"),
        (".mlspec", ("apply", "--yes"), "Permission denied"),
        (".dvc", ("apply", "--yes"), "cannot record the run"),
        ("models", ("apply", "--yes"), "/models/loans.onnx: Permission denied"),
        ("pipelines", ("apply", "--yes"), "Permission denied"),
        ("mlspec.yaml", ("plan",), "cannot read mlspec.yaml: permission denied"),
        ("src/train.py", ("plan",), "cannot read src/train.py: Permission denied"),
        ("pipelines/loans/dvc.yaml", ("plan",), "pipelines/loans/dvc.yaml: Permission denied"),
        (LOCK, ("plan",), f"{LOCK}: Permission denied"),
    ],
)
def test_what_may_not_be_read_or_written(
    project: Any, locked: str, arguments: tuple[str, ...], problem: str
) -> None:
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("root reads and writes everything, and setpriv is not there")
    project.edit("threshold: 45", "threshold: 46")
    project.mlspec("compile")
    place = project.root / locked
    paths = [place, *place.rglob("*")] if arguments[0] == "apply" else [place]
    modes = {path: path.stat().st_mode for path in paths if not path.is_symlink()}
    for path, mode in modes.items():
        path.chmod(mode & ~0o222 if place.is_dir() else 0)
    prefix = NO_ROOT if os.geteuid() == 0 else []
    try:
        done = project.run(*prefix, "mlspec", *arguments, code=1)
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
    assert problem in done.stderr
    assert "defect" not in done.stderr
    project.git("checkout", "--", ".")
    project.mlspec("apply", "--yes")
    project.mlspec("plan", "--detailed-exitcode")


def test_a_memory_that_cannot_be_kept_is_done_without(project: Any) -> None:
    shutil.rmtree(project.root / ".mlspec/cache")
    (project.root / ".mlspec/cache").write_text("in the way")
    project.check_settled()


# Generated files and DVC's ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"{{{", "it is not YAML"),
        (b"<<<<<<< HEAD\nschema: '2.0'\n=======\n>>>>>>> theirs\n", "it is not YAML"),
        (b"- a list\n", "it has no stages"),
        (b"stages: {train: {cmd: [1]}}\n", "the entry of train is not one that DVC writes"),
        (b"\xff\xfe\x00", f"{LOCK} is not UTF-8 text"),
    ],
    ids=["garbage", "conflict", "list", "entry", "binary"],
)
def test_a_damaged_lock_file_is_refused(project: Any, content: bytes, problem: str) -> None:
    (project.root / LOCK).write_bytes(content)
    for command in ("plan", "apply"):
        assert problem in fails(project, command)
    assert (project.root / LOCK).read_bytes() == content
    check_mended(project)


@pytest.mark.parametrize("kind", ["empty", "missing"])
def test_a_lost_lock_file_is_written_again(project: Any, kind: str) -> None:
    path = project.root / LOCK
    before = path.read_bytes()
    path.write_text("") if kind == "empty" else path.unlink()
    assert set(project.plan()) == {f"stage.loans.{stage}" for stage in STAGES}
    assert project.apply() == []
    project.check_settled()
    assert set(path.read_text().splitlines()) == set(before.decode().splitlines())


def test_a_folder_in_the_place_of_a_file(project: Any) -> None:
    for path in (LOCK, "pipelines/loans/dvc.yaml"):
        (project.root / path).unlink()
        (project.root / path).mkdir()
        assert f"{path}: Is a directory" in fails(project, "apply", "--yes")
        (project.root / path).rmdir()
        check_mended(project)


@pytest.mark.parametrize("inside", [True, False])
def test_a_link_in_the_place_of_a_generated_file(project: Any, inside: bool) -> None:
    path = project.root / "pipelines/loans/dvc.yaml"
    elsewhere = project.root / "mine.yaml" if inside else project.root.parent / "mine.yaml"
    elsewhere.write_text("mine")
    path.unlink()
    path.symlink_to(elsewhere)
    said = fails(project, "apply", "--yes")
    assert "pipelines/loans/dvc.yaml" in said
    assert "= help:" in said
    assert elsewhere.read_text() == "mine"
    path.unlink()
    check_mended(project)


@pytest.mark.parametrize("folder", ["pipelines", "cards", "pipelines/loans"])
def test_a_folder_that_leads_out_of_the_repository(project: Any, folder: str) -> None:
    elsewhere = project.root.parent / "elsewhere"
    elsewhere.mkdir()
    shutil.rmtree(project.root / folder)
    (project.root / folder).symlink_to(elsewhere)
    for command in (("apply", "--yes"), ("compile",)):
        assert "would be written outside of the repository" in fails(project, *command)
    assert list(elsewhere.iterdir()) == []
    (project.root / folder).unlink()
    check_mended(project)


@pytest.mark.parametrize("path", [".dvc/config", "cards/loans.md", "pipelines/loans/dvc.yaml"])
def test_a_file_of_the_users_own_is_left_alone(project: Any, path: str) -> None:
    project.write(path, "# mine\n")
    for command in (("plan",), ("apply", "--yes"), ("compile",)):
        said = fails(project, *command)
        assert f"{path} exists and was not generated by mlspec" in said
        assert "= help: move it away" in said
    assert project.read(path) == "# mine\n"
    check_mended(project)


def test_somebody_else_holds_dvcs_lock(project: Any) -> None:
    project.edit("threshold: 45", "threshold: 46")
    (project.root / ".dvc/tmp").mkdir(exist_ok=True)
    with (project.root / ".dvc/tmp/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        release = threading.Timer(3, lambda: fcntl.flock(lock, fcntl.LOCK_UN))
        release.start()
        assert project.apply() == ["train", "evaluate"]
    project.check_settled()


# The ledger ---------------------------------------------------------------------------------------


def foreign(project: Any) -> None:
    project.git("update-ref", LEDGER, "HEAD")


def not_a_commit(project: Any) -> None:
    project.git("update-ref", LEDGER, project.git("rev-parse", "HEAD:mlspec.yaml"))


def lost(project: Any) -> None:
    project.write(f".git/{LEDGER}", "1" * 40)


def no_object(project: Any) -> None:
    project.write(f".git/{LEDGER}", "garbage")


def state_of(change: Callable[[str], str]) -> Callable[[Any], None]:
    """Puts another `state.json` into the ledger's tree."""

    def damage(project: Any) -> None:
        index = {"GIT_INDEX_FILE": str(project.root / ".git/other-index")}
        project.run("git", "read-tree", LEDGER, **index)
        files = project.run("git", "ls-files", **index).stdout.split()
        path = next(file for file in files if file.endswith("/state.json"))
        (project.root / "state").write_text(change(project.git("show", f"{LEDGER}:{path}")))
        blob = project.git("hash-object", "-w", "state")
        (project.root / "state").unlink()
        project.run("git", "update-index", "--cacheinfo", f"100644,{blob},{path}", **index)
        tree = project.run("git", "write-tree", **index).stdout.strip()
        message = project.git("log", "-1", "--format=%B", LEDGER)
        commit = project.git("commit-tree", tree, "-p", LEDGER, "-m", message)
        project.git("update-ref", LEDGER, commit)

    return damage


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (foreign, "ledger.json at commit"),
        (not_a_commit, "the ledger's commit"),
        (lost, "is missing"),
        (no_object, "broken ref"),
        (state_of(lambda _: "{}{"), "is not a ModelState that this mlspec knows"),
        (state_of(lambda _: '{"runs": 3}'), "runs: Input should be an object"),
        (state_of(lambda text: '{"new": 1,' + text[1:]), "new: Extra inputs are not permitted"),
    ],
    ids=["foreign", "blob", "lost", "no-object", "not-json", "wrong-type", "newer"],
)
def test_a_damaged_ledger_is_refused(
    project: Any, damage: Callable[[Any], None], problem: str
) -> None:
    good = project.git("rev-parse", LEDGER)
    project.edit("threshold: 45", "threshold: 46")  # a record that nobody needs is not read
    damage(project)
    bad = project.read(f".git/{LEDGER}")
    before = digests(project, "cache")
    for command in (("plan",), ("apply", "--yes"), ("status",)):
        assert problem in fails(project, *command)
    assert project.read(f".git/{LEDGER}") == bad
    assert digests(project, "cache") == before
    project.write(f".git/{LEDGER}", f"{good}\n")
    project.edit("threshold: 46", "threshold: 45")
    project.check_settled()


# Stages -------------------------------------------------------------------------------------------

WRITE = """from pathlib import Path
Path("build/rows.csv").write_text("income,age,repaid\\n70,30,1\\n")
"""


@dataclasses.dataclass(frozen=True)
class Bad:
    """Code in the place of `src/prepare.py`, and what mlspec must say of it."""

    code: str
    said: tuple[str, ...]
    stage: str = "prepare"
    spec: str = ""


BAD_STAGES = {
    "exit code": Bad(
        "print(*range(60), sep='\\n')\nraise SystemExit(3)",
        (
            "stage.loans.prepare: exit code 3",
            "\n         | 10\n         | 11\n",
            "| 59\n",
            "stage.loans.prepare.log",
        ),
    ),
    "exception": Bad(
        "import sys\nsys.tracebacklimit = 0\n1 / 0",
        ("exit code 1", "| ZeroDivisionError: division"),
    ),
    "signal": Bad("import os\nos.kill(os.getpid(), 11)", ("killed by SIGSEGV",)),
    "timeout": Bad(
        "import os, signal, time\nsignal.signal(15, signal.SIG_IGN)\nos.fork()\ntime.sleep(600)",
        ("ended after its timeout of 1 s",),
        spec="timeout: 1s",
    ),
    "retries": Bad(
        "print('tried')\nraise SystemExit(4)",
        ("exit code 4; trying again (2 of 2)", "exit code 4 (try 3)"),
        spec="retries: 2",
    ),
    "memory": Bad(
        "import resource, sys\nsys.tracebacklimit = 0\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**28, 2**28))\nbytes(2**30)",
        ("exit code 1", "| MemoryError"),
    ),
    "not a program": Bad("\x7fELF", ("exit code 1",)),
    "no output": Bad("print('done')", ("ended well and did not write build/rows.csv",)),
    "a link out": Bad(
        "import os\nos.symlink('/etc/passwd', 'build/rows.csv')",
        (
            "cannot be kept: build/rows.csv leads out of the repository",
            "= help: have the stage write",
        ),
    ),
    "a link to nothing": Bad(
        "import os\nos.symlink('nowhere', 'build/rows.csv')", ("did not write build/rows.csv",)
    ),
    "a pipe": Bad(
        "import os\nos.mkfifo('build/rows.csv')", ("build/rows.csv is neither a file nor a folder",)
    ),
    "another's output": Bad(
        WRITE + 'Path("metrics/loans.json").write_text("{}")',
        ("wrote to metrics/loans.json, which it does not own",),
    ),
    "its input": Bad(
        WRITE + 'Path("data/loans.csv").write_text("")',
        ("stage.loans.prepare: ran, and data/loans.csv changed meanwhile",),
    ),
    "its code": Bad(
        WRITE + 'Path("src/prepare.py").write_text("edited while it runs")',
        ("stage.loans.prepare: ran, and src/prepare.py changed meanwhile",),
    ),
    "its params": Bad(
        WRITE + 'Path("pipelines/loans/params.json").write_text("{}")',
        ("stage.loans.prepare: ran, and pipelines/loans/params.json changed meanwhile",),
    ),
    "deleted input": Bad(
        WRITE + 'Path("data/loans.csv").unlink()',
        ("stage.loans.prepare: ran, and data/loans.csv changed meanwhile",),
    ),
    "folder for an artifact": Bad(
        "import os\nos.mkdir('models/loans.onnx')",
        ("stage.loans.train: made models/loans.onnx a folder",),
        stage="train",
    ),
    "folder for metrics": Bad(
        "import os\nos.mkdir('metrics/loans.json')",
        ("stage.loans.evaluate: made metrics/loans.json a folder",),
        stage="evaluate",
    ),
    "metrics not a number": Bad(
        "open('metrics/loans.json', 'w').write('{\"accuracy\": NaN}')",
        ("metrics/loans.json: accuracy is nan, expected a finite number",),
        stage="evaluate",
    ),
    "metrics given twice": Bad(
        "open('metrics/loans.json', 'w').write('{\"a\": 1, \"a\": 2}')",
        ("metrics/loans.json: not JSON: a key is given twice",),
        stage="evaluate",
    ),
    "metrics too large": Bad(
        "open('metrics/loans.json', 'w').write('{\"a\": 1}' + ' ' * 2**21)",
        ("metrics/loans.json: metrics files are limited to",),
        stage="evaluate",
    ),
    "metrics elsewhere": Bad(
        "import os\nos.symlink('/etc/passwd', 'metrics/loans.json')",
        ("metrics/loans.json leads out of the repository, to /etc/passwd",),
        stage="evaluate",
    ),
}


@pytest.mark.parametrize("bad", BAD_STAGES.values(), ids=BAD_STAGES)
def test_a_bad_stage(project: Any, bad: Bad) -> None:
    """It fails, what comes after it is not done, nothing of it is believed later."""
    lock = project.read(LOCK)
    project.write(STAGES[bad.stage], bad.code)
    if bad.spec:
        project.edit("outputs: [build/rows.csv]", f"outputs: [build/rows.csv]\n        {bad.spec}")
    said = fails(project, "apply", "--yes")
    for words in bad.said:
        assert words in said
    assert "skipped  model.loans: " in said
    assert project.read(LOCK) == lock
    newest = project.json("log")[0]
    assert (newest["address"], newest["outcome"]) == (f"stage.loans.{bad.stage}", "failed")
    assert not children_of(project)
    if (project.root / STAGES[bad.stage]).read_text() == bad.code:
        project.git("checkout", "--", "data", "pipelines")
        assert project.plan()[f"stage.loans.{bad.stage}"]["action"] == "run"
    check_mended(project)


def children_of(project: Any) -> list[str]:
    """Processes whose working folder is the project's; those that just end are waited for."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (process / "cwd").readlink() == project.root:
                    found.append((process / "cmdline").read_text().replace("\0", " "))
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def test_a_stage_that_leaves_a_process_behind(project: Any) -> None:
    code = project.read("src/prepare.py")
    project.write(
        "src/prepare.py", f"import subprocess\nsubprocess.Popen(['sleep', '600'])\n{code}"
    )
    assert project.apply() == ["prepare"]
    assert not children_of(project)
    project.check_settled()


def test_a_retry_that_succeeds(project: Any) -> None:
    project.edit("outputs: [build/rows.csv]", "outputs: [build/rows.csv]\n        retries: 1")
    code = project.read("src/prepare.py")
    once = (
        "import os\nfrom pathlib import Path\nseen = Path(os.environ['STAGE_JOURNAL'] + '.once')\n"
    )
    once += "if not seen.exists():\n    seen.touch()\n    raise SystemExit(9)\n"
    project.write("src/prepare.py", once + code)
    done = project.mlspec("apply", "--yes")
    assert "exit code 9; trying again (1 of 1)" in done.stderr
    project.check_settled()


def test_what_a_stage_prints_is_shown_not_obeyed(project: Any) -> None:
    hostile = (
        rb"\x1b[31mred \x1b]8;;http://example.org\x07link\x1b]8;;\x07 \x1b]0;title\x07\n"
        rb"::set-env name=PATH::/evil\n::error::oops\n##[add-mask]x\n"
        rb"bidi \xe2\x80\xae\xe2\x81\xa6 hidden\xe2\x80\x8b\nbad \xff\xfe\nnul \x00 csi \xc2\x9b\n"
    )
    code = f"import sys\nout = sys.stdout.buffer\nout.write(b'{hostile.decode()}')\n"
    code += "out.write(b'x' * 2**21)\nout.flush()\nraise SystemExit(1)\n"
    project.write("src/prepare.py", code)
    said = fails(project, "apply", "--yes") + project.mlspec("log").stdout
    for character in "\x1b\x07\x00\x9b\u202e\u2066\u200b":
        assert character not in said
    assert "\\x1b[31mred" in said
    assert "\\u202e" in said
    for line in said.splitlines():
        assert not line.lstrip().startswith(("::", "##["))
        assert len(line) < 5000
    logs = sorted(project.root.glob(".mlspec/logs/*/stage.loans.prepare.log"))
    content = logs[-1].read_bytes()
    assert content.startswith(b"\x1b[31mred")
    assert content.endswith(b"x" * 2**21)


def test_a_metric_that_a_gate_asks_for_and_nobody_measured(project: Any) -> None:
    project.write("src/evaluate.py", "open('metrics/loans.json', 'w').write('{\"recall\": 1}')")
    said = fails(project, "apply", "--yes", code=3)
    assert "gate.loans.accuracy: accuracy was not measured; measured: recall" in said
    assert project.plan() == {}
    assert "accuracy was not measured" in project.held()["model.loans"]
    check_mended(project)


def test_data_that_go_between_planning_and_running(project: Any) -> None:
    """`prepare` removes what `train` reads, too."""
    project.edit("inputs: [build/rows.csv]", "inputs: [build/rows.csv, data/rates.csv]")
    project.write("data/rates.csv", "1")
    code = project.read("src/prepare.py")
    project.write("src/prepare.py", code + '\nPath("data/rates.csv").unlink()\n')
    said = fails(project, "apply", "--yes")
    assert "stage.loans.train: was not run: data/rates.csv changed since the plan was made" in said
    assert project.ran() == ["prepare"]
    check_mended(project)


# Artifacts and services ---------------------------------------------------------------------------

LINEAR = (
    "from linear import linear_model\nmodel = linear_model({'income': 1.0, 'age': 0.0}, -45.0)\n"
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("write(b'garbage')", "is not an ONNX model"),
        ("write(b'')", "is empty"),
        ("import pickle\nwrite(pickle.dumps([1]))", "is a pickle, which can run any code"),
        (f"{LINEAR}write(model.SerializeToString()[:90])", "is not an ONNX model"),
        (
            f"{LINEAR}model.opset_import[0].version = 999\nwrite(model.SerializeToString())",
            "is not",
        ),
        (f"{LINEAR}del model.graph.node[:]\nwrite(model.SerializeToString())", "it has no nodes"),
    ],
    ids=["garbage", "empty", "pickle", "truncated", "opset", "hollow"],
)
def test_an_artifact_that_cannot_be_served(project: Any, code: str, problem: str) -> None:
    accurate = "open('metrics/loans.json', 'w').write('{\"accuracy\": 1}')"
    project.write("src/evaluate.py", accurate)
    write = "from pathlib import Path\nwrite = Path('models/loans.onnx').write_bytes\n"
    project.write("src/train.py", f"{write}{code}\n")
    said = fails(project, "apply", "--yes")
    assert "failed  model.loans: " in said
    assert problem in said
    assert set(project.plan()) >= {"model.loans"}
    assert versions(project) == [1]
    check_mended(project)


@pytest.mark.slow
def test_a_skops_file_with_types_of_somebody(project: Any) -> None:
    project.edit(
        "artifact: {path: models/loans.onnx, format: onnx}",
        "artifact: {path: models/loans.onnx, format: skops}",
    )
    project.write("src/evaluate.py", "open('metrics/loans.json', 'w').write('{\"accuracy\": 1}')")
    project.write("src/own.py", "class Estimator:\n    predict = len\n")
    project.write(
        "src/train.py",
        "import own, skops.io\nskops.io.dump(own.Estimator(), 'models/loans.onnx')\n",
    )
    said = fails(project, "apply", "--yes")
    assert "holds types that are not loaded: own.Estimator" in said
    assert "= help: only estimators of scikit-learn" in said


@contextlib.contextmanager
def occupied() -> Iterator[int]:
    """A port that another program serves."""
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.slow
def test_a_port_in_use(served: Any) -> None:
    """First of a new deployment, then of one that moves: what serves is not touched."""
    port = served.serving()["port"]
    with occupied() as taken:
        served.edit(f"port: {port}", f"port: {taken}")
        for _ in range(2):
            said = fails(served, "apply", "--yes")
            assert f"port {taken} is in use by process {os.getpid()}" in said
            assert list(served.plan()) == ["deployment.loans@local"]
            served.edit(f"port: {taken}", f"port: {port}")
            assert served.ask(70) == (1, 25.0)
            served.edit(f"port: {port}", f"port: {taken}")
        served.mlspec("destroy", "--yes")
        said = fails(served, "apply", "--yes")
        assert f"port {taken} is in use by process {os.getpid()}" in said
        assert "= help: free the port, or give targets.local another one" in said
    served.apply()
    assert served.ask(70) == (1, 25.0)
    served.mlspec("plan", "--detailed-exitcode")


@pytest.mark.slow
def test_a_service_that_does_not_become_ready(served: Any) -> None:
    served.edit("resources: {cpus: 1}", "resources: {cpus: 1, memory: 1MiB}")
    done = subprocess.run(
        ["mlspec", "apply", "--yes"],
        cwd=served.root,
        env=served.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 6
    assert "failed  deployment.loans@local: version 1 of loans was not taken" in done.stderr
    assert "a worker ended with exit code" in done.stderr
    assert "= help: the whole log is" in done.stderr
    assert served.ask(70) == (1, 25.0)
    assert served.plan() == {}
    assert "refused" in served.held()["deployment.loans@local"]
    served.git("checkout", "--", ".")
    served.mlspec("plan", "--detailed-exitcode")


# Disks --------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(project: Any, tmp_path: Path) -> Iterator[Any]:
    """The project on a file system of two megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("only root may mount a file system")
    try:
        copy = dataclasses.replace(project, root=disk / "loans")
        shutil.copytree(project.root, copy.root, symlinks=True)
        yield copy
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(project: Any, *, but: int) -> Path:
    """Leave `but` bytes free."""
    filler = Path(project.root.parent / "filler")
    found = os.statvfs(project.root)
    filler.write_bytes(bytes(max(0, found.f_bavail * found.f_frsize - but)))
    return filler


@pytest.mark.slow
@pytest.mark.parametrize("free", [0, 4, 8, 16, 32, 64])
def test_a_full_disk(small_disk: Any, free: int) -> None:
    """Whatever is written when it is full: an error in words, and then it converges."""
    project = small_disk
    project.edit("threshold: 45", "threshold: 46")
    shutil.rmtree(project.root / ".mlspec/cache")  # what it gives up would make room
    filler = fill(project, but=free * 1024)
    before = digests(project, "cache")
    said = fails(project, "apply", "--yes")
    assert "No space left on device" in said or "couldn't write" in said
    if free == 0:
        assert digests(project, "cache") == before
        fails(project, "compile")
        fails(project, "plan", "--out", "plan.json")
        assert digests(project, "cache") == before
        assert project.plan()["stage.loans.train"]["action"] == "run"
    filler.unlink()
    project.mlspec("apply", "--yes")
    project.check_settled()
    assert not list(project.root.rglob(".mlspec-*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("calls", "commands"),
    [
        ("fsync", [("plan", "--out", "plan.json")]),
        ("rename,renameat,renameat2", [("compile",), ("plan", "--out", "plan.json")]),
    ],
    ids=["fsync", "rename"],
)
def test_a_disk_that_fails_while_a_file_is_written(
    project: Any, calls: str, commands: list[tuple[str, ...]]
) -> None:
    """Generated files and saved plans are as they were before, and no other is left.

    Generated files are not waited for: what a crash leaves of them is compared and made again.
    """
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    project.edit("threshold: 45", "threshold: 46")
    project.write("plan.json", "old")
    before = digests(project, "cache")
    inject = (strace, "-qq", "-o", "/dev/null", "-e", f"inject={calls}:error=EIO")
    for command in commands:
        done = project.run(*inject, "mlspec", *command, code=None)
        if "ptrace" in done.stderr:
            pytest.skip("processes may not be traced here")
        assert done.returncode == 1
        assert ": Input/output error\n  = help: " in done.stderr
    assert digests(project, "cache") == before
    project.mlspec("compile")
