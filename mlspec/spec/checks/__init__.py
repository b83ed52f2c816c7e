"""What a spec must be beyond its types: one file for each topic.

Each check yields :class:`~mlspec.spec.tree.Problem` and knows nothing of files or of the others.
`check_files` alone looks at the disk.
"""

from __future__ import annotations

from collections.abc import Iterator

from mlspec.spec.checks import gates, overlaps, params, paths, pipelines, references, values
from mlspec.spec.checks.disk import check_files
from mlspec.spec.checks.names import Names
from mlspec.spec.models import Spec
from mlspec.spec.tree import Node, Problem

__all__ = ["Names", "check_files", "check_spec"]


def check_spec(spec: Spec, names: Names, written: Node) -> Iterator[Problem]:
    """Every problem of a spec whose types are right; `written` is how its values were written."""
    yield from references.check(spec, names, written)
    yield from overlaps.check(spec)
    yield from pipelines.check(spec)
    yield from params.check(spec)
    yield from gates.check(spec, written)
    yield from paths.check(spec)
    yield from values.check(spec)
