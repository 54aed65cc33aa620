"""`trace`: what happened inside an `nn.LSTM`, at every step, layer, direction and unit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from gatescope import padding
from gatescope.backends import onednn, probe
from gatescope.backends.chunk import Chunk, Method
from gatescope.backends.onednn import LayoutChanged
from gatescope.backends.parameters import Parameters
from gatescope.backends.probe import METHODS
from gatescope.buffer import Recorder
from gatescope.errors import InvalidInput, Place
from gatescope.padding import Order
from gatescope.selection import Selection
from gatescope.spec import Spec
from gatescope.state import State
from gatescope.weights import Weights

_BLOCK = 1_048_576  # floats: a thread must wait for the interpreter after each stroke, so there should be few
_EVERYTHING = Selection()
_RESIDUAL = ("output_gate", "cell_state", "hidden_state")


@dataclass(frozen=True)
class Trace:
    """The signals of a batch, each (batch, layer, direction, time, unit), float, NaN in the padding.

    Values of the reverse direction stand in input time: index t belongs to input t. `hidden_state` is the fused
    kernel's own; with `proj_size` it is narrower than the rest. A signal that was not selected is missing. The
    tensors may share memory: whoever writes into one clones it first.
    """

    signals: dict[str, Tensor]
    selection: Selection
    sequence_lengths: Tensor  # (batch,)
    output: Tensor  # (batch, time, directions · unit), as nn.LSTM's with batch_first; NaN in the padding
    initial_state: State
    final_state: State  # each row's at its own last step
    gaps: Tensor | None  # (batch,) of each row; None where the signals kept here are enough to compute them
    method: str  # the way to the gates that was taken, as `gatescope/backends/probe.py` names them

    @cached_property
    def residual(self) -> float:
        """Max |fused hidden_state − output_gate·tanh(cell_state)| (projected), over the whole trace.

        Computed when it is first asked for, where the signals are there: a tanh over a trace costs as much as a copy.
        """
        return float(self._gaps.max())

    def settled(self) -> Trace:
        """The same with its residual computed, here and now, row by row."""
        return replace(self, gaps=self._gaps)

    @cached_property
    def _gaps(self) -> Tensor:
        if self.gaps is not None:
            return self.gaps
        rows, time, _ = self.output.shape
        o, c, h = (self.signals[name].permute(1, 2, 3, 0, 4).flatten(0, 2) for name in _RESIDUAL)  # (…, batch, unit)
        steps = _gap(o, c, h, None).view(-1, time, rows).amax(dim=0)  # (time, batch), NaN in the padding
        if min(self.sequence_lengths.tolist()) < time:
            steps.masked_fill_(~padding.is_valid(self.sequence_lengths, time).T.to(steps.device), 0)
        result = steps.amax(dim=0)
        if self.method == "workspace":
            _give_up_unless_believable(float(result.max()))
        return result

    @property
    def input_gate(self) -> Tensor:
        """i: how much of the candidate is written, 0…1."""
        return self.signals["input_gate"]

    @property
    def forget_gate(self) -> Tensor:
        """f: how much of the cell state before is kept, 0…1."""
        return self.signals["forget_gate"]

    @property
    def cell_candidate(self) -> Tensor:
        """g, PyTorch's "cell gate": what would be written, −1…1."""
        return self.signals["cell_candidate"]

    @property
    def output_gate(self) -> Tensor:
        """o: how much of tanh(c) is shown, 0…1."""
        return self.signals["output_gate"]

    @property
    def cell_state(self) -> Tensor:
        """The cell state, c = f·c_before + i·g."""
        return self.signals["cell_state"]

    @property
    def hidden_state(self) -> Tensor:
        """The hidden state, h = o·tanh(c), projected where `proj_size` is set."""
        return self.signals["hidden_state"]


