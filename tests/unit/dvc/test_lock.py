"""Reading and writing dvc.lock: the meaning and the bytes are DVC's own."""

from __future__ import annotations

from random import Random
from textwrap import indent

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlspec.dvc import lock
from mlspec.dvc.emit import Doubtful, emit
from mlspec.dvc.lock import (
    LockedPath,
    LockEntry,
    dump_entry,
    dump_lock,
    entry_as_dict,
    entry_from_dict,
    parse_data_file,
    parse_lock,
    with_entry,
    without_entries,
)
from mlspec.errors import MlspecError

MD5 = "d41d8cd98f00b204e9800998ecf8427e"
LOCK = """\
schema: '2.0'
stages:
  train:
    cmd: python src/train.py --note "a rather long command that DVC folds because it is
      wider than eighty columns" --seed 0123
    deps:
    - path: data/train
      hash: md5
      md5: 12345678901234567890123456789012.dir
      size: 20
      nfiles: 2
    - path: run.sh
      hash: md5
      md5: '12345678901234567890123456789012'
      size: 7
      isexec: true
    params:
      pipelines/m/params.json:
        python:
          version: '3.11'
        train:
          answer: yes
          octal: 0123
          tiny: 1e-05
          flag: true
          none:
          layers: [64, 32]
    outs:
    - path: models/m.onnx
      hash: md5
      md5: d41d8cd98f00b204e9800998ecf8427e
      size: 0
"""


def test_reads_an_entry_with_the_meaning_of_yaml_1_2() -> None:
    entry = parse_lock(LOCK)["train"]
    assert entry.cmd.endswith('wider than eighty columns" --seed 0123')
    assert entry.deps == (
        LockedPath("data/train", "12345678901234567890123456789012.dir", 20, nfiles=2),
        LockedPath("run.sh", "12345678901234567890123456789012", 7, isexec=True),
    )
    assert entry.params["pipelines/m/params.json"] == {
        "python": {"version": "3.11"},
        "train": {
            "answer": "yes",
            "octal": 123,
            "tiny": 1e-05,
            "flag": True,
            "none": None,
            "layers": [64, 32],
        },
    }
    assert entry.outs == (LockedPath("models/m.onnx", MD5, 0),)


def test_an_entry_survives_the_ledger() -> None:
    entry = parse_lock(LOCK)["train"]
    assert entry_from_dict(entry_as_dict(entry)) == entry
    assert parse_lock(dump_lock({"train": entry})) == {"train": entry}


def test_setting_an_entry_keeps_the_others() -> None:
    entry = LockEntry("echo", outs=(LockedPath("x", MD5, 0),))
    text = with_entry(LOCK, "split", entry)
    assert parse_lock(text) == {**parse_lock(LOCK), "split": entry}
    assert LOCK[LOCK.index("    deps:") : LOCK.index("          layers")] in text
    assert parse_lock(without_entries(text, ["train"])) == {"split": entry}
    assert without_entries(text, ["train", "split"]) == ""


def test_entries_that_share_a_value_are_written_without_anchors() -> None:
    entry = LockEntry("run", params={"p.json": {"train": {"seed": 7}}})
    text = dump_lock({"a": entry, "b": entry})
    assert "&" not in text
    assert parse_lock(text) == {"a": entry, "b": entry}


def test_what_dvc_writes_needs_no_second_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    import ruamel.yaml

    monkeypatch.setattr(ruamel.yaml, "YAML", None)
    assert list(parse_lock(LOCK)) == ["train"]


def test_an_entry_for_a_lock_that_is_not_there_yet() -> None:
    entry = LockEntry("echo", outs=(LockedPath("x", MD5, 0),))
    assert with_entry("", "split", entry) == dump_lock({"split": entry})


def test_no_stages_is_no_entries() -> None:
    assert parse_lock("") == parse_lock("schema: '2.0'\n") == parse_lock("# only words\n") == {}


@pytest.mark.parametrize(
    "text",
    [
        "stages: [",
        "stages: 3",
        "<<<<<<< HEAD\nschema: '2.0'\n",
        "stages:\n  a: 3",
        "stages:\n  a:\n    cmd: [x]\n    deps: 4",
        "stages:\n  a: {cmd: x}\n  a: {cmd: y}",
        "stages:\n  a:\n    cmd: x\n    outs:\n    - {path: p, hash: md5, md5: m, etag: e}",
        "[" * 3000,
    ],
)
def test_a_damaged_lock_is_refused_by_name(text: str) -> None:
    with pytest.raises(MlspecError, match=r"pipelines/m/dvc\.lock"):
        parse_lock(text, "pipelines/m/dvc.lock")


def test_anchors_are_read_as_dvc_reads_them() -> None:
    text = "stages:\n  a:\n    cmd: &c run\n  b:\n    cmd: *c\n"
    assert parse_lock(text) == {"a": LockEntry("run"), "b": LockEntry("run")}


def test_a_data_file_says_what_the_data_are() -> None:
    text = f"outs:\n- md5: {MD5}.dir\n  size: 5\n  nfiles: 1\n  hash: md5\n  path: raw\n"
    digest = parse_data_file(text, "raw.dvc")
    assert digest is not None
    assert (digest.md5, digest.size, digest.nfiles) == (f"{MD5}.dir", 5, 1)
    assert parse_data_file("outs:\n- path: raw\n", "raw.dvc") is None


