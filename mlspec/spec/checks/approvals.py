"""Approvals: who may give them can, and there are enough of them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mlspec.spec.models import Spec
from mlspec.spec.show import show
from mlspec.spec.tree import Problem

_ADDRESS = re.compile(r"[^\s@<>,;\"]{1,200}@[^\s@<>,;\"]{1,200}")


def check(spec: Spec) -> Iterator[Problem]:
    """Every problem of the approvers of targets that there are."""
    for name, people in spec.policy.approvers.items():
        at = ("policy", "approvers", name)
        for index, each in enumerate(people):
            if not _ADDRESS.fullmatch(each):
                message = f"{show(each)} is not an address that Git knows somebody by"
                yield Problem("MLS105", (*at, index), message, "write NAME@HOST, as in `git log`")
        if name not in spec.targets:
            continue
        asked, known = spec.targets[name].approvals, len({each.lower() for each in people})
        if not asked:
            message = f"target `{name}` asks for no approvals, so nobody has to give one"
            hint = f"add `targets.{name}.approvals: 1`, or remove this"
            yield Problem("MLS105", at, message, hint, on_key=True)
        elif known < asked:
            message = f"target `{name}` asks for {asked} approvals, and {known} may give one"
            yield Problem("MLS105", at, message, "name more people, or ask for fewer", on_key=True)
