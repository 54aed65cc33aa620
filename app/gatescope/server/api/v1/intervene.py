"""`POST /v1/models/{name}/intervene`: a run as it is, the same with changes, and the difference."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import NamedTuple, NoReturn

from gatescope.errors import InvalidInput, Place
from gatescope.pipeline import size
from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Answer, Query
from gatescope.selection import Selection
from gatescope.server.api import body, negotiation, places, query, reply, selections, sequences
from gatescope.server.api.codecs.codec import Fields
from gatescope.server.api.context import Context
from gatescope.server.api.differences import difference
from gatescope.server.api.edits import edited, interventions_of, notes_on
from gatescope.server.api.limits import Limits
from gatescope.server.api.messages import Reply, Request
from gatescope.server.api.notes import Span, notes_of
from gatescope.server.api.places import refuse
from gatescope.server.api.row_labels import labels_of
from gatescope.server.api.schema.requests import InterveneRequest, TraceSelection
from gatescope.server.api.v1.traces import stored_in
from gatescope.server.serving import states
from gatescope.server.serving.request import Part
from gatescope.server.serving.stored import StoredTrace

_RUNS = 3  # the baseline, the intervened run, and their difference: what is made has so many times its size


class Asked(NamedTuple):
    """A run, and what its reply tells of the request."""

    query: Query
    said: reply.Said


async def intervene(request: Request, name: str, version: str | None = None) -> Reply:
    """Run sequences twice: as they are, and with edited signals, edited inputs, or both."""
    here, writer = request.context, request.head.find(negotiation.intervention_writer)
    given = await body.read_fields(request)
    stored = stored_in(given, request, name, version)
    model = here.engine.model(name, version) if stored is None else stored.model
    expected = query.expected(model).within(here.limits)
    asked = await asyncio.to_thread(body.validate, given, InterveneRequest, expected)
    baseline, changed = await asyncio.to_thread(_runs, asked, stored, model, request)
    await request.checked()
    with places.in_body():
        first = await here.engine.answer(model, baseline.query, request.deadline, Part(is_last=False))
        second = await here.engine.answer(model, changed.query, request.deadline, Part(is_first=False))
    return await reply.respond(await asyncio.to_thread(_told, (baseline, changed), (first, second), model), writer)


def _runs(asked: InterveneRequest, stored: StoredTrace | None, model: Model, request: Request) -> tuple[Asked, Asked]:
    """What is computed; raises `InvalidInput`, `ReplyTooLarge`, `TraceTooLarge`, `TraceNotFound`."""
    here = request.context
    if asked.interventions is None and asked.inputs_edited is None and asked.text_edited is None:
        refuse("say what is to be changed: 'interventions', 'inputs_edited' or 'text_edited'", "interventions")
    if asked.horizon is not None and model.pipeline.task == "next_token":
        refuse(
            "is not for this route: texts that go on in two ways have no difference; the steps of a session take "
            "'interventions' and a 'horizon'",
            "horizon",
        )
    baseline = _of_sent(asked, model, here) if stored is None else _of_stored(asked, stored)
    changed = _with_inputs(asked, baseline, model, here)
    query.check_reply_size(baseline.query, model, here.limits, _RUNS)
    selection = _selection(asked, baseline.query, model, here.limits)
    if selection is not None:
        baseline, changed = (
            run._replace(query=query.traced(run.query, selection, model)) for run in (baseline, changed)
        )
    given = asked.interventions
    if given is not None:
        made = interventions_of(given, changed.query, model, partial(here.traces.get, asker=request.owner))
        changed = changed._replace(query=edited(changed.query, made, model, here.limits))
    return baseline, changed


def _of_sent(asked: InterveneRequest, model: Model, here: Context) -> Asked:
    made, tokens = query.to_query(asked, model, here.limits), sequences.tokens_of(asked, model)
    labels = labels_of(asked, made.sequence_lengths.tolist(), model)
    return Asked(
        made,
        reply.Said(tokens, notes_of(asked, model, tokens), labels, states.begun_of_several(made, model), Span.of(made)),
    )


def _of_stored(asked: InterveneRequest, stored: StoredTrace) -> Asked:
    if asked.inputs_edited is not None or asked.text_edited is not None:
        field = "inputs_edited" if asked.inputs_edited is not None else "text_edited"
        refuse("goes beside what it is an edit of, not beside 'trace_id'", field)
    if stored.answer.horizon:
        refuse("is a trace with a horizon, whose last steps were no inputs: send inputs", "trace_id")
    made = replace(stored.read, prediction=bool(stored.model.pipeline.heads), output=not stored.model.pipeline.heads)
    said = reply.Said(
        stored.tokens, stored.notes, stored.labels, states.begun_of_several(made, stored.model), Span.of(made)
    )
    return Asked(made, said)


def _with_inputs(asked: InterveneRequest, baseline: Asked, model: Model, here: Context) -> Asked:
    """The run over the edited input, where there is one; raises `InvalidInput` at its own place."""
    fields = {"inputs": asked.inputs_edited, "text": asked.text_edited}
    given = {name: value for name, value in fields.items() if value is not None}
    if not given:
        return baseline
    for name in given:
        if getattr(asked, name) is None:
            refuse(f"goes beside '{name}', of which it is an edit", f"{name}_edited")
    try:
        changed = _of_sent(asked.model_copy(update=given), model, here)
    except InvalidInput as error:
        _refuse_edited(error, given)
    before, after = baseline.query.sequence_lengths.tolist(), changed.query.sequence_lengths.tolist()
    (field,) = (f"{name}_edited" for name in given)
    if len(before) != len(after):
        refuse(f"has {len(after)} sequences, but there are {len(before)}", field)
    if before != after and not _is_of_wholes(asked, baseline.query, model):
        row = next(row for row, lengths in enumerate(zip(before, after, strict=True)) if lengths[0] != lengths[1])
        refuse(
            f"sequence {row} has {after[row]:,} time steps and had {before[row]:,}: what is compared has a value for "
            "each time step, so lengths must be the same",
            field,
        )
    return changed


def _refuse_edited(error: InvalidInput, given: Fields) -> NoReturn:
    """Raise it at the place where the edited input stands."""
    moved = (
        (place.loc[0], f"{place.loc[1]}_edited", *place.loc[2:]) if place.loc[1] in given else place.loc
        for place in error.places
    )
    raise InvalidInput.at(
        *(Place(loc, place.message) for loc, place in zip(moved, error.places, strict=True))
    ) from None


def _is_of_wholes(asked: InterveneRequest, made: Query, model: Model) -> bool:
    """Whether all that is compared is of a sequence as a whole."""
    steps = made.inputs.shape[1]
    shapes = [model.pipeline.prediction_shape(steps, head) for head in model.pipeline.heads]
    is_whole = all(shape is not None and len(shape) == 1 for shape in shapes)
    return is_whole and not made.output and asked.signals is None


def _selection(asked: InterveneRequest, made: Query, model: Model, limits: Limits) -> Selection | None:
    """The part of both traces that is wanted; None without `signals`. Raises `InvalidInput`, `TraceTooLarge`."""
    if asked.signals is None:
        for name in TraceSelection.model_fields:
            if getattr(asked, name) is not None:
                refuse("goes with 'signals': without them no trace is answered", name)
        return None
    selection = selections.to_selection(asked, model, made, limits)
    size.check_trace((_RUNS, *selection.shape(made.sequences, made.longest)), selection, limits.max_trace_bytes)
    return selection


def _told(runs: tuple[Asked, Asked], answers: tuple[Answer, Answer], model: Model) -> Fields:
    """The reply, as `InterveneReply` describes it."""
    described = [_run_of(answer, run.said, model) for run, answer in zip(runs, answers, strict=True)]
    notes = [note for each in described for note in each.pop("notes", ())]
    notes += notes_on(runs[1].query, model)
    distinct = [note for index, note in enumerate(notes) if note not in notes[:index]]
    about, _ = (each.pop("model") for each in described)
    baseline, intervened = described
    told = {"model": about, "notes": distinct} if distinct else {"model": about}
    return told | {"baseline": baseline, "intervened": intervened, "difference": difference(*answers, model)}


def _run_of(answer: Answer, said: reply.Said, model: Model) -> Fields:
    """A predict reply, or a trace reply where there is a trace."""
    return reply.prediction(answer, model, said) if answer.trace is None else reply.trace(answer, model, said)
