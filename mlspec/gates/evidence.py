"""What a gate may look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Champion:
    """The version that a candidate is compared with, what it measured and what that was read from.

    `read` has the md5 of what the measuring stages read besides the artifact, by path.
    """

    version: int
    fingerprint: str
    metrics: Mapping[str, float]
    read: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Evidence:
    """A candidate's fingerprint and metrics, and the champion if there is one.

    `read` is to the candidate what :attr:`Champion.read` is to the champion.
    """

    fingerprint: str
    metrics: Mapping[str, float]
    champion: Champion | None = None
    read: Mapping[str, str] = field(default_factory=dict)
