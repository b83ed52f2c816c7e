"""A terminal is told that something takes long; nothing else is."""

from __future__ import annotations

import io
import sys
import time

import pytest

from mlspec.render import waiting as module
from mlspec.render.waiting import waiting


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def make_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Standard error as a terminal; in the test itself, for pytest has its own between phases."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(module, "PAUSE", 0.01)
    return stream


def wait_for(terminal: Terminal, text: str) -> None:
    deadline = time.monotonic() + 30
    while text not in terminal.getvalue():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_line_comes_and_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = make_terminal(monkeypatch)
    with waiting("checking the spec"):
        wait_for(terminal, "\rchecking the spec: 0 s")
    last = terminal.getvalue().rpartition("checking the spec: ")[2]
    assert last.partition(" s\r")[2].strip(" ") == "\r"


def test_the_line_is_gone_before_an_error_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = make_terminal(monkeypatch)

    def fail() -> None:
        with waiting("checking the spec"):
            wait_for(terminal, "checking")
            raise ValueError

    with pytest.raises(ValueError):
        fail()
    assert terminal.getvalue().endswith(" \r")


def test_a_file_is_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = make_terminal(monkeypatch)
    monkeypatch.setattr(terminal, "isatty", lambda: False)
    with waiting("checking the spec"):
        time.sleep(0.1)
    assert terminal.getvalue() == ""


def test_what_is_quick_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = make_terminal(monkeypatch)
    monkeypatch.setattr(module, "PAUSE", 60)
    with waiting("checking the spec"):
        pass
    assert terminal.getvalue() == ""
