"""`mlspec fetch`: bring what others made, or tell its digest.

It is what the stage of a model with `from` runs, so it knows nothing of the spec.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from mlspec.errors import MlspecError
from mlspec.fetching import MOST, Source, fetch
from mlspec.fetching.sink import Got
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
    if to:
        got = fetch(source, origin.digest, start / to, console.note, root=start)
    else:
        with TemporaryDirectory() as scratch:
            got = fetch(source, origin.digest, None, console.note, root=Path(scratch))
    if as_json:
        console.say_json({"digest": got.digest, "size": got.size})
    elif to:
        console.say(f"{escape(to)}: {got.size:,} bytes, {got.digest}")
    else:
        console.say("\n".join(_for_the_spec(origin, got)))
    return 0


def _for_the_spec(origin: Origin, got: Got) -> Iterator[str]:
    """What to write into the spec, where only the licence is left to say."""
    yield "from:"
    for key, value in origin.record.items():
        if key == "oci":
            value = re.sub(r":[^:/]*\Z", "", value)  # the digest says what of it
        if key not in ("digest", "licence"):
            yield f"  {key}: {json.dumps(escape(value), ensure_ascii=False)}"
    yield f'  digest: "{got.digest}"'
    yield f"  licence: ...  # {got.size:,} bytes"


def _token(variable: str | None) -> str:
    if variable is None:
        return ""
    value = os.environ.get(variable, "")
    if not value or not value.isprintable():
        raise MlspecError(
            f"the variable {variable} holds no token", hint="set it where the model is fetched"
        )
    return value