def trace(
    module: nn.LSTM,
    inputs: Tensor | Sequence[Tensor],
    sequence_lengths: Tensor | Sequence[int] | None = None,
    initial_state: State | tuple[Tensor, Tensor] | None = None,
    selection: Selection | None = None,
) -> Trace:
    """Run an `nn.LSTM` as in evaluation mode and return every gate and state on the way.

    Args:
        module: any `nn.LSTM`; its `batch_first` does not matter here, and neither does dropout between layers.
        inputs: (batch, time, feature) padded on the right, or a list of (time, feature) tensors.
        sequence_lengths: (batch,) true lengths of a padded `inputs`; all of it when not given.
        initial_state: `nn.LSTM`'s (h0, c0), each (layers · directions, batch, unit); zeros when not given.
        selection: what to keep; everything when not given.

    Raises:
        InvalidInput: a shape does not fit the module, a length lies outside 1…time, or the selection names what is not
            there.
    """
    parameters = Parameters.of(module)
    spec = parameters.spec
    selection = (selection or _EVERYTHING).resolve(spec)
    if not isinstance(inputs, Tensor):
        inputs, sequence_lengths = _pad(inputs, sequence_lengths)
    _check(inputs, spec)
    lengths, given = _lengths(sequence_lengths, inputs)
    with torch.no_grad():
        padded = inputs.to(parameters.weights[0].weight_ih)
        order = Order(given, padded.shape[1], padded.device)
        run = parameters, padded, lengths, order, _state(initial_state, spec, padded), selection
        try:
            return _trace(*run)
        except LayoutChanged as error:
            probe.distrust("workspace", str(error))
            return _trace(*run)


def _give_up_unless_believable(residual: float) -> None:
    """A residual that is computed late can no more change its trace, but the next ones are made another way."""
    try:
        onednn.check(residual)
    except LayoutChanged as error:
        probe.distrust("workspace", str(error))


def _trace(
    parameters: Parameters, inputs: Tensor, lengths: Tensor, order: Order, initial: State, selection: Selection
) -> Trace:
    name = probe.fastest(parameters.kinds)
    kept = Recorder(selection, parameters.spec, order)
    one = _Pass(parameters, initial, order, kept)
    output = one.output(inputs, METHODS[name])  # (time, batch, directions · unit)
    gaps = None
    if not kept.holds_all:
        gaps = torch.stack([*one.gaps, initial.cell_state.new_zeros(order.batch)]).amax(dim=0)
        if name == "workspace":
            onednn.check(float(gaps.max()))
    signals = kept.finish()
    if kept.whole is None:  # else the output is among what was kept, and blanked already
        order.blank(output)
    return Trace(
        signals=signals,
        selection=selection,
        sequence_lengths=lengths,
        output=output.transpose(0, 1),
        initial_state=initial,
        final_state=State.joined(one.finals),
        gaps=gaps,
        method=name,
    )


class _Pass:
    """One pass through an LSTM: layer by layer, direction by direction, chunk by chunk."""

    def __init__(self, parameters: Parameters, initial: State, order: Order, kept: Recorder) -> None:
        self._spec, self._weights = parameters.spec, parameters.weights
        self._initial = initial.entries()
        self._order, self._kept = order, kept
        self.finals: list[State] = []  # of every layer and direction, (1, batch, unit) each
        self.gaps: list[Tensor] = []  # of every row, layer by layer

    def output(self, inputs: Tensor, way: Method) -> Tensor:
        """(batch, time, feature) -> the top layer's output (time, batch, directions · unit)."""
        layer_input = self._order.clean(inputs.transpose(0, 1))  # (time, batch, feature)
        directions = self._spec.directions
        for layer in range(self._spec.num_layers):
            hidden = [self._hidden(layer, direction, layer_input, way) for direction in directions]
            layer_input = hidden[0] if len(hidden) == 1 else torch.cat(hidden, dim=-1)
        return layer_input

    def _hidden(self, layer: int, direction: str, layer_input: Tensor, way: Method) -> Tensor:
        """One layer and direction over (time, batch, feature): its hidden states (time, batch, unit) in input time."""
        entry = len(self.finals)
        weights = self._weights[entry]
        read = layer_input if direction == "forward" else self._order.reversed(layer_input)
        hidden = final = None
        for chunk in way(weights, read, *self._initial[entry]):
            final = self._order.take_last(chunk, final)
            if self._kept.wants(layer, direction):
                self._record(layer, direction, chunk, weights)
            if direction == "forward" and chunk.hidden_state.shape[0] == self._order.time:
                hidden = chunk.hidden_state
                continue
            if hidden is None:
                hidden = chunk.hidden_state.new_empty(self._order.time, *chunk.hidden_state.shape[1:])
            self._order.place(chunk.hidden_state, hidden, direction, chunk.start)
        if final is None or hidden is None:
            raise TypeError("there was no time step")
        self.finals.append(final)
        return hidden

    def _record(self, layer: int, direction: str, chunk: Chunk, weights: Weights) -> None:
        self._kept.record(layer, direction, chunk)
        if not self._kept.holds_all:
            output_gate, cell_state, hidden_state = chunk.signals[-3:]
            gap = _gap(output_gate, cell_state, hidden_state, weights.weight_hr)
            self.gaps.append(self._order.valid(chunk, gap).amax(dim=0))


