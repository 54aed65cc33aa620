"""`/v1/analyses` and `…/analyses/{analysis}`: questions about what happens inside a model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gatescope.analysis.registry import analyses, analysis_named
from gatescope.analysis.result import Result
from gatescope.pipeline.model import Model
from gatescope.server.api import body, negotiation, places, query, reply, selections, sequences
from gatescope.server.api.codecs.codec import Fields
from gatescope.server.api.messages import Reply, Request
from gatescope.server.api.notes import notes_of
from gatescope.server.api.schema.analyses import parameters_in, request_of, stored_request_of
from gatescope.server.serving.analysing import Analyser
from gatescope.server.serving.stored import Note

NOTE = "analysis"
"""The code of what an analysis says of its result."""


async def list_analyses(request: Request) -> Reply:  # noqa: ARG001 - every endpoint has it
    """Every analysis, with its parameters as JSON Schema."""
    return reply.of_json({"analyses": [analysis.described() for analysis in analyses().values()]})


async def analyse_model(request: Request, name: str, analysis: str, version: str | None = None) -> Reply:
    """Answer a question about what happens inside a model on the sequences of a predict body."""
    here, asked = request.context, analysis_named(analysis)
    model, writer = here.engine.model(name, version), request.head.find(negotiation.analysis_writer)
    stated = await body.read(request, request_of(asked), query.expected(model))
    tokens, untraced = sequences.tokens_of(stated, model), query.to_query(stated, model, here.limits)
    most = here.limits.max_trace_bytes
    hooks = request.checked, request.on_progress
    analyser = Analyser(here.engine, here.background, model, untraced, most, request.deadline, tokens, None, *hooks)
    scope = selections.to_scope(stated, model.pipeline.spec_of(untraced.module))
    with places.in_body():
        found = await analyser.find(asked, parameters_in(stated, asked), scope)
    return await reply.respond(told(found, model, analyser.module, notes_of(stated, model, tokens)), writer)


async def analyse_trace(request: Request, trace_id: str, analysis: str) -> Reply:
    """Answer a question about a stored trace."""
    here, asked = request.context, analysis_named(analysis)
    stored, writer = here.traces.get(trace_id, request.owner), request.head.find(negotiation.analysis_writer)
    stated = await body.read(request, stored_request_of(asked), query.expected(stored.model))
    analyser = Analyser(
        here.engine,
        here.background,
        stored.model,
        stored.read,
        here.limits.max_trace_bytes,
        request.deadline,
        stored.tokens,
        stored,
        request.checked,
        request.on_progress,
    )
    with places.in_body():
        found = await analyser.find(asked, parameters_in(stated, asked), selections.to_scope(stated, stored.spec))
    return await reply.respond(told(found, stored.model, analyser.module, stored.notes), writer)


def told(found: Result, model: Model, module: str, assumed: Sequence[Note]) -> Fields:
    """The reply as `AnalysisReply` describes it."""
    return {
        "model": {"name": model.name, "version": model.version},
        "module": module,
        "analysis": found.analysis,
        "parameters": dict(found.parameters),
        "coordinates": dict(found.coordinates),
        "arrays": {
            name: {"axes": list(array.axes), "values": _float32(array.values)} for name, array in found.arrays.items()
        },
        "check": None if found.check is None else {"kind": found.check.kind, "value": found.check.value},
        "notes": [*assumed, *({"code": NOTE, "message": note} for note in found.notes)],
    }


def _float32(values: np.ndarray) -> np.ndarray:
    """Numbers as all replies have them; whole numbers stay whole."""
    return values.astype(np.float32) if values.dtype.kind == "f" else values
