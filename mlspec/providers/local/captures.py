"""Finds predictions in what deployments captured: files of lines of JSON, of up to a GiB together.

For one prediction the files are looked through for its id as it stands in a line, and only lines
that have it are parsed.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Container, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from mlspec.captures import read_rows
from mlspec.providers.local.rundir import CAPTURE, list_runs
from mlspec.rollouts.comparison import Predicted


@dataclass(frozen=True, slots=True)
class Captured:
    """A row of a request; `source` is where it was found: a deployment's address, or a folder."""

    source: str
    path: Path
    line: dict[str, Any]


def capture_folders(root: Path) -> dict[str, Path]:
    """By the address of a deployment, where it captures in this checkout."""
    folders = ((f"deployment.{run_dir.name}", run_dir / CAPTURE) for run_dir in list_runs(root))
    return {address: folder for address, folder in folders if folder.is_dir()}


def capture_files(folder: Path) -> list[Path]:
    """The oldest first, by their names."""
    return sorted(folder.rglob("*.jsonl"))


def find_captured(source: str, paths: Iterable[Path], identity: str) -> Iterator[Captured]:
    """The rows of the request with this id."""
    needle = b'"id":' + json.dumps(identity, ensure_ascii=False).encode(errors="replace")
    for path in paths:
        for data in _lines_with(path, needle):
            for line in read_rows(data):
                if line.get("id") == identity:
                    yield Captured(source, path, line)


def read_predictions(
    paths: Iterable[Path], versions: Container[tuple[str, int]]
) -> Iterator[tuple[tuple[str, int], Predicted]]:
    """The predictions of these versions (model and number), each with its version."""
    for path in paths:
        with suppress(OSError), path.open("rb") as file:  # the oldest are taken away
            for row in chain.from_iterable(map(read_rows, file)):
                with suppress(KeyError, TypeError, ValueError):
                    version, value = (
                        (row["model"], row["model_version"]),
                        row["output"]["prediction"],
                    )
                    if version in versions and isinstance(value, bool | int | float | str):
                        key = str(row["id"]), int(row["row"])
                        yield version, Predicted(key, value, str(row["ts"]))


def _lines_with(path: Path, needle: bytes) -> Iterator[bytes]:
    # One that was taken away meanwhile holds nothing, and nothing can be mapped of an empty one.
    with (
        suppress(OSError, ValueError),
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        at = content.find(needle)
        while at >= 0:
            begin = content.rfind(b"\n", 0, at) + 1
            end = content.find(b"\n", at)
            end = len(content) if end < 0 else end
            yield content[begin:end]
            at = content.find(needle, end)
