"""States of a whole model: of a lone recurrent module its own, of several all of theirs in one entry."""

from __future__ import annotations

import torch

from gatescope.pipeline.layered import LayeredPipeline
from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Query
from gatescope.state import State


def initial_state(model: Model, sequences: int) -> State:
    """Where so many sequences begin that state nothing else: zeros, or what the model has learned."""
    pipeline = model.pipeline
    if not isinstance(pipeline, LayeredPipeline):
        return State.zeros(pipeline.state_spec, sequences, torch.empty(0))
    like = torch.empty(0)
    layers = pipeline.graph.recurrent.items()
    learned = {name: (layer.initial_state(sequences), layer.spec) for name, layer in layers}
    return pipeline.join_states(
        {
            name: State.zeros(spec, sequences, like) if state is None else state.to(like)
            for name, (state, spec) in learned.items()
        }
    )


def begun(query: Query, model: Model) -> State:
    """Where the sequences of a query begin."""
    if query.packed_state is not None:
        return State.unpacked([query.packed_state], model.pipeline.state_spec)
    return initial_state(model, query.sequences) if query.initial_state is None else query.initial_state


def has_several_modules(model: Model) -> bool:
    """Whether the states of several recurrent modules are carried, so that one module's are not all there is."""
    return len(model.pipeline.state_modules) > 1
