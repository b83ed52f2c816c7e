"""The table of what was measured: costs, then each bound with holds or misses."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from statistics import median

from benchmarks.measure import machine
from benchmarks.report import Bound
from benchmarks.serving.load import Burst, total_failed

ASGI, BENTO, CAPTURING = "generated, asgi", "generated, bentoml", "generated, asgi, capturing"
FASTAPI = ("FastAPI", "FastAPI, tuned")
DEFAULTS = "BentoML"
PEERS = ("MLServer", "MLflow", "LitServe")
SHOWN = ("bentoml", "fastapi", "msgspec", "onnxruntime", "pydantic", "uvicorn", "uvloop")


@dataclass(frozen=True, slots=True)
class Batch:
    """Seconds of a request with many rows, and of the model's own answer to them: the estimator's
    as it was trained, of a ready array and of the rows by way of a data frame, and that of the
    session which the service runs."""

    model: str
    rows: int
    asked: float
    own: float
    framed: float
    session: float


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds from a deploy to its answers, and from the bare service's start to its first."""

    runtime: str
    ready: float
    bare: float
    switched: float
    """Seconds of a deploy in the place of what serves."""


@dataclass(frozen=True, slots=True)
class Measured:
    """All of a run; bursts by contender and number of connections."""

    bursts: dict[str, dict[int, list[Burst]]]
    batches: list[Batch]
    starts: list[Start]
    captures: float
    """CPU of a request that is captured beside one that is not."""
    profile: list[tuple[str, float]]
    """Functions by the share of the time that is their own."""
    load: float
    """What the machine had to do, as the median of its load averages; 1 is one processor."""

    def cpu(self, name: str, connections: int) -> float:
        """CPU milliseconds of a request."""
        return median(burst.cpu_each for burst in self.bursts[name][connections])

    def rate(self, name: str, connections: int) -> float:
        return median(burst.rate for burst in self.bursts[name][connections])


def render(measured: Measured, rounds: int, seconds: float) -> tuple[str, int]:
    """The Markdown, and the number of bounds that are missed."""
    here = machine()
    versions = ", ".join(f"{name} {version(name)}" for name in SHOWN)
    bounds = list(_bounds(measured))
    lines = [
        "# What a prediction over HTTP costs",
        "",
        (
            f"{here['cores']} cores, {here['memory_gib']} GiB, Python {platform.python_version()}; "
            f"{versions}. One worker each, one row of 30 numbers, a logistic regression in ONNX. "
            f"Medians of {rounds} rounds of {seconds:g} s in which all take turns; CPU of the "
            "whole tree of processes, in milliseconds for a request; latencies in milliseconds. "
            f"Load of the machine meanwhile: {measured.load:.1f}."
        ),
        "",
        "| service | CPU, 1 | per second | p50 | p99 | CPU, 16 | per second | p50 | p99 | failed |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *(_row(measured, name) for name in measured.bursts),
        "",
        (
            "A batch, in milliseconds: a request over HTTP from its first byte to its parsed "
            "answer, the estimator's own predict and predict_proba of a ready array, the same of "
            "the rows as they are asked (dicts, by way of a data frame), and the "
            "session of ONNX Runtime alone."
        ),
        "",
        "| model | rows | request | estimator | of rows | session |",
        "|---|---|---|---|---|---|",
        *(
            f"| {b.model} | {b.rows} | {1000 * b.asked:.2f} | {1000 * b.own:.2f} | "
            f"{1000 * b.framed:.2f} | "
            f"{1000 * b.session:.2f} |"
            for b in measured.batches
        ),
        "",
        "From start to answers, in seconds:",
        "",
        "| runtime | first deploy | deploy in the place of another | bare service |",
        "|---|---|---|---|",
        *(
            f"| {s.runtime} | {s.ready:.2f} | {s.switched:.2f} | {s.bare:.2f} |"
            for s in measured.starts
        ),
        "",
        "| bound | measured | must be | |",
        "|---|---|---|---|",
        *(bound.line() for bound in bounds),
        *_profile(measured.profile),
    ]
    return "\n".join(lines) + "\n", sum(not bound.holds for bound in bounds)


def _profile(shares: list[tuple[str, float]]) -> Iterator[str]:
    if shares:
        yield from ("", f"Where {ASGI} spends its time, at 16 connections, by functions:", "")
        yield from ("| function | own time |", "|---|---|")
        yield from (f"| `{name}` | {share:.1%} |" for name, share in shares)


def _row(measured: Measured, name: str) -> str:
    cells, failed = [], 0
    for bursts in measured.bursts[name].values():
        failed += total_failed(bursts)
        cells += [
            f"{median(burst.cpu_each for burst in bursts):.3f}",
            f"{median(burst.rate for burst in bursts):,.0f}",
            f"{1000 * median(burst.p50 for burst in bursts):.2f}",
            f"{1000 * median(burst.p99 for burst in bursts):.2f}",
        ]
    return f"| {name} | {' | '.join(cells)} | {failed} |"


def _bounds(measured: Measured) -> Iterator[Bound]:
    known = measured.bursts
    for ours in (name for name in (ASGI, BENTO) if name in known):
        for connections in (1, 16):
            at = f", {connections} connection{'s' if connections > 1 else ''}"
            cpu, rate = measured.cpu(ours, connections), measured.rate(ours, connections)
            for peer in (name for name in FASTAPI if name in known):
                beside = f"{ours} beside {peer}{at}"
                yield Bound(f"{beside}: CPU", cpu / measured.cpu(peer, connections), 1.0, "x")
                times = rate / measured.rate(peer, connections)
                yield Bound(f"{beside}: requests per second", times, 1.0, "x", True)
            if DEFAULTS in known:
                times = measured.cpu(DEFAULTS, connections) / cpu
                yield Bound(f"CPU of {DEFAULTS}'s defaults{at}, of {ours}", times, 3.0, "x", True)
            for peer in (name for name in PEERS if name in known):
                beside = f"{ours} beside {peer}{at}"
                yield Bound(f"{beside}: CPU", cpu / measured.cpu(peer, connections), 1.0, "x")
                times = rate / measured.rate(peer, connections)
                yield Bound(f"{beside}: requests per second", times, 1.0, "x", True)
    yield Bound("capture on / off: CPU", measured.captures, 1.03, "x")
    for batch in measured.batches:
        if batch.model == "large":
            yield Bound(
                f"{batch.rows} rows, {batch.model}, beside the model's own predict",
                batch.asked / batch.own, 1.1, "x",
            )  # fmt: skip
        else:
            yield Bound(
                f"{batch.rows} rows, {batch.model}, beside the model's own predict of these rows",
                batch.asked / batch.framed, 1.1, "x",
            )  # fmt: skip
    for start in measured.starts:
        times = start.ready / start.bare
        yield Bound(
            f"ready after a deploy, {start.runtime}: times the bare service", times, 1.2, "x"
        )
    yield Bound("failed requests", float(sum(_failed(measured))), 0, "")


def _failed(measured: Measured) -> Iterator[int]:
    for loads in measured.bursts.values():
        for bursts in loads.values():
            yield total_failed(bursts)
