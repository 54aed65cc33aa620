"""MLServer with a runtime of its own kind and adaptive batching."""

from __future__ import annotations

import numpy as np
import torch
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from benchmarks.peers.network import served


class Runtime(MLModel):
    """Serves the network."""

    async def load(self) -> bool:
        """In the worker."""
        _, self.network = served()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """(batch, time, feature) -> (batch, 1)."""
        inputs = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32, copy=False)
        with torch.no_grad():
            prediction = self.network(torch.from_numpy(inputs)).numpy()
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("prediction", prediction)])
