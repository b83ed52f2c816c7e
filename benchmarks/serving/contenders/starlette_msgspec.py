"""Starlette and msgspec, by hand: about as little as a framework can cost."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

import msgspec
import numpy
from session import COLUMNS, open_session
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

Row: Any = msgspec.defstruct(
    "Row", [(column, float) for column in COLUMNS], forbid_unknown_fields=True
)


class PredictRequest(msgspec.Struct, forbid_unknown_fields=True):
    rows: Annotated[list[Row], msgspec.Meta(min_length=1, max_length=1000)]


decode = msgspec.json.Decoder(PredictRequest).decode
session = open_session()
name = session.get_inputs()[0].name


async def predict(request: Request) -> Response:
    try:
        rows = decode(await request.body()).rows
    except msgspec.ValidationError as error:
        return Response(msgspec.json.encode({"error": str(error)}), 422)
    values = numpy.array(list(map(msgspec.structs.astuple, rows)), numpy.float32)
    labels, probabilities = session.run(None, {name: values})
    answer = {
        "id": uuid.uuid4().hex,
        "model": "m",
        "version": 1,
        "predictions": labels.tolist(),
        "probabilities": probabilities.tolist(),
    }
    return Response(msgspec.json.encode(answer), media_type="application/json")


app = Starlette(routes=[Route("/predict", predict, methods=["POST"])])
