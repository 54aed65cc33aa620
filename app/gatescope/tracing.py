"""`trace`: what happened inside a recurrent module, at every step, layer, direction and unit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from gatescope import dataset, padding, plot
from gatescope.backends import onednn, probe, reference, replay
from gatescope.backends.chunk import Backend, Chunk
from gatescope.backends.onednn import LayoutChanged
from gatescope.backends.parameters import Parameters
from gatescope.buffer import SignalBuffer
from gatescope.cells import Cell, Tensors
from gatescope.errors import InvalidInput, Place
from gatescope.padding import BatchLayout
from gatescope.selection import Selection
from gatescope.spec import Spec
from gatescope.state import State
from gatescope.weights import Weights

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure

_BLOCK_FLOATS = 1_048_576  # few blocks: after each operation a thread waits for the interpreter
_EVERYTHING = Selection()
_BATCHED = 3  # axes of inputs and states with a batch
_UNBATCHED = 2


@dataclass(frozen=True, repr=False)
class Trace:
    """The signals of a batch, each (batch, layer, direction, time, unit), float, NaN in the padding.

    Each selected signal of the cell is also an attribute under its name: `t.input_gate`, `t.forget_gate`,
    `t.cell_candidate`, `t.output_gate`, `t.cell_state` and `t.hidden_state` of an LSTM. A signal that was not selected
    is missing; some are there only if they are selected by name, such as `recurrent_candidate` of a GRU.

    The axes are the same whatever axes the module takes: the batch comes first, and a sequence without a batch is a
    batch of one. Values of the reverse direction stand in input time: index t belongs to input t. `hidden_state` is the
    fused kernel's own, or that of the same operations where no kernel ran; with `proj_size` it is narrower than the
    rest. The tensors may share memory: clone one before you write into it.
    """

    signals: dict[str, Tensor]
    spec: Spec
    selection: Selection
    sequence_lengths: Tensor  # (batch,)
    output: Tensor  # (batch, time, directions · unit): the top layer's hidden states; NaN in the padding
    initial_state: State  # (layers · directions, batch, size) each
    final_state: State  # the same at each row's own last step
    row_residuals: Tensor | None  # (batch,) of each row; None if they can be computed from the signals
    backend: str  # which one computed it, by its name in `gatescope/backends/probe.py`
    module: nn.RNNBase  # what was run
    inputs: Tensor  # (batch, time, feature) what it read; anything in the padding
    is_edited: bool = False  # whether signals were edited on the way, so that the module alone does not give them

    def __getattr__(self, name: str) -> Tensor:
        signals: dict[str, Tensor] = self.__dict__.get("signals", {})
        if name not in signals:
            raise AttributeError(f"the trace has no '{name}'; its signals are {', '.join(signals) or 'none'}")
        return signals[name]

    def __repr__(self) -> str:
        rows, time, _ = self.output.shape
        signals = ", ".join(self.signals) or "no signals"
        return f"Trace({self._module}; {rows} × {time} steps; {signals})"

    def _repr_html_(self) -> str:
        """What a notebook shows: a row per signal."""
        known = {signal.name: signal for signal in self.spec.signals}
        rows = []
        for name, values in self.signals.items():
            shape = " × ".join(map(str, values.shape))
            cells = f"<code>{name}</code>", known[name].symbol, shape, known[name].description
            rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
        head = "<tr><th>signal</th><th></th><th>batch × layer × direction × time × unit</th><th></th></tr>"
        return f"<b>Trace</b> of {self._module}<table>{head}{''.join(rows)}</table>"

    def to_xarray(self) -> xarray.Dataset:
        """A dataset with named axes; each signal says its range, symbol and description, the dataset its `module`.

        Raises:
            ModuleNotFoundError: xarray is not installed.
        """
        dataset.need()
        signals = {name: values.numpy(force=True) for name, values in self.signals.items()}
        made = dataset.of(self._described(), self.sequence_lengths.numpy(force=True), signals, self._info())
        return made.assign_attrs(module=self._module)

    def plot(self, sequence: int = 0) -> Figure:
        """A heatmap of each signal, layer and direction of one sequence of the batch, as a matplotlib figure.

        Raises:
            ModuleNotFoundError: matplotlib is not installed.
        """
        signals = {name: values.numpy(force=True) for name, values in self.signals.items()}
        reply = self._described() | {"signals": signals, "sequence_lengths": self.sequence_lengths.tolist()}
        return plot.draw(reply, self._info(), self._module, sequence)

    def _described(self) -> dict[str, Any]:
        """The coordinates of the signals and the residual, as a trace reply has them."""
        selection = self.selection
        return {
            "axes": ["batch", "layer", "direction", "time", "unit"],
            "layers": list(selection.layers or ()),
            "directions": list(selection.directions or ()),
            "units": list(selection.units or ()),
            "time_steps": selection.time_steps(self.output.shape[1]),
            "residual": self.residual,
        }

    def _info(self) -> dict[str, Any]:
        """The cell's signals, as ModelInfo has them."""
        return {"signals": [asdict(signal) for signal in self.spec.signals]}

    @property
    def _module(self) -> str:
        spec = self.spec
        arguments = {name: value for name, value in spec.arguments.items() if value != getattr(Spec, name, None)}
        arguments |= spec.cell.stated
        return f"nn.{_name(spec)}({', '.join(f'{name}={value!r}' for name, value in arguments.items())})"

    @cached_property
    def residual(self) -> float:
        """Max |fused hidden_state − hidden_state of the equations|, over the whole trace.

        For an LSTM the latter is output_gate·tanh(cell_state), projected where `proj_size` is set. It is computed when
        it is first asked for, if the signals are there: that takes as long as a copy of the trace. Where no fused
        kernel ran (`backend` is "stepwise" or "loop"), the former is the trace's own hidden_state.
        """
        return float(self._row_residuals.max())

    def with_residual(self) -> Trace:
        """The same trace with the residual of each row computed."""
        return replace(self, row_residuals=self._row_residuals)

    @cached_property
    def _row_residuals(self) -> Tensor:
        if self.row_residuals is not None:
            return self.row_residuals
        rows, time, _ = self.output.shape
        cell = self.spec.cell
        signals = {name: self.signals[name].permute(1, 2, 3, 0, 4) for name in cell.residual_signals}
        if cell.residual_reads_previous:
            steps = self._step_residuals_in_order(signals)
        else:
            flat = {name: values.flatten(0, 2) for name, values in signals.items()}
            steps = _step_residuals(cell, flat).view(-1, time, rows).amax(dim=0)  # (time, batch)
        if min(self.sequence_lengths.tolist()) < time:  # then the padding is NaN
            steps.masked_fill_(~padding.is_valid(self.sequence_lengths, time).T.to(steps.device), 0)
        result = steps.amax(dim=0)
        if self.backend == "workspace":
            _disable_workspace_if_wrong(float(result.max()))
        return result

    def _step_residuals_in_order(self, signals: Mapping[str, Tensor]) -> Tensor:
        """(time, batch) the largest over layers and directions, each in the order in which it read its input.

        Args:
            signals: each (layer, direction, time, batch, unit).
        """
        time = self.output.shape[1]
        layout = BatchLayout(self.sequence_lengths.tolist(), time, self.output.device)
        found: list[Tensor] = []
        for at_layer, layer in enumerate(self.selection.layers or ()):
            for at_direction, direction in enumerate(self.selection.directions or ()):
                entry = layer * self.spec.num_directions + self.spec.directions.index(direction)
                own = {name: values[at_layer, at_direction] for name, values in signals.items()}
                if direction == "reverse":
                    own = {name: layout.reversed(values.contiguous()) for name, values in own.items()}
                previous = tuple(state[entry] for state in self.initial_state)
                steps = _step_residuals(self.spec.cell, own, previous)
                found.append(layout.reversed(steps[..., None])[..., 0] if direction == "reverse" else steps)
        return torch.stack(found).amax(dim=0)


