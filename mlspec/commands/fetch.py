"""`mlspec fetch`: bring what others made, or tell its digest.

It is what the stage of a model with `from` runs, so it knows nothing of the spec.
"""

from __future__ import annotations

import os
from pathlib import Path

from mlspec.errors import MlspecError
from mlspec.fetching import MOST, Source, fetch
from mlspec.render.console import Console
from mlspec.render.style import escape
from mlspec.spec.checks.origins import check_origin
from mlspec.spec.models import Origin


def run_fetch(
    start: Path, console: Console, origin: Origin, *, to: str, most: int | None, as_json: bool
) -> int:
    """Have what `origin` says at the path `to`; without one, say which digest it has."""
    for problem in check_origin(origin, pinned=bool(to)):
        raise MlspecError(f"{problem.message} ({problem.code})", hint=problem.hint)
    source = Source(
        url=origin.url or "",
        git=origin.git or "",
        rev=origin.rev or "",
        hf_folder=str(start / origin.hf_folder) if origin.hf_folder else "",
        oci=origin.oci or "",
        path=origin.path or "",
        unpack=origin.unpack or "",
        token=_token(origin.token_env),
        most=most or MOST,
    )
    place = start / to if to else None
    got = fetch(source, origin.digest, place, console.note, root=start)
    if as_json:
        console.say_json({"digest": got.digest, "size": got.size})
    elif to:
        console.say(f"{escape(to)}: {got.size:,} bytes, {got.digest}")
    else:
        console.say(f"digest: {got.digest}\n# {got.size:,} bytes")
    return 0


def _token(variable: str | None) -> str:
    if variable is None:
        return ""
    value = os.environ.get(variable, "")
    if not value or not value.isprintable():
        raise MlspecError(
            f"the variable {variable} holds no token", hint="set it where the model is fetched"
        )
    return value
