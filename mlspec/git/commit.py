"""A commit of some files and nothing else, whatever the index and the worktree hold.

Comes in: the files' new contents. Goes out: a commit on top of the one that is checked out; what is
checked out and staged stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from mlspec.git.errors import GitError
from mlspec.git.remote import Remote
from mlspec.git.repository import Git


def changed_paths(git: Git, paths: tuple[str, ...]) -> tuple[str, ...]:
    """Which of `paths` are not as the commit that is checked out has them."""
    said = git.run("status", "--porcelain", "-z", "--no-renames", "--", *_literal(paths))
    return tuple(sorted(entry[3:] for entry in said.split("\0") if entry))


def make_commit(git: Git, files: Mapping[str, bytes], message: str) -> str:
    """A commit that differs from HEAD in these tracked files; no branch has it yet."""
    head = git.head()
    with TemporaryDirectory(dir=git.common_dir, prefix="mlspec-") as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder, "index"))}
        git.run("read-tree", head, env=index)
        for path, data in sorted(files.items()):
            oid = git.run("hash-object", "-w", "--stdin", "--path", path, stdin=data)
            mode = git.run("ls-files", "--stage", "--", *_literal((path,)), env=index)[:6]
            git.run("update-index", "--cacheinfo", f"{mode},{oid},{path}", env=index)
        tree = git.run("write-tree", env=index)
    sign = ("-S",) if git.signs else ()
    return git.run("commit-tree", *sign, "-p", head, "-F", "-", tree, stdin=message.encode())


def make_branch(git: Git, name: str, commit: str, remote: str) -> None:
    """Have a branch here and at `remote`; raises if either has one of the name that lacks merging.

    One whose commits `commit` comes from as well has done its work, and is taken for the new one.
    """
    ref = f"refs/heads/{name}"
    hint = f"merge or delete it first (git branch -D {name}), or commit here with --here"
    other = Remote(git, remote)
    here, there = git.ref(ref), other.refs(ref).get(ref, "")
    for former in filter(None, (here, there)):
        if git.call("merge-base", "--is-ancestor", former, commit).returncode != 0:
            raise GitError(f"the branch {name} is there already", hint=hint)
    if why := other.push(commit, ref, expected=there):
        raise GitError(f"{remote} did not take the branch {name}: {why}", hint=hint)
    if why := git.move_ref(ref, commit, expected=here):
        raise GitError(f"the branch {name} is at {remote} and cannot be made here: {why}")


def commit_here(git: Git, paths: tuple[str, ...], message: str) -> str:
    """Commit these files, and nothing that is staged, on what is checked out; the commit."""
    git.run(
        "commit", "--quiet", "--only", "-F", "-", "--", *_literal(paths), stdin=message.encode()
    )
    return git.head()


def _literal(paths: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f":(literal){path}" for path in paths)
