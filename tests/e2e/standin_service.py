"""A service that only pretends: answers as fast, as badly and of as many classes as it is told.

Run by a worker of the local target as a service without BentoML. `behaviour.json` beside it says
`errors` and `yes`, shares from 0 to 1, `sleep`, seconds, and `dies`, after so many requests. With a
`power` it predicts numbers, from 0 to 1, and captures them.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections import Counter
from pathlib import Path

BEHAVIOUR = json.loads((Path(__file__).parent / "behaviour.json").read_text())
BOUNDS = (0.005, 0.025, 0.1, 0.25, 1.0)
STATUSES: Counter[int] = Counter()
CLASSES: Counter[str] = Counter()
SECONDS: Counter[float] = Counter()
DICE = random.Random(BEHAVIOUR["version"])


CAPTURES = Path(os.environ.get("MLSPEC_CAPTURE_DIR", os.devnull))


def predict():
    if not BEHAVIOUR["power"]:
        label = "yes" if DICE.random() < BEHAVIOUR["yes"] else "no"
        CLASSES[label] += 1
        return label
    value = DICE.random() ** BEHAVIOUR["power"]
    line = {"model_version": BEHAVIOUR["version"], "output": {"prediction": value}}
    CAPTURES.mkdir(exist_ok=True)
    with (CAPTURES / f"{os.getpid()}.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    return value


def render() -> str:
    lines = [f'mlspec_requests_total{{status="{key}"}} {n}' for key, n in STATUSES.items()]
    lines += [f'mlspec_predictions_total{{class="{key}"}} {n}' for key, n in CLASSES.items()]
    below = 0
    for bound in (*BOUNDS, float("inf")):
        below += SECONDS[bound]
        lines.append(f'mlspec_request_seconds_bucket{{le="{bound}"}} {below}')
    return "\n".join([*lines, ""])


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        for event in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{event}.complete"})
        return
    status, body = 200, b"ok"
    if scope["path"] == "/metrics":
        body = render().encode()
    elif scope["path"] == "/predict":
        began = time.perf_counter()
        while (await receive()).get("more_body"):
            pass
        await asyncio.sleep(BEHAVIOUR["sleep"])
        status = 500 if DICE.random() < BEHAVIOUR["errors"] else 200
        body = json.dumps({"version": BEHAVIOUR["version"], "predictions": [predict()]}).encode()
        STATUSES[status] += 1
        took = time.perf_counter() - began
        SECONDS[next((bound for bound in BOUNDS if took <= bound), float("inf"))] += 1
        if 0 < BEHAVIOUR["dies"] <= sum(STATUSES.values()):
            os._exit(9)
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
