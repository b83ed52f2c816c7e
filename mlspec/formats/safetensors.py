"""Reads the signature of a module of the user's with weights of safetensors; in the child process.

The class is a `torch.nn.Module`, made without arguments, or with those that the file keeps as JSON
in its metadata `config`; metadata `columns` is a JSON list of names. The weights must be exactly
those of the module. Its code is a copy of the files that its service will have.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlspec.formats.inspect import HOW_TO_SAVE, Unservable
from mlspec.formats.python import FIXED, call, find_class
from mlspec.formats.tensors import (
    describe_model,
    first_line,
    number_type,
    run_torch,
    take_columns,
)

SAVE = HOW_TO_SAVE["safetensors"]


def read_signature(
    path: Path, *, class_name: str, code: str, columns: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Make the module, give it its weights, run it on two rows and say what it takes and gives."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError) as error:
        raise Unservable(f"is no file of safetensors: {first_line(error)}", SAVE) from None
    found = take_columns(columns or {}, metadata.get("columns"), None)
    config = _read_config(metadata)
    kind = find_class(class_name, code)
    module = call(class_name, "__init__", lambda: kind(**config))
    if not callable(getattr(module, "load_state_dict", None)):
        raise Unservable(f"{class_name} is no torch.nn.Module", FIXED)
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        said = " ".join(str(error).split())[:300]
        raise Unservable(f"is not the weights of {class_name}: {said}", SAVE) from None
    module.eval()
    return describe_model(found, [len(found)], number_type(module, found), run_torch(module))


def _read_config(metadata: Mapping[str, str]) -> dict[str, Any]:
    try:
        config = json.loads(metadata.get("config", "{}"))
    except ValueError:
        config = None
    if not isinstance(config, dict):
        raise Unservable("its metadata `config` is not a JSON object")
    return config
