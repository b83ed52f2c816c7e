"""Reads the signature of a skops file; runs in the child process of `mlspec.formats`."""

from __future__ import annotations

import importlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlspec.formats.estimator import describe_estimator
from mlspec.formats.inspect import Unservable


def read_signature(
    path: Path, *, known: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """Load the estimator, run it on two rows and say what it takes and gives.

    `known` is what the training data say of its columns.
    """
    return describe_estimator(load_model(path), known or {})


def load_model(path: Path) -> Any:
    """The estimator, which is made of nothing but trusted types."""
    import skops.io

    if not zipfile.is_zipfile(path):
        raise Unservable("is not a skops file", "write it with skops.io.dump(estimator, path)")
    try:
        named = skops.io.get_untrusted_types(file=path)
        if refused := [name for name in named if not is_trusted(name)]:
            raise Unservable(
                f"holds types that are not loaded: {', '.join(refused)}",
                "only estimators of scikit-learn and functions of numpy are served from skops",
            )
        return skops.io.load(path, trusted=named)
    except Unservable:
        raise
    except Exception as error:  # a damaged file fails in many ways
        raise Unservable(f"is not loaded by skops: {error}") from None


def is_trusted(name: str) -> bool:
    """Classes of scikit-learn; scalar types, their descriptions and elementwise functions of numpy.

    The generated service holds the same rule, because it runs without mlspec.
    """
    import numpy

    module, _, attribute = name.rpartition(".")
    package = module.partition(".")[0]
    if package not in ("sklearn", "numpy"):
        return False
    try:
        value = getattr(importlib.import_module(module), attribute, None)
    except ImportError:
        return False
    if package == "sklearn":
        return isinstance(value, type)
    scalar = isinstance(value, type) and issubclass(value, numpy.generic | numpy.dtype)
    return scalar or isinstance(value, numpy.ufunc)
