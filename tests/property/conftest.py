"""Generated repositories, and edits of every kind to them; each edit can be taken back.

What is chosen follows from the seed alone. An edit draws from a stream of its own, so a sequence
from which some are left out mostly does what is left of it.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlspec.dvc.lock import LockedPath, LockEntry, dump_lock, parse_lock

COLLECT = """out=$1; shift
mkdir -p "$(dirname "$out")"
find "$@" -type f | LC_ALL=C sort | while read -r file; do cat "$file"; done > "$out"
"""
SPLIT = """out=$1; shift
mkdir -p "$out/parts"
find "$@" -type f | LC_ALL=C sort | while read -r file; do
  number=$((number + 1))
  cp "$file" "$out/parts/$number"
  echo "$number" >> "$out/index"
done
"""
COUNT = """out=$1; shift
mkdir -p "$(dirname "$out")"
name=$(basename "$out" .json)
echo "{\\"$name\\": $(find "$@" -type f | LC_ALL=C sort | xargs cat | wc -c)}" > "$out"
"""
SCRIPT = """import pathlib
import sys

from lib.alpha import convert

out, *given = map(pathlib.Path, sys.argv[1:])
files = sorted(f for g in given for f in ([g] if g.is_file() else g.rglob("*")) if f.is_file())
out.parent.mkdir(parents=True, exist_ok=True)
out.write_bytes(convert(b"".join(f.read_bytes() for f in files)))
"""
FILES = {
    "code/collect.sh": COLLECT,
    "code/split.sh": SPLIT,
    "code/count.sh": COUNT,
    "code/script.py": SCRIPT,
    "code/lib/__init__.py": "",
    "code/lib/alpha.py": "from . import beta\n\n\ndef convert(data):\n    return data + beta.END\n",
    "code/lib/beta.py": 'END = b"end"\n',
    "code/lib/spare.py": "UNUSED = 1\n",
    "config/notes.txt": "Take the newest.\n",
    "config/more.txt": "Or not.\n",
    "data/shared.csv": "id,value\n1,0.5\n2,0.25\n",
    "data/images/a.txt": "aaaa\n",
    "data/images/b.txt": "bbbb\n",
    "data/images/deep/c.txt": "cccc\n",
    "data/own/x.bin": "own x\n",
    "data/own/y.bin": "own y\n",
    ".gitignore": "/data/own\n",
}
DATASETS = {"shared": "data/shared.csv", "images": "data/images", "own": "data/own"}
"""Two that Git has, and one that it ignores, so that DVC keeps it."""
PLAIN = ("config/notes.txt", "config/more.txt")
VALUES: tuple[Any, ...] = (
    *(0, 1, True, 1, 0, False, 1, -7, 2**40, 0.0, 1.0, 0.1, 1e-05, 1.5e300, True, False, None),
    *(
        "",
        "1",
        "yes",
        "null",
        "0x1f",
        "1e3",
        "2024-01-01",
        "ä — ü",
        "two\nlines",
        " space ",
        "${x}",
    ),
    *([], [1, 2], [1.0, 2], ["a", None], {}, {"deep": 1}, {"deep": {"er": [True, {"z": 0}]}}),
)
ALIKE = {0: [0.0, False], 1: [1.0, True], -7: [-7.0], 2**40: [float(2**40)]}
"""Values that Python holds to be equal, and YAML does not."""


class Repository:
    """A repository with a spec; `stale` are the stages that DVC last found to be out of date."""

    def __init__(self, root: Path, seed: int, environment: Mapping[str, str]) -> None:
        self.root = root
        self.seed = seed
        self.rng = random.Random(seed)
        self.environment = environment
        self.spec: dict[str, Any] = make_spec(self.rng)
        self.stale: list[str] = []
        self.commit: Callable[[str, str], None] | None = None
        self._marks: dict[str, tuple[int, ...]] = {}
        self._undo: list[tuple[str, dict[str, Path | None]]] = []
        self._kept: dict[str, Path | None] = {}
        self._numbers = itertools.count()
        self._keeps = root.with_name("kept")
        self._keeps.mkdir()
        for path, text in FILES.items():
            self.write(path, text)
        self.write_spec()
        self.run("git", "init", "--quiet")
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", "Start")

    def run(self, *arguments: str, may_fail: bool = False) -> str:
        done = subprocess.run(
            arguments,
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        said = f"{' '.join(arguments)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert may_fail or done.returncode == 0, said
        assert "defect" not in done.stderr, said
        return done.stdout

    # What there is --------------------------------------------------------------------------------

    @property
    def stages(self) -> list[tuple[str, str]]:
        return [(model, stage) for model in self.models for stage in self.models[model]["stages"]]

    @property
    def models(self) -> dict[str, Any]:
        models: dict[str, Any] = self.spec["models"]
        return models

    def stage(self, model: str, name: str) -> dict[str, Any]:
        stage: dict[str, Any] = self.models[model]["stages"][name]
        return stage

    def any_stage(self) -> dict[str, Any]:
        return self.stage(*self.rng.choice(self.stages))

    def files(self, *folders: str) -> list[str]:
        """Regular files at or below these paths, sorted."""
        places = [
            place for folder in folders for place in (self.root / folder, *self._below(folder))
        ]
        found = {place for place in places if place.is_file() and not place.is_symlink()}
        return sorted(str(place.relative_to(self.root)) for place in found)

    def _below(self, folder: str) -> Iterable[Path]:
        return (self.root / folder).rglob("*")

    def data(self) -> list[str]:
        return [path for path in self.files("data", *PLAIN) if not path.endswith(".dvc")]

    def code(self) -> list[str]:
        return self.files("code")

    def outputs(self) -> list[str]:
        """Outputs that are there: files and folders."""
        return [path for path in written(self.spec) if (self.root / path).exists()]

    def locks(self) -> list[str]:
        """Lock files that have an entry."""
        found = (f"pipelines/{model}/dvc.lock" for model in self.models)
        return [path for path in found if (self.root / path).exists() and self.entries(path)]

    def entries(self, lock: str) -> dict[str, LockEntry]:
        text = self.read(lock).decode()
        return parse_lock(text, lock) if text else {}

    # Changes --------------------------------------------------------------------------------------

    def keep(self, path: str) -> Path:
        """Remember what is at `path`, once for each edit, so that it can be brought back."""
        place = self.root / path
        if path not in self._kept:
            self._kept[path] = _copy(place, self._keeps / f"{next(self._numbers)}")
        return place

    def read(self, path: str) -> bytes:
        return (self.root / path).read_bytes()

    def write(self, path: str, content: str | bytes) -> None:
        """By a new file, as an editor does."""
        place = self.keep(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        new = place.with_name(f"{place.name}~")
        new.write_bytes(content.encode() if isinstance(content, str) else content)
        new.replace(place)

    def overwrite(self, path: str, content: bytes, *, same_time: bool = False) -> None:
        """In place; with `same_time` only the change time tells."""
        place = self.keep(path)
        before = place.stat()
        place.write_bytes(content)
        if same_time:
            os.utime(place, ns=(before.st_atime_ns, before.st_mtime_ns))
            self._marks[path] = _mark(place)

    def delete(self, path: str) -> None:
        place = self.keep(path)
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        else:
            place.unlink()

    def write_spec(self) -> None:
        self.write("mlspec.yaml", yaml.safe_dump(self.spec, sort_keys=False, allow_unicode=True))

    def write_lock(self, lock: str, entries: Mapping[str, LockEntry]) -> None:
        if entries:
            self.write(lock, dump_lock(entries))
        else:
            self.delete(lock)

    def hidden(self, path: str) -> bool:
        """Whether a file at or below `path` has other bytes, of the same size, time and inode."""
        return any(
            (name == path or name.startswith(f"{path}/"))
            and (self.root / name).exists()
            and _mark(self.root / name) == mark
            for name, mark in self._marks.items()
        )

    def edit(self, number: int) -> str:
        """Change something, or take the last change back, rather so the more there are; says what.

        Where everything is out of date, one more edit would show nothing.
        """
        self.rng = random.Random(f"{self.seed} {number}")
        if self.rng.random() < len(self._undo) / 12:
            return self._take_back()
        deck = random.Random(self.seed).sample(sorted(EDITS), len(EDITS))
        for name in (*deck[number % len(deck) :], *deck):  # each kind about as often
            self._kept = {}
            told = EDITS[name](self)
            if told is not None:
                self._undo.append((f"{name} ({told})", self._kept))
                return f"{name}: {told}"
        raise AssertionError("nothing can be edited")

    def _take_back(self) -> str:
        name, kept = self._undo.pop()
        for path, copy in reversed(kept.items()):
            place = self.root / path
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            else:
                place.unlink(missing_ok=True)
            if copy is not None:
                place.parent.mkdir(parents=True, exist_ok=True)
                _copy(copy, place)
        self.spec = yaml.safe_load(self.read("mlspec.yaml"))
        return f"take back: {name}"


def _copy(source: Path, target: Path) -> Path | None:
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True)
    elif source.exists():
        shutil.copy2(source, target)
    else:
        return None
    return target


def _mark(place: Path) -> tuple[int, ...]:
    found = place.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size


def written(spec: Mapping[str, Any]) -> list[str]:
    """Every path that a stage writes."""
    stages = (stage for model in spec["models"].values() for stage in model["stages"].values())
    return [
        path
        for stage in stages
        for path in (*stage.get("outputs", ()), *filter(None, [stage.get("metrics")]))
    ]


# Specs --------------------------------------------------------------------------------------------


def make_spec(rng: random.Random) -> dict[str, Any]:
    """Two to five models of one to four stages, that read data, each other's outputs and code."""
    made: list[str] = []
    models = {}
    for number in range(rng.randint(2, 5)):
        model, stages = f"m{number}", {}
        own: list[str] = []
        for at in range(rng.randint(1, 4)):
            stage = _make_stage(rng, model, f"s{at}", own, made)
            stages[f"s{at}"] = stage
            own += stage.get("outputs", [])
        made += own
        models[model] = {"description": "A model", "stages": stages}
    version = "{}.{}".format(*sys.version_info)
    return {
        "mlspec": 1,
        "project": "edits",
        "python": {"version": version},
        "datasets": {name: {"path": path} for name, path in DATASETS.items()},
        "models": models,
    }


