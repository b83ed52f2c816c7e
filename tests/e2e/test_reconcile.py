"""The agent: ten commits while it runs, and what it did with each; drift, told and mended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
PATIENCE = 180.0
DEPLOYMENT = "deployment.loans@local"


class Watching:
    """An agent in a process of its own, and the events that it has told."""

    def __init__(self, clone: Any, *arguments: str) -> None:
        self.events: list[dict[str, Any]] = []
        self.process = subprocess.Popen(
            ["mlspec", "reconcile", "--watch", "--interval", "0.2s", "--json", *arguments],
            cwd=clone.root,
            env={**clone.environment, "STAGE_JOURNAL": str(clone.journal)},
            stdout=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.events.append(json.loads(line))

    def told(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == name]

    def wait(self, name: str, count: int = 1) -> dict[str, Any]:
        """The event of this name that comes as number `count`."""
        deadline = time.monotonic() + PATIENCE
        while len(self.told(name)) < count:
            assert self.process.poll() is None, self.events
            assert time.monotonic() < deadline, self.events
            time.sleep(0.05)
        return self.told(name)[count - 1]

    def end(self) -> int:
        """Ask it to end; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)


@pytest.fixture
def remote(tmp_path: Path, start_project: Callable[[], Any]) -> Any:
    """Somebody's repository, with a deployment, and its bare remote."""
    author = start_project()
    author.declare_deployment()
    author.run("git", "init", "--quiet", "--bare", "--initial-branch", "main", f"{tmp_path}/r.git")
    author.git("remote", "add", "origin", f"{tmp_path}/r.git")
    author.commit("Start")
    author.git("push", "--quiet", "origin", "main")
    return author


@pytest.fixture
def clone(tmp_path: Path, remote: Any, checkout: Callable[[Path], Any]) -> Iterator[Any]:
    """The agent's clone."""
    remote.run("git", "clone", "--quiet", f"{tmp_path}/r.git", f"{tmp_path}/agent")
    agent = checkout(tmp_path / "agent")
    yield agent
    agent.end()


def test_ten_commits_are_each_attempted_once_and_in_order(remote: Any, clone: Any) -> None:
    agent = Watching(clone, "--listen", "127.0.0.1:0")
    try:
        agent.wait("attempted")
        assert clone.ask(70) == (1, 25.0)
        good = remote.read()
        remote.write("NOTES.md", "Nothing that a plan reads.\n")
        remote.commit("Say more")
        remote.edit("threshold: 45", "threshold: 48")
        better = remote.commit("Take less risk")
        remote.write("mlspec.yaml", good + "models: [\n")
        remote.commit("Break the spec")
        remote.git("revert", "--no-edit", "HEAD")
        remote.git("push", "--quiet", "origin", "main")
        agent.wait("attempted", 5)
        assert clone.ask(70) == (2, 22.0)

        head, _, _ = remote.read().partition("models:")
        remote.write("mlspec.yaml", head)
        remote.commit("Delete everything")
        remote.git("push", "--quiet", "origin", "main")
        agent.wait("attempted", 6)
        assert clone.ask(70) == (2, 22.0), "nothing was deleted"
        remote.git("revert", "--no-edit", "HEAD")
        remote.edit("threshold: 48", "threshold: 35")
        worse = remote.commit("Take more risk")
        remote.git("push", "--quiet", "origin", "main")
        agent.wait("attempted", 8)
        assert clone.ask(70) == (2, 22.0), "a worse model never serves"

        trained = clone.ran()
        remote.git("revert", "--no-edit", worse)
        remote.git("revert", "--no-edit", better)
        remote.git("push", "--quiet", "origin", "main")
        agent.wait("attempted", 10)
        assert clone.ask(70) == (1, 25.0)
        assert clone.ran() == trained, "to go back runs nothing"

        assert [(event["subject"], event["outcome"]) for event in agent.told("attempted")] == [
            ("Start", "applied"),
            ("Say more", "unchanged"),
            ("Take less risk", "applied"),
            ("Break the spec", "invalid"),
            ('Revert "Break the spec"', "unchanged"),
            ("Delete everything", "refused"),
            ('Revert "Delete everything"', "unchanged"),
            ("Take more risk", "rejected"),
            ('Revert "Take more risk"', "applied"),
            ('Revert "Take less risk"', "applied"),
        ]
        pushed = remote.git("rev-list", "--first-parent", "--reverse", "main").split()
        assert [event["commit"] for event in agent.told("attempted")] == pushed
        details = {event["subject"]: event["detail"] for event in agent.told("attempted")}
        assert "MLS" in details["Break the spec"]
        assert "would delete all there is" in details["Delete everything"]
        assert "accuracy 0.85 < 0.9" in details["Take more risk"]
        metrics = ask(agent, "metrics")
        assert 'mlspec_reconcile_attempts_total{outcome="applied"} 4\n' in metrics
        assert 'mlspec_reconcile_attempts_total{outcome="refused"} 1\n' in metrics
        assert f'mlspec_reconcile_last_applied_info{{commit="{pushed[-1]}"}} 1\n' in metrics
        assert json.loads(ask(agent, "healthz"))["alive"] is True
        assert agent.end() == 143
    finally:
        agent.process.kill()

    clone.mlspec("reconcile", "--once")
    for _ in range(2):
        before = clone.mlspec("log", "--json", "-n", "500").stdout
        assert "Z nothing is new since" in clone.mlspec("reconcile", "--once").stdout
        assert clone.ran() == trained
        assert clone.mlspec("log", "--json", "-n", "500").stdout == before
    said = clone.mlspec("log", f"commit.{pushed[3][:12]}").stdout
    assert "apply invalid, MLS" in said


