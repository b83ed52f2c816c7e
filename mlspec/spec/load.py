"""Loads a spec: `mlspec.yaml` and the files it includes, checked together.

Comes in: the root folder of a repository. Goes out: :class:`Loaded`, or one
:class:`~mlspec.errors.SpecError` with every problem that could be found.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlspec.cache import Cache
from mlspec.errors import Place
from mlspec.plan import canonical_json
from mlspec.spec import tree
from mlspec.spec.interfaces import Interface, face_of, interface_of
from mlspec.spec.models import Spec
from mlspec.spec.precise import ROOT as ROOT
from mlspec.spec.precise import read_spec
from mlspec.spec.tree import Node, find


@dataclass(frozen=True, slots=True)
class Loaded:
    spec: Spec
    digest: str
    head_digest: str
    model_digests: Mapping[str, str]
    interfaces: Mapping[str, Interface]
    files: tuple[str, ...]
    top: Node = field(repr=False, compare=False)

    def place(self, at: str | tree.Path) -> Place | None:
        """Where an address (`stage.credit-risk.train`) or a path of keys was written."""
        path = _path_of(at) if isinstance(at, str) else at
        if not path:
            return None
        node = find(self.top, path, on_key=True)
        return None if node is self.top else node.place


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


def load_spec(root: Path, cache: Cache | None = None) -> Loaded:  # noqa: ARG001
    """The spec of the repository at `root`; raises :class:`SpecError` with all its problems."""
    read = read_spec(root)
    spec = read.spec

    def digest_of(value):
        return "sha256:" + hashlib.sha256(canonical_json(value).encode()).hexdigest()

    head = digest_of(spec.model_dump(mode="json", exclude={"include", "limits", "models"}))
    digests = {n: digest_of(m.model_dump(mode="json")) for n, m in spec.models.items()}
    return Loaded(
        spec=spec,
        digest=digest_of({"head": head, "models": digests}),
        head_digest=head,
        model_digests=digests,
        interfaces={
            n: interface_of(face_of(m, find(read.top, ("models", n)).plain()), spec.datasets)
            for n, m in spec.models.items()
        },
        files=read.files,
        top=read.top,
    )
