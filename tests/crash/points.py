"""Points: calls that change something in a sandbox, and how to make one fail.

Of calls of the system: strace counts those of one name for each thread on its own, and makes the
first that comes to the number fail. So a point is a name and a number; where it hit is read from
what strace noted. Of calls of mlspec: failpoints (`failpoints.py`), which have names of their own.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import failpoints
from sandbox import FAULTY, Done, Sandbox

CALLS = """
write pwrite64 openat rename renameat renameat2 fsync fdatasync sync_file_range mkdir mkdirat unlink
unlinkat rmdir link linkat symlink symlinkat ftruncate truncate chmod fchmod fchmodat utimensat
copy_file_range sendfile
""".split()  # noqa: SIM905
KILLS = ("kill", "tree")
ERRORS = ("ENOSPC", "EIO", "EROFS")
FAILING = {
    "ENOSPC": {"write", "pwrite64", "openat", "mkdir", "rename", "fsync", "copy_file_range"},
    "EIO": {"write", "pwrite64", "fsync", "fdatasync", "rename", "unlink", "sync_file_range"},
    "EROFS": {"openat", "mkdir", "rename", "unlink", "link", "symlink", "chmod"},
}
"""What each error is an answer of."""
_POINT_FAILING = {
    "enospc": {"write", "pwrite", "open", "mkdir", "replace", "rename", "fsync", "symlink"},
    "eio": {"write", "pwrite", "open", "replace", "rename", "unlink", "fsync", "ftruncate"},
}
APPLY = ("apply", "--yes")
_CALL = re.compile(r"^(\d+) +(\w+)\((.*)$")
_OPENED = re.compile(r"O_CREAT|O_TRUNC|O_WRONLY|O_RDWR")
_SHIM = """\
#!/bin/sh
printf . >> "$CRASH_COUNT"
count=$(($(wc -c < "$CRASH_COUNT")))
if [ "$CRASH_NUMBER" -eq 0 ]; then
  exec strace -o "$CRASH_LOG.$count" -y -e trace="$CRASH_TRACE" GIT "$@"
elif [ "$count" -eq "$CRASH_NUMBER" ]; then
  exec strace -o "$CRASH_LOG" -y -e trace="$CRASH_TRACE" -e "$CRASH_INJECT" GIT "$@"
