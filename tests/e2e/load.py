"""Clients of a service that tells its version, while something else is done with it."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE = 60.0


def get(port: int, path: str = "/predict") -> tuple[int, str]:
    """The status and the body that answer one request."""
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        line.request("POST" if path == "/predict" else "GET", path, b'{"rows": [{}]}')
        answer = line.getresponse()
        return answer.status, answer.read().decode()
    finally:
        line.close()


@contextmanager
def load(port: int) -> Iterator[Counter[str]]:
    """Requests without a pause, over connections that are kept and over new ones."""
    seen: Counter[str] = Counter()
    stop = threading.Event()

    def ask(*, keep: bool) -> None:
        line = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        while not stop.is_set():
            try:
                line.request("POST", "/predict", b'{"rows": [{}]}')
                answer = line.getresponse()
                body = answer.read()
                seen[str(answer.status)] += 1
                if answer.status == 200:
                    seen[f"version {json.loads(body)['version']}"] += 1
            except (OSError, http.client.HTTPException) as error:
                seen[f"failed: {error!r}"] += 1
                line.close()
            if not keep:
                line.close()
            time.sleep(0.005)

    threads = [threading.Thread(target=ask, kwargs={"keep": keep}) for keep in (True, False)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def wait(check: Callable[[], bool]) -> None:
    """Until it is so; a failure if it never is."""
    deadline = time.monotonic() + PATIENCE
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def failures(seen: Counter[str]) -> dict[str, int]:
    """What was not answered as it should be."""
    return {
        key: count for key, count in seen.items() if key != "200" and not key.startswith("version")
    }
