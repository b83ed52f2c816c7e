"""`defaults`: what every model, dataset or deployment has unless it says otherwise."""

from __future__ import annotations

from collections.abc import Iterator

from mlspec.spec.models import DEFAULTABLE, TEMPLATE_KEYS
from mlspec.spec.suggest import did_you_mean, known_words, mapping_expected
from mlspec.spec.tree import Node, Problem


def check_defaults(top: Node) -> Iterator[Problem]:
    """Problems of the `defaults` section itself; its values are checked in each member."""
    defaults = _section(top, "defaults")
    if defaults is None:
        return
    if not isinstance(defaults.value, dict):
        yield mapping_expected(("defaults",), defaults)
        return
    for section, node in defaults.value.items():
        path = ("defaults", section)
        if section not in DEFAULTABLE:
            hint = did_you_mean(section, DEFAULTABLE) or known_words(DEFAULTABLE)
            yield Problem("MLS010", path, "has no defaults", hint, on_key=True)
        elif not isinstance(node.value, dict):
            yield mapping_expected(path, node)
        else:
            fields = DEFAULTABLE[section].model_fields
            for key in node.value.keys() - fields.keys():
                hint = did_you_mean(key, fields) or known_words(fields)
                yield Problem("MLS010", (*path, key), "unknown key", hint, on_key=True)


def merge_defaults(top: Node) -> Node:
    """The tree without `defaults`, each member completed from them; what a member says wins."""
    defaults = _section(top, "defaults")
    assert isinstance(top.value, dict)
    value = {key: node for key, node in top.value.items() if key != "defaults"}
    if defaults is not None and isinstance(defaults.value, dict):
        for section, given in defaults.value.items():
            members = value.get(section)
            if section in DEFAULTABLE and members is not None:
                value[section] = _complete_members(members, usable(given))
    keys = {key: node for key, node in top.keys.items() if key in value}
    return top.holding(value, keys)


def usable(given: Node) -> Node:
    """What defaults may say: not which members there are, which each model says for itself."""
    if not isinstance(given.value, dict) or given.value.keys().isdisjoint(TEMPLATE_KEYS):
        return given
    value = {key: node for key, node in given.value.items() if key not in TEMPLATE_KEYS}
    return given.holding(value, given.keys)


def _complete_members(members: Node, given: Node) -> Node:
    if not isinstance(members.value, dict) or not isinstance(given.value, dict):
        return members
    value = {name: complete(member, given) for name, member in members.value.items()}
    return members.holding(value, members.keys)


def complete(member: Node, given: Node) -> Node:
    """Mappings are completed key by key; anything else that the member says stands as it is."""
    if not isinstance(member.value, dict) or not isinstance(given.value, dict):
        return member
    value = dict(member.value)
    for key, node in given.value.items():
        value[key] = complete(value[key], node) if key in value else node
    return member.holding(value, {**given.keys, **member.keys})


def _section(top: Node, name: str) -> Node | None:
    return top.value.get(name) if isinstance(top.value, dict) else None