def ask(agent: Watching, path: str) -> str:
    port = agent.wait("listening")["port"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=60) as answer:
        return str(answer.read().decode())


def test_drift_is_told_and_mended_if_the_spec_says_so_with_and_without_the_remote(
    remote: Any, clone: Any
) -> None:
    # What the agent recorded last may not be published: it was ended.
    clone.mlspec("reconcile", "--once")
    assert clone.json("drift") == {"drift": []}
    os.kill(clone.serving()["pid"], signal.SIGKILL)
    clone.write("pipelines/loans/dvc.yaml", clone.read("pipelines/loans/dvc.yaml") + "# mine\n")
    clone.write("models/loans.onnx", "not what was written")
    (clone.root / "pipelines/loans/dvc.lock").unlink()
    mends = {
        each["address"]: (each["reading"], each["mend"])
        for each in clone.json("drift", code=2)["drift"]
    }
    assert mends[DEPLOYMENT] == ("running service", "redeploy")
    assert mends["file.pipelines/loans/dvc.yaml"] == ("generated files", "regenerate")
    assert mends["stage.loans.train"] == ("ledger and locks", "re-record")

    clone.journal.unlink()
    said = clone.mlspec("reconcile", "--once", code=2).stdout
    assert "it is not running" in said
    with pytest.raises((urllib.error.URLError, OSError)):
        clone.ask(70)
    remote.write("mlspec.yaml", remote.read() + "reconcile: {self_heal: true}\n")
    remote.commit("Mend drift")
    remote.git("push", "--quiet", "origin", "main")
    # What the agent recorded last may not be published: it was ended.
    clone.mlspec("reconcile", "--once")
    os.kill(clone.serving()["pid"], signal.SIGKILL)
    said = clone.mlspec("reconcile", "--once").stdout
    assert "healed: 1 of 1 steps done" in said
    assert clone.ask(70) == (1, 25.0)
    assert clone.ran() == [], "nothing was trained to mend it"

    bare = Path(remote.git("remote", "get-url", "origin"))
    bare.rename(bare.with_suffix(".away"))
    agent = Watching(clone)
    agent.wait("unreachable")
    for count in (1, 2):
        os.kill(clone.serving()["pid"], signal.SIGKILL)
        assert agent.wait("healed", count)["done"] == 1
        assert clone.ask(70) == (1, 25.0)
    kept = clone.git("rev-parse", "refs/mlspec/ledger")
    bare.with_suffix(".away").rename(bare)
    assert remote.git("ls-remote", "origin", "refs/mlspec/ledger").split()[0] != kept
    agent.wait("published")
    assert remote.git("ls-remote", "origin", "refs/mlspec/ledger").split()[0] == kept
    assert agent.end() == 143


def test_an_agent_that_was_killed_takes_up_what_was_under_way(remote: Any, clone: Any) -> None:
    agent = Watching(clone)
    deadline = time.monotonic() + PATIENCE
    while "prepare" not in clone.ran():
        assert time.monotonic() < deadline, agent.events
        time.sleep(0.01)
    agent.process.kill()
    agent.process.wait()
    said = clone.mlspec("reconcile", "--once", "--json").stdout.splitlines()
    attempted = [json.loads(line) for line in said if '"attempted"' in line]
    assert [event["outcome"] for event in attempted] == ["applied"]
    assert attempted[0]["commit"] == remote.git("rev-parse", "HEAD")
    assert "Z nothing is new since" in clone.mlspec("reconcile", "--once").stdout
    assert clone.ask(70) == (1, 25.0)


def test_an_edited_checkout_is_refused_and_left_as_it_is(clone: Any) -> None:
    clone.write("src/train.py", "print('mine')\n")
    done = clone.mlspec("reconcile", "--once", code=1)
    assert "somebody edits this checkout: src/train.py" in done.stderr
    assert clone.read("src/train.py") == "print('mine')\n"
