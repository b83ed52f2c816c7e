"""The ledger as it was at one commit, which is what a plan is made from."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cached_property

from mlspec.errors import MlspecError
from mlspec.ledger.migrations import migrate
from mlspec.ledger.objects import Node, Objects, Tree
from mlspec.ledger.paths import HEAD
from mlspec.plan import canonical_json

SCHEMA = 1
"""What is written; older ones are read through :mod:`mlspec.ledger.migrations`."""
NEEDS = "0.1.0"
"""The first mlspec that reads this schema."""


_DEPTH = 3
"""Folders within that of a model: `runs`, and one in it for each stage."""
_FEW = 3
"""Records in a folder that are read ahead: of more, most are of old runs."""


def _few(tree: Tree, depth: int) -> list[Node]:
    """What is read ahead of a folder: not versions, nor states, nor records among many."""
    nodes = [node for name, node in tree.items() if depth or name in ("runs", "candidates")]
    return nodes if len(nodes) <= _FEW or nodes[0].folder else []


class Snapshot:
    """Reads at `commit`; `""` is the ledger before its first record."""

    def __init__(self, objects: Objects, commit: str) -> None:
        self._objects = objects
        self.commit = commit

    @classmethod
    def written(cls, objects: Objects, commit: str, tree: str, serial: int) -> Snapshot:
        """The one that was just written, which need not be read to know that."""
        snapshot = cls(objects, commit)
        snapshot.tree, snapshot.serial, snapshot.schema = tree, serial, SCHEMA
        return snapshot

    @cached_property
    def tree(self) -> str:
        """The id of the tree; none before the first record."""
        return self._objects.commit(self.commit).tree if self.commit else ""

    @cached_property
    def serial(self) -> int:
        """How many records there are; raises if a newer mlspec wrote them."""
        return self._head[1]

    @cached_property
    def schema(self) -> int:
        """What the records were written by; they are read as if it was the present one."""
        return self._head[0]

    @cached_property
    def _head(self) -> tuple[int, int]:
        if not self.commit:
            return SCHEMA, 0
        try:
            node = self._objects.find(self.tree, HEAD)
            head = json.loads(self._objects.blob(node.oid)) if node else {}
            schema, serial = int(head["schema"]), int(head["serial"])
        except (ValueError, TypeError, KeyError) as error:
            hint = f"look at it: git show {self.commit}:{HEAD}"
            message = f"the ledger's {HEAD} at commit {self.commit} is damaged"
            raise MlspecError(message, hint=hint) from error
        if schema > SCHEMA:
            raise MlspecError(
                f"the ledger has schema {schema}; this mlspec reads up to {SCHEMA}",
                hint=f"install mlspec {head.get('mlspec', 'of a later version')} or newer",
            )
        return schema, serial

    def read(self, path: str) -> bytes | None:
        """The file at `path`; none if it is not there."""
        node = self._objects.find(self._checked_tree, path)
        if node is None or node.folder:
            return None
        data = self._objects.blob(node.oid)
        return data if path == HEAD else migrate(path, data, self.schema, to=SCHEMA)

    def older(self) -> dict[str, bytes]:
        """All records, if an older schema wrote them: they go along with the next one."""
        if self.schema == SCHEMA:
            return {}
        paths = (path for path, _ in self._objects.files(self._checked_tree) if path != HEAD)
        return {path: self.read(path) or b"" for path in paths}

    def list(self, prefix: str = "") -> tuple[str, ...]:
        """The paths of all files in and below the folder `prefix`, sorted."""
        folder = prefix.rstrip("/")
        node = self._objects.find(self._checked_tree, folder) if folder else None
        if folder and not (node and node.folder):
            return ()
        root = node.oid if node else self._checked_tree
        return tuple(
            sorted(path for path, _ in self._objects.files(root, f"{folder}/" * bool(folder)))
        )

    def names(self, folder: str) -> tuple[str, ...]:
        """The names of what is directly in a folder, sorted."""
        node = self._objects.find(self._checked_tree, folder)
        return tuple(sorted(self._objects.tree(node.oid))) if node and node.folder else ()

    def ids(self, folder: str) -> dict[str, str]:
        """The id of what is directly in a folder, by name: it tells whether anything changed."""
        node = self._objects.find(self._checked_tree, folder)
        if node is None or not node.folder:
            return {}
        return {name: each.oid for name, each in self._objects.tree(node.oid).items()}

    def read_ahead(self, folders: Iterable[str]) -> None:
        """Read what a plan asks of these folders of models, all together."""
        objects = self._objects
        found = (objects.find(self._checked_tree, folder) for folder in folders)
        trees = [node.oid for node in found if node is not None and node.folder]
        blobs: list[str] = []
        for depth in range(_DEPTH):
            objects.read_ahead(trees, kind="tree")
            inside = [node for oid in trees for node in _few(objects.tree(oid), depth)]
            trees = [node.oid for node in inside if node.folder]
            blobs += [node.oid for node in inside if not node.folder]
        objects.read_ahead(blobs, kind="blob")

    @property
    def _checked_tree(self) -> str:
        return self.tree if self.serial else ""


def head_record(serial: int) -> bytes:
    """What `ledger.json` holds."""
    return canonical_json({"mlspec": NEEDS, "schema": SCHEMA, "serial": serial}).encode()
