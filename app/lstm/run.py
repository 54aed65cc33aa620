"""`Run`: what one `nn.LSTM` read from its first step to its last, put together from its calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from app.errors import InvalidInput, Place
from app.lstm.hooks import Call
from app.lstm.selection import Selection
from app.lstm.spec import LSTMSpec
from app.lstm.state import State
from app.lstm.trace import Trace, trace


@dataclass(frozen=True)
class Run:
    """The steps of each row, and the states around them."""

    inputs: list[Tensor]  # of each row, (time, feature)
    outputs: list[Tensor]  # of each row, (time, directions · unit): what the module's own calls gave
    initial_state: State
    final_state: State

    @classmethod
    def of(cls, name: str, module: nn.LSTM, calls: Sequence[Call], rows: int) -> Run:
        """One run from the calls of one forward: each goes on in the state where the one before ended.

        Args:
            name: of the LSTM, for messages.
            module: the LSTM.
            calls: in their order.
            rows: how many sequences the forward was given.

        Raises:
            InvalidInput: the calls are not one run over the sequences, with the reason; its place is `module`.
        """
        if not calls:
            raise _untraceable(f"'{name}' did not run over these inputs, so there is nothing to show of it")
        _check_carried(name, LSTMSpec.from_module(module), calls)
        if len(calls[0].inputs) != rows:
            raise _untraceable(
                f"'{name}' reads a batch of {len(calls[0].inputs)} where there are {rows} sequences: its rows are not "
                "the request's"
            )
        inputs = _joined([(call.inputs, call.lengths) for call in calls])
        outputs = _joined([(call.output, call.lengths) for call in calls])
        return cls(inputs, outputs, calls[0].initial_state, calls[-1].final_state)

    @classmethod
    def gathered(cls, parts: Sequence[tuple[Tensor, Run]]) -> Run:
        """The run of a batch from runs over some of its rows each, given beside them."""
        order = torch.cat([rows for rows, _ in parts]).argsort()
        places, runs = order.tolist(), [run for _, run in parts]
        inputs = [row for run in runs for row in run.inputs]
        outputs = [row for run in runs for row in run.outputs]
        initial, final = (
            State(*(torch.cat(values, dim=1)[:, order.to(values[0].device)] for values in zip(*states, strict=True)))
            for states in ([run.initial_state for run in runs], [run.final_state for run in runs])
        )
        return cls([inputs[place] for place in places], [outputs[place] for place in places], initial, final)

    @property
    def lengths(self) -> Tensor:
        """(batch,) how many steps each row has."""
        return torch.tensor([len(row) for row in self.inputs])

    @property
    def output(self) -> Tensor:
        """(batch, time, directions · unit), NaN in the padding."""
        return pad_sequence(self.outputs, batch_first=True, padding_value=torch.nan)

    def traced(self, module: nn.LSTM, selection: Selection) -> Trace:
        """The trace of this run; its residual also covers how far it is from what the calls gave."""
        made = trace(module, self.inputs, initial_state=self.initial_state, selection=selection).settled()
        gaps = torch.stack(
            [(made.output[row, : len(given)] - given).abs().max() for row, given in enumerate(self.outputs)]
        )
        return replace(made, gaps=gaps if made.gaps is None else torch.maximum(made.gaps, gaps))


def _check_carried(name: str, spec: LSTMSpec, calls: Sequence[Call]) -> None:
    if len(calls) > 1 and spec.bidirectional:
        raise _untraceable(f"'{name}' reads both ways and is called {len(calls)} times, which is not one run over time")
    for index in range(1, len(calls)):
        before, after = calls[index - 1].final_state, calls[index].initial_state
        if before.cell_state.shape != after.cell_state.shape:
            sizes = f"{before.cell_state.shape[1]} and {after.cell_state.shape[1]}"
            raise _untraceable(
                f"'{name}' is called {len(calls)} times, calls {index - 1} and {index} with batches of {sizes}"
            )
        if not all(torch.equal(*states) for states in zip(before, after, strict=True)):
            raise _untraceable(
                f"'{name}' is called {len(calls)} times, and call {index} does not begin in the state where call "
                f"{index - 1} ended: these are several runs, not one"
            )


def _joined(parts: Sequence[tuple[Tensor, Tensor]]) -> list[Tensor]:
    """Each row's own steps, (time, …), of all parts behind one another."""
    rows = zip(
        *([row[:length] for row, length in zip(values, lengths, strict=True)] for values, lengths in parts), strict=True
    )
    return [torch.cat(steps) for steps in rows]


def _untraceable(reason: str) -> InvalidInput:
    return InvalidInput.at(Place(("module",), reason))
