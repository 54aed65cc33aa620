"""States of a whole model: of a lone recurrent module its own, of several all of theirs in one entry."""

from __future__ import annotations

from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Query
from gatescope.state import State


def begun(query: Query, model: Model) -> State:
    """Where the sequences of a query begin."""
    if query.packed_state is not None:
        return State.unpacked([query.packed_state], model.pipeline.state_spec)
    return model.pipeline.initial_state(query.sequences) if query.initial_state is None else query.initial_state


def begun_of_several(query: Query, model: Model) -> State | None:
    """The same of a model with several recurrent modules; None of another, whose trace says where it begins."""
    return begun(query, model) if has_several_modules(model) else None


def has_several_modules(model: Model) -> bool:
    """Whether the states of several recurrent modules are carried, so that one module's are not all there is."""
    return len(model.pipeline.state_modules) > 1
