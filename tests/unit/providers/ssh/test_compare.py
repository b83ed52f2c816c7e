"""Drift of units and files, field by field."""

from __future__ import annotations

import pytest

from mlspec.compilers.systemd import Unit, render_unit
from mlspec.providers.ssh.compare import compare_lines, compare_unit, parse_show, restarts_of

UNIT: Unit = {
    "Unit": [("Description", "x")],
    "Service": [("Environment", '"A=1"'), ("Environment", '"B=2"'), ("MemoryMax", "512")],
}
TEXT = render_unit(UNIT, "loans")
SHOWN = {
    "Id": "mlspec-a-blue.service",
    "ActiveState": "active",
    "UnitFileState": "enabled",
    "DropInPaths": "",
    "NeedDaemonReload": "no",
}


@pytest.mark.parametrize(
    ("text", "shown", "differs"),
    [
        (TEXT, {}, []),
        (None, {}, [("blue", "unit", None)]),
        (TEXT.replace("512", "1024"), {}, [("blue.MemoryMax", "512", "1024")]),
        (TEXT.replace("MemoryMax=512\n", ""), {}, [("blue.MemoryMax", "512", None)]),
        (TEXT + "Nice=5\n", {}, [("blue.Nice", None, "5")]),
        (TEXT + "\n[Socket]\nFoo=1\n", {}, [("blue.Foo", None, "1")]),
        (
            TEXT.replace('"B=2"', '"B=3"'),
            {},
            [("blue.Environment", '"A=1", "B=2"', '"A=1", "B=3"')],
        ),
        (TEXT, {"ActiveState": "failed"}, [("blue.running", True, False)]),
        (TEXT, {"UnitFileState": "disabled"}, [("blue.enabled", True, False)]),
        (
            TEXT,
            {"NeedDaemonReload": "yes"},
            [("blue.loaded", "as it is written", "as it was before")],
        ),
        (
            TEXT,
            {"DropInPaths": "/x/service.d/all.conf /x/mlspec-a-blue.service.d/own.conf"},
            [("blue.drop-in", None, "/x/mlspec-a-blue.service.d/own.conf")],
        ),
    ],
)
def test_a_unit(text, shown, differs):
    assert list(compare_unit("blue", UNIT, text, SHOWN | shown)) == differs


def test_a_file():
    assert list(compare_lines("proxy", "a\nb\n", "a\nb\n")) == []
    assert list(compare_lines("proxy", "a\n b\n", "a\n c\n")) == [("proxy", "b", "c")]
    assert list(compare_lines("proxy", "a\n", None)) == [("proxy", "file", None)]
    assert list(compare_lines("proxy", "a\nb\n", "b\na\n")) == [
        ("proxy", "other lines", "fewer lines")
    ]


def test_what_systemd_shows():
    told = "Id=a\nNRestarts=2\n\nId=b\nNRestarts=[not set]\n"
    assert parse_show(told, 3) == [
        {"Id": "a", "NRestarts": "2"},
        {"Id": "b", "NRestarts": "[not set]"},
        {},
    ]
    assert [restarts_of(each) for each in parse_show(told, 3)] == [2, 0, 0]
