"""The language of `--select`: a table of what expressions stand for, laws, and what is refused.

`selection.txt` is the table. `pytest tests/unit/test_selection.py --bless` takes what expressions
stand for now as what is expected; look at the difference before you commit it.
"""

from __future__ import annotations

import textwrap
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlspec.plan import canonical_json
from mlspec.resolve import GitFiles, resolve
from mlspec.selection import Expression, Graph, SelectionError, parse, select
from mlspec.selection.expression import Changed, Combined, Label, Name, Reach
from mlspec.spec.load import load_spec
from mlspec.spec.models import Spec
from mlspec.spec.precise import read_matrices
from mlspec.worktree import Worktree

TABLE = Path(__file__).with_name("selection.txt")
REGIONS = ("north", "south", "west")
SHOPS = [f"shop-{region}-{number}" for region in REGIONS for number in range(1, 9)]


def model(stages: dict[str, Any], artifact: str = "", **more: Any) -> dict[str, Any]:
    body = {
        "stages": {name: {"command": f"python {name}.py"} | each for name, each in stages.items()},
        **more,
    }
    return body | ({"artifact": {"path": artifact, "format": "onnx"}} if artifact else {})


def shop(name: str) -> dict[str, Any]:
    written = f"models/{name}.onnx"
    return model(
        {
            "train": {"inputs": ["data/features.csv"], "outputs": [written]},
            "evaluate": {"inputs": [written, "sales"], "metrics": f"metrics/{name}.json"},
        },
        artifact=written,
        gates={"accurate": {"metric": "accuracy", "min": 0.8}},
        owner=f"team-{name.split('-')[1]}",
        tags=["nightly"] if name.endswith("1") else [],
    )


def region(name: str) -> dict[str, Any]:
    shops = [f"models/{each}.onnx" for each in SHOPS if f"-{name}-" in each]
    blended = f"models/region-{name}.onnx"
    return model({"blend": {"inputs": shops, "outputs": [blended]}}, artifact=blended)


def company() -> dict[str, Any]:
    """Thirty models: features, 24 shops that read them, 3 regions of shops, and two by themselves.

    The shops of a region are blended, the regions make a forecast, which is served in two places.
    """
    regions = [f"models/region-{name}.onnx" for name in REGIONS]
    return {
        "mlspec": 1,
        "project": "company",
        "datasets": {
            "sales": {"path": "data/sales.csv", "owner": "Ada Lovelace", "tags": ["core"]},
            "weather": {"path": "data/weather.csv", "owner": "team-data"},
            "churn": {"path": "data/churn.csv", "owner": "team-data", "tags": ["core"]},
        },
        "models": {
            "features": model(
                {
                    "clean": {"inputs": ["sales", "weather"], "outputs": ["data/clean.csv"]},
                    "join": {"inputs": ["data/clean.csv"], "outputs": ["data/features.csv"]},
                },
                owner="team-data",
            ),
            **{name: shop(name) for name in SHOPS},
            **{f"region-{name}": region(name) for name in REGIONS},
            "forecast": model(
                {"stack": {"inputs": regions, "outputs": ["models/forecast.onnx"]}},
                artifact="models/forecast.onnx",
                tags=["nightly", "core"],
            ),
            "churn": model(
                {"train": {"inputs": ["churn"], "outputs": ["models/churn.onnx"]}},
                artifact="models/churn.onnx",
                owner="Ada Lovelace",
            ),
        },
        "targets": {
            "staging": {"kind": "local", "port": 3001},
            "prod": {"kind": "local", "port": 3002, "after": "staging"},
            "desk": {"kind": "local", "port": 3003},
        },
        "deployments": {
            "forecast": {"model": "forecast", "targets": ["staging", "prod"]},
            "churn": {"model": "churn", "targets": ["desk"], "owner": "team-data"},
        },
    }


SPEC = Spec.model_validate_json(canonical_json(company()))
GRAPH = Graph(SPEC, SPEC.models)
TOUCHED = {"main...HEAD": {"stage.features.join", "dataset.weather"}, "HEAD": {"dataset.churn"}}


def touched(revisions: str) -> set[str]:
    if revisions not in TOUCHED:
        raise SelectionError(f"Git has no commit `{revisions}` here")
    return TOUCHED[revisions]


def addresses(expression: str | Expression) -> frozenset[str]:
    """What it stands for, without generated files."""
    tree = parse(expression) if isinstance(expression, str) else expression
    try:
        selected = select(tree, GRAPH, touched)
    except SelectionError as error:
        assert "selects nothing" in error.message
        return frozenset()
    assert selected.text == str(tree)
    return frozenset(each for each in selected.addresses if not each.startswith("file."))


# The table ----------------------------------------------------------------------------------------


def expressions() -> list[str]:
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith((" ", "#"))]


