"""Trees, blobs and commits of the ledger, as Git stores them.

Reading goes through :class:`mlspec.git.ObjectReader`, without a process for each question. Writing
collects new objects in a :class:`Draft`, which has them on disk at once.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from mlspec.git import Git, GitError

_NOT_IN_A_SIGNATURE = re.compile(r"[<>\n\x00]")
_NOT_UTF_8 = re.compile("[\udc80-\udcff]")
_AUTHOR = re.compile(r"^author (.*) <(.*)> (\d+) [+-]\d{4}$", re.MULTILINE)

_RECENT = 500
"""Blobs."""


class Node(NamedTuple):
    """An entry of a tree: a file or, if `folder`, a tree."""

    oid: str
    folder: bool


Tree = Mapping[str, Node]


class Commit(NamedTuple):
    """A commit of the ledger: a chain, so `parent` is one or none; `seconds` since 1970."""

    tree: str
    parent: str
    name: str
    email: str
    seconds: int
    message: str


class Signature(NamedTuple):
    """Who did something, and when."""

    name: str
    email: str
    seconds: int

    def __str__(self) -> str:
        name, email = (_NOT_IN_A_SIGNATURE.sub("", part).strip() for part in self[:2])
        return f"{name} <{email}> {self.seconds} +0000"


class Objects:
    """The objects that Git has. They never change, so trees are remembered."""

    def __init__(self, git: Git) -> None:
        self.git = git
        self._trees: dict[str, Tree] = {"": {}}
        self._blobs: dict[str, bytes] = {}
        self._recent: dict[str, bytes] = {}
        """What an apply just wrote or read, it soon asks for again."""
        self.unwritten: dict[str, bytes] = {}
        """With their headers: of drafts, and not yet in Git."""

    def tree(self, oid: str) -> Tree:
        """What a folder holds; the id `""` is that of an absent, thus empty, one."""
        tree = self._trees.get(oid)
        if tree is None:
            tree = self._trees[oid] = dict(_entries(self._get(oid, "tree"), len(oid) // 2))
        return tree

    def read_ahead(self, oids: Iterable[str], *, kind: str) -> None:
        """Read many trees or blobs together: they will be asked for soon. A blob is kept once."""
        known = self._trees if kind == "tree" else self._blobs
        new = [oid for oid in dict.fromkeys(oids) if oid not in known]
        for found in self.git.objects.get_many(new):
            if found.kind == kind == "tree":
                self._trees[found.oid] = dict(_entries(found.data, len(found.oid) // 2))
            elif found.kind == kind:
                self._blobs[found.oid] = found.data

    def succeed(self, old: str, new: str, tree: Tree) -> None:
        """Remember `tree` as `new`, in the place of the one that it was made of."""
        if old:
            self._trees.pop(old, None)
        self._trees[new] = tree

    def blob(self, oid: str) -> bytes:
        data = self._blobs.pop(oid, None) or self._recent.get(oid)
        if data is None:
            data = self._get(oid, "blob")
        self.keep(oid, data)
        return data

    def keep(self, oid: str, data: bytes) -> None:
        """Remember a blob for as long as it is one of the last."""
        self._recent[oid] = data
        while len(self._recent) > _RECENT:
            self._recent.pop(next(iter(self._recent)))

    def commit(self, oid: str) -> Commit:
        text = self._get(oid, "commit").decode("utf-8", "replace")
        headers, _, message = text.partition("\n\n")
        author = _AUTHOR.search(headers)
        if author is None:
            raise GitError(f"the commit {oid} of the ledger has no author")
        parent = re.search("^parent (.*)$", headers, re.MULTILINE)
        return Commit(
            tree=headers.partition("\n")[0].removeprefix("tree "),
            parent=parent[1] if parent else "",
            name=author[1],
            email=author[2],
            seconds=int(author[3]),
            message=message,
        )

    def find(self, root: str, path: str) -> Node | None:
        """The file or folder at `path` below the tree `root`."""
        node: Node | None = Node(root, True)
        for segment in path.split("/"):
            node = self.tree(node.oid).get(segment) if node and node.folder else None
        return node

    def files(self, oid: str, prefix: str = "") -> Iterator[tuple[str, str]]:
        """The files in and below a tree: path, with `prefix` before it, and id."""
        for name, node in self.tree(oid).items():
            if node.folder:
                yield from self.files(node.oid, f"{prefix}{name}/")
            else:
                yield f"{prefix}{name}", node.oid

    def changes(self, old: str, new: str, prefix: str = "") -> Iterator[tuple[str, str]]:
        """The files that differ between two trees: path and new id, `""` for one that is gone."""
        before, after = self.tree(old), self.tree(new)
        for name in before.keys() | after.keys():
            one, other = before.get(name), after.get(name)
            if one == other:
                continue
            path = f"{prefix}{name}"
            if one and not one.folder and (other is None or other.folder):
                yield path, ""
            if other and not other.folder:
                yield path, other.oid
            left, right = (node.oid if node and node.folder else "" for node in (one, other))
            if left or right:
                yield from self.changes(left, right, f"{path}/")

    def _get(self, oid: str, kind: str) -> bytes:
        if (draft := self.unwritten.get(oid)) is not None:
            return draft.partition(b"\0")[2]
        found = self.git.objects.get(oid)
        if found is None or found.kind != kind:
            hint = "`mlspec ledger recover` goes back to the last good one, here or at the remote"
            raise GitError(f"the ledger's {kind} {oid} is missing", hint=hint)
        return found.data


class Draft:
    """New blobs, trees and commits, not yet in Git; whoever reads `objects` has them already."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._hash = objects.git.object_format
        self._new: dict[str, bytes] = {}

    def add_blob(self, data: bytes) -> str:
        oid = self._add("blob", data)
        self._objects.keep(oid, data)
        return oid

    def add_tree(self, root: str, changes: Mapping[str, str]) -> str:
        """The tree `root` with other files: id by path, `""` to delete. Itself `""` if empty."""
        nodes = dict(self._objects.tree(root))
        below: dict[str, dict[str, str]] = {}
        for path, oid in changes.items():
            name, slash, rest = path.partition("/")
            if slash:
                below.setdefault(name, {})[rest] = oid
            elif oid:
                nodes[name] = Node(oid, False)
            else:
                nodes.pop(name, None)
        for name, inner in below.items():
            node = nodes.pop(name, None)
            oid = self.add_tree(node.oid if node and node.folder else "", inner)
            if oid:
                nodes[name] = Node(oid, True)
        if not nodes:
            return ""
        oid = self._add("tree", _tree_data(nodes))
        self._objects.succeed(root, oid, nodes)
        return oid

    def add_commit(self, commit: Commit, by: Signature) -> str:
        """A commit without a signature of its author; `by` committed it."""
        author = Signature(commit.name, commit.email, commit.seconds)
        lines = [f"tree {commit.tree}", f"author {author}", f"committer {by}", "", commit.message]
        if commit.parent:
            lines.insert(1, f"parent {commit.parent}")
        # Git takes what is not UTF-8 for Latin-1
        text = _NOT_UTF_8.sub(lambda found: chr(ord(found[0]) & 0xFF), "\n".join(lines))
        return self._add("commit", text.encode())

    def write(self) -> None:
        """Have the objects in Git; they are on disk when this returns."""
        new = dict(self._new)
        self._objects.git.add_objects(new)
        self._forget(new)

    def drop(self) -> None:
        """Have nothing to write."""
        self._forget(dict(self._new))

    def _forget(self, oids: Iterable[str]) -> None:
        for oid in oids:
            self._new.pop(oid, None)
            self._objects.unwritten.pop(oid, None)

    def _add(self, kind: str, data: bytes) -> str:
        content = b"%s %d\0%s" % (kind.encode(), len(data), data)
        oid = hashlib.new(self._hash, content, usedforsecurity=False).hexdigest()
        self._new[oid] = self._objects.unwritten[oid] = content
        return oid


def _entries(data: bytes, width: int) -> Iterator[tuple[str, Node]]:
    """What a tree's bytes say; an id is `width` bytes long."""
    start = 0
    while start < len(data):
        end = data.index(b"\0", start)
        mode, _, name = data[start:end].partition(b" ")
        start = end + 1 + width
        oid = data[end + 1 : start].hex()
        yield name.decode("utf-8", "surrogateescape"), Node(oid, mode == b"40000")


def _tree_data(nodes: Tree) -> bytes:
    # Git sorts a folder as if its name ended in a slash.
    lines = sorted(
        (name.encode("utf-8", "surrogateescape") + b"/" * node.folder, node)
        for name, node in nodes.items()
    )
    return b"".join(
        b"%s %s\0%s"
        % (b"40000" if node.folder else b"100644", key.removesuffix(b"/"), bytes.fromhex(node.oid))
        for key, node in lines
    )
