"""The kinds of module that a checkpoint may hold, each recognised by the names and shapes of its weights."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from gatescope.checkpoints.formats.names import quoted
from gatescope.errors import WeightsError
from gatescope.spec import Spec

_RECURRENT = re.compile(r"(weight|bias)_(ih|hh|hr)(_l\d+(_reverse)?)?")
_EMBEDDING = re.compile(r"emb|lookup|wte|token|word|vocab", re.IGNORECASE)
_LOSS = re.compile(r"loss|criterion", re.IGNORECASE)
OF_A_LOSS = "of a loss"
_MATRIX = 2
_CONVOLUTIONS = {3: "an nn.Conv1d", 4: "an nn.Conv2d", 5: "an nn.Conv3d"}


@dataclass(frozen=True)
class Part:
    """A module inside: `path` is what stands before its own names, without the dot; empty at the top."""

    path: str

    def __str__(self) -> str:
        return quoted(self.path) if self.path else "the checkpoint itself"


@dataclass(frozen=True)
class FoundLSTM(Part):
    """An `nn.LSTM`, or an `nn.LSTMCell` read as an `nn.LSTM` of one layer."""

    kind: str  # nn.LSTM or nn.LSTMCell
    spec: Spec
    names: Mapping[str, str] = field(hash=False)  # nn.LSTM's own name of a parameter -> its name in the checkpoint


@dataclass(frozen=True)
class Embedding(Part):
    """A table with one row per token."""

    num_embeddings: int
    embedding_dim: int
    kind: ClassVar[str] = "nn.Embedding"


@dataclass(frozen=True)
class Linear(Part):
    """A linear layer."""

    in_features: int
    out_features: int
    bias: bool
    kind: ClassVar[str] = "nn.Linear"


@dataclass(frozen=True)
class Other(Part):
    """Something that the service has no place for; `kind` is what it looks like, `reason` why it is no LSTM."""

    kind: str
    shapes: Mapping[str, list[int]] = field(hash=False)
    reason: str | None = None


def recognise(path: str, own: Mapping[str, Tensor]) -> Iterator[Part]:
    """What a module is, by its own weights: one part, or two where an LSTM has others beside it."""
    recurrent = {name: value for name, value in own.items() if _RECURRENT.fullmatch(name)}
    rest = {name: value for name, value in own.items() if name not in recurrent}
    if recurrent:
        yield _recurrent(path, recurrent)
    if rest:
        yield _layer(path, rest)


def _recurrent(path: str, own: Mapping[str, Tensor]) -> Part:
    is_cell = not any("_l" in name for name in own)
    suffix = "_l0" if is_cell else ""
    renamed = {name + suffix: value for name, value in own.items()}
    if other := _fewer_gates(renamed):
        return Other(path, f"{other}Cell" if is_cell else other, _shapes(own))
    try:
        spec = Spec.from_state_dict(renamed)
    except WeightsError as error:
        return Other(path, "a broken nn.LSTM", _shapes(own), str(error))
    prefix = f"{path}." if path else ""
    names = {name: prefix + name.removesuffix(suffix) for name in spec.parameter_shapes()}
    return FoundLSTM(path, "nn.LSTMCell" if is_cell else "nn.LSTM", spec, names)


def _fewer_gates(own: Mapping[str, Tensor]) -> str | None:
    """What has fewer gates than an LSTM."""
    recurrent = own.get("weight_hh_l0")
    if recurrent is None or recurrent.dim() != _MATRIX:
        return None
    rows, hidden_size = recurrent.shape
    return {3 * hidden_size: "nn.GRU", hidden_size: "nn.RNN"}.get(rows)


def _layer(path: str, own: Mapping[str, Tensor]) -> Part:
    weight, bias = own.get("weight"), own.get("bias")
    if weight is None or own.keys() - {"weight", "bias"} or weight.dim() != _MATRIX:
        return Other(path, _kind(path, own), _shapes(own))
    if bias is None and _EMBEDDING.search(path.rpartition(".")[2]):
        return Embedding(path, *weight.shape)
    if bias is not None and bias.shape != weight.shape[:1]:
        return Other(path, "a matrix with a bias that does not fit it", _shapes(own))
    return Linear(path, weight.shape[1], weight.shape[0], bias is not None)


def _shapes(own: Mapping[str, Tensor]) -> dict[str, list[int]]:
    return {name: list(value.shape) for name, value in own.items()}


def _kind(path: str, own: Mapping[str, Tensor]) -> str:
    weight = own.get("weight")
    if _LOSS.search(path):
        return OF_A_LOSS
    if "running_mean" in own:
        return "a batch norm"
    if "in_proj_weight" in own:
        return "an nn.MultiheadAttention"
    if weight is not None and weight.dim() in _CONVOLUTIONS:
        return _CONVOLUTIONS[weight.dim()]
    if weight is not None and weight.dim() == 1 and not own.keys() - {"weight", "bias"}:
        return "a norm"
    return "unknown"
