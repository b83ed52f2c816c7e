"""A cache keeps what it is given, and is never the cause of an error."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from mlspec.cache import Cache


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "cache.db"


def test_what_is_put_is_there_now_and_later(path: Path) -> None:
    cache = Cache(path, "me")
    cache.put("words", "b", b"two")
    cache.put("words", "a", b"one")
    assert cache.get("words", "a") == b"one"
    assert list(cache.items("words")) == [("a", b"one"), ("b", b"two")]
    cache.close()
    later = Cache(path, "me")
    assert list(later.items("words")) == [("a", b"one"), ("b", b"two")]
    later.put("words", "a", b"1")
    later.delete("words", ["b", "c"])
    assert list(later.items("words")) == [("a", b"1")]
    later.close()
    assert list(Cache(path, "me").items("words")) == [("a", b"1")]
    assert Cache(path, "me").get("other", "a") is None


def filled(path: Path) -> None:
    cache = Cache(path, "me")
    cache.put("words", "a", b"one")
    cache.close()


def test_another_owner_finds_nothing_and_takes_over(path: Path) -> None:
    filled(path)
    other = Cache(path, "you")
    assert other.get("words", "a") is None
    other.put("words", "b", b"two")
    other.close()
    assert list(Cache(path, "you").items("words")) == [("b", b"two")]
    assert Cache(path, "me").get("words", "b") is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda _: b"no database",
        lambda data: data[: len(data) // 2],
        lambda data: data[:100] + b"\xff" * (len(data) - 100),
        lambda data: data.replace(b"one", b"two"),
    ],
    ids=["empty", "another file", "half", "garbage", "a value that was altered"],
)
def test_a_damaged_file_is_an_empty_cache_that_can_be_filled(path: Path, damage) -> None:
    filled(path)
    path.write_bytes(damage(path.read_bytes()))
    cache = Cache(path, "me")
    assert cache.get("words", "a") is None
    assert list(cache.items("words")) == []
    cache.put("words", "a", b"new")
    cache.close()
    assert Cache(path, "me").get("words", "a") == b"new"


def test_a_file_that_another_writes_to_is_left_alone(path: Path) -> None:
    filled(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    cache = Cache(path, "me")
    assert cache.get("words", "a") is None
    cache.put("words", "b", b"two")
    cache.close()
    other.execute("ROLLBACK")
    other.close()
    assert Cache(path, "me").get("words", "a") == b"one"


def test_a_place_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("a file where the folder should be")
    cache = Cache(tmp_path / "folder" / "cache.db", "me")
    cache.put("words", "a", b"one")
    assert cache.get("words", "a") == b"one"
    cache.close()


def test_a_key_that_is_not_text_is_not_kept(path: Path) -> None:
    cache = Cache(path, "me")
    cache.put("words", "a", b"one")
    cache.put("words", "\udcff", b"two")
    assert cache.get("words", "\udcff") == b"two"
    cache.close()
    later = Cache(path, "me")
    assert later.get("words", "\udcff") is None
    assert list(later.items("words")) == [("a", b"one")]
