"""Stages on a Dask cluster of processes on this machine, with storage that is reached by ssh."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("distributed")
pytestmark = pytest.mark.slow

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
SHOPS = int(os.environ.get("MLSPEC_TEST_SHOPS", "8"))
"""Models that are trained: with 50 it takes two minutes on two busy cores."""
Wait = Callable[..., Any]
Done = subprocess.CompletedProcess[str]

TRAIN = """\
import json, os, sys, time
from pathlib import Path

shop = sys.argv[1]
worker = os.environ["WORKER"]
journal = Path(os.environ["JOURNAL"])
stalled = journal.with_name(f"stalled-{shop}")


def note(word):
    with journal.open("a") as file:
        file.write(f"{word} {shop} {worker}\\n")


note("begin")
print(f"training {shop}", flush=True)
if (journal.with_name("stall").read_text() == shop) and not stalled.exists():
    stalled.write_text(f"{worker} {os.getpid()}")
    time.sleep(600)
assert Path("build/rows.csv").read_text() == "1\\n2\\n"
base = Path("src/base.onnx").read_bytes()
Path(f"models/{shop}.onnx").write_bytes(base.replace(b"shop-000", shop.encode()))
Path(f"metrics/{shop}.json").write_text(json.dumps({"accuracy": 0.9}))
note("end")
"""

HEAD = """\
mlspec: 1
project: shops
python: {{version: "{version}"}}
storage: {{url: "{storage}"}}
executors:
  cluster: {{kind: dask, address: "{address}"}}
datasets:
  sales: {{path: data/sales.csv}}
models:
  rows:
    stages:
      prepare:
        command: sort data/sales.csv > build/rows.csv
        inputs: [sales]
        outputs: [build/rows.csv]
"""

SHOP = """\
  {shop}:
    executor: cluster
    stages:
      train:
        command: python src/train.py {shop}
        inputs: [build/rows.csv]
        outputs: [models/{shop}.onnx]
        metrics: metrics/{shop}.json
    artifact: {{path: models/{shop}.onnx, format: onnx}}
    gates:
      accuracy: {{metric: accuracy, min: 0.5}}
"""


@dataclass
class Shops:
    """A repository with a model for each shop, and a bare one that it shares it by."""

    root: Path
    environment: Mapping[str, str]

    def run(self, *arguments: str, code: int | None = 0, **extra: str) -> Done:
        done = subprocess.run(
            arguments,
            cwd=self.root,
            env={**self.environment, **extra},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        said = f"{' '.join(arguments)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert code is None or done.returncode == code, said
        assert "Traceback" not in done.stderr, said
        return done

    def mlspec(self, *arguments: str, code: int | None = 0, **extra: str) -> Done:
        return self.run("mlspec", *arguments, code=code, **extra)

    def start_apply(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["mlspec", "apply", "--yes"],
            cwd=self.root,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def share(self, message: str) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", message)
        self.run("git", "push", "--quiet", "origin", "HEAD")

    def edit(self, old: str, new: str) -> None:
        path = self.root / "mlspec.yaml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))


@pytest.fixture(scope="module")
def home(environment: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of somebody who may use the storage, by a key."""
    home = tmp_path_factory.mktemp("home")
    (home / ".ssh").mkdir(mode=0o700)
    for name in ("id_ed25519", "host"):
        key = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home / ".ssh" / name))
        subprocess.run(key, env=environment, check=True)
    return home


