"""What was renamed: from the `moved` of a spec to who is who.

A name may have changed more than once, so the entries may be links of a chain.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mlspec.spec.models import Move


@dataclass(frozen=True, slots=True)
class Renames:
    """Addresses: `now` is the present one of each former one, `former` the other way round.

    Of several former ones the latest comes first.
    """

    now: Mapping[str, str] = field(default_factory=dict)
    former: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def former_names(self, kind: str, name: str) -> tuple[str, ...]:
        """What the model, the deployment or the dataset `name` was called before."""
        return tuple(a.partition(".")[2] for a in self.former.get(f"{kind}.{name}", ()))

    def name_now(self, kind: str, name: str) -> str | None:
        """What is called otherwise now; none for what was not renamed."""
        address = self.now.get(f"{kind}.{name}")
        return address.partition(".")[2] if address is not None else None


def renames_of(moved: Iterable[Move]) -> Renames:
    """The renames of a spec that is right."""
    before = {move.to: move.from_ for move in moved}
    now: dict[str, str] = {}
    former: dict[str, tuple[str, ...]] = {}
    for last in before.keys() - set(before.values()):
        chain = [last]
        while chain[-1] in before:
            chain.append(before[chain[-1]])
        former[last] = tuple(chain[1:])
        now.update(dict.fromkeys(chain[1:], last))
    return Renames(dict(sorted(now.items())), dict(sorted(former.items())))
