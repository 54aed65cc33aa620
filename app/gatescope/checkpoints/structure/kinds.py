"""The kinds of module that a checkpoint may hold, each recognised by the names and shapes of its weights."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from gatescope.errors import WeightsError
from gatescope.names import quoted
from gatescope.spec import Spec

_RECURRENT = re.compile(r"(weight|bias)_(ih|hh|hr)(_l\d+(_reverse)?)?")
_EMBEDDING = re.compile(r"emb|lookup|wte|token|word|vocab", re.IGNORECASE)
_LOSS = re.compile(r"loss|criterion|(^|\.)similarity_(weight|bias)$", re.IGNORECASE)
_OTHER_NORM = re.compile(r"group|instance|(^|[._])gn\d*$|(^|[._])in\d*$", re.IGNORECASE)
OF_A_LOSS = "of a loss"
_MATRIX = 2  # axes of a weight
_CONVOLUTIONS = {3: "an nn.Conv1d", 4: "an nn.Conv2d", 5: "an nn.Conv3d"}
_AFFINE = {"weight", "bias"}
_BATCH_NORM = {"running_mean", "running_var", "num_batches_tracked"}
_CRF = {"transitions", "start_transitions", "end_transitions"}


@dataclass(frozen=True)
class Part:
    """A module inside: `path` is what stands before its own names, without the dot; empty at the top."""

    path: str

    def __str__(self) -> str:
        return quoted(self.path) if self.path else "the checkpoint itself"


@dataclass(frozen=True)
class FoundRecurrent(Part):
    """An `nn.LSTM`, `nn.GRU` or `nn.RNN`, or an `nn.LSTMCell` and the like read as an `nn.LSTM` of one layer."""

    kind: str  # nn.LSTM, nn.LSTMCell, …
    spec: Spec
    names: Mapping[str, str] = field(hash=False)  # the module's own name of a parameter -> its name in the checkpoint


@dataclass(frozen=True)
class Embedding(Part):
    """A table with one row per token."""

    num_embeddings: int
    embedding_dim: int
    kind: ClassVar[str] = "nn.Embedding"


@dataclass(frozen=True)
class Linear(Part):
    """A linear layer, or a convolution with a kernel of 1, which is the same."""

    in_features: int
    out_features: int
    bias: bool
    kind: ClassVar[str] = "nn.Linear"


@dataclass(frozen=True)
class Conv1d(Part):
    """A convolution over time; `in_features` are those of one group."""

    in_features: int
    out_features: int
    kernel: int
    kind: ClassVar[str] = "nn.Conv1d"


@dataclass(frozen=True)
class Norm(Part):
    """A norm over the numbers of a step; `types` are the layers that its weights may be of."""

    width: int
    types: tuple[str, ...]

    @property
    def kind(self) -> str:
        """What it looks like."""
        return " or ".join(self.types)


@dataclass(frozen=True)
class CRF(Part):
    """A linear-chain conditional random field."""

    labels: int
    kind: ClassVar[str] = "a CRF"


@dataclass(frozen=True)
class Other(Part):
    """What the service has no place for; `kind` is what it looks like, `reason` why it is no recurrent module."""

    kind: str
    shapes: Mapping[str, list[int]] = field(hash=False)
    reason: str | None = None


def recognise(path: str, own: Mapping[str, Tensor]) -> Iterator[Part]:
    """What a module is, by its own weights: one part, or two where a recurrent module has others beside it."""
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
    try:
        spec = Spec.from_state_dict(renamed)
    except WeightsError as error:
        return Other(path, "a broken recurrent module", _shapes(own), str(error))
    prefix = f"{path}." if path else ""
    names = {name: prefix + name.removesuffix(suffix) for name in spec.parameter_shapes()}
    made = spec.cell.cell_module if is_cell else spec.cell.module
    return FoundRecurrent(path, f"nn.{made.__name__}", spec, names)


def _layer(path: str, own: Mapping[str, Tensor]) -> Part:
    if own.keys() == _CRF and own["transitions"].dim() == _MATRIX:
        return CRF(path, len(own["transitions"]))
    return _norm(path, own) or _with_weight(path, own) or Other(path, _kind(path, own), _shapes(own))


def _with_weight(path: str, own: Mapping[str, Tensor]) -> Part | None:
    """An embedding, a linear layer or a convolution."""
    weight, bias = own.get("weight"), own.get("bias")
    if weight is None or own.keys() - _AFFINE or weight.dim() < _MATRIX or _LOSS.search(path):
        return None
    if bias is not None and bias.shape != weight.shape[:1]:
        return Other(path, "a matrix with a bias that does not fit it", _shapes(own))
    rows, columns, *kernel = weight.shape
    if set(kernel) <= {1}:
        is_table = bias is None and not kernel and _EMBEDDING.search(path.rpartition(".")[2])
        return Embedding(path, rows, columns) if is_table else Linear(path, columns, rows, bias is not None)
    return Conv1d(path, columns, rows, *kernel) if len(kernel) == 1 else None


def _norm(path: str, own: Mapping[str, Tensor]) -> Norm | None:
    """The norm that these weights are of; a group or an instance norm looks the same, but for its name."""
    first = own.get("weight", own.get("running_mean"))
    if first is None or first.dim() != 1 or any(value.dim() != 1 or len(value) != len(first) for value in own.values()):
        return None
    if _LOSS.search(path) or _OTHER_NORM.search(path):
        return None
    if {"running_mean", "running_var"} <= own.keys() <= _BATCH_NORM | _AFFINE:
        return Norm(path, len(first), ("batch_norm",))
    if own.keys() == _AFFINE:
        return Norm(path, len(first), ("layer_norm",))
    if own.keys() == {"weight"}:
        return Norm(path, len(first), ("layer_norm", "rms_norm", "prelu"))
    return None


def _shapes(own: Mapping[str, Tensor]) -> dict[str, list[int]]:
    return {name: list(value.shape) for name, value in own.items()}


def _kind(path: str, own: Mapping[str, Tensor]) -> str:
    weight = own.get("weight")
    if _LOSS.search(path) or all(_LOSS.search(f"{path}.{name}" if path else name) for name in own):
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
