"""`POST /v1/models/{name}/backtest`: how well a model would have predicted a table of the past."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any

import numpy as np
from starlette.datastructures import QueryParams

from gatescope.errors import InvalidInput, Place
from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Prediction, Query
from gatescope.server.api import body, query, reply, table_bodies
from gatescope.server.api.codecs.codec import BodyReader, Fields
from gatescope.server.api.limits import Limits
from gatescope.server.api.messages import Head, Reply, Request
from gatescope.server.api.notes import UNVERIFIED, notes_of
from gatescope.server.api.parameters import BACKTEST
from gatescope.server.api.places import refuse
from gatescope.server.api.row_labels import labels_of
from gatescope.server.api.schema.requests import PredictRequest
from gatescope.server.api.sent_columns import sent_columns
from gatescope.server.api.sequences import sequences_as_sent, sequences_of
from gatescope.server.serving.stored import Note
from gatescope.tables.backtest import BATCH_STEPS, Backtest, Plan, asking, finite
from gatescope.tables.sequences import QUANTITIES, Reading, Sequences, Wanted, interpret

MOST_PREDICTIONS = 100_000
"""In one reply."""

SEQUENCES = frozenset(("inputs", "columns", "sequence_lengths", "layout", "timestamps", "ids", "observed"))
"""The fields of a predict body that tell sequences."""

Steps = Generator[dict[str, Any], Sequence[Any], Backtest]
Notes = tuple[Note, ...]
Read = Callable[[bytes, Wanted], tuple[Sequences, Notes]]


async def backtest(request: Request, name: str, version: str | None = None) -> Reply:
    """Predict the past from many origins, and compare with what was measured and with naive forecasts.

    The body is a table, or the sequences of a predict body with what was measured, a feature or `observed`. The
    origins are asked for part by part, so that other requests are answered in between.
    """
    here = request.context
    model = here.engine.model(name, version)
    read = _reading(request.head, model, here.limits)
    target, plan = _plan(QueryParams(request.head.query_values))
    wanted = _wanted(model)
    content = await request.content(here.limits.max_body_bytes)
    found, notes = await asyncio.to_thread(read, content, wanted)
    _check_predictions(found, plan)
    most = min(BATCH_STEPS, here.limits.max_batch_steps)
    steps = asking(found, wanted, target, plan, most, request.on_progress)
    asked = await asyncio.to_thread(_advance, steps, None)
    while not isinstance(asked, Backtest):
        stated = await asyncio.to_thread(_query, asked, model, here.limits)
        await request.checked()
        answer = await here.engine.submit(model, stated, request.deadline)
        if answer.prediction is None:
            raise TypeError("the answer holds no prediction")
        asked = await asyncio.to_thread(_advance, steps, _values(answer.prediction))
    return await reply.respond(await asyncio.to_thread(_told, asked, model, notes))


def _plan(given: QueryParams) -> tuple[str | None, Plan]:
    """The output that is compared, and what the query says of the origins."""
    counts = {name: _count(name, given[name]) for name in BACKTEST if name != "target" and given.get(name)}
    return given.get("target") or None, Plan(**counts)


def _count(name: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < len(text) <= 9 and int(text)):  # noqa: PLR2004 - digits
        raise InvalidInput.at(Place(("query", name), f"must be a whole number, 1 or more, not {text[:50]!r}"))
    return int(text)


def _wanted(model: Model) -> Wanted:
    if model.manifest.task not in QUANTITIES:
        refuse(f"model '{model.name}' is of task {model.manifest.task}; a backtest takes a regression", "inputs")
    return table_bodies.wanted_of(model)


def _reading(head: Head, model: Model, limits: Limits) -> Read:
    """How the body of this request is read: as a table, or as a predict body.

    Raises:
        UnsupportedMediaType, InvalidInput: it is neither, or the query does not go with it.
    """
    if head.get(b"content-type") is None or table_bodies.is_table(head):
        return partial(_of_table, suffix=table_bodies.suffix_of(head), reading=table_bodies.reading_of(head, BACKTEST))
    reader = body.reader_of(head)
    table_bodies.check_query(QueryParams(head.query_values), BACKTEST)
    return partial(_of_request, reader=reader, model=model, limits=limits)


def _of_table(content: bytes, wanted: Wanted, *, suffix: str, reading: Reading) -> tuple[Sequences, Notes]:
    found = interpret(table_bodies.table_in(content, suffix), wanted, reading)
    return found, table_bodies.notes_of(found)


def _of_request(
    content: bytes, wanted: Wanted, *, reader: BodyReader, model: Model, limits: Limits
) -> tuple[Sequences, Notes]:
    asked = body.decode(content, reader, PredictRequest, query.expected(model).within(limits))
    for name in sorted(asked.model_fields_set - SEQUENCES):
        refuse(f"is no field of a backtest, which takes {', '.join(sorted(SEQUENCES))}", name)
    known, sent = sequences_of(asked, model, limits), sent_columns(asked, model)
    inputs = known if sent.derived else sequences_as_sent(asked, sent)
    labels = labels_of(asked, [len(values) for values in inputs], model)
    found = Sequences(
        wanted.features,
        [np.asarray(values, dtype=np.float64) for values in inputs],
        timestamps=None if labels.timestamps is None else list(labels.timestamps),
        ids=None if labels.ids is None else tuple(labels.ids),
        observed={
            name: [np.array(row, dtype=np.float64) for row in rows] for name, rows in (labels.observed or {}).items()
        },
    )
    return found, notes_of(asked, model, None)


def _check_predictions(found: Sequences, plan: Plan) -> None:
    most = sum(map(len, found.inputs)) // (plan.stride or plan.horizon) * plan.horizon
    if most > MOST_PREDICTIONS:
        message = f"makes up to {most:,} predictions; at most {MOST_PREDICTIONS:,} are told: take a larger stride"
        raise InvalidInput.at(Place(("query", "stride"), message))


def _query(asked: dict[str, Any], model: Model, limits: Limits) -> Query:
    try:
        stated = body.validate(asked, PredictRequest, query.expected(model).within(limits))
        return query.to_query(stated, model, limits)
    except InvalidInput as error:  # its places are those of another body than the request's
        told = error.places[0].message if error.places else error.detail
        raise InvalidInput(f"what comes before an origin cannot be asked: {told}") from None


def _values(prediction: Prediction) -> list[np.ndarray]:
    """Of each origin, (step, output) or (output,)."""
    rows = list(prediction.values.numpy())
    if prediction.steps is None:
        return rows
    return [row[:length] for row, length in zip(rows, prediction.steps.tolist(), strict=True)]


def _advance(steps: Steps, values: Sequence[Any] | None) -> dict[str, Any] | Backtest:
    """What is asked next, or what came of it all; `values` is what was predicted, None at the beginning."""
    try:
        return next(steps) if values is None else steps.send(values)
    except InvalidInput as error:
        raise InvalidInput.at(*(Place(("query", *place.loc), place.message) for place in error.places)) from None
    except StopIteration as done:
        found: Backtest = done.value
        return found


def _told(found: Backtest, model: Model, assumed: Notes) -> Fields:
    is_verified = model.verified is not None
    notes = [*assumed, *([] if is_verified else [UNVERIFIED])]
    return {
        "model": {"name": model.name, "version": model.version} | ({} if is_verified else {"verified": False}),
        **({"notes": notes} if notes else {}),
        "target": found.target,
        "origins": found.origins,
        "pairs": found.pairs,
        "point": found.point,
        **({} if found.quantiles is None else {"quantiles": found.quantiles}),
        "measures": {"model": found.model, **found.baselines},
        "by_step": found.by_step,
        "predictions": finite(found.rows),
    }
