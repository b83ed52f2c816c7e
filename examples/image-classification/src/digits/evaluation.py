"""How good predictions are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score, log_loss, recall_score

DIGITS = range(10)


def measure(digits: NDArray[np.int64], probabilities: NDArray[np.float64]) -> dict[str, float]:
    """Metrics of the probabilities of the ten digits against the true ones.

    `worst_recall` is the share found of the digit that is found least.
    """
    predictions = probabilities.argmax(axis=1)
    recalls = recall_score(digits, predictions, labels=DIGITS, average=None, zero_division=1)
    metrics = {
        "accuracy": accuracy_score(digits, predictions),
        "f1": f1_score(digits, predictions, labels=DIGITS, average="macro", zero_division=1),
        "log_loss": log_loss(digits, probabilities, labels=DIGITS),
        "worst_recall": recalls.min(),
    }
    rounded = {name: round(float(value), 6) for name, value in metrics.items()}
    return {**rounded, "rows": len(digits)}
