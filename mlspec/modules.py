"""Which files of the repository a Python program imports. Nothing is imported to find out.

Comes in: a script, the name of a module or a text of code, and where Python looks for modules.
Goes out: paths, by following every import statement of every syntax tree. What a file imports is
remembered by its digest, so an unchanged file is parsed once.
"""

from __future__ import annotations

import ast
import json
import posixpath
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from mlspec.worktree import Worktree

INSTALLED = ("", "src")
"""Folders whose packages may be installed in place (`pip install -e .`), looked at last."""

_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")
_CALLS = frozenset({"import_module", "__import__"})


class Import(NamedTuple):
    """`from ..module import names` has level 2; `import module` has level 0 and no names."""

    level: int
    module: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """What matters of a file: its imports, and the names of its `__all__`."""

    imports: tuple[Import, ...] = ()
    exported: tuple[str, ...] = ()


class Modules:
    """Collects in `found` the files that programs import, with the programs themselves."""

    def __init__(self, tree: Worktree) -> None:
        self.found: set[str] = set()
        self._tree = tree
        self._seen: set[tuple[str, tuple[str, ...]]] = set()

    def script(self, path: str, python_path: tuple[str, ...]) -> None:
        """`python path`: modules are looked for beside the script first."""
        self._file(path, (posixpath.dirname(path), *python_path))

    def module(self, name: str, folder: str, python_path: tuple[str, ...]) -> bool:
        """`python -m name` in `folder`; false if the module is not the repository's."""
        parts = tuple(name.split("."))
        roots = (folder, *python_path)
        main = self._find((*parts, "__main__"), roots)
        files = main or self._find(parts, roots)
        self._files(files, roots)
        return bool(files)

    def code(self, text: str, folder: str, python_path: tuple[str, ...]) -> None:
        """`python -c text` in `folder`."""
        self._follow(read_source(text.encode()), folder, (folder, *python_path))

    def _files(self, files: list[str], roots: tuple[str, ...]) -> None:
        for file in files:
            self._file(file, roots)

    def _file(self, path: str, roots: tuple[str, ...]) -> None:
        if (path, roots) not in self._seen:
            self._seen.add((path, roots))
            self.found.add(path)
            self._follow(self._source(path), posixpath.dirname(path), roots)

    def _follow(self, source: Source, folder: str, roots: tuple[str, ...]) -> None:
        for level, module, names in source.imports:
            base = tuple(module.split(".")) if module else ()
            for name in names or ("",):
                for last in self._exported(level, base, folder, roots) if name == "*" else (name,):
                    parts = (*base, last) if last else base
                    self._files(self._locate(level, parts, folder, roots), roots)

    def _exported(
        self, level: int, base: tuple[str, ...], folder: str, roots: tuple[str, ...]
    ) -> Iterator[str]:
        yield ""
        for file in self._locate(level, base, folder, roots)[-1:]:
            yield from self._source(file).exported

    def _locate(
        self, level: int, parts: tuple[str, ...], folder: str, roots: tuple[str, ...]
    ) -> list[str]:
        if level == 0:
            return self._find(parts, roots)
        for _ in range(level - 1):
            folder = posixpath.dirname(folder)
        return [*self._package(folder), *self._below(folder, parts)]

    def _find(self, parts: tuple[str, ...], roots: tuple[str, ...]) -> list[str]:
        """The files that importing `a.b.c` runs, outermost first; none if it is not ours."""
        if not parts or parts[0] in sys.builtin_module_names:
            return []
        for root in roots:
            if files := self._below(root, parts):
                return files
        if parts[0] in sys.stdlib_module_names:
            return []
        for root in INSTALLED:
            top = _join(root, parts[0])
            if self._package(top) or self._tree.is_file(f"{top}.py"):
                return self._below(root, parts)
        return []

    def _below(self, root: str, parts: tuple[str, ...]) -> list[str]:
        """Files of the packages and of the module; a name beyond is an attribute of theirs."""
        files: list[str] = []
        place = root
        for part in parts:
            place = _join(place, part)
            if package := self._package(place):
                files += package
            elif self._tree.is_file(f"{place}.py"):
                return [*files, f"{place}.py"]
            elif not self._tree.is_folder(place):
                return files
        return files

    def _package(self, folder: str) -> list[str]:
        path = _join(folder, "__init__.py")
        return [path] if self._tree.is_file(path) else []

    def _source(self, path: str) -> Source:
        digest = self._tree.digest(path)
        if digest is None:
            return Source()
        cache = self._tree.cache
        key = f"{sys.version_info.major}.{sys.version_info.minor} {digest.md5}"
        kept = _restore(cache.get("imports", key)) if cache is not None else None
        if kept is None:
            kept = read_source(self._tree.read_bytes(path) or b"")
            if cache is not None:
                cache.put("imports", key, json.dumps([kept.imports, kept.exported]).encode())
        return kept


def read_source(text: bytes) -> Source:
    """What a text imports, wherever in it; nothing if it is not Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return Source()
    imports: list[Import] = []
    exported: list[str] = []
    for node in _statements(tree.body):
        match node:
            case ast.Import(names=names):
                imports += (Import(0, alias.name, ()) for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                imports.append(Import(level, module or "", tuple(alias.name for alias in names)))
            case ast.Assign(targets=[ast.Name(id="__all__")], value=value):
                exported += _literals(value)
    if any(name.encode() in text for name in _CALLS):
        imports += (Import(0, name, ()) for name in _called(tree))
    return Source(tuple(dict.fromkeys(imports)), tuple(exported))


def _statements(body: list[Any]) -> Iterator[ast.AST]:
    """Every statement, but not those that only a type checker sees."""
    left = list(body)
    while left:
        node = left.pop()
        yield node
        for block in _BLOCKS:
            if block != "body" or not _is_type_checking(node):
                inner = getattr(node, block, ())
                left += inner if isinstance(inner, list) else ()


def _is_type_checking(node: ast.AST) -> bool:
    match node:
        case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
            return True
    return False


def _called(tree: ast.AST) -> Iterator[str]:
    """Names in `importlib.import_module("name")` and the like, where they stand there."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(attr=called) | ast.Name(id=called),
                args=[ast.Constant(value=str(name)), *_],
            ) if called in _CALLS and not name.startswith("."):
                yield name


def _literals(value: ast.AST) -> Iterator[str]:
    if isinstance(value, ast.List | ast.Tuple):
        for item in value.elts:
            if isinstance(item, ast.Constant) and isinstance(item.value, str):
                yield item.value


def _restore(kept: bytes | None) -> Source | None:
    """A cached source; None if it is not one."""
    try:
        imports, exported = json.loads(kept or b"")
        return Source(
            tuple(
                Import(int(level), str(module), tuple(map(str, names)))
                for level, module, names in imports
            ),
            tuple(map(str, exported)),
        )
    except (TypeError, ValueError):
        return None


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
