"""What `mlspec gc` would remove and what it keeps, for people.

Comes in: a :class:`~mlspec.planner.garbage.Garbage`. Goes out: text. Much that is alike is one row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from mlspec.planner.garbage import Freed, Garbage, Removal, show_bytes, show_numbers
from mlspec.planner.keeping import Kept, Why
from mlspec.render.style import Style, escape

_MOST = 20
"""Models that are shown; the rest is one row."""
_NAMED = 2
"""Of versions that are kept for the same reason, so many are named."""


def render_garbage(plan: Garbage, style: Style, left_alone: Sequence[str] = ()) -> str:
    """The plan: what goes and from where, then what stays and why."""
    lines = [*_removed(plan, style)] if not plan.empty else ["Nothing to remove."]
    lines += [*_notes(plan, left_alone)]
    kept = [*_kept(plan)]
    if kept:
        lines += ["", "Kept:", *kept]
    return "\n".join(lines)


def _removed(plan: Garbage, style: Style) -> Iterator[str]:
    rows = [
        (f"{escape(freed.address)}", _what(freed), show_bytes(freed.size)) for freed in _most(plan)
    ]
    for kind in ("release", "logs"):
        files = [file for file in plan.files if file.kind == kind]
        if files:
            what = "release that nothing serves" if kind == "release" else "folder of old logs"
            plural = what.replace("release that", "releases that").replace("folder", "folders")
            said = f"{len(files)} {what if len(files) == 1 else plural}"
            rows.append((kind, said, show_bytes(sum(file.size for file in files))))
    yield "To remove for good:"
    wide = [max(len(row[column]) for row in rows) for column in range(2)]
    for name, what, size in rows:
        line = f"{name.ljust(wide[0])}  {what.ljust(wide[1])}  {size}"
        yield f"  {style.paint('-', 'red')} {line}"
    places = [f"{_objects(r)} from {_place(r)}" for r in plan.removals if r.objects]
    yield ""
    yield f"Frees {show_bytes(plan.size)}{': ' if places else ''}{'; '.join(places)}."


def _most(plan: Garbage) -> Sequence[Freed]:
    """The models that lose most, and the sum of the others."""
    if len(plan.freed) <= _MOST:
        return plan.freed
    largest = sorted(plan.freed, key=lambda freed: -freed.size)
    some, rest = largest[: _MOST - 1], largest[_MOST - 1 :]
    other = Freed(
        f"{len(rest)} others",
        (),
        sum(freed.runs for freed in rest),
        sum(freed.objects for freed in rest),
        sum(freed.size for freed in rest),
    )
    return (*some, other)


def _what(freed: Freed) -> str:
    parts = []
    if freed.versions:
        plural = "s" * (len(freed.versions) > 1)
        parts.append(f"version{plural} {show_numbers(freed.versions)}")
    if freed.runs:
        parts.append(f"what {_count(freed.runs, 'run')} wrote")
    if not parts:
        parts.append(_count(freed.objects, "object"))
    return ", ".join(parts)


def _notes(plan: Garbage, left_alone: Sequence[str]) -> Iterator[str]:
    """What is not touched though one might expect it."""
    for removal in plan.removals:
        if removal.refused:
            yield f"Left alone is {_place(removal)}: {removal.refused}."
            if removal.strangers:
                yield "  `--shared` removes there what this repository made and needs no more."
        if removal.unrecorded:
            many = _count(removal.unrecorded, "object")
            yield f"Left alone: {many} in {_place(removal)} that commits tell of, but no record."
            yield "  `--shared` removes them, too, if this is no fork of what may need them."
        if removal.strangers:
            size = show_bytes(removal.strangers_size)
            many = _count(removal.strangers, "object")
            yield f"Not known here and never touched: {many} in {_place(removal)}, {size}."
    for why in left_alone:
        yield f"Left alone: {escape(why)}."
    if plan.lost_folders:
        yield (
            f"Of {_count(plan.lost_folders, 'folder')} that "
            "something needs, the list is nowhere here: no file of any folder is removed."
        )


def _kept(plan: Garbage) -> Iterator[str]:
    for kind, prefix in (("version", "model."), ("run", "stage.")):
        kept = [each for each in plan.kept if each.address.startswith(prefix)]
        for why in Why:
            same = [each for each in kept if each.why is why]
            if same:
                many = _count(len(same), kind)
                yield f"  {many}: {_reason(why, plan)}{_examples(same, kind)}"
    for removal in plan.removals:
        many = _count(removal.kept, "object")
        yield f"  {many} in {_place(removal)}, {show_bytes(removal.kept_size)}"


def _reason(why: Why, plan: Garbage) -> str:
    match why:
        case Why.NEWEST:
            return f"among the newest {plan.rules.keep_versions} of the model"
        case Why.RECENT:
            return f"of the last {plan.rules.keep_days} days"
        case Why.BEFORE:
            return "to go back to"
        case _:
            return why.value


def _examples(kept: Sequence[Kept], kind: str) -> str:
    """Versions by name; of runs only what asks for them."""
    if kind == "run":
        named = list(dict.fromkeys(each.by for each in kept if each.by))
    else:
        named = [f"{each.address}{': ' * bool(each.by)}{each.by}" for each in kept]
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    return f" ({escape(_list(named[:_NAMED]))}{more})" if named else ""


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)


def _objects(removal: Removal) -> str:
    return f"{_count(len(removal.objects), 'object')}, {show_bytes(removal.size)},"


def _place(removal: Removal) -> str:
    return "the cache" if removal.name == "cache" else f"{removal.name} ({escape(removal.where)})"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
