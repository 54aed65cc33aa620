"""Triton by way of PyTriton, with its dynamic batching."""

from __future__ import annotations

import sys

import numpy as np
import torch
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from benchmarks.peers.network import NETWORKS, served

NAME, NETWORK = served()


@batch
@torch.no_grad()
def predict(inputs: np.ndarray) -> list[np.ndarray]:
    """(batch, time, feature) -> (batch, 1)."""
    return [NETWORK(torch.from_numpy(inputs)).numpy()]


if __name__ == "__main__":
    http, grpc, metrics = (int(port) for port in sys.argv[1:])
    sizes = NETWORKS[NAME]
    ports = {"http_port": http, "grpc_port": grpc, "metrics_port": metrics}
    with Triton(config=TritonConfig(http_address="127.0.0.1", **ports)) as triton:
        triton.bind(
            model_name=NAME,
            infer_func=predict,
            inputs=[Tensor(name="inputs", dtype=np.float32, shape=(sizes.steps, sizes.input_size))],
            outputs=[Tensor(name="prediction", dtype=np.float32, shape=(1,))],
            config=ModelConfig(max_batch_size=32, batcher=DynamicBatcher(max_queue_delay_microseconds=2000)),
        )
        triton.serve()
