"""How good predictions are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error


def measure(values: NDArray[np.float64], predictions: NDArray[np.float64]) -> dict[str, float]:
    """Metrics of predictions against the true values."""
    metrics = {
        "rmse": root_mean_squared_error(values, predictions),
        "mae": mean_absolute_error(values, predictions),
        "r2": r2_score(values, predictions),
    }
    rounded = {name: round(float(value), 6) for name, value in metrics.items()}
    return {**rounded, "rows": len(values)}