def trace(
    module: nn.RNNBase,
    inputs: Tensor | PackedSequence | Sequence[Tensor],
    sequence_lengths: Tensor | Sequence[int] | None = None,
    initial_state: State | Tensor | Sequence[Tensor] | None = None,
    selection: Selection | None = None,
    *,
    grad: bool = False,
) -> Trace:
    """Run a recurrent module as in evaluation mode and return every gate and state on the way.

    The inputs and the initial state are what `module(inputs, initial_state)` takes. No gradients are recorded, unless
    `grad` asks for them.

    Args:
        module: any `nn.LSTM`, `nn.GRU` or `nn.RNN`; dropout between its layers is not applied.
        inputs: (time, batch, feature), or (batch, time, feature) if the module is `batch_first`; padded on the right.
            Or (time, feature) without a batch, a `PackedSequence`, or a list of (time, feature) tensors.
        sequence_lengths: (batch,) true lengths of padded `inputs`; the whole time axis when not given.
        initial_state: the module's (h0, c0), each (layers · directions, batch, size), or (layers · directions, size)
            for inputs without a batch; zeros when not given.
        selection: what to keep; the cell's default signals, every layer, direction, unit and step when not given.
        grad: whether signals, output and final state can be differentiated with respect to the parameters, the inputs
            and the initial state. Then the equations are run in a loop, which is slow.

    Raises:
        InvalidInput: a shape does not fit the module, a length lies outside 1…time, or the selection names what the
            module does not have.
        TypeError: the module is of no known cell.
    """
    with torch.set_grad_enabled(grad):
        given = _given(module, inputs, sequence_lengths, initial_state, selection)
        return _differentiable(module, given) if grad else _fastest(given.detached())


