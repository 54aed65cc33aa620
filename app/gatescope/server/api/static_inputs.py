"""What a request states of each sequence as a whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from gatescope.pipeline.model import Model
from gatescope.server.api.named_columns import order_of
from gatescope.server.api.places import refuse


def static_inputs_of(
    given: np.ndarray | None, columns: Sequence[str] | None, model: Model, sequences: int
) -> Tensor | None:
    """The static inputs of so many sequences, (batch, feature); None where the request has none.

    Args:
        given: (batch, feature), or (feature,) of a lone sequence.
        columns: what its features are called, where that is said.
        model: takes them, or does not.
        sequences: how many there are.

    Raises:
        InvalidInput: they do not fit the model or the sequences.
    """
    static = model.manifest.static
    if given is None:
        if columns is not None:
            refuse("goes with 'static_inputs'", "static_columns")
        return None
    if static is None:
        refuse(f"model '{model.name}' takes none: it has no static features", "static_inputs")
    is_lone = given.ndim == 1
    rows = given[None] if is_lone else given
    if len(rows) != sequences:
        counted = "sequence" if sequences == 1 else "sequences"
        refuse(f"has {len(rows)} vectors for {sequences} {counted}", "static_inputs")
    order = order_of(columns, static.names, "static_columns")
    rows = rows if order is None else rows[:, order]
    if (place := static.unknown_category(rows)) is not None:
        row, feature = (int(index) for index in place.loc)
        sent = feature if order is None else order[feature]
        refuse(place.message, "static_inputs", *((sent,) if is_lone else (row, sent)))
    return torch.from_numpy(np.ascontiguousarray(rows))


def require(static_inputs: Tensor | None, model: Model, *loc: str) -> None:
    """Refuse a request without static inputs for a model that takes them; raises `InvalidInput`."""
    static = model.manifest.static
    if static_inputs is None and static is not None:
        names = ", ".join(map(repr, static.names))
        message = f"is missing: model '{model.name}' takes one vector of {names} for each sequence"
        refuse(message, *(loc or ("static_inputs",)))
