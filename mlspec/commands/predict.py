"""`mlspec predict MODEL FILE`: a prediction for each row of a file.

The model runs in a service of its own, staged as for a deployment, so that the answers are those of
requests. The output is whole, or is not there.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlspec.commands.staging import QUICK, Staged, Wanted, stage_wanted
from mlspec.dvc.hashing import md5_of_file
from mlspec.errors import MlspecError
from mlspec.providers.local.foreground import run_until_signal, serve_release
from mlspec.providers.local.scratch import make_scratch
from mlspec.providers.local.smoke import PrivateConnection
from mlspec.reconcile import open_project
from mlspec.render.console import Console
from mlspec.render.style import escape
from mlspec.scoring.asking import Ask, Problem, Scored, score
from mlspec.scoring.reading import READERS, Row, read_rows
from mlspec.scoring.writing import (
    WRITERS,
    Write,
    as_dict,
    problem_as_dict,
    replacing,
    write_json_lines,
)

ANSWER_SECONDS = 300.0
MOST_TOLD = 20
SHOW_EVERY = 0.5
MD5_LETTERS = 12
"""Of what is scored, in the name of a prediction."""


@dataclass(frozen=True, slots=True)
class PredictOptions:
    """What is scored with what, and where the predictions go; each is a flag of the command."""

    file: Path
    out: Path | None
    wanted: Wanted
    batch_size: int
    skip_bad: bool
    identity: str | None
    release: Path | None = None
    """A file of a batch deployment that names the version, as an apply writes it."""


@dataclass(slots=True)
class _Tally:
    scored: int = 0
    bad: int = 0
    ignored: tuple[str, ...] = ()


def predict(start: Path, console: Console, options: PredictOptions) -> int:
    """Score the file; with a wrong row nothing is written, unless these are to be skipped."""
    _check(options)
    name = ""
    if options.release is not None:
        wanted, name = _load_release(options.release, options.wanted)
        data = md5_of_file(options.file)[:MD5_LETTERS]
        name = f"{name}-{wanted.version}-{data}"
        options = replace(options, wanted=wanted)
    with make_scratch() as folder:
        with open_project(start) as project:
            project.ledger.refresh(console.note)
            staged = stage_wanted(project, options.wanted, folder, runtime=QUICK)
        tally = _Tally()
        began = time.monotonic()
        with _output(options, folder) as (write, write_bad):
            outcomes = _Outcomes(console, options, tally, write, write_bad, name)
            run_until_signal(_score(staged, folder, options, outcomes))
    seconds = time.monotonic() - began
    console.note(
        f"{tally.scored} {'row' if tally.scored == 1 else 'rows'} scored by {staged.title} "
        f"in {seconds:.1f} s"
        + (f", {tally.bad} skipped: {_bad_path(options)}" if tally.bad else "")
        + "."
    )
    if tally.ignored:
        names = ", ".join(map(escape, tally.ignored[:8]))
        more = f" and {len(tally.ignored) - 8} more" if len(tally.ignored) > 8 else ""
        console.note(f"Not taken, for the model does not: {names}{more}.")
    return 0


def _check(options: PredictOptions) -> None:
    """What can be said before anything is started."""
    if not options.file.is_file():
        raise MlspecError(f"{options.file} is not a file that is there")
    if options.file.suffix.lower() not in READERS:
        raise MlspecError(
            f"{options.file.name} is of no kind that can be read",
            hint=f"the kinds are {', '.join(READERS)}, told by the end of the name",
        )
    if options.out is None:
        if options.skip_bad:
            raise MlspecError("--skip-bad needs --out: the rows that are wrong go beside that file")
        return
    if options.out.suffix.lower() not in WRITERS:
        raise MlspecError(
            f"{options.out.name} is of no kind that can be written",
            hint=f"the kinds are {', '.join(WRITERS)}, told by the end of the name",
        )
    written = [options.out, *([_bad_path(options)] if options.skip_bad else [])]
    for path in written:
        if path.exists() and path.samefile(options.file):
            raise MlspecError(
                f"{path.name}, which --out writes, is the file that is read",
                hint="name another one",
            )


def _load_release(file: Path, wanted: Wanted) -> tuple[Wanted, str]:
    """The version that an apply chose, and the deployment that it did so for."""
    try:
        chosen = json.loads(file.read_bytes())
        model, version, name = chosen["model"], chosen["version"], chosen["deployment"]
        fits = isinstance(version, int) and isinstance(name, str)
    except (OSError, ValueError, KeyError, TypeError):
        model, fits = None, False
    if not fits or model != wanted.model.removeprefix("model."):
        raise MlspecError(
            f"{file.name} does not say which version of {escape(wanted.model)} scores",
            hint="`mlspec apply` writes it",
        )
    if wanted.version is not None or wanted.working_tree:
        raise MlspecError("--release says which version: leave --version and --working-tree out")
    return replace(wanted, version=version), name


def _bad_path(options: PredictOptions) -> Path:
    assert options.out is not None
    return options.out.with_suffix(".bad.jsonl")


@contextmanager
def _output(options: PredictOptions, folder: Path) -> Iterator[tuple[Write, Write | None]]:
    """What writes a prediction, and what writes a row that is wrong, if these are skipped."""
    with ExitStack() as stack:
        if options.out is None:
            draft = folder / "out.jsonl"
            with write_json_lines(draft) as write:
                yield write, None
            with draft.open(encoding="utf-8") as file:
                shutil.copyfileobj(file, sys.stdout)
            return
        write_bad = None
        if options.skip_bad:
            bad = stack.enter_context(replacing(_bad_path(options)))
            write_bad = stack.enter_context(write_json_lines(bad))
        draft = stack.enter_context(replacing(options.out))
        with WRITERS[options.out.suffix.lower()](draft) as write:
            yield write, write_bad


class _Outcomes:
    """Takes what came of the rows; the first batch with a wrong one ends it, or it is skipped."""

    def __init__(
        self,
        console: Console,
        options: PredictOptions,
        tally: _Tally,
        write: Write,
        write_bad: Write | None,
        name: str = "",
    ) -> None:
        self._name = name
        """What each prediction is called, before its row; they have no names if it is empty."""
        self._console = console
        self._options = options
        self._tally = tally
        self._write = write
        self._write_bad = write_bad
        self._shown = 0.0

    def take(self, rows: Iterator[Row], ask: Ask) -> None:
        for outcomes in score(self._noting(rows), ask, self._options.batch_size):
            problems = [each for each in outcomes if isinstance(each, Problem)]
            if problems and self._write_bad is None:
                self._clear()
                raise _refusal(self._options.file, problems)
            for problem in problems:
                assert self._write_bad is not None
                self._write_bad(problem_as_dict(problem))
            self._tally.bad += len({problem.row.number for problem in problems})
            for scored in outcomes:
                if isinstance(scored, Scored):
                    self._write(as_dict(scored, self._options.identity, self._name))
                    self._tally.scored += 1
            self._show()
        self._clear()

    def _noting(self, rows: Iterator[Row]) -> Iterator[Row]:
        """The rows, with what of the first that was read is not the model's noted."""
        first = True
        for row in rows:
            if first and not row.problem:
                first = False
                identity = self._options.identity
                if identity is not None and identity not in {**row.others, **row.values}:
                    raise MlspecError(
                        f"{self._options.file.name} has no column {escape(identity)} for --id"
                    )
                self._tally.ignored = tuple(name for name in row.others if name != identity)
            yield row

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._shown > SHOW_EVERY and sys.stderr.isatty():
            self._shown = now
            sys.stderr.write(f"\r{self._tally.scored} rows scored")
            sys.stderr.flush()

    def _clear(self) -> None:
        if self._shown:
            sys.stderr.write(f"\r{' ' * 40}\r")


