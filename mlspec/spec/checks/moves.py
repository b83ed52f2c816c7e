"""What was renamed or is to be forgotten: who that is, and that it left the spec."""

from __future__ import annotations

from collections.abc import Iterator

from mlspec.spec.checks.graph import cycles, describe
from mlspec.spec.checks.names import Names, is_fine
from mlspec.spec.models import Spec
from mlspec.spec.show import show
from mlspec.spec.suggest import did_you_mean
from mlspec.spec.tree import Path, Problem

_MOVED = ("model", "deployment", "dataset")
_REMOVED = ("model", "deployment")


def check(spec: Spec, names: Names) -> Iterator[Problem]:
    """Every problem of `moved` and `removed`."""
    yield from _moved(spec, names)
    for index, address in enumerate(spec.removed):
        yield from _removed(address, ("removed", index), spec, names)


def _moved(spec: Spec, names: Names) -> Iterator[Problem]:
    sources: dict[str, int] = {}
    goals: dict[str, int] = {}
    left = {move.from_ for move in spec.moved}
    for index, move in enumerate(spec.moved):
        first, last = ("moved", index, "from"), ("moved", index, "to")
        wrong = [*_address(move.from_, first), *_address(move.to, last)]
        if wrong:
            yield from wrong
            continue
        kind = move.from_.partition(".")[0]
        if kind != move.to.partition(".")[0]:
            yield Problem("MLS033", last, f"{show(move.from_)} cannot become {show(move.to)}")
        elif move.from_ in sources:
            message = f"{show(move.from_)} is moved twice"
            yield Problem("MLS033", first, message, "keep one of the two")
        elif move.to in goals:
            message = f"two things become {show(move.to)}"
            yield Problem("MLS033", last, message, "keep one of the two")
        elif _declares(move.from_, names):
            message = f"{show(move.from_)} is still in the spec"
            hint = f"rename it there to `{move.to.partition('.')[2]}`, or remove this entry"
            yield Problem("MLS033", first, message, hint)
        elif not _declares(move.to, names) and move.to not in left:
            name = move.to.partition(".")[2]
            if not (kind == "model" and names.may_be_member(name)):
                hint = did_you_mean(name, names.within(f"{kind}s"))
                gone = "write its present name, or remove this entry if it is gone"
                yield Problem("MLS040", last, f"no {kind} {show(name)}", hint or gone)
        sources.setdefault(move.from_, index)
        goals.setdefault(move.to, index)
    for cycle in cycles({move.from_: [move.to] for move in spec.moved}):
        path = ("moved", sources.get(cycle[0], 0), "from")
        message = f"names go round in a circle: {describe(cycle)}"
        yield Problem("MLS033", path, message, "remove one of these entries")


def _address(address: str, path: Path) -> Iterator[Problem]:
    kind, _, name = address.partition(".")
    if kind not in _MOVED or not is_fine(name):
        message = f"{show(address)} is nothing that has a name to change"
        hint = "write model.NAME, deployment.NAME or dataset.NAME"
        yield Problem("MLS033", path, message, hint)


def _removed(address: str, path: Path, spec: Spec, names: Names) -> Iterator[Problem]:
    whole, at, target = address.partition("@")
    kind, _, name = whole.partition(".")
    fits = kind in _REMOVED and is_fine(name)
    if not fits or (at and (kind == "model" or not is_fine(target))):
        message = f"{show(address)} is nothing that can be forgotten"
        hint = "write model.NAME, deployment.NAME or deployment.NAME@TARGET"
        yield Problem("MLS034", path, message, hint)
        return
    deployment = spec.deployments.get(name) if kind == "deployment" else None
    here = target in deployment.targets if at and deployment else _declares(whole, names)
    if here:
        hint = "take it out of the spec, or take this entry out"
        yield Problem("MLS034", path, f"{show(address)} is still in the spec", hint)
    elif any(move.from_ == whole for move in spec.moved):
        message = f"{show(address)} is moved, so it cannot be forgotten too"
        yield Problem("MLS034", path, message, "remove one of the two entries")


def _declares(address: str, names: Names) -> bool:
    kind, _, name = address.partition(".")
    return name in names.within(f"{kind}s")
