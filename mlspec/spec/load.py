"""Loads a spec: `mlspec.yaml` and the files it includes, checked together.

Comes in: the root folder of a repository. Goes out: :class:`Loaded`, or one
:class:`~mlspec.errors.SpecError` with every problem that could be found.

A spec that is right is loaded by :mod:`~mlspec.spec.quick`, with what :mod:`~mlspec.spec.memory`
has of it. Whatever is wrong or unusual goes to :mod:`~mlspec.spec.precise`, which knows the place
of everything. Both come to the same.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from mlspec.cache import Cache
from mlspec.errors import MlspecError, Place
from mlspec.spec import tree
from mlspec.spec.flows import Flows, decode_flows, digest_of_flows, flows_of
from mlspec.spec.found import (
    HEAD,
    PACKAGES,
    Found,
    digest_of_all,
    digest_of_head,
    digest_of_model,
    find_again,
)
from mlspec.spec.found import ROOT as ROOT
from mlspec.spec.interfaces import Face, Interface, decode_face, face_of, interface_of
from mlspec.spec.memory import DIGEST, Memory, Snapshot
from mlspec.spec.models import Dataset, Model, Spec
from mlspec.spec.places import Places

if TYPE_CHECKING:
    from mlspec.spec.precise import Read

MOST_TYPED = 512
"""Models that are kept once they were asked for."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid spec and where each part of it was written.

    `digest` names what the spec says: comments, order and spacing do not change it, and neither
    does moving a resource to another file. It is made of `head_digest`, of all but the models, and
    of `model_digests`. `flow_digest` names what flows between models. `files` are relative to the
    root, the first is the root file; tables of a matrix are the last. `spec.models` makes a model
    when it is asked for.
    """

    spec: Spec
    digest: str
    head_digest: str
    model_digests: Mapping[str, str]
    interfaces: Mapping[str, Interface]
    flow_digest: str
    files: tuple[str, ...]
    places: Places = field(repr=False, compare=False)
    find_flows: Callable[[], Flows] = field(repr=False, compare=False)

    def place(self, at: str | tree.Path) -> Place | None:
        """Where an address (`stage.credit-risk.train`) or a path of keys was written."""
        path = _path_of(at) if isinstance(at, str) else at
        return self.places.place(path) if path else None


def _path_of(address: str) -> tree.Path:
    kind, _, rest = address.partition(".")
    names = rest.partition("@")[0].split(".")
    sections = {word: section for section, word in tree.SECTIONS.items()}
    match kind, names:
        case "stage", [model, stage]:
            return ("models", model, "stages", stage)
        case "gate", [model, gate]:
            return ("models", model, "gates", gate)
        case _, [only] if kind in sections:
            return (sections[kind], only)
        case _:
            return ()


def load_spec(root: Path, cache: Cache | None = None) -> Loaded:
    """The spec of the repository at `root`; raises :class:`SpecError` with all its problems.

    What can be remembered for the next time goes to `cache`, which may lose it.
    """
    memory = Memory(cache)
    with _no_collector():
        found = find_again(root, memory) or _find_anew(root, memory)
        return _of_found(root, found, memory) if found else _of_read(root, _read(root))


def load_edited(root: Path, instead: Mapping[str, bytes]) -> Loaded:
    """As :func:`load_spec`, with other contents for some of the files, by path."""
    from mlspec.spec.precise import read_spec

    return _of_read(root, read_spec(root, instead))


@contextmanager
def _no_collector() -> Iterator[None]:
    """What a spec is made of has no circles, and to look for them is a quarter of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _find_anew(root: Path, memory: Memory) -> Found | None:
    """The spec if it is right and written as usual; only then is it read the quick way."""
    from mlspec.spec.quick import find_spec
    from mlspec.spec.tops import UnsureError

    try:
        return find_spec(root, memory)
    except UnsureError:
        return None


def _read(root: Path) -> Read:
    from mlspec.spec.precise import read_spec

    return read_spec(root)


def _of_read(root: Path, read: Read) -> Loaded:
    from mlspec.spec.tops import plain_mapping

    spec = read.spec
    head = digest_of_head(spec)
    digests = {name: digest_of_model(model) for name, model in spec.models.items()}
    interfaces, faces = {}, {}
    for name, model in spec.models.items():
        face = face_of(model, plain_mapping(tree.find(read.top, ("models", name))))
        interfaces[name], faces[name] = interface_of(face, spec.datasets), face.encode()
    return Loaded(
        spec=spec,
        digest=digest_of_all(head, digests),
        head_digest=head,
        model_digests=digests,
        interfaces=interfaces,
        flow_digest=digest_of_flows(spec.datasets, faces),
        files=read.files,
        places=Places(root, read.files, read.top),
        find_flows=partial(flows_of, interfaces),
    )


