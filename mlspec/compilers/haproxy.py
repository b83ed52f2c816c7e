"""What every configuration of HAProxy says that mlspec writes, wherever it stands: text, no values.

A request that a release lost before it began to answer is sent once more, to another one if need
be; a connection to a worker is never one that it is just closing (`http-server-close`).
"""

from __future__ import annotations

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
