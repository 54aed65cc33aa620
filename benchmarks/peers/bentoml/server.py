"""BentoML with its adaptive batching."""

from __future__ import annotations

import bentoml
import numpy as np
import torch

from benchmarks.peers.network import served


@bentoml.service(logging={"access": {"enabled": False}})
class Service:
    """One batchable endpoint."""

    def __init__(self) -> None:
        self.network = served()[1]

    @bentoml.api(batchable=True, max_batch_size=32)
    @torch.no_grad()
    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """(batch, time, feature) -> (batch, 1)."""
        return self.network(torch.from_numpy(inputs.astype(np.float32, copy=False))).numpy()
