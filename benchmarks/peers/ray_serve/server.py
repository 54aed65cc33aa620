"""Ray Serve with `serve.batch`."""

from __future__ import annotations

import signal
import sys

import ray
import torch
from ray import serve
from starlette.requests import Request

from benchmarks.peers.network import served


@serve.deployment(max_ongoing_requests=256)
class Predictor:
    """One replica."""

    def __init__(self) -> None:
        self.network = served()[1]

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.002)
    async def predict(self, sequences: list[list[list[float]]]) -> list[list[float]]:
        """Those that wait, each (time, feature) -> each its prediction."""
        with torch.no_grad():
            return self.network(torch.tensor(sequences)).tolist()

    async def __call__(self, request: Request) -> dict[str, list[float]]:
        """One sequence."""
        return {"prediction": await self.predict((await request.json())["inputs"])}


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # so that what Ray started ends, too
    ray.init(include_dashboard=False, num_cpus=2)
    serve.start(
        http_options={"host": "127.0.0.1", "port": int(sys.argv[1])}, logging_config={"enable_access_log": False}
    )
    serve.run(Predictor.bind(), route_prefix="/predict", blocking=True)
