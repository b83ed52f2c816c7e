"""Loading with a cache: what did not change is not read again, and nothing else differs."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlspec.cache import Cache
from mlspec.errors import SpecError
from mlspec.spec import quick, stamps
from mlspec.spec.load import Loaded, load_spec
from mlspec.spec.memory import Memory
from mlspec.spec.models import Model
from mlspec.spec.stamps import UNKNOWN, Eye

HEAD = "mlspec: 1\nproject: demo\ninclude: ['specs/*.yaml']\n"
SHOPS = 6


class Repository:
    """A repository with a file for each of some shops, and a matrix over a table."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "repository"
        self.cache = folder / "cache.db"
        (self.root / "specs").mkdir(parents=True)
        self.write(
            "mlspec.yaml",
            HEAD + "datasets: {sales: {path: data/sales.csv}}\n"
            "models:\n  demand:\n    matrix: {from: regions.csv}\n    stages:\n"
            '      train: {command: "python a.py ${matrix.region}", inputs: [sales]}\n',
        )
        self.write("regions.csv", "region\nnorth\nsouth\n")
        for shop in range(SHOPS):
            self.shop(shop)

    def write(self, path: str, text: str) -> None:
        (self.root / path).write_text(text, encoding="utf-8")

    def shop(self, shop: int, *, more: str = "", output: str = "") -> None:
        output = output or f"models/{shop}.onnx"
        self.write(
            f"specs/{shop}.yaml",
            f"models:\n  shop-{shop}:\n    owner: shops\n    stages:\n"
            f"      train: {{command: python shop.py {shop}, outputs: [{output}]{more}}}\n",
        )

    def load(self) -> Loaded:
        """Load as a new run of mlspec does."""
        cache = Cache(self.cache, "tests")
        try:
            loaded = load_spec(self.root, cache)
            for name in loaded.spec.models:
                assert loaded.spec.models[name].stages
            assert dict(loaded.interfaces)
            return loaded
        finally:
            cache.close()

    def codes(self) -> list[str]:
        with pytest.raises(SpecError) as error:
            self.load()
        return [each.code for each in error.value.diagnostics]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are believed by their stamps however young they are."""
    monkeypatch.setattr(stamps, "RACE", -(10**18))


class Record:
    """What was read and parsed."""

    def __init__(self) -> None:
        self.read: list[str] = []
        self.parsed: list[str] = []
        self.typed = 0
        self.together = 0

    def clear(self) -> None:
        self.__init__()  # type: ignore[misc]


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> Record:
    record = Record()

    def watch(owner: Any, name: str, note: Callable[..., None]) -> None:
        real = getattr(owner, name)

        def noted(*args: Any, **more: Any) -> Any:
            note(*args)
            return real(*args, **more)

        monkeypatch.setattr(owner, name, noted)

    watch(Eye, "read", lambda _, path: record.read.append(path))
    watch(quick, "read_top", lambda _, path: record.parsed.append(path))
    watch(quick, "face_of", lambda *_: setattr(record, "typed", record.typed + 1))
    watch(quick, "check_together", lambda *_: setattr(record, "together", record.together + 1))
    return record


def same(one: Loaded, other: Loaded) -> bool:
    return (
        one.digest == other.digest
        and one.head_digest == other.head_digest
        and dict(one.model_digests) == dict(other.model_digests)
        and list(one.model_digests) == list(other.model_digests)
        and dict(one.interfaces) == dict(other.interfaces)
        and dict(one.spec.models) == dict(other.spec.models)
        and one.files == other.files
        and one.spec.datasets == other.spec.datasets
    )


@pytest.mark.usefixtures("settled")
def test_nothing_is_read_while_nothing_changed(repository: Repository, record: Record) -> None:
    first = repository.load()
    assert len(record.parsed) == SHOPS + 1
    record.clear()
    assert same(repository.load(), first)
    assert (record.read, record.parsed, record.typed, record.together) == ([], [], 0, 0)


@pytest.mark.usefixtures("settled")
def test_one_changed_file_is_read_alone(repository: Repository, record: Record) -> None:
    first = repository.load()
    record.clear()
    repository.shop(3, more=", params: {depth: 4}")
    second = repository.load()
    assert record.typed == 1
    assert record.together == 0
    assert "specs/3.yaml" in record.parsed
    assert not {f"specs/{shop}.yaml" for shop in (0, 1, 2, 4, 5)} & {*record.parsed, *record.read}
    changed = {name for name in first.model_digests if first.model_digests[name]
               != second.model_digests[name]}  # fmt: skip
    assert changed == {"shop-3"}
    assert second.spec.models["shop-3"].stages["train"].params == {"depth": 4}
    assert same(second, load_spec(repository.root))


@pytest.mark.usefixtures("settled")
def test_one_changed_row_makes_one_model_anew(repository: Repository, record: Record) -> None:
    repository.load()
    record.clear()
    repository.write("regions.csv", "region\nnorth\nwest\n")
    second = repository.load()
    assert record.typed == 1
    assert "demand-west" in second.spec.models and "demand-south" not in second.spec.models
    assert same(second, load_spec(repository.root))


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize(
    ("edit", "codes"),
    [
        (lambda it: it.shop(1, output="models/2.onnx"), ["MLS042"]),
        (lambda it: it.shop(1, output="data/sales.csv"), ["MLS043"]),
        (lambda it: it.shop(1, more=", inputs: [loans]"), ["MLS040"]),
        (lambda it: it.shop(1, more=", retries: many"), ["MLS012"]),
        (lambda it: it.write("specs/7.yaml", "models: {shop-1: {stages: {a: {command: b}}}}"),
         ["MLS026"]),
        (lambda it: it.write("specs/7.yaml", "models: {demand-north: {stages: {a: {command: b}}}}"),
         ["MLS083"]),
        (lambda it: it.write("regions.csv", "region\nnorth\nnorth\n"), ["MLS083"]),
        (lambda it: it.write("regions.csv", "region\n$(reboot)\n"), ["MLS085"]),
        (lambda it: (it.root / "regions.csv").unlink(), ["MLS086"]),
        (lambda it: it.write("requirements.txt", "--index-url https://example.org\n"), ["MLS071"]),
        (lambda it: it.write("mlspec.yaml", HEAD + "limits: {members: x}\n"), ["MLS012"]),
        (lambda it: (it.root / "mlspec.yaml").unlink(), ["MLS001"]),
    ],
)  # fmt: skip
def test_what_became_wrong_is_seen(
    repository: Repository, edit: Callable[[Repository], None], codes: list[str]
) -> None:
    repository.load()
    edit(repository)
    assert repository.codes() == codes
    # What is wrong is not remembered as right.
    assert repository.codes() == codes


@pytest.mark.usefixtures("settled")
def test_a_change_of_the_defaults_reaches_all_models(repository: Repository) -> None:
    repository.load()
    text = (repository.root / "mlspec.yaml").read_text()
    repository.write("mlspec.yaml", text + "defaults: {models: {description: of a shop}}\n")
    loaded = repository.load()
    assert {model.description for model in loaded.spec.models.values()} == {"of a shop"}
    repository.write("mlspec.yaml", text)
    assert same(repository.load(), load_spec(repository.root))


@pytest.mark.usefixtures("settled")
def test_a_folder_that_became_a_link_is_read_again(repository: Repository) -> None:
    repository.load()
    (repository.root / "specs").rename(repository.root.parent / "elsewhere")
    (repository.root / "specs").symlink_to("../elsewhere")
    # Patterns do not enter links, so these models are gone.
    assert list(repository.load().spec.models) == ["demand-north", "demand-south"]
    repository.write("mlspec.yaml", HEAD.replace("*", "1"))
    assert repository.codes() == ["MLS002"]


def test_a_file_that_was_just_written_is_not_known_by_its_stamp(repository: Repository) -> None:
    cache = Cache(repository.cache, "tests")
    load_spec(repository.root, cache)
    snapshot = Memory(cache).snapshot
    assert snapshot is not None
    assert {snapshot.stamp(index) for index in range(len(snapshot.paths))} == {UNKNOWN}


def test_a_file_of_a_time_to_come_is_not_known_by_its_stamp(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stamps, "RACE", -1)
    year = 365 * 24 * 3600
    path = repository.root / "specs/1.yaml"
    os.utime(path, (path.stat().st_mtime + year,) * 2)
    cache = Cache(repository.cache, "tests")
    load_spec(repository.root, cache)
    snapshot = Memory(cache).snapshot
    assert snapshot is not None
    stamped = {path: snapshot.stamp(index) for index, path in enumerate(snapshot.paths)}
    unknown = {path for path, stamp in stamped.items() if stamp == UNKNOWN}
    assert unknown == {"specs/1.yaml", "requirements.txt"}


def test_a_touched_file_is_known_by_its_content(repository: Repository, record: Record) -> None:
    repository.load()
    record.clear()
    repository.load()
    assert len(record.read) >= SHOPS
    assert (record.parsed, record.typed) == ([], 0)


def test_a_file_that_settled_is_known_by_its_stamp_from_then_on(
    repository: Repository, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.load()
    monkeypatch.setattr(stamps, "RACE", -(10**18))
    repository.load()
    record.clear()
    repository.load()
    assert record.read == []


@pytest.mark.usefixtures("settled")
def test_no_model_is_made_before_it_is_asked_for(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.load()
    cache = Cache(repository.cache, "tests")
    loaded = load_spec(repository.root, cache)
    with monkeypatch.context() as patch:
        patch.setattr(Model, "model_validate_json", None)
        models = loaded.spec.models
        assert len(models) == SHOPS + 2
        assert list(models)[:3] == ["demand-north", "demand-south", "shop-0"]
        assert "shop-3" in models and "shop-9" not in models
        assert loaded.interfaces["shop-3"].stages["train"].writes == ("models/3.onnx",)
        assert loaded.interfaces["demand-north"].stages["train"].inputs == ("data/sales.csv",)
        assert loaded.model_digests["shop-3"].startswith("sha256:")
    assert loaded.spec.models["shop-3"].owner == "shops"
    with pytest.raises(KeyError):
        loaded.spec.models["shop-9"]
    with pytest.raises(KeyError):
        loaded.interfaces["shop-9"]
    assert str(loaded.place("model.shop-3")) == "specs/3.yaml:2:3"
    assert str(loaded.place("stage.demand-north.train")) == "mlspec.yaml:9:7"


def damage_nothing(path: Path) -> None:
    assert path.exists()


def fill_with_noise(path: Path) -> None:
    path.write_bytes(os.urandom(4096))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def drop_rows(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute('DELETE FROM "spec.models"')
        db.execute('DELETE FROM "spec.faces"')
    db.close()


def swap_rows(path: Path) -> None:
    """Each model has the row of another, as if it had been written by another run."""
    with sqlite3.connect(path) as db:
        for table in ("spec.models", "spec.faces"):
            rows = db.execute(f'SELECT key, value, sum FROM "{table}"').fetchall()
            for (key, *_), (_, value, checksum) in zip(rows, rows[1:] + rows[:1], strict=True):
                db.execute(
                    f'UPDATE "{table}" SET value = ?, sum = ? WHERE key = ?', (value, checksum, key)
                )
    db.close()


def refuse_writing(path: Path) -> None:
    path.chmod(0o400)
    path.parent.chmod(0o500)


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize(
    "damage", [damage_nothing, fill_with_noise, cut, drop_rows, swap_rows, refuse_writing]
)
def test_a_damaged_cache_changes_nothing(
    repository: Repository, damage: Callable[[Path], None]
) -> None:
    repository.load()
    expected = load_spec(repository.root)
    damage(repository.cache)
    try:
        assert same(repository.load(), expected)
        repository.shop(2, more=", params: {depth: 4}")
        assert same(repository.load(), load_spec(repository.root))
    finally:
        repository.cache.parent.chmod(0o700)


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("seed", range(6))
def test_any_edits_come_to_what_a_first_load_says(tmp_path: Path, seed: int) -> None:
    """A cache that has seen all of it, against none: the same answer after each edit."""
    repository = Repository(tmp_path)
    chance = random.Random(seed)
    root = repository.root
    edits: tuple[Callable[[int], None], ...] = (
        lambda shop: repository.shop(shop, more=f", params: {{depth: {chance.randrange(3)}}}"),
        lambda shop: repository.shop(shop, output=f"models/{chance.randrange(SHOPS)}.onnx"),
        lambda shop: repository.shop(shop, more=f", inputs: [models/{(shop + 1) % 3}.onnx]"),
        lambda shop: repository.shop(shop, more=", inputs: [sales, loans]"),
        lambda shop: (root / f"specs/{shop}.yaml").unlink(missing_ok=True),
        lambda shop: repository.write(
            "regions.csv", "region\n" + "".join(f"r{n}\n" for n in range(1 + shop))
        ),
        lambda _: repository.write(
            "specs/data.yaml",
            f"datasets: {{loans: {{path: data/{chance.randrange(2)}.csv}}}}\n"
            f"defaults: {{models: {{tags: [t{chance.randrange(2)}]}}}}\n",
        ),
        lambda _: (root / "specs/data.yaml").unlink(missing_ok=True),
    )

    def told(load: Callable[[], Loaded]) -> object:
        try:
            return load()
        except SpecError as error:
            return error.diagnostics

    for _ in range(25):
        chance.choice(edits)(chance.randrange(SHOPS))
        remembered, anew = told(repository.load), told(lambda: load_spec(root))
        if isinstance(remembered, Loaded) and isinstance(anew, Loaded):
            assert same(remembered, anew)
        else:
            assert remembered == anew


def test_a_copy_of_a_repository_with_its_cache_is_read_anew(
    repository: Repository, tmp_path: Path
) -> None:
    first = repository.load()
    copy = Repository(tmp_path / "other")
    shutil.copy(repository.cache, copy.cache)
    copy.shop(1, more=", retries: 2")
    assert copy.load().digest != first.digest
    assert same(copy.load(), load_spec(copy.root))
