"""`POST /v1/models/{name}/backtest`: how well a model would have predicted a table of the past."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
from starlette.datastructures import QueryParams

from gatescope.errors import InvalidInput, Place
from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Prediction, Query
from gatescope.server.api import body, query, reply, table_bodies
from gatescope.server.api.codecs.codec import Fields
from gatescope.server.api.limits import Limits
from gatescope.server.api.messages import Reply, Request
from gatescope.server.api.notes import UNVERIFIED
from gatescope.server.api.parameters import BACKTEST
from gatescope.server.api.places import refuse
from gatescope.server.api.schema.requests import PredictRequest
from gatescope.tables.backtest import BATCH_STEPS, Backtest, Plan, asking, finite
from gatescope.tables.sequences import QUANTITIES, Reading, Sequences, Wanted, interpret

MOST_PREDICTIONS = 100_000
"""In one reply."""

Steps = Generator[dict[str, Any], Sequence[Any], Backtest]


async def backtest(request: Request, name: str, version: str | None = None) -> Reply:
    """Predict a table's past from many origins, and compare with what was measured and with naive forecasts.

    The origins are asked for part by part, so that other requests are answered in between.
    """
    here = request.context
    model = here.engine.model(name, version)
    suffix, reading = table_bodies.suffix_of(request.head), table_bodies.reading_of(request.head, BACKTEST)
    target, plan = _plan(QueryParams(request.head.query_values))
    wanted = _wanted(model)
    content = await request.content(here.limits.max_body_bytes)
    found = await asyncio.to_thread(_sequences, content, suffix, reading, wanted, plan)
    steps = asking(found, wanted, target, plan, min(BATCH_STEPS, here.limits.max_batch_steps))
    asked = await asyncio.to_thread(_advance, steps, None)
    while not isinstance(asked, Backtest):
        stated = await asyncio.to_thread(_query, asked, model, here.limits)
        answer = await here.engine.submit(model, stated, request.deadline)
        if answer.prediction is None:
            raise TypeError("the answer holds no prediction")
        asked = await asyncio.to_thread(_advance, steps, _values(answer.prediction))
    return await reply.respond(await asyncio.to_thread(_told, asked, model, found))


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


def _sequences(content: bytes, suffix: str, reading: Reading, wanted: Wanted, plan: Plan) -> Sequences:
    found = interpret(table_bodies.table_in(content, suffix), wanted, reading)
    most = sum(map(len, found.inputs)) // (plan.stride or plan.horizon) * plan.horizon
    if most > MOST_PREDICTIONS:
        message = f"makes up to {most:,} predictions; at most {MOST_PREDICTIONS:,} are told: take a larger stride"
        raise InvalidInput.at(Place(("query", "stride"), message))
    return found


def _query(asked: dict[str, Any], model: Model, limits: Limits) -> Query:
    stated = body.validate(asked, PredictRequest, query.expected(model).within(limits))
    return query.to_query(stated, model, limits)


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


def _told(found: Backtest, model: Model, sequences: Sequences) -> Fields:
    is_verified = model.verified is not None
    notes = [*table_bodies.notes_of(sequences), *([] if is_verified else [UNVERIFIED])]
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
