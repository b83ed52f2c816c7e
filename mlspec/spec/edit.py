"""Small edits of a spec's text: all that is not edited keeps its bytes, comments and spacing.

Comes in: the text of a file, and where a value belongs. Goes out: the new text, which says what the
old one said and the new value, and nothing else; or none, where that cannot be made sure of.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import yaml

from mlspec.spec.scalars import resolve_scalar
from mlspec.spec.yaml import parse

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
_BLOCK_TEXT = ("|", ">")
_DECLARED = 2
"""Keys of a path that lead to a member of a section, such as a model."""
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SHORT = 80
_MARK = "\ufeff"
"""What some editors put before a text; parsers do not agree whether places count it."""

Mapping = yaml.MappingNode
List = yaml.SequenceNode


def has(text: str, path: Sequence[str]) -> bool:
    """Whether the file itself, and no other or a matrix, holds the mapping at `path`."""
    return isinstance(_find(text, path), Mapping)


def put_value(text: str, path: Sequence[str], key: str, value: Any) -> str | None:
    """The text with `key: value` in the mapping at `path`, whose first two keys are there.

    `value` is plain data. It is written as the old one was, where that can be.
    """

    def said(plain: Any) -> None:
        for each in path:
            plain = plain.setdefault(each, {})
        plain[key] = value

    node = _find_plain(text, (*path, key))
    for written in _spellings(text, node, value):
        made = _checked(text, partial(_put, text, path, key, written), said)
        if made is not None:
            return made
    return None


def _put(text: str, path: Sequence[str], key: str, written: str) -> str | None:
    inner = _find(text, path)
    if isinstance(inner, Mapping):
        known = _value(inner, key)
        if known is None:
            return _insert(text, inner, f"{_key(key)}: {written}")
        return text[: known.start_mark.index] + written + text[_end(text, known) :]
    if inner is None and len(path) > _DECLARED:
        return _put(text, path[:-1], path[-1], f"{{{_key(key)}: {written}}}")
    return None


def _find_plain(text: str, path: Sequence[str]) -> yaml.Node | None:
    try:
        return _find(text, path)
    except yaml.YAMLError:
        return None


def _spellings(text: str, old: yaml.Node | None, value: Any) -> Iterator[str]:
    """Ways to write a value, the nicest first; which one says it, is for others to check."""
    if isinstance(value, str) and isinstance(old, yaml.ScalarNode):
        if not old.style and value.isprintable():
            yield value
        lines = text[old.start_mark.index : old.end_mark.index].splitlines()[1:]
        if old.style == "|" and lines:
            indent = lines[0][: len(lines[0]) - len(lines[0].lstrip())]
            yield "\n".join(("|-", *(indent + line if line else "" for line in value.split("\n"))))
    yield json.dumps(value, ensure_ascii=False)
    if isinstance(value, float):
        mantissa, _, exponent = repr(value).partition("e")
        yield f"{mantissa if '.' in mantissa else mantissa + '.0'}e{exponent}"


def drop_value(text: str, path: Sequence[str], key: str) -> str | None:
    """The text without `key` in the mapping at `path`."""

    def edited() -> str | None:
        inner = _find(text, path)
        if not isinstance(inner, Mapping):
            return None
        index = next((i for i, (each, _) in enumerate(inner.value) if each.value == key), None)
        return None if index is None else _cut(text, inner, index)

    def said(plain: Any) -> None:
        del _at(plain, path)[key]

    return _checked(text, edited, said)


def drop_item(text: str, path: Sequence[str], item: str) -> str | None:
    """The text without the text `item` in the list at `path`."""

    def edited() -> str | None:
        known = _find(text, path)
        if not isinstance(known, List):
            return None
        index = next((i for i, each in enumerate(known.value) if each.value == item), None)
        if index is None:
            return None
        if len(known.value) > 1:
            return _cut(text, known, index)
        start, end = known.start_mark.index, _end(text, known)
        return f"{text[:start]}[]{text[end:]}" if known.flow_style else None

    def said(plain: Any) -> None:
        _at(plain, path).remove(item)

    return _checked(text, edited, said)


def _cut(text: str, node: yaml.CollectionNode, index: int) -> str | None:
    """The text without one entry of a mapping or list; of the only one, only in one line."""
    entry = node.value[index]
    start = (entry[0] if isinstance(entry, tuple) else entry).start_mark.index
    end = _end(text, entry)
    if node.flow_style:
        if index + 1 < len(node.value):
            after = node.value[index + 1]
            key = after[0] if isinstance(after, tuple) else after
            return text[:start] + text[key.start_mark.index :]
        if index:
            return text[: _end(text, node.value[index - 1])] + text[end:]
        return text[:start] + text[end:]
    first = text.rfind("\n", 0, start) + 1
    last = text.find("\n", end)
    alone = text[first:start].strip() in ("", "-")
    if not alone or len(node.value) == 1:
        return None
    return text[:first] + (text[last + 1 :] if last >= 0 else "")


def append_item(text: str, path: Sequence[str], item: dict[str, int | str] | str) -> str | None:
    """The text with `item` at the end of the list at `path`; the last of `path` may be missing."""
    written = _key(item) if isinstance(item, str) else flow(item)

    def edited() -> str | None:
        known = _find(text, path)
        if isinstance(known, List):
            return _insert(text, known, written)
        outer = _find(text, path[:-1])
        if known is not None or not isinstance(outer, Mapping):
            return None
        if outer.flow_style:
            return _insert(text, outer, f"{path[-1]}: [{written}]")
        column = outer.start_mark.column
        return _insert(text, outer, f"{path[-1]}:\n{' ' * (column + 2)}- {written}")

    def said(plain: Any) -> None:
        _at(plain, path[:-1]).setdefault(path[-1], []).append(item)

    return _checked(text, edited, said)


def add_member(text: str, section: str, name: str, body: dict[str, Any]) -> str | None:
    """The text with a new member of a section; `body` is of texts, and of mappings of them."""
    lines = [f"{_key(name)}:", *_block(body, "  ")]

    def edited() -> str | None:
        members, top = _find(text, (section,)), _find(text, ())
        if isinstance(members, Mapping):
            if members.flow_style:
                return None
            column = " " * members.start_mark.column
            return _insert(text, members, f"\n{column}".join(lines))
        if members is not None or not isinstance(top, Mapping) or top.flow_style:
            return None
        return _insert(text, top, "\n  ".join([f"{section}:", *lines]))

    def said(plain: Any) -> None:
        plain.setdefault(section, {})[name] = body

    return _checked(text, edited, said)


def _block(body: dict[str, Any], indent: str) -> Iterator[str]:
    for key, each in body.items():
        if not isinstance(each, dict):
            yield f"{indent}{_key(key)}: {_key(each)}"
        elif len(short := f"{indent}{_key(key)}: {flow(each)}") <= _SHORT:
            yield short
        else:
            yield f"{indent}{_key(key)}:"
            yield from _block(each, f"{indent}  ")


def flow(item: dict[str, int | str]) -> str:
    """A mapping on one line: `{version: 4, reason: "Wrong on weekends"}`."""
    values = (f"{_key(key)}: {json.dumps(each, ensure_ascii=False)}" for key, each in item.items())
    return f"{{{', '.join(values)}}}"


def _key(name: str) -> str:
    plain = _PLAIN.fullmatch(name) and isinstance(resolve_scalar(name), str)
    return name if plain else json.dumps(name, ensure_ascii=False)


def _checked(text: str, edit: Callable[[], str | None], said: Callable[[Any], None]) -> str | None:
    """What `edit` makes of the text, if it says what `said` makes of what the text says."""
    expected = None if text.startswith(_MARK) else _plain(text)
    try:
        made = edit()
    except yaml.YAMLError:
        return None
    if made is None or expected is None:
        return None
    said(expected)
    return made if _plain(made) == expected else None


def _plain(text: str) -> Any:
    """What a text says, as the spec is read; none if anything is wrong with it."""
    parsed = parse(text.encode(), "")
    return None if parsed.problems or parsed.top is None else parsed.top.plain()


def _at(plain: Any, path: Iterable[str]) -> Any:
    for key in path:
        plain = plain[key]
    return plain


def _find(text: str, path: Iterable[str]) -> yaml.Node | None:
    """The node at `path`, with marks; none if there is none."""
    node: yaml.Node | None = yaml.compose(text, Loader=_LOADER)
    for key in path:
        node = _value(node, key) if isinstance(node, Mapping) else None
    return node


def _value(node: yaml.MappingNode, key: str) -> yaml.Node | None:
    return next((value for each, value in node.value if each.value == key), None)


def _insert(text: str, node: yaml.CollectionNode, entry: str) -> str:
    """The text with one more entry at the end of a mapping or list."""
    if node.flow_style:
        if not node.value:
            at = node.start_mark.index + 1
            return text[:at] + entry + text[at:]
        at = _end(text, node.value[-1])
        return f"{text[:at]}, {entry}{text[at:]}"
    newline = "\r\n" if "\r\n" in text else "\n"
    end = _end(text, node)
    at = min((i for i in (text.find(mark, end) for mark in "\r\n") if i >= 0), default=len(text))
    dash = "- " if isinstance(node, List) else ""
    lines = (" " * node.start_mark.column + dash + entry).replace("\n", newline)
    return text[:at] + newline + lines + text[at:]


def _end(text: str, node: Any) -> int:
    """Where a value, or a key with its value, ends; of blocks, where the last thing in it ends."""
    if isinstance(node, tuple):
        return _end(text, node[1])
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        return _end(text, node.value[-1])
    end: int = node.end_mark.index
    if isinstance(node, yaml.ScalarNode) and node.style in _BLOCK_TEXT:
        return len(text[:end].rstrip())
    return end
