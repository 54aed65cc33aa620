"""`Analyser`: runs an analysis on the sequences of a query, or on a stored trace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from threading import Event

import torch

from gatescope import padding
from gatescope.analysis import registry
from gatescope.analysis.analysis import Analysis, Need, Parameters, Statistic
from gatescope.analysis.result import Result
from gatescope.analysis.subject import Chunk, Scope, Subject
from gatescope.errors import InvalidInput, Place
from gatescope.pipeline import size
from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Answer, Query
from gatescope.pipeline.subject import planned_subject, subject_of
from gatescope.pipeline.window import check_whole
from gatescope.selection import Selection
from gatescope.server.serving import chunking, tuning
from gatescope.server.serving.background import Background
from gatescope.server.serving.bins import Bins
from gatescope.server.serving.deadline import Deadline
from gatescope.server.serving.engine import Engine
from gatescope.server.serving.stored import StoredTrace, View

_TIME = 3  # an axis of signals


@dataclass(frozen=True)
class Analyser:
    """Knows the sequences; the engine runs the model, and a thread in the background does the rest.

    A statistic is computed chunk by chunk. What looks at a whole run reads what the recurrent module read, and runs
    that module itself.
    """

    engine: Engine
    background: Background
    model: Model
    query: Query
    """Of a stored trace what its module ran over, the steps of a horizon included."""
    most_bytes: int
    """Of what is made at once."""
    deadline: Deadline | None = None
    tokens: list[list[str]] | None = None
    stored: StoredTrace | None = None
    checked: Callable[[], Awaitable[None]] | None = None
    """Is awaited when all was refused that can be before anything is computed."""
    on_progress: Callable[[float, float], None] | None = None
    """Is told how much is done, of how much; on any thread."""

    @property
    def module(self) -> str:
        """The recurrent module that is looked at."""
        return self.query.module or next(iter(self.model.pipeline.lstms))

    async def find(self, analysis: Analysis, parameters: Parameters, selection: Selection) -> Result:
        """What the analysis finds.

        Args:
            analysis: which one.
            parameters: of it.
            selection: the layers, directions and units that are looked at, resolved.

        Raises:
            InvalidInput: it has no mathematics for this cell, needs what this model does not have, or refuses a
                parameter.
            TraceTooLarge: it needs a trace that is larger than the server makes.
            Overloaded, DeadlineExceeded, NotReady: as the engine does.
        """
        scope = Scope(self.model.pipeline.lstm_of(self.query.module), selection)
        check_whole(self.model.pipeline, self.query, "analyses are")
        missing: Mapping[Need, str] = {}
        if "head" in analysis.needs:
            missing = await asyncio.to_thread(self.model.pipeline.head_refusals, self.query.module)
        registry.check(analysis, scope, missing)
        found = await self._found(analysis, parameters, scope)
        if self.model.pipeline.module_inputs(self.query.module).aligned:
            return found
        note = f"time steps are those of '{self.module}', which are not known to be those of the inputs"
        return replace(found, notes=[*found.notes, note])

    async def _found(self, analysis: Analysis, parameters: Parameters, scope: Scope) -> Result:
        if analysis.statistic is None:
            everything = replace(scope.selection, signals=scope.spec.signal_names)
            size.check_trace(everything.shape(self.query.sequences, self.query.longest), everything, self.most_bytes)
        planned = await asyncio.to_thread(planned_subject, self.model, self.query, scope.selection, self.tokens)
        if planned is not None:
            await asyncio.to_thread(parameters.check, planned)
        if self.checked is not None:
            await self.checked()
        if analysis.statistic is None:
            return await self._of_whole(analysis, parameters, scope)
        statistic = analysis.statistic(scope, parameters)
        wanted = replace(scope.selection, signals=analysis.statistic.signals(scope.spec.cell))
        async for chunk in self._traced(wanted) if self.stored is None else _parts(self.stored, wanted):
            await self.background.run(statistic.update, chunk)
            if self.on_progress is not None:
                self.on_progress(chunk.start + next(iter(chunk.signals.values())).shape[_TIME], self.query.longest)
        return await self.background.run(_finished, analysis, parameters, statistic)

    async def _of_whole(self, analysis: Analysis, parameters: Parameters, scope: Scope) -> Result:
        nothing = Selection(signals=()).resolve(scope.spec)
        run = self.query.evolve(trace=nothing, prediction=False, output=False, final_state=False)
        answer = await self.engine.answer(self.model, run, self.deadline)
        if answer.trace is None:
            raise TypeError("the answer holds no trace")
        ran = _ran(self.query, answer)
        subject = await asyncio.to_thread(subject_of, self.model, ran, answer.trace, scope.selection, self.tokens)
        left = Event()

        def is_cancelled() -> bool:
            return left.is_set() or (self.deadline is not None and self.deadline.has_passed)

        try:
            watched = replace(subject, is_cancelled=is_cancelled, on_progress=self.on_progress)
            return await self.background.run(_found, analysis, parameters, watched)
        finally:
            left.set()

    async def _traced(self, selection: Selection) -> AsyncIterator[Chunk]:
        """Chunks of a trace as it is computed."""
        query = self.query.evolve(prediction=False, output=False, final_state=False)
        if not chunking.can_trace_in_chunks(self.model, selection):
            size.check_trace(selection.shape(query.sequences, query.longest), selection, self.most_bytes)
        traced = await chunking.trace(self.engine, self.model, query, selection, self.most_bytes, self.deadline)
        async for chunk in traced.chunks():
            lengths = traced.answer.sequence_lengths[chunk.rows]
            start, steps = chunk.time_steps[0], len(chunk.time_steps)
            yield Chunk(chunk.rows, start, chunk.signals, _valid(lengths - start, steps))


def _ran(query: Query, answer: Answer) -> Query:
    """The query of all that the model read, the steps of a horizon included; raises `InvalidInput`."""
    if not query.horizon:
        return query
    if not answer.aligned:
        message = f"'{answer.module}' has time steps of its own: analyse it without a horizon"
        raise InvalidInput.at(Place(("horizon",), message))
    return replace(query, inputs=answer.inputs, sequence_lengths=answer.sequence_lengths, horizon=0)


async def _parts(stored: StoredTrace, selection: Selection) -> AsyncIterator[Chunk]:
    """Chunks of a stored trace."""
    lengths = torch.tensor(stored.lengths)
    rows, longest = range(len(stored.lengths)), max(stored.lengths)
    at_once = max(1, tuning.CHUNK_BYTES // chunking.step_bytes(selection, len(rows)))
    for start in range(0, longest, at_once):
        stop = min(start + at_once, longest)
        view = View(rows, selection, Bins.cut(range(start, stop), stop - start), None)
        signals = {name: torch.from_numpy(values) for name, values in stored.values(view).items()}
        yield Chunk(rows, start, signals, _valid(lengths - start, stop - start))


def _valid(lengths: torch.Tensor, steps: int) -> torch.Tensor | None:
    """(row, time) which steps of a chunk are no padding; None where all are."""
    return None if int(lengths.min()) >= steps else padding.is_valid(lengths, steps)


def _found(analysis: Analysis, parameters: Parameters, subject: Subject) -> Result:
    return registry.to_result(analysis, parameters, subject.scope, analysis.find(subject, parameters))


def _finished(analysis: Analysis, parameters: Parameters, statistic: Statistic) -> Result:
    return registry.to_result(analysis, parameters, statistic.scope, statistic.finish())
