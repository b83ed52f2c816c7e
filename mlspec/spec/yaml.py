"""YAML text to a tree with places, within limits.

Comes in: the bytes of a file. Goes out: a :class:`~mlspec.spec.tree.Node`, and the problems found
on the way. It reads parse events one by one and keeps its own stack, so nothing in a file can
make it recurse, expand or wait: each limit stops it at the event that goes over.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from typing import Any

import yaml as pyyaml

from mlspec.errors import Diagnostic
from mlspec.spec.characters import bad_character, decode, refuse
from mlspec.spec.scalars import Refused, resolve_scalar
from mlspec.spec.show import escape, shorten, show
from mlspec.spec.tree import File, Node, Path, name

MAX_EVENTS = 1_000_000
MAX_DEPTH = 32
MAX_SCALAR = 64 * 2**10
MAX_KEY = 128
MAX_ALIASES = 100
MAX_EXPANSION = 10
SMALL = 1000
"""An expansion to fewer nodes than this is never too much."""
MAX_PROBLEMS = 200
"""After this many problems a file is read no further."""

_NO_KEYS: dict[str, Node] = {}
_PARSER: Any = getattr(pyyaml, "CSafeLoader", pyyaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Parsed:
    """The tree of a file, if it has one, and what is wrong with the file."""

    top: Node | None
    problems: tuple[Diagnostic, ...]


class _StopError(Exception):
    """Reading cannot go on after this problem."""

    def __init__(self, problem: Diagnostic) -> None:
        super().__init__(problem.message)
        self.problem = problem


def parse(data: bytes, path: str) -> Parsed:
    """The tree of a file's bytes; every problem in it that can be seen at once."""
    decoded = decode(data, path)
    if decoded.problems:
        return Parsed(None, decoded.problems)
    return _Reader(decoded.file).read(decoded.text)


@dataclass(slots=True)
class _Open:
    """A collection that is being read; `key` is the key whose value comes next."""

    node: Node
    anchor: str | None
    first: int
    mapping: bool
    key: Node | None = None
    skip: bool = False
    seen: dict[str, Node] = field(default_factory=dict)


