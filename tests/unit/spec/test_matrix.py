"""A model that is written once and stands for many."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mlspec.errors import Diagnostic, SpecError
from mlspec.render.diagnostics import render_diagnostics
from mlspec.spec.load import Loaded, load_spec
from mlspec.spec.memory import Memory
from mlspec.spec.precise import MAX_ALIKE, MAX_FOUND
from mlspec.spec.quick import find_spec

HEAD = "mlspec: 1\nproject: demo\n"
STAGES = """\
    stages:
      train:
        command: python src/train.py ${matrix.region}
        outputs: ["models/${matrix.region}.onnx"]
"""


def load(root: Path, text: str, **tables: str) -> Loaded:
    (root / "mlspec.yaml").write_text(HEAD + text, encoding="utf-8")
    for name, rows in tables.items():
        (root / f"{name}.csv").write_text(rows, encoding="utf-8")
    return load_spec(root)


def problems(root: Path, text: str, **tables: str) -> tuple[Diagnostic, ...]:
    with pytest.raises(SpecError) as error:
        load(root, text, **tables)
    return error.value.diagnostics


def test_each_value_makes_a_model(tmp_path: Path) -> None:
    loaded = load(tmp_path, "models:\n  demand:\n    matrix: {region: [north, south]}\n" + STAGES)
    assert list(loaded.spec.models) == ["demand-north", "demand-south"]
    north = loaded.spec.models["demand-north"].stages["train"]
    assert north.command == "python src/train.py north"
    assert north.outputs == ("models/north.onnx",)


def test_a_member_is_the_model_that_it_would_be_written_out(tmp_path: Path) -> None:
    """Its digest, its face and all it says are the same, so nothing runs again."""
    text = "models:\n  demand:\n    matrix: {region: [north, south]}\n" + STAGES
    folded = load(tmp_path, text)
    spread = load(
        tmp_path,
        "models:\n"
        + "".join(
            f"  demand-{region}:\n" + STAGES.replace("${matrix.region}", region)
            for region in ("south", "north")
        ),
    )
    assert folded.digest == spread.digest
    assert dict(folded.model_digests) == dict(spread.model_digests)
    assert dict(folded.interfaces) == dict(spread.interfaces)
    assert dict(folded.spec.models) == dict(spread.spec.models)


def test_several_keys_multiply_in_the_order_they_are_written(tmp_path: Path) -> None:
    text = "    matrix: {region: [north, south], size: [s, l]}\n    stages: {a: {command: b}}\n"
    loaded = load(tmp_path, "models:\n  demand:\n" + text)
    assert list(loaded.spec.models) == [
        *("demand-north-s", "demand-north-l", "demand-south-s", "demand-south-l"),
    ]


def test_members_stand_where_their_model_stands(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        "models:\n  first: {stages: {a: {command: b}}}\n"
        "  demand: {matrix: {n: [2, 1]}, stages: {a: {command: b}}}\n"
        "  last: {stages: {a: {command: b}}}\n",
    )
    assert list(loaded.spec.models) == ["first", "demand-2", "demand-1", "last"]


def test_a_table_makes_a_model_of_each_row(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        "models:\n  demand:\n    matrix: {from: regions.csv}\n"
        "    name: demand-${matrix.region}\n    description: Demand in ${matrix.title}\n" + STAGES,
        regions='region,title\nnorth,"The North, mostly"\nsouth,The $OUTH\n',
    )
    assert [model.description for model in loaded.spec.models.values()] == [
        *("Demand in The North, mostly", "Demand in The $OUTH"),
    ]
    assert loaded.files == ("mlspec.yaml", "regions.csv")


def test_a_value_alone_keeps_its_type_and_in_a_text_it_is_as_written(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        "models:\n  demand:\n    matrix: {rate: [0.50], deep: [true], tries: [3]}\n"
        "    name: demand\n    stages:\n      train:\n        command: a --rate ${matrix.rate}\n"
        "        retries: ${matrix.tries}\n        timeout: ${matrix.tries}0m\n"
        "        params:\n          rate: ${matrix.rate}\n          deep: ${matrix.deep}\n"
        "          text: at ${matrix.rate}\n",
    )
    train = loaded.spec.models["demand"].stages["train"]
    assert train.command == "a --rate 0.50"
    assert (train.retries, train.timeout) == (3, 1800)
    assert train.params == {"rate": 0.5, "deep": True, "text": "at 0.50"}


def test_cells_mean_what_they_mean_in_yaml(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        "models:\n  demand:\n    matrix: {from: shops.csv}\n    name: demand-${matrix.shop}\n"
        "    stages:\n      a:\n        command: b\n        params:\n"
        "          shop: ${matrix.shop}\n          open: ${matrix.open}\n"
        "          land: ${matrix.land}\n",
        shops='shop,open,land\n7,true,"NO"\n"007", false ,DE\n',
    )
    assert [model.stages["a"].params for model in loaded.spec.models.values()] == [
        {"shop": 7, "open": True, "land": "NO"},
        {"shop": "007", "open": False, "land": "DE"},
    ]


def test_names_are_made_fit(tmp_path: Path) -> None:
    text = "    matrix: {region: [North_1, B.2]}\n    stages: {a: {command: b}}\n"
    loaded = load(tmp_path, "models:\n  demand:\n" + text)
    assert list(loaded.spec.models) == ["demand-north-1", "demand-b-2"]


def test_an_override_says_what_is_different(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        "defaults: {models: {owner: all, card: {risk: low}}}\n"
        "models:\n  demand:\n    matrix: {region: [north, south]}\n    overrides:\n"
        "      demand-south:\n        owner: the ${matrix.region}\n        card: {risk: high}\n"
        "        stages: {train: {params: {depth: 9}, outputs: [models/s.onnx]}}\n" + STAGES,
    )
    north, south = loaded.spec.models.values()
    assert north.card is not None and south.card is not None
    assert (north.owner, north.card.risk, north.stages["train"].params) == ("all", "low", {})
    assert (south.owner, south.card.risk) == ("the south", "high")
    assert south.stages["train"].params == {"depth": 9}
    assert south.stages["train"].outputs == ("models/s.onnx",)
    assert south.stages["train"].command == "python src/train.py south"


def test_datasets_and_deployments_know_members_by_name(tmp_path: Path) -> None:
    text = """\
