"""`Subject`: one of the networks that are served, on disk for every server, and what it answers by itself."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.peers.network import NETWORKS, Network, Sizes

ASKED = ("small", "larger")
"""For predictions of whole sequences."""

BATCH = 32
"""Sequences that the network alone is given at once."""

_MANIFEST = """
description = "a network of the benchmarks"
task = "regression"
[input]
kind = "features"
features = [{features}]
[head]
steps = "last"
[output]
names = ["value"]
"""


@dataclass(frozen=True)
class Subject:
    """A network with seeded weights, in a folder that `gatescope serve` and the peers read."""

    name: str
    network: Network

    @property
    def sizes(self) -> Sizes:
        """Of the network."""
        return NETWORKS[self.name]

    def inputs(self, steps: int = 0, seed: int = 0) -> np.ndarray:
        """(time, feature) normal numbers; as many steps as the network's sequences have, if none are named."""
        shape = steps or self.sizes.steps, self.sizes.input_size
        return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)

    @torch.no_grad()
    def answer(self, inputs: np.ndarray) -> np.ndarray:
        """(time, feature) -> (1,), by the network itself."""
        answered: Tensor = self.network(torch.from_numpy(inputs)[None])
        return answered[0].numpy()

    @torch.no_grad()
    def output(self, inputs: np.ndarray) -> np.ndarray:
        """(time, feature) -> the top layer's (time, unit), by `nn.LSTM` itself."""
        answered: Tensor = self.network.lstm(torch.from_numpy(inputs)[None])[0]
        return answered[0].numpy()

    @torch.no_grad()
    def rate(self, seconds: float) -> float:
        """Sequences a second of the network alone, in this process, on one thread."""
        inputs = torch.randn(BATCH, self.sizes.steps, self.sizes.input_size)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            began, batches = time.perf_counter(), 0
            while time.perf_counter() - began < seconds:
                self.network(inputs)
                batches += 1
            return BATCH * batches / (time.perf_counter() - began)
        finally:
            torch.set_num_threads(threads)


def write(folder: Path, names: Sequence[str] = ASKED) -> dict[str, Subject]:
    """These networks, made and written as models into this folder of models."""
    return {name: _write(folder / name, name) for name in names}


def _write(folder: Path, name: str) -> Subject:
    torch.manual_seed(0)
    network = Network(NETWORKS[name]).eval()
    (folder / "1").mkdir(parents=True)
    features = ", ".join(f'{{name = "{number}"}}' for number in range(NETWORKS[name].input_size))
    (folder / "model.toml").write_text(_MANIFEST.format(features=features), encoding="utf-8")
    save_file(network.state_dict(), folder / "1" / "model.safetensors")
    torch.save(network.state_dict(), folder / "weights.pt")
    return Subject(name, network)
