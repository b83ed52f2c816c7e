"""What an expression stands for. Comes in: it, and the graph. Goes out: :class:`Selected`.

Each address is visited once for each `+`, so a selection of ten thousand models is quick.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from fnmatch import translate
from os.path import commonprefix

from mlspec.selection.expression import (
    Changed,
    Combined,
    Expression,
    Label,
    Name,
    Reach,
    SelectionError,
    Span,
)
from mlspec.selection.graph import Graph
from mlspec.spec.suggest import did_you_mean, known_words

KINDS = ("model", "stage", "gate", "dataset", "deployment", "file")
_FORMS = (
    "addresses are model.NAME, stage.MODEL.NAME, gate.MODEL.NAME, dataset.NAME and "
    "deployment.NAME@TARGET; * stands for any text"
)

Touched = Callable[[str], Collection[str]]
"""The addresses of what changed between revisions, given as `main...HEAD` or `HEAD~1`."""


@dataclass(frozen=True, slots=True)
class Selected:
    """The addresses that `text` stands for, generated files among them."""

    text: str
    addresses: frozenset[str]
    _graph: Graph = field(repr=False, compare=False)

    def __contains__(self, address: str) -> bool:
        return address in self.addresses

    def __len__(self) -> int:
        return len(self.addresses)

    def lacks(self, address: str, needed: str) -> str:
        """Why a step at `address` cannot be done without `needed`, which is not selected."""
        kind, _, rest = address.partition(".")
        whole = f"model.{rest.partition('.')[0]}" if kind in ("stage", "gate") else address
        declared = address in self._graph and needed in self._graph.upstream(address)
        mend = f"select +{whole}" if declared else f"select {needed} too"
        return f"it needs {needed}, which is not selected: {mend}"


def select(expression: Expression, graph: Graph, touched: Touched) -> Selected:
    """What `expression` stands for; raises :class:`SelectionError` if that is nothing."""
    found = _Evaluation(graph, touched).of(expression)
    if not found:
        empty = f"`{expression}` selects nothing"
        raise SelectionError(empty, hint=_why_empty(expression))
    files = (file for address in tuple(found) for file in graph.files(address))
    return Selected(str(expression), frozenset(found.union(files)), graph)


def _why_empty(expression: Expression) -> str:
    match expression:
        case Changed():
            return "no resource of the spec was touched"
        case Reach(of=inner):
            return _why_empty(inner)
        case Combined(operator="&"):
            return "each part stands for something, and nothing is in all of them"
        case Combined(operator="^"):
            return "everything in the first part is in one of the others too"
    return ""


class _Evaluation:
    def __init__(self, graph: Graph, touched: Touched) -> None:
        self._graph = graph
        self._touched = touched

    def of(self, expression: Expression) -> set[str]:
        match expression:
            case Name():
                return self._name(expression)
            case Label():
                return self._label(expression)
            case Changed(revisions=revisions, span=span):
                try:
                    return {each for each in self._touched(revisions) if each in self._graph}
                except SelectionError as error:
                    raise error.at(span) from error
            case Reach(of=inner, up=up, down=down):
                found = self.of(inner)
                needed = _closure(found, self._graph.upstream) if up else found
                return needed | (_closure(found, self._graph.downstream) if down else found)
            case Combined(operator="|", parts=parts):
                return set().union(*map(self.of, parts))
            case Combined(operator="&", parts=parts):
                return set.intersection(*map(self.of, parts))
            case Combined(parts=(first, *others)):
                return self.of(first).difference(*map(self.of, others))
            case _:
                raise AssertionError(expression)

    def _name(self, name: Name) -> set[str]:
        """A model stands for its stages and gates too, a deployment for each of its targets."""
        if name.text == "*":
            return set(self._graph.everything())
        kind, dot, rest = name.text.partition(".")
        if not dot:
            return self._alone(name)
        if kind not in KINDS:
            hint = did_you_mean(name.text, (f"{known}.{rest}" for known in KINDS)) or _FORMS
            raise _error(f"there are no resources of the kind `{kind}`", name.span, hint)
        found = self._whole(self._match(kind, rest))
        if not found:
            self._refuse_matrix(name, kind, *rest.partition(".")[::2])
            message = f"nothing has the address `{name.text}`"
            raise _error(message, name.span, self._near(kind, rest))
        return found

    def _alone(self, name: Name) -> set[str]:
        """A name without its kind: of a model or of a dataset."""
        found = [*self._match("model", name.text), *self._match("dataset", name.text)]
        if len(found) > 1 and not _is_pattern(name.text):
            message = f"`{name.text}` is the name of a model and of a dataset"
            raise _error(message, name.span, f"write {found[0]} or {found[1]}")
        if found:
            return self._whole(found)
        self._refuse_matrix(name, "model", name.text)
        if name.text in self._graph.spec.served:
            hint = f"there is a deployment of that name: deployment.{name.text}"
        else:
            graph = self._graph
            known = (*graph.matrices, *graph.models, *graph.spec.datasets)
            hint = did_you_mean(name.text, known)
        message = f"no model and no dataset has the name `{name.text}`"
        raise _error(message, name.span, hint or _FORMS)

    def _refuse_matrix(self, name: Name, kind: str, model: str, inner: str = "") -> None:
        """Raise if a model is named that a `matrix` makes many of, with what selects them all."""
        members = self._graph.matrices.get(model) if kind in ("model", "stage", "gate") else ()
        if not members:
            return
        own = f"{model}-"
        # Names are no paths: what they share may end within a word.
        shared = own if all(each.startswith(own) for each in members) else commonprefix(members)  # noqa: RUF071
        others = sum(each.startswith(shared) for each in self._graph.models) - len(members)
        rest = f"{shared}*.{inner}" if inner else f"{shared}*"
        if not any(self._match(kind, rest)):
            kind, rest = "model", f"{shared}*"
        hint = f"'{kind}.{rest}' selects " + ("all of them" if len(members) > 1 else "it")
        if others:
            hint = self._tag_of(members) or f"{hint}, and {others:,} other models"
        many = f"{len(members):,} models" if len(members) > 1 else "one model"
        message = f"`{model}` is a matrix of {many}, such as `{members[0]}`, and no model itself"
        raise _error(message, name.span, hint)

    def _tag_of(self, models: Collection[str]) -> str:
        """The tag that these have and no others."""
        wanted = {f"model.{each}" for each in models}
        for tag, addresses in self._graph.labelled("tag").items():
            if wanted == {each for each in addresses if each.startswith("model.")}:
                return f"tag:{tag} selects all of them"
        return ""

    def _match(self, kind: str, name: str) -> Iterable[str]:
        address = f"{kind}.{name}"
        of_each_target = kind == "deployment" and "@" not in name
        if not _is_pattern(name):
            if of_each_target and name in self._graph.spec.served:
                return self._graph.served(name)
            return (address,) if address in self._graph else ()
        matches = re.compile(translate(f"{address}@*" if of_each_target else address)).match
        return filter(matches, self._graph.of(kind))

    def _whole(self, addresses: Iterable[str]) -> set[str]:
        found = set[str]()
        for address in addresses:
            kind, _, rest = address.partition(".")
            found.update(self._graph.unit(rest) if kind == "model" else (address,))
        return found

    def _near(self, kind: str, name: str) -> str:
        """What the writer of an address that nothing has may have meant."""
        if _is_pattern(name):
            return _FORMS
        if kind == "model" and "@" in name:
            return "a selection is of models as they are declared, not of their versions"
        if kind == "deployment" and "@" in name:
            deployment = name.partition("@")[0]
            if deployment in self._graph.spec.served:
                return known_words(self._graph.served(deployment))
        known: Iterable[str] = self._graph.of(kind)
        if kind in ("stage", "gate"):
            model = name.partition(".")[0]
            if model in self._graph.models:
                own = [each for each in self._graph.unit(model) if each.startswith(f"{kind}.")]
                return known_words(own) if own else f"it has no {kind}s"
            inner = name.partition(".")[2]
            known = (f"{kind}.{each}.{inner}" for each in self._graph.models)
        elif kind == "deployment":
            known = (f"deployment.{each}" for each in self._graph.spec.served)
            name = name.partition("@")[0]
        return did_you_mean(f"{kind}.{name}", known) or _FORMS

    def _label(self, label: Label) -> set[str]:
        known = self._graph.labelled(label.key)
        if _is_pattern(label.value):
            matches = re.compile(translate(label.value)).match
            found = [each for value, each in known.items() if matches(value)]
        else:
            found = [known[label.value]] if label.value in known else []
        if found:
            return set().union(*found)
        what = "belongs to" if label.key == "owner" else "has the tag"
        some = known_words(known) if known else f"the spec names no {label.key}"
        hint = did_you_mean(label.value, known) or some
        raise _error(f"nothing {what} `{label.value}`", label.span, hint)


def _is_pattern(text: str) -> bool:
    return any(char in text for char in "*?[")


def _closure(found: Iterable[str], neighbours: Callable[[str], Iterable[str]]) -> set[str]:
    reached, left = set(found), list(found)
    while left:
        for address in neighbours(left.pop()):
            if address not in reached:
                reached.add(address)
                left.append(address)
    return reached


def _error(message: str, span: Span, hint: str) -> SelectionError:
    return SelectionError(message, hint=hint).at(span)
