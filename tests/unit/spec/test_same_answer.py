"""The quick way and the precise way come to the same, or the quick way says that it is unsure."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlspec.cache import Cache
from mlspec.errors import SpecError
from mlspec.spec.load import Loaded, _of_read, load_spec
from mlspec.spec.memory import Memory
from mlspec.spec.precise import read_spec
from mlspec.spec.quick import find_spec
from mlspec.spec.show import _SECRET, holds_secret
from mlspec.spec.tops import UnsureError, read_top
from mlspec.spec.yaml import parse

ROOT = Path(__file__).parents[3]
FIXTURES = ROOT / "tests" / "fixtures" / "spec"
GOOD = sorted(FIXTURES.glob("good/*.yaml"))
BAD = sorted(path.parent for path in FIXTURES.glob("bad/*/expected.json"))
EXAMPLES = sorted(path.parent for path in ROOT.glob("examples/*/mlspec.yaml"))


def unpack(file: Path, root: Path) -> None:
    top, *more = file.read_bytes().split(b"--- FILE: ")
    (root / "mlspec.yaml").write_bytes(top)
    for part in more:
        name, _, data = part.partition(b"\n")
        path = root / name.decode()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def answer(loaded: Loaded) -> dict[str, Any]:
    """All that a spec that was loaded says, but for places."""
    return {
        "models": {name: model.model_dump() for name, model in loaded.spec.models.items()},
        "head": loaded.spec.model_dump(exclude={"models"}),
        "digest": loaded.digest,
        "head_digest": loaded.head_digest,
        "model_digests": dict(loaded.model_digests),
        "interfaces": dict(loaded.interfaces),
        "files": loaded.files,
    }


def places(loaded: Loaded) -> Mapping[str, object]:
    spec = loaded.spec
    addresses = [f"model.{name}" for name in spec.models]
    addresses += [f"stage.{name}.{each}" for name, it in spec.models.items() for each in it.stages]
    addresses += [f"gate.{name}.{each}" for name, it in spec.models.items() for each in it.gates]
    addresses += [f"dataset.{name}" for name in spec.datasets]
    addresses += [f"deployment.{name}" for name in spec.deployments]
    return {address: loaded.place(address) for address in addresses}


def precisely(root: Path) -> Loaded:
    return _of_read(root, read_spec(root))


@pytest.mark.parametrize("file", GOOD, ids=lambda file: file.stem)
def test_what_is_right_is_the_same_both_ways(file: Path, tmp_path: Path) -> None:
    unpack(file, tmp_path)
    find_spec(tmp_path, Memory(None))  # It is sure.
    quick, precise = load_spec(tmp_path), precisely(tmp_path)
    assert answer(quick) == answer(precise)
    assert list(quick.spec.models) == list(precise.spec.models)
    assert places(quick) == places(precise)


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda folder: folder.name)
def test_examples_are_the_same_both_ways(folder: Path) -> None:
    find_spec(folder, Memory(None))
    assert answer(load_spec(folder)) == answer(precisely(folder))


@pytest.mark.parametrize("file", GOOD, ids=lambda file: file.stem)
def test_what_is_remembered_is_the_same(file: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    unpack(file, root)
    told = []
    for _ in range(2):
        cache = Cache(tmp_path / "cache.db", "tests")
        told.append(answer(load_spec(root, cache)))
        cache.close()
    assert told[0] == told[1] == answer(precisely(root))


@pytest.mark.parametrize("folder", BAD, ids=lambda folder: folder.name)
def test_what_is_wrong_is_never_taken(folder: Path) -> None:
    with pytest.raises(UnsureError):
        find_spec(folder, Memory(None))


def test_what_is_wrong_on_disk_is_never_taken(
    special: tuple[str, Callable[[Path], str]], tmp_path: Path
) -> None:
    root = tmp_path / "repository"
    root.mkdir()
    special[1](root)
    with pytest.raises(UnsureError):
        find_spec(root, Memory(None))


WORDS = (
    *("north", "1", "2.50", "-0", "true", "no", "''", '"a b"', "$(reboot)", "[a]", "99", "007"),
    *("${matrix.region}", "${matrix.size}", "${matrix.shop}", "a ${matrix.size} b", "~", "-rf"),
    *("loans", "./loans", "data/x.csv", "a: b", "#", "{}", "30m", "4GiB", "nightly", "&a b", "*a"),
)


def mutate(text: str, chance: random.Random) -> str:
    """The text with a line dropped, doubled or moved, or a word put for another."""
    lines = text.splitlines(keepends=True)
    where = chance.randrange(len(lines))
    match chance.randrange(6):
        case 0:
            del lines[where]
        case 1:
            lines.insert(where, chance.choice(lines))
        case 2:
            lines[where] = " " * chance.randrange(9) + lines[where].lstrip(" ")
        case 3:
            head, colon, _ = lines[where].partition(": ")
            lines[where] = f"{head}{colon}{chance.choice(WORDS)}\n"
        case _:
            words = lines[where].split(" ")
            words[chance.randrange(len(words))] = chance.choice(WORDS)
            lines[where] = " ".join(words).rstrip("\n") + "\n"
    return "".join(lines)


MUTABLE = [file for file in GOOD if file.stem.startswith(("whole", "matrix", "include", "stage"))]


@pytest.mark.parametrize("file", MUTABLE, ids=lambda file: file.stem)
def test_a_slip_is_seen_both_ways(file: Path, tmp_path: Path) -> None:
    """Every text that the quick way takes, the precise way takes too, and they agree."""
    unpack(file, tmp_path)
    targets = sorted(tmp_path.rglob("*.yaml")) + sorted(tmp_path.rglob("*.csv"))
    originals = {path: path.read_text(encoding="utf-8", errors="replace") for path in targets}
    for seed in range(40):
        chance = random.Random(f"{file.stem} {seed}")
        for path, text in originals.items():
            path.write_text(text, encoding="utf-8")
        target = chance.choice(targets)
        text = originals[target]
        for _ in range(chance.randint(1, 2)):
            text = mutate(text, chance) if text.strip() else "a: 1\n"
        target.write_text(text, encoding="utf-8")
        try:
            find_spec(tmp_path, Memory(None))
        except UnsureError:
            continue
        try:
            expected = precisely(tmp_path)
        except SpecError as error:
            pytest.fail(f"the quick way took what gives {error.diagnostics}:\n{text}")
        assert answer(load_spec(tmp_path)) == answer(expected), text


def is_read_as_yaml(text: str) -> None:
    """What is read without the reader of all YAML is what that would read."""
    try:
        top = read_top(text.encode(), "mlspec.yaml")
    except UnsureError:
        return
    parsed = parse(text.encode(), "mlspec.yaml")
    assert parsed.problems == ()
    assert parsed.top is not None
    assert repr(parsed.top.plain()) == repr(top.sections)


PIECES = (
    *("a", "b", "key", "y", "no", "true", "null", "1", "-1", "-0", "0x1F", "1e3", "1.50", "007"),
    *(":", ": ", "- ", "-", ", ", ",", "[", "]", "{", "}", " ", "  ", "\n", "\n  ", "\n    "),
    *('"', "'", '"a"', "'b c'", '"x: y"', "#", " # c", "&x", "*x", "!t", "|", ">", "?", "? ", "%"),
    *("@", "`", "~", "<<", "---", "...", "\\", "\t", "\r\n", "é", "$", "(", ")", "=", "a b", "://"),
    *("a:b", "a: b", "key:\n  ", "key:\n- ", "token", "password", "\n- a", "\nkey: v", "{a: 1}"),
    *("[1, 'a', \"b\"]", "{a: [x, y], b: {c: d}}", ".", "/", "+", "a/b.c", "-x", "- - a"),
)


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
@example("key: a\n b")
@example("key:\n- a\nother: b")
@example("key:\n  - a\n - b")
@example("a: [b,c]")
@example("a: {b: c,}")
@example("a: {b: c, b: d}")
@example("a: 'it''s'")
@example("a: b: c")
@example("a: b #c\nd: 'e'#f")
@settings(max_examples=1500, deadline=None)
def test_plain_yaml_is_read_as_yaml(text: str) -> None:
    is_read_as_yaml(text)


LINES = (
    *("models:", "  a:", "  b:", "    stages:", "      train:", "        command: python a.py"),
    *("        inputs: [a, b]", "        inputs:", "        - a", "          - b", "    - c"),
    *("        params: {x: 1, y: -0.5, z: 'q'}", "# words", "", "   # more", "    owner: me # now"),
    *("        outputs: [a", "          b]", "    description: long", "      text", "  c: {d: e}"),
    *("---", "    tags: []", "    x: {}", "    y: [[1, 2], [3]]", "    z: [{a: 1}, {b: [c]}]"),
)


@given(st.lists(st.sampled_from(LINES), min_size=1, max_size=12).map("\n".join))
@settings(max_examples=1500, deadline=None)
def test_blocks_are_read_as_yaml(text: str) -> None:
    is_read_as_yaml(text)


MODEL = """\
# One shop of many.
models:
  shop-7:
    description: "Demand: a week ahead"   # for the planners
    owner: demand-team
    tags: [nightly, north]
    stages:
      train:
        command: python src/train.py --shop 7 && echo "it's done"
        inputs:
          - shops
          - data/raw/7.csv
        outputs: [models/7.onnx]
        params: {depth: 6, rate: 0.1, layers: [8, 8], names: {first: 'a b'}}
        timeout: 30m
    artifact: {path: models/7.onnx, format: onnx}
    gates:
      no-worse: {metric: auc, against: champion, max_drop: 1e-2}
"""


def test_a_model_as_people_write_it_is_read_fast() -> None:
    """It does not need the reader of all YAML, which takes five times as long."""
    assert read_top(MODEL.encode(), "shop.yaml").node is None


SECRETS = (
    *("AKIA", "sk-", "hf_", "ghp_", "glpat-", "xoxb-", "AIza", "eyJ", "password=", "api_key="),
    *("://", "u:p@", "abcdefgh", "ABCDEFGH12345678", "0123456789", " ", ".", "-----", "risk-"),
    *("-----BEGIN RSA PRIVATE KEY", "sig=", "TOKEN=", "é", "ſ", "K", "\n", "'", "$x"),
)


@given(st.lists(st.sampled_from(SECRETS), max_size=8).map("".join))
@settings(max_examples=800, deadline=None)
def test_a_glance_at_a_text_misses_no_secret(text: str) -> None:
    assert holds_secret(text) == (_SECRET.search(text) is not None)