def _make_stage(
    rng: random.Random, model: str, name: str, own: list[str], made: list[str]
) -> dict[str, Any]:
    inputs = [own[-1]] if own and rng.random() < 0.8 else []
    if made and rng.random() < 0.4:
        inputs.append(rng.choice(made))
    inputs += [dataset for dataset in DATASETS if rng.random() < 0.3]
    inputs += [path for path in PLAIN if rng.random() < 0.2]
    inputs = inputs or ["shared"]
    given = " ".join(DATASETS.get(name, name) for name in inputs)
    out = f"build/{model}/{name}"
    commands = {
        "file": (f"sh code/collect.sh {out}.txt {given}", {"outputs": [f"{out}.txt"]}),
        "folder": (f"sh code/split.sh {out} {given}", {"outputs": [out]}),
        "both": (
            f"sh code/split.sh {out} {given} && sh code/collect.sh {out}.txt {given}",
            {"outputs": [out, f"{out}.txt"]},
        ),
        "script": (f"python code/script.py {out}.bin {given}", {"outputs": [f"{out}.bin"]}),
        "metrics": (
            f"sh code/count.sh metrics/{model}-{name}.json {given}",
            {"metrics": f"metrics/{model}-{name}.json"},
        ),
    }
    command, writes = commands[rng.choice(sorted(commands))]
    stage = {"command": command, "inputs": inputs, **writes}
    if rng.random() < 0.6:
        names = rng.sample("abcdef", rng.randint(1, 4))
        stage["params"] = {name: rng.choice(VALUES) for name in names}
    return stage


