"""BentoML as its first pages have it: a class, a typed method, no settings."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

import bentoml
import numpy
from pydantic import BaseModel, ConfigDict, Field, create_model
from session import COLUMNS, open_session

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
fields: dict[str, Any] = dict.fromkeys(COLUMNS, (Number, ...))
Row: Any = create_model("Row", __config__=ConfigDict(extra="forbid"), **fields)


class Answer(BaseModel):
    id: str
    model: str
    version: int
    predictions: list[int]
    probabilities: list[list[float]]


@bentoml.service
class Default:
    def __init__(self) -> None:
        self.session = open_session()
        self.name = self.session.get_inputs()[0].name

    @bentoml.api
    def predict(self, rows: list[Row]) -> Answer:
        values = [[getattr(row, column) for column in COLUMNS] for row in rows]
        array = numpy.array(values, numpy.float32)
        labels, probabilities = self.session.run(None, {self.name: array})
        return Answer(
            id=str(uuid.uuid4()),
            model="m",
            version=1,
            predictions=labels.tolist(),
            probabilities=probabilities.tolist(),
        )