datasets:
  sales-north: {path: data/north.csv}
  sales-south: {path: data/south.csv}
models:
  demand:
    matrix: {region: [north, south]}
    stages:
      train:
        command: python src/train.py
        inputs: ["sales-${matrix.region}"]
        outputs: ["models/${matrix.region}.onnx"]
    artifact: {path: "models/${matrix.region}.onnx", format: onnx}
targets: {here: {kind: local}}
deployments:
  demand: {model: demand-south, targets: [here]}
"""
    loaded = load(tmp_path, text)
    assert loaded.interfaces["demand-south"].stages["train"].inputs == ("data/south.csv",)
    (problem,) = problems(tmp_path, text.replace("demand-south,", "demand-suth,"))
    assert (problem.code, problem.hint) == ("MLS040", "did you mean `demand-south`?")
    (problem,) = problems(tmp_path, text.replace("sales-south: {", "sales-suth: {"))
    assert (problem.code, problem.address) == ("MLS040", "model.demand-south")


def test_places_are_where_a_member_was_written(tmp_path: Path) -> None:
    loaded = load(tmp_path, "models:\n  demand:\n    matrix: {region: [north, south]}\n" + STAGES)
    assert str(loaded.place("model.demand-north")) == "mlspec.yaml:4:3"
    assert str(loaded.place("stage.demand-south.train")) == "mlspec.yaml:7:7"
    at = ("models", "demand-south", "stages", "train", "command")
    assert str(loaded.place(at)) == "mlspec.yaml:8:9"


def test_what_is_wrong_with_a_row_is_shown_in_its_row(tmp_path: Path) -> None:
    text = (
        "models:\n  demand:\n    matrix: {from: regions.csv}\n    stages:\n"
        "      train: {command: a, retries: '${matrix.tries}'}\n"
    )
    rows = "region,tries\nnorth,1\nsouth,often\n"
    (problem,) = problems(tmp_path, text, regions=rows)
    assert (problem.address, str(problem.place)) == ("model.demand-south-often", "regions.csv:3:7")


def test_what_is_wrong_with_all_members_is_said_once(tmp_path: Path) -> None:
    text = "models:\n  demand:\n    matrix: {region: [a, b, c, d]}\n    ownr: x\n" + STAGES
    (problem,) = problems(tmp_path, text)
    assert (problem.code, problem.address) == ("MLS010", "model.demand-a")
    assert problem.hint == "did you mean `owner`? (other members have it too)"


def test_a_row_that_is_there_twice_is_to_be_removed(tmp_path: Path) -> None:
    text = "models:\n  demand:\n    matrix: {from: regions.csv}\n" + STAGES
    (problem,) = problems(tmp_path, text, regions="region,n\na,1\na,1\n")
    assert (problem.code, str(problem.place)) == ("MLS083", "regions.csv:3:1")
    assert "remove one" in problem.hint
    assert problem.hint.endswith("; the other one is at regions.csv:2:1")


def test_a_misspelt_from_is_told_apart_from_a_key_without_a_list(tmp_path: Path) -> None:
    text = "models:\n  demand:\n    matrix: {form: regions.csv}\n    stages: {a: {command: b}}\n"
    (problem,) = problems(tmp_path, text)
    assert (problem.code, problem.hint) == ("MLS080", "did you mean `from`?")
    (problem,) = problems(tmp_path, text.replace("form:", "region:"))
    assert (problem.code, problem.hint) == ("MLS080", "write [a, b]")


def test_members_that_share_an_output_are_told_how_not_to(tmp_path: Path) -> None:
    text = "models:\n  demand:\n    matrix: {region: [a, b, c]}\n" + STAGES
    (problem,) = problems(tmp_path, text.replace("models/${matrix.region}.onnx", "models/all.onnx"))
    assert problem.code == "MLS042"
    assert "${matrix.KEY}" in problem.hint


@pytest.mark.parametrize(
    "value", ["$(reboot)", "a b", "-rf", "../up", "a;b", "it's", "a/b", "", "é"]
)
def test_a_value_of_a_table_is_no_command(tmp_path: Path, value: str) -> None:
    text = "models:\n  demand:\n    matrix: {from: regions.csv}\n    name: demand-${matrix.id}\n"
    (problem,) = problems(tmp_path, text + STAGES, regions=f'id,region\n1,"{value}"\n')
    assert (problem.code, str(problem.place)) == ("MLS085", "regions.csv:2:3")
    # Where no shell and no file system reads it, it is only text.
    harmless = "    description: in ${matrix.region}\n    stages: {a: {command: b}}\n"
    loaded = load(tmp_path, text + harmless)
    assert loaded.spec.models["demand-1"].description == f"in {value}"


def test_a_limit_is_met_and_moved(tmp_path: Path) -> None:
    lists = "a: [" + ", ".join(map(str, range(150))) + "], b: [" + ", ".join(map(str, range(150)))
    text = f"models:\n  grid:\n    matrix: {{{lists}]}}\n    stages: {{a: {{command: b}}}}\n"
    (problem,) = problems(tmp_path, text)
    assert problem.message == "the matrix has 22,500 members; the limit is 20,000"
    assert "limits: {members: 22500}" in problem.hint
    (tmp_path / "mlspec.yaml").write_text(HEAD + "limits: {members: 22500}\n" + text)
    found = find_spec(tmp_path, Memory(None))
    assert len(found.snapshot.names) == 22_500


def test_many_files_of_one_model_each(tmp_path: Path) -> None:
    (tmp_path / "shops").mkdir()
    for shop in range(300):
        (tmp_path / f"shops/{shop:03}.yaml").write_text(
            f"models:\n  shop-{shop}:\n    stages:\n      a: {{command: b, outputs: [m/{shop}]}}\n"
        )
    loaded = load(tmp_path, "include: [shops/*.yaml]\n")
    assert list(loaded.spec.models) == [f"shop-{shop}" for shop in range(300)]
    assert str(loaded.place("stage.shop-299.a")) == "shops/299.yaml:4:7"
    (tmp_path / "shops/200.yaml").write_text("models:\n  shop-1: {stages: {a: {command: b}}}\n")
    with pytest.raises(SpecError) as error:
        load_spec(tmp_path)
    assert [(each.code, str(each.place)) for each in error.value.diagnostics] == [
        ("MLS026", "shops/200.yaml:2:3")
    ]


# The same mistake in many rows --------------------------------------------------------------------

TITLED = "models:\n  demand:\n    matrix: {from: regions.csv}\n    name: demand-${matrix.region}\n"


def table(header: str, row: Callable[[int], str], count: int = 99) -> str:
    return "\n".join((header, *map(row, range(count)))) + "\n"


@pytest.mark.parametrize(
    ("code", "row"),
    [
        ("MLS019", lambda number: f"r{number},{number:03}"),
        ("MLS030", lambda number: f"{'r' * 70}{number},x"),
        ("MLS083", lambda number: f"north,x{number}" if number else "south,x"),
        ("MLS085", lambda number: f"$(r{number}),x"),
        ("MLS086", lambda number: f"r{number}"),
    ],
)
def test_rows_with_the_same_mistake_are_counted(
    code: str, row: Callable[[int], str], tmp_path: Path
) -> None:
    found = problems(tmp_path, TITLED + STAGES, regions=table("region,title", row))
    assert {each.code for each in found} == {code}
    assert len(found) == MAX_ALIKE
    assert len(found) + found[-1].more == (97 if code == "MLS083" else 99)
    shown = render_diagnostics(found, color=False)
    assert shown.endswith(f"  = and {found[-1].more} more like it")


def test_two_mistakes_are_told_apart(tmp_path: Path) -> None:
    text = f"{TITLED}    description: ${{matrix.title}}\n    tags: ${{matrix.region}}\n{STAGES}"
    rows = table("region,title", lambda number: f"r{number},{number}")
    found = problems(tmp_path, text, regions=rows)
    assert [each.message for each in found if each.more] == [
        *('expected a list, got "r4"', "expected text, got the number 4"),
    ]
    assert len(found) == 2 * MAX_ALIKE
    hints = {each.hint for each in found if each.more}
    assert hints == {
        "a cell holds one value; write [${matrix.KEY}] into the model",
        'to have it as text, put the cell into double quotes: "4"',
    }


def test_more_members_than_are_looked_at_are_said_to_be_more(tmp_path: Path) -> None:
    text = f"{TITLED}    description: ${{matrix.title}}\n{STAGES}"
    rows = table("region,title", lambda number: f"r{number},{number}", MAX_FOUND + 1)
    first, *found = problems(tmp_path, text, regions=rows)
    assert first.message == "only the first 1,000 problems of a kind are counted"
    assert sum(1 + each.more for each in found) == MAX_FOUND


def test_one_mistake_of_very_many_members_is_said_once(tmp_path: Path) -> None:
    rows = table("region,title", lambda number: f"r{number},x", MAX_FOUND + 1)
    (problem,) = problems(tmp_path, f"{TITLED}    onwer: x\n{STAGES}", regions=rows)
    assert problem.hint == "did you mean `owner`? (other members have it too)"


def test_problems_of_a_model_that_is_written_out_are_all_told(tmp_path: Path) -> None:
    keys = "".join(f"    unknown-{number}: x\n" for number in range(20))
    found = problems(tmp_path, f"models:\n  a:\n{keys}    stages: {{a: {{command: b}}}}\n")
    assert len(found) == 20


def test_a_cell_is_quoted_in_the_file(tmp_path: Path) -> None:
    hint = problems(tmp_path, TITLED + STAGES, regions="region,title\nnorth,NO\n")[0].hint
    assert hint == 'to have it as text, put the cell into double quotes: "NO"'
    text = f"{TITLED}    description: ${{matrix.title}}\n{STAGES}"
    loaded = load(tmp_path, text, regions='region,title\nnorth,"NO"\n')
    assert loaded.spec.models["demand-north"].description == "NO"


# Nearly a value -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("${matix.region}", "`${matix.region}`"),
        ("${MATRIX.region}", "`${MATRIX.region}`"),
        ("${matrices.region}", None),
        ("${martix.regoin}", "`${martix.regoin}`"),
        ("${{matrix.region}}", "`${{matrix.region}}`"),
        ("${{ matrix.region }}.x", "`${{ matrix.region }}`"),
        ("${ matrix.region }", "`${ matrix.region }`"),
        ("${matrix.region", "`${matrix.region`"),
        ("$matrix.region)", "`$matrix.region`"),
        ("$(matrix.region)", "`$(matrix.region)`"),
        ("$matrix.csv", None),
        ("$matrix", None),
        ("${matrix}", None),
        ("${matrix%.csv}", None),
        ("${metrics.region}", None),
        ("${metric.region}", None),
        ("${HOME}/a.region", None),
        ("$(date +%F).region", None),
        ("\\\\${matix.region}", None),
    ],
)
def test_a_misspelt_value_is_no_shell_variable(
    written: str, told: str | None, tmp_path: Path
) -> None:
    text = (
        "models:\n  demand:\n    matrix: {region: [north, south]}\n"
        f'    stages: {{train: {{command: "run {written}"}}}}\n'
    )
    if told is None:
        command = load(tmp_path, text).spec.models["demand-north"].stages["train"].command
        assert command == f"run {written}".replace("\\\\", "\\")
        return
    (problem,) = problems(tmp_path, text)
    assert problem.code == "MLS081"
    assert problem.message == f"{told} is not replaced by a value of the matrix"
    assert problem.hint == "did you mean `${matrix.region}`?"


def test_a_name_that_is_nearly_of_values(tmp_path: Path) -> None:
    text = "models:\n  demand:\n    matrix: {region: [a]}\n    name: d-${matix.region}\n"
    assert [each.code for each in problems(tmp_path, text + STAGES)] == ["MLS081"]


def test_an_override_may_add_a_stage_but_not_misspell_one(tmp_path: Path) -> None:
    text = (
        "models:\n  demand:\n    matrix: {region: [north, south]}\n    overrides:\n"
        "      demand-south: {stages: {trian: {retries: 2}}}\n"
    )
    (problem,) = problems(tmp_path, text + STAGES)
    assert (problem.code, problem.message) == ("MLS084", 'the model has no stage "trian"')
    assert problem.hint == "did you mean `train`?"
    whole = text.replace("{retries: 2}", "{command: b}")
    assert list(load(tmp_path, whole + STAGES).spec.models["demand-south"].stages) == [
        *("train", "trian"),
    ]


@pytest.mark.parametrize(
    ("text", "code", "hint"),
    [
        ("executors: {a: {knd: dask, adress: x}}\n", "MLS010", "did you mean `kind`?"),
        ("executors: {a: {kind: dsak, address: 'tcp://a:1'}}\n", "MLS049", "did you mean `dask`?"),
        ("datasets: {a: {path: x, tgas: [b]}}\n", "MLS010", "did you mean `tags`?"),
        ("models: {a: {matrx: {b: [c]}, ***}}\n", "MLS010", "did you mean `matrix`?"),
        ("models: {a: {matrix: {b: [c]}, overides: {}, ***}}\n", "MLS010", "`overrides`?"),
        ("models: {a: {matrix: {frm: x.csv}, ***}}\n", "MLS080", "did you mean `from`?"),
        ("models: {a: {matrix: {b: [c]}, nmae: x, ***}}\n", "MLS010", "did you mean `name`?"),
        ("models: {a: {matrix: {b: [c]}, overrides: {a-d: {}}, ***}}\n", "MLS084", "`a-c`?"),
        (
            "models: {a: {matrix: {b: [c]}, overrides: {a-c: {onwer: x}}, ***}}\n",
            *("MLS010", "did you mean `owner`?"),
        ),
    ],
)
def test_misspelt_keys_are_told_what_was_meant(
    text: str, code: str, hint: str, tmp_path: Path
) -> None:
    found = problems(tmp_path, text.replace("***", "stages: {a: {command: b}}"))
    assert any(each.code == code and hint in each.hint for each in found)
