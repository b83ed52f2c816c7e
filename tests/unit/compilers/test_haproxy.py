"""How HAProxy gives a challenger its requests: a real one, in front of two small services."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import threading
import time
from collections import Counter
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mlspec.compilers.compose import render_haproxy
from mlspec.compilers.haproxy import challenger_rule

PROGRAM = shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin")
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="HAProxy is not installed")
PART = {"share": 0.25, "by": None, "header": None}
PATIENCE = 30.0


class Service:
    """Answers with its name."""

    def __init__(self, name):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("content-length", str(len(name)))
                self.end_headers()
                self.wfile.write(name.encode())

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def proxied(tmp_path):
    """A function that starts HAProxy with a rule, and gives its port and the challenger."""
    champion, challenger = Service("champion"), Service("challenger")
    processes = []

    def start(rule):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        text = render_haproxy("blue", 1, rule)
        # the same with addresses, where it has sockets of containers
        text = re.sub(r"    server (?!blue1 |challenger ).*\n", "", text)
        text = text.replace("unix@/sockets/blue-1.sock", f"127.0.0.1:{champion.port}")
        text = text.replace("unix@/sockets/challenger.sock", f"127.0.0.1:{challenger.port}")
        text = text.replace("bind :3000", f"bind 127.0.0.1:{port}")
        text = re.sub(r"    stats socket .*\n", "", text)
        (tmp_path / "haproxy.cfg").write_text(text)
        processes.append(subprocess.Popen([PROGRAM, "-db", "-f", "haproxy.cfg"], cwd=tmp_path))
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                ask(port)
            except (OSError, HTTPException):
                time.sleep(0.05)
            else:
                return port
        raise AssertionError("HAProxy does not answer")

    yield start, challenger
    for process in processes:
        process.kill()
        process.wait()
    champion.close()
    challenger.close()


def ask(port, **headers):
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", "/", headers=headers)
        response = connection.getresponse()
        assert response.status == 200
        return response.read().decode()
    finally:
        connection.close()


def test_a_share(proxied):
    start, challenger = proxied
    port = start(challenger_rule(PART, "churn"))
    counts = Counter(ask(port) for _ in range(400))
    assert 50 < counts["challenger"] < 150, counts
    challenger.close()
    assert Counter(ask(port) for _ in range(100)) == {"champion": 100}, "nobody is turned away"


def test_callers_keep_to_one(proxied):
    start, _ = proxied
    port = start(challenger_rule({**PART, "by": "x-customer"}, "churn"))
    seen = {
        customer: {ask(port, **{"x-customer": customer}) for _ in range(4)}
        for customer in map(str, range(80))
    }
    assert all(len(each) == 1 for each in seen.values())
    counts = Counter(next(iter(each)) for each in seen.values())
    assert 5 < counts["challenger"] < 45, counts
    assert {ask(port) for _ in range(10)} == {"champion"}


def test_those_who_ask_for_it(proxied):
    start, _ = proxied
    port = start(challenger_rule({**PART, "header": ["x-variant", "b"]}, "churn"))
    assert {ask(port, **{"x-variant": "b"}) for _ in range(10)} == {"challenger"}
    assert {ask(port, **{"x-variant": "bb"}) for _ in range(10)} == {"champion"}


def test_deployments_choose_their_own_callers():
    rules = {challenger_rule({**PART, "by": "x-customer"}, name) for name in ("churn", "loans")}
    assert len(rules) == 2


def test_what_a_container_is_given_is_understood(tmp_path):
    (tmp_path / "haproxy.cfg").write_text(
        render_haproxy("blue", 1, challenger_rule(PART, "churn"), challenges=True)
    )
    done = subprocess.run(
        [PROGRAM, "-c", "-f", "haproxy.cfg"], cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
