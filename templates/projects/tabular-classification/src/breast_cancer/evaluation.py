"""How good predictions are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    precision_score,
    recall_score,
    roc_auc_score,
)


def measure(labels: NDArray[np.int64], scores: NDArray[np.float64]) -> dict[str, float]:
    """Metrics of the scores, the probabilities of malignancy, against the true labels."""
    predictions = scores >= 0.5
    metrics = {
        "accuracy": accuracy_score(labels, predictions),
        "auc": roc_auc_score(labels, scores),
        "brier": brier_score_loss(labels, scores),
        "precision": precision_score(labels, predictions),
        "recall": recall_score(labels, predictions),
    }
    rounded = {name: round(float(value), 6) for name, value in metrics.items()}
    return {**rounded, "rows": len(labels)}
