"""What a deployment serves of a version: its artifact, or that as ONNX.

The spec says whether ONNX may be served, the version whether it is: that was decided when the two
were compared, and is not asked again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlspec.compilers.bento import CONVERTED
from mlspec.ledger.records import File, Version
from mlspec.resources import DeploymentResource
from mlspec.spec.suggest import did_you_mean


@dataclass(frozen=True, slots=True)
class Served:
    """The texts of a service by name and the folder they are in, what it serves, and why so."""

    texts: Mapping[str, str]
    folder: str
    file: File
    signature: Mapping[str, Any] | None
    said: str


def choose_served(resource: DeploymentResource, version: Version) -> Served:
    """Of a version that has an artifact."""
    assert version.artifact is not None
    folder, conversion = f"services/{resource.name}", version.conversion
    if not resource.converted or conversion is None:
        return Served(resource.service, folder, version.artifact, version.signature, "")
    if conversion.file is None:
        said = conversion.said
        return Served(resource.service, folder, version.artifact, version.signature, said)
    return Served(
        resource.converted,
        f"{folder}/{CONVERTED}",
        conversion.file,
        conversion.signature,
        conversion.said,
    )


def find_unknown(
    names: Sequence[str], signature: Mapping[str, Any] | None
) -> tuple[str, str] | None:
    """The first of these names that is no column of what is served, and which may be meant."""
    columns = [str(column["name"]) for column in (signature or {}).get("columns", ())]
    for name in names:
        if name not in columns:
            return name, did_you_mean(name, columns) or f"its columns: {', '.join(columns)}"
    return None
