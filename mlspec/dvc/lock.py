"""`dvc.lock`, read fast and written as DVC writes it. Comes in: its text. Goes out: entries.

DVC writes YAML 1.2: `yes` is a string and `0123` is a number. Reading builds data straight from the
C parser's events, 5 times faster than DVC's own reader; text with anchors or tags, which DVC does
not write, is left to that reader.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from mlspec.dvc.emit import WIDE, Doubtful, emit
from mlspec.dvc.hashing import FileDigest
from mlspec.dvc.scalars import MAYBE_FLOAT, WORDS, BeyondDvcError, damaged

SCHEMA = "2.0"
_KEYS = frozenset({"path", "hash", "md5", "size", "nfiles", "isexec"})


@dataclass(frozen=True, slots=True)
class LockedPath:
    """A dependency or an output as it was when the stage ran."""

    path: str
    md5: str
    size: int
    nfiles: int | None = None
    isexec: bool = False

    @property
    def digest(self) -> FileDigest:
        return FileDigest(self.md5, self.size, self.nfiles)


@dataclass(frozen=True, slots=True)
class LockEntry:
    """What one run of a stage read and wrote; `params` are values by key, by file."""

    cmd: str
    deps: tuple[LockedPath, ...] = ()
    params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    outs: tuple[LockedPath, ...] = ()


def parse_lock(text: str, name: str = "dvc.lock") -> dict[str, LockEntry]:
    """The entries of a lock file by stage, in its order; `name` is for messages."""
    if (regular := _read_regular(text)) is not None:
        return regular
    from mlspec.dvc.parse import load_yaml

    data = load_yaml(text, name) or {}
    stages = data.get("stages", {}) if isinstance(data, dict) else None
    if not isinstance(stages, dict):
        raise damaged(name, "it has no stages")
    entries = {}
    for stage, entry in stages.items():
        try:
            entries[str(stage)] = entry_from_dict(entry)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise damaged(name, f"the entry of {stage} is not one that DVC writes") from error
    return entries


def parse_data_file(text: str, name: str) -> FileDigest | None:
    """What a `.dvc` file says of its data; None while DVC has not computed it."""
    from mlspec.dvc.parse import load_yaml

    data = load_yaml(text, name)
    try:
        out = data["outs"][0]
        return _path_from_dict(out).digest if "md5" in out else None
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise damaged(name, "it is not one that DVC writes") from error


def entry_from_dict(entry: Mapping[str, Any]) -> LockEntry:
    """An entry from plain data, of a lock file or of the ledger."""
    params = {str(file): dict(values) for file, values in entry.get("params", {}).items()}
    return LockEntry(
        cmd=_text(entry["cmd"]),
        deps=tuple(_path_from_dict(dep) for dep in entry.get("deps", ())),
        params=params,
        outs=tuple(_path_from_dict(out) for out in entry.get("outs", ())),
    )


def entry_as_dict(entry: LockEntry) -> dict[str, Any]:
    """An entry as plain data, in the order in which DVC writes it."""
    body: dict[str, Any] = {"cmd": entry.cmd}
    if entry.deps:
        body["deps"] = [_path_as_dict(dep) for dep in sorted(entry.deps, key=_by_path)]
    if entry.params:
        body["params"] = {
            file: {key: entry.params[file][key] for key in sorted(entry.params[file])}
            for file in sorted(entry.params)
        }
    if entry.outs:
        body["outs"] = [_path_as_dict(out) for out in sorted(entry.outs, key=_by_path)]
    return body


def dump_lock(entries: Mapping[str, LockEntry]) -> str:
    """A whole lock file, byte for byte as DVC writes it."""
    stages = {stage: _unshared(entry) for stage, entry in entries.items()}
    return _dump({"schema": SCHEMA, "stages": stages})


def dump_entry(entry: LockEntry) -> str:
    """An entry alone, as a file of DVC's run cache has it."""
    try:
        return emit(entry_as_dict(entry))
    except Doubtful:
        return _dump(_unshared(entry))


def with_entry(text: str, stage: str, entry: LockEntry, *, alone: str | None = None) -> str:
    """The lock file `text` (empty: none yet) with one entry set, as DVC would have written it.

    `alone` is what :func:`dump_entry` gives, if that is known.
    """
    spliced = _spliced(text, stage, entry, dump_entry(entry) if alone is None else alone)
    if spliced is not None:
        return spliced
    from mlspec.dvc.parse import load_yaml

    load_yaml(text, "dvc.lock")
    data = (_editor().load(text) if text.strip() else None) or {"schema": SCHEMA}
    data.setdefault("stages", {})[stage] = _unshared(entry)
    return _dump(data)


def without_entries(text: str, stages: Iterable[str]) -> str:
    """The lock file `text` without those entries; empty when none is left."""
    data = _editor().load(text) if text.strip() else None
    if not data:
        return ""
    for stage in stages:
        data.get("stages", {}).pop(stage, None)
    return _dump(data) if data.get("stages") else ""


