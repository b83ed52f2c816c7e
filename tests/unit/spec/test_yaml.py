"""YAML to a tree: places, scalars, limits; the same by both parsers of PyYAML."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml as pyyaml

from mlspec.spec import yaml
from mlspec.spec.characters import MAX_CHARACTERS
from mlspec.spec.tree import Node, find
from mlspec.spec.yaml import Parsed, parse


@pytest.fixture(params=["c", "python"], autouse=True)
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if request.param == "python":
        monkeypatch.setattr(yaml, "_PARSER", pyyaml.SafeLoader)
    yield


def read(text: str) -> Parsed:
    return parse(text.encode("utf-8", "surrogatepass"), "a.yaml")


def top(text: str) -> Node:
    parsed = read(text)
    assert parsed.problems == ()
    assert parsed.top is not None
    return parsed.top


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True), ("False", False), ("null", None), ("~", None), ("", None),
        ("0", 0), ("-12", -12), ("+3", 3), ("0x1F", 31), ("9007199254740992", 2**53),
        ("1.5", 1.5), (".5", 0.5), ("5.", 5.0), ("1e3", 1000.0), ("-1E-2", -0.01),
        ("text", "text"), ("'true'", "true"), ('"1"', "1"), ("1.2.3", "1.2.3"), ("-", [None]),
        ("v1", "v1"), ("10.0.0.1", "10.0.0.1"), ("e3", "e3"), ("+", "+"), ("0x", "0x"),
        ("nothing", "nothing"), ("nan", "nan"), ("!!str 3.10", "3.10"), ("! 12", "12"),
    ],
)  # fmt: skip
def test_scalars_mean_what_yaml_1_2_says(text: str, value: object) -> None:
    assert find(top(f"a:\n  {text}\n"), ("a",)).plain() == value


@pytest.mark.parametrize(
    ("text", "code"),
    [
        *((word, "MLS019") for word in ("yes", "No", "ON", "off", "y", "N")),
        *((word, "MLS019") for word in ("0777", "-07", "0o17", "0b11", "1_000", "0x_F", "1_0.5")),
        *((word, "MLS019") for word in ("22:22", "1:30:00", "190:20:30.15", "2024-01-01")),
        ("2024-1-1T10:00:00Z", "MLS019"), ("-0x1F", "MLS019"),
        ("9007199254740993", "MLS020"), ("-9007199254740993", "MLS020"), (".inf", "MLS020"),
        (".NaN", "MLS020"), ("1e400", "MLS020"), ("0x" + "f" * 17, "MLS020"),
    ],
)  # fmt: skip
def test_scalars_that_readers_take_differently_are_refused(text: str, code: str) -> None:
    (problem,) = read(f"a: {text}\n").problems
    assert (problem.code, str(problem.place)) == (code, "a.yaml:1:4")
    assert problem.place is not None and problem.place.length == len(text)
    assert top(f'a: "{text}"\n').plain() == {"a": text}


def test_each_value_and_key_knows_its_place() -> None:
    tree = top("a: 1\nb:\n  - x\n  - {c: 'yes', d: [1, 2]}\nblock: |\n  text\n")
    places = {
        path: (node.line, node.column, node.length)
        for path in [("a",), ("b", 0), ("b", 1), ("b", 1, "c"), ("b", 1, "d"), ("block",)]
        for node in [find(tree, path)]
    }
    assert places == {
        ("a",): (1, 4, 1),
        ("b", 0): (3, 5, 1),
        ("b", 1): (4, 5, 21),
        ("b", 1, "c"): (4, 9, 5),
        ("b", 1, "d"): (4, 19, 6),
        ("block",): (5, 8, 1),
    }
    assert find(tree, ("b", 1, "c"), on_key=True).column == 6
    assert find(tree, ("b", 1, "c")).place.source == "  - {c: 'yes', d: [1, 2]}"


def test_columns_count_characters_and_not_bytes() -> None:
    (problem,) = read("größe: {日本: no}\n").problems
    assert str(problem.place) == "a.yaml:1:13"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_are_counted_by_every_line_end(end: str) -> None:
    (problem,) = read(f"a: 1{end}# x{end}{end}b: no{end}").problems
    assert problem.place is not None
    assert (problem.place.line, problem.place.source) == (4, "b: no")


def test_a_problem_says_where_in_the_spec_it_is() -> None:
    (problem,) = read("models:\n  churn:\n    stages: {train: {inputs: [a, no]}}\n").problems
    assert (problem.address, problem.field) == ("model.churn", "stages.train.inputs[1]")


def test_all_problems_that_do_not_stop_the_reading_are_found() -> None:
    parsed = read("a: no\na: 1\n1: x\n<<: {}\nb: .inf\n")
    codes = [problem.code for problem in parsed.problems]
    assert codes == ["MLS019", "MLS014", "MLS015", "MLS017", "MLS020"]
    assert parsed.top is not None and set(parsed.top.keys) == {"a", "b"}


def test_an_alias_is_the_anchored_value_at_its_own_place() -> None:
    tree = top("a: &x {b: 1}\nc: *x\n")
    assert tree.plain() == {"a": {"b": 1}, "c": {"b": 1}}
    assert find(tree, ("c", "b")).line == 1


def test_expansion_counts_only_where_there_are_aliases() -> None:
    assert len(top("[" + "a," * 100_000 + "]").plain()) == 100_000  # type: ignore[arg-type]
    shared = "a: &a [" + "x, " * 100 + "]\n"
    assert read(shared + "b: [" + "*a, " * 5 + "]\n").problems == ()
    (problem,) = read(shared + "b: [" + "*a, " * 100 + "]\n").problems
    assert problem.code == "MLS016"


def test_limits_are_inclusive() -> None:
    assert read("a: " + "[" * 31 + "]" * 31 + "\n").problems == ()
    assert [each.code for each in read("a: " + "[" * 32 + "]" * 32 + "\n").problems] == ["MLS005"]
    assert read("k" * 128 + ": 1\n").problems == ()
    assert [each.code for each in read("k" * 129 + ": 1\n").problems] == ["MLS005"]
    assert read("a: '" + "x" * 2**16 + "'\n").problems == ()
    assert [each.code for each in read("a: '" + "x" * (2**16 + 1) + "'\n").problems] == ["MLS005"]


def test_the_number_of_values_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml, "MAX_EVENTS", 20)
    assert read("[1, 2, 3]\n").problems == ()
    assert [each.code for each in read("[" + "1, " * 30 + "]\n").problems] == ["MLS005"]


def test_reports_only_so_many_bad_characters() -> None:
    assert len(read("# \u200b\n" * 100).problems) == MAX_CHARACTERS
