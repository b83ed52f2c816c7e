"""An executor of somebody else: one process for each job, as a batch system would start it.

All that it knows of mlspec is that a machine runs `python -m mlspec.executors.worker`, and the JSON
that this takes and gives. Its option `queue` is a folder.
"""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mlspec.errors import MlspecError
from mlspec.executors import Cause, Outcome, Stop
from mlspec.executors.messages import Answer, Findings, Question, Request


class BatchExecutor:
    def __init__(self, _name: str, section: Any) -> None:
        self._queue = Path(section.options["queue"])

    def run(self, request: Request, on_line: Callable[[str], None], stop: Stop) -> Answer:
        folder, process = self._start({"request": request.model_dump(mode="json")})
        while process.poll() is None:
            if stop.asked.wait(0.05):
                process.terminate()
                process.wait()
                return Answer(outcome=Outcome(Cause.INTERRUPTED, -15, 0.0, "interrupted"))
        for line in (folder / "printed").read_text().splitlines():
            on_line(line)
        if process.returncode:
            raise MlspecError(f"the batch job {folder.name} ended with {process.returncode}")
        return Answer.model_validate_json((folder / "answer.json").read_text())

    def inspect(self, question: Question) -> Sequence[Findings]:
        folder, process = self._start({"question": question.model_dump(mode="json")})
        process.wait()
        return [Findings.model_validate_json((folder / "answer.json").read_text())]

    def close(self) -> None:
        (self._queue / "closed").touch()

    def _start(self, asked: dict[str, Any]) -> tuple[Path, subprocess.Popen[bytes]]:
        folder = self._queue / uuid.uuid4().hex
        folder.mkdir(parents=True)
        (folder / "asked.json").write_text(json.dumps(asked))
        command = [sys.executable, "-m", "mlspec.executors.worker", "asked.json", "answer.json"]
        with (folder / "printed").open("wb") as printed:
            return folder, subprocess.Popen(command, cwd=folder, stdout=printed)
