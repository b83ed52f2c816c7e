from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnxruntime import InferenceSession

from digits.evaluation import measure
from digits.images import COLUMNS, LABEL, SIDE, Images, add_shifted, make_images
from digits.model import export_model, fit_model


@pytest.fixture(scope="module")
def images() -> Images:
    """Images with ink in one line, another for each digit, and some noise."""
    random = np.random.default_rng(7)
    digits = np.repeat(np.arange(10), 20)
    pixels = random.uniform(0, 2, size=(200, SIDE * SIDE))
    for image, digit in zip(pixels, digits, strict=True):
        image[digit * 6 : digit * 6 + 6] = 16
    return Images([str(number) for number in range(200)], pixels, digits)


def test_images_keep_the_order_of_pixels() -> None:
    row = {column: str(number) for number, column in enumerate(COLUMNS)}
    images = make_images([{**row, "id": "a", LABEL: "3"}])
    assert images.pixels.tolist() == [list(range(SIDE * SIDE))]
    assert images.digits.tolist() == [3]


def test_a_missing_pixel_is_an_error() -> None:
    with pytest.raises(KeyError, match="p00"):
        make_images([{"id": "a", LABEL: "1"}])


def test_shifted_copies_follow_the_images() -> None:
    pixels = np.zeros((1, SIDE, SIDE))
    pixels[0, 3, 4] = 16
    shifted = add_shifted(Images(["a"], pixels.reshape(1, -1), np.array([7])))
    ink = [divmod(int(copy.argmax()), SIDE) for copy in shifted.pixels]
    assert ink == [(3, 4), (2, 4), (4, 4), (3, 3), (3, 5)]
    assert shifted.digits.tolist() == [7] * 5


def test_lines_are_told_apart(images: Images) -> None:
    model = fit_model(images, hidden=16, epochs=60, seed=7)
    assert model.score(images.pixels, images.digits) > 0.95


def test_the_exported_model_answers_like_the_fitted_one(images: Images) -> None:
    model = fit_model(images, hidden=8, epochs=10, seed=7)
    session = InferenceSession(export_model(model))
    label, probabilities = session.run(None, {"input": images.pixels.astype(np.float32)})
    np.testing.assert_allclose(probabilities, model.predict_proba(images.pixels), atol=1e-4)
    assert (label == probabilities.argmax(axis=1)).all()


def test_the_exported_model_names_its_columns(images: Images) -> None:
    exported = onnx.load_from_string(export_model(fit_model(images, 8, 2, seed=7)))
    (columns,) = (prop.value for prop in exported.metadata_props if prop.key == "columns")
    assert json.loads(columns) == list(COLUMNS)


def test_the_same_images_give_the_same_bytes(images: Images) -> None:
    first, second = (export_model(fit_model(images, 8, 5, seed=7)) for _ in range(2))
    assert first == second


def test_certain_and_right_is_perfect() -> None:
    metrics = measure(np.arange(10), np.eye(10))
    assert metrics == {"accuracy": 1, "f1": 1, "log_loss": 0, "worst_recall": 1, "rows": 10}