Wrap = Callable[[Backend, BatchLayout, State], Backend]
"""Puts a backend around another, for a batch of this layout that begins in this state."""


def trace_with(
    wrap: Wrap,
    module: nn.RNNBase,
    inputs: Tensor | PackedSequence | Sequence[Tensor],
    sequence_lengths: Tensor | Sequence[int] | None = None,
    initial_state: State | Tensor | Sequence[Tensor] | None = None,
    selection: Selection | None = None,
) -> Trace:
    """The trace of a run some of whose steps are edited: those of chunks with `read`, which count for no residual.

    Args:
        wrap: makes the backend that edits them of the fastest one.
        module: as `trace` takes it.
        inputs: likewise.
        sequence_lengths: likewise.
        initial_state: likewise.
        selection: likewise.

    Raises:
        InvalidInput, TypeError: as `trace` does.
    """
    with torch.no_grad():
        return _fastest(_given(module, inputs, sequence_lengths, initial_state, selection).detached(), wrap)


def _disable_workspace_if_wrong(residual: float) -> None:
    """A residual that is computed late cannot change its trace, but later traces use another backend."""
    try:
        onednn.check(residual)
    except LayoutChanged as error:
        probe.disable("workspace", str(error))


class _Given(NamedTuple):
    """What a trace is made of."""

    module: nn.RNNBase
    parameters: Parameters
    inputs: Tensor  # (batch, time, feature)
    lengths: Tensor  # (batch,)
    layout: BatchLayout
    initial: State
    selection: Selection  # resolved

    def detached(self) -> _Given:
        """The same without gradients."""
        return self._replace(inputs=_detached(self.inputs), initial=State(*map(_detached, self.initial)))


def _given(
    module: nn.RNNBase,
    inputs: Tensor | PackedSequence | Sequence[Tensor],
    sequence_lengths: Tensor | Sequence[int] | None,
    initial_state: State | Tensor | Sequence[Tensor] | None,
    selection: Selection | None,
) -> _Given:
    parameters = Parameters.of(module)
    spec = parameters.spec
    batch, given_lengths = _read(inputs, sequence_lengths, spec, is_batch_first=module.batch_first)
    lengths, numbers = _lengths(given_lengths, batch)
    batch = batch.to(parameters.weights[0].weight_ih)
    layout = BatchLayout(numbers, batch.shape[1], batch.device)
    is_unbatched = isinstance(inputs, Tensor) and inputs.dim() == _UNBATCHED
    state = _initial_state(initial_state, spec, batch, is_unbatched=is_unbatched)
    return _Given(module, parameters, batch, lengths, layout, state, (selection or _EVERYTHING).resolve(spec))


def _fastest(given: _Given, wrap: Wrap | None = None) -> Trace:
    """By the fastest backend, and by the next one where its layout turns out to be another."""
    name = probe.fastest(given.parameters.kinds)
    try:
        return _trace(given, name, probe.BACKENDS[name], wrap)
    except LayoutChanged as error:
        probe.disable("workspace", str(error))
    name = probe.fastest(given.parameters.kinds)
    return _trace(given, name, probe.BACKENDS[name], wrap)


