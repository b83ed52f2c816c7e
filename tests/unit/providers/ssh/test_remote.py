"""The far end of a connection, started as ssh would start it, and the words of ssh."""

from __future__ import annotations

import json
import os
import shlex
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlspec.errors import Locked, MlspecError, RemoteUnreachable
from mlspec.providers.ssh import remote
from mlspec.providers.ssh.host import Host, Refused, Way, explain

SSH = """\
#!/bin/sh
# what a login shell may say before
echo "Welcome to ml1"
for last; do :; done
eval "$last"
"""
WAY = Way("ml1", "mlspec", 2222, None, None, sys.executable)


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A connection to this machine, by a program that is called like ssh."""
    program = tmp_path / "bin/ssh"
    program.parent.mkdir()
    program.write_text(SSH)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return lambda: Host(WAY, "target prod")


def await_file(path):
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_ssh_is_told(tmp_path, monkeypatch):
    key = tmp_path / "key"
    key.touch()
    monkeypatch.setenv("KEY", str(key))
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    way = Way("ml1", "ada", 2222, "KEY", tmp_path / "known hosts", "python3.11")
    *options, dashes, name, command = way.command()
    assert (dashes, name) == ("--", "ml1")
    assert {"-oStrictHostKeyChecking=yes", "-oBatchMode=yes", "-oForwardAgent=no"} < set(options)
    assert f'-oUserKnownHostsFile="{tmp_path}/known hosts"' in options
    assert options[-6:] == ["-i", str(key), "-p", "2222", "-l", "ada"]
    assert shlex.split(command)[:4] == ["exec", "python3.11", "-I", "-c"]


@pytest.mark.parametrize(
    ("said", "message", "hint"),
    [
        ("No ED25519 host key is known for ml1.", "its host key is unknown", "ssh-keyscan -p 2222"),
        (
            "WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!\nHost key verification failed.",
            "not the one that is known",
            "somebody may be in between",
        ),
        ("mlspec@ml1: Permission denied (publickey).", "lets mlspec not in", "authorized_keys"),
        ("ssh: connect to host ml1: Connection timed out", "timed out", "by hand"),
        ("", "ssh ended with 255", "by hand"),
    ],
)
def test_a_connection_that_fails(said, message, hint):
    error = explain(WAY, "target prod", 255, said)
    assert isinstance(error, RemoteUnreachable)
    assert message in error.message
    assert hint in error.hint


def test_a_file_is_there_whole_or_not_at_all(host, tmp_path):
    source = tmp_path / "model.onnx"
    source.write_bytes(os.urandom(3 << 20))
    files = {"model/model.onnx": remote.sha256(source)}
    place = tmp_path / "releases/abc"
    with host() as connected:
        assert not connected.ask("has", path=str(place), files=files)
        for content in (files, {"model/model.onnx": "0" * 64}):
            staged = connected.ask("begin", path=str(place))
            connected.put(f"{staged}/model/model.onnx", source)
            if content == files:
                connected.ask("seal", staged=staged, path=str(place), files=content)
                continue
            with pytest.raises(Refused, match="what arrived is not what was sent"):
                connected.ask("seal", staged=staged, path=str(place), files=content)
        assert connected.ask("has", path=str(place), files=files)
    assert [path.name for path in place.parent.iterdir()] == ["abc"]


def test_a_file_is_written_and_read(host, tmp_path):
    path = str(tmp_path / "deep/record.json")
    with host() as connected:
        assert connected.ask("read", path=path) is None
        connected.ask("write", path=path, text="ü\n'\"$(touch x)", mode=0o600)
        assert connected.ask("read", path=path) == "ü\n'\"$(touch x)"
        assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
        with pytest.raises(Refused, match="Not a directory"):
            connected.ask("write", path=f"{path}/more/deep", text="")
        connected.ask("remove", path=path)
        connected.ask("remove", path=path)
    assert not Path(path).exists()


def test_a_program_has_no_shell(host, tmp_path):
    with host() as connected:
        told = connected.ask("run", command=["echo", f"$HOME; touch {tmp_path}/owned"])
        assert told["said"] == f"$HOME; touch {tmp_path}/owned\n"
        with pytest.raises(Refused, match="`false` was refused"):
            connected.ask("run", command=["false"])
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("error", [None, MlspecError("no more")])
def test_what_is_done_if_a_command_ends_before_it_is_done(host, tmp_path, error):
    calls = [
        {"do": "run", "command": ["false"]},
        {"do": "write", "path": str(tmp_path / "back"), "text": ""},
    ]
    connected = host()
    connected.__enter__()
    connected.ask("if_lost", calls=calls)
    connected.__exit__(error and type(error), error, None)
    if error:
        await_file(tmp_path / "back")
    else:
        assert not (tmp_path / "back").exists()


def test_one_at_a_time(host, tmp_path):
    path = str(tmp_path / "locks/loans@prod")
    with host() as first:
        first.ask("hold", path=path, seconds=1)
        with host() as second, pytest.raises(Locked, match="another command of mlspec"):
            second.ask("hold", path=path, seconds=0.1)
    with host() as third:
        third.ask("hold", path=path, seconds=20)


def test_what_nothing_uses_is_removed(host, tmp_path):
    old = time.time() - 2 * remote.ABANDONED_SECONDS
    for number in range(6):
        folder = tmp_path / f"releases/r{number}"
        folder.mkdir(parents=True)
        os.utime(folder, (old + number, old + number))
    record = tmp_path / "deployments/loans@prod/record.json"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"files": "r0", "environment": "e"}))
    with host() as connected:
        connected.ask("prune", folder=str(tmp_path))
    left = sorted(path.name for path in (tmp_path / "releases").iterdir())
    assert left == ["r0", "r3", "r4", "r5"]


def test_the_far_end_needs_nothing_of_mlspec():
    source = Path(remote.__file__).read_text()
    assert "import mlspec" not in source
    assert "from mlspec" not in source
    code = f"import ast; ast.parse(open({remote.__file__!r}).read(), feature_version=(3, 9))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_request_that_goes_wrong_is_told_and_the_next_one_is_answered(host, tmp_path):
    with host() as connected:
        with pytest.raises(Refused, match="no_such: AttributeError"):
            connected.ask("no_such")
        assert connected.ask("list", path=str(tmp_path / "none")) == []


def test_an_answer_that_is_late_is_not_taken_for_another(host):
    connected = host()
    connected.__enter__()
    try:
        with pytest.raises(RemoteUnreachable, match="no answer in time"):
            connected.ask("run", command=["sleep", "1"], patience=0.1)
        with pytest.raises(RemoteUnreachable, match="has not answered"):
            connected.ask("list", path="/")
    finally:
        connected.__exit__(MlspecError, None, None)


def test_what_is_unused_goes_when_nobody_else_is_at_work(host, tmp_path):
    places = tmp_path / "environments"
    for number in range(5):
        place = places / str(number)
        place.mkdir(parents=True)
        os.utime(place, (number, number))
    record = tmp_path / "deployments/loans@prod/record.json"
    record.parent.mkdir(parents=True)
    record.write_text('{"environment": "0"}')
    with host() as first:
        first.ask("hold", path=str(tmp_path / "locks/loans@prod"), seconds=1)
        with host() as second:
            second.ask("hold", path=str(tmp_path / "locks/other@prod"), seconds=1)
            first.ask("prune", folder=str(tmp_path))
            assert len(list(places.iterdir())) == 5
    with host() as third:
        third.ask("hold", path=str(tmp_path / "locks/loans@prod"), seconds=20)
        third.ask("prune", folder=str(tmp_path))
    assert sorted(path.name for path in places.iterdir()) == ["0", "2", "3", "4"]
