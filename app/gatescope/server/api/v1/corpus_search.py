"""`/v1/corpora/{corpus_id}/search`, `…/units/{unit}` and `…/analyses/{analysis}`: questions about all of a corpus."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from threading import Event
from typing import Any, NamedTuple, TypeVar

import numpy as np
from starlette.datastructures import QueryParams

from gatescope import corpus as library
from gatescope.analysis.registry import analysis_named
from gatescope.analysis.subject import Scope
from gatescope.corpus.responses import Peak
from gatescope.errors import InvalidInput, ModelReplaced, Place
from gatescope.server.api import body, negotiation, query, reply
from gatescope.server.api.context import Context
from gatescope.server.api.messages import Reply, Request
from gatescope.server.api.places import in_body, refuse
from gatescope.server.api.schema.analyses import parameters_in, stored_request_of
from gatescope.server.api.schema.corpora import PatternRequest, SearchRequest
from gatescope.server.api.schema.shapes import Expected
from gatescope.server.api.selections import to_scope, units_of
from gatescope.server.api.table_bodies import check_query
from gatescope.server.api.v1.analyses import told
from gatescope.server.serving import corpus_statistics
from gatescope.server.serving.corpora import Corpus
from gatescope.zarr_store import Reader

MOST_SHOWN = 50
"""Steps of a place whose tokens or inputs are told."""
MOST_PEAKS = 1000

Done = TypeVar("Done")


async def search_corpus(request: Request, corpus_id: str) -> Reply:
    """Where a pattern of units comes again, the best places first."""
    here = request.context
    corpus = here.corpora.done(corpus_id, request.owner)
    asked = await body.read(request, SearchRequest, Expected(corpus.model))
    selected = await asyncio.to_thread(_selected, request, corpus, asked)
    await request.checked()
    found = await _run(request, lambda is_cancelled: _searched(here, corpus, asked, selected, is_cancelled))
    return reply.of_json(found)


async def get_corpus_unit(request: Request, corpus_id: str, unit: str) -> Reply:
    """Where a unit is highest and lowest, and its mean at each token or bin of a feature."""
    here = request.context
    corpus = here.corpora.done(corpus_id, request.owner)
    asked = _asked_in_query(QueryParams(request.head.query_values), unit)
    return reply.of_json(await _run(request, lambda is_cancelled: _responses(here, corpus, asked, is_cancelled)))


async def analyse_corpus(request: Request, corpus_id: str, analysis: str) -> Reply:
    """A statistic over all steps of a corpus."""
    here, asked = request.context, analysis_named(analysis)
    corpus, writer = here.corpora.done(corpus_id, request.owner), request.head.find(negotiation.analysis_writer)
    model = here.engine.model(corpus.model, corpus.version)
    if model.fingerprint != corpus.fingerprint:
        raise ModelReplaced(
            f"model '{model.name}', version '{model.version}', has other weights than traced this corpus"
        )
    stated = await body.read(request, stored_request_of(asked), query.expected(model))
    reader = here.corpora.reader(corpus)
    module = str(reader.attributes["module"])
    scope = Scope(model.pipeline.lstm_of(module), to_scope(stated, model.pipeline.spec_of(module)))
    with in_body():
        corpus_statistics.check(asked, scope)
        parameters = parameters_in(stated, asked)
    await request.checked()
    with in_body():
        found = await _run(
            request,
            lambda is_cancelled: corpus_statistics.summed_up(
                reader, asked, parameters, scope, is_cancelled, request.on_progress
            ),
        )
    return await reply.respond(told(found, model, module, ()), writer)


class _Asked(NamedTuple):
    signal: str
    layer: int
    direction: str
    unit: int
    limit: int


async def _run(request: Request, work: Callable[[Callable[[], bool]], Done]) -> Done:
    """Do what takes long in the background; it ends where nobody waits any more."""
    left = Event()
    try:
        return await request.context.background.run(work, left.is_set)
    finally:
        left.set()


def _selected(request: Request, corpus: Corpus, asked: SearchRequest) -> list[int]:
    """The units that belong to the pattern."""
    reader = request.context.corpora.reader(corpus)
    _, _, units = _place(reader, asked.signal, asked.layer, asked.direction)
    allowed = _units(asked.units, units)
    values = _pattern_values(request, corpus, reader, asked)
    start, stop = asked.pattern.start, asked.pattern.stop
    if not start < stop <= len(values):
        refuse(
            f"the sequence has the steps 0 to {len(values)}; {start} to {stop} is no span of them", "pattern", "stop"
        )
    selected = [unit for unit in library.pattern_units(values, start, stop, asked.threshold) if unit in allowed]
    if not selected:
        refuse(
            "no unit is off before it, on throughout and off behind it, at this threshold: choose another span or "
            "threshold",
            "pattern",
        )
    return selected


def _searched(
    here: Context, corpus: Corpus, asked: SearchRequest, selected: list[int], is_cancelled: Callable[[], bool]
) -> dict[str, Any]:
    reader = here.corpora.reader(corpus)
    layer, direction, _ = _place(reader, asked.signal, asked.layer, asked.direction)
    place = asked.signal, layer, direction
    bits = library.build(reader, place, asked.threshold, here.corpora.index_of(corpus), is_cancelled)
    found = library.search(bits, selected, asked.limit)
    return {
        "corpus_id": corpus.corpus_id,
        "signal": asked.signal,
        "layer": asked.layer,
        "direction": asked.direction,
        "threshold": asked.threshold,
        "units": selected,
        "total": found.total,
        "places": [
            {
                "sequence": each.sequence,
                "id": _id(reader, each.sequence),
                "start": each.start,
                "stop": each.stop,
                "units": list(each.units),
                "union": each.union,
                **_shown(reader, each.sequence, each.start, min(each.stop, each.start + MOST_SHOWN)),
            }
            for each in found.places
        ],
    }


def _responses(here: Context, corpus: Corpus, asked: _Asked, is_cancelled: Callable[[], bool]) -> dict[str, Any]:
    reader = here.corpora.reader(corpus)
    layer, direction, units = _place(reader, asked.signal, asked.layer, asked.direction, "query")
    if asked.unit >= units:
        raise InvalidInput.at(Place(("path", "unit"), f"there is no unit {asked.unit}; there are 0 to {units - 1}"))
    names = reader.names("feature")
    place = asked.signal, layer, direction, asked.unit
    found = library.responses_of(reader, place, asked.limit, names, is_cancelled)
    return {
        "corpus_id": corpus.corpus_id,
        "signal": asked.signal,
        "layer": asked.layer,
        "direction": asked.direction,
        "unit": asked.unit,
        "highest": [_peak(reader, peak) for peak in found.highest],
        "lowest": [_peak(reader, peak) for peak in found.lowest],
        "tokens": None if found.tokens is None else [asdict(each) for each in found.tokens],
        "features": None
        if found.features is None
        else [each._asdict() | {"means": [_number(mean) for mean in each.means]} for each in found.features],
    }


def _place(reader: Reader, signal: str, layer: int, direction: str, within: str = "body") -> tuple[int, int, int]:
    """Which of the file's layers and directions are meant, and how many units the signal has there."""
    known = reader.signals
    if signal not in known:
        raise InvalidInput.at(Place((within, "signal"), f"there is no '{signal}'; there are {', '.join(known)}"))
    layers, directions = known[signal].shape[1], reader.names("direction")
    if not 0 <= layer < layers:
        raise InvalidInput.at(Place((within, "layer"), f"there is no layer {layer}; there are 0 to {layers - 1}"))
    if direction not in directions:
        raise InvalidInput.at(
            Place((within, "direction"), f"there is no '{direction}'; there is {', '.join(directions)}")
        )
    return layer, directions.index(direction), known[signal].shape[3]