@pytest.fixture(scope="module")
def storage(
    home: Path,
    tmp_path_factory: pytest.TempPathFactory,
    free_port: Callable[[], int],
    wait_until: Wait,
) -> Iterator[str]:
    """A folder behind an ssh server of our own, as its address."""
    if SSHD is None:
        pytest.skip("no sshd: apt-get install openssh-server")
    pytest.importorskip("dvc_ssh")
    folder = tmp_path_factory.mktemp("ssh")
    port = free_port()
    settings = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": home / ".ssh/host",
        "AuthorizedKeysFile": home / ".ssh/id_ed25519.pub",
        "PidFile": "none",
        "StrictModes": "no",
        "UsePAM": "no",
        "PasswordAuthentication": "no",
        "MaxStartups": 100,
        "MaxSessions": 100,
        "Subsystem": "sftp internal-sftp",
    }
    (folder / "config").write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    log = folder / "log"
    with log.open("wb") as errors:
        command = [SSHD, "-D", "-e", "-f", str(folder / "config")]
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=errors)
    try:
        wait_until(lambda: "listening" in log.read_text(), "sshd starts", 20)
        yield f"ssh://{getpass.getuser()}@127.0.0.1:{port}{folder}"
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(scope="module")
def base_model() -> bytes:
    """An artifact with a name in it that can be replaced by another one of eight letters."""
    onnx = pytest.importorskip("onnx")
    make = onnx.helper
    row = make.make_tensor_value_info("rows", onnx.TensorProto.FLOAT, [None, 1])
    score = make.make_tensor_value_info("score", onnx.TensorProto.FLOAT, [None, 1])
    graph = make.make_graph([make.make_node("Identity", ["rows"], ["score"])], "g", [row], [score])
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=8)
    make.set_model_props(model, {"name": "shop-000"})
    data: bytes = model.SerializeToString()
    return data


@pytest.fixture
def world(environment: Mapping[str, str], home: Path, tmp_path: Path) -> dict[str, str]:
    """The environment of mlspec and of the workers."""
    (tmp_path / "stall").write_text("")
    return {
        **environment,
        "HOME": str(home),
        "MLSPEC_WORK": str(tmp_path / "work"),
        "JOURNAL": str(tmp_path / "journal"),
    }


@pytest.fixture
def cluster(world: Mapping[str, str], make_cluster: Callable[..., Any]) -> Any:
    return make_cluster(world)


MakeShops = Callable[[int, str], Shops]


@pytest.fixture
def make_shops(
    world: Mapping[str, str], cluster: Any, base_model: bytes, tmp_path: Path
) -> MakeShops:
    def make(count: int, storage: str) -> Shops:
        shops = Shops(tmp_path / "shops", world)
        names = [f"shop-{number:03}" for number in range(1, count + 1)]
        version = "{}.{}".format(*sys.version_info)
        head = HEAD.format(
            version=version, storage=f"{storage}{tmp_path}/storage", address=cluster.address
        )
        text = head + "".join(SHOP.format(shop=name) for name in names)
        for path, content in (("mlspec.yaml", text), ("src/train.py", TRAIN)):
            (shops.root / path).parent.mkdir(parents=True, exist_ok=True)
            (shops.root / path).write_text(content)
        (shops.root / "src/base.onnx").write_bytes(base_model)
        (shops.root / "data").mkdir()
        (shops.root / "data/sales.csv").write_text("2\n1\n")
        origin = str(tmp_path / "origin.git")
        shops.run("git", "init", "--quiet", "--bare", "--initial-branch", "main", origin)
        shops.run("git", "init", "--quiet", "--initial-branch", "main")
        shops.run("git", "remote", "add", "origin", origin)
        shops.share("Start")
        return shops

    return make


@pytest.mark.thorough
def test_a_killed_worker_costs_nothing_but_time(
    make_shops: MakeShops, storage: str, cluster: Any, wait_until: Wait, tmp_path: Path
) -> None:
    shops = make_shops(SHOPS, storage)
    for name in ("ada", "bob", "cyd"):
        cluster.add(name)
    (tmp_path / "stall").write_text("shop-003")

    applying = shops.start_apply()
    stalled = tmp_path / "stalled-shop-003"
    wait_until(lambda: stalled.exists() and stalled.read_text(), "shop-003 is trained")
    victim, process = stalled.read_text().split()
    cluster.kill(victim)
    said, _ = applying.communicate(timeout=600)
    assert applying.returncode == 0, said

    wait_until(lambda: not Path("/proc", process).exists(), "the command of a dead worker ends", 60)
    notes = [line.split() for line in (tmp_path / "journal").read_text().splitlines()]
    shop_names = [f"shop-{number:03}" for number in range(1, SHOPS + 1)]
    assert sorted(shop for word, shop, _ in notes if word == "end") == shop_names
    assert next(worker for _, shop, worker in notes if shop == "shop-003") == victim
    assert len({worker for _, shop, worker in notes if shop == "shop-003"}) == 2
    log = json.loads(shops.mlspec("log", "--json", "-n", "1000").stdout)
    registered = [each["address"] for each in log if each["address"].startswith("model.shop")]
    assert sorted(registered) == [f"model.{name}" for name in shop_names]
    shops.mlspec("plan", "--detailed-exitcode")
    assert "training shop-002" in "".join(
        path.read_text() for path in shops.root.glob(".mlspec/logs/*/stage.shop-002.train.log")
    )

    shops.share("Record what was applied")
    fresh = Shops(tmp_path / "fresh", shops.environment)
    shops.run("git", "clone", "--quiet", str(tmp_path / "origin.git"), str(fresh.root))
    fresh.mlspec("pull")
    for name in shop_names:
        assert name.encode() in (fresh.root / f"models/{name}.onnx").read_bytes()
    assert fresh.run("git", "status", "--porcelain").stdout == ""
    fresh.mlspec("plan", "--detailed-exitcode")


