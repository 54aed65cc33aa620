"""`POST /v1/models/{name}/explain`: one unit at one time step, with every number and the names of what moved it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gatescope.cells import LSTM, Cell, Factor, Gate, Update
from gatescope.decompose import Decomposition, Explanation, FactorValue, GateSum, Point, Product
from gatescope.errors import InvalidInput, Place
from gatescope.pipeline.features import FeatureInputs
from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Answer
from gatescope.server.api import body, places, query, reply, selections, sequences
from gatescope.server.api.codecs.codec import Fields
from gatescope.server.api.messages import Reply, Request
from gatescope.server.api.notes import Span, beside_answer, notes_of
from gatescope.server.api.schema.requests import ExplainRequest
from gatescope.server.api.v1.traces import stored_in
from gatescope.server.serving.stored import Note, StoredTrace

LARGEST = 8  # contributors that are named, per gate and kind


async def explain(request: Request, name: str, version: str | None = None) -> Reply:
    """Walk one unit of one layer and direction through one time step of one sequence, sent here or stored."""
    here = request.context
    given = await body.read_fields(request)
    stored = stored_in(given, request, name, version)
    if stored is not None:
        return await reply.respond(await _of_stored(given, stored, request))
    return await reply.respond(await _of_sent(given, here.engine.model(name, version), request))


async def _of_sent(given: Fields, model: Model, request: Request) -> Fields:
    here = request.context
    expected = query.expected(model).within(here.limits)
    asked = await asyncio.to_thread(body.validate, given, ExplainRequest, expected)
    if asked.sequence is not None:
        raise InvalidInput.at(Place(("body", "sequence"), "goes with 'trace_id'"))
    unexplained = query.to_query(asked, model, here.limits)
    point = selections.to_point(asked, model, unexplained)
    await request.checked()
    with places.in_body():
        answer = await here.engine.answer(model, replace(unexplained, explain=point), request.deadline)
    tokens = sequences.tokens_of(asked, model)
    notes = beside_answer(notes_of(asked, model, tokens), model, Span.of(unexplained), predicts=False)
    return _explained(answer, model, tokens, notes)


async def _of_stored(given: Fields, stored: StoredTrace, request: Request) -> Fields:
    here, model = request.context, stored.model
    asked = body.validate(given, ExplainRequest, query.expected(model).within(here.limits))
    point = Point(asked.layer, asked.direction, asked.time_step, asked.unit)
    with places.in_body():
        sequence = stored.sequence(asked.sequence)
        point = point.resolve(stored.spec, stored.lengths[sequence])
    await request.checked()
    with places.in_body():
        answer = await stored.explain(here.engine, sequence, point, request.deadline)
    tokens = stored.tokens and stored.tokens[sequence : sequence + 1]
    return _explained(answer, model, tokens, ())  # what was assumed stands in the trace itself


def _explained(answer: Answer, model: Model, tokens: list[list[str]] | None, notes: Sequence[Note]) -> Fields:
    """The reply as `ExplainReply` describes it.

    Args:
        answer: which has the explanation.
        model: is explained.
        tokens: what a model of tokens read.
        notes: what was assumed when the request was read.
    """
    explained = answer.explained
    if explained is None:
        raise TypeError("the answer explains nothing")
    point, decomposition = explained.point, explained.decomposition
    return {
        "model": {"name": model.name, "version": model.version},
        **({"notes": notes} if notes else {}),
        "module": answer.module,
        "layer": point.layer,
        "direction": point.direction,
        "time_step": point.time_step,
        "previous_time_step": explained.previous_time_step,
        "unit": point.unit,
        "inputs": _raw_features(answer, model, point),
        "token": None if tokens is None or not answer.aligned else _token(answer, model, tokens[0], point),
        "gates": _gates(answer, explained, model),
        **_updates(decomposition, model.pipeline.spec_of(answer.module).cell),
        "residual": explained.residual,
    }


def _raw_features(answer: Answer, model: Model, point: Point) -> dict[str, np.floating[Any]] | None:
    inputs = model.manifest.input
    if not answer.aligned or not isinstance(inputs, FeatureInputs):
        return None
    return dict(zip(inputs.names, answer.inputs[0, point.time_step].numpy(), strict=True))


def _token(answer: Answer, model: Model, read: list[str], point: Point) -> str:
    """The token of this step: as it was sent, or behind that as the model wrote it."""
    if point.time_step < len(read) or model.vocabulary is None:
        return read[point.time_step]
    return model.vocabulary.entries[int(answer.inputs[0, point.time_step])]


def _gates(answer: Answer, explained: Explanation, model: Model) -> dict[str, Any]:
    inputs = _input_names(model, answer.module, explained.point.layer)
    units = [f"unit {unit}" for unit in range(model.pipeline.spec_of(answer.module).hidden_state_size)]
    cell, gates = model.pipeline.spec_of(answer.module).cell, explained.decomposition.gates
    return {gate.name: _gate(gates[gate.name], gate, inputs, units) for gate in cell.gates}


def _gate(gate: GateSum, stated: Gate, inputs: Sequence[str], units: Sequence[str]) -> dict[str, Any]:
    bias, scale, scaled_by = gate.bias_recurrent or 0.0, gate.recurrent_scale, stated.recurrent_scale
    scaled = {
        "recurrent_scale": {"gate": scaled_by, "value": scale},
        "recurrent_term": scale * (gate.recurrent.total + bias),
    }
    if stated.scales_state:
        scaled = {"state_scale": scaled_by}
        units = [f"{scaled_by} · {unit}" for unit in units]
    return {
        "input_contribution": gate.inputs.total,
        "recurrent_contribution": gate.recurrent.total,
        "bias_input": _float32(gate.bias_input),
        "bias_recurrent": _float32(gate.bias_recurrent),
        **(scaled if scaled_by else {}),
        "terms": gate.terms,
        "sum": gate.sum,
        "activation": gate.activation.name,
        "value": gate.value,
        "formula": gate.formula,
        "largest_inputs": [_named(term, inputs) for term in gate.inputs.largest(LARGEST)],
        "largest_recurrent": [_named(term, units) for term in gate.recurrent.largest(LARGEST)],
    }


def _named(term: Product, names: Sequence[str]) -> dict[str, Any]:
    return {
        "name": names[term.index],
        "value": _float32(term.value),
        "weight": _float32(term.weight),
        "contribution": term.contribution,
    }


def _updates(decomposition: Decomposition, cell: Cell) -> dict[str, Any]:
    """The equations of the states, each under its name; those of `nn.LSTM` also have names for their numbers."""
    named = {"cell_state": _cell_update, "hidden_state": _hidden_update} if cell == LSTM else {}
    return {
        f"{update.state.removesuffix('_state')}_update": {
            **(named[update.state](decomposition) if named else {}),
            **_update(update, decomposition),
        }
        for update in cell.updates
    }


def _update(update: Update, decomposition: Decomposition) -> dict[str, Any]:
    computed = decomposition.updates[update.state]
    return {
        "terms": {
            term.name: {
                "factors": list(map(_factor, term.factors, computed.terms[term.name].factors)),
                "value": computed.terms[term.name].value,
            }
            for term in update.terms
        },
        "value": computed.value,
        "formula": computed.formula,
    }


def _factor(factor: Factor, computed: FactorValue) -> dict[str, Any]:
    known = _float32 if factor.is_previous else float
    return {
        "name": factor.name,
        "is_previous": factor.is_previous,
        "function": factor.function and factor.function.name,
        "argument": known(computed.argument),
        "value": known(computed.value) if factor.function is None else computed.value,
    }


def _cell_update(decomposition: Decomposition) -> dict[str, Any]:
    gates, update = decomposition.gates, decomposition.updates["cell_state"]
    return {
        "forget_gate": gates["forget_gate"].value,
        "previous_cell_state": _float32(decomposition.previous["cell_state"]),
        "kept": update.terms["forget_term"].value,
        "input_gate": gates["input_gate"].value,
        "cell_candidate": gates["cell_candidate"].value,
        "written": update.terms["input_term"].value,
        "cell_state": update.value,
    }


def _hidden_update(decomposition: Decomposition) -> dict[str, Any]:
    update = decomposition.updates["hidden_state"]
    output_gate, tanh_cell_state = update.terms["output_term"].factors
    projected = update.projected
    return {
        "output_gate": output_gate.value,
        "cell_state": tanh_cell_state.argument,
        "tanh_cell_state": tanh_cell_state.value,
        "hidden_state": update.value if projected is None else None,
        "unprojected_hidden_state": None if projected is None else update.value,
        "projected_hidden_state": None if projected is None else projected.tolist(),
    }


def _input_names(model: Model, module: str, layer: int) -> Sequence[str]:
    """What the inputs of a layer are called."""
    if layer:
        spec = model.pipeline.spec_of(module)
        units = range(spec.hidden_state_size)
        return [f"layer {layer - 1} {direction} unit {unit}" for direction in spec.directions for unit in units]
    named = model.pipeline.module_inputs(module).names
    return (model.vocabulary.entries if model.vocabulary else ()) if named is None else named


def _float32(value: float | None) -> np.float32 | None:
    """What the model and its trace hold in float32, so that it is printed as short as it is; the rest is float64."""
    return None if value is None else np.float32(value)
