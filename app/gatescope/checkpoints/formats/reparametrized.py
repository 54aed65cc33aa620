"""Weights that were saved in parts or several times: put together where that is simple, refused by name where not."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from gatescope.errors import CheckpointError
from gatescope.names import listed, quoted
from gatescope.pipeline.stored_tensors import StoredTensor

MAGNITUDE = re.compile(r"(|.*\.)parametrizations\.([^.]+)\.original0")
OLD_MAGNITUDE = re.compile(r"(|.*\.)weight\w*_g")
PRUNED = re.compile(r"(|.*\.)(weight|bias)\w*_orig")
OTHER_PART = re.compile(r"(|.*\.)(parametrizations\..*|weight\w*_orig)")
RAW = re.compile(r"(|.*\.)(weight_(?:ih|hh)(?:_l\d+(?:_reverse)?)?)_raw")
"""What AWD-LSTM's weight drop trains; under the parameter's own name stands a copy with some of it set to zero."""


class _Parts(NamedTuple):
    """The weight that a part belongs to, the other part, how they are put together, and the list of such weights."""

    base: str
    other: str
    put_together: Callable[[str, Tensor, Tensor], Tensor]
    found: list[str]


def unmask(stored: dict[str, StoredTensor]) -> tuple[dict[str, StoredTensor], tuple[str, ...]]:
    """The weights with each `weight_hh_l0_raw` under the name of its parameter, and a note of which these are.

    Raises:
        CheckpointError: the copy under the parameter's name has another shape.
    """
    true_names = {name: _unmasked(name, stored) for name in stored if RAW.fullmatch(name)}
    raw = {true_name: stored[name] for name, true_name in true_names.items()}
    whole: dict[str, StoredTensor] = {}
    for name, value in stored.items():
        true_name = true_names.get(name, name)
        whole[true_name] = raw.get(true_name, value)
        if whole[true_name].shape != value.shape:
            raise CheckpointError(
                f"{quoted(name)} has shape {list(value.shape)}, its raw weight {list(whole[true_name].shape)}: "
                "these do not fit"
            )
    return whole, (f"Taken from before weight drop masked them: {listed(list(raw))}.",) if raw else ()


def _unmasked(name: str, stored: dict[str, StoredTensor]) -> str:
    """The name of the parameter that a raw weight is: beside it, or in the module that weight drop wraps."""
    prefix, _, own = name.removesuffix("_raw").rpartition(".")
    beside = f"{prefix}.{own}" if prefix else own
    inside = f"{prefix}.module." if prefix else "module."
    is_wrapped = beside not in stored and any(other.startswith(inside) for other in stored)
    return inside + own if is_wrapped else beside


def fold(weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The weights whole, each where its first part stood, and notes of which were in parts.

    `weight_norm`'s magnitude and direction are multiplied, and so are the original and the mask of a pruned weight.

    Raises:
        CheckpointError: a weight is in parts of another kind.
    """
    whole: dict[str, Tensor] = {}
    normed: list[str] = []
    pruned: list[str] = []
    used: set[str] = set()
    for name, value in weights.items():
        base, other, put_together, found = _parts(name, normed, pruned)
        if other not in weights or f"{base}_u" in weights:  # spectral_norm's vector
            whole[name] = value
            continue
        if base in weights:
            raise CheckpointError(f"both {quoted(base)} and its parts are there; save the state dict of one module")
        whole[base] = put_together(base, value, weights[other])
        found.append(base)
        used.add(other)
    whole = {name: value for name, value in whole.items() if name not in used}
    _refuse_others(whole)
    notes = (f"Put together from weight_norm's magnitude and direction: {listed(normed)}.",) if normed else ()
    return whole, (*notes, f"Pruned, their mask applied: {listed(pruned)}.") if pruned else notes


def _refuse_others(weights: dict[str, Tensor]) -> None:
    for name in weights:
        if OTHER_PART.fullmatch(name):
            raise CheckpointError(
                f"{quoted(name)} is a part of a reparametrized or pruned weight; make it whole before saving, with "
                "torch.nn.utils.parametrize.remove_parametrizations, remove_spectral_norm or prune.remove"
            )


def _parts(name: str, normed: list[str], pruned: list[str]) -> _Parts:
    """What the part of this name belongs to; of a name that is no first part, an other part that is nowhere."""
    if match := MAGNITUDE.fullmatch(name):
        return _Parts(match[1] + match[2], f"{name[:-1]}1", _product, normed)
    if OLD_MAGNITUDE.fullmatch(name):
        return _Parts(name[:-2], f"{name[:-2]}_v", _product, normed)
    if PRUNED.fullmatch(name):
        base = name.removesuffix("_orig")
        return _Parts(base, f"{base}_mask", _masked, pruned)
    return _Parts(name, "", _product, normed)


def _masked(name: str, original: Tensor, mask: Tensor) -> Tensor:
    """What `torch.nn.utils.prune` computes before each forward."""
    if original.shape != mask.shape:
        raise CheckpointError(
            f"the original of {quoted(name)} has shape {list(original.shape)}, its mask {list(mask.shape)}: "
            "these do not fit"
        )
    return original * mask.to(original.dtype)


def _product(name: str, magnitude: Tensor, direction: Tensor) -> Tensor:
    """Give g · v / ‖v‖, the norm over the dimensions in which there is one g; as in `torch.nn.utils.weight_norm`."""
    g, v = magnitude.shape, direction.shape  # (rows, 1, …) or (), (rows, …)
    if g and (len(g) != len(v) or any(size not in (1, full) for size, full in zip(g, v, strict=True))):
        raise CheckpointError(
            f"the magnitude of {quoted(name)} has shape {list(g)}, its direction {list(v)}: these do not fit"
        )
    shared = [dim for dim in range(len(v)) if not g or g[dim] == 1]
    norm = direction.float().norm(dim=shared, keepdim=True) if shared else direction.float().abs()  # like g
    return (direction.float() * (magnitude.float() / norm)).to(direction.dtype)  # (rows, …)
