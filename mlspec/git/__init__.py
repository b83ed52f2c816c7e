"""Git: the repository, its objects, and what it complains about."""

from mlspec.git.errors import GitError
from mlspec.git.objects import Object, ObjectReader
from mlspec.git.repository import Git, Identity

__all__ = ["Git", "GitError", "Identity", "Object", "ObjectReader"]