# Edits --------------------------------------------------------------------------------------------

Edit = Callable[[Repository], str | None]
"""Changes something and says what, or gives None when there is nothing to do it to."""
EDITS: dict[str, Edit] = {}


def named(name: str) -> Callable[[Edit], Edit]:
    def enter(edit: Edit) -> Edit:
        EDITS[name] = edit
        return edit

    return enter


def _other(content: bytes) -> bytes:
    """Other bytes, of the same length."""
    return bytes([content[0] ^ 1]) + content[1:] if content else content


def _on_files(name: str, list_files: Callable[[Repository], list[str]], text: bytes) -> None:
    """The edits that any kind of file can take."""

    def enter(what: str, change: Callable[[Repository, str], None], *, empty: bool = True) -> None:
        def edit(it: Repository) -> str | None:
            paths = [path for path in list_files(it) if empty or it.read(path)]
            if not paths:
                return None
            path = it.rng.choice(paths)
            change(it, path)
            return path

        EDITS[f"{what} {name}"] = edit

    enter("change", lambda it, path: it.write(path, it.read(path) + text))
    enter("change in place", lambda it, path: it.overwrite(path, it.read(path) + text))
    enter("delete", lambda it, path: it.delete(path))
    enter("touch", lambda it, path: os.utime(it.keep(path)))
    enter("write again", lambda it, path: it.write(path, it.read(path)))
    enter("change the mode of", lambda it, path: it.keep(path).chmod(0o755))
    if name != "a file of code":  # other bytes of the same length would often be no program
        enter("change alike", lambda it, path: it.write(path, _other(it.read(path))), empty=False)
        enter(
            "change unseen",
            lambda it, path: it.overwrite(path, _other(it.read(path)), same_time=True),
            empty=False,
        )


