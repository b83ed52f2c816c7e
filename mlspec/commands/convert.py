"""`mlspec convert`: a model as ONNX, with figures of how alike and how fast it answers.

It is made to be the command of a stage: the figures are metrics, which gates judge.
"""

from __future__ import annotations

import json
from pathlib import Path

from mlspec.errors import MlspecError
from mlspec.formats import convert_artifact
from mlspec.render.console import Console
from mlspec.render.style import escape
from mlspec.render.waiting import waiting

ENDINGS = {
    ".pt2": "pytorch",
    ".cbm": "catboost",
    ".joblib": "joblib",
    ".json": "xgboost",
    ".lgb": "lightgbm",
    ".skops": "skops",
    ".txt": "lightgbm",
    ".ubj": "xgboost",
}


def run_convert(
    start: Path,
    console: Console,
    model: str,
    out: str,
    *,
    sample: str,
    format: str,  # noqa: A002
    metrics: str,
    trusted: str,
    tolerance: float | None = None,
    optional: bool = False,
    columns: str = "",
    as_json: bool,
) -> int:
    """Write `out`, and the figures to the file `metrics` if one is named."""
    kind = format or ENDINGS.get(Path(model).suffix, "")
    if not kind:
        raise MlspecError(
            f"{escape(model)} does not say of which format it is", hint="say it: --format skops"
        )
    place = start / out
    place.parent.mkdir(parents=True, exist_ok=True)
    with waiting("converting"):
        figures = convert_artifact(
            start / model,
            kind,
            start / sample,
            place,
            trusted,
            tolerance,
            optional=optional,
            columns=_read_columns(columns),
        )
    if metrics:
        (start / metrics).parent.mkdir(parents=True, exist_ok=True)
        (start / metrics).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    if as_json:
        console.say_json(figures)
        return 0
    if "onnx_equal" not in figures:
        console.say(f"{escape(model)} is {escape(place.read_text(encoding='utf-8').strip())}")
        return 0
    console.say(
        f"{escape(out)}: {figures['onnx_equal']:.2%} of {figures['onnx_rows']:,} predictions are "
        f"equal, numbers differ by {figures['onnx_difference']:.2g} at most; a row takes "
        f"{figures['onnx_microseconds']:,.0f} µs instead of {figures['own_microseconds']:,.0f} µs"
    )
    return 0


def _read_columns(text: str) -> dict[str, str]:
    if not text:
        return {}
    try:
        columns = json.loads(text)
    except ValueError:
        columns = None
    if not isinstance(columns, dict) or not all(isinstance(each, str) for each in columns.values()):
        raise MlspecError(
            "--columns is not a JSON object of types",
            hint="""write --columns '{"age": "number"}'""",
        )
    return columns
