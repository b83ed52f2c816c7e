"""Compares the answers of services with those of frameworks, by format: `make bench-formats`.

For each format a model is trained on a data set of scikit-learn, written as the framework writes
it, packaged as an apply does, and served over HTTP by a process of its own. All rows of the data
set are asked. Times are processor time for one row with its probabilities: of the framework's own
calls, and of the service's code from the body of a request to its answer.

Formats whose framework is not installed are left out. Prints Markdown and writes it to
`benchmarks/results/formats.md`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.artifacts import pack, save_weights
from benchmarks.measure import machine
from mlspec.formats import convert_artifact
from mlspec.spec.models import Artifact, Passes

RESULTS = Path(__file__).parent / "results" / "formats.md"
SECONDS = 0.3
TIMEOUT = 120.0
MOST_ROWS = 1000
TREES = 100
OWN_CLASS = """
import numpy


class Predictor:
    def __init__(self, path):
        self.weights = numpy.load(path)

    def signature(self):
        return {"columns": dict.fromkeys(self.weights["names"].tolist(), "number")}

    def predict(self, rows):
        return (self.predict_proba(rows)[:, 1] > 0.5).astype(int)

    def predict_proba(self, rows):
        table = numpy.array([list(row.values()) for row in rows])
        scores = table @ self.weights["slopes"] + self.weights["start"]
        shares = 1 / (1 + numpy.exp(-scores))
        return numpy.column_stack([1 - shares, shares])
"""
OWN_NETWORK = """
import torch


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.LayerNorm(30), torch.nn.Linear(30, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1)
        )

    def forward(self, rows):
        return torch.sigmoid(self.body(rows))
"""
WORDS = ("radius", "texture", "smooth", "rough", "large", "small", "even", "odd")
PROGRAM = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
import service
rows = json.load(sys.stdin)
infer = service.load_model()
body = json.dumps({"rows": rows[:1]}).encode()
began, runs = time.process_time(), 0
while (spent := time.process_time() - began) < SECONDS:
    json.dumps(infer(service.read_rows(body)))
    runs += 1
print(spent / runs * 1e6)
"""


@dataclass(frozen=True)
class Case:
    """A trained model: how it is written, and what its framework answers."""

    artifact: Artifact
    title: str
    data: Any
    write: Callable[[Path], object]
    predict: Callable[[Any], Any]
    probabilities: Callable[[Any], Any] | None = None
    code: tuple[str, ...] = ()


def main() -> int:
    """Measure every format; 1 if any answer is not the framework's."""
    warnings.simplefilter("ignore")
    head = ("format", "model", "rows", "equal", "numbers differ by", "own µs", "service µs")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    wrong = 0
    first: Case | None = None
    for case in _cases():
        first = first or case
        with tempfile.TemporaryDirectory(prefix="mlspec-formats-") as folder:
            equal, difference, own, service = _measure(case, Path(folder))
        wrong += equal < 1
        lines.append(
            f"| {case.artifact.format} | {case.title} | {len(case.data)} | {equal:.1%} | "
            f"{difference:.1e} | {own:,.0f} | {service:,.0f} |"
        )
    assert first is not None
    with tempfile.TemporaryDirectory(prefix="mlspec-formats-") as folder:
        equal, difference = _measure_elsewhere(first, Path(folder))
    wrong += equal < 1
    lines.append(
        f"| http | the {first.artifact.format} above, in another process | "
        f"{len(first.data)} | {equal:.1%} | {difference:.1e} | | |"
    )
    lines += ["", *_conversions()]
    here = machine()
    said = f"{here['cores']} processors, {here['memory_gib']} GiB; processor time in microseconds."
    text = "\n".join([said, "", *lines]) + "\n"
    print(text)  # noqa: T201
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(text, encoding="utf-8")
    return int(wrong > 0)


def _measure(case: Case, root: Path) -> tuple[float, float, float, float]:
    """The share of equal predictions, the largest difference, and both times in microseconds."""
    case.write(root)
    place, signature = pack(root, case.artifact, case.code)
    names = [column["name"] for column in signature["columns"]]
    rows = [dict(zip(names, row, strict=True)) for row in case.data.to_numpy().tolist()]
    answer = _ask(place, rows)
    service = subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("SECONDS", str(SECONDS))],
        cwd=place,
        input=json.dumps(rows[:1]),
        capture_output=True,
        text=True,
        check=True,
    )
    return (*_compare(case, answer), _own(case), float(service.stdout))


