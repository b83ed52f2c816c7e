"""What every configuration of HAProxy says that mlspec writes, wherever it stands: text, no values.

A request that a release lost before it began to answer is sent once more, to another one if need
be; a connection to a worker is never one that it is just closing (`http-server-close`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from zlib import crc32

BLUE, GREEN = SLOTS = ("blue", "green")
"""Where there are two slots, a release has one of them and the next release the other one."""
GRACE_SECONDS = 30
"""Until a service that ends must have answered what it was asked."""
DRAIN_SECONDS = 15
"""Until HAProxy, when it ends, closes connections whose requests are not answered yet."""
WHOLE = 200
"""Of HAProxy's weights, which go to 256, what stands for all requests."""

DEFAULTS = """\
defaults
    mode http
    timeout connect 5s
    timeout client 75s
    timeout server 75s
    timeout http-request 60s
    timeout http-keep-alive 15s
    timeout queue 10s
    timeout check 3s
    option http-server-close
    option idle-close-on-response
    option redispatch 1
    retries 3
    retry-on conn-failure empty-response
"""
BACKEND = """\
backend releases
    balance roundrobin
    option httpchk GET /readyz
"""
CHECK = "check inter 1s fall 2 rise 1"
"""A release that does not answer its readiness gets no requests."""
_WHOLE_SHARE = 1_000_000


def tls_options(certificate: str, client_ca: str | None) -> str:
    """What a `bind` says beside its address to speak TLS with the key and certificates of a file.

    With `client_ca` it speaks only with clients that have a certificate of these authorities.
    """
    options = f" ssl crt {certificate} ssl-min-ver TLSv1.2 alpn http/1.1"
    return f"{options} ca-file {client_ca} verify required" if client_ca else options


def challenger_rule(part: Mapping[str, Any], deployment: str) -> str:
    """The line of `releases` by which its server `challenger` gets requests, and others do not.

    `part` is how it takes part: {share, by, header}. A request that it does not answer is sent to
    the champion, since this server has no weight. Callers are chosen by a hash that is seeded with
    the deployment, so that several do not choose the same ones.
    """
    if part["header"]:
        name, value = part["header"]
        asked = f"req.fhdr({name}) -m str {value}"
    else:
        limit = round(part["share"] * _WHOLE_SHARE)
        seed = crc32(deployment.encode())
        caller = f"req.fhdr({part['by']}),xxh32({seed}),mod({_WHOLE_SHARE})"
        asked = f"{caller if part['by'] else f'rand({_WHOLE_SHARE})'} lt {limit}"
    return f"    use-server challenger if {{ {asked} }}\n"
