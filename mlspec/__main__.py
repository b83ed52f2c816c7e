"""Runs the command line: `mlspec` or `python -m mlspec`.

An error that mlspec foresees ends as a message and its exit code. One that it does not is a defect:
the traceback goes to a file that can be reported, never to the screen.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import tempfile
import traceback
from types import FrameType
from typing import NoReturn

from mlspec.errors import ExitCode, Interrupted, MlspecError, unusable

_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


def main() -> NoReturn:
    """Run and exit."""
    _mend_streams()
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, _interrupt)
    code: int = ExitCode.ERROR
    try:
        code = _run()
    except Interrupted as interrupted:
        sys.stderr.write("interrupted\n")
        code = interrupted.exit_code
    except BrokenPipeError:
        _silence()
    except Exception as error:
        sys.stderr.write(_report(error))
    raise SystemExit(code)


def _run() -> int:
    try:
        from mlspec.cli import run

        return run()
    except MlspecError as error:
        return _fail(error)
    except BrokenPipeError:
        raise
    except OSError as error:
        _silence()
        return _fail(unusable(error))


def _fail(error: MlspecError) -> int:
    from mlspec.render.console import Console

    console = Console()
    console.fail(error)
    if "--json" in sys.argv[1:]:
        console.say_json({"error": error.as_dict()})
    return error.exit_code


def _interrupt(number: int, _frame: FrameType | None) -> None:
    """Every signal again, so that a second one ends what the first has to wait for."""
    raise Interrupted(number)


def _mend_streams() -> None:
    """A stream that is closed leads nowhere; what an encoding lacks is shown as an escape."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
            setattr(sys, name, open(number, "w" if number else "r"))  # noqa: PTH123, SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _silence() -> None:
    """If standard output takes nothing any more, what is left for it is dropped."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _report(error: Exception) -> str:
    """Keep the traceback in a file and say where."""
    said = f"error: a defect of mlspec: {type(error).__name__}: {str(error)[:200]}\n"
    text = "".join(traceback.format_exception(error))
    try:
        descriptor, name = tempfile.mkstemp(prefix="mlspec-defect-", suffix=".txt")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{' '.join(sys.argv)}\n{text}")
    except OSError:
        return said
    return f"{said}  = help: please report it with {name}\n"


if __name__ == "__main__":
    main()