_on_files("a file of data", Repository.data, b"more\n")
_on_files("a file of code", Repository.code, b"# more\n")
_on_files("a file of outputs", lambda it: it.files(*it.outputs()), b"more\n")


@named("add a file to a folder of data")
def _add_file(it: Repository) -> str | None:
    folder = it.rng.choice(["data/images", "data/own"])
    name = it.rng.choice(["new.txt", ".hidden", "deep/new.txt", "ä new.txt", "UPPER"])
    if not (it.root / folder).is_dir() or (it.root / folder / name).exists():
        return None
    it.write(f"{folder}/{name}", "new\n")
    return f"{folder}/{name}"


@named("rename a file in a folder of data")
def _rename_file(it: Repository) -> str | None:
    paths = it.files("data/images", "data/own")
    if not paths:
        return None
    path = it.rng.choice(paths)
    new = f"{path.rpartition('/')[0]}/renamed{it.rng.randrange(10)}"
    if (it.root / new).exists():
        return None
    it.keep(new)
    it.keep(path).rename(it.root / new)
    return f"{path} to {new}"


@named("swap two files in a folder of data")
def _swap_files(it: Repository) -> str | None:
    one, other = "data/images/a.txt", "data/images/b.txt"
    if not (it.root / one).exists() or not (it.root / other).exists():
        return None
    first, second = it.read(one), it.read(other)
    it.write(one, second)
    it.write(other, first)
    return f"{one} and {other}"


@named("add an empty folder to a folder of data")
def _add_folder(it: Repository) -> str | None:
    path = "data/images/empty"
    if (it.root / path).exists() or not (it.root / "data/images").is_dir():
        return None
    it.keep(path).mkdir()
    return path


@named("add a link to a folder of data")
def _add_link(it: Repository) -> str | None:
    path, target = "data/images/link", it.rng.choice(["../../.gitignore", "deep"])
    if (it.root / path).is_symlink() or not (it.root / "data/images").is_dir():
        return None
    it.keep(path).symlink_to(target)
    return f"{path} to {target}"


@named("delete a dataset")
def _delete_data(it: Repository) -> str | None:
    path = it.rng.choice(sorted(DATASETS.values()))
    if not (it.root / path).exists():
        return None
    it.delete(path)
    return path


@named("empty a dataset")
def _empty_data(it: Repository) -> str | None:
    path = it.rng.choice(sorted(DATASETS.values()))
    if not (it.root / path).exists():
        return None
    place = it.keep(path)
    if place.is_dir():
        shutil.rmtree(place)
        place.mkdir()
    else:
        place.write_bytes(b"")
    return path


@named("put a folder in the place of a file of data")
def _folder_for_file(it: Repository) -> str | None:
    if not (it.root / "data/shared.csv").is_file():
        return None
    it.delete("data/shared.csv")
    it.write("data/shared.csv/part", "id,value\n")
    return "data/shared.csv"


