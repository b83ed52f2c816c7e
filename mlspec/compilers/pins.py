"""The GitHub actions that generated workflows use, each by the commit of a release.

This is the only place to update one. A tag can be moved, a commit can't.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlspec.compilers.yaml_text import Noted


@dataclass(frozen=True, slots=True)
class Pin:
    """An action of a repository (`owner/name`) at a release and its commit."""

    repository: str
    release: str
    commit: str

    @property
    def name(self) -> str:
        """The name of the repository, without its owner."""
        return self.repository.partition("/")[2]

    @property
    def uses(self) -> Noted:
        """The value of `uses:`, with the release beside it for people and for update tools."""
        return Noted(f"{self.repository}@{self.commit}", self.release)


CHECKOUT = Pin("actions/checkout", "v6.0.2", "de0fac2e4500dabe0009e67214ff5f5447ce83dd")
SETUP_PYTHON = Pin("actions/setup-python", "v6.2.0", "a309ff8b426b58ec0e2a45f0f869d46889d02405")
UPLOAD_ARTIFACT = Pin(
    "actions/upload-artifact", "v5.0.0", "330a01c490aca151604b8cf639adc76d48f6c5d4"
)
