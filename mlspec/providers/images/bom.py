"""A bill of materials: the packages of an image, as CycloneDX 1.5, the same bytes each time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

LIST_CODE = """
import importlib.metadata, json
def licence(found):
    return (found.metadata["License-Expression"] or found.metadata["License"] or "")[:100]
found = importlib.metadata.distributions()
print(json.dumps(sorted({(each.metadata["Name"], each.version, licence(each)) for each in found})))
"""
"""Run inside an image, prints [name, version, licence] of each package that is installed."""


def render_bom(about: Mapping[str, str], packages: Iterable[tuple[str, str, str]]) -> str:
    """The document. `about` are {name, version, digest} of the image, `packages` name, version and
    licence of each."""
    image = {
        "type": "container",
        "bom-ref": about["digest"],
        "name": about["name"],
        "version": about["version"],
        "hashes": [{"alg": "SHA-256", "content": about["digest"].removeprefix("sha256:")}],
    }
    components = [_component(*package) for package in sorted(packages)]
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": image},
        "components": components,
        "dependencies": [
            {"ref": about["digest"], "dependsOn": [each["bom-ref"] for each in components]},
            *({"ref": each["bom-ref"]} for each in components),
        ],
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _component(name: str, version: str, licence: str) -> dict[str, Any]:
    url = f"pkg:pypi/{name.lower().replace('_', '-')}@{version}"
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": url,
        "name": name,
        "version": version,
        "purl": url,
    }
    if licence and "\n" not in licence:
        component["licenses"] = [{"license": {"name": licence}}]
    return component
