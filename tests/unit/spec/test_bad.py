"""Each bad spec gives its codes at its places, and nothing else."""

from __future__ import annotations

import json
import re
import resource
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mlspec.errors import Diagnostic, SpecError
from mlspec.render.diagnostics import render_diagnostics
from mlspec.spec.load import load_spec

FIXTURES = Path(__file__).parents[2] / "fixtures" / "spec"
FOLDERS = sorted(path.parent for path in FIXTURES.glob("bad/*/expected.json"))
CPU_SECONDS = 1.0
QUOTED = re.compile(r"`[^`]*`|\"[^\"]*\"|'[^']*'|\.\.\.")
DOUBLED = re.compile(r"[.,;:?!]\s*[.,;:?!]|  |^[\s.,;:]|[\s,;:.]$")
"""Marks that follow one another, or stand at an end."""


def problems_of(root: Path) -> tuple[Diagnostic, ...]:
    started = time.process_time()
    with pytest.raises(SpecError) as error:
        load_spec(root)
    assert time.process_time() - started < CPU_SECONDS
    return error.value.diagnostics


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_gives_its_codes_at_its_places(folder: Path) -> None:
    expected = [
        (each["code"], each["at"]) for each in json.loads((folder / "expected.json").read_text())
    ]
    found = problems_of(folder)
    assert sorted((each.code, str(each.place)) for each in found) == sorted(expected)
    for problem in found:
        assert problem.hint or problem.message
        for text in (problem.message, problem.hint):
            assert not DOUBLED.search(QUOTED.sub("x", text)), text


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_is_shown_without_control_characters_or_secrets(folder: Path) -> None:
    shown = render_diagnostics(problems_of(folder), color=False)
    assert (
        re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]", shown)
        is None
    )
    for secret in ("AKIAIOSFODNN7EXAMPLE", "hunter2", "abcdef123456", "correct-horse", "a1B2a1B2"):
        assert secret not in shown


def test_special_case(special: tuple[str, Callable[[Path], str]], tmp_path: Path) -> None:
    code, build = special
    root = tmp_path / "repository"
    root.mkdir()
    place = build(root)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = problems_of(root)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert [(each.code, str(each.place or "")) for each in found] == [(code, place)]
    assert after - before < 200 * 1024
