"""Files with secrets that the spec names and nobody but the service reads: their paths in, checked.

They are on the machine where a deployment runs, outside of the repository: what is in it may be
committed.
"""

from __future__ import annotations

from pathlib import Path

from mlspec.errors import MlspecError


def find_secret(written: str, root: Path, where: str) -> Path:
    """The file at the path `written`; `where` is who needs it."""
    path = Path(written)
    if not path.is_file():
        raise MlspecError(
            f"{where}: {written} is not a file of this machine",
            hint="put it there; the spec names it, and nothing of mlspec copies it",
        )
    if path.resolve().is_relative_to(root.resolve()):
        raise MlspecError(
            f"{where}: {written} is in the repository, where secrets do not belong",
            hint="keep it in a folder outside, such as /etc/mlspec",
        )
    return path