def _refusal(file: Path, problems: list[Problem]) -> MlspecError:
    told = [_tell(problem) for problem in problems[:MOST_TOLD]]
    more = ["and more"] if len(problems) > MOST_TOLD else []
    return MlspecError(
        "\n".join([f"{file.name} has rows that the model does not take; nothing is written", *told])
        + "".join(f"\n{line}" for line in more),
        hint="mend them, or leave them out with --skip-bad --out FILE; rows count from 1, "
        "without the header",
    )


def _tell(problem: Problem) -> str:
    column = f", column {problem.column}" if problem.column else ""
    return f"row {problem.row.number}{column}: {problem.problem}"


async def _score(
    staged: Staged, folder: Path, options: PredictOptions, outcomes: _Outcomes
) -> None:
    types = {column["name"]: column for column in staged.signature["columns"]}
    rows = read_rows(options.file, types)
    async with serve_release(staged.release, folder) as private:
        # In a thread: reading and asking wait, and a signal must be heard meanwhile.
        await asyncio.to_thread(_take, outcomes, rows, private)


def _take(outcomes: _Outcomes, rows: Iterator[Row], private: Path) -> None:
    with _asking(private) as ask:
        outcomes.take(rows, ask)


@contextmanager
def _asking(private: Path) -> Iterator[Ask]:
    connection = PrivateConnection(str(private), ANSWER_SECONDS)

    def ask(body: bytes) -> tuple[int, Mapping[str, Any]]:
        try:
            connection.request("POST", "/predict", body, {"content-type": "application/json"})
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise MlspecError(
                f"the service did not answer: {type(error).__name__}",
                hint="does it have the memory that it needs? --batch-size 100 takes less",
            ) from None

    try:
        yield ask
    finally:
        connection.close()
