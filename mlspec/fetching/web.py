"""A file behind an address: https, http on this machine, or a file of it.

Answers are never more than the budget allows; redirects lead to https only, never from a public
host into this network, and take no credentials along. A connection that breaks is taken up where
it broke, if the server can do that and still has the same.
"""

from __future__ import annotations

import base64
import ipaddress
import re
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import (
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    build_opener,
)

from mlspec.errors import MlspecError, RemoteUnreachable
from mlspec.fetching.sink import PIECE, Budget, Got, Sink, copy_file
from mlspec.spec.checks.values import is_internal
from mlspec.spec.show import escape

PATIENCE = 60.0
"""Seconds without a byte after which a server is given up."""
SLOWEST = 1024
"""Bytes a second, over that time, below which it is given up, too."""
TRIES = 4
"""How often a connection may break."""
MOST_REDIRECTS = 5
LOOPBACK = ("localhost", "127.0.0.1", "::1")
AGENT = "mlspec"


class Broken(Exception):
    """The connection ended before the answer did."""


def bring(url: str, place: Path, token: str, budget: Budget) -> Got:
    """Have what `url` leads to at `place`."""
    with Sink(place, budget) as sink:
        if url.startswith("file://"):
            copy_file(Path(unquote(url.removeprefix("file://"))), sink, budget)
        else:
            check_address(url)
            download(url, sink, authorization(token), budget)
    return sink.got


def authorization(token: str) -> Mapping[str, str]:
    """The header for a token, or for `user:password`; none for nothing."""
    if not token:
        return {}
    if ":" in token:
        return {"Authorization": f"Basic {base64.b64encode(token.encode()).decode()}"}
    return {"Authorization": f"Bearer {token}"}


def download(url: str, sink: Sink, headers: Mapping[str, str], budget: Budget) -> None:
    """Have the whole answer in `sink`; `headers` go to that host and to no other."""
    mark = ""
    for left in reversed(range(TRIES)):
        try:
            with ask(url, {**headers, **_rest_of(sink, mark)}) as answer:
                mark = _mark(answer)
                _read(answer, sink, budget)
                return
        except Broken as error:
            if not left:
                raise RemoteUnreachable(
                    f"{url} ended after {sink.taken:,} bytes, {TRIES} times: {error}",
                    hint="try again later; nothing was kept",
                ) from error
            budget.tell(f"the connection broke after {sink.taken:,} bytes; trying again")


def _rest_of(sink: Sink, mark: str) -> dict[str, str]:
    if sink.taken and mark:
        return {"Range": f"bytes={sink.taken}-", "If-Range": mark}
    return {}


def _mark(answer: HTTPResponse) -> str:
    """What tells whether a later answer is of the same file; nothing if that cannot be told."""
    etag = answer.headers.get("ETag", "")
    return "" if etag.startswith("W/") else etag


def _read(answer: HTTPResponse, sink: Sink, budget: Budget) -> None:
    if sink.taken and not _goes_on(answer, sink.taken):
        sink.restart()
    length = answer.headers.get("Content-Length", "")
    whole = sink.taken + int(length) if re.fullmatch("[0-9]{1,18}", length) else None
    if whole is not None:
        budget.check(whole - sink.taken)
    since, before = time.monotonic(), sink.taken
    while True:
        try:
            piece = answer.read1(PIECE)
        except (HTTPException, OSError) as error:
            raise Broken(_why(error)) from error
        if not piece:
            break
        sink.write(piece, whole)
        if (passed := time.monotonic() - since) > PATIENCE:
            if sink.taken - before < SLOWEST * passed:
                raise Broken(f"less than {SLOWEST:,} bytes a second")
            since, before = time.monotonic(), sink.taken
    if whole is not None and sink.taken != whole:
        raise Broken(f"of {whole:,} bytes")


def _goes_on(answer: HTTPResponse, taken: int) -> bool:
    said = answer.headers.get("Content-Range", "")
    return answer.status == 206 and said.startswith(f"bytes {taken}-")


# asking -------------------------------------------------------------------------------------------


