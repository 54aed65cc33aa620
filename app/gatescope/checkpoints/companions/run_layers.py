"""`RunLayers`: the layers of a neuralhydrology run's model, as a manifest states them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from gatescope.checkpoints.companions.plain import Unreadable, shown
from gatescope.checkpoints.companions.run_config import Embedding, RunConfig

_GATES = 4
_EMBEDDING_STRIDE = 3  # a linear layer, its activation and its dropout
_PYTORCH = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
_OWN = ("w_ih", "w_hh", "b_ih", "b_hh")
_OWN_CELLS = ("customlstm", "lstm")
"""Models whose cell is neuralhydrology's own: its gates are in PyTorch's order, under other names."""

_RENAMED = MappingProxyType(
    {f"cell.{own}": f"cell.{name.removesuffix('_l0')}" for own, name in zip(_OWN, _PYTORCH, strict=True)}
)


class RunLayers:
    """The layers of a run's model for a manifest, and the shapes of their weights.

    Args:
        config: of the run.
        names: of the weights in the file; None where they are not known, and the newest names are taken.
    """

    def __init__(self, config: RunConfig, names: Collection[str] | None) -> None:
        self._config, self._names = config, names
        self.layers: list[dict[str, Any]] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        read, width = self._inputs()
        self._lstm(read, width)
        if config.head == "regression":
            self._head()

    @property
    def rename(self) -> Mapping[str, str]:
        """Weights that the layers know under another name: old -> new."""
        return _RENAMED if self._config.model in _OWN_CELLS else {}

    @property
    def ignored(self) -> list[str]:
        """Weights that no layer reads."""
        left_out = [] if self._config.head == "regression" else ["head"]
        return left_out + (["cudalstm"] if self._config.model == "embcudalstm" else [])  # the same weights once more

    def check(self, shapes: Mapping[str, Sequence[int]]) -> None:
        """Hold the weights in a file against the configuration.

        Raises:
            Unreadable: one is missing or has another shape.
        """
        for name, expected in self.shapes.items():
            if name not in shapes:
                raise Unreadable(f"has no weight {shown(name)}, which config.yml's model has: is it of another run?")
            if tuple(shapes[name]) != expected:
                raise Unreadable(
                    f"{shown(name)} has shape {list(shapes[name])}, but config.yml's inputs, sizes and targets make it "
                    f"{list(expected)}: is it of another run?"
                )

    def _inputs(self) -> tuple[str, int]:
        """What the LSTM reads, and how wide that is."""
        config = self._config
        read, width = self._embedded("dynamics_embedding", config.dynamics_embedding, "inputs", len(config.dynamic))
        if not config.static:
            return read, width
        static, size = self._embedded("statics_embedding", config.statics_embedding, "static", len(config.static))
        self.layers.append({"name": "all_inputs", "type": "concat", "inputs": [read, static]})
        return "all_inputs", width + size

    def _embedded(self, name: str, embedding: Embedding | None, read: str, width: int) -> tuple[str, int]:
        """The fully connected network in front of the LSTM, where there is one."""
        if embedding is None:
            return read, width
        prefix = self._prefix(name)
        for index, size in enumerate(embedding.sizes):
            layer, weights = f"{name}_{index}", f"{prefix}.net.{_EMBEDDING_STRIDE * index}"
            self._linear(layer, weights, read, (size, width))
            read, width = layer, size
            if index < len(embedding.sizes) - 1 and embedding.activation != "linear":
                read = f"{layer}_{embedding.activation}"
                self._activation(read, embedding.activation, layer)
        return read, width

    def _prefix(self, name: str) -> str:
        """Where an embedding's weights stand: version 1.11 renamed one, and version 0.9.11 the other."""
        usual = f"embedding_net.{name}"
        others = {"dynamics_embedding": "embedding_net.dynamics_embeddings.0", "statics_embedding": "embedding_net"}
        if self._names is None or f"{usual}.net.0.weight" in self._names:
            return usual
        return others[name] if f"{others[name]}.net.0.weight" in self._names else usual

    def _lstm(self, read: str, width: int) -> None:
        rows, size = _GATES * self._config.hidden_size, self._config.hidden_size
        own = self._config.model in _OWN_CELLS
        prefix = "cell" if own else "lstm"
        self.layers.append({"name": "lstm", "type": "lstm", "weights": prefix, "inputs": [read]})
        names = _OWN if own else _PYTORCH
        for name, shape in zip(names, ((rows, width), (rows, size), (rows,), (rows,)), strict=True):
            self.shapes[f"{prefix}.{name}"] = shape

    def _head(self) -> None:
        config = self._config
        self._linear("head", "head.net.0", "lstm", (len(config.targets), config.hidden_size))
        if config.activation != "linear":
            self._activation("output_activation", config.activation, "head")

    def _linear(self, name: str, weights: str, read: str, shape: tuple[int, int]) -> None:
        self.layers.append({"name": name, "type": "linear", "weights": weights, "inputs": [read]})
        self.shapes[f"{weights}.weight"], self.shapes[f"{weights}.bias"] = shape, shape[:1]

    def _activation(self, name: str, function: str, read: str) -> None:
        self.layers.append({"name": name, "type": "activation", "function": function, "inputs": [read]})