def _units(asked: list[int] | str | None, count: int) -> set[int]:
    chosen = units_of(asked, count)
    if chosen is None:
        return set(range(count))
    if unknown := [unit for unit in chosen if not 0 <= unit < count]:
        refuse(f"there is no unit {unknown[0]}; there are 0 to {count - 1}", "units")
    return set(chosen)


def _pattern_values(request: Request, corpus: Corpus, reader: Reader, asked: SearchRequest) -> np.ndarray:
    """(step, unit) of the sequence that the pattern stands in."""
    pattern = asked.pattern
    if pattern.trace_id is not None:
        if pattern.corpus is not None:
            refuse("stands beside 'corpus': leave one of the two out", "pattern", "trace_id")
        return _of_stored_trace(request, corpus, asked, pattern.trace_id)
    if pattern.corpus not in {None, corpus.corpus_id}:
        other = request.context.corpora.done(str(pattern.corpus), request.owner)
        _check_same(other.fingerprint, corpus, "corpus")
        reader = request.context.corpora.reader(other)
    layer, direction, _ = _place(reader, asked.signal, asked.layer, asked.direction)
    row = _sequence(pattern, len(reader), reader.ids)
    steps = slice(*reader.offsets[row : row + 2].tolist())
    values: np.ndarray = np.asarray(reader.signals[asked.signal][steps, layer, direction])
    return values


