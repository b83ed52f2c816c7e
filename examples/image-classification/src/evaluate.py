"""Stage `evaluate`: ask the exported model, as the service will, and measure its answers."""

from __future__ import annotations

import json

import numpy as np
from onnxruntime import InferenceSession

from digits.evaluation import measure
from digits.files import ARTIFACT, METRICS, PREDICTIONS, TEST, save
from digits.images import make_images
from digits.rows import format_rows, load_rows


def main() -> None:
    images = make_images(load_rows(TEST))
    session = InferenceSession(ARTIFACT)
    (answers,) = session.run(["probabilities"], {"input": images.pixels.astype(np.float32)})
    probabilities = answers.astype(np.float64)
    # In 32 bits they sum to almost one; what is left over is not the model's error.
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    metrics = measure(images.digits, probabilities)
    predictions = [
        {"id": name, "label": digit, "prediction": row.argmax(), "score": f"{row.max():.6f}"}
        for name, digit, row in zip(images.ids, images.digits, probabilities, strict=True)
    ]
    save(METRICS, (json.dumps(metrics, indent=2) + "\n").encode())
    save(PREDICTIONS, format_rows(predictions))
    print(" ".join(f"{name}={value:g}" for name, value in metrics.items()))


if __name__ == "__main__":
    main()
