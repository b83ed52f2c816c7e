"""Each code has a page, each page a code, and the examples on the pages are true."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import mlspec
from mlspec.codes import CODES, SECTIONS, load_page
from mlspec.commands.explain import explain
from mlspec.errors import MlspecError, SpecError
from mlspec.render.console import Console
from mlspec.spec.load import load_spec

PACKAGE = Path(mlspec.__file__).parent
BAD = Path(__file__).parents[2] / "fixtures" / "spec" / "bad"
HEAD = "mlspec: 1\nproject: demo\n"
SPEC_CODES = [code for code in CODES if not code.startswith("MLS6")]


def examples(title: str) -> list[tuple[str, str]]:
    found = []
    for code in SPEC_CODES:
        match = re.search(rf"## {title}\n\n```yaml\n(.*?)```", load_page(code), re.DOTALL)
        if match:
            text = match[1]
            found.append((code, text if text.startswith("mlspec:") else HEAD + text))
    return found


def test_each_code_has_a_page_and_each_page_is_used() -> None:
    used = {
        code
        for file in PACKAGE.rglob("*.py")
        if file.parent.name != "codes"
        for code in re.findall(r"\bMLS\d{3}\b", file.read_text(encoding="utf-8"))
    }
    # The module docstring of the errors shows a code as an example, which has a page as well.
    assert used == set(CODES)


def test_each_code_of_the_spec_has_a_fixture(special_cases: dict[str, str]) -> None:
    expected = set(special_cases.values())
    for file in BAD.glob("*/expected.json"):
        expected |= {problem["code"] for problem in json.loads(file.read_text())}
    assert expected == set(SPEC_CODES)


@pytest.mark.parametrize("code", sorted(CODES))
def test_page_starts_with_its_code_and_title(code: str) -> None:
    assert load_page(code).startswith(f"# {code}: {CODES[code]}\n")
    assert load_page(code.lower()) == load_page(code)
    assert 0 < len(CODES[code]) < 60


@pytest.mark.parametrize(("code", "text"), examples("Refused"))
def test_refused_example_has_the_code(code: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "mlspec.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(SpecError) as error:
        load_spec(tmp_path)
    assert code in {problem.code for problem in error.value.diagnostics}


@pytest.mark.parametrize(("code", "text"), examples("Accepted"))
def test_accepted_example_loads(code: str, text: str, tmp_path: Path) -> None:  # noqa: ARG001
    (tmp_path / "mlspec.yaml").write_text(text, encoding="utf-8")
    assert load_spec(tmp_path).spec.mlspec == 1


def test_all_codes_are_listed_by_section(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(Console(), code=None) == 0
    said = capsys.readouterr().out
    assert re.findall(r"^  (MLS\d{3})  (.+)$", said, re.MULTILINE) == list(CODES.items())
    assert re.findall(r"^\S.*$", said, re.MULTILINE) == list(SECTIONS)


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("MLS0081", "did you mean MLS081? `mlspec explain` lists all"),
        (
            "nonsense",
            "an error shows its code in brackets, such as MLS012; `mlspec explain` lists all",
        ),
    ],
)
def test_a_code_that_there_is_not(code: str, hint: str) -> None:
    with pytest.raises(MlspecError) as error:
        explain(Console(), code=code)
    assert error.value.hint == hint
