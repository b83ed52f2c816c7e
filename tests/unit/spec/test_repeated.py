"""What many have is told once or a few times."""

from __future__ import annotations

from mlspec.errors import Diagnostic
from mlspec.spec.repeated import Repeated


def tell(*messages: str, hint: str = "mend it") -> list[tuple[str, str, int]]:
    """What is told of messages whose kind is their first word, two of each kind."""
    found = Repeated(2, "others")
    for message in messages:
        if found.is_new(message, message.split()[0]):
            found.told.append(Diagnostic("MLS000", message, hint=hint))
    return [(each.message, each.hint, each.more) for each in found.told]


def test_a_few_of_a_kind_are_told_and_all_are_counted() -> None:
    assert tell("a 1", "b 1", "a 2", "a 3", "b 2", "a 4") == [
        ("a 1", "mend it", 0),
        ("b 1", "mend it", 0),
        ("a 2", "mend it", 2),
        ("b 2", "mend it", 0),
    ]


def test_equal_ones_are_told_once() -> None:
    assert tell("a 1", "a 1", "a 2", "a 1") == [
        ("a 1", "mend it (others have it too)", 0),
        ("a 2", "mend it", 0),
    ]


def test_others_are_told_of_without_a_hint() -> None:
    assert tell("a 1", "a 1", hint="") == [("a 1", "others have it too", 0)]