def _of_stored_trace(request: Request, corpus: Corpus, asked: SearchRequest, trace_id: str) -> np.ndarray:
    stored = request.context.traces.get(trace_id, request.owner)
    _check_same(stored.model.fingerprint, corpus, "trace_id")
    row = _sequence(asked.pattern, len(stored.lengths), None)
    direction = list(stored.spec.directions).index(asked.direction)
    values: np.ndarray = stored.signals[asked.signal][row, asked.layer, direction, : stored.lengths[row]]
    return values


def _check_same(fingerprint: str, corpus: Corpus, field: str) -> None:
    if fingerprint != corpus.fingerprint:
        refuse(f"is not of the weights of model '{corpus.model}' that traced this corpus", "pattern", field)


def _sequence(pattern: PatternRequest, count: int, ids: list[str] | None) -> int:
    asked = pattern.sequence
    if isinstance(asked, str):
        if ids is None or asked not in ids:
            refuse(f"there is no sequence '{asked[:64]}'", "pattern", "sequence")
        return ids.index(asked)
    if not 0 <= asked < count:
        refuse(f"there is no sequence {asked}; there are 0 to {count - 1}", "pattern", "sequence")
    return asked


def _asked_in_query(given: QueryParams, unit: str) -> _Asked:
    check_query(given, ("signal", "layer", "direction", "limit"))
    return _Asked(
        given.get("signal", "hidden_state"),
        _whole(given.get("layer", "0"), 10**6, ("query", "layer")),
        given.get("direction", "forward"),
        _whole(unit, 10**9, ("path", "unit")),
        _whole(given.get("limit", "10"), MOST_PEAKS, ("query", "limit")),
    )


def _whole(text: str, most: int, loc: tuple[str, str]) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < len(str(most)) + 1 and int(text) <= most):
        raise InvalidInput.at(Place(loc, f"must be a whole number from 0 to {most}, not '{text[:20]}'"))
    return int(text)


def _peak(reader: Reader, peak: Peak) -> dict[str, Any]:
    shown = _shown(reader, peak.sequence, peak.step, peak.step + 1)
    return {
        "sequence": peak.sequence,
        "id": _id(reader, peak.sequence),
        "time_step": peak.step,
        "value": peak.value,
        "token": None if shown["tokens"] is None else shown["tokens"][0],
        "inputs": None if shown["inputs"] is None else shown["inputs"][0],
    }


def _id(reader: Reader, sequence: int) -> str | None:
    return None if reader.ids is None else reader.ids[sequence]


def _shown(reader: Reader, sequence: int, start: int, stop: int) -> dict[str, Any]:
    """The tokens or the inputs of some steps."""
    first = int(reader.offsets[sequence])
    rows = slice(first + start, first + stop)
    tokens, inputs = reader.array("tokens"), reader.array("inputs")
    return {
        "tokens": None if tokens is None else [str(token) for token in np.asarray(tokens[rows])],
        "inputs": None
        if inputs is None
        else [[_number(value) for value in row] for row in np.asarray(inputs[rows]).tolist()],
    }


def _number(value: float) -> float | None:
    """As JSON can hold it."""
    return None if np.isnan(value) else value