def trace_known(
    module: nn.RNNBase,
    inputs: Tensor,
    lengths: Tensor,
    output: Tensor,
    initial_state: State,
    selection: Selection,
) -> Trace:
    """The trace of a run whose output is known, which need not have been PyTorch's; see `is_known_enough`.

    Args:
        module: of one layer.
        inputs: (batch, time, feature).
        lengths: (batch,).
        output: (batch, time, directions · unit).
        initial_state: each (directions, batch, size).
        selection: what to keep.
    """
    parameters = Parameters.of(module)
    spec, like = parameters.spec, parameters.weights[0].weight_ih
    layout = BatchLayout(lengths.tolist(), inputs.shape[1], like.device)
    known = [layout.with_zero_padding(part) for part in output.to(like).transpose(0, 1).chunk(spec.num_directions, -1)]
    if spec.bidirectional:
        known[1] = layout.reversed(known[1])
    backend = replay.of_hidden_states(known)
    resolved, initial = selection.resolve(spec), State(*(value.to(like) for value in initial_state))
    return _trace(_Given(module, parameters, inputs.to(like), lengths, layout, initial, resolved), "replay", backend)


def is_known_enough(spec: Spec) -> bool:
    """Whether the signals follow from the inputs and the output alone: there is one layer, of a cell with a replay."""
    return spec.num_layers == 1 and "replay" in spec.cell.backends


def _trace(given: _Given, name: str, backend: Backend, wrap: Wrap | None = None) -> Trace:
    module, parameters, inputs, lengths, layout, initial, selection = given
    spec = parameters.spec
    buffer = SignalBuffer(selection, spec, layout, has_edits=wrap is not None)
    run = _Run(parameters, initial, layout, buffer)
    if wrap is not None:
        backend = wrap(backend, layout, initial)
    output = run.output(inputs, backend)  # (time, batch, directions · unit)
    row_residuals = None
    if not buffer.has_residual:
        row_residuals = torch.stack([*run.row_residuals, inputs.new_zeros(layout.batch)]).amax(dim=0)
        if name == "workspace":
            onednn.check(float(row_residuals.max()))
    signals = buffer.signals()
    if buffer.only_chunk is None:  # else the output is one of its tensors, and its padding is filled
        layout.fill_padding(output)
    return Trace(
        signals=signals,
        spec=spec,
        selection=selection,
        sequence_lengths=lengths,
        output=output.transpose(0, 1),
        initial_state=initial,
        final_state=State.joined(run.finals),
        row_residuals=row_residuals,
        backend=name,
        module=module,
        inputs=inputs,
        is_edited=wrap is not None,
    )


def _differentiable(module: nn.RNNBase, given: _Given) -> Trace:
    """The trace by the equations alone, with a graph of gradients; no memory is written twice."""
    _, parameters, inputs, lengths, layout, initial, selection = given
    spec = parameters.spec
    cell, entries = spec.cell, initial.entries()
    layer_input = layout.with_zero_padding(inputs.transpose(0, 1))  # (time, batch, feature)
    padding_places = ~padding.is_valid(lengths, layout.time).T[..., None].to(inputs.device)  # (time, batch, 1)
    found: list[dict[str, Tensor]] = []  # of each layer and direction, in input time: (time, batch, unit)
    finals: list[State] = []
    largest = [inputs.new_zeros(layout.batch)]  # (batch,) residuals
    for layer in range(spec.num_layers):
        for direction in spec.directions:
            previous, weights = entries[len(found)], Weights.of(module, layer, direction)
            read = layout.reversed(layer_input) if direction == "reverse" else layer_input
            parts, final = [], None
            for chunk in reference.chunks(cell, weights, read, previous):
                parts.append(chunk.signals(cell))
                final = layout.last_state(chunk, final)
            signals = {name: torch.cat([part[name] for part in parts]) for name in cell.signal_names}
            with torch.no_grad():
                own = {name: values.detach() for name, values in signals.items()}
                steps = _step_residuals(cell, own, tuple(state[0] for state in previous), weights.weight_hr)
                largest.append(steps.masked_fill(padding_places[..., 0], 0).amax(dim=0))
            if direction == "reverse":
                signals = {name: layout.reversed(values) for name, values in signals.items()}
            found.append(signals)
            finals.append(final or previous)
        layer_input = torch.cat([each["hidden_state"] for each in found[-spec.num_directions :]], dim=-1)
    return Trace(
        signals=_selected(found, spec, selection, padding_places),
        spec=spec,
        selection=selection,
        sequence_lengths=lengths,
        output=layer_input.masked_fill(padding_places, torch.nan).transpose(0, 1),
        initial_state=initial,
        final_state=State.joined(finals),
        row_residuals=torch.stack(largest).amax(dim=0),
        backend="loop",
        module=module,
        inputs=inputs,
    )


