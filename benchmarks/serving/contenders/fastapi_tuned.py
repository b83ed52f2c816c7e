"""FastAPI with what its users do for speed: rows as typed dicts, the answer written by orjson."""

from __future__ import annotations

import uuid
from operator import itemgetter
from typing import Annotated, Any

import numpy
import orjson
from fastapi import FastAPI, Response
from pydantic import BaseModel, ConfigDict, Field
from session import COLUMNS, open_session
from typing_extensions import TypedDict

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Row: Any = TypedDict("Row", dict.fromkeys(COLUMNS, Number))  # type: ignore[misc]
Row.__pydantic_config__ = ConfigDict(extra="forbid")


class PredictRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    rows: Annotated[list[Row], Field(min_length=1, max_length=1000)]


app = FastAPI()
session = open_session()
name = session.get_inputs()[0].name
take = itemgetter(*COLUMNS)


@app.post("/predict")
async def predict(request: PredictRequest) -> Response:
    values = numpy.array([take(row) for row in request.rows], numpy.float32)
    labels, probabilities = session.run(None, {name: values})
    answer = {
        "id": uuid.uuid4().hex,
        "model": "m",
        "version": 1,
        "predictions": labels.tolist(),
        "probabilities": probabilities.tolist(),
    }
    return Response(orjson.dumps(answer), media_type="application/json")
