"""LitServe with its own batching."""

import sys
from typing import Any

import litserve
import torch
from torch import Tensor

from benchmarks.peers.network import served


class Api(litserve.LitAPI):
    """Decodes and encodes one sequence, predicts for a batch."""

    def setup(self, device: str) -> None:
        """In the worker."""
        self.network = served()[1].to(device)

    def decode_request(self, request: dict[str, Any]) -> Tensor:
        """A body -> (time, feature)."""
        return torch.tensor(request["inputs"])

    def batch(self, inputs: list[Tensor]) -> Tensor:
        """Those that wait -> (batch, time, feature)."""
        return torch.stack(inputs)

    @torch.no_grad()
    def predict(self, inputs: Tensor) -> Tensor:
        """(batch, time, feature) -> (batch, 1)."""
        return self.network(inputs)

    def encode_response(self, output: Tensor) -> dict[str, list[float]]:
        """One row -> the reply."""
        return {"prediction": output.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Api(max_batch_size=32, batch_timeout=0.002), accelerator="cpu")
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