@named("change what DVC has of a team's own data")
def _change_data_file(it: Repository) -> str | None:
    path = "data/own.dvc"
    if not (it.root / path).exists():
        return None
    data = yaml.safe_load(it.read(path))
    data["outs"][0]["md5"] = f"{_other_md5(it)}.dir"
    it.write(path, yaml.safe_dump(data, sort_keys=False))
    return path


@named("delete what DVC has of a team's own data")
def _delete_data_file(it: Repository) -> str | None:
    path = "data/own.dvc"
    if not (it.root / path).exists():
        return None
    it.delete(path)
    return path


@named("import another module")
def _import_more(it: Repository) -> str | None:
    path = "code/lib/alpha.py"
    if not (it.root / path).exists():
        return None
    text = it.read(path).decode()
    if "spare" in text:
        it.write(path, text.replace("import beta, spare", "import beta"))
    else:
        it.write(path, text.replace("import beta", "import beta, spare"))
    return path


@named("rename a module")
def _rename_module(it: Repository) -> str | None:
    if not all((it.root / f"code/lib/{name}.py").exists() for name in ("alpha", "beta")):
        return None
    it.keep("code/lib/gamma.py")
    it.keep("code/lib/beta.py").rename(it.root / "code/lib/gamma.py")
    text = it.read("code/lib/alpha.py").decode().replace("beta", "gamma")
    it.write("code/lib/alpha.py", text)
    return "code/lib/beta.py"


@named("change the requirements")
def _requirements(it: Repository) -> str | None:
    path = "requirements.txt"
    if (it.root / path).exists() and it.rng.random() < 0.5:
        it.delete(path)
        return f"no {path}"
    it.write(path, f"numpy==2.{it.rng.randrange(9)}\n")
    return path


def _on_spec(name: str) -> Callable[[Edit], Edit]:
    """An edit of `it.spec`, which is written afterwards."""

    def enter(edit: Edit) -> Edit:
        def whole(it: Repository) -> str | None:
            told = edit(it)
            if told is not None:
                it.write_spec()
            return told

        EDITS[name] = whole
        return edit

    return enter


def _params(it: Repository) -> dict[str, Any] | None:
    """The params of a stage that has some."""
    found = [params for each in it.stages if (params := it.stage(*each).get("params"))]
    return it.rng.choice(found) if found else None


@_on_spec("change a param")
def _change_param(it: Repository) -> str | None:
    if (params := _params(it)) is None:
        return None
    name = it.rng.choice(sorted(params))
    before, params[name] = params[name], it.rng.choice(VALUES)
    return f"{name} from {before!r} to {params[name]!r}"


@_on_spec("change the type of a param")
def _change_type(it: Repository) -> str | None:
    if (params := _params(it)) is None:
        return None
    names = [n for n, v in sorted(params.items()) if isinstance(v, int) and v in ALIKE]
    if not names:
        return None
    name = it.rng.choice(names)
    before = params[name]
    params[name] = it.rng.choice([v for v in ALIKE[before] if type(v) is not type(before)])
    return f"{name} from {before!r} to {params[name]!r}"


@_on_spec("add a param")
def _add_param(it: Repository) -> str | None:
    params = it.any_stage().setdefault("params", {})
    name = it.rng.choice("ghij")
    params[name] = it.rng.choice(VALUES)
    return f"{name}: {params[name]!r}"


@_on_spec("remove a param")
def _remove_param(it: Repository) -> str | None:
    if (params := _params(it)) is None:
        return None
    name = it.rng.choice(sorted(params))
    del params[name]
    return name


@_on_spec("remove all params of a stage")
def _remove_params(it: Repository) -> str | None:
    if (params := _params(it)) is None:
        return None
    params.clear()
    return "all"


@_on_spec("give params in another order")
def _reorder_params(it: Repository) -> str | None:
    if (params := _params(it)) is None or len(params) < 2:
        return None
    items = list(params.items())[::-1]
    params.clear()
    params.update(items)
    return ", ".join(params)


@_on_spec("change a command")
def _change_command(it: Repository) -> str | None:
    stage = it.any_stage()
    change = it.rng.choice([" # twice", " && true", "  "])
    first, rest = stage["command"].split(" ", 1)
    stage["command"] = f"{first}  {rest}" if change == "  " else stage["command"] + change
    return str(stage["command"])