@contextmanager
def ask(url: str, headers: Mapping[str, str]) -> Iterator[HTTPResponse]:
    """The answer of a server, when it is good; raises :class:`MlspecError` for any other."""
    request = Request(url, headers={"User-Agent": AGENT, "Accept-Encoding": "identity"})
    for name, value in headers.items():
        request.add_unredirected_header(name, value)
    try:
        answer = _opener(url).open(request, timeout=PATIENCE)
    except HTTPError as error:
        error.close()
        raise refused(url, error.code) from error
    except (URLError, HTTPException, OSError, ValueError) as error:  # of a host: no name
        raise RemoteUnreachable(
            f"{url} cannot be reached: {_why(error)}",
            hint="look at the address, and whether this machine may connect; nothing was changed",
        ) from error
    with answer:
        yield answer


def refused(url: str, code: int) -> MlspecError:
    if code in (401, 403):
        return MlspecError(
            f"{url} refuses access (HTTP {code})",
            hint="name the variable that holds a token: `token_env: NAME`, and set it here",
        )
    if 300 <= code < 400:
        return MlspecError(f"{url} sends elsewhere, again and again (HTTP {code})")
    if code in (404, 410):
        return MlspecError(f"{url} is not there (HTTP {code})", hint="look at the address")
    return RemoteUnreachable(f"{url} answers HTTP {code}", hint="try again later")


def read_text(answer: IO[bytes], most: int, name: str) -> bytes:
    """A short answer."""
    try:
        data = answer.read(most + 1)
    except (HTTPException, OSError) as error:
        raise RemoteUnreachable(f"{name} broke off: {_why(error)}", hint="try again") from error
    if len(data) > most:
        raise MlspecError(f"{name} has more than {most:,} bytes")
    return data


def _opener(url: str) -> OpenerDirector:
    handlers: list[Any] = [_Careful(), HTTPSHandler(context=ssl.create_default_context())]
    if _is_loopback(url):
        handlers.append(ProxyHandler({}))
    return build_opener(*handlers)


class _Careful(HTTPRedirectHandler):
    max_redirections = MOST_REDIRECTS

    def http_error_302(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage
    ) -> Any:
        to = headers.get("Location") or headers.get("URI") or ""
        check_redirect(req.full_url, urljoin(req.full_url, to))
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def check_redirect(url: str, to: str) -> None:
    """Raise if what sends from `url` to `to` may not be followed."""
    parts = urlsplit(to)
    shown = escape(f"{parts.scheme}://{parts.hostname}")
    if parts.scheme != "https" and not (_is_loopback(url) and _is_loopback(to)):
        raise MlspecError(
            f"{url} sends to {shown}, which is not https: that is not followed",
            hint="give the address of the file itself, over https",
        )
    if parts.username or parts.password:
        raise MlspecError(f"{url} sends to an address with credentials: that is not followed")
    check_address(to)
    if _is_near(to) and not _is_near(url):
        raise MlspecError(
            f"{url} sends to {shown}, which is inside this network: that is not followed",
            hint="give that address, if it is meant and you trust it",
        )


def check_address(url: str) -> None:
    """Raise for what no model is fetched from: a machine's own metadata."""
    host = urlsplit(url).hostname or ""
    if is_internal(host) or any(is_internal(each) for each in _addresses(url)):
        raise MlspecError(f"{host} leads to a machine's own metadata or link: it is not asked")


def _is_loopback(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in ("http", "https") and parts.hostname in LOOPBACK


def _is_near(url: str) -> bool:
    """Whether the host is this machine, or of this network; false if that is not known."""
    return any(not ipaddress.ip_address(each).is_global for each in _addresses(url))


def _addresses(url: str) -> list[str]:
    try:
        parts = urlsplit(url)
        found = socket.getaddrinfo(parts.hostname, parts.port or 443, type=socket.SOCK_STREAM)
    except (OSError, ValueError):  # no such host, or no number of a port
        return []
    return [str(each[4][0]).partition("%")[0] for each in found]


def _why(error: Exception) -> str:
    why = getattr(error, "reason", None) or error
    return escape(str(why)) or type(error).__name__
