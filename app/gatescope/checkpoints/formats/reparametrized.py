"""Weights that were saved in parts: `weight_norm`'s are put together, any others refused by name."""

from __future__ import annotations

import re

from torch import Tensor

from gatescope.checkpoints.formats.names import listed, quoted
from gatescope.errors import CheckpointError

MAGNITUDE = re.compile(r"(|.*\.)parametrizations\.([^.]+)\.original0")
OLD_MAGNITUDE = re.compile(r"(|.*\.)weight\w*_g")
OTHER_PART = re.compile(r"(|.*\.)(parametrizations\..*|weight\w*_orig)")


def fold(weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The weights whole, each where its magnitude stood, and a note of which were in parts.

    Raises:
        CheckpointError: a weight is in parts that are not `weight_norm`'s.
    """
    whole: dict[str, Tensor] = {}
    folded: list[str] = []
    directions: set[str] = set()
    for name, value in weights.items():
        base, direction = _parts(name)
        if direction in weights:
            if base in weights:
                raise CheckpointError(f"both {quoted(base)} and its parts are there; save the state dict of one module")
            whole[base] = _product(base, value, weights[direction])
            folded.append(base)
            directions.add(direction)
        else:
            whole[name] = value
    whole = {name: value for name, value in whole.items() if name not in directions}
    for name in whole:
        if OTHER_PART.fullmatch(name):
            raise CheckpointError(
                f"{quoted(name)} is a part of a reparametrized or pruned weight; make it whole before saving, with "
                "torch.nn.utils.parametrize.remove_parametrizations, remove_spectral_norm or prune.remove"
            )
    return whole, (f"Put together from weight_norm's magnitude and direction: {listed(folded)}.",) if folded else ()


def _parts(name: str) -> tuple[str, str]:
    """The weight whose magnitude this is by its name, and the name of its direction; of any other name, nothing."""
    if match := MAGNITUDE.fullmatch(name):
        return match[1] + match[2], f"{name[:-1]}1"
    if OLD_MAGNITUDE.fullmatch(name):
        return name[:-2], f"{name[:-2]}_v"
    return "", ""


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
