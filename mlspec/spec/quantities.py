"""Quantities as people write them: `30m`, `4GiB`, `0.90 EUR/h`, `5%`, `100/s`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, NamedTuple

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LATENCIES = {"ms": 0.001, "s": 1}
_BYTES = {
    "B": 1,
    "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip


def parse_seconds(value: object) -> object:
    """Seconds of `45s`, `30m`, `2h` or `30d`; anything else raises `ValueError`."""
    return _parse(value, _SECONDS, "a duration such as 45s, 30m, 2h or 30d")


def parse_latency(value: object) -> object:
    """Seconds of `100ms` or `2s`; anything else raises `ValueError`."""
    return _parse(value, _LATENCIES, "a duration such as 100ms or 2s")


def write_seconds(seconds: float) -> str:
    """Seconds as they are written in a spec, in the largest unit that they are whole in."""
    unit = max(
        (u for u in _SECONDS if seconds % _SECONDS[u] == 0), key=_SECONDS.__getitem__, default="s"
    )
    return f"{seconds / _SECONDS[unit]:.6f}".rstrip("0").rstrip(".") + unit


def parse_bytes(value: object) -> object:
    """Bytes of `512MiB`, `4GiB` or `1GB`; anything else raises `ValueError`."""
    return _parse(value, _BYTES, "a size such as 512MiB or 4GiB")


def write_bytes(size: float) -> str:
    """Bytes as they are written in a spec, in the largest unit that they are whole in."""
    unit = max((u for u in _BYTES if size % _BYTES[u] == 0), key=_BYTES.__getitem__, default="B")
    return f"{size / _BYTES[unit]:.6f}".rstrip("0").rstrip(".") + unit


def _parse(value: object, units: Mapping[str, float], expected: str) -> float:
    match = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)([A-Za-z]{1,3})", str(value))
    if not isinstance(value, str) or match is None or match[2] not in units:
        raise ValueError(f"expected {expected}")
    return float(match[1]) * units[match[2]]


def _written(units: Mapping[str, float], example: str) -> WithJsonSchema:
    pattern = rf"^[0-9]{{1,12}}(\.[0-9]{{1,6}})?({'|'.join(units)})$"
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": [example]})


class HourlyPrice(NamedTuple):
    """What an hour costs: an amount of a currency, by its code of three letters."""

    amount: float
    currency: str


_PRICE = r"([0-9]{1,9}(?:\.[0-9]{1,6})?) ([A-Z]{3})/h"


def parse_price(value: object) -> HourlyPrice:
    """The price that `0.90 EUR/h` says; anything else raises `ValueError`."""
    match = re.fullmatch(_PRICE, value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("expected a price such as 0.90 EUR/h")
    return HourlyPrice(float(match[1]), match[2])


_SHARE = r"([0-9]{1,3}(?:\.[0-9]{1,6})?)%"


def parse_share(value: object) -> object:
    """The share that `5%` says, from 0 to 1; anything else raises `ValueError`."""
    match = re.fullmatch(_SHARE, value) if isinstance(value, str) else None
    if match is None or float(match[1]) > 100:
        raise ValueError("expected a percentage such as 5%")
    return float(match[1]) / 100


def write_share(share: float) -> str:
    """A share as it is written in a spec."""
    return f"{share * 100:.6f}".rstrip("0").rstrip(".") + "%"


_RATE = r"([0-9]{1,9}(?:\.[0-9]{1,6})?)/([smh])"


def parse_rate(value: object) -> object:
    """How often in a second `100/s`, `600/m` or `10/h` is; anything else raises `ValueError`."""
    match = re.fullmatch(_RATE, value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("expected a rate such as 100/s, 600/m or 10/h")
    return float(match[1]) / _SECONDS[match[2]]


Price = Annotated[
    HourlyPrice,
    BeforeValidator(parse_price),
    PlainSerializer(lambda price: f"{price.amount:g} {price.currency}/h"),
    WithJsonSchema({"type": "string", "pattern": f"^{_PRICE}$", "examples": ["0.90 EUR/h"]}),
]
Share = Annotated[
    float,
    BeforeValidator(parse_share),
    PlainSerializer(write_share),
    WithJsonSchema({"type": "string", "pattern": f"^{_SHARE}$", "examples": ["5%"]}),
]
Seconds = Annotated[float, BeforeValidator(parse_seconds), Field(gt=0), _written(_SECONDS, "30m")]
Latency = Annotated[
    float, BeforeValidator(parse_latency), Field(gt=0), _written(_LATENCIES, "100ms")
]
Bytes = Annotated[float, BeforeValidator(parse_bytes), Field(gt=0), _written(_BYTES, "4GiB")]
Rate = Annotated[
    float,
    BeforeValidator(parse_rate),
    Field(gt=0),
    WithJsonSchema({"type": "string", "pattern": f"^{_RATE}$", "examples": ["100/s"]}),
]
