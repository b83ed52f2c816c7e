"""Where parts of a spec were written: read again, precisely, when somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from mlspec.errors import Place
from mlspec.spec.tree import Node, find
from mlspec.spec.tree import Path as Steps

_KEPT = 8
"""Trees that are kept; whoever asks for one place often asks for its neighbours."""


class Places:
    """The places of a spec that was loaded.

    `files_of` says which files it takes to know the place of a model; the `top` of all files knows
    every place, and is none where nobody needed it.
    """

    def __init__(
        self,
        root: Path,
        files: Sequence[str],
        top: Node | None,
        files_of: Callable[[str], Sequence[str]] | None = None,
    ) -> None:
        self._root = root
        self._files = files
        self._top = top
        self._files_of = files_of
        self._trees: dict[str, Node | None] = {}

    def place(self, path: Steps) -> Place | None:
        """The place of what is at `path`, or of what it would stand in."""
        top = self._top if self._top is not None else self._tree(path)
        if top is None:
            return None
        node = find(top, path, on_key=True)
        return None if node is top else node.place

    def _tree(self, path: Steps) -> Node | None:
        """The tree of the files that say what is at `path`; none if they cannot be read now."""
        model = str(path[1]) if path[0] == "models" and len(path) > 1 else ""
        if model not in self._trees:
            from mlspec.spec.precise import read_tree

            if len(self._trees) >= _KEPT:
                del self._trees[next(iter(self._trees))]
            files = self._files_of(model) if self._files_of else self._files
            self._trees[model] = read_tree(self._root, files, model)
        return self._trees[model]
