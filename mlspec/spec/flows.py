"""What flows between models: who writes a path, and who reads what another writes.

It follows from what models show each other (:class:`~mlspec.spec.interfaces.Interface`), so it is
the same while their faces are, and is remembered as a whole: nobody has to look at all models to
plan one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

from mlspec.spec.interfaces import Interface
from mlspec.spec.models import Dataset


@dataclass(frozen=True, slots=True)
class Flows:
    """`producers`: of each path that a stage writes, its address. `readers`: of each model that
    others take something from, these.
    """

    producers: Mapping[str, str]
    readers: Mapping[str, list[str]]

    def encode(self) -> bytes:
        return json.dumps([self.producers, self.readers], ensure_ascii=False).encode()


def decode_flows(data: bytes) -> Flows:
    """The flows of :meth:`Flows.encode`; raises `ValueError` or `TypeError` for anything else."""
    producers, readers = json.loads(data)
    return Flows(dict(producers), dict(readers))


def flows_of(interfaces: Mapping[str, Interface]) -> Flows:
    """What flows between all these models."""
    producers = {
        path: f"stage.{model}.{stage}"
        for model, interface in interfaces.items()
        for stage, flow in interface.stages.items()
        for path in flow.writes
    }
    readers: dict[str, list[str]] = {}
    for model, interface in interfaces.items():
        read = (path for flow in interface.stages.values() for path in flow.inputs)
        written = {producers[path] for path in read if path in producers}
        for writer in sorted({address.split(".")[1] for address in written} - {model}):
            readers.setdefault(writer, []).append(model)
    return Flows(producers, readers)


def digest_of_flows(datasets: Mapping[str, Dataset], faces: Mapping[str, bytes]) -> str:
    """Names what flows between models with these faces, as :meth:`Face.encode` gives them."""
    digest = sha256(json.dumps({name: each.path for name, each in datasets.items()}).encode())
    for name, face in sorted(faces.items()):
        digest.update(b"%s %d " % (name.encode(), len(face)) + face)
    return digest.hexdigest()