def _measure_elsewhere(case: Case, root: Path) -> tuple[float, float]:
    """Likewise of a service that passes requests on to that of `case`; no times."""
    for name in ("there", "here"):
        (root / name).mkdir()
    case.write(root / "there")
    place, signature = pack(root / "there", case.artifact)
    columns = {column["name"]: column["type"] for column in signature["columns"]}
    rows = [dict(zip(columns, row, strict=True)) for row in case.data.to_numpy().tolist()]
    with _running(place) as port:
        passes = Passes(
            url=f"http://127.0.0.1:{port}/predict", answer="integer", probabilities=True
        )
        artifact = Artifact(path="m.json", format="http", columns=columns, passes=passes)
        *_, declared = shlex.split(passes.declare(artifact).command)
        (root / "here/m.json").write_text(declared, encoding="utf-8")
        return _compare(case, _ask(pack(root / "here", artifact).folder, rows))


def _compare(case: Case, answer: Mapping[str, Any]) -> tuple[float, float]:
    """The share of equal predictions, and by how much a number differs at most."""
    expected = numpy.asarray(case.predict(case.data)).ravel()
    found = numpy.asarray(answer["predictions"])
    numbers = (found, expected)
    if case.probabilities is not None:
        numbers = (numpy.asarray(answer["probabilities"]), case.probabilities(case.data))
    return float((found == expected).mean()), float(numpy.abs(numbers[0] - numbers[1]).max())


