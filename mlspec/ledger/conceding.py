"""Which local records give way when the remote's ledger has others about the same things.

Comes in: what changed here and there since both were one. Goes out: the files to leave out when the
local records are put on top of the remote's. Their entries stay, so the audit tells what was done.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

from mlspec.ledger.entry import Entry

_NOTE = "not kept, for the remote's ledger has other records"


def find_conceded(
    theirs: Mapping[str, str], ours: Sequence[tuple[str, str]], read: Callable[[str], bytes]
) -> frozenset[str]:
    """The paths of `ours` that give way to `theirs`; both are paths with the ids of new contents.

    Of a model that both changed, the remote's versions, candidates and state are one whole, which
    is taken or left; runs are facts by themselves. What is deployed goes with its version.
    """
    clashing = {path for path, oid in ours if theirs.get(path, oid) != oid}
    models = {folder for path in clashing if (folder := _model_folder(path))}
    names = {folder.rpartition("/")[2] for folder in models}

    def gives_way(path: str, oid: str) -> bool:
        if path in clashing:
            return True
        if (folder := _model_folder(path)) in models:
            return not path.startswith(f"{folder}/runs/")
        return bool(oid and path.startswith("deployments/") and _serves(read(oid)) in names)

    return frozenset(path for path, oid in ours if gives_way(path, oid))


def note_conceded(entry: Entry) -> Entry:
    """The entry of what was done, whose records were left out."""
    detail = "; ".join(filter(None, [entry.detail, _NOTE]))
    return entry.model_copy(update={"detail": detail})


def _model_folder(path: str) -> str:
    """The folder of the model that a file is about; none for others."""
    parts = path.split("/")
    return "/".join(parts[:3]) if parts[0] == "models" and len(parts) > 3 else ""


def _serves(data: bytes) -> str:
    """The model that a record of a deployment names."""
    return str(json.loads(data)["model"])
