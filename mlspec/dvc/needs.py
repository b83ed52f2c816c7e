"""Which objects a file of DVC names. Comes in: the bytes of a `dvc.lock` or a `.dvc` file.

What is needed is taken from the text, whatever its form: every md5 in it counts. What a file says
that it made is taken from its YAML, and is nothing where that is not as DVC writes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from mlspec.errors import MlspecError

PATTERNS = ("dvc.lock", "*.dvc")
_MD5 = re.compile(rb"(?<![0-9a-zA-Z])[0-9a-f]{32}(?:\.dir)?(?![0-9a-zA-Z])")
_DVC = re.compile(rb"^\W*(outs|deps|stages|schema|wdir|md5|frozen)\W*:", re.MULTILINE)


def is_of_dvc(data: bytes) -> bool:
    """Whether this looks like what DVC writes."""
    return b"\0" not in data and bool(_DVC.search(data))


def named_in(data: bytes, where: str) -> frozenset[str]:
    """Every object that the file names; raises if it does not look like one of DVC's."""
    if data.strip() and not is_of_dvc(data):
        raise MlspecError(
            f"{where} is not a file that DVC writes, so what it needs is not known",
            hint="mend it or take it out of Git; nothing was removed",
        )
    return frozenset(md5.decode() for md5 in _MD5.findall(data))


def made_by(data: bytes) -> frozenset[str]:
    """The objects of the outputs that the file tells of."""
    return frozenset(_outputs(data))


def _outputs(data: bytes) -> Iterator[str]:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        content = yaml.load(data, Loader=loader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return
    if not isinstance(content, dict):
        return
    stages = content.get("stages")
    for holder in (content, *(stages.values() if isinstance(stages, dict) else ())):
        outs: Any = holder.get("outs") if isinstance(holder, dict) else None
        for out in outs if isinstance(outs, list) else ():
            md5 = out.get("md5") if isinstance(out, dict) else None
            if isinstance(md5, str):
                yield md5