def _of_found(root: Path, found: Found, memory: Memory) -> Loaded:
    snapshot = found.snapshot
    models = _Models(root, found, memory)
    kinds = zip(snapshot.paths, snapshot.kinds, strict=True)
    files = tuple(path for path, kind in kinds if kind != PACKAGES)
    interfaces = _Interfaces(models, found.head.datasets)
    return Loaded(
        spec=found.head.model_copy(update={"models": models}),
        digest=snapshot.head.digest,
        head_digest=snapshot.head.head_digest,
        model_digests=_Digests(snapshot),
        interfaces=interfaces,
        flow_digest=snapshot.head.flows,
        files=files,
        places=Places(root, files, None, _files_of(snapshot)),
        find_flows=partial(_find_flows, interfaces, snapshot.head.flows, memory),
    )


def _find_flows(interfaces: Mapping[str, Interface], digest: str, memory: Memory) -> Flows:
    """What flows between models, as it is remembered if it is."""
    known = memory.flows(digest)
    if known is not None:
        try:
            return decode_flows(known)
        except (ValueError, TypeError):
            pass
    flows = flows_of(interfaces)
    memory.remember_flows(digest, flows.encode())
    return flows


def _files_of(snapshot: Snapshot) -> Callable[[str], list[str]]:
    """Of a model, the files that its place is found with."""

    def files_of(model: str) -> list[str]:
        kinds = zip(snapshot.paths, snapshot.kinds, strict=True)
        files = [path for path, kind in kinds if kind == HEAD]
        position = snapshot.model_index.get(model)
        if position is None:
            return files
        file = next(
            path
            for path, first, count in zip(
                snapshot.paths, snapshot.starts, snapshot.counts, strict=True
            )
            if first <= position < first + count
        )
        return files if file in files else [*files, file]

    return files_of


class _Digests(Mapping[str, str]):
    """The digest of each model."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def __getitem__(self, name: str) -> str:
        index = self._snapshot.model_index[name]
        return DIGEST + self._snapshot.raw_digest(index).hex()

    def __iter__(self) -> Iterator[str]:
        return iter(self._snapshot.names)

    def __len__(self) -> int:
        return len(self._snapshot.names)


class _Models(Mapping[str, Model]):
    """The models, each made when it is asked for; the latest are kept."""

    def __init__(self, root: Path, found: Found, memory: Memory) -> None:
        self._root = root
        self._snapshot = found.snapshot
        self._contents = found.contents
        self._faces = found.faces
        self._memory = memory
        self._typed: dict[str, Model] = {}

    def __getitem__(self, name: str) -> Model:
        model = self._typed.get(name)
        if model is None:
            if len(self._typed) >= MOST_TYPED:
                del self._typed[next(iter(self._typed))]
            model = self._typed[name] = self._make(name)
        return model

    def __iter__(self) -> Iterator[str]:
        return iter(self._snapshot.names)

    def __len__(self) -> int:
        return len(self._snapshot.names)

    def __contains__(self, name: object) -> bool:
        return name in self._snapshot.model_index

    def face(self, name: str) -> Face:
        """What the model shows others."""
        known = self._faces.get(name)
        if known is not None:
            return known
        source = self._snapshot.source(self._snapshot.model_index[name])
        row = self._rows.get(name, b"")
        if row[: len(source)] == source:
            try:
                return decode_face(row[len(source) :])
            except (ValueError, TypeError):
                pass
        return self._anew[0][name]

    def _make(self, name: str) -> Model:
        content = self._contents.get(name)
        if content is None:
            source = self._snapshot.source(self._snapshot.model_index[name])
            content = self._memory.content(name, source)
        if content is not None:
            try:
                return Model.model_validate_json(content)
            except ValueError:
                pass
        return self._anew[1][name]

    @cached_property
    def _rows(self) -> dict[str, bytes]:
        return self._memory.faces()

    @cached_property
    def _anew(self) -> tuple[Mapping[str, Face], Mapping[str, Model]]:
        """Everything, found out without a memory: for when that lacks what it had a moment ago."""
        found = _find_anew(self._root, Memory(None))
        if found is None or found.snapshot.head.digest != self._snapshot.head.digest:
            raise MlspecError("the spec was changed while it was read", hint="run this again")
        return found.faces, _Models(self._root, found, Memory(None))


class _Interfaces(Mapping[str, Interface]):
    """What each model shows others."""

    def __init__(self, models: _Models, datasets: Mapping[str, Dataset]) -> None:
        self._models = models
        self._datasets = datasets
        self._known: dict[str, Interface] = {}

    def __getitem__(self, name: str) -> Interface:
        known = self._known.get(name)
        if known is None:
            if name not in self._models:
                raise KeyError(name)
            known = interface_of(self._models.face(name), self._datasets)
            self._known[name] = known
        return known

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)