def shown(expression: str) -> str:
    """An entry of the table: the expression, then its addresses by kind, or why there are none."""
    try:
        selected = select(parse(expression), GRAPH, touched)
    except SelectionError as error:
        told = [*error.message.split("\n"), *([f"= help: {error.hint}"] if error.hint else [])]
        return "\n".join((expression, *(f"    ! {line}" for line in told)))
    files = sorted(each for each in selected.addresses if each.startswith("file."))
    if expression.startswith("file."):
        lines = files
    else:
        others = sorted(selected.addresses.difference(files))
        kinds = groupby(others, key=lambda address: address.partition(".")[0])
        lines = [" ".join(group) for _, group in kinds]
        lines.append(f"and {len(files)} generated files")
    wrapped = (textwrap.wrap(line, 96, break_on_hyphens=False) for line in lines)
    return "\n".join((expression, *(f"    {part}" for parts in wrapped for part in parts)))


def test_the_table(request: pytest.FixtureRequest) -> None:
    text = TABLE.read_text(encoding="utf-8")
    head = text.partition("\n\n")[0]
    told = "\n\n".join((head, *map(shown, expressions()))) + "\n"
    if request.config.getoption("--bless"):
        TABLE.write_text(told, encoding="utf-8")
        return
    assert told == text


def test_the_company_has_thirty_models() -> None:
    assert len(GRAPH.models) == 30


# What the graph says is what planning finds -------------------------------------------------------


def test_the_graph_has_the_resources_that_a_plan_is_of(tmp_path: Path) -> None:
    (tmp_path / "mlspec.yaml").write_text(
        canonical_json(company() | {"ci": {"github": {}}}), encoding="utf-8"
    )
    (tmp_path / "data").mkdir()
    for name in ("sales", "weather", "churn"):
        (tmp_path / f"data/{name}.csv").write_text("a\n1\n")
    code = {path.removeprefix("python ") for path in _commands(company())}
    for name in code:
        (tmp_path / name).write_text("")
    loaded = load_spec(tmp_path)
    desired = resolve(loaded, Worktree(tmp_path), GitFiles())
    graph = Graph(loaded.spec, loaded.interfaces)
    found = {address for kind in ("model", "stage", "gate", "dataset", "deployment", "file")
             for address in graph.of(kind)}  # fmt: skip
    assert found == desired.resources.keys()
    assert all(address in graph for address in desired.resources)
    for address, resource in desired.resources.items():
        for needed in (*getattr(resource, "producers", ()), *getattr(resource, "after", ())):
            assert needed in set(graph.upstream(address))
        assert set(getattr(resource, "files", ())) <= set(graph.files(address))


def _commands(spec: dict[str, Any]) -> list[str]:
    stages = (stage for each in spec["models"].values() for stage in each["stages"].values())
    return [stage["command"] for stage in stages]


@pytest.mark.parametrize(
    "address",
    ["model.nope", "stage.nope.train", "stage.features.nope", "gate.features.x", "model.", "x", "",
     "dataset.nope", "deployment.churn@prod", "deployment.churn", "file.nope", "stage.features"],
)  # fmt: skip
def test_what_is_not_there_is_not_in_the_graph(address: str) -> None:
    assert address not in GRAPH


# Laws ---------------------------------------------------------------------------------------------

SOME = sorted(address for kind in ("model", "stage", "dataset", "deployment")
              for address in GRAPH.of(kind))  # fmt: skip
ATOMS = st.one_of(
    st.sampled_from(SOME).map(Name),
    st.sampled_from(["features", "sales", "shop-*", "model.*-1", "stage.*.train", "*"]).map(Name),
    st.sampled_from(["team-north", "Ada Lovelace", "team-*"]).map(lambda o: Label("owner", o)),
    st.sampled_from(["nightly", "core", "[nc]*"]).map(lambda tag: Label("tag", tag)),
    st.sampled_from(sorted(TOUCHED)).map(Changed),
)
EXPRESSIONS: st.SearchStrategy[Expression] = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.builds(Reach, inner, st.just(True), st.booleans()),
        st.builds(Reach, inner, st.just(False), st.just(True)),
        st.builds(
            Combined,
            st.sampled_from("|&^"),
            st.lists(inner, min_size=2, max_size=3).map(tuple),
        ),
    ),
    max_leaves=6,
)


enough = settings(max_examples=50, deadline=None)


@enough
@given(EXPRESSIONS)
def test_what_is_printed_is_read_as_the_same(expression: Expression) -> None:
    assert parse(str(expression)) == expression
    assert str(parse(str(expression))) == str(expression)


