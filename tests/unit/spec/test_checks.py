"""Checks that fixtures cannot show: long chains, links of DVC, words of hints, the table."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mlspec.errors import SpecError
from mlspec.spec.checks.graph import cycles, describe
from mlspec.spec.load import load_spec
from mlspec.spec.models import Spec
from mlspec.spec.quantities import parse_bytes, parse_seconds
from mlspec.spec.suggest import did_you_mean
from mlspec.spec.unbuilt import KEYS, VALUES

FIXTURES = Path(__file__).parents[2] / "fixtures" / "spec"
DATASET = "mlspec: 1\nproject: demo\ndatasets: {loans: {path: data/loans.csv}}\n"


def test_cycles_of_a_graph() -> None:
    assert list(cycles({1: [2], 2: [3], 3: []})) == []
    assert list(cycles({1: [2], 2: [3], 3: [1]})) == [[1, 2, 3]]
    assert list(cycles({1: [1], 2: [4], 3: [2], 4: [3]})) == [[1], [2, 4, 3]]
    assert list(cycles({1: [2, 3], 2: [4], 3: [4], 4: []})) == []


def test_a_chain_of_ten_thousand_is_walked_without_recursion() -> None:
    size = 10_000
    assert list(cycles({node: [node + 1] for node in range(size)})) == []
    (cycle,) = cycles({node: [(node + 1) % size] for node in range(size)})
    assert len(cycle) == size
    assert describe(cycle) == "0 -> 1 -> 2 -> 3 -> (9994 more) -> 9998 -> 9999 -> 0"


@pytest.mark.parametrize("cache", ["cache", "."])
def test_a_link_that_dvc_put_there_is_fine(tmp_path: Path, cache: str) -> None:
    root = tmp_path / "root"
    (root / "data").mkdir(parents=True)
    (root / "mlspec.yaml").write_text(DATASET)
    stored = tmp_path / cache / "files" / "md5" / "ab" / ("0" * 30)
    stored.parent.mkdir(parents=True)
    stored.write_text("a")
    (root / "data/loans.csv").symlink_to(stored)
    assert load_spec(root).spec.datasets["loans"].path == "data/loans.csv"


def test_a_link_that_leaves_is_seen_though_its_end_is_missing(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "data").mkdir(parents=True)
    (root / "mlspec.yaml").write_text(DATASET)
    (root / "data/loans.csv").symlink_to("../../nowhere.csv")
    with pytest.raises(SpecError) as error:
        load_spec(root)
    assert [each.code for each in error.value.diagnostics] == ["MLS062"]


def test_many_problems_are_cut_short(tmp_path: Path) -> None:
    names = ", ".join(f"A{number}: {{path: a/{number}}}" for number in range(500))
    (tmp_path / "mlspec.yaml").write_text(f"mlspec: 1\nproject: demo\ndatasets: {{{names}}}\n")
    with pytest.raises(SpecError) as error:
        load_spec(tmp_path)
    *shown, last = error.value.diagnostics
    assert (len(shown), last.message) == (200, "only the first 200 problems are shown")


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("timeuot", "did you mean `timeout`?"),
        ("max-drop", "did you mean `max_drop`?"),
        ("TIMEOUT", "did you mean `timeout`?"),
        ("zzz", ""),
    ],
)
def test_did_you_mean(word: str, hint: str) -> None:
    assert did_you_mean(word, ["timeout", "max_drop", "retries"]) == hint


@pytest.mark.parametrize(
    ("text", "seconds"), [("45s", 45), ("30m", 1800), ("1.5h", 5400), ("30d", 2_592_000)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"), [("1B", 1), ("512MiB", 2**29), ("1.5GB", 1_500_000_000), ("4GiB", 2**32)]
)
def test_sizes(text: str, size: float) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "30", "m", "30 m", "-1m", "1e3s", "30M", "٣m", 30, None])
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        parse_seconds(text)


def test_nothing_is_both_built_and_not_built() -> None:
    """A key that the types have must leave the list of those that are not built."""
    schema = Spec.model_json_schema()
    for pattern in KEYS:
        assert not _has(schema, schema, pattern.split(".")), pattern
    for pattern in VALUES:
        assert _has(schema, schema, pattern.split(".")), pattern


def _has(schema: dict, node: dict, steps: list[str]) -> bool:  # type: ignore[type-arg]
    for arm in node.get("anyOf", []):
        node = arm if arm.get("type") != "null" else node
    if "$ref" in node:
        node = schema["$defs"][node["$ref"].rpartition("/")[2]]
    if not steps:
        return True
    inner = (
        node.get("additionalProperties")
        if steps[0] == "*"
        else node.get("properties", {}).get(steps[0])
    )
    return isinstance(inner, dict) and _has(schema, inner, steps[1:])


def test_the_table_names_every_class_and_every_fixture(special_cases: dict[str, str]) -> None:
    table = (FIXTURES / "README.md").read_text()
    assert {int(number) for number in re.findall(r"^\| (\d+) ", table, re.MULTILINE)} == set(
        range(91)
    )
    folders = [path.parent.name for path in FIXTURES.glob("bad/*/expected.json")]
    missing = [name for name in (*folders, *special_cases) if f"| {name} " not in table]
    assert missing == []