_WORD = r"(?:(?:\./)?[A-Za-z_/][\w./+@=-]*)"
_ITEM = (
    rf"    - path: ({_WORD})\n      hash: md5\n      md5: ([0-9a-f]{{32}}(?:\.dir)?)\n"
    r"      size: ([0-9]{1,15})\n(?:      nfiles: ([0-9]{1,9})\n)?(?:      isexec: (true)\n)?"
)
_ITEMS = re.compile(_ITEM, re.ASCII)
_UNCAUGHT = re.sub(r"(?<!\\)\((?!\?)", "(?:", _ITEM)
_ENTRY = re.compile(
    rf"  ([A-Za-z_][\w-]*):\n    cmd: ({_WORD}(?: [\w./+@=-]+)*)\n"
    rf"(?:    deps:\n((?:{_UNCAUGHT})+))?"
    rf"(?:    params:\n      ({_WORD}):\n((?:        .*\n)+))?"
    rf"(?:    outs:\n((?:{_UNCAUGHT})+))?",
    re.ASCII,
)


def _read_regular(text: str) -> dict[str, LockEntry] | None:
    """The entries of a file in which DVC had nothing to quote or to break; None for any other.

    Many times as fast as reading events: a cold plan reads a lock for each model.
    """
    if not text.startswith(_HEAD):
        return None
    entries: dict[str, LockEntry] = {}
    at = len(_HEAD)
    while at < len(text):
        match = _ENTRY.match(text, at)
        if match is None:
            return None
        name, cmd, deps, file, params, outs = match.groups()
        values = _params_of(params) if params else {}
        words = (name, cmd, file or "f")
        if name in entries or values is None or any(word.lower() in WORDS for word in words):
            return None
        try:
            entries[name] = LockEntry(
                cmd, _paths_of(deps), {file: dict(values)} if file else {}, _paths_of(outs)
            )
        except BeyondDvcError:
            return None
        at = match.end()
    return entries


def _paths_of(items: str | None) -> tuple[LockedPath, ...]:
    found = _ITEMS.findall(items) if items else ()
    if any(path.lower() in WORDS or MAYBE_FLOAT.fullmatch(md5) for path, md5, *_ in found):
        raise BeyondDvcError
    return tuple(
        LockedPath(path, md5, int(size), int(nfiles) if nfiles else None, bool(isexec))
        for path, md5, size, nfiles, isexec in found
    )


@lru_cache(maxsize=256)
def _params_of(lines: str) -> Mapping[str, Any] | None:
    """Values of params, often the same in thousands of models; None if they are unusual."""
    from mlspec.dvc.parse import parse_simple

    values = parse_simple(lines)
    return values if isinstance(values, dict) else None


_HEAD = f"schema: '{SCHEMA}'\nstages:\n"
_NAME = re.compile(r"  [A-Za-z_][\w-]*:")


def _spliced(text: str, stage: str, entry: LockEntry, alone: str) -> str | None:
    """`text` with the lines of one stage replaced; None if they are not beyond doubt."""
    text = text or _HEAD
    if not text.startswith(_HEAD) or not text.endswith("\n"):
        return None
    blocks: list[list[str]] = []
    for line in text[len(_HEAD) :].splitlines(keepends=True):
        if line.startswith("   ") and blocks:
            blocks[-1].append(line)
        elif _NAME.fullmatch(line, 0, len(line) - 1):
            blocks.append([line])
        else:
            return None
    lines = alone.splitlines(keepends=True)
    if any(len(line) > WIDE for line in lines) or r"\n" in json.dumps(entry_as_dict(entry)):
        lines = dump_lock({stage: entry}).splitlines(keepends=True)[2:]
    else:
        lines = [f"  {stage}:\n", *(f"    {line}" for line in lines)]
    if not _NAME.fullmatch(lines[0], 0, len(lines[0]) - 1):
        return None
    at = next((at for at, block in enumerate(blocks) if block[0] == lines[0]), len(blocks))
    blocks[at : at + 1] = [lines]
    return _HEAD + "".join(line for block in blocks for line in block)


def _unshared(entry: LockEntry) -> Any:
    # values that are one object here would be written with anchors
    return json.loads(json.dumps(entry_as_dict(entry)))


def _dump(data: Mapping[str, Any]) -> str:
    stream = io.StringIO()
    _editor().dump(data, stream)
    return stream.getvalue()


def _editor() -> Any:
    from ruamel.yaml import YAML

    editor = YAML()
    editor.default_flow_style = False
    return editor


def _by_path(item: LockedPath) -> str:
    return item.path


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, got {value!r}")
    return value


def _path_from_dict(item: Mapping[str, Any]) -> LockedPath:
    if not item.keys() <= _KEYS or item.get("hash", "md5") != "md5":
        raise ValueError(f"unknown keys in {sorted(item)}")
    return LockedPath(
        _text(item["path"]),
        _text(item["md5"]),
        item.get("size", 0),
        item.get("nfiles"),
        item.get("isexec", False),
    )


def _path_as_dict(item: LockedPath) -> dict[str, Any]:
    body: dict[str, Any] = {"path": item.path, "hash": "md5", "md5": item.md5, "size": item.size}
    if item.nfiles is not None:
        body["nfiles"] = item.nfiles
    if item.isexec:
        body["isexec"] = True
    return body
