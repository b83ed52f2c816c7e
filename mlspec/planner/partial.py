"""The part of a plan that a selection leaves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mlspec.plan import Action, Held, Step
from mlspec.planner.moves import moved_to

if TYPE_CHECKING:
    from mlspec.selection import Selected


def keep_selected(
    steps: Sequence[Step], selection: Selected
) -> tuple[tuple[Step, ...], tuple[Held, ...]]:
    """The selected ones of the ordered `steps` that need no other, and why the rest must wait.

    Nothing is deleted: what left the spec has no address in it that could be selected. What has
    another name now is moved if that is selected, or something that needs it; then the pipeline
    under the former name goes, whose runs are taken over.
    """
    planned = {step.address for step in steps}
    needed = {each for step in steps if step.address in selection for each in step.after}
    kept: dict[str, Step] = {}
    held = []
    for step in steps:
        if step.address not in selection or step.action is Action.DELETE:
            leaves = step.action in (Action.DELETE, Action.MOVE) and step.address in needed
            if leaves or moved_to(step) in selection.addresses:
                kept[step.address] = step
            continue
        lacking = [each for each in step.after if each in planned and each not in kept]
        if not lacking:
            kept[step.address] = step
            continue
        other = next((each for each in lacking if each not in selection), None)
        reason = (
            f"it comes after {lacking[0]}, which is left as it is"
            if other is None
            else selection.lacks(step.address, other)
        )
        held.append(Held(step.address, reason))
    return tuple(kept.values()), tuple(held)
