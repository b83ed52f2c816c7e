"""Reads the signature of an exported program of PyTorch; in the child process of `mlspec.formats`.

Written by `torch.export.save`. PyTorch loads some parts of such a file as pickles, calls functions
that it names, and evaluates its sizes as Python. So it is looked through before: it may hold plain
tensors, operators of PyTorch, and sizes that are formulas of whole numbers; nothing else is loaded.
"""

from __future__ import annotations

import ast
import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlspec.formats.inspect import HOW_TO_SAVE, Unservable
from mlspec.formats.tensors import (
    describe_model,
    first_line,
    list_members,
    open_archive,
    run_torch,
    take_columns,
)

KIND = "an exported program"
SAVE = HOW_TO_SAVE["pytorch"]
DYNAMIC = "export with dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)"
_MODEL = "models/model.json"
_SAMPLE = "data/sample_inputs/model.pt"
_CONFIGS = {
    "data/weights/model_weights_config.json": "weight_",
    "data/constants/model_constants_config.json": "tensor_",
}
_OPERATORS = re.compile(
    r"torch\.ops\.(aten|prims)\.(?!from_file|save)\w+(\.\w+)?|torch\.sym_\w+|math\.\w+"
    r"|_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|pow|neg|eq|ne|lt|le|gt|ge|and_|or_)"
)
_FORMULA = (
    *(ast.Expression, ast.BinOp, ast.UnaryOp, ast.Constant, ast.Name, ast.Load, ast.Call),
    *(ast.operator, ast.unaryop, ast.Compare, ast.cmpop, ast.keyword),
)
_FUNCTION = re.compile(r"[A-Z][A-Za-z]+")
"""One of sizes, such as FloorDiv and Max."""


def read_signature(path: Path, *, columns: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Run it on two rows and say what it takes and gives."""
    program, names = _load(path)
    import torch

    model = program.module(check_guards=False)
    taken = [
        node.meta.get("val")
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name in program.graph_signature.user_inputs
    ]
    if len(taken) != 1 or not isinstance(taken[0], torch.Tensor) or not taken[0].ndim:
        raise Unservable("does not take exactly one tensor", "export a model of one input [N, ...]")
    rows, *sizes = taken[0].shape
    if isinstance(rows, int):
        raise Unservable(f"takes exactly {rows} rows at once", DYNAMIC)
    if not all(isinstance(size, int) for size in sizes):
        raise Unservable("does not say how many values a row has", DYNAMIC)
    dtype = str(taken[0].dtype).removeprefix("torch.")
    if dtype not in ("float16", "float32", "float64", "int32", "int64"):
        raise Unservable(f"takes tensors of {dtype}", "export it with float32 or int64")
    width = 1
    for size in sizes:
        width *= size
    found = take_columns(columns or {}, names, width, whole=dtype.startswith("int"))
    return describe_model(found, sizes, dtype, run_torch(model))


def load_model(path: Path) -> Any:
    """The program; nothing of it is a pickle."""
    return _load(path)[0]


def _load(path: Path) -> tuple[Any, str | None]:
    """The program, and the names of its columns if they were saved with it."""
    with open_archive(path, KIND, SAVE) as archive:
        names = _check(archive, list_members(archive, KIND, SAVE))
    import torch

    try:
        program = torch.export.load(str(path))
        program.module(check_guards=False)
    except Exception as error:  # whatever its reader raises
        raise Unservable(f"is not {KIND}: {first_line(error)}", SAVE) from None
    return program, names


def _check(archive: zipfile.ZipFile, members: Mapping[str, str]) -> str | None:
    """The names that were saved with it; `Unservable` if it holds what would be run."""
    if "archive_format" not in members:
        if "constants.pkl" in members:
            raise Unservable("is a TorchScript model", "write `format: torchscript`")
        if "data.pkl" in members:
            raise Unservable("is a pickle of torch.save, which can run any code", SAVE)
        raise Unservable(f"is not {KIND}", SAVE)
    if [name for name in members if name.startswith("models/")] != [_MODEL]:
        raise Unservable(f"is not {KIND}", SAVE)
    if any(name.startswith("data/aotinductor/") for name in members):
        raise Unservable("holds compiled code of AOTInductor, which is not loaded", SAVE)
    try:
        for name, begin in _CONFIGS.items():
            kept = json.loads(archive.read(members[name]))["config"] if name in members else {}
            for weight, said in kept.items():
                if said["use_pickle"] or not said["path_name"].startswith(begin):
                    raise Unservable(f"holds {weight} as a pickle, which is not loaded", SAVE)
        _check_graph(json.loads(archive.read(members[_MODEL])))
        if _SAMPLE in members and (sample := archive.read(members[_SAMPLE])):
            import torch

            # What fails to load so, PyTorch would go on to load as any pickle.
            torch.load(io.BytesIO(sample), weights_only=True)
        kept = members.get("extra/columns")
        return archive.read(kept).decode(errors="replace") if kept else None
    except Unservable:
        raise
    except Exception as error:
        raise Unservable(f"is not {KIND}: {first_line(error)}", SAVE) from None


def _check_graph(program: Any) -> None:
    for key, value in _strings(program):
        if key in ("target", "as_operator") and not _OPERATORS.fullmatch(value):
            raise Unservable(f"calls {value[:100]}, which is no operator of PyTorch")
        if key == "expr_str" and not _is_formula(value):
            raise Unservable(f"has a size that is no formula: {value[:100]}")


def _strings(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """All texts, with the keys that they stand under."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _strings(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner, key)


def _is_formula(text: str) -> bool:
    """Numbers, names and functions of sizes; texts only as names of symbols."""
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    named = set()
    for node in nodes:
        if not isinstance(node, _FORMULA):
            return False
        if isinstance(node, ast.Call):
            if not isinstance(node.func, ast.Name) or not _FUNCTION.fullmatch(node.func.id):
                return False
            if node.func.id == "Symbol":
                named |= set(map(id, node.args))
    texts = [node for node in nodes if isinstance(node, ast.Constant)]
    return all(
        isinstance(node.value, (int, float))
        or (id(node) in named and isinstance(node.value, str) and node.value.isidentifier())
        for node in texts
    ) and not any(isinstance(node, ast.Name) and "__" in node.id for node in nodes)