fi
exec GIT "$@"
"""
_GIT = str(shutil.which("git"))


@dataclass(frozen=True, order=True)
class Point:
    """The `number`-th `call` of a thread, of mlspec or (`git` > 0) of the `git`-th Git it runs.

    With a `name` it is the failpoint of that name and number instead.
    """

    scenario: str
    call: str
    number: int
    fault: str
    git: int = 0
    path: str = ""
    name: str = ""

    @property
    def kind(self) -> tuple[str, str]:
        """What the table has a row and a column for."""
        return self.call, f"git {self.fault}" if self.git else self.fault

    @property
    def error(self) -> str:
        """What the system answers mlspec, in words; nothing if it is something else that fails."""
        number = getattr(errno, self.fault.upper(), None)
        return os.strerror(number) if number and not self.git else ""

    @property
    def is_kill(self) -> bool:
        """Whether mlspec itself is killed."""
        return self.fault in KILLS and not self.git

    def __str__(self) -> str:
        if self.name:
            return f"{self.scenario}: {self.fault} at {self.name} {self.number}"
        of = f" of Git {self.git}" if self.git else ""
        return f"{self.scenario}: {self.fault} at {self.call} {self.number}{of} ({self.path})"


def can_strace() -> bool:
    return shutil.which("strace") is not None


@cache
def namespace() -> tuple[str, ...]:
    """What runs a program so that all it starts ends with it; nothing where that is not allowed."""
    common = ("unshare", "--pid", "--fork", "--kill-child")
    for command in (common, ("unshare", "--user", "--map-current-user", *common[1:])):
        if (
            shutil.which("unshare")
            and not subprocess.run([*command, "true"], capture_output=True, check=False).returncode
        ):
            return command
    return ()


def record_points(sandbox: Sandbox, scenario: str) -> Iterator[Point]:
    """Every point of an apply, by all faults that can be there; found with two copies."""
    copy = sandbox.copy(sandbox.place.with_name(f"{scenario}-recorded"))
    log = copy.place / "strace.log"
    _strace(copy, log, ",".join(CALLS))
    faults = [fault for fault in (*KILLS, *ERRORS) if fault != "tree" or namespace()]
    for call, number, path in _points_of(log, copy.place):
        for fault in faults:
            if fault in KILLS or call in FAILING[fault]:
                yield Point(scenario, call, number, fault, path=path)
    copy = sandbox.copy(sandbox.place.with_name(f"{scenario}-gits"))
    log = copy.place / "strace.log"
    _run_gits_watched(copy, 0, log, ",".join(CALLS))
    for watched in sorted(copy.place.glob("strace.log.*")):
        git = int(watched.suffix[1:])
        for call, number, path in _points_of(watched, copy.place):
            for fault in ("kill", "ENOSPC"):
                if fault == "kill" or call in FAILING[fault]:
                    yield Point(scenario, call, number, fault, git, path)


def record_failpoints(sandbox: Sandbox, scenario: str) -> Iterator[Point]:
    """Every failpoint that an apply passes, by all faults that can be there."""
    copy = sandbox.copy(sandbox.place.with_name(f"{scenario}-passed"))
    record = copy.place / "passed"
    copy.mlspec(*APPLY, CRASH_RECORD=str(record))
    for name, count in Counter(failpoints.load_passed(record)).items():
        call = name.rpartition("/")[2]
        for number in range(1, count + 1):
            for fault in ("kill", "term", "exc", "enospc", "eio"):
                if call in _POINT_FAILING.get(fault, {call}):
                    yield Point(scenario, call, number, fault, name=name)


def hit(point: Point, sandbox: Sandbox) -> tuple[Done, str]:
    """Apply with the fault; and where it hit, or nothing if it did not."""
    if point.name:
        record = sandbox.place / "passed"
        wanted = f"{point.name}:{point.number}:{point.fault}"
        done = sandbox.mlspec(*APPLY, MLSPEC_FAILPOINT=wanted, CRASH_RECORD=str(record))
        where = failpoints.load_hit(record)
        record.unlink()
        return done, where
    log = sandbox.place / "strace.log"
    how = "signal=KILL" if point.fault in KILLS else f"error={point.fault}"
    inject = f"inject={point.call}:{how}:when={point.number}"
    if point.git:
        done = _run_gits_watched(sandbox, point.git, log, point.call, inject)
    else:
        done = _strace(sandbox, log, point.call, inject, whole=point.fault == "tree")
    found = log.read_text(errors="replace") if log.exists() else ""
    log.unlink(missing_ok=True)
    marks = ("killed by SIGKILL", "(INJECTED)")
    lines = found.splitlines()
    for index, line in enumerate(lines):
        if any(mark in line for mark in marks):
            return done, lines[max(index - 1, 0)] if "killed" in line else line
    return done, ""


def _strace(
    sandbox: Sandbox, log: Path, trace: str, inject: str = "", *, whole: bool = False
) -> Done:
    """mlspec with all of its threads, and nothing that it starts."""
    options = ["-f", "-b", "execve", "-qq", "-y", "-o", str(log), "-e", f"trace={trace}"]
    options += ["-e", inject] * bool(inject)
    return sandbox.run([*(namespace() if whole else ()), "strace", *options, *FAULTY, *APPLY])


def _run_gits_watched(
    sandbox: Sandbox, number: int, log: Path, trace: str, inject: str = ""
) -> Done:
    shims = sandbox.place / "shims"
    shims.mkdir()
    shim = shims / "git"
    shim.write_text(_SHIM.replace("GIT ", f"{_GIT} "))
    shim.chmod(0o755)
    told = {
        "CRASH_COUNT": str(sandbox.place / "gits"),
        "CRASH_NUMBER": str(number),
        "CRASH_LOG": str(log),
        "CRASH_TRACE": trace,
        "CRASH_INJECT": inject,
    }
    return sandbox.run([*FAULTY, *APPLY], shims=shims, **told)


def _points_of(log: Path, place: Path) -> Iterator[tuple[str, int, str]]:
    """The first to come to each number of a call, if it is below `place`: with what it is about."""
    counts: dict[tuple[str, str], int] = {}
    seen: set[tuple[str, int]] = set()
    for line in log.read_text(errors="replace").splitlines():
        found = _CALL.match(line) or _CALL.match(f"0 {line}")
        if found is None:
            continue
        thread, call, rest = found.groups()
        number = counts[thread, call] = counts.get((thread, call), 0) + 1
        if (call, number) in seen:
            continue
        seen.add((call, number))
        path = re.search(re.escape(str(place)) + r"/([^\"<>]*)", rest)
        if path and not (call == "openat" and not _OPENED.search(rest)):
            yield call, number, path[1]
