"""Does on this machine what another one asks for. Needs Git, the storage and this Python.

    python -m mlspec.executors.worker ASKED ANSWER    one message, by file
    python -m mlspec.executors.worker                 messages by line on stdin, until that ends

Comes in: `{"request": ...}` or `{"question": ...}`. Goes out: an answer or findings as JSON (all in
:mod:`mlspec.executors.messages`). What the command prints goes to stdout meanwhile, by line as
`{"line": ...}`. When stdin ends during a job, the command is ended: whoever asked is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from pydantic import ValidationError

from mlspec import __version__
from mlspec.dvc.client import LOG as DVC_LOG
from mlspec.dvc.lock import entry_as_dict, parse_lock
from mlspec.errors import MlspecError, unusable
from mlspec.executors import Cause, Job, Stop
from mlspec.executors.examine import examine
from mlspec.executors.local import LocalExecutor
from mlspec.executors.messages import FORMAT, MOST_LOG, Answer, Message, Question, Request, Trouble
from mlspec.executors.outputs import check_written
from mlspec.executors.retry import run_with_retries
from mlspec.executors.workplace import Clone, Workplace
from mlspec.metrics import MAX_BYTES
from mlspec.spec.models import Resources
from mlspec.worktree import Worktree

FAREWELL = 20.0
"""Seconds for a job to end when nobody waits for it any more."""


class Worker:
    """Does one job after the other; keeps the clone and DVC's process for the next one."""

    def __init__(self, folder: Path | None = None) -> None:
        self.stop = Stop()
        self._folder = folder
        self._executor = LocalExecutor(self.stop)
        self._held = contextlib.ExitStack()
        self._clone: Clone | None = None
        self._repository = ""

    def close(self) -> None:
        self._held.close()

    def handle(self, asked: Mapping[str, Any], on_line: Callable[[str], None]) -> Message:
        """The answer to one message; whatever is wrong is said in it."""
        message = asked.get("request") or asked.get("question") or {}
        if message.get("format") != FORMAT:
            return _refuse(
                f"mlspec {__version__} does not understand mlspec {message.get('mlspec')}",
                "install the same version on both machines",
            )
        try:
            if "question" in asked:
                return examine(Question.model_validate(message), self._folder)
            return self.carry_out(Request.model_validate(message), on_line)
        except ValidationError as error:
            return _refuse(
                f"the message cannot be read: {error.errors()[0]['msg']}",
                "install the same version of mlspec on both machines",
            )

    def carry_out(self, request: Request, on_line: Callable[[str], None]) -> Answer:
        """Prepare, run, check, record in storage."""
        try:
            clone = self._claim(request.place.repository)
            job = _job(request, clone.root, on_line)
            worktree = _prepare(request, clone)
            self._executor.check(job)
        except (MlspecError, OSError) as error:
            return Answer(trouble=self._trouble(error, elsewhere=True))
        try:
            outcome = run_with_retries(self._executor, job)
            answer = Answer(outcome=outcome, log=_end_of(job.log))
            if outcome.cause is not Cause.OK:
                return answer
            worktree.forget()
            entry = _record(request, clone, worktree)
            metrics = _metrics(request, clone.root)
            clone.dvc.push(request.dvcfile, request.stage)
        except (MlspecError, OSError) as error:
            return Answer(trouble=self._trouble(error), log=_end_of(job.log))
        return answer.model_copy(update={"entry": entry, "metrics": metrics})

    def _claim(self, repository: str) -> Clone:
        if self._clone is None or self._repository != repository:
            self._held.close()
            self._clone = None
            self._clone = self._held.enter_context(Workplace(repository, self._folder).claim())
            self._repository = repository
        return self._clone

    def _trouble(self, error: MlspecError | OSError, *, elsewhere: bool = False) -> Trouble:
        known = error if isinstance(error, MlspecError) else unusable(error)
        trouble = Trouble.of(known, elsewhere=elsewhere)
        if self._clone is None:
            return trouble
        # DVC's log is where the trouble was, not where it is read
        hint = trouble.hint.replace(str(DVC_LOG), f"{self._clone.root / DVC_LOG}, over there")
        return trouble.model_copy(update={"hint": hint})


def _refuse(message: str, hint: str) -> Answer:
    return Answer(trouble=Trouble(message=message, hint=hint, elsewhere=True))


def _job(request: Request, root: Path, on_line: Callable[[str], None]) -> Job:
    needs = request.needs
    log = root / ".mlspec" / "logs" / f"{request.address}.log"
    log.unlink(missing_ok=True)
    return Job(
        address=request.address,
        command=request.command,
        root=root,
        log=log,
        timeout=request.timeout,
        retries=request.retries,
        outputs=request.outputs,
        # processors for graphics are given out by whoever sent the job here
        resources=Resources.model_construct(cpus=needs.cpus, gpus=0, memory=needs.memory),
        python=request.python,
        on_line=on_line,
    )