def _ask(place: Path, rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """What the service answers over HTTP, to as many rows at once as it takes."""
    answers: dict[str, list[Any]] = {}
    with _running(place) as port:
        for start in range(0, len(rows), MOST_ROWS):
            body = json.dumps({"rows": rows[start : start + MOST_ROWS]}).encode()
            with urlopen(f"http://127.0.0.1:{port}/predict", body, timeout=TIMEOUT) as answer:
                for key, values in json.load(answer).items():
                    if isinstance(values, list):
                        answers.setdefault(key, []).extend(values)
    return answers


@contextmanager
def _running(place: Path) -> Iterator[int]:
    """The port of the service in a folder, once it is ready."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "service:app", "--port", str(port)],
            cwd=place,
            stdout=log,
            stderr=log,
        )
        try:
            until = time.monotonic() + TIMEOUT
            while not _is_ready(port):
                if process.poll() is not None or time.monotonic() > until:
                    log.seek(0)
                    raise SystemExit(f"no service: {log.read().decode(errors='replace')}")
                time.sleep(0.05)
            yield port
        finally:
            process.terminate()
            process.wait()


def _is_ready(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/readyz", timeout=TIMEOUT):
            return True
    except OSError:
        return False


def _own(case: Case) -> float:
    """Processor time of the framework's own calls for one row, in microseconds."""
    one = case.data.iloc[:1]
    calls = [each for each in (case.predict, case.probabilities) if each is not None]
    began, runs = time.process_time(), 0
    while (spent := time.process_time() - began) < SECONDS:
        for call in calls:
            call(one)
        runs += 1
    return spent / runs * 1e6


def _cases() -> Iterator[Case]:
    data, target = load_breast_cancer(return_X_y=True, as_frame=True)
    ages, progress = load_diabetes(return_X_y=True, as_frame=True)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(data, target)
    linear = "scaler and logistic regression, breast cancer"
    yield from _estimators(pipeline, linear, data)
    images, digits = load_digits(return_X_y=True, as_frame=True)
    forest = RandomForestClassifier(TREES, random_state=0).fit(images, digits)
    yield from _estimators(forest, f"random forest of {TREES} trees, digits", images)
    wines, makers = load_wine(return_X_y=True, as_frame=True)
    plain = LogisticRegression(max_iter=10_000).fit(data, target)

    def write_weights(root: Path) -> None:
        (root / "own.py").write_text(OWN_CLASS)
        save_weights(root / "m.npz", list(data), plain)

    declared = {"path": "m.npz", "format": "python", "class": "own:Predictor"}
    yield Case(
        Artifact.model_validate(declared),
        "class of weights beside scikit-learn, breast cancer",
        data,
        write_weights,
        plain.predict,
        plain.predict_proba,
        ("own.py",),
    )
    for kind in ("xgboost", "lightgbm", "catboost"):
        if importlib.util.find_spec(kind) is not None:
            classes, numbers = _boosters(kind)
            classes.fit(data, target)
            yield _booster(kind, classes, f"{TREES} trees, breast cancer", data)
            numbers.fit(ages, progress)
            yield _booster(kind, numbers, f"{TREES} trees, diabetes", ages)
            several = _boosters(kind)[0].fit(wines, makers)
            yield _booster(kind, several, f"{TREES} trees, wine", wines)
    if importlib.util.find_spec("torch") is not None:
        yield from _networks(data)
    if importlib.util.find_spec("keras") is not None:
        yield _keras(data)
    if importlib.util.find_spec("transformers") is not None:
        yield _transformers(data)


def _networks(data: Any) -> Iterator[Case]:
    """A network of PyTorch, in each of the forms that it can be kept in."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(7)
    folder = Path(tempfile.mkdtemp(prefix="mlspec-formats-"))
    (folder / "network.py").write_text(OWN_NETWORK)  # TorchScript reads the source
    spec = importlib.util.spec_from_file_location("network", folder / "network.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network = module.Network().eval()
    width = data.shape[1]

    def predict(table: Any) -> Any:
        with torch.inference_mode():
            return network(torch.tensor(table.to_numpy(numpy.float32))).numpy()

    def export(root: Path) -> None:
        free = ({0: torch.export.Dim.DYNAMIC},)
        rows = (torch.zeros(2, width),)
        program = torch.export.export(network, rows, dynamic_shapes=free)
        torch.export.save(program, root / "m.pt2")

    def write_weights(root: Path) -> None:
        from safetensors.torch import save_file

        (root / "network.py").write_text(OWN_NETWORK)
        save_file(network.state_dict(), root / "m.safetensors")

    forms: tuple[tuple[str, str, Callable[[Path], object]], ...] = (
        ("torchscript", "m.pt", lambda root: torch.jit.script(network).save(root / "m.pt")),
        ("pytorch", "m.pt2", export),
        ("safetensors", "m.safetensors", write_weights),
    )
    for kind, path, write in forms:
        own = kind == "safetensors"
        declared = {"path": path, "format": kind, "columns": dict.fromkeys(data, "number")}
        declared |= {"class": "network:Network"} if own else {}
        artifact = Artifact.model_validate(declared)
        code = ("network.py",) if own else ()
        yield Case(artifact, "64 hidden units, breast cancer", data, write, predict, None, code)
    shutil.rmtree(folder)


def _keras(data: Any) -> Case:
    os.environ["KERAS_BACKEND"] = "torch"
    import keras

    keras.utils.set_random_seed(7)
    inputs = keras.Input((data.shape[1],))
    hidden = keras.layers.Dense(64, "relu")(keras.layers.LayerNormalization()(inputs))
    model = keras.Model(inputs, keras.layers.Dense(1, "sigmoid")(hidden))
    return Case(
        Artifact(path="m.keras", format="keras", columns=dict.fromkeys(data, "number")),
        "64 hidden units, breast cancer",
        data,
        lambda root: model.save(root / "m.keras"),
        lambda table: model.predict(table.to_numpy(), batch_size=len(table), verbose=0),
    )


def _transformers(data: Any) -> Case:
    """A small BERT that has learned nothing; texts are made of the rows of the data set."""
    import pandas
    import torch
    import transformers

    torch.set_num_threads(1)
    torch.manual_seed(7)
    high = data > data.median()
    words = [[WORDS[place % 8] for place in numpy.flatnonzero(row)] for row in high.to_numpy()]
    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    with tempfile.TemporaryDirectory(prefix="mlspec-formats-") as folder:
        Path(folder, "vocab.txt").write_text("\n".join([*special, *WORDS]))
        tokenizer = transformers.BertTokenizerFast(f"{folder}/vocab.txt", model_max_length=64)
    config = transformers.BertConfig(
        vocab_size=len(special) + len(WORDS),
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        id2label={0: "benign", 1: "malignant"},
        label2id={"benign": 0, "malignant": 1},
    )
    model = transformers.BertForSequenceClassification(config).eval()
    pipeline = transformers.pipeline(
        "text-classification", model=model, tokenizer=tokenizer, device="cpu"
    )
    kept: list[Any] = []

    def predict(table: Any) -> Any:
        kept[:] = pipeline(table["text"].tolist(), top_k=None)
        return numpy.array([row[0]["label"] for row in kept])

    def probabilities(_: Any) -> Any:
        """Of the call before: the pipeline gives both at once."""
        by_label = [{each["label"]: each["score"] for each in row} for row in kept]
        return numpy.array([[row["benign"], row["malignant"]] for row in by_label])

    return Case(
        Artifact(path="m", format="transformers"),
        "BERT of 2 layers of 128, texts of 17 words",
        pandas.DataFrame({"text": [" ".join(row) for row in words]})[:100],
        lambda root: pipeline.save_pretrained(root / "m"),
        predict,
        probabilities,
    )


def _estimators(pipeline: Any, title: str, data: Any) -> Iterator[Case]:
    import joblib
    import skops.io
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import DoubleTensorType

    def write_onnx(root: Path) -> None:
        inputs = [("X", DoubleTensorType([None, data.shape[1]]))]
        made = to_onnx(pipeline, initial_types=inputs, options={"zipmap": False})
        (root / "m.onnx").write_bytes(made.SerializeToString())

    for kind, write in (
        ("onnx", write_onnx),
        ("skops", lambda root: skops.io.dump(pipeline, root / "m.skops")),
        ("joblib", lambda root: joblib.dump(pipeline, root / "m.joblib")),
    ):
        trusted = "made here" if kind == "joblib" else None
        artifact = Artifact(path=f"m.{kind}", format=kind, trusted=trusted)
        yield Case(artifact, title, data, write, pipeline.predict, pipeline.predict_proba)


def _boosters(kind: str) -> tuple[Any, Any]:
    """A classifier and a regressor of a framework, on one thread."""
    framework = importlib.import_module(kind)
    if kind == "catboost":
        options = {"iterations": TREES, "thread_count": 1, "verbose": 0}
        options["allow_writing_files"] = False
        return framework.CatBoostClassifier(**options), framework.CatBoostRegressor(**options)
    if kind == "lightgbm":
        options = {"n_estimators": TREES, "n_jobs": 1, "verbose": -1}
        return framework.LGBMClassifier(**options), framework.LGBMRegressor(**options)
    options = {"n_estimators": TREES, "n_jobs": 1}
    return framework.XGBClassifier(**options), framework.XGBRegressor(**options)


def _booster(kind: str, estimator: Any, title: str, data: Any) -> Case:
    path = f"m.{ {'xgboost': 'ubj', 'lightgbm': 'txt', 'catboost': 'cbm'}[kind] }"
    saved = estimator.booster_ if kind == "lightgbm" else estimator
    return Case(
        Artifact(path=path, format=kind),
        title,
        data,
        lambda root: saved.save_model(str(root / path)),
        estimator.predict,
        getattr(estimator, "predict_proba", None),
    )


def _conversions() -> Iterator[str]:
    """What `mlspec convert` says of models of a few kinds."""
    import skops.io

    yield "As ONNX, by `mlspec convert`:"
    yield ""
    yield "| model | rows | equal | numbers differ by | own µs | ONNX µs | times as fast |"
    yield "|---|---|---|---|---|---|---|"
    data, target = load_breast_cancer(return_X_y=True, as_frame=True)
    data.columns = [name.replace(" ", "_") for name in data]
    scaled = make_pipeline(StandardScaler(), LogisticRegression()).fit(data, target)
    forest = RandomForestClassifier(TREES, random_state=0).fit(data, target)
    made: list[tuple[str, str, Callable[[Path], object]]] = [
        ("scaler and logistic regression", "skops", lambda path: skops.io.dump(scaled, path)),
        (f"random forest of {TREES} trees", "skops", lambda path: skops.io.dump(forest, path)),
    ]
    for kind in ("xgboost", "lightgbm", "catboost"):
        if importlib.util.find_spec(kind) is not None:
            fitted = _boosters(kind)[0].fit(data, target)
            saved = fitted.booster_ if kind == "lightgbm" else fitted
            made.append((f"{kind}, {TREES} trees", kind, saved.save_model))
    if importlib.util.find_spec("torch") is not None:
        made.append(("64 hidden units of PyTorch", "pytorch", _write_program))
    for title, kind, write in made:
        with tempfile.TemporaryDirectory(prefix="mlspec-formats-") as folder:
            path = Path(folder, "m.pt2" if kind == "pytorch" else "m.ubj")
            write(path)
            data.to_csv(Path(folder, "sample.csv"), index=False)
            out = Path(folder, "m.onnx")
            figures = convert_artifact(path, kind, Path(folder, "sample.csv"), out)
        yield (
            f"| {title} | {figures['onnx_rows']} | {figures['onnx_equal']:.1%} | "
            f"{figures['onnx_difference']:.1e} | {figures['own_microseconds']:,.0f} | "
            f"{figures['onnx_microseconds']:,.0f} | {figures['onnx_speedup']:,.1f} |"
        )


def _write_program(path: Path) -> None:
    import torch

    torch.manual_seed(7)
    body = torch.nn.Sequential(
        torch.nn.LayerNorm(30), torch.nn.Linear(30, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1)
    )
    free = ({0: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(body.eval(), (torch.zeros(2, 30),), dynamic_shapes=free)
    torch.export.save(program, path)


if __name__ == "__main__":
    raise SystemExit(main())