def _selected(
    found: Sequence[Mapping[str, Tensor]], spec: Spec, selection: Selection, padding_places: Tensor
) -> dict[str, Tensor]:
    """The selected signals of a trace, NaN in the padding.

    Args:
        found: the signals of each layer and direction, in input time: (time, batch, unit).
        spec: of the module.
        selection: resolved for it.
        padding_places: (time, batch, 1), true in the padding.
    """
    layers, directions = selection.layers or (), selection.directions or ()
    kept = [
        found[layer * spec.num_directions + spec.directions.index(direction)]
        for layer in layers
        for direction in directions
    ]
    time_steps = selection.time_steps(len(padding_places))
    signals = {}
    for name in selection.signals or ():
        values = torch.stack([each[name] for each in kept]).masked_fill(padding_places, torch.nan)
        units = [unit for unit in selection.units or () if unit < values.shape[-1]]
        values = values[:, time_steps][..., units]  # (layer · direction, time, batch, unit)
        signals[name] = values.view(len(layers), len(directions), *values.shape[1:]).permute(3, 0, 1, 2, 4)
    return signals


class _Run:
    """One run of a recurrent module: layer by layer, direction by direction, chunk by chunk."""

    def __init__(self, parameters: Parameters, initial: State, layout: BatchLayout, buffer: SignalBuffer) -> None:
        self._spec, self._weights = parameters.spec, parameters.weights
        self._initial = initial.entries()
        self._layout, self._buffer = layout, buffer
        self.finals: list[State] = []  # of every layer and direction, (1, batch, size) each
        self.row_residuals: list[Tensor] = []  # (batch,) of each chunk

    def output(self, inputs: Tensor, backend: Backend) -> Tensor:
        """(batch, time, feature) -> the top layer's output (time, batch, directions · unit)."""
        layer_input = self._layout.with_zero_padding(inputs.transpose(0, 1))  # (time, batch, feature)
        directions = self._spec.directions
        for layer in range(self._spec.num_layers):
            hidden = [self._hidden_state(layer, direction, layer_input, backend) for direction in directions]
            layer_input = hidden[0] if len(hidden) == 1 else torch.cat(hidden, dim=-1)
        return layer_input

    def _hidden_state(self, layer: int, direction: str, layer_input: Tensor, backend: Backend) -> Tensor:
        """Run one layer and direction over (time, batch, feature): (time, batch, unit) in input time."""
        entry = len(self.finals)
        weights, previous = self._weights[entry], self._initial[entry]
        read = layer_input if direction == "forward" else self._layout.reversed(layer_input)
        hidden = final = None
        for chunk in backend(self._spec.cell, weights, read, previous, on_request=self._buffer.reads_on_request):
            final = self._layout.last_state(chunk, final)
            if self._buffer.wants(layer, direction):
                self._record(layer, direction, chunk, previous, weights)
            previous, steps = chunk.final, chunk.hidden_state  # (time, batch, unit) of this chunk
            if direction == "forward" and steps.shape[0] == self._layout.time:
                hidden = steps
                continue
            if hidden is None:
                hidden = steps.new_empty(self._layout.time, *steps.shape[1:])
            self._layout.place(steps, hidden, direction, chunk.start)
        if final is None or hidden is None:
            raise TypeError("there was no time step")
        self.finals.append(final)
        return hidden

    def _record(self, layer: int, direction: str, chunk: Chunk, previous: State, weights: Weights) -> None:
        self._buffer.add(layer, direction, chunk)
        if not self._buffer.has_residual and chunk.read is None:
            cell = self._spec.cell
            signals, before = chunk.signals(cell), tuple(state[0] for state in previous)
            steps = _step_residuals(cell, signals, before, weights.weight_hr)
            self.row_residuals.append(self._layout.mask_padding(chunk, steps).amax(dim=0))


