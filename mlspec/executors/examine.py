"""What a machine has and lacks for running stages. Runs nothing of the repository.

Comes in: a :class:`~mlspec.executors.messages.Question`. Goes out: findings, each with how to mend
it. Used on this machine and, through :mod:`mlspec.executors.worker`, on those of an executor.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mlspec import __version__
from mlspec.dvc.client import Dvc
from mlspec.errors import MlspecError, unusable
from mlspec.executors.capacity import describe_capacity, readable_size
from mlspec.executors.interpreter import version_of
from mlspec.executors.local import make_environment
from mlspec.executors.messages import Check, Findings, Question
from mlspec.executors.workplace import work_folder
from mlspec.git import Git
from mlspec.git.errors import hide_password, reason_of

OLDEST_GIT = (2, 30)
LEAST_DISK = 2**30
"""Bytes that should be free where clones and caches are."""
PATIENCE = 30.0
"""Seconds for a repository to answer."""


def examine(question: Question, folder: Path | None = None) -> Findings:
    """All that a stage needs of this machine, in the order in which it is needed."""
    work = folder or work_folder()
    checks = [
        check_python(question.python),
        _check_mlspec(question.mlspec),
        check_git(),
        check_dvc(),
    ]
    place = question.place
    with scratch() as root:
        checks.append(_check_work_folder(work))
        if checks[2].ok and place.repository:
            checks.append(check_repository(place.repository, root))
        if checks[3].ok and place.files:
            checks.append(_check_storage_from(place.files, root))
    checks.append(Check(name="resources", ok=True, detail=describe_capacity()))
    return Findings(worker=platform.node(), checks=tuple(checks))


def check_python(wanted: str) -> Check:
    """Which Python a command finds here, and whether it is the one that the spec names."""
    env = make_environment(Path(os.sep), "")
    found = version_of("python", Path(os.sep), env)
    if found is None:
        return Check(
            name="python",
            ok=False,
            detail="a command finds no `python` here",
            hint="start it within a virtual environment",
        )
    if wanted and not f"{found}.".startswith(f"{wanted}."):
        return Check(
            name="python",
            ok=False,
            detail=f"{found}, and python.version is {wanted}",
            hint=f"start it within an environment with Python {wanted}",
        )
    return Check(name="python", ok=True, detail=found)


def _check_mlspec(wanted: str) -> Check:
    if wanted == __version__:
        return Check(name="mlspec", ok=True, detail=__version__)
    return Check(
        name="mlspec",
        ok=False,
        detail=f"{__version__}, and {wanted} asks",
        hint=f"install mlspec {wanted} there",
    )


def check_git() -> Check:
    """Whether Git is here and new enough."""
    try:
        said = Git(Path(os.sep)).run("version")
    except MlspecError as error:
        return Check(name="git", ok=False, detail=error.message, hint=error.hint)
    match = re.search(r"(\d+)\.(\d+)\S*", said)
    if match is None or (int(match[1]), int(match[2])) < OLDEST_GIT:
        oldest = ".".join(map(str, OLDEST_GIT))
        return Check(name="git", ok=False, detail=said, hint=f"install Git {oldest} or newer")
    return Check(name="git", ok=True, detail=match[0])


def check_dvc() -> Check:
    """Whether DVC is installed beside mlspec."""
    try:
        return Check(name="dvc", ok=True, detail=version("dvc"))
    except PackageNotFoundError:
        return Check(
            name="dvc",
            ok=False,
            detail=f"not installed for {sys.executable}",
            hint="install mlspec with its dependencies",
        )


def check_repository(address: str, root: Path, name: str = "repository") -> Check:
    """Whether the Git repository at `address` can be read; asked from the folder `root`."""
    shown = hide_password(address)
    hint = f"`git ls-remote {shown}` must work there without a question"
    try:
        done = Git(root).call("ls-remote", "--quiet", "--", address, "HEAD", timeout=PATIENCE)
    except MlspecError as error:
        return Check(name=name, ok=False, detail=error.message, hint=hint)
    if done.returncode:
        reason = reason_of(hide_password(done.stderr.decode("utf-8", "backslashreplace")))
        return Check(name=name, ok=False, detail=reason, hint=hint)
    return Check(name=name, ok=True, detail=shown)


def check_storage(root: Path) -> Check:
    """Whether the storage that DVC's settings in `root` name takes something and gives it up."""
    try:
        with Dvc(root) as dvc:
            return Check(name="storage", ok=True, detail=dvc.probe())
    except MlspecError as error:
        hint = "give DVC the credentials in its own settings (`dvc remote modify --global storage`)"
        return Check(name="storage", ok=False, detail=error.message, hint=hint)


def _check_storage_from(files: Mapping[str, str], root: Path) -> Check:
    (root / ".dvc").mkdir()
    (root / ".dvc/config").write_text(files.get(".dvc/config", ""), encoding="utf-8")
    state = root / "state"
    local = f'[core]\n    no_scm = true\n    site_cache_dir = "{state}"\n'
    (root / ".dvc/config.local").write_text(local, encoding="utf-8")
    return check_storage(root)


def _check_work_folder(folder: Path) -> Check:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            free = shutil.disk_usage(folder).free
    except OSError as error:
        return Check(
            name="disk",
            ok=False,
            detail=unusable(error).message,
            hint="set MLSPEC_WORK to a folder that can be written",
        )
    return Check(
        name="disk",
        ok=free >= LEAST_DISK,
        detail=f"{readable_size(free)} free in {folder}",
        hint="" if free >= LEAST_DISK else "make room; clones and caches there may be deleted",
    )


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="mlspec-") as name:
        yield Path(name)