@_on_spec("add an input")
def _add_input(it: Repository) -> str | None:
    stage = it.any_stage()
    more = [name for name in (*DATASETS, *PLAIN) if name not in stage["inputs"]]
    more = [name for name in more if name not in PLAIN or (it.root / name).exists()]
    if not more:
        return None
    stage["inputs"].append(it.rng.choice(more))
    return str(stage["inputs"][-1])


@_on_spec("remove an input")
def _remove_input(it: Repository) -> str | None:
    stage = it.any_stage()
    if len(stage["inputs"]) < 2:
        return None
    return str(stage["inputs"].pop(it.rng.randrange(len(stage["inputs"]))))


@_on_spec("give inputs in another order")
def _reorder_inputs(it: Repository) -> str | None:
    inputs = it.any_stage()["inputs"]
    if len(inputs) < 2:
        return None
    inputs.reverse()
    return ", ".join(inputs)


@_on_spec("add an output")
def _add_output(it: Repository) -> str | None:
    model, name = it.rng.choice(it.stages)
    path = f"build/{model}/{name}-more.txt"
    outputs = it.stage(model, name).setdefault("outputs", [])
    if path in outputs:
        return None
    outputs.append(path)
    it.stage(model, name)["command"] += f" && mkdir -p build/{model} && echo more > {path}"
    return path


@_on_spec("remove an output")
def _remove_output(it: Repository) -> str | None:
    read = {given for each in it.stages for given in it.stage(*each)["inputs"]}
    found = [it.stage(*each) for each in it.stages]
    found = [stage for stage in found if len(stage.get("outputs", ())) > 1]
    paths = [(stage, path) for stage in found for path in stage["outputs"] if path not in read]
    if not paths:
        return None
    stage, path = it.rng.choice(paths)
    stage["outputs"].remove(path)
    return str(path)


@_on_spec("rename a stage")
def _rename_stage(it: Repository) -> str | None:
    model, name = it.rng.choice(it.stages)
    if name.endswith("new"):
        return None
    stages = it.models[model]["stages"]
    stages[f"{name}new"] = stages.pop(name)
    return f"{model}.{name}"


@_on_spec("change what no run depends on")
def _change_words(it: Repository) -> str | None:
    it.rng.choice(list(it.models.values()))["description"] = f"A model {it.rng.random()}"
    it.any_stage()["retries"] = it.rng.randrange(5)
    return "a description, retries"


@_on_spec("change the version of Python")
def _change_python(it: Repository) -> str | None:
    it.spec["python"]["version"] = it.rng.choice(["3.10", "3.11", "3.12", "3.13"])
    return str(it.spec["python"]["version"])


def _on_entry(name: str, change: Callable[[Repository, LockEntry], LockEntry | None]) -> None:
    """An edit of one entry of a lock file."""

    def edit(it: Repository) -> str | None:
        if not (locks := it.locks()):
            return None
        lock = it.rng.choice(locks)
        entries = it.entries(lock)
        stage = it.rng.choice(sorted(entries))
        changed = change(it, entries[stage])
        if changed is None:
            return None
        it.write_lock(lock, {**entries, stage: changed})
        return f"{stage} of {lock}"

    EDITS[name] = edit


def _with_other(
    it: Repository, items: tuple[LockedPath, ...], **changes: Any
) -> tuple[LockedPath, ...]:
    at = it.rng.randrange(len(items))
    return (*items[:at], dataclasses.replace(items[at], **changes), *items[at + 1 :])


def _other_md5(it: Repository) -> str:
    return f"{it.rng.getrandbits(128):032x}"


