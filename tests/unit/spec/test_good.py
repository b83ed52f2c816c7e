"""Every valid spec loads, and the schema for editors takes it too."""

from __future__ import annotations

import runpy
from pathlib import Path

import jsonschema
import pytest
import yaml

from mlspec.spec.load import load_spec
from mlspec.spec.schema import json_schema

FIXTURES = Path(__file__).parents[2] / "fixtures" / "spec"
FILES = sorted(FIXTURES.glob("good/*.yaml"))
SCHEMA = jsonschema.Draft202012Validator(json_schema())
# PyYAML reads YAML 1.1, where `1e-3` is a text, and its own parser takes no tab after a colon.
READ_OTHERWISE = {"gate-exponent", "gate-big", "tabs-between-tokens"}


def unpack(file: Path, root: Path) -> None:
    """Writes the files that a fixture holds: the root file, and those it includes."""
    top, *more = file.read_bytes().split(b"--- FILE: ")
    (root / "mlspec.yaml").write_bytes(top)
    for part in more:
        name, _, data = part.partition(b"\n")
        path = root / name.decode()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def test_there_are_enough() -> None:
    assert len(FILES) >= 150


def test_they_are_what_the_script_writes() -> None:
    specs = runpy.run_path(str(FIXTURES / "make_good.py"))["specs"]()
    assert {file.stem: file.read_bytes() for file in FILES} == {
        name: text.encode() for name, text in specs.items()
    }


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_loads(file: Path, tmp_path: Path) -> None:
    unpack(file, tmp_path)
    assert load_spec(tmp_path).digest.startswith("sha256:")


@pytest.mark.parametrize(
    "file", [file for file in FILES if file.stem not in READ_OTHERWISE], ids=lambda file: file.stem
)
def test_schema_takes_it(file: Path) -> None:
    text = file.read_text(encoding="utf-8-sig").partition("--- FILE: ")[0]
    assert list(SCHEMA.iter_errors(yaml.safe_load(text))) == []
