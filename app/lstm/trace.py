"""`trace`: what happened inside an `nn.LSTM`, at every step, layer, direction and unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from app.errors import InvalidInput, Place
from app.lstm import batch
from app.lstm.equations import Step
from app.lstm.replay import replay
from app.lstm.selection import Selection
from app.lstm.spec import LSTMSpec
from app.lstm.state import State
from app.lstm.weights import Weights


@dataclass(frozen=True)
class Trace:
    """The signals of a batch, each (batch, layer, direction, time, unit), float, NaN in the padding.

    Values of the reverse direction stand in input time: index t belongs to input t. `hidden_state` is the fused
    kernel's own; with `proj_size` it is narrower than the rest. A signal that was not selected is missing.
    """

    signals: dict[str, Tensor]
    selection: Selection
    sequence_lengths: Tensor  # (batch,)
    output: Tensor  # (batch, time, directions · unit), as nn.LSTM's with batch_first; NaN in the padding
    initial_state: State
    final_state: State  # each row's at its own last step
    gap: Tensor  # scalar tensor behind `residual`, so that a GPU need not be waited for

    @property
    def residual(self) -> float:
        """Max |fused hidden_state − output_gate·tanh(cell_state)| (projected), over the whole trace."""
        return float(self.gap)

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
    spec = LSTMSpec.from_module(module)
    selection = (selection or Selection()).resolve(spec)
    parameter = next(module.parameters())
    padded, lengths = _padded(inputs, sequence_lengths)
    _check(padded, lengths, spec)
    padded, lengths = padded.to(parameter.device, parameter.dtype), lengths.to(parameter.device)
    state = _state(initial_state, spec, padded)
    with torch.no_grad():
        return _trace(module, spec, padded, lengths, state, selection)


def _trace(
    module: nn.LSTM, spec: LSTMSpec, inputs: Tensor, lengths: Tensor, initial: State, selection: Selection
) -> Trace:
    padding = ~batch.is_valid(lengths, inputs.shape[1])  # (batch, time)
    kept = _Kept(selection, spec, padding)
    final_hidden, final_cell, gaps = [], [], []
    layer_input = inputs
    for layer in range(spec.num_layers):
        outputs = []
        for d, direction in enumerate(spec.directions):
            entry = layer * spec.num_directions + d
            read = layer_input if direction == "forward" else batch.reverse(layer_input, lengths)
            weights = Weights.of(module, layer, direction)
            signals, gap = replay(weights, read, initial.hidden_state[entry], initial.cell_state[entry])
            final_hidden.append(batch.at_last_step(signals.hidden_state, lengths))
            final_cell.append(batch.at_last_step(signals.cell_state, lengths))
            gaps.append(gap.masked_fill(padding, 0).max())
            if direction == "reverse":
                signals = Step(*(batch.reverse(signal, lengths) for signal in signals))
            kept.keep(layer, direction, signals)
            outputs.append(signals.hidden_state)
        layer_input = torch.cat(outputs, dim=-1)  # (batch, time, directions · unit)
    return Trace(
        signals=kept.signals,
        selection=selection,
        sequence_lengths=lengths,
        output=layer_input.masked_fill(padding[..., None], torch.nan),
        initial_state=initial,
        final_state=State(torch.stack(final_hidden), torch.stack(final_cell)),
        gap=torch.stack(gaps).max(),
    )


class _Kept:
    """The selected part of the signals, filled layer by layer."""

    def __init__(self, selection: Selection, spec: LSTMSpec, padding: Tensor) -> None:
        self._selection, self._padding = selection, padding
        self._time_steps = selection.time_steps(padding.shape[1])
        self._units = {signal: selection.units_of(signal, spec) for signal in selection.signals}
        self._parts: dict[str, dict[tuple[int, str], Tensor]] = {signal: {} for signal in selection.signals}

    def keep(self, layer: int, direction: str, signals: Step) -> None:
        """Take what is selected of one layer and direction, in input time."""
        if layer not in (self._selection.layers or ()) or direction not in (self._selection.directions or ()):
            return
        for signal, units in self._units.items():
            values = getattr(signals, signal).masked_fill(self._padding[..., None], torch.nan)  # (batch, time, unit)
            self._parts[signal][layer, direction] = values[:, self._time_steps][..., units]

    @property
    def signals(self) -> dict[str, Tensor]:
        """Each selected signal, (batch, layer, direction, time, unit)."""
        layers, directions = self._selection.layers or (), self._selection.directions or ()
        axes = (len(layers), len(directions))
        order = [(layer, direction) for layer in layers for direction in directions]
        return {
            signal: torch.unflatten(torch.stack([parts[key] for key in order], dim=1), 1, axes)
            for signal, parts in self._parts.items()
        }


def _padded(inputs: Tensor | Sequence[Tensor], lengths: Tensor | Sequence[int] | None) -> tuple[Tensor, Tensor]:
    if not isinstance(inputs, Tensor):
        return _pad(inputs, lengths)
    if lengths is None:
        lengths = [inputs.shape[1]] * len(inputs) if inputs.dim() > 1 else []
    return inputs, torch.as_tensor(lengths)


def _pad(sequences: Sequence[Tensor], lengths: object) -> tuple[Tensor, Tensor]:
    if lengths is not None:
        raise InvalidInput.at(Place(("sequence_lengths",), "a list of sequences has its own lengths"))
    shapes = {tuple(sequence.shape[1:]) for sequence in sequences}
    if len(shapes) != 1:
        raise InvalidInput.at(Place(("inputs",), f"sequences must be of one width, but have {sorted(shapes)}"))
    return batch.pad(sequences)


def _check(inputs: Tensor, lengths: Tensor, spec: LSTMSpec) -> None:
    if inputs.dim() != 3 or inputs.shape[2] != spec.input_size or 0 in inputs.shape:  # noqa: PLR2004
        expected = f"(batch, time, {spec.input_size})"
        raise InvalidInput.at(Place(("inputs",), f"inputs has shape {tuple(inputs.shape)}; this LSTM takes {expected}"))
    if lengths.is_floating_point():
        raise InvalidInput.at(Place(("sequence_lengths",), f"lengths are whole numbers, not {lengths.dtype}"))
    if lengths.shape != inputs.shape[:1]:
        message = f"there are {inputs.shape[0]} sequences, but sequence_lengths has shape {tuple(lengths.shape)}"
        raise InvalidInput.at(Place(("sequence_lengths",), message))
    if int(lengths.min()) < 1 or int(lengths.max()) > inputs.shape[1]:
        message = f"each sequence length must lie in 1…{inputs.shape[1]}; given were {lengths.tolist()}"
        raise InvalidInput.at(Place(("sequence_lengths",), message))


def _state(given: State | tuple[Tensor, Tensor] | None, spec: LSTMSpec, inputs: Tensor) -> State:
    if given is None:
        return State.zeros(spec, len(inputs), inputs)
    state = State(*given).to(inputs)
    for name, expected in spec.state_shapes(len(inputs)).items():
        shape = tuple(getattr(state, name).shape)
        if shape != expected:
            raise InvalidInput.at(Place(("initial_state", name), f"has shape {shape}; this LSTM takes {expected}"))
    return state