def _gap(output_gate: Tensor, cell_state: Tensor, hidden_state: Tensor, weight_hr: Tensor | None) -> Tensor:
    """Max |hidden_state − output_gate·tanh(cell_state)|, projected, at each (time, batch)."""
    blocks = _differences(output_gate, cell_state, hidden_state, weight_hr)
    return torch.cat([block.amax(dim=-1) for block in blocks])


def _differences(
    output_gate: Tensor, cell_state: Tensor, hidden_state: Tensor, weight_hr: Tensor | None
) -> Iterator[Tensor]:
    """|hidden_state − output_gate·tanh(cell_state)|, projected, (time, batch, unit).

    In blocks of time that need little memory beside the trace.
    """
    time, batch_size, units = cell_state.shape
    steps = max(1, _BLOCK // (batch_size * units))
    for start in range(0, time, steps):
        span = slice(start, start + steps)
        rebuilt = _tanh(cell_state[span]).mul_(output_gate[span])
        if weight_hr is not None:
            rebuilt = rebuilt @ weight_hr.T
        yield rebuilt.sub_(hidden_state[span]).abs_()


def _tanh(values: Tensor) -> Tensor:
    """2σ(2x) − 1 where that is tanh(x) to rounding, for it takes torch a third of the time; not in half precision."""
    if values.dtype in (torch.float32, torch.float64):
        return (2 * values).sigmoid_().mul_(2).sub_(1)
    return values.tanh()


def _pad(sequences: Sequence[Tensor], lengths: object) -> tuple[Tensor, Tensor]:
    if lengths is not None:
        raise InvalidInput.at(Place(("sequence_lengths",), "a list of sequences has its own lengths"))
    shapes = {tuple(sequence.shape[1:]) for sequence in sequences}
    if len(shapes) != 1:
        raise InvalidInput.at(Place(("inputs",), f"sequences must be of one width, but have {sorted(shapes)}"))
    return padding.pad(sequences)


def _check(inputs: Tensor, spec: Spec) -> None:
    if inputs.dim() != 3 or inputs.shape[2] != spec.input_size or 0 in inputs.shape:  # noqa: PLR2004
        expected = f"(batch, time, {spec.input_size})"
        raise InvalidInput.at(Place(("inputs",), f"inputs has shape {tuple(inputs.shape)}; this LSTM takes {expected}"))


def _lengths(given: Tensor | Sequence[int] | None, inputs: Tensor) -> tuple[Tensor, list[int]]:
    """(batch,) as a tensor and as numbers; those of all rows when none are given."""
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


def _state(given: State | tuple[Tensor, Tensor] | None, spec: Spec, inputs: Tensor) -> State:
    if given is None:
        return State.zeros(spec, len(inputs), inputs)
    state = State(*given).to(inputs)
    for name, expected in spec.state_shapes(len(inputs)).items():
        shape = tuple(getattr(state, name).shape)
        if shape != expected:
            raise InvalidInput.at(Place(("initial_state", name), f"has shape {shape}; this LSTM takes {expected}"))
    return state
