"""Stage `evaluate`: ask the exported model, as the service will, and measure its answers."""

from __future__ import annotations

import json

import numpy as np
from onnxruntime import InferenceSession

from breast_cancer.evaluation import measure
from breast_cancer.files import ARTIFACT, METRICS, PREDICTIONS, TEST, save
from breast_cancer.rows import format_rows, load_rows
from breast_cancer.samples import make_samples


def main() -> None:
    samples = make_samples(load_rows(TEST))
    session = InferenceSession(ARTIFACT)
    (probabilities,) = session.run(
        ["probabilities"], {"input": samples.features.astype(np.float32)}
    )
    scores = probabilities[:, 1].astype(np.float64)
    metrics = measure(samples.labels, scores)
    predictions = [
        {"id": name, "label": label, "prediction": int(score >= 0.5), "score": f"{score:.6f}"}
        for name, label, score in zip(samples.ids, samples.labels, scores, strict=True)
    ]
    save(METRICS, (json.dumps(metrics, indent=2) + "\n").encode())
    save(PREDICTIONS, format_rows(predictions))
    print(" ".join(f"{name}={value:g}" for name, value in metrics.items()))


if __name__ == "__main__":
    main()
