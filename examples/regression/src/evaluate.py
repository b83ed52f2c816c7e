"""Stage `evaluate`: ask the exported model, as the service will, and measure its answers."""

from __future__ import annotations

import json

import numpy as np
from onnxruntime import InferenceSession

from diabetes.evaluation import measure
from diabetes.files import ARTIFACT, METRICS, PREDICTIONS, TEST, save
from diabetes.rows import format_rows, load_rows
from diabetes.samples import make_samples


def main() -> None:
    samples = make_samples(load_rows(TEST))
    session = InferenceSession(ARTIFACT)
    (answers,) = session.run(["prediction"], {"input": samples.features.astype(np.float32)})
    values = answers[:, 0].astype(np.float64)
    metrics = measure(samples.values, values)
    predictions = [
        {"id": name, "label": f"{true:g}", "prediction": f"{value:.4f}"}
        for name, true, value in zip(samples.ids, samples.values, values, strict=True)
    ]
    save(METRICS, (json.dumps(metrics, indent=2) + "\n").encode())
    save(PREDICTIONS, format_rows(predictions))
    print(" ".join(f"{name}={value:g}" for name, value in metrics.items()))


if __name__ == "__main__":
    main()
