"""A folder of this machine in the layout of a snapshot of Hugging Face, or one file of it.

All is taken but hidden files, and pickles where the same weights are there as safetensors: to load
a pickle is to run whatever it says.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from mlspec.errors import MlspecError
from mlspec.fetching.sink import Budget, Got, Sink, copy_file

CONFIG = "config.json"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".msgpack", ".h5")
SAFE = (".safetensors", ".onnx")
MOST_FILES = 10_000


def bring(folder: Path, path: str, place: Path, budget: Budget) -> Got:
    """Have a copy of the folder, or of the file `path` in it, at `place`.

    The digest of a folder is that of its list: for each file, by path, its sha256, two spaces, its
    path, a line end; as `sha256sum` prints it.
    """
    if not folder.is_dir():
        raise MlspecError(
            f"there is no folder {folder}",
            hint="it is read where the model is fetched first; later, clones have it from storage",
        )
    root = Path(os.path.realpath(folder))
    if path:
        _check_safe(path)
        with Sink(place, budget) as sink:
            _copy(root, path, sink, budget)
        return sink.got
    files = list(_choose(root, sorted(_walk(root, ""))))
    place.mkdir()
    listing = hashlib.sha256()
    size = 0
    for file in files:
        (place / file).parent.mkdir(parents=True, exist_ok=True)
        with Sink(place / file, budget) as sink:
            _copy(root, file, sink, budget)
        listing.update(f"{sink.hex}  {file}\n".encode())
        size += sink.taken
    return Got(place, f"sha256:{listing.hexdigest()}", size)


def _walk(root: Path, below: str) -> Iterator[str]:
    with os.scandir(root / below) as entries:
        for entry in entries:
            name = f"{below}/{entry.name}" if below else entry.name
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(root, name)
            else:
                yield name


def _choose(root: Path, files: list[str]) -> Iterator[str]:
    """The files that are taken; raises if this is no model that can be."""
    if CONFIG not in files:
        raise MlspecError(
            f"{root} is no snapshot of a model: it has no {CONFIG}",
            hint="give the folder that `huggingface-cli download` printed, or name one file: path",
        )
    if len(files) > MOST_FILES:
        raise MlspecError(f"{root} has more than {MOST_FILES:,} files")
    pickled = [file for file in files if file.endswith(PICKLED)]
    if not any(file.endswith(SAFE) for file in files):
        if pickled:
            _check_safe(pickled[0])
        raise MlspecError(f"{root} has no weights: no *{SAFE[0]}, and no *{SAFE[1]}")
    yield from (file for file in files if file not in pickled)


def _check_safe(path: str) -> None:
    if path.endswith(PICKLED):
        raise MlspecError(
            f"{path} may be a pickle, and loading one may run any code: it is not taken",
            hint="convert it where you trust it: AutoModel.from_pretrained(FOLDER)"
            ".save_pretrained(NEW, safe_serialization=True), or export it to ONNX",
        )


def _copy(root: Path, path: str, sink: Sink, budget: Budget) -> None:
    real = Path(os.path.realpath(root / path))
    if not any(real.is_relative_to(each) for each in _own(root)):
        raise MlspecError(f"{path} leads out of {root}, through a link")
    copy_file(real, sink, budget)


def _own(root: Path) -> Iterator[Path]:
    """Where links may lead: Hugging Face's cache keeps the bytes of a snapshot beside it."""
    yield root
    if root.parent.name == "snapshots":
        yield root.parent.parent / "blobs"
