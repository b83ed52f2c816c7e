"""What came of comparing a model with itself as ONNX: which of the two services answer with.

Comes in: the run of the stage `convert`, whose metrics hold the decision. Goes out: the record of
it. Nothing is measured here, so that a stage that is known decides as it did before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlspec.errors import MlspecError
from mlspec.fingerprint import CONVERT
from mlspec.formats import inspect_artifact
from mlspec.ledger.records import Conversion, File
from mlspec.providers.context import Context
from mlspec.providers.stages import bring_output
from mlspec.resources import ModelResource, StageResource
from mlspec.spec.models import Convert

MOST_TEXT = 1000


def load_conversion(
    resource: ModelResource, signature: Mapping[str, Any] | None, context: Context
) -> Conversion | None:
    """Of a model that may be served as ONNX; `signature` is that of its artifact."""
    address = f"stage.{resource.name}.{CONVERT}"
    if address not in resource.stages or signature is None:
        return None
    stage = context.desired.get(StageResource, address)
    if not isinstance(stage.stage, Convert):
        return None
    run = context.recorded.run(resource.name, CONVERT, context.facts.fingerprints[address])
    if run is None:
        raise MlspecError(f"the ledger lost the run of {address}")
    [path] = stage.stage.outputs
    bring_output(context, address, path, context.facts.contents[address][path])
    found = context.worktree.digest(path)
    assert found is not None
    said = describe(run.metrics, context.root.joinpath(path).read_bytes()[:MOST_TEXT])
    if not run.metrics.get("onnx_served"):
        return Conversion(said=said)
    converted = inspect_artifact(context.root / path, "onnx")
    # What a row has stays what the model itself takes: missing values too were compared.
    taken = {key: signature[key] for key in ("columns", "example")}
    file = File(path=path, format="onnx", md5=found.md5, size=found.size)
    return Conversion(said=said, file=file, signature={**converted, **taken})


def describe(metrics: Mapping[str, float], head: bytes) -> str:
    """The decision and the figures that it was made by; `head` begins what was written."""
    if "onnx_equal" not in metrics:
        return f"served as it is: {head.decode(errors='replace').partition(chr(10))[0]}"
    difference, rows = metrics["onnx_difference"], metrics["onnx_rows"]
    figures = f"{difference:.1g} largest difference on {rows:.0f} rows"
    if metrics["onnx_equal"] < 1:
        figures = f"{metrics['onnx_equal']:.2%} equal, {figures}"
    figures += f", {metrics['onnx_speedup']:.1f}x as fast"
    if metrics["onnx_served"]:
        return f"served as ONNX: {figures}"
    return f"served as it is: as ONNX {figures}"
