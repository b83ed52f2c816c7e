"""Stage `train`: fit the model and write it as ONNX."""

from __future__ import annotations

from digits.files import ARTIFACT, TRAIN, load_params, save
from digits.images import add_shifted, make_images
from digits.model import export_model, fit_model
from digits.rows import load_rows


def main() -> None:
    params = load_params("train")
    images = make_images(load_rows(TRAIN))
    if params["augment"]:
        images = add_shifted(images)
    model = fit_model(images, params["hidden"], params["epochs"], params["seed"])
    save(ARTIFACT, export_model(model))
    print(f"fitted to {len(images.ids)} images")


if __name__ == "__main__":
    main()