def _step_residuals(
    cell: Cell, signals: Mapping[str, Tensor], previous: Tensors = (), weight_hr: Tensor | None = None
) -> Tensor:
    """Max |residual| over the units of each (time, batch), from signals (time, batch, unit).

    It is computed in blocks of time, which need little memory beside the trace.
    """
    signals = {name: signals[name] for name in cell.residual_signals}
    time, batch_size, _ = next(iter(signals.values())).shape
    steps = max(1, _BLOCK_FLOATS // (batch_size * max(values.shape[-1] for values in signals.values())))
    largest: list[Tensor] = []
    for start in range(0, time, steps):
        span = {name: values[start : start + steps] for name, values in signals.items()}
        largest.append(cell.residual(span, previous, weight_hr).abs_().amax(dim=-1))
        if cell.residual_reads_previous:
            previous = tuple(span[state][-1] for state in cell.states)
    return torch.cat(largest)


def _read(
    inputs: Tensor | PackedSequence | Sequence[Tensor], lengths: Any, spec: Spec, *, is_batch_first: bool
) -> tuple[Tensor, Any]:
    """The inputs as (batch, time, feature), and their lengths (batch,), None where they are not given."""
    if isinstance(inputs, Tensor):
        if inputs.dim() not in {_UNBATCHED, _BATCHED} or inputs.shape[-1] != spec.input_size or 0 in inputs.shape:
            axes = "batch, time" if is_batch_first else "time, batch"
            _refuse(inputs, spec, f"({axes}, {spec.input_size}), or (time, {spec.input_size}) without a batch")
        return padding.batch_first(inputs, is_batch_first=is_batch_first)[0], lengths
    if lengths is not None:
        kind = "a PackedSequence" if isinstance(inputs, PackedSequence) else "a list of sequences"
        raise InvalidInput.at(Place(("sequence_lengths",), f"{kind} has its own lengths"))
    if isinstance(inputs, PackedSequence):
        padded, lengths = padding.batch_first(inputs, is_batch_first=is_batch_first)
    else:
        shapes = {tuple(sequence.shape[1:]) for sequence in inputs}
        if len(shapes) != 1:
            raise InvalidInput.at(Place(("inputs",), f"sequences must be of one width, but have {sorted(shapes)}"))
        padded, lengths = padding.pad(inputs)
    if padded.dim() != _BATCHED or padded.shape[-1] != spec.input_size or 0 in padded.shape:
        _refuse(padded, spec, f"sequences of (time, {spec.input_size})")
    return padded, lengths


def _refuse(inputs: Tensor, spec: Spec, expected: str) -> NoReturn:
    message = f"inputs has shape {tuple(inputs.shape)}; this {_name(spec)} takes {expected}"
    raise InvalidInput.at(Place(("inputs",), message))


def _lengths(given: Tensor | Sequence[int] | None, inputs: Tensor) -> tuple[Tensor, list[int]]:
    """(batch,) as a tensor and as numbers; the whole time axis of (batch, time, feature) when none are given."""
    rows, time, _ = inputs.shape
    if given is None:
        return torch.full((rows,), time), [time] * rows
    lengths = torch.as_tensor(given)
    if lengths.is_floating_point():
        raise InvalidInput.at(Place(("sequence_lengths",), f"lengths are whole numbers, not {lengths.dtype}"))
    if lengths.shape != (rows,):
        message = f"there are {rows} sequences, but sequence_lengths has shape {tuple(lengths.shape)}"
        raise InvalidInput.at(Place(("sequence_lengths",), message))
    numbers = lengths.tolist()
    if min(numbers) < 1 or max(numbers) > time:
        message = f"each sequence length must lie in 1…{time}; given were {numbers}"
        raise InvalidInput.at(Place(("sequence_lengths",), message))
    return lengths, numbers


def _initial_state(
    given: State | Tensor | Sequence[Tensor] | None, spec: Spec, inputs: Tensor, *, is_unbatched: bool
) -> State:
    """(layers · directions, batch, size) each, for inputs (batch, time, feature)."""
    if given is None:
        return State.zeros(spec, len(inputs), inputs)
    tensors = [given] if isinstance(given, Tensor) else given
    names, sizes = spec.cell.states, spec.state_sizes
    if len(tensors) != len(names):
        message = f"has {len(tensors)} tensors; this {_name(spec)} takes {len(names)}: {', '.join(names)}"
        raise InvalidInput.at(Place(("initial_state",), message))
    rows, state = () if is_unbatched else (len(inputs),), []
    for name, size, tensor in zip(names, sizes, tensors, strict=True):
        if tensor.shape != (expected := (spec.state_entries, *rows, size)):
            message = f"has shape {tuple(tensor.shape)}; this {_name(spec)} takes {expected}"
            raise InvalidInput.at(Place(("initial_state", name), message))
        batched = tensor[:, None] if is_unbatched else tensor
        state.append(batched.to(inputs))
    return State(*state)


def _detached(tensor: Tensor) -> Tensor:
    return tensor.detach() if tensor.requires_grad else tensor


def _name(spec: Spec) -> str:
    return spec.cell.module.__name__
