"""`mlspec declare`: what a model is that answers over HTTP, written down as its artifact.

The command of a stage that nobody writes: the model itself is elsewhere, so its version is one of
what is declared of it, and changes when that does.
"""

from __future__ import annotations

import json
from pathlib import Path

from mlspec.errors import MlspecError
from mlspec.render.console import Console
from mlspec.render.style import escape


def run_declare(start: Path, console: Console, path: str, text: str) -> int:
    """Write the JSON object `text` to `path`, with a line for each key."""
    try:
        said = json.loads(text)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise MlspecError(
            "what is declared is not a JSON object",
            hint="mlspec runs this command for models of the format http",
        )
    place = start / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(said, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    console.say(f"{escape(path)}: {escape(str(said.get('url', '')))}")
    return 0
