"""Records of older schemas, as those of the present one.

Comes in: what a record's file holds, and the schema it was written by. Goes out: what it would hold
now. A plan reads older ledgers this way; the first record that is written takes all others along,
in the same commit.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from mlspec.errors import MlspecError
from mlspec.plan import canonical_json

Migration = Callable[[str, Any], Any]
"""From a record's path and content in one schema to its content in the next."""

MIGRATIONS: dict[int, Migration] = {}
"""By the schema that they start from; none is ever removed, so that every ledger can be read."""


def migrate(path: str, data: bytes, schema: int, *, to: int) -> bytes:
    """The record at `path`, written by `schema`, in the schema `to`."""
    if schema == to:
        return data
    try:
        content = json.loads(data)
        for step in range(schema, to):
            content = MIGRATIONS[step](path, content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MlspecError(
            f"the ledger's {path} cannot be taken from schema {schema} to {to}: {error!r}",
            hint="mlspec fsck tells whether the ledger is whole",
        ) from error
    return canonical_json(content).encode() + b"\n"
