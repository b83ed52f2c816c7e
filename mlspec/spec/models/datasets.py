"""Datasets of the spec."""

from __future__ import annotations

from mlspec.spec.models.section import Section
from mlspec.spec.paths import RepositoryPath


class Source(Section):
    """Where a dataset comes from: `url`, or `path` at `rev` of the repository `git`."""

    url: str | None = None
    """Where to download it."""
    git: str | None = None
    """A Git repository that holds it."""
    path: str | None = None
    """The file or folder in that repository."""
    rev: str | None = None
    """A tag, branch or commit of it."""


class Dataset(Section):
    """A file or folder that stages read; without `source` it is the team's own."""

    path: RepositoryPath
    """Where it is in this repository: a file or a folder."""
    description: str = ""
    owner: str = ""
    tags: tuple[str, ...] = ()
    source: Source | None = None
