"""The versions that specs of any branch pin."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mlspec.collection.named import find_named, pins_in, quarantined_in
from mlspec.git import Git
from mlspec.planner.known import Pin

SPEC = """
deployments:
  risk:
    model: risk
    targets: [staging, production]
    pin: {production: 3, staging: 4}
  many:
    model: ${matrix.shop}
    overrides: {shop-a: {pin: {production: 7}}}
"""
LAUGHS = "a0: &a0 [lol]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 40)
)


def test_pins_are_found_with_their_model_where_that_is_said() -> None:
    found = {*pins_in(SPEC.encode(), "main")}
    assert found == {Pin("risk", 3, "main"), Pin("risk", 4, "main"), Pin("", 7, "main")}


@pytest.mark.parametrize(
    ("text", "pins"),
    [
        ("x: {model: risk, pin: {production: '${vars.n}'}}", {Pin("risk", None, "main")}),
        ("{{ template }}: [\n  pin: {production: 12}", {Pin("", 12, "main")}),
        ("<<<<<<< a\npin: {a: 1}\n=======\npin: {a: 2}\n>>>>>>> b", {1, 2}),
        ("spinning: {production: 3}", set()),
        ("a: &a [*a, {model: risk, pin: {x: 3}}]", {Pin("risk", 3, "main")}),
        (LAUGHS + "z: {model: risk, pin: {x: 3}}", {Pin("risk", 3, "main")}),
    ],
)
def test_what_is_not_plain_keeps_more(text: str, pins: set[Pin | int]) -> None:
    found = {*pins_in(text.encode(), "main")}
    expected = {Pin("", pin, "main") if isinstance(pin, int) else pin for pin in pins}
    assert found == expected


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("models: {risk: {quarantine: [{version: 3, reason: bad}, {version: 5}]}}", {3, 5}),
        ("<<<<<<< a\n quarantine:\n  - version: 4\n>>>>>>> b", {4}),
        ("quarantined: [{version: 3}]", set()),
        ("quarantine: [{version: 0}, {version: true}, {version: x}, 7, null]", {7}),
    ],
)
def test_quarantine_of_any_branch(text: str, numbers: set[int]) -> None:
    assert {*quarantined_in(text.encode())} == numbers


def test_what_dvc_wrote_is_needed_though_git_ignores_it(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    files = {
        ".gitignore": "dvc.lock\n/build\n",
        "older/dvc.lock": f"stages:\n  a:\n    outs:\n    - md5: {'a' * 32}\n",
        "build/there/dvc.lock": f"stages:\n  a:\n    outs:\n    - md5: {'b' * 32}\n",
        "build/lens.dvc": "some other program's\n",
        ".dvc/tmp/dvc.lock": f"stages:\n  a:\n    outs:\n    - md5: {'c' * 32}\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert set(find_named(Git(tmp_path), 0).named) == {"a" * 32, "b" * 32}
