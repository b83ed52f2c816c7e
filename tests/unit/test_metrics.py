"""Metrics files as stages may write them, good and bad."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlspec.errors import MlspecError
from mlspec.metrics import MAX_BYTES, MAX_METRICS, MAX_NAME, load_metrics


@pytest.fixture
def metrics(tmp_path: Path) -> Path:
    return tmp_path / "metrics.json"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", {}),
        ('{"accuracy": 0.93, "rows": 12}', {"accuracy": 0.93, "rows": 12.0}),
        ('{"auc": {"women": 1, "men": {"old": 2e-3}}}', {"auc.women": 1.0, "auc.men.old": 0.002}),
        ('{"loss": -0.0, "größe f1 @ 0.5": 3}', {"loss": 0.0, "größe f1 @ 0.5": 3.0}),
        ('{"empty": {}}', {}),
    ],
)
def test_flat_names_and_numbers(metrics: Path, text: str, expected: dict[str, float]) -> None:
    metrics.write_text(text)
    assert load_metrics(metrics, "m.json") == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"a": NaN}', "a is nan, expected a finite number"),
        ('{"a": Infinity}', "a is inf, expected a finite number"),
        ('{"a": -Infinity}', "a is -inf, expected a finite number"),
        ('{"a": 1e999}', "a is inf, expected a finite number"),
        ('{"a": 1' + "0" * 400 + "}", "a is inf, expected a finite number"),
        ('{"a": 1' + "0" * 5000 + "}", "not JSON: Exceeds the limit"),
        ('{"a": "0.9"}', 'a is "0.9", expected a number'),
        ('{"a": "\\u001b[31m\\u202e"}', 'a is "\\u001b[31m\\u202e", expected a number'),
        ('{"a": true}', "a is true, expected a number"),
        ('{"a": null}', "a is null, expected a number"),
        ('{"a": [1, 2]}', "a is [1, 2], expected a number"),
        ('{"a": {"b": "x"}}', 'a.b is "x", expected a number'),
        ('{"a": "' + "x" * 1000 + '"}', 'a is "' + "x" * 79 + ", expected a number"),
        ('{"a": 1, "a": 2}', "not JSON: a key is given twice"),
        ('{"a": {"b": 1, "b": 1}}', "not JSON: a key is given twice"),
        ('{"a.b": 1, "a": {"b": 1}}', "a.b is given twice"),
        ("[1]", "expected a JSON object of metrics"),
        ("0.9", "expected a JSON object of metrics"),
        ("", "not JSON: Expecting value"),
        ("accuracy: 0.9", "not JSON: Expecting value"),
        ('{"a": 1', "not JSON: Expecting"),
        ('{"a": 1} {"b": 2}', "not JSON: Extra data"),
        ('\ufeff{"a": 1}', "not JSON: Unexpected UTF-8 BOM"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "nested too deeply"),
        ('{"a":' * 500 + "1" + "}" * 500, "is not a name of a metric"),
        ('{"' + "x" * (MAX_NAME + 1) + '": 1}', "is not a name of a metric"),
        ('{"": 1}', "'' is not a name of a metric"),
        ('{"a\\u001b[31m": 1}', "'a\\x1b[31m' is not a name of a metric"),
        ('{"a\\u202eb": 1}', "'a\\u202eb' is not a name of a metric"),
        ('{"a\\ud800": 1}', "'a\\ud800' is not a name of a metric"),
        ('{"a\\nb": 1}', "'a\\nb' is not a name of a metric"),
    ],
)
def test_what_is_wrong_is_said(metrics: Path, text: str, problem: str) -> None:
    metrics.write_text(text)
    with pytest.raises(MlspecError) as caught:
        load_metrics(metrics, "build/m.json")
    assert caught.value.message.startswith("build/m.json: ")
    assert problem in caught.value.message
    assert caught.value.hint


def test_bytes_that_are_not_text(metrics: Path) -> None:
    metrics.write_bytes(b'{"a\xff": 1}')
    with pytest.raises(MlspecError, match="not JSON: 'utf-8' codec"):
        load_metrics(metrics, "m.json")


def test_a_file_that_is_not_there(metrics: Path) -> None:
    with pytest.raises(MlspecError, match="cannot be read: No such file"):
        load_metrics(metrics, "m.json")


def test_a_folder(metrics: Path) -> None:
    metrics.mkdir()
    with pytest.raises(MlspecError, match="cannot be read: Is a directory"):
        load_metrics(metrics, "m.json")


@pytest.mark.parametrize(("size", "good"), [(MAX_BYTES, True), (MAX_BYTES + 1, False)])
def test_size_is_limited(metrics: Path, size: int, good: bool) -> None:
    metrics.write_text('{"a": 1}'.ljust(size))
    if good:
        assert load_metrics(metrics, "m.json") == {"a": 1.0}
    else:
        with pytest.raises(MlspecError, match=f"limited to {MAX_BYTES} bytes"):
            load_metrics(metrics, "m.json")


def test_a_file_that_never_ends_is_not_read_to_its_end() -> None:
    with pytest.raises(MlspecError, match="limited to"):
        load_metrics(Path("/dev/zero"), "m.json")


def test_the_number_of_metrics_is_limited(metrics: Path) -> None:
    metrics.write_text("{" + ", ".join(f'"m{n}": {n}' for n in range(MAX_METRICS)) + "}")
    assert len(load_metrics(metrics, "m.json")) == MAX_METRICS
    metrics.write_text("{" + ", ".join(f'"m{n}": {n}' for n in range(MAX_METRICS + 1)) + "}")
    with pytest.raises(MlspecError, match=f"more than {MAX_METRICS} metrics"):
        load_metrics(metrics, "m.json")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read(metrics: Path) -> None:
    metrics.write_text("{}")
    metrics.chmod(0)
    with pytest.raises(MlspecError, match="Permission denied"):
        load_metrics(metrics, "m.json")
