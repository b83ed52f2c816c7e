"""FastAPI as one writes it by hand: async, typed columns, a model of the answer."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

import numpy
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field, create_model
from session import COLUMNS, open_session

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
fields: dict[str, Any] = dict.fromkeys(COLUMNS, (Number, ...))
Row: Any = create_model("Row", __config__=ConfigDict(extra="forbid"), **fields)


class PredictRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    rows: Annotated[list[Row], Field(min_length=1, max_length=1000)]


class PredictResponse(BaseModel):
    id: str
    model: str
    version: int
    predictions: list[int]
    probabilities: list[list[float]]


app = FastAPI()
session = open_session()
name = session.get_inputs()[0].name


@app.post("/predict")
async def predict(request: PredictRequest) -> PredictResponse:
    values = [[getattr(row, column) for column in COLUMNS] for row in request.rows]
    labels, probabilities = session.run(None, {name: numpy.array(values, numpy.float32)})
    return PredictResponse(
        id=str(uuid.uuid4()),
        model="m",
        version=1,
        predictions=labels.tolist(),
        probabilities=probabilities.tolist(),
    )