def _prepare(request: Request, clone: Clone) -> Worktree:
    """The clone with everything that the command reads, each of it as it was planned."""
    brought = [each for each in request.inputs if each.origin != "git"]
    worktree = clone.settle(
        request.commit,
        {**request.place.files, **request.files},
        keep=[each.path for each in brought],
    )
    lacking = [each for each in brought if _md5(worktree, each.path) != each.md5]
    if placed := {each.path: each.md5 for each in lacking if each.origin == "storage"}:
        clone.dvc.place(placed)
    for each in lacking:
        if each.origin == "dataset":
            clone.dvc.checkout(f"{each.path}.dvc")
    worktree.forget(*(each.path for each in lacking))
    for each in brought:
        if each.executable:
            (clone.root / each.path).chmod(0o755)
    if differing := _differing(request, worktree):
        raise MlspecError(
            f"{request.address} was not run: at commit {request.commit[:9]} here is not what the "
            f"plan was made of: {', '.join(differing)}",
            hint="commit and push what the stage reads, without settings of Git that change it",
        )
    for path in request.outputs:
        (clone.root / path).parent.mkdir(parents=True, exist_ok=True)
    return worktree


def _differing(request: Request, worktree: Worktree) -> list[str]:
    """What the worktree has otherwise than the plan, in words."""
    found = []
    for each in request.inputs:
        md5 = _md5(worktree, each.path)
        if md5 != each.md5:
            found.append(f"{each.path} ({f'md5 {md5}' if md5 else 'missing'}, not {each.md5})")
    for path, text in {**request.place.files, **request.files}.items():
        if worktree.read_text(path) != text:
            found.append(path)
    return found


def _md5(worktree: Worktree, path: str) -> str:
    seen = worktree.digest(path)
    return seen.md5 if seen else ""


def _record(request: Request, clone: Clone, worktree: Worktree) -> dict[str, Any]:
    """Have DVC take in what was written; the entry, of inputs that are still what was planned."""
    check_written(worktree, request.address, request.outputs, request.single)
    if differing := _differing(request, worktree):
        raise MlspecError(
            f"{request.address} ran, and changed what it reads: {', '.join(differing)}",
            hint="have the stage write to its outputs alone",
        )
    clone.dvc.commit(request.dvcfile, request.stage)
    path = request.dvcfile.removesuffix(".yaml") + ".lock"
    entries = parse_lock((clone.root / path).read_text("utf-8"), path)
    if request.stage not in entries:
        raise MlspecError(f"{path} has no entry for {request.stage}")
    return entry_as_dict(entries[request.stage])


def _metrics(request: Request, root: Path) -> bytes:
    if request.metrics is None:
        return b""
    with (root / request.metrics).open("rb") as file:
        return file.read(MAX_BYTES + 1)


def _end_of(log: Path) -> str:
    with contextlib.suppress(OSError), log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - MOST_LOG))
        return file.read().decode("utf-8", "replace")
    return ""


def main(arguments: list[str]) -> int:
    """Answer one message, or all that come."""
    if arguments:
        asked, answer = (Path(argument) for argument in arguments)
        with contextlib.closing(Worker()) as worker:
            said = worker.handle(json.loads(asked.read_bytes()), _print)
        answer.write_text(said.model_dump_json(), encoding="utf-8")
        return 0
    return serve()


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def serve() -> int:
    """Answer messages from stdin, one after the other."""
    answers = _claim_stdout()
    asked: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    with contextlib.closing(Worker()) as worker:
        threading.Thread(target=_listen, args=(asked, worker.stop), daemon=True).start()

        def send(text: str) -> None:
            with contextlib.suppress(BrokenPipeError):
                answers.write(text + "\n")
                answers.flush()

        while (line := asked.get()) is not None:
            said = worker.handle(json.loads(line), lambda text: send(json.dumps({"line": text})))
            send(f'{{"answer": {said.model_dump_json()}}}')
    return 0


def _listen(asked: queue.SimpleQueue[str | None], stop: Stop) -> None:
    for line in sys.stdin:
        asked.put(line)
    stop.asked.set()
    asked.put(None)
    time.sleep(FAREWELL)
    os._exit(1)  # a transfer that nobody waits for


def _claim_stdout() -> IO[str]:
    """The pipe to whoever asks; whatever else is printed goes to stderr from now on."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return answers


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