@enough
@given(st.text(alphabet="abs.*+&|^,()[]:\"' -@!\té\x00", max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        expression = parse(text)
    except SelectionError as error:
        assert error.message
    else:
        assert parse(str(expression)) == expression


@enough
@given(EXPRESSIONS, EXPRESSIONS)
def test_operators_are_those_of_sets(one: Expression, other: Expression) -> None:
    a, b = addresses(one), addresses(other)
    assert addresses(Combined("|", (one, other))) == a | b
    assert addresses(Combined("&", (one, other))) == a & b
    assert addresses(Combined("^", (one, other))) == a - b


@enough
@given(EXPRESSIONS)
def test_a_reach_is_closed_and_has_nothing_without_a_cause(inner: Expression) -> None:
    start = addresses(inner)
    up, down = addresses(Reach(inner, True, False)), addresses(Reach(inner, False, True))
    assert start <= up
    assert start <= down
    assert all(set(GRAPH.upstream(address)) <= up for address in up)
    assert all(set(GRAPH.downstream(address)) <= down for address in down)
    assert all(up & set(GRAPH.downstream(address)) for address in up - start)
    assert all(down & set(GRAPH.upstream(address)) for address in down - start)
    assert addresses(Reach(inner, True, True)) == up | down


@enough
@given(st.sampled_from(SOME), st.sampled_from(SOME))
def test_one_needs_another_as_the_other_is_needed(one: str, other: str) -> None:
    assert (other in GRAPH.upstream(one)) == (one in GRAPH.downstream(other))


@enough
@given(EXPRESSIONS)
def test_generated_files_come_with_what_they_define(expression: Expression) -> None:
    try:
        selected = select(expression, GRAPH, touched)
    except SelectionError:
        return
    assert all(set(GRAPH.files(address)) <= selected.addresses for address in selected.addresses)


# Reading ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("a,b", "a | b"),
        ("a b\tc\n", "a | b | c"),
        ("a|b & c", "a | b & c"),
        ("(a | b) & c", "(a | b) & c"),
        ("((a))", "a"),
        ("a ^ b & c", "a ^ b & c"),
        ("(a ^ b) & c", "(a ^ b) & c"),
        ("a ^ b | c", "a ^ b | c"),
        ("a ^ (b | c)", "a ^ (b | c)"),
        ("a ^ (b ^ c)", "a ^ (b ^ c)"),
        ("+a+ & +b", "+a+ & +b"),
        ("+(a b)", "+(a | b)"),
        ("(a&b)+", "(a & b)+"),
        ("+(+a)", "+(+a)"),
        ("(a)(b)", "a | b"),
        ('owner:"Ada Lovelace"', 'owner:"Ada Lovelace"'),
        ("owner:'nightly'", "owner:nightly"),
        ("""owner:'the "one"'""", """owner:'the "one"'"""),
        ('changed:"HEAD^"', 'changed:"HEAD^"'),
        ("changed:main...HEAD+", "changed:main...HEAD+"),
        ("changed:HEAD~2 a", "changed:HEAD~2 | a"),
    ],
)
def test_a_selection_has_one_written_form(written: str, meant: str) -> None:
    assert str(parse(written)) == meant


def test_several_selections_are_a_union() -> None:
    assert str(parse("a & b", "c ^ d", "e f")) == "a & b | c ^ d | (e | f)"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "the selection is empty"),
        ("   ", "the selection is empty"),
        ("a &", "a name is missing here\na &\n   ^"),
        ("& a", "a name is missing here\n& a\n^"),
        ("a ^ | b", "a name is missing here\na ^ | b\n    ^"),
        ("changed:HEAD^", "a name is missing here\nchanged:HEAD^\n             ^"),
        ("(a", "a parenthesis that nothing closes\n(a\n^"),
        ("a)", "a parenthesis that nothing opens\na)\n ^"),
        ("()", "a name is missing here\n()\n ^"),
        ("a+b", "`+` between two names\na+b\n ^"),
        ("a + b", "`+` that belongs to no name\na + b\n  ^"),
        ("++a", "`+` that belongs to no name\n++a\n^"),
        ("size:big", "there is nothing to select by `size:`\nsize:big\n^^^^^^^^"),
        ("tags:x", "there is nothing to select by `tags:`\ntags:x\n^^^^^^"),
        ("tag:", "nothing stands after `tag:`\ntag:\n^^^^"),
        ("changed: a", "nothing stands after `changed:`\nchanged: a\n^^^^^^^^"),
        ('a "b"', '" does not belong here\na "b"\n  ^'),
        ('owner:"a"b', 'b does not belong here\nowner:"a"b\n         ^'),
        ('owner:"a', '" does not belong here\nowner:"a\n      ^'),
        ("a\x1b[2J", "the selection has characters that cannot be seen"),
        ("(" * 51 + "a" + ")" * 51, "more than 50 parentheses within each other"),
    ],
)
def test_what_cannot_be_read_is_pointed_to(text: str, told: str) -> None:
    with pytest.raises(SelectionError) as caught:
        parse(text)
    assert caught.value.message.startswith(told)


