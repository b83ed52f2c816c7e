"""Fits price = slope * size to the rows of a shop: `train.py SHOP`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rows import parse


def train(text: str, rate: float) -> tuple[str, str]:
    """The model and the metrics, as JSON."""
    rows, slope = parse(text), 0.0
    for size, price in rows:
        slope += rate * (price - slope * size) / size
    error = sum(abs(price - slope * size) for size, price in rows) / len(rows)
    return json.dumps({"slope": slope}), json.dumps({"error": error})


if __name__ == "__main__":
    shop = sys.argv[1]
    folder = Path("shops", shop)
    params = json.loads(Path("pipelines", shop, "params.json").read_text())["train"]
    model, metrics = train((folder / "prepared.csv").read_text(), params["rate"])
    (folder / "model.json").write_text(model)
    (folder / "metrics.json").write_text(metrics)
