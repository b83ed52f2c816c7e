"""The language of `--select`: its text to a tree, and the tree to its text.

===================  ======================================================  ==========
written              stands for                                              binds
===================  ======================================================  ==========
`a | b` `a, b` `a b`  what is in one of them                                 loosest
`a ^ b`              what is in the first and not in those after it
`a & b`              what is in both
`+a`  `a+`  `+a+`    with all that it needs, with all that needs it, both    tightest
===================  ======================================================  ==========

An operand is a name (an address, or a name alone), `owner:NAME`, `tag:NAME`, `changed:REVISIONS` or
an expression in parentheses. What follows a colon may stand in quotes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from mlspec.errors import MlspecError
from mlspec.spec.suggest import did_you_mean

LABELS = ("owner", "tag")
CHANGED = "changed"
DEEPEST = 50
"""Parentheses within parentheses."""
WIDTH = 100
"""Of a longer expression, this many characters around a problem are shown."""

_LEVELS = "|^&"
"""The operators of sets, from the one that binds loosest."""
_STOP = r"\s&|^,()+\"'"
_TOKEN = re.compile(
    rf"(?P<key>[^{_STOP}:]*):(?:\"(?P<double>[^\"]*)\"|'(?P<single>[^']*)'|(?P<value>[^{_STOP}]*))"
    rf"|(?P<name>[^{_STOP}:]+)"
    r"|(?P<sign>[&|^,()+])"
)


class Span(NamedTuple):
    """Some characters of the expression `text`."""

    start: int
    end: int
    text: str = ""


class SelectionError(MlspecError):
    """An expression that cannot be read, or that names what there is not."""

    def at(self, span: Span) -> SelectionError:
        """The same, with the expression and carets under what is wrong with it."""
        line = span.text
        start = max(0, span.start - WIDTH // 2) if len(line) > WIDTH else 0
        lead = "…" if start else ""
        tail = "…" if len(line) > start + WIDTH else ""
        excerpt = f"{lead}{line[start : start + WIDTH]}{tail}".rstrip()
        before = len(lead) + span.start - start
        carets = "^" * max(1, min(span.end, start + WIDTH) - span.start)
        message = f"{self.message}\n{excerpt}\n{' ' * before}{carets}"
        return SelectionError(message, hint=self.hint)


_NOWHERE = Span(0, 0)


@dataclass(frozen=True, slots=True)
class Name:
    """An address or a name alone; `*`, `?` and `[...]` stand for characters."""

    text: str
    span: Span = field(default=_NOWHERE, compare=False, repr=False)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Label:
    """Everything of an owner or with a tag."""

    key: str
    value: str
    span: Span = field(default=_NOWHERE, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.key}:{_quoted(self.value)}"


@dataclass(frozen=True, slots=True)
class Changed:
    """What changed between two revisions, or since one."""

    revisions: str
    span: Span = field(default=_NOWHERE, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{CHANGED}:{_quoted(self.revisions)}"


@dataclass(frozen=True, slots=True)
class Reach:
    """With all that it needs (`up`), with all that needs it (`down`)."""

    of: Expression
    up: bool
    down: bool

    def __str__(self) -> str:
        inner = str(self.of) if isinstance(self.of, Name | Label | Changed) else f"({self.of})"
        return f"{'+' * self.up}{inner}{'+' * self.down}"


@dataclass(frozen=True, slots=True)
class Combined:
    """Two or more expressions with one operator between them: `|`, `^` or `&`."""

    operator: str
    parts: tuple[Expression, ...]

    def __str__(self) -> str:
        return f" {self.operator} ".join(map(self._inner, self.parts))

    def _inner(self, part: Expression) -> str:
        loose = isinstance(part, Combined) and (
            _LEVELS.index(part.operator) <= _LEVELS.index(self.operator)
        )
        return f"({part})" if loose else str(part)


Expression = Name | Label | Changed | Reach | Combined


def parse(*texts: str) -> Expression:
    """The expression that stands for all that one of `texts` does.

    Its `str` is its text in one form, and is parsed to an equal one. Raises
    :class:`SelectionError` that points to what is wrong.
    """
    return _combined("|", [_Parser(text).parse() for text in texts])


def _combined(operator: str, parts: list[Expression]) -> Expression:
    return parts[0] if len(parts) == 1 else Combined(operator, tuple(parts))


def _quoted(value: str) -> str:
    if value and not re.search(f"[{_STOP}]", value):
        return value
    return f"'{value}'" if '"' in value else f'"{value}"'


class _Token(NamedTuple):
    """`kind` is a sign, `name`, `label`, or `end`; `+` is `up` before and `down` after a name."""

    kind: str
    span: Span
    name: str = ""
    value: str = ""


_STARTS = ("name", "label", "(", "up")
_SIGNS = {",": "|"}


def _tokens(text: str) -> list[_Token]:
    tokens = []
    at = 0
    while at < len(text):
        if text[at] == " ":
            at += 1
            continue
        match = _TOKEN.match(text, at)
        if match is None:
            raise _unexpected(text, at)
        span = Span(at, match.end(), text)
        at = match.end()
        if match["key"] is not None:
            values = match.group("double", "single", "value")
            value = next(part for part in values if part is not None)
            if match["value"] is None and not re.match(rf"[{_STOP}]|$", text[at:]):
                raise _unexpected(text, at)
            tokens.append(_Token("label", span, match["key"], value))
        elif match["name"] is not None:
            tokens.append(_Token("name", span, match["name"]))
        elif match["sign"] == "+":
            tokens.append(_Token(_direction(text, span.start), span))
        else:
            tokens.append(_Token(_SIGNS.get(match["sign"], match["sign"]), span))
    return [*tokens, _Token("end", Span(len(text), len(text), text))]


def _one_line(text: str) -> str:
    """`text` with plain spaces; raises for what could not be seen in it."""
    line = "".join(" " if char.isspace() else char for char in text)
    if not line.isprintable():
        raise SelectionError("the selection has characters that cannot be seen")
    return line


def _unexpected(text: str, at: int) -> SelectionError:
    quote = text[at] in "\"'"
    hint = 'a value may stand in quotes, whole: owner:"Ada Lovelace"' if quote else ""
    message = f"{text[at]} does not belong here"
    return SelectionError(message, hint=hint).at(Span(at, at + 1, text))


def _direction(text: str, at: int) -> str:
    """Whether a `+` belongs to what stands before it or to what stands after it."""
    before = at > 0 and not re.match(r"[\s&|^,(+]", text[at - 1])
    after = at + 1 < len(text) and not re.match(r"[\s&|^,)+]", text[at + 1])
    if before != after:
        return "down" if before else "up"
    message = "`+` between two names" if before else "`+` that belongs to no name"
    hint = "+NAME is with all that it needs, NAME+ with all that needs it; A | B is both"
    raise SelectionError(message, hint=hint).at(Span(at, at + 1, text))


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = _one_line(text)
        self._left = _tokens(self._text)[::-1]
        self._depth = 0

    def parse(self) -> Expression:
        found = self._union()
        if self._next.kind != "end":
            raise self._error("a parenthesis that nothing opens", self._next.span)
        return found

    @property
    def _next(self) -> _Token:
        return self._left[-1]

    def _union(self) -> Expression:
        parts = [self._difference()]
        while self._next.kind == "|" or self._next.kind in _STARTS:
            self._took("|")
            parts.append(self._difference())
        return _combined("|", parts)

    def _difference(self) -> Expression:
        parts = [self._intersection()]
        while self._took("^"):
            parts.append(self._intersection())
        return _combined("^", parts)

    def _intersection(self) -> Expression:
        parts = [self._reach()]
        while self._took("&"):
            parts.append(self._reach())
        return _combined("&", parts)

    def _reach(self) -> Expression:
        up = self._took("up")
        inner = self._operand()
        down = self._took("down")
        return Reach(inner, up, down) if up or down else inner

    def _took(self, kind: str) -> bool:
        found = self._next.kind == kind
        if found:
            self._left.pop()
        return found

    def _operand(self) -> Expression:
        token = self._left.pop()
        match token.kind:
            case "name":
                return Name(token.name, token.span)
            case "label":
                return self._label(token)
            case "(":
                return self._parenthesis(token)
        self._left.append(token)
        raise self._missing(token)

    def _label(self, token: _Token) -> Expression:
        if token.name not in (*LABELS, CHANGED):
            hint = did_you_mean(token.name, (*LABELS, CHANGED)) or (
                "names are looked for by owner:NAME, tag:NAME and changed:REVISIONS"
            )
            raise self._error(f"there is nothing to select by `{token.name}:`", token.span, hint)
        if not token.value:
            hint = "such as changed:main...HEAD" if token.name == CHANGED else ""
            raise self._error(f"nothing stands after `{token.name}:`", token.span, hint)
        if token.name == CHANGED:
            return Changed(token.value, token.span)
        return Label(token.name, token.value, token.span)

    def _parenthesis(self, opening: _Token) -> Expression:
        self._depth += 1
        if self._depth > DEEPEST:
            message = f"more than {DEEPEST} parentheses within each other"
            raise self._error(message, opening.span)
        inner = self._union()
        if not self._took(")"):
            raise self._error("a parenthesis that nothing closes", opening.span)
        self._depth -= 1
        return inner

    def _missing(self, token: _Token) -> SelectionError:
        if token.kind == "end" and not self._text.strip():
            hint = "leave --select out to have all"
            return SelectionError("the selection is empty", hint=hint)
        hint = ""
        if "^" in self._text and CHANGED in self._text:
            hint = 'a revision with ^ stands in quotes: changed:"HEAD^"'
        return self._error("a name is missing here", token.span, hint)

    def _error(self, message: str, span: Span, hint: str = "") -> SelectionError:
        return SelectionError(message, hint=hint).at(span)