def test_a_long_selection_is_shown_around_the_problem() -> None:
    text = " | ".join([*(["model.a"] * 100), "model.b+model.c", *(["model.d"] * 100)])
    with pytest.raises(SelectionError) as caught:
        parse(text)
    _, excerpt, carets = caught.value.message.split("\n")
    assert len(excerpt) <= 102
    assert excerpt[carets.index("^") - 7 : carets.index("^") + 8] == "model.b+model.c"


def test_many_operands_are_no_problem() -> None:
    for operator in ("|", "&", "^", ","):
        assert parse(f" {operator} ".join(["model.features"] * 20_000))


def test_why_a_step_must_wait_names_what_to_select() -> None:
    selected = select(parse("region-north"), GRAPH, touched)
    assert selected.lacks("stage.region-north.blend", "stage.shop-north-1.train") == (
        "it needs stage.shop-north-1.train, which is not selected: select +model.region-north"
    )
    assert selected.lacks("stage.region-north.blend", "stage.churn.train") == (
        "it needs stage.churn.train, which is not selected: select stage.churn.train too"
    )


# A matrix -----------------------------------------------------------------------------------------

STAGES = "stages: {train: {command: b}}"


@pytest.mark.parametrize(
    ("models", "written", "count", "hint"),
    [
        (
            "matrix: {region: [north, south]}",
            "tumours",
            "2 models",
            "'model.tumours-*' selects all of them",
        ),
        (
            "matrix: {region: [north, south]}",
            "+model.tumours & model.a",
            "2 models",
            "'model.tumours-*' selects all of them",
        ),
        (
            "matrix: {region: [north, south]}",
            "stage.tumours.train",
            "2 models",
            "'stage.tumours-*.train' selects all of them",
        ),
        (
            "matrix: {region: [north, south]}",
            "stage.tumours.nothing",
            "2 models",
            "'model.tumours-*' selects all of them",
        ),
        ("matrix: {region: [north]}", "tumours", "one model", "'model.tumours-*' selects it"),
        (
            "matrix: {region: [north, south]}, name: 't-${matrix.region}'",
            "tumours",
            "2 models",
            "'model.t-*' selects all of them",
        ),
        (
            "matrix: {region: [north, a]}, name: '${matrix.region}-t', tags: [sick]",
            "tumours",
            "2 models",
            "tag:sick selects all of them",
        ),
        (
            "matrix: {region: [north, b]}, name: '${matrix.region}-t'",
            "tumours",
            "2 models",
            "'model.*' selects all of them, and 1 other models",
        ),
    ],
)
def test_a_matrix_is_not_taken_for_a_model(
    models: str, written: str, count: str, hint: str, tmp_path: Path
) -> None:
    text = f"mlspec: 1\nproject: x\nmodels:\n  tumours: {{{models}, {STAGES}}}\n  a: {{{STAGES}}}\n"
    (tmp_path / "mlspec.yaml").write_text(text)
    loaded = load_spec(tmp_path)
    find = partial(read_matrices, tmp_path, loaded.files)
    graph = Graph(loaded.spec, loaded.interfaces, find)
    with pytest.raises(SelectionError) as error:
        select(parse(written), graph, lambda _: ())
    assert f"`tumours` is a matrix of {count}" in error.value.message
    assert error.value.hint == hint
    suggested = select(parse(hint.partition(" ")[0].strip("'")), graph, lambda _: ())
    if "other" not in hint:
        assert "model.a" not in suggested
    members = find()["tumours"]
    assert all(
        any(each in address for address in suggested.addresses if address.startswith(("m", "s")))
        for each in members
    )


def test_a_misspelt_matrix_is_told_apart_from_its_members(tmp_path: Path) -> None:
    text = f"mlspec: 1\nproject: x\nmodels: {{tumours: {{matrix: {{r: [a, b]}}, {STAGES}}}}}\n"
    (tmp_path / "mlspec.yaml").write_text(text)
    loaded = load_spec(tmp_path)
    graph = Graph(loaded.spec, loaded.interfaces, partial(read_matrices, tmp_path, loaded.files))
    with pytest.raises(SelectionError) as error:
        select(parse("tumors"), graph, lambda _: ())
    assert error.value.hint == "did you mean `tumours`?"


def test_members_are_not_looked_for_while_all_names_are_known(tmp_path: Path) -> None:
    (tmp_path / "mlspec.yaml").write_text(f"mlspec: 1\nproject: x\nmodels: {{a: {{{STAGES}}}}}\n")
    loaded = load_spec(tmp_path)
    graph = Graph(loaded.spec, loaded.interfaces, lambda: pytest.fail("they were"))
    assert "model.a" in select(parse("a"), graph, lambda _: ())