class _Reader:
    """Turns the events of one file into its tree."""

    def __init__(self, file: File) -> None:
        self.file = file
        self.problems: list[Diagnostic] = []
        self.stack: list[_Open] = []
        self.anchors: dict[str, tuple[Node, int]] = {}
        self.top: Node | None = None
        self.nodes = 0
        self.expanded = 0
        self.aliases = 0

    def read(self, text: str) -> Parsed:
        parser = _PARSER(text)
        try:
            documents = 0
            for count, event in enumerate(iter(parser.get_event, None)):
                if count > MAX_EVENTS:
                    raise self._over(event, f"more than {MAX_EVENTS:,} values and marks")
                if isinstance(event, pyyaml.DocumentStartEvent):
                    documents += 1
                    if documents > 1:
                        raise self._several(event)
                self._take(event)
        except _StopError as stop:
            return Parsed(None, (*self.problems, stop.problem))
        except pyyaml.YAMLError as error:
            return Parsed(None, (*self.problems, self._syntax(error)))
        return Parsed(self.top, tuple(self.problems))

    def _take(self, event: Any) -> None:
        kind = type(event)
        if kind is pyyaml.ScalarEvent:
            self._check_tag(event)
            self._place(self._scalar(event), event)
        elif kind in (pyyaml.MappingStartEvent, pyyaml.SequenceStartEvent):
            self._check_tag(event)
            self._open(event)
        elif kind in (pyyaml.MappingEndEvent, pyyaml.SequenceEndEvent):
            self._close(event)
        elif kind is pyyaml.AliasEvent:
            self._alias(event)

    def _scalar(self, event: Any) -> Node:
        text: str = event.value
        node = self._node(event, text)
        node.text = text
        if len(text) > MAX_SCALAR:
            raise self._over(event, f"a text of {len(text):,} characters ({MAX_SCALAR:,} allowed)")
        # Raw characters were looked at before; only an escape can bring in others.
        bad = bad_character(text) if event.style == '"' else ""
        if bad:
            node.value = node.text = escape(text)
            self.problems.append(refuse(bad, node.place))
        elif not event.style and event.tag is None and not self._is_key():
            value = resolve_scalar(text)
            if isinstance(value, Refused):
                self._report(value.code, node, value.message, value.hint)
            else:
                node.value = value
        return node

    def _open(self, event: Any) -> None:
        if len(self.stack) >= MAX_DEPTH:
            raise self._over(event, f"nesting deeper than {MAX_DEPTH}")
        mapping = isinstance(event, pyyaml.MappingStartEvent)
        node = self._node(event, {} if mapping else [])
        node.keys = {}
        if self._is_key():
            raise _StopError(
                self._at(event, "MLS015", "a key must be text, not a list or a mapping")
            )
        first = self.expanded
        self._count(event, 1)
        self.stack.append(_Open(node, event.anchor, first, mapping))

    def _close(self, event: Any) -> None:
        closed = self.stack.pop()
        node = closed.node
        if event.start_mark.index != event.end_mark.index:
            same = event.end_mark.line + 1 == node.line
            node.length = event.end_mark.column + 1 - node.column if same else node.length
        self._attach(node, closed.anchor, self.expanded - closed.first)

    def _alias(self, event: Any) -> None:
        self.aliases += 1
        if self.aliases > MAX_ALIASES:
            raise self._over(event, f"more than {MAX_ALIASES} aliases")
        if any(entry.anchor == event.anchor for entry in self.stack):
            message = f"the alias `*{event.anchor}` stands inside the value that it repeats"
            raise _StopError(self._at(event, "MLS016", message, "write the value out"))
        if event.anchor not in self.anchors:
            message = f"no anchor `&{event.anchor}` before this alias"
            raise _StopError(self._at(event, "MLS016", message, "write the value out"))
        node, size = self.anchors[event.anchor]
        if self._is_key():
            raise _StopError(self._at(event, "MLS015", "a key must be text, not an alias"))
        self._count(event, size)
        self._attach(node, None, size)

    def _place(self, node: Node, event: Any) -> None:
        self._count(event, 1)
        if self._is_key():
            self._key(node, event)
        else:
            self._attach(node, event.anchor, 1)

    def _key(self, node: Node, event: Any) -> None:
        entry = self.stack[-1]
        text = node.text
        entry.key, entry.skip = node, False
        plain = not event.style and event.tag is None
        if plain and text == "<<":
            hint = "write the keys out, or use `defaults`"
            self._report("MLS017", node, "merge keys (`<<`) are not part of the language", hint)
            entry.skip = True
        elif plain and not _is_text(text):
            hint = f'quote it: "{shorten(text, 40)}"' if text else "write a name before the colon"
            self._report("MLS015", node, f"the key {show(text)} is not text in YAML", hint)
            entry.skip = True
        elif len(text) > MAX_KEY:
            message = f"a key of {len(text):,} characters; the limit is {MAX_KEY}"
            self._report("MLS005", node, message, "use a shorter key")
            entry.skip = True
        else:
            self._check_twice(entry, node, text)

    def _check_twice(self, entry: _Open, node: Node, text: str) -> None:
        normal = unicodedata.normalize("NFC", text)
        earlier = entry.seen.setdefault(normal, node)
        if earlier is node:
            return
        entry.skip = True
        alike = "" if earlier.text == text else " (they look the same, with different characters)"
        message = f"the key {show(text)} stands twice{alike}"
        hint = f"the other one is at {earlier.place}; keep one of them"
        self._report("MLS014", node, message, hint)

    def _attach(self, node: Node, anchor: str | None, size: int) -> None:
        if anchor is not None:
            self.anchors[anchor] = (node, size)
        if not self.stack:
            self.top = node
            return
        entry = self.stack[-1]
        value = entry.node.value
        if isinstance(value, list):
            value.append(node)
        elif isinstance(value, dict) and entry.key is not None:
            if not entry.skip:
                value[entry.key.text] = node
                entry.node.keys[entry.key.text] = entry.key
            entry.key = None

    def _is_key(self) -> bool:
        return bool(self.stack) and self.stack[-1].key is None and self.stack[-1].mapping

    def _count(self, event: Any, size: int) -> None:
        self.nodes += 1
        self.expanded += size
        if self.aliases and self.expanded > max(SMALL, MAX_EXPANSION * self.nodes):
            message = f"aliases make the file more than {MAX_EXPANSION} times as big as it is"
            raise _StopError(self._at(event, "MLS016", message, "write the values out"))

    def _check_tag(self, event: Any) -> None:
        if event.tag is None or event.tag in ("!", "tag:yaml.org,2002:str"):
            return
        tag = event.tag.replace("tag:yaml.org,2002:", "!!")
        hint = "remove the tag; a spec holds text, numbers, true, false, lists and mappings"
        raise _StopError(self._at(event, "MLS018", f"the tag {show(tag)} is not allowed", hint))

    def _several(self, event: Any) -> _StopError:
        hint = "keep one document; put the others into files of their own, named in `include`"
        return _StopError(self._at(event, "MLS009", "the file holds several documents", hint))

    def _over(self, event: Any, what: str) -> _StopError:
        hint = "make it smaller, or split it and use `include`"
        return _StopError(self._at(event, "MLS005", f"the file has {what}", hint))

    def _node(self, event: Any, value: Any) -> Node:
        start, end = event.start_mark, event.end_mark
        if end.line == start.line and end.column > start.column:
            length = end.column - start.column
        else:
            line = self.file.lines[start.line] if start.line < len(self.file.lines) else ""
            length = len(line[start.column :].split(" #")[0].rstrip())
        # A dictionary for each scalar's keys would be half of what a big file takes.
        return Node(
            self.file, start.line + 1, start.column + 1, max(1, length), value, "", _NO_KEYS
        )

    def _report(self, code: str, node: Node, message: str, hint: str) -> None:
        address, field = name(self._path())
        problem = Diagnostic(code, message, address, field, node.place, hint)
        if len(self.problems) == MAX_PROBLEMS:
            raise _StopError(problem)
        self.problems.append(problem)

    def _at(self, event: Any, code: str, message: str, hint: str = "") -> Diagnostic:
        node = self._node(event, None)
        address, field = name(self._path())
        return Diagnostic(code, message, address, field, node.place, hint)

    def _path(self) -> Path:
        steps: list[str | int] = []
        for entry in self.stack:
            if isinstance(entry.node.value, list):
                steps.append(len(entry.node.value))
            elif entry.key is not None:
                steps.append(shorten(escape(entry.key.text), 40))
        return tuple(steps)

    def _syntax(self, error: pyyaml.YAMLError) -> Diagnostic:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        line = min(mark.line if mark else 0, max(0, len(self.file.lines) - 1))
        column = mark.column if mark else 0
        source = self.file.lines[line]
        indent = source[: len(source) - len(source.lstrip())]
        tab = indent.find("\t") if "\t" in indent else column
        if source[tab : tab + 1] == "\t":
            place = self.file.place(line + 1, tab + 1, 1)
            return Diagnostic("MLS007", "a tab may not stand here", place=place, hint="use spaces")
        problem = getattr(error, "problem", None) or "it cannot be read"
        if "Unicode character escape" in problem:
            place = self.file.place(line + 1, max(1, column - 1), 2)
            hint = "write the character itself, or delete the escape"
            return Diagnostic("MLS004", "this escape is no character", place=place, hint=hint)
        context = getattr(error, "context", None)
        message = f"not valid YAML: {f'{context}, ' if context else ''}{problem}"
        hint = "look at this line and the one above it: an unclosed quote, bracket or missing colon"
        if "${" in source:
            hint = "inside brackets, put a text that holds `${...}` in quotes"
        place = self.file.place(line + 1, column + 1, 1)
        return Diagnostic("MLS006", shorten(escape(message), 160), place=place, hint=hint)


def _is_text(text: str) -> bool:
    """Whether a key without quotes is text; `y` and `n` are, as names of columns often are."""
    return text in ("y", "n", "Y", "N") or isinstance(resolve_scalar(text), str)
