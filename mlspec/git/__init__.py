"""Git: the repository, its objects, and what it complains about."""

from mlspec.git.errors import GitError, NotAtomic
from mlspec.git.objects import Object, ObjectReader
from mlspec.git.remote import Remote, is_lost_race
from mlspec.git.repository import NETWORK_TIMEOUT, Git, Identity

__all__ = [
    "NETWORK_TIMEOUT",
    "Git",
    "GitError",
    "Identity",
    "NotAtomic",
    "Object",
    "ObjectReader",
    "Remote",
    "is_lost_race",
]
