"""Reads the signature of a TorchScript model; runs in the child process of `mlspec.formats`.

Written by `torch.jit.save`. Its reader is of PyTorch's own and makes nothing but tensors, lists and
its own scripted classes. It does not keep how many columns it takes: the spec says so, or a list of
their names that was saved with it, `_extra_files={"columns": json.dumps(names)}`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlspec.formats.inspect import HOW_TO_SAVE, Unservable
from mlspec.formats.tensors import (
    describe_model,
    first_line,
    list_members,
    number_type,
    open_archive,
    run_torch,
    take_columns,
)

KIND = "a TorchScript model"
SAVE = HOW_TO_SAVE["torchscript"]
WITHOUT = "script a model that only calculates"
_FILES = re.compile(rb"\b(?:torch|aten)\.(?:from_file|save|load)\b")


def read_signature(path: Path, *, columns: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Run it on two rows and say what it takes and gives."""
    with open_archive(path, KIND, SAVE) as archive:
        members = list_members(archive, KIND, SAVE)
        if "archive_format" in members:
            raise Unservable("is an exported program", "write `format: pytorch`")
        if "constants.pkl" not in members:
            if "data.pkl" in members:
                raise Unservable("is a pickle of torch.save, which can run any code", SAVE)
            raise Unservable(f"is not {KIND}", SAVE)
        for name, whole in members.items():
            if name.startswith("code/") and (call := _FILES.search(archive.read(whole))):
                said = call[0].decode(errors="replace")
                raise Unservable(f"calls {said}, which reads or writes files", WITHOUT)
        kept = members.get("extra/columns")
        names = archive.read(kept).decode(errors="replace") if kept else None
    found = take_columns(columns or {}, names, None)
    import torch

    try:
        model = torch.jit.load(str(path), map_location="cpu").eval()
    except Exception as error:  # RuntimeError, and what its reader of archives raises
        raise Unservable(f"is not {KIND}: {first_line(error)}", SAVE) from None
    return describe_model(found, [len(found)], number_type(model, found), run_torch(model))