_on_entry(
    "change a dependency's digest in a lock",
    lambda it, entry: dataclasses.replace(
        entry, deps=_with_other(it, entry.deps, md5=_other_md5(it), nfiles=None)
    ),
)
_on_entry(
    "change an output's digest in a lock",
    lambda it, entry: dataclasses.replace(
        entry, outs=_with_other(it, entry.outs, md5=_other_md5(it), nfiles=None)
    ),
)
_on_entry(
    "change a size in a lock",
    lambda it, entry: dataclasses.replace(entry, deps=_with_other(it, entry.deps, size=7)),
)
_on_entry(
    "change the command in a lock",
    lambda _, entry: dataclasses.replace(entry, cmd=f"{entry.cmd} # before"),
)
_on_entry(
    "change a param in a lock",
    lambda _, entry: dataclasses.replace(
        entry,
        params={
            file: {**values, "python": {"version": "2"}} for file, values in entry.params.items()
        },
    ),
)
_on_entry(
    "remove a dependency from a lock",
    lambda it, entry: dataclasses.replace(
        entry, deps=tuple(it.rng.sample(entry.deps, len(entry.deps) - 1))
    ),
)
_on_entry(
    "add a dependency to a lock",
    lambda it, entry: dataclasses.replace(
        entry, deps=(*entry.deps, LockedPath(f"data/{it.rng.random()}", _other_md5(it), 1))
    ),
)
_on_entry(
    "add a param to a lock",
    lambda _, entry: dataclasses.replace(
        entry, params={file: {**values, "zz": 1} for file, values in entry.params.items()}
    ),
)


@named("remove an entry from a lock")
def _remove_entry(it: Repository) -> str | None:
    if not (locks := it.locks()):
        return None
    lock = it.rng.choice(locks)
    entries = it.entries(lock)
    stage = it.rng.choice(sorted(entries))
    it.write_lock(lock, {name: entry for name, entry in entries.items() if name != stage})
    return f"{stage} of {lock}"


@named("give a lock in another order")
def _reorder_lock(it: Repository) -> str | None:
    if not (locks := it.locks()):
        return None
    lock = it.rng.choice(locks)
    it.write_lock(lock, dict(reversed(it.entries(lock).items())))
    return lock


@named("delete a lock")
def _delete_lock(it: Repository) -> str | None:
    if not (locks := it.locks()):
        return None
    lock = it.rng.choice(locks)
    it.delete(lock)
    return lock


@named("delete an output")
def _delete_output(it: Repository) -> str | None:
    if not (paths := it.outputs()):
        return None
    path = it.rng.choice(paths)
    it.delete(path)
    return path


@named("delete all outputs of a model")
def _delete_outputs(it: Repository) -> str | None:
    model = it.rng.choice(sorted(it.models))
    paths = [path for path in it.outputs() if path.startswith(f"build/{model}/")]
    for path in paths:
        it.delete(path)
    return ", ".join(paths) or None


@named("add a file to an output")
def _add_to_output(it: Repository) -> str | None:
    folders = [path for path in it.outputs() if (it.root / path).is_dir()]
    if not folders:
        return None
    path = f"{it.rng.choice(folders)}/more"
    it.write(path, "more\n")
    return path


@named("delete an object of DVC's cache")
def _delete_object(it: Repository) -> str | None:
    if not (objects := it.files(".dvc/cache/files")):
        return None
    path = it.rng.choice(objects)
    it.delete(path)
    return path


@named("have DVC record what lies there as a run")
def _record(it: Repository) -> str | None:
    """As after `dvc repro` or `dvc commit`, by somebody who did not ask mlspec."""
    found = [name for name in it.stale if _is_whole(it, name)]
    if not found or it.commit is None:
        return None
    pipeline, _, stage = it.rng.choice(found).partition(":")
    it.keep(pipeline.replace("dvc.yaml", "dvc.lock"))
    it.commit(pipeline, stage)
    return f"{pipeline}:{stage}"


def _is_whole(it: Repository, name: str) -> bool:
    """Whether all is there that a stage reads and writes, as dvc.yaml has it."""
    pipeline, _, stage = name.partition(":")
    if not stage:
        return False
    body = yaml.safe_load(it.read(pipeline))["stages"][stage]
    paths = (*body.get("deps", ()), *body.get("outs", ()), *body.get("metrics", ()))
    return all((it.root / path).exists() for path in paths)


@named("have Git track everything")
def _track(it: Repository) -> str | None:
    it.run("git", "add", "--all")
    return "git add"


@pytest.fixture
def make_repository(tmp_path: Path, environment: Mapping[str, str]) -> Callable[[int], Repository]:
    """A generated repository before its first apply."""

    def make(seed: int) -> Repository:
        (tmp_path / "repository").mkdir()
        return Repository(tmp_path / "repository", seed, environment)

    return make
