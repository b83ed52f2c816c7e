"""The page of `mlspec serve` in a real browser: what it shows, sends, and does not run."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import F_DUPFD_CLOEXEC, fcntl
from pathlib import Path
from typing import Any

import pytest

from mlspec.compilers.page import compile_page, page_policy
from mlspec.providers.local.front import Page, stand_in_front
from mlspec.providers.local.ports import bind_port

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium"),
]
PATIENCE = 60.0
HOSTILE = "</script><img src=x onerror=document.title='hacked'>"
SIGNATURE = {
    "columns": [{"name": HOSTILE, "type": "number"}, {"name": "grade", "type": "string"}],
    "example": {HOSTILE: 1.5, "grade": "A"},
}


class Browser:
    """Chromium, told what to do over its pipe: JSON that ends with a zero."""

    def __init__(self, profile: Path) -> None:
        their_end, self._to = os.pipe()
        self._from, their_other = os.pipe()
        # Not 3 nor 4, which they become in the child.
        theirs_in, theirs_out = (
            fcntl(end, F_DUPFD_CLOEXEC, 10) for end in (their_end, their_other)
        )

        def take_pipes() -> None:
            os.dup2(theirs_in, 3)
            os.dup2(theirs_out, 4)

        self._process = subprocess.Popen(
            [
                str(CHROMIUM),
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--disable-background-networking",
                "--remote-debugging-pipe",
                f"--user-data-dir={profile}",
            ],
            pass_fds=(3, 4),
            preexec_fn=take_pipes,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (their_end, their_other, theirs_in, theirs_out):
            os.close(end)
        self._number = 0
        self._buffer = b""
        self._session = ""
        self.complaints: list[str] = []
        """What the page's script raised, and what the browser said of it."""

    def open(self, url: str) -> None:
        target = self.do("Target.createTarget", url="about:blank")["targetId"]
        attached = self.do("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Runtime", "Log", "Page"):
            self.do(f"{domain}.enable")
        self.do("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete' && location.protocol === 'http:'")

    def do(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            said = self._read()
            if said.get("id") == self._number:
                assert "error" not in said, said
                result: dict[str, Any] = said["result"]
                return result

    def get(self, expression: str) -> Any:
        done = self.do("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def wait_for(self, expression: str) -> None:
        for _ in range(int(PATIENCE / 0.05)):
            if self.get(expression):
                return
            threading.Event().wait(0.05)
        raise AssertionError(f"waited in vain for {expression}")

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            data = os.read(self._from, 2**16)
            assert data, "chromium has ended"
            self._buffer += data
        first, _, self._buffer = self._buffer.partition(b"\0")
        said: dict[str, Any] = json.loads(first)
        if said.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
            self.complaints.append(json.dumps(said["params"]))
        return said


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    browser = Browser(tmp_path / "profile")
    yield browser
    browser.end()


@contextmanager
def served(tmp_path: Path, answers: list[tuple[int, Any]]) -> Iterator[tuple[str, list[Any]]]:
    """The page in front of a service with these answers; its address, and what it was sent."""
    sent: list[Any] = []
    address: list[str] = []
    ready, done = threading.Event(), threading.Event()

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            lengths = [line[15:] for line in head.split(b"\r\n") if line[:15].lower() == LENGTH]
            sent.append(json.loads(await reader.readexactly(int(lengths[0]))))
            status, content = answers[len(sent) - 1]
            body = json.dumps(content).encode()
            writer.write(
                b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
                % (status, len(body))
                + body
            )
            await writer.drain()
        writer.close()

    async def run() -> None:
        private = tmp_path / "s"
        service = await asyncio.start_unix_server(meet, private)
        listener = bind_port(0)
        listener.listen()
        html = compile_page(HOSTILE, "version 1", SIGNATURE, "n0nce")
        async with stand_in_front(listener, private, Page(html.encode(), page_policy("n0nce"))):
            address.append(f"http://127.0.0.1:{listener.getsockname()[1]}/")
            ready.set()
            while not done.is_set():
                await asyncio.sleep(0.02)
        service.close()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        assert ready.wait(PATIENCE)
        yield address[0], sent
    finally:
        done.set()
        thread.join()


LENGTH = b"content-length:"
ANSWER = "document.getElementById('answer').innerText"


def test_a_row_is_tried_and_nothing_hostile_runs(browser: Browser, tmp_path: Path) -> None:
    good = {"id": "x", "version": 1, "predictions": ["<b>no</b>"], "probabilities": [[0.25, 0.75]]}
    problems = [{"row": 0, "column": HOSTILE, "problem": "must be a number"}]
    answers = [(200, good), (422, {"error": f"column {HOSTILE}", "problems": problems})]
    with served(tmp_path, answers) as (url, sent):
        browser.open(url)
        assert browser.get("document.title") == f"{HOSTILE}, version 1"
        assert browser.get("document.images.length") == 0
        assert browser.get("document.getElementById('column-0').value") == "1.5"
        browser.get("document.getElementById('ask-one').click()")
        browser.wait_for(f"{ANSWER}.includes('0.2500')")
        assert sent == [{"rows": [SIGNATURE["example"]]}]
        assert "<b>no</b>" in browser.get(ANSWER)

        browser.get("document.getElementById('many').value = 'grade\\nB\\n'")
        browser.get("document.getElementById('ask-many').click()")
        browser.wait_for(f"{ANSWER}.includes('must be a number')")
        assert sent[1] == {"rows": [{"grade": "B"}]}
        assert browser.get("document.images.length") == 0
        assert browser.get("document.title") == f"{HOSTILE}, version 1"
    # The refusal itself is told in the browser's log; the policy stopped nothing of the page's own.
    assert [said for said in browser.complaints if "422" not in said] == []


def test_the_policy_stops_what_is_not_the_page_s_own(browser: Browser, tmp_path: Path) -> None:
    with served(tmp_path, []) as (url, _):
        browser.open(url)
        browser.get(
            "(() => { const script = document.createElement('script');"
            "script.textContent = 'window.hacked = true'; document.body.append(script); })()"
        )
        assert browser.get("window.hacked") is None
    assert "Content Security Policy" in "".join(browser.complaints)
