"""How the program ends: codes, closed streams, encodings, defects."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from mlspec import __main__ as program
from mlspec import cli
from mlspec.errors import GateFailed, Interrupted, MlspecError


@pytest.fixture(autouse=True)
def handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests keep their own signal handlers."""
    monkeypatch.setattr(program, "_SIGNALS", ())


def end(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int | str | None:
    """The exit code when a command ends with `error`."""

    def run() -> int:
        raise error

    monkeypatch.setattr(cli, "run", run)
    with pytest.raises(SystemExit) as caught:
        program.main()
    return caught.value.code


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (MlspecError("no", hint="do this"), 1, "error: no\n  = help: do this\n"),
        (GateFailed("too bad"), 3, "error: too bad\n"),
        (MlspecError("a\nb\x1b[31m"), 1, "error: a\n  | b\\x1b[31m\n"),
        (OSError(errno.ENOSPC, "No space left on device", "/a"), 1, "error: cannot use /a: No s"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "error: the system refused: No s"),
        (Interrupted(signal.SIGINT), 130, "interrupted\n"),
        (Interrupted(signal.SIGTERM), 143, "interrupted\n"),
        (Interrupted(signal.SIGHUP), 129, "interrupted\n"),
    ],
)
def test_errors_end_with_their_code(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    said: str,
) -> None:
    assert end(monkeypatch, error) == code
    captured = capsys.readouterr()
    assert captured.err.startswith(said)
    assert captured.out == ""


def test_a_defect_is_kept_in_a_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(program.tempfile, "tempdir", str(tmp_path))
    assert end(monkeypatch, RuntimeError("what nobody foresaw")) == 1
    (report,) = tmp_path.glob("mlspec-defect-*.txt")
    assert "Traceback" in report.read_text()
    assert capsys.readouterr().err == (
        "error: a defect of mlspec: RuntimeError: what nobody foresaw\n"
        f"  = help: please report it with {report}\n"
    )


def test_a_defect_on_a_full_disk(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(program.tempfile, "tempdir", str(tmp_path / "missing"))
    assert end(monkeypatch, RuntimeError("what nobody foresaw")) == 1
    assert capsys.readouterr().err.startswith("error: a defect of mlspec: RuntimeError")


# As a program -------------------------------------------------------------------------------------


def mlspec(
    environment: Mapping[str, str], command: str, code: int, **extra: str
) -> subprocess.CompletedProcess[str]:
    """Run `mlspec` in a shell, whose redirections are what is tested."""
    done = subprocess.run(
        ["/bin/bash", "-c", command.replace("mlspec", f"{sys.executable} -m mlspec", 1)],
        env={**environment, **extra},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    assert done.returncode == code, done
    assert "Traceback" not in done.stderr, done
    assert "Exception ignored" not in done.stderr, done
    return done


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("mlspec --version", 0),
        ("mlspec --help", 0),
        ("mlspec", 1),
        ("mlspec nonsense", 1),
        ("mlspec plan --nonsense", 1),
        ("mlspec explain", 0),
        ("mlspec log --limit 0", 1),
        ("mlspec explain MLS999", 1),
        ("mlspec -C /nowhere plan", 1),
    ],
)
def test_two_means_changes_and_nothing_else(
    environment: Mapping[str, str], command: str, code: int
) -> None:
    mlspec(environment, command, code)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("mlspec schema | head -1; exit ${PIPESTATUS[1]}", 0),
        ("mlspec schema >&-", 0),
        ("mlspec schema >&- 2>&- <&-", 0),
        ("mlspec explain MLS999 2>&-", 1),
        ("mlspec schema > /dev/full", 1),
        ("mlspec explain MLS001 > /dev/full", 1),
        ("mlspec --version > /dev/full", 1),
    ],
)
def test_streams_that_take_nothing(environment: Mapping[str, str], command: str, code: int) -> None:
    done = mlspec(environment, command, code)
    assert ("No space left on device" in done.stderr) is ("/dev/full" in command)


@pytest.mark.parametrize(
    ("locale", "shown"),
    [
        ({"LC_ALL": "C"}, "größe →"),
        ({"PYTHONIOENCODING": "utf-8"}, "größe →"),
        ({"PYTHONIOENCODING": "ascii"}, "gr\\xf6\\xdfe \\u2192"),
        ({"PYTHONIOENCODING": "latin-1"}, "gr\ufffd\ufffde \\u2192"),
    ],
)
def test_what_an_encoding_lacks_is_escaped(
    environment: Mapping[str, str], locale: Mapping[str, str], shown: str
) -> None:
    script = "from mlspec.__main__ import _mend_streams; _mend_streams(); print('größe →')"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**environment, **locale},
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=True,
    )
    assert done.stdout == f"{shown}\n"


def test_colour_only_where_it_is_wanted(environment: Mapping[str, str]) -> None:
    """Standard error is a terminal here."""
    for extra, colored in (({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
        terminal, other = os.openpty()
        env = {key: value for key, value in environment.items() if key != "NO_COLOR"}
        with subprocess.Popen(
            [sys.executable, "-m", "mlspec", "explain", "MLS999"],
            env={"TERM": "xterm", **env, **extra},
            stderr=other,
        ) as process:
            process.wait()
        os.close(other)
        said = os.read(terminal, 4096)
        os.close(terminal)
        assert (b"\x1b[" in said) is colored