PARAMS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    # what a careless reader or writer of YAML mistakes for something else
    | st.sampled_from(
        ["yes", "0123", "1e5", "0x1F", "0o7", "1_000", "22:22", "2020-01-01", "=", "<<"]
    )
    | st.from_regex(r"[-+]?[0-9._eExo:]{1,8}", fullmatch=True),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(
    params=st.dictionaries(st.text(min_size=1, max_size=5), PARAMS, max_size=3),
    cmd=st.text(min_size=1),
)
def test_reads_whatever_dvc_writes_as_dvc_reads_it(params: dict[str, object], cmd: str) -> None:
    from dvc.utils.serialize import dumps_yaml, loads_yaml

    data = {"schema": "2.0", "stages": {"s": {"cmd": cmd, "params": {"p.json": params}}}}
    text = dumps_yaml(data)
    theirs = loads_yaml(text)["stages"]["s"]
    ours = parse_lock(text)["s"]
    assert (ours.cmd, ours.params["p.json"]) == (theirs["cmd"], theirs["params"]["p.json"])
    assert dump_lock({"s": LockEntry(cmd, params={"p.json": params})}) == dumps_yaml(
        {"schema": "2.0", "stages": {"s": entry_as_dict(LockEntry(cmd, params={"p.json": params}))}}
    )


REGULAR = """\
schema: '2.0'
stages:
  prepare:
    cmd: python src/prepare.py shop-1
    deps:
    - path: data/rows
      hash: md5
      md5: 3df62a3f16a85678f6e6df7e13595cbb.dir
      size: 469
      nfiles: 2
    - path: run.sh
      hash: md5
      md5: f51d40ba3e7fb4dab0e27e74b98319e6
      size: 445
      isexec: true
    params:
      pipelines/m/params.json:
        python:
          version: '3.11'
        prepare:
          rate: 0.1
          names: [a, b]
    outs:
    - path: out.csv
      hash: md5
      md5: a5b973320c4f8fded5475747ef6c9702
      size: 436
  train:
    cmd: ./run.sh
    deps:
    - path: out.csv
      hash: md5
      md5: a5b973320c4f8fded5475747ef6c9702
      size: 436
"""
VALUES = [
    *("null", "True", "no", "1e5", "0b1", ".5", "x", "/a", "=", "~", "007", "a b", "a  b", "- x"),
    *("1" * 32, "1" * 29 + "e12", "0x" + "1" * 30, "'a'", '"a"', "é", "a: b", "a #b", "{}", ""),
]


def altered(random: Random) -> str:
    """The regular lock with a few lines taken out, moved, repeated or given another value."""
    lines = REGULAR.splitlines()
    for _ in range(random.randrange(1, 4)):
        at = random.randrange(len(lines))
        match random.randrange(5):
            case 0:
                lines.pop(at)
            case 1:
                lines.insert(at, random.choice(lines))
            case 2:
                lines[at] = " " * random.randrange(8) + lines[at].lstrip()
            case _:
                key = lines[at].partition(":")[0]
                lines[at] = f"{key}: {random.choice(VALUES)}"
    return "\n".join(lines) + "\n"


def test_a_regular_file_is_read_as_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(text: str) -> object:
        try:
            return repr(parse_lock(text))
        except MlspecError:
            return "damaged"

    random = Random(3)
    texts = [REGULAR, *(altered(random) for _ in range(1500))]
    quickly = [read(text) for text in texts]
    regular = [text for text in texts if lock._read_regular(text) is not None]
    monkeypatch.setattr(lock, "_read_regular", lambda text: None)  # noqa: ARG005
    assert quickly == [read(text) for text in texts]
    assert REGULAR in regular and len(regular) > 30


ODD = (
    *(
        "3.11",
        "1e5",
        "0x1f",
        "0b1",
        "0o7",
        "yes",
        "No",
        "null",
        "~",
        "x: y",
        "a #b",
        "1_0",
        "=",
        "<<",
    ),
    *(
        "2020-01-01",
        "12:30",
        "...",
        "---",
        "- a",
        "0" * 32,
        "0b1" + "0" * 29,
        "e5" * 16,
        "a b" * 30,
    ),
)
WORDS = (
    st.text("aeyY01_.-~ /:#'\"$[]{}?!=<&*%@`|,\\\t\nä", max_size=12)
    | st.text("ab ", min_size=60, max_size=80)
    | st.sampled_from(ODD)
)
SCALARS = (
    WORDS
    | st.text("0123456789abcdef", min_size=32, max_size=32)
    | st.integers()
    | st.booleans()
    | st.none()
    | st.floats(allow_nan=False, allow_infinity=False)
)
NESTED = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
BODIES = st.fixed_dictionaries(
    {"cmd": WORDS}, optional={"params": st.dictionaries(WORDS, NESTED, max_size=3)}
)


@settings(max_examples=300, deadline=None)
@given(body=BODIES)
def test_what_is_written_quickly_is_written_as_dvc_would(body: dict[str, object]) -> None:
    try:
        quick = emit(body)
    except Doubtful:
        return
    assert quick == lock._dump(body)
    assert f"a:\n  b:\n{indent(quick, '    ')}" == lock._dump({"a": {"b": body}})


def test_most_is_written_quickly() -> None:
    entry = LockEntry(
        'python train.py --rate=0.1 > log 2>&1 && echo "$X"',
        (LockedPath("data/raw.csv", MD5, 3), LockedPath("data/set", f"{MD5}.dir", 3, 2)),
        {"pipelines/m/params.json": {"python": {"version": "3.11"}, "train": {"depths": [1, 0.5]}}},
        (LockedPath("models/m-1.onnx", MD5, 0, isexec=True),),
    )
    assert emit(entry_as_dict(entry)) == lock._dump(lock._unshared(entry)) == dump_entry(entry)
