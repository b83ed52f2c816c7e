"""MLServer: a model of its protocol, whose request is one tensor."""

from __future__ import annotations

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from session import open_session


class Predictor(MLModel):
    async def load(self) -> bool:
        self.session = open_session()
        self.input = self.session.get_inputs()[0].name
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        array = NumpyCodec.decode_input(payload.inputs[0]).astype("float32")
        labels, probabilities = self.session.run(None, {self.input: array})
        outputs = {"predictions": labels, "probabilities": probabilities}
        return InferenceResponse(
            model_name=self.name,
            outputs=[NumpyCodec.encode_output(name, output) for name, output in outputs.items()],
        )
