"""The way of a spec that is right: to the same answer as the precise way, and much sooner.

Comes in: the root folder, and what is remembered of an earlier load. Goes out: :class:`Found`, or
:class:`UnsureError` when anything is wrong or unusual; then the precise way has the word.

Text is read to plain data, model by model, and nothing knows its place. What a model is made of
(its *source*) says all about it that can be said without the others, so a model with a known source
is neither typed nor checked again; and while no model shows the others another face, what concerns
several is not checked again. On disk, only what new models name is looked at.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field
from os.path import normpath
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mlspec.spec.checks import Disk, Names, check_head, check_model, check_together
from mlspec.spec.checks.names import is_fine
from mlspec.spec.defaults import merge_defaults
from mlspec.spec.files import UnreadableError
from mlspec.spec.flows import digest_of_flows
from mlspec.spec.found import (
    ABSENT,
    HEAD,
    MODELS,
    PACKAGES,
    ROOT,
    TABLE,
    Found,
    digest_of_all,
    digest_of_head,
    digest_of_model,
    list_included,
)
from mlspec.spec.holes import HOLE
from mlspec.spec.interfaces import Face, decode_face, face_of
from mlspec.spec.matrix import Family, FamilyReader, is_template
from mlspec.spec.memory import DIGEST, Head, Memory, Snapshot
from mlspec.spec.models import DEFAULTABLE, Limits, Model, Spec
from mlspec.spec.precise import MAX_INCLUDE
from mlspec.spec.sections import JOINED, LISTED, ROOT_ONLY
from mlspec.spec.stamps import UNKNOWN, Eye, Stamp, hash_of
from mlspec.spec.tops import Top, UnsureError, read_node, read_top
from mlspec.spec.tree import SECTIONS, Node, Problem
from mlspec.spec.tree import Path as Steps


class _ForgottenError(Exception):
    """The memory lacks what it should have."""


def find_spec(root: Path, memory: Memory) -> Found:
    """The spec of the repository at `root`; what was found out goes to `memory`."""
    try:
        return _Search(root, memory, memory.snapshot).run()
    except _ForgottenError:
        return _Search(root, memory, None).run()


@dataclass(slots=True)
class _File:
    """A file as it is now; `same` as the snapshot has it, and then perhaps never read."""

    path: str
    kind: int
    stamp: Stamp
    hash: bytes
    same: bool
    data: bytes | None
    top: Top | None = None
    models: list[_Entry] = field(default_factory=list)


@dataclass(slots=True)
class _Entry:
    """A model; `content` is JSON, or how to make it, or none where it is known by its source."""

    name: str
    source: bytes
    content: bytes | Family | None


class _Search:
    """One load."""

    def __init__(self, root: Path, memory: Memory, old: Snapshot | None) -> None:
        self.root = root
        self.memory = memory
        self.old = old
        self.eye = Eye(root)
        self.tables: dict[str, _File] = {}

    def run(self) -> Found:
        try:
            return self._search()
        except (UnreadableError, ValidationError) as error:
            raise UnsureError from error
        finally:
            self.eye.close()

    # Files

    def _look(self, path: str, kind: int) -> _File:
        old = self.old
        index = old.file_index.get(path) if old else None
        if old is None or index is None or (old.kinds[index] in b"tp" and old.kinds[index] != kind):
            seen = self.eye.read(path)
            return _File(path, kind, seen.stamp, seen.hash, False, seen.data)
        stamp = self.eye.stamp(path)
        folder = path.rpartition("/")[0]
        if stamp != UNKNOWN and stamp == old.stamp(index) and self.eye.is_plain_folder(folder):
            return _File(path, old.kinds[index], stamp, old.hash(index), True, None)
        seen = self.eye.read(path)
        same = seen.hash == old.hash(index)
        return _File(path, old.kinds[index], seen.stamp, seen.hash, same, seen.data)

    def _packages(self, path: str) -> _File:
        try:
            return self._look(path, PACKAGES)
        except UnreadableError:
            index = self.old.file_index.get(path) if self.old else None
            same = self.old is not None and index is not None and self.old.hash(index) == ABSENT
            return _File(path, PACKAGES, UNKNOWN, ABSENT, same, None)

    def _table(self, path: str) -> bytes:
        """The bytes of a CSV file."""
        path = normpath(path)
        if path not in self.tables:
            self.tables[path] = self._look(path, TABLE)
        return self._data(self.tables[path])

    def _data(self, file: _File) -> bytes:
        if file.data is None:
            seen = self.eye.read(file.path)
            if seen.hash != file.hash or seen.data is None:
                raise _ForgottenError
            file.data = seen.data
        return file.data

    def _open(self, file: _File) -> Top:
        """What a file says; its models go to JSON at once, for plain data takes much more."""
        if file.top is None:
            top = file.top = read_top(self._data(file), file.path)
            models = top.sections.get("models", {})
            if type(models) is not dict:
                raise UnsureError
            file.kind = HEAD
            if file.path != ROOT and top.node is None and top.sections.keys() == {"models"}:
                file.kind = MODELS
            if top.node is None:
                for name, model in models.items():
                    file.models.append(_Entry(name, b"", json.dumps(model).encode()))
                del models
                top.sections.pop("models", None)
        return file.top

    # The whole

    def _search(self) -> Found:
        old = self.old
        first = self._look(ROOT, HEAD)
        include = self._included(first)
        files = [first, *(self._look(path, HEAD) for path in list_included(self.root, include))]
        known = [file for file in files if old and file.same and file.kind == MODELS]
        skipped = {file.path for file in known}
        sections = self._merged(file for file in files if file.path not in skipped)
        given = sections.pop("defaults", {})
        defaults = _checked_defaults(given)
        text = json.dumps(defaults.get("models"))
        if old and old.head.defaults == text:
            for file in known:
                file.models = list(self._remembered(old, file.path))
        else:
            for file in known:
                self._open(file)
        for section in ("datasets", "deployments"):
            if section in sections and section in defaults:
                sections[section] = _completed(sections[section], defaults[section])
        head_text = json.dumps(sections)
        head = Spec.model_validate_json(head_text)
        self._resolve(files, sections, defaults.get("models"))
        entries = [entry for file in files for entry in file.models]
        names = {entry.name for entry in entries}
        if len(names) != len(entries):
            raise UnsureError
        packages = self._packages(normpath(head.python.requirements))
        made = self._make(entries, head)
        head_same = old is not None and old.head.text == head_text
        if not head_same:
            _check_head(head, sections)
        if not (head_same and packages.same):
            _none(Disk(self.root).check_head(head))
        if head_same and old and names == old.model_index.keys() and self._look_alike(made):
            flows = old.head.flows
        else:
            flows = self._check_together(head, sections, entries, made)
        everything = [*files, *self.tables.values(), packages]
        snapshot = self._snapshot(everything, entries, made, head, head_text, text, include, flows)
        new = ((name, each.source, each.content, each.face.encode()) for name, each in made.items())
        gone = [name for name in old.names if name not in names] if old else []
        self.memory.remember(snapshot, new, gone)
        contents = {name: each.content for name, each in made.items()}
        faces = {name: each.face for name, each in made.items()}
        return Found(snapshot, head, contents, faces)

    def _included(self, first: _File) -> list[str]:
        if self.old and first.same:
            return self.old.head.include
        include = self._open(first).sections.get("include", [])
        if type(include) is not list or len(include) > MAX_INCLUDE:
            raise UnsureError
        if any(type(pattern) is not str for pattern in include):
            raise UnsureError
        return include

    def _merged(self, files: Iterable[_File]) -> dict[str, Any]:
        """All sections but the models, as :func:`mlspec.spec.sections.merge` joins them."""
        merged: dict[str, Any] = {}
        for file in files:
            for section, value in self._open(file).sections.items():
                if section in ROOT_ONLY and file.path != ROOT:
                    raise UnsureError
                if section == "models":
                    continue
                if section not in merged:
                    merged[section] = copy(value)
                    continue
                into = merged[section]
                if section in LISTED and type(value) is type(into) is list:
                    into += value
                    continue
                if section not in JOINED or type(value) is not dict or type(into) is not dict:
                    raise UnsureError
                if not value.keys().isdisjoint(into):
                    raise UnsureError
                into.update(value)
        return merged

    def _remembered(self, old: Snapshot, path: str) -> Iterator[_Entry]:
        index = old.file_index[path]
        first = old.starts[index]
        for model in range(first, first + old.counts[index]):
            yield _Entry(old.names[model], old.source(model), None)

    def _resolve(self, files: list[_File], sections: Mapping[str, Any], defaults: Any) -> None:
        """Complete what models say from the defaults, write out members, and name all sources."""
        limit = sections.get("limits", {}).get("members", Limits().members)
        reader = FamilyReader(limit, self._table)
        given = self._defaults_node(files) if defaults else None
        for file in files:
            if file.top is not None and file.top.node is not None:
                file.models = list(self._members(file.top.node, given, reader))
                continue
            for entry in file.models:
                if isinstance(entry.content, bytes):
                    if defaults:
                        plain = _complete(json.loads(entry.content), defaults)
                        entry.content = json.dumps(plain).encode()
                        if HOLE.encode() in entry.content:
                            raise UnsureError
                    entry.source = hash_of(entry.content)

    def _defaults_node(self, files: list[_File]) -> Node:
        """The defaults as a node, which only a model with a matrix needs."""
        for file in files:
            if file.top is not None and "defaults" in file.top.sections:
                top = file.top.node or read_node(self._data(file), file.path)
                assert isinstance(top.value, dict)
                return top.value["defaults"]
        raise UnsureError

    def _members(self, top: Node, defaults: Node | None, reader: FamilyReader) -> Iterator[_Entry]:
        """The models of a file that may have matrices."""
        assert isinstance(top.value, dict)
        if "models" not in top.value:
            return
        sections = {"models": top.value["models"]}
        if defaults is not None:
            sections["defaults"] = defaults
        merged = merge_defaults(top.holding(sections, {})).value
        assert isinstance(merged, dict)
        models = merged["models"]
        if not isinstance(models.value, dict):
            raise UnsureError
        reader.know(models)
        for name, model in models.value.items():
            if not is_template(model):
                reader.check_plain(name, model)
                content = json.dumps(model.plain()).encode()
                yield _Entry(name, hash_of(content), content)
            else:
                family = reader.read(name, model)
                if family is None:
                    raise UnsureError
                yield from _sourced(family)
        if reader.problems:
            raise UnsureError

    # Models

    def _make(self, entries: list[_Entry], head: Spec) -> dict[str, _Made]:
        """What new models come to, each checked by itself."""
        old = self.old
        disk = Disk(self.root)
        made: dict[str, _Made] = {}
        for entry in entries:
            index = old.model_index.get(entry.name) if old else None
            if old and index is not None and old.source(index) == entry.source:
                continue
            content = entry.content
            if isinstance(content, Family):
                content = json.dumps(content.member(entry.name).plain()).encode()
            if content is None:
                raise _ForgottenError
            model = Model.model_validate_json(content)
            at = ("models", entry.name)
            inner: dict[Steps, Collection[str]] = {
                (*at, "stages"): model.stages,
                (*at, "gates"): model.gates,
            }
            _none(Names(inner).check())
            _none(check_model(entry.name, model))
            _none(disk.check_model(entry.name, model, head.datasets))
            face = face_of(model, json.loads(content))
            digest = bytes.fromhex(digest_of_model(model).removeprefix(DIGEST))
            made[entry.name] = _Made(entry.source, content, face, digest)
        return made

    def _look_alike(self, made: Mapping[str, _Made]) -> bool:
        """Whether models that are new show the others what those before them showed."""
        old = self.old
        assert old is not None
        return all(
            each.face.encode() == self.memory.face(name, old.source(old.model_index[name]))
            for name, each in made.items()
        )

    def _check_together(
        self,
        head: Spec,
        sections: Mapping[str, Any],
        entries: list[_Entry],
        made: Mapping[str, _Made],
    ) -> str:
        """Check what concerns several models; the name of what flows between them."""
        rows = self.memory.faces() if len(made) < len(entries) else {}
        faces: dict[str, Face] = {}
        encoded: dict[str, bytes] = {}
        for entry in entries:
            if entry.name in made:
                face = faces[entry.name] = made[entry.name].face
                encoded[entry.name] = face.encode()
                continue
            row = rows.get(entry.name, b"")
            if row[:16] != entry.source:
                raise _ForgottenError
            encoded[entry.name] = row[16:]
            try:
                faces[entry.name] = decode_face(row[16:])
            except (ValueError, TypeError) as error:
                raise _ForgottenError from error
        declared = _declared(sections)
        declared["models",] = faces
        names = Names(declared)
        _none(names.check())
        _none(check_together(head, faces, names, {}))
        return digest_of_flows(head.datasets, encoded)

    def _snapshot(
        self,
        files: list[_File],
        entries: list[_Entry],
        made: Mapping[str, _Made],
        head: Spec,
        head_text: str,
        defaults: str,
        include: list[str],
        flows: str,
    ) -> Snapshot:
        old = self.old
        digests: list[bytes] = []
        for entry in entries:
            if entry.name in made:
                digests.append(made[entry.name].digest)
            elif old is not None:
                digests.append(old.raw_digest(old.model_index[entry.name]))
        head_digest = digest_of_head(head)
        named = zip((entry.name for entry in entries), digests, strict=True)
        digest = digest_of_all(head_digest, {name: DIGEST + raw.hex() for name, raw in named})
        stamps = array("q")
        for file in files:
            stamps.extend(file.stamp)
        return Snapshot(
            head=Head(include, head_text, defaults, head_digest, digest, flows),
            paths=[file.path for file in files],
            stamps=stamps,
            hashes=b"".join(file.hash for file in files),
            kinds=bytes(file.kind for file in files),
            counts=array("q", (len(file.models) for file in files)),
            names=[entry.name for entry in entries],
            sources=b"".join(entry.source for entry in entries),
            digests=b"".join(digests),
        )


@dataclass(slots=True)
class _Made:
    """What a new model came to."""

    source: bytes
    content: bytes
    face: Face
    digest: bytes


def _none(problems: Iterator[Problem]) -> None:
    if next(problems, None) is not None:
        raise UnsureError


def _check_head(head: Spec, sections: Mapping[str, Any]) -> None:
    if not is_fine(head.project):
        raise UnsureError
    _none(check_head(head))
    _none(Names(_declared(sections)).check())


def _declared(sections: Mapping[str, Any]) -> dict[Steps, Collection[str]]:
    return {(section,): sections.get(section, {}) for section in SECTIONS}


def _sourced(family: Family) -> Iterator[_Entry]:
    """The members of a family; their content is made when it is asked for."""
    template = json.dumps([family.template.plain(), family.keys])
    for member, row in family.rows.items():
        values = [(cell.value, cell.text) for cell in row]
        given = family.overrides.get(member)
        # `-0` would look like 0.
        if any(cell.value == 0 and cell.text[:1] == "-" for cell in row):
            raise UnsureError
        said = f"{template}{json.dumps(values)}{json.dumps(given.plain()) if given else ''}"
        yield _Entry(member, hash_of(said.encode()), family)


def _checked_defaults(given: Any) -> dict[str, dict[str, Any]]:
    """The defaults by section, as :func:`mlspec.spec.defaults.check_defaults` wants them."""
    if type(given) is not dict:
        raise UnsureError
    for section, values in given.items():
        if section not in DEFAULTABLE or type(values) is not dict:
            raise UnsureError
        if not values.keys() <= DEFAULTABLE[section].model_fields.keys():
            raise UnsureError
    return given


def _completed(members: Any, given: dict[str, Any]) -> Any:
    if type(members) is not dict:
        return members
    return {name: _complete(member, given) for name, member in members.items()}


def _complete(member: Any, given: Any) -> Any:
    """As :func:`mlspec.spec.defaults.complete`, of plain data."""
    if type(member) is not dict or type(given) is not dict:
        return member
    value = dict(member)
    for key, inner in given.items():
        value[key] = _complete(value[key], inner) if key in value else inner
    return value
