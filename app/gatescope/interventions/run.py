"""`intervene`: a run of a recurrent module as it is, and the same with edits.

Steps before and behind the edits are run by the fused kernel, and so are layers without edits. The steps between are
run by the cell's equations, one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from gatescope.backends.chunk import FLOATS_PER_UNIT, Backend, Chunk
from gatescope.cells import Cell, Kept, Tensors
from gatescope.interventions.checks import check
from gatescope.interventions.edits import Change, Edits
from gatescope.interventions.intervention import Intervention
from gatescope.padding import BatchLayout
from gatescope.selection import Selection
from gatescope.spec import Spec
from gatescope.state import State
from gatescope.tracing import Trace, trace, trace_with
from gatescope.weights import Weights

_CHUNK_FLOATS = 4_000_000  # as many rows as variants make: what a loop writes should stay in the cache
_MOST_STEPS = 128  # between two looks at whether anybody waits


@dataclass(frozen=True)
class Intervened:
    """A run as it is, and with edits; each has its output and final state, and the selected signals."""

    baseline: Trace
    intervened: Trace

    @property
    def difference(self) -> dict[str, Tensor]:
        """The intervened run minus the baseline: `output` (batch, time, directions · unit) and the selected signals."""
        pairs = {name: (values, self.baseline.signals[name]) for name, values in self.intervened.signals.items()}
        pairs["output"] = self.intervened.output, self.baseline.output
        return {name: edited - as_it_was for name, (edited, as_it_was) in pairs.items()}


def intervene(
    module: nn.RNNBase,
    inputs: Tensor | PackedSequence | Sequence[Tensor],
    interventions: Sequence[Intervention],
    sequence_lengths: Tensor | Sequence[int] | None = None,
    initial_state: State | Tensor | Sequence[Tensor] | None = None,
    selection: Selection | None = None,
) -> Intervened:
    """Run a recurrent module twice: as it is, and with edited signals that later steps and layers see.

    Args:
        module: as `trace` takes it.
        inputs: likewise.
        interventions: what is edited; of one value, in their order.
        sequence_lengths: as `trace` takes it.
        initial_state: likewise.
        selection: which signals of both runs are kept; `Selection(signals=())` keeps none.

    Raises:
        InvalidInput: as `trace` does, or an intervention does not fit; its number and field are named.
        TypeError: the module is of no known cell.
    """
    edited = trace_edited(module, inputs, interventions, sequence_lengths, initial_state, selection)
    return Intervened(trace(module, inputs, sequence_lengths, initial_state, selection), edited)


def trace_edited(
    module: nn.RNNBase,
    inputs: Tensor | PackedSequence | Sequence[Tensor],
    interventions: Sequence[Intervention],
    sequence_lengths: Tensor | Sequence[int] | None = None,
    initial_state: State | Tensor | Sequence[Tensor] | None = None,
    selection: Selection | None = None,
    raise_if_cancelled: Callable[[], None] | None = None,
) -> Trace:
    """The trace of the run with edits alone; many variants of one sequence are the rows of one batch.

    Its signals are those that were used, after the edits. Where a hidden state is edited in one scope only, its signal,
    like the output, is what the layer above reads, and the final state is what the next step would read. The residual
    is that of the steps that the fused kernel ran: the others are the equations' own.

    Args:
        module: as `intervene` takes it.
        inputs: likewise; `sequence.expand(variants, -1, -1)` of a batch-first module takes no memory.
        interventions: likewise; `sequences` gives each variant its own.
        sequence_lengths: likewise.
        initial_state: likewise.
        selection: likewise.
        raise_if_cancelled: is called now and then, and may raise.

    Raises:
        InvalidInput, TypeError: as `intervene` does.
    """

    def baseline(wanted: Selection) -> Trace:
        return trace(module, inputs, sequence_lengths, initial_state, wanted)

    def wrap(fused: Backend, layout: BatchLayout, _: State) -> Backend:
        spec = Spec.from_module(module)
        check(interventions, spec, layout.lengths, layout.time)
        changes = _changes(interventions, spec, layout, means_of(interventions, spec, baseline))
        keeps_signals = selection is None or selection.signals != ()
        return _EditedBackend(fused, _EditsOfRun(changes), 0, raise_if_cancelled, keeps_signals=keeps_signals)

    return trace_with(wrap, module, inputs, sequence_lengths, initial_state, selection)


class EditedRun:
    """A run with edits that comes in several calls, each of the steps behind those of the call before.

    Args:
        module: as `intervene` takes it.
        interventions: of the steps of the whole run; none has `mean`.
        lengths: of the sequences, in the whole run.
        raise_if_cancelled: as `trace_edited` takes it.

    Raises:
        InvalidInput: an intervention does not fit.
    """

    def __init__(
        self,
        module: nn.RNNBase,
        interventions: Sequence[Intervention],
        lengths: Sequence[int],
        raise_if_cancelled: Callable[[], None] | None = None,
    ) -> None:
        spec, like = Spec.from_module(module), next(module.parameters())
        layout = BatchLayout(lengths, max(lengths), like.device)
        check(interventions, spec, lengths, layout.time)
        self._module, self._raise_if_cancelled = module, raise_if_cancelled
        self._edits, self._start = _EditsOfRun(_changes(interventions, spec, layout, {})), 0

    def call(self, inputs: Tensor, lengths: Tensor, initial_state: State) -> tuple[Tensor, State]:
        """The output (batch, time, directions · unit), NaN in the padding, and the final state of the next call.

        Args:
            inputs: (batch, time, feature).
            lengths: (batch,); of a run in several calls all the same.
            initial_state: where it begins.
        """

        def wrap(fused: Backend, _: BatchLayout, __: State) -> Backend:
            edits, start = self._edits, self._start
            return _EditedBackend(fused, edits, start, self._raise_if_cancelled, keeps_signals=False)

        given = inputs if self._module.batch_first else inputs.transpose(0, 1)
        traced = trace_with(wrap, self._module, given, lengths, initial_state, Selection(signals=()))
        self._start += inputs.shape[1]
        return traced.output, traced.final_state


class _EditsOfRun:
    """The edits of each layer and direction of a run, which remember what they hold.

    Args:
        changes: of each layer and direction that has any, by its number.
    """

    def __init__(self, changes: Mapping[int, list[Change]]) -> None:
        self._changes = changes
        self._edits: dict[int, Edits] = {}

    def of(self, entry: int, cell: Cell, initial: Tensors) -> Edits | None:
        """Those of a layer and direction; `initial` is where the whole run begins, and is read the first time."""
        if entry in self._changes and entry not in self._edits:
            self._edits[entry] = Edits(self._changes[entry], cell, initial)
        return self._edits.get(entry)


class _EditedBackend:
    """A `Backend` for one call of a run: it is called for each layer and direction in turn.

    Args:
        fused: runs what is not edited.
        edits: of the run.
        start: the step of the run that is the first of the call.
        raise_if_cancelled: is called before each chunk of the loop.
        keeps_signals: whether signals of the edited steps are read, and not the states alone.
    """

    def __init__(
        self,
        fused: Backend,
        edits: _EditsOfRun,
        start: int,
        raise_if_cancelled: Callable[[], None] | None,
        *,
        keeps_signals: bool,
    ) -> None:
        self._fused, self._edits, self._raise_if_cancelled = fused, edits, raise_if_cancelled
        self._start, self._keeps_signals = start, keeps_signals
        self._entries = count()

    def __call__(
        self, cell: Cell, weights: Weights, inputs: Tensor, initial: Tensors, *, on_request: bool = True
    ) -> Iterator[Chunk]:
        """As `Backend` says."""
        edits = self._edits.of(next(self._entries), cell, initial)
        if edits is None:
            return self._fused(cell, weights, inputs, initial, on_request=on_request)
        return self._run(cell, weights, inputs, initial, edits, on_request=on_request)

    def _run(
        self, cell: Cell, weights: Weights, inputs: Tensor, states: Tensors, edits: Edits, *, on_request: bool
    ) -> Iterator[Chunk]:
        for start, stop, is_edited in edits.segments(self._start, len(inputs)):
            run = self._looped if is_edited else self._shifted
            for chunk in run(cell, weights, inputs[start:stop], states, start, edits, on_request=on_request):
                yield chunk
                states = chunk.final

    def _shifted(
        self,
        cell: Cell,
        weights: Weights,
        inputs: Tensor,
        states: Tensors,
        start: int,
        _: Edits,
        *,
        on_request: bool,
    ) -> Iterator[Chunk]:
        for chunk in self._fused(cell, weights, inputs, states, on_request=on_request):
            yield chunk._replace(start=chunk.start + start)

    def _looped(
        self,
        cell: Cell,
        weights: Weights,
        inputs: Tensor,
        states: Tensors,
        start: int,
        edits: Edits,
        *,
        on_request: bool,
    ) -> Iterator[Chunk]:
        _, batch, features = inputs.shape
        floats = FLOATS_PER_UNIT * batch * max(features, weights.hidden_size)  # of a step
        steps = max(1, min(_MOST_STEPS, _CHUNK_FLOATS // floats))
        signals = Kept.ON_REQUEST if on_request else Kept.SIGNALS
        kept = signals if self._keeps_signals else Kept.STATES
        for first in range(0, len(inputs), steps):
            if self._raise_if_cancelled is not None:
                self._raise_if_cancelled()
            edit, part = edits.begin(self._start + start + first), inputs[first : first + steps]
            blocks, made = cell.stepwise(weights, part, states, kept, edit)
            read = (torch.stack(edit.read), *made[1:]) if edit.read else made
            states = State(*(values[-1:].clone() for values in read))
            yield Chunk(start + first, blocks, made, states, read)


def _changes(
    interventions: Sequence[Intervention], spec: Spec, layout: BatchLayout, means: Mapping[int, Tensor]
) -> dict[int, list[Change]]:
    """What the interventions mean for each layer and direction of this batch, by its number.

    Args:
        interventions: checked.
        spec: of the module.
        layout: of the batch.
        means: (sequence, unit) of each intervention that has `mean`, by its number.
    """
    changes: dict[int, list[Change]] = {}
    for index, each in enumerate(interventions):
        entry = each.layer * spec.num_directions + spec.directions.index(each.direction)
        rows, steps, units = each.rows(layout.batch), each.steps(layout.time), each.columns(spec)
        is_reverse = each.direction == "reverse"
        spans = [_span(steps, layout.lengths[row], is_reverse=is_reverse) for row in rows]
        if each.patch is not None:
            patched = each.patched(spec, layout.batch, layout.time)
            values = [patched[place if len(patched) > 1 else 0, : b - a] for place, (a, b) in enumerate(spans)]
            added = [row.flip(0) if is_reverse else row for row in values]
        elif each.mean:
            added = list(means[index][:, None])
        else:
            number = each.set if each.set is not None else each.shift or 0.0
            added = [torch.full((1, len(units)), number, dtype=torch.float64)] * len(rows)
        factor = each.scale if each.scale is not None else float(each.shift is not None)
        changes.setdefault(entry, []).append(
            Change(each.signal, each.scope, rows, units, spans, factor, added, is_held=each.freeze)
        )
    return changes


def _span(steps: range, length: int, *, is_reverse: bool) -> tuple[int, int]:
    """The steps of a sequence of this length, as a direction counts them."""
    start, stop = min(steps.start, length), min(steps.stop, length)
    return (length - stop, length - start) if is_reverse else (start, stop)


def read_for_means(interventions: Sequence[Intervention]) -> Selection | None:
    """The part of the run without interventions whose means are needed; None where none is."""
    wanted = [each for each in interventions if each.mean]
    if not wanted:
        return None
    return Selection(
        tuple(dict.fromkeys(each.signal for each in wanted)),
        tuple(sorted({each.layer for each in wanted})),
        tuple(sorted({each.direction for each in wanted})),
    )


def stated(
    interventions: Sequence[Intervention],
    spec: Spec,
    lengths: Sequence[int],
    baseline: Callable[[Selection], Trace],
) -> tuple[Intervention, ...]:
    """The interventions with everything stated that follows from the run without them.

    Args:
        interventions: not checked yet.
        spec: of the module.
        lengths: of the sequences that it runs over.
        baseline: a trace of what is selected in the run without them; asked where the means of units are needed.

    Raises:
        InvalidInput: an intervention does not fit.
    """
    batch, longest = len(lengths), max(lengths)
    check(interventions, spec, lengths, longest)
    means = means_of(interventions, spec, baseline)
    made = []
    for index, each in enumerate(interventions):
        whole = each.resolved(spec, batch, longest)
        if each.mean:
            patch = means[index][:, None].expand(-1, len(each.steps(longest)), -1)  # (sequence, time, unit)
            whole = replace(whole, mean=False, patch=patch)
        made.append(whole)
    return tuple(made)


def means_of(
    interventions: Sequence[Intervention], spec: Spec, baseline: Callable[[Selection], Trace]
) -> dict[int, Tensor]:
    """(sequence, unit) of each intervention that has `mean`, by its number: the mean over all steps of the sequence.

    Args:
        interventions: checked.
        spec: of the module.
        baseline: traces the run without interventions; it is called at most once.
    """
    selection = read_for_means(interventions)
    if selection is None:
        return {}
    traced = baseline(selection)
    means = {}
    for index, each in enumerate(interventions):
        if not each.mean:
            continue
        values = traced.signals[each.signal]
        layer, direction = selection.layers.index(each.layer), selection.directions.index(each.direction)  # type: ignore[union-attr]
        rows, units = list(each.rows(len(values))), list(each.columns(spec))
        means[index] = values[:, layer, direction][..., units][rows].double().nanmean(dim=1)
    return means
