"""Reads the signature of a joblib file; runs in the child process of `mlspec.formats`.

A joblib file is a pickle: loading it runs whatever code it asks for. It is loaded here and in its
service, never in mlspec's own process, and only if the spec says why it is trusted.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlspec.formats.estimator import describe_estimator
from mlspec.formats.inspect import Unservable


def read_signature(
    path: Path, *, trusted: str = "", known: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """Load the estimator, run it on two rows and say what it takes and gives.

    `known` is what the training data say of its columns.
    """
    if not trusted.strip():
        raise Unservable(
            "is a pickle, which can run any code when it is loaded",
            "write skops (skops.io.dump) or ONNX, or say in the spec why it is `trusted`",
        )
    return describe_estimator(load_model(path), known or {})


def load_model(path: Path) -> Any:
    """The estimator; whoever asks for it trusts the file."""
    import joblib

    try:
        return joblib.load(path)
    except ModuleNotFoundError:
        raise
    except Exception as error:  # a damaged pickle fails in many ways
        raise Unservable(
            f"is not loaded by joblib: {error or type(error).__name__}",
            "write it with joblib.dump(estimator, path), with the versions that are pinned",
        ) from None
