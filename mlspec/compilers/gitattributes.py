"""The block of `.gitattributes` that mlspec keeps within a file that people own.

A compiler returns the block alone, as the text of a :class:`GeneratedFile`; :func:`merge_block`
puts it into what the file holds. Lines outside the block are never touched.
"""

from __future__ import annotations

import re

from mlspec.compilers.generated import GeneratedFile, header

BEGIN = f"# >>> {header('mlspec.yaml')}"
END = "# <<< mlspec"

_GENERATED = (
    "/.github/workflows/mlspec.yml",
    "/cards/**",
    "/pipelines/**/dvc.lock",
    "/pipelines/**/dvc.yaml",
    "/pipelines/**/params.json",
    "/services/**",
)
_OPENING = re.escape(BEGIN.partition(".")[0])
_BLOCK = re.compile(
    rf"^{_OPENING}[^\n]*\n(?:(?!{_OPENING})[^\n]*\n)*?{re.escape(END)}[ \t\r]*(?:\n|\Z)",
    re.MULTILINE,
)


def compile_gitattributes() -> GeneratedFile:
    """The block that marks generated files: folded in reviews, never converted by Git."""
    lines = (f"{pattern} -text linguist-generated=true" for pattern in _GENERATED)
    return GeneratedFile(".gitattributes", _block(*lines), "project")


def merge_block(existing: str, block: str) -> str:
    """`existing` with `block` in the place of the block that it holds, or else at its end.

    An empty `block` takes the block away. Merging twice is the same as merging once.
    """
    found = _BLOCK.search(existing)
    if found is None:
        ended = existing if existing.endswith("\n") or not (existing and block) else existing + "\n"
        return ended + block
    after = _BLOCK.sub("", existing[found.end() :])
    return existing[: found.start()] + block + after


def _block(*lines: str) -> str:
    return "\n".join((BEGIN, *lines, END)) + "\n"