@dataclass
class Stalled:
    """An apply whose last shop is being trained, and does not end."""

    shops: Shops
    applying: subprocess.Popen[str]
    worker: str
    process: Path

    def end(self) -> str:
        """What the apply said, once it has ended."""
        return self.applying.communicate(timeout=120)[0]


@pytest.fixture
def stalled(make_shops: MakeShops, cluster: Any, wait_until: Wait, tmp_path: Path) -> Stalled:
    """Two shops; the first is trained and recorded."""
    shops = make_shops(2, "")
    cluster.add("ada")
    cluster.add("bob")
    (tmp_path / "stall").write_text("shop-002")
    applying = shops.start_apply()
    mark = tmp_path / "stalled-shop-002"
    worker, process = wait_until(lambda: mark.exists() and mark.read_text(), "training").split()
    recorded = ("git", "log", "--format=%s", "refs/mlspec/ledger")
    wait_until(lambda: "model.shop-001: " in shops.run(*recorded).stdout, "shop-001 is registered")
    return Stalled(shops, applying, worker, Path("/proc", process))


@pytest.mark.thorough
def test_an_interrupted_apply_ends_what_it_has_on_the_cluster(
    stalled: Stalled, wait_until: Wait
) -> None:
    stalled.applying.send_signal(signal.SIGINT)
    said = stalled.end()
    assert stalled.applying.returncode == 130, said
    assert "Traceback" not in said
    wait_until(lambda: not stalled.process.exists(), "the command ends")
    assert stalled.shops.mlspec("apply", "--yes").returncode == 0
    assert "shop-001" not in stalled.shops.mlspec("plan").stdout


@pytest.mark.thorough
def test_a_scheduler_that_dies_costs_no_finished_run(
    stalled: Stalled, cluster: Any, world: Mapping[str, str], make_cluster: Any, wait_until: Wait
) -> None:
    cluster.kill("scheduler")
    said = stalled.end()
    assert stalled.applying.returncode == 5, said
    assert f"the scheduler of the cluster cluster at {cluster.address} does not answer" in said
    assert "Traceback" not in said
    wait_until(lambda: not stalled.process.exists(), "the command ends")

    again = make_cluster(world, "again")
    again.add("cyd")
    stalled.shops.edit(cluster.address, again.address)
    assert "stage.shop-001" not in stalled.shops.mlspec("plan", "--json").stdout
    stalled.shops.mlspec("apply", "--yes")
    notes = Path(world["JOURNAL"]).read_text()
    assert notes.count("begin shop-001") == 1
    assert "end shop-002 cyd" in notes


@pytest.mark.thorough
def test_a_worker_without_the_key_of_the_storage(
    make_shops: MakeShops, storage: str, cluster: Any, tmp_path: Path
) -> None:
    shops = make_shops(1, storage)
    shops.mlspec("compile")
    (tmp_path / "nobody").mkdir()
    cluster.add("eve", HOME=str(tmp_path / "nobody"))

    said = shops.mlspec("doctor", code=1).stdout
    here, _, there = said.partition("cluster, tcp://")
    assert "lacking" not in here
    assert there.count("  lacking ") == 1
    assert "  lacking storage" in there
    assert "= help: give DVC the credentials" in there
    assert said.endswith("1 thing is lacking.\n")

    done = shops.mlspec("apply", "--yes", code=5)
    assert f"on cluster, tcp://{there.split()[0]}: cannot bring the files" in done.stderr
    assert not (tmp_path / "journal").exists()
