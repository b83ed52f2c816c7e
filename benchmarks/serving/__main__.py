"""Measures what a prediction over HTTP costs, beside services written by hand and other frameworks.

All contenders answer the same rows with the same file of ONNX, by one worker. They are all up the
whole time and take turns, so that what else the machine does falls on all of them; a figure is the
median of its rounds. Writes `benchmarks/results/serving.md`; 1 when a bound is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.serving import services
from benchmarks.serving.load import Burst, send
from benchmarks.serving.model import BATCH, make_models
from benchmarks.serving.profile import profile
from benchmarks.serving.report import ASGI, BENTO, CAPTURING, Batch, Measured, Start, render
from benchmarks.serving.services import Running
from benchmarks.serving.turns import Side, compare

RESULTS = Path(__file__).parents[1] / "results"
LOADS = (1, 16)


def main() -> int:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", "--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=2, help="of each burst")
    parser.add_argument("--with-peers", action="store_true", help="MLServer, MLflow and LitServe")
    parser.add_argument("--only", default="", help="part of a contender's name")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-serving-") as name, ExitStack() as stack:
        folder = Path(name)
        estimators = make_models(folder)
        rows = json.loads((folder / "rows.json").read_text())
        wanted = {
            name: make
            for name, make in _contenders(folder, rows, with_peers=options.with_peers).items()
            if options.only in name
        }
        running = []
        for name, make in wanted.items():
            say(f"starting {name}")
            running.append(service := make())
            stack.callback(service.end)
        loads: list[float] = []
        bursts = _bursts(running, folder, rows, options.rounds, options.seconds, loads)
        by_name = {service.name: service for service in running}
        captures, spent = 1.0, []
        if ASGI in by_name:
            say("profile")
            body = json.dumps(by_name[ASGI].body(rows[:1])).encode()
            side = Side(by_name[ASGI].process, by_name[ASGI].url, body)
            spent = profile(side, folder, connections=LOADS[-1])
        if ASGI in by_name and CAPTURING in by_name:
            off, on = by_name[ASGI], by_name[CAPTURING]
            body = json.dumps(off.body(rows[:1])).encode()
            say("captures")
            captures = compare(
                *(Side(each.process, each.url, body) for each in (on, off)),
                connections=LOADS[-1],
                rounds=3 * options.rounds,
            )
        stack.close()
        measured = Measured(
            bursts,
            _batches(folder, rows, estimators, options.rounds),
            _starts(folder, rows, min(options.rounds, 5)),
            captures,
            spent,
            median(loads),
        )
    text, missed = render(measured, options.rounds, options.seconds)
    sys.stdout.write(text)
    if not options.only:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "serving.md").write_text(text, encoding="utf-8")
    return 1 if missed else 0


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _contenders(
    folder: Path, rows: list[Any], *, with_peers: bool
) -> dict[str, Callable[[], Running]]:
    model, one = folder / "small.onnx", rows[:1]
    asgi, bento = (services.stage(folder, model, runtime) for runtime in ("asgi", "bentoml"))
    found: dict[str, Callable[[], Running]] = {
        ASGI: lambda: services.start_generated(ASGI, asgi, folder, one),
        BENTO: lambda: services.start_generated(BENTO, bento, folder, one),
        CAPTURING: lambda: services.start_generated(CAPTURING, asgi, folder, one, capture=1.0),
    }
    for name, module in (
        ("FastAPI", "fastapi_service"),
        ("FastAPI, tuned", "fastapi_tuned"),
        ("Starlette and msgspec", "starlette_msgspec"),
    ):
        found[name] = lambda name=name, module=module: services.start_uvicorn(  # type: ignore[misc]
            name, module, model, folder, one
        )
    found["BentoML's defaults"] = lambda: services.start_bentoml("BentoML", model, folder, one)
    if with_peers:
        for name, make in (
            ("MLServer", services.start_mlserver),
            ("MLflow", services.start_mlflow),
            ("LitServe", services.start_litserve),
        ):
            found[name] = lambda name=name, make=make: make(name, model, folder, one)  # type: ignore[misc]
    return found


def _bursts(
    running: list[Running],
    folder: Path,
    rows: list[Any],
    rounds: int,
    seconds: float,
    loads: list[float],
) -> dict[str, dict[int, list[Burst]]]:
    """By contender and number of connections."""
    found: dict[str, dict[int, list[Burst]]] = {
        service.name: {connections: [] for connections in LOADS} for service in running
    }
    for number in range(rounds + 1):
        say(f"round {number} of {rounds}")
        loads.append(os.getloadavg()[0])
        # Each time another comes first: what a turn leaves behind falls on all.
        for service in running[number % len(running) :] + running[: number % len(running)]:
            body = service.body_file(folder, rows[:1])
            for connections in LOADS:
                burst = send(
                    service.url, body, service.process,
                    connections=connections, seconds=seconds if number else 1,
                )  # fmt: skip
                if number:  # the first warms up
                    found[service.name][connections].append(burst)
    return found


def _batches(folder: Path, rows: list[Any], estimators: dict[str, Any], rounds: int) -> list[Batch]:
    """A request of many rows beside the model's own answer to them, in turns."""
    import http.client

    import numpy
    import pandas
    from threadpoolctl import threadpool_limits

    from benchmarks.serving.model import COLUMNS

    found = []
    for name, estimator in estimators.items():
        session = _session(folder / f"{name}.onnx")
        given = session.get_inputs()[0].name
        table = numpy.array([[row[column] for column in COLUMNS] for row in rows], numpy.float32)
        with ExitStack() as stack:
            release = services.stage(folder, folder / f"{name}.onnx", "asgi")
            service = services.start_generated(f"batch {name}", release, folder, rows)
            stack.callback(service.end)
            body = json.dumps(services.as_rows(rows)).encode()
            host = service.url.removeprefix("http://").partition("/")[0]
            connection = http.client.HTTPConnection(host, timeout=60)

            def ask(connection: http.client.HTTPConnection = connection, body: bytes = body) -> Any:
                connection.request("POST", "/predict", body)
                return json.loads(connection.getresponse().read())

            def own(estimator: Any = estimator, table: Any = table) -> Any:
                return estimator.predict(table), estimator.predict_proba(table)

            def framed(estimator: Any = estimator) -> Any:
                table = pandas.DataFrame(rows).to_numpy("float32")
                return estimator.predict(table), estimator.predict_proba(table)

            def run(session: Any = session, given: str = given, table: Any = table) -> Any:
                return session.run(None, {given: table})

            with threadpool_limits(1):
                assert ask()["predictions"] == run()[0].tolist()
                times: dict[str, list[float]] = {"ask": [], "own": [], "framed": [], "run": []}
                for _ in range(rounds * 5):
                    acts = ("ask", ask), ("own", own), ("framed", framed), ("run", run)
                    for key, act in acts:
                        began = time.perf_counter()
                        act()
                        times[key].append(time.perf_counter() - began)
            found.append(Batch(name, BATCH, *(median(times[key]) for key in times)))
    return found


def _session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _starts(folder: Path, rows: list[Any], rounds: int) -> list[Start]:
    """From a deploy to its answers, beside the bare service."""
    found = []
    for runtime in ("asgi", "bentoml"):
        release = services.stage(folder, folder / "small.onnx", runtime)
        ours, bare, switched = [], [], []
        for number in range(rounds):
            say(f"start {number + 1} of {rounds}, {runtime}")
            for times, make in (
                (ours, lambda: services.start_generated("start", release, folder, rows[:1])),  # noqa: B023
                (bare, lambda: services.start_bare("bare", release, folder, rows[:1])),  # noqa: B023
            ):
                service = make()
                times.append(service.ready)
                if service.again:
                    began = time.monotonic()
                    service.again()
                    switched.append(time.monotonic() - began)
                service.end()
        found.append(Start(runtime, median(ours), median(bare), median(switched)))
    return found


if __name__ == "__main__":
    sys.exit(main())
