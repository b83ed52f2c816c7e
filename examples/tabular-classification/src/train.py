"""Stage `train`: fit the model and write it as ONNX."""

from __future__ import annotations

from breast_cancer.files import ARTIFACT, TRAIN, load_params, save
from breast_cancer.model import export_model, fit_model
from breast_cancer.rows import load_rows
from breast_cancer.samples import make_samples


def main() -> None:
    params = load_params("train")
    samples = make_samples(load_rows(TRAIN))
    model = fit_model(samples, params["C"], params["max_iter"])
    save(ARTIFACT, export_model(model))
    print(f"fitted to {len(samples.ids)} rows")


if __name__ == "__main__":
    main()
