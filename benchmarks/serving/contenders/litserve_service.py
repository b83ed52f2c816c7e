"""LitServe: one worker, no batching; started by this file itself.

Without annotations, of which LitServe makes the form of a request.
"""

from __future__ import annotations

import os

import litserve
import numpy
from session import COLUMNS, open_session


class Predictor(litserve.LitAPI):
    def setup(self, device):  # type: ignore[no-untyped-def]  # noqa: ARG002
        self.session = open_session()
        self.name = self.session.get_inputs()[0].name

    def decode_request(self, request):  # type: ignore[no-untyped-def]
        rows = request["rows"]
        return numpy.array([[row[column] for column in COLUMNS] for row in rows], numpy.float32)

    def predict(self, x):  # type: ignore[no-untyped-def]
        return self.session.run(None, {self.name: x})

    def encode_response(self, output):  # type: ignore[no-untyped-def]
        return {"predictions": output[0].tolist(), "probabilities": output[1].tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Predictor(), accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1",
        port=int(os.environ["BENCH_PORT"]),
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
    )
