"""`capture_calls`: what each recurrent module inside a module is called with and returns.

A call can be packed or padded, batch first or not, without a batch, with a state or without one. A call of an
`nn.LSTMCell`, `nn.GRUCell` or `nn.RNNCell` is one time step. `Call` is the one form that the rest of the library reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_sequence

from gatescope import padding
from gatescope.cells import CELLS, Cell, VariantModule
from gatescope.errors import InvalidInput, Place
from gatescope.interventions import Intervention, trace_edited
from gatescope.selection import Selection
from gatescope.spec import Spec
from gatescope.state import State
from gatescope.tracing import Trace, is_known_enough, trace, trace_known

RecurrentModule = nn.RNNBase | nn.RNNCellBase
"""A recurrent module over time, or one step of one, which is called in a loop."""

Calls = dict[str, list["Call"]]
"""The calls of each module that was called, in the order of the first ones."""

Replace = Callable[["Call"], tuple[Tensor, State]]
"""Gives another output (batch, time, directions · unit) and final state of a call, which the caller then reads."""

_Inputs = tuple[Tensor, Tensor, State]
"""What a call was given: inputs (batch, time, feature), lengths (batch,) and the initial state."""

_UNBATCHED = 2  # axes of an output without a batch


@dataclass(frozen=True)
class Call:
    """One call of a recurrent module, in copies that nothing changes afterwards."""

    inputs: Tensor  # (batch, time, feature), padded on the right; one time step of a cell
    lengths: Tensor  # (batch,) on the CPU
    initial_state: State
    output: Tensor  # (batch, time, directions · unit)
    final_state: State
    ran_elsewhere: bool = False  # not by PyTorch, whose module has the same weights


def recurrent_modules(module: nn.Module) -> dict[str, RecurrentModule]:
    """Every `nn.LSTM`, `nn.GRU`, `nn.RNN` and every cell of these inside a module, by name.

    A module that is one itself is named after its cell, such as "lstm".
    """
    found: dict[str, RecurrentModule] = {}
    for name, inner in module.named_modules():
        if isinstance(inner, nn.RNNBase | nn.RNNCellBase) and (cell := _cell_of(inner)) is not None:
            found[name or cell.name] = inner
    return found


def over_time(module: RecurrentModule) -> nn.RNNBase:
    """The module itself, or for a cell the module of one layer and direction over the same weights.

    Its parameters are the cell's own, so they change with them.

    Raises:
        TypeError: it is of no known cell.
    """
    if isinstance(module, nn.RNNBase):
        return module
    with torch.device("meta"):  # these weights are replaced: they need no memory and no random numbers
        made = _spec_of(module).build()
    for name in ("weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if module.bias else ())):
        value = getattr(module, name)
        if not isinstance(value, nn.Parameter):  # one that is computed, as by a weight norm
            value = nn.Parameter(value.detach(), requires_grad=False)
        setattr(made, f"{name}_l0", value)
    return made


def _spec_of(module: RecurrentModule) -> Spec:
    """That of `over_time`."""
    if isinstance(module, nn.RNNBase):
        return Spec.from_module(module)
    cell = _cell_of(module)
    if cell is None:
        raise TypeError(f"a cell must be an nn.LSTMCell, nn.GRUCell or nn.RNNCell, not {type(module).__name__}")
    return Spec(module.input_size, module.hidden_size, bias=module.bias, cell=cell)


def _cell_of(module: RecurrentModule) -> Cell | None:
    if isinstance(module, VariantModule):
        return module.cell
    for cell in CELLS:
        is_one = isinstance(module, cell.module | cell.cell_module)
        if is_one and cell.nonlinearity == getattr(module, "nonlinearity", None):
            return cell
    return None


@contextmanager
def capture_calls(
    modules: Mapping[str, RecurrentModule], replaced: Mapping[str, Replace] | None = None
) -> Iterator[Calls]:
    """Capture every call of these modules until the context is left, also by an exception.

    Args:
        modules: recurrent modules by name, as `recurrent_modules` finds them.
        replaced: what some of them return in place of their own, by name.

    Returns:
        The calls, filled as they happen, with what the caller read.
    """
    calls: Calls = {}
    with ExitStack() as hooks:
        for name, module in modules.items():
            pending: list[_Inputs] = []
            is_cell = isinstance(module, nn.RNNCellBase)
            on_call = partial(_before_cell if is_cell else _before, pending, _spec_of(module))
            heard = partial(_heard, calls, name, (replaced or {}).get(name))
            on_return = partial(_after_cell if is_cell else _after, pending, heard)
            # other hooks may change values: this pre-hook runs after theirs, and this hook before them
            hooks.callback(module.register_forward_pre_hook(on_call, with_kwargs=True).remove)
            hooks.callback(module.register_forward_hook(on_return, prepend=True).remove)
        yield calls


def _before(
    pending: list[_Inputs], spec: Spec, module: nn.RNNBase, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    given = dict(zip(("input", "hx"), args, strict=False)) | kwargs
    inputs, lengths = _copied(given["input"], module)
    hx = given.get("hx")
    pending.append((inputs, lengths, State.zeros(spec, len(inputs), inputs) if hx is None else _copied_state(hx)))


def _after(
    pending: list[_Inputs],
    heard: Callable[[Call], Call | None],
    module: nn.RNNBase,
    _: tuple[Any, ...],
    returned: tuple[Tensor | PackedSequence, Tensor | tuple[Tensor, ...]],
) -> Any:
    output, final = returned
    made = heard(Call(*pending.pop(), _copied(output, module)[0], _copied_state(final)))
    return None if made is None else _as_returned(made, output, is_batch_first=module.batch_first)


def _as_returned(
    call: Call, returned: Tensor | PackedSequence, *, is_batch_first: bool
) -> tuple[Tensor | PackedSequence, Any]:
    """The output and the final state of a call with the axes of what the module returned, packed where that was."""
    output, final = call.output, call.final_state
    if isinstance(returned, PackedSequence):
        order, lengths = returned.sorted_indices, call.lengths
        if order is not None:
            output, lengths = output[order], lengths[order.to(lengths.device)]
        data = pack_padded_sequence(output, lengths, batch_first=True).data
        return PackedSequence(data, returned.batch_sizes, order, returned.unsorted_indices), final.hx
    if returned.dim() == _UNBATCHED:
        return output[0], State(*(value[:, 0] for value in final)).hx
    return output if is_batch_first else output.transpose(0, 1), final.hx


def _before_cell(
    pending: list[_Inputs], spec: Spec, _: nn.RNNCellBase, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    given = dict(zip(("input", "hx"), args, strict=False)) | kwargs
    inputs, hx = _batched(given["input"].detach())[:, None].clone(), given.get("hx")  # (batch, 1, feature)
    state = State.zeros(spec, len(inputs), inputs) if hx is None else _copied_cell_state(hx)
    pending.append((inputs, torch.ones(len(inputs), dtype=torch.int64), state))


def _after_cell(
    pending: list[_Inputs],
    heard: Callable[[Call], Call | None],
    _: nn.RNNCellBase,
    __: tuple[Any, ...],
    returned: Tensor | tuple[Tensor, ...],
) -> Any:
    final = _copied_cell_state(returned)
    made = heard(Call(*pending.pop(), final.hidden_state.transpose(0, 1), final))
    if made is None:
        return None
    is_unbatched = (returned if isinstance(returned, Tensor) else returned[0]).dim() == 1
    rest = (value[0, 0] if is_unbatched else value[0] for value in made.final_state[1:])
    return State(made.output[0, 0] if is_unbatched else made.output[:, 0], *rest).hx


def _heard(calls: Calls, name: str, replace_by: Replace | None, call: Call) -> Call | None:
    """Keep a call, and give it with what its caller is to read if that is not what the module returned."""
    made = call
    if replace_by is not None:
        output, final = replace_by(call)
        made = replace(call, output=output, final_state=final)
        call = replace(call, output=output.detach(), final_state=State(*(value.detach() for value in final)))
    calls.setdefault(name, []).append(call)
    return None if replace_by is None else made


def _copied(values: Tensor | PackedSequence, module: nn.RNNBase) -> tuple[Tensor, Tensor]:
    """(batch, time, …) with the rows in their own order, and their lengths (batch,)."""
    padded, lengths = padding.batch_first(values, is_batch_first=module.batch_first)
    if lengths is not None:
        return padded.detach(), lengths  # unpacking has copied them
    return padded.detach().clone(), torch.full(padded.shape[:1], padded.shape[1])


def _copied_state(hx: Tensor | tuple[Tensor, ...]) -> State:
    """Each (layers · directions, batch, size), also of a call without a batch."""
    return State(*(value.detach().clone() for value in State.from_hx(hx)))


def _copied_cell_state(hx: Tensor | tuple[Tensor, ...]) -> State:
    """Each (1, batch, size) from (batch, size), or from (size,) of a call without a batch."""
    tensors = [hx] if isinstance(hx, Tensor) else hx
    return State(*(_batched(value.detach())[None].clone() for value in tensors))


def _batched(value: Tensor) -> Tensor:
    """(batch, size) from that, or from (size,)."""
    return value[None] if value.dim() == 1 else value


@dataclass(frozen=True)
class Run:
    """The steps of each row, and the states before and after them."""

    inputs: Tensor  # (batch, time, feature), padded on the right
    output: Tensor  # (batch, time, directions · unit), NaN in the padding: what the module's own calls returned
    lengths: Tensor  # (batch,) on the CPU
    initial_state: State
    final_state: State
    ran_elsewhere: bool = False  # not by PyTorch: then the trace is made of this output where that can be

    @classmethod
    def of(cls, name: str, module: RecurrentModule, calls: Sequence[Call], rows: int) -> Run:
        """One run from the calls of one forward, each of which starts in the state where the one before ended.

        Args:
            name: of the recurrent module, for messages.
            module: the recurrent module.
            calls: in their order.
            rows: how many sequences the forward was given.

        Raises:
            InvalidInput: the calls are not one run over the sequences, with the reason; its place is `module`.
        """
        if not calls:
            raise _untraceable(f"'{name}' did not run over these inputs, so there is nothing to trace")
        _check_continues(name, _spec_of(module), calls)
        if len(calls[0].inputs) != rows:
            raise _untraceable(
                f"'{name}' reads a batch of {len(calls[0].inputs)} where there are {rows} sequences: its rows are not "
                "the request's"
            )
        inputs, lengths = _joined([(call.inputs, call.lengths) for call in calls], filling=0)
        output, _ = _joined([(call.output, call.lengths) for call in calls], filling=torch.nan)
        return cls(inputs, output, lengths, calls[0].initial_state, calls[-1].final_state, calls[0].ran_elsewhere)

    @classmethod
    def gathered(cls, parts: Sequence[tuple[Tensor | None, Run]]) -> Run:
        """The run of a batch, from row numbers (row,) and the run over these rows; None where these are all rows."""
        if len(parts) == 1 and parts[0][0] is None:
            return parts[0][1]
        runs, order = [run for _, run in parts], _order(parts)
        inputs = pad_sequence([row for run in runs for row in run.inputs], batch_first=True)
        output = pad_sequence([row for run in runs for row in run.output], batch_first=True, padding_value=torch.nan)
        return cls(
            inputs[order],
            output[order],
            torch.cat([run.lengths for run in runs])[order],
            gathered_state([(rows, run.initial_state) for rows, run in parts]),
            gathered_state([(rows, run.final_state) for rows, run in parts]),
            runs[0].ran_elsewhere,
        )

    def traced(
        self, module: RecurrentModule, selection: Selection, interventions: Sequence[Intervention] = ()
    ) -> Trace:
        """The trace of this run; its residual also covers its distance from what the calls returned.

        Args:
            module: that ran.
            selection: what to keep.
            interventions: with which it ran.
        """
        over, state = over_time(module), self.initial_state
        batch_first = self.inputs if over.batch_first else self.inputs.transpose(0, 1)
        if interventions:
            traced = trace_edited(over, batch_first, interventions, self.lengths, state, selection).with_residual()
        elif self.ran_elsewhere and is_known_enough(Spec.from_module(over)):
            return trace_known(over, self.inputs, self.lengths, self.output, state, selection).with_residual()
        else:
            traced = trace(over, batch_first, self.lengths, state, selection).with_residual()
        distances = (traced.output - self.output).abs().nan_to_num(nan=0.0).amax(dim=(1, 2))
        if traced.row_residuals is not None:
            distances = torch.maximum(traced.row_residuals, distances)
        return replace(traced, row_residuals=distances)


def gathered_state(parts: Sequence[tuple[Tensor | None, State]]) -> State:
    """The state of a batch, from row numbers (row,) and the state of these rows; None where these are all rows."""
    if len(parts) == 1 and parts[0][0] is None:
        return parts[0][1]
    order = _order(parts)
    tensors = zip(*(state for _, state in parts), strict=True)
    return State(*(torch.cat(values, dim=1)[:, order.to(values[0].device)] for values in tensors))


def _order(parts: Sequence[tuple[Tensor | None, Any]]) -> Tensor:
    """Where each row of a batch stands when its parts stand one after another."""
    return torch.cat([rows for rows, _ in parts if rows is not None]).argsort()


def _check_continues(name: str, spec: Spec, calls: Sequence[Call]) -> None:
    if len(calls) > 1 and spec.bidirectional:
        raise _untraceable(f"'{name}' is bidirectional and is called {len(calls)} times: that is not one run over time")
    for index in range(1, len(calls)):
        before, after = calls[index - 1].final_state, calls[index].initial_state
        if before.hidden_state.shape != after.hidden_state.shape:
            sizes = f"{before.hidden_state.shape[1]} and {after.hidden_state.shape[1]}"
            raise _untraceable(
                f"'{name}' is called {len(calls)} times, calls {index - 1} and {index} with batches of {sizes}"
            )
        if not all(torch.equal(*states) for states in zip(before, after, strict=True)):
            raise _untraceable(
                f"'{name}' is called {len(calls)} times, and call {index} does not begin in the state where call "
                f"{index - 1} ended: these are several runs, not one, or its state is changed in between, as by a mask"
            )


def _joined(parts: Sequence[tuple[Tensor, Tensor]], filling: float) -> tuple[Tensor, Tensor]:
    """The steps (batch, time, …) of each row, those of all parts one after another, and how many there are (batch,)."""
    lengths = torch.stack([part for _, part in parts]).sum(dim=0)
    if all(int(part.min()) == values.shape[1] for values, part in parts):  # also of a cell's many calls
        return parts[0][0] if len(parts) == 1 else torch.cat([values for values, _ in parts], dim=1), lengths
    own = ([row[:count] for row, count in zip(values, part.tolist(), strict=True)] for values, part in parts)
    rows = zip(*own, strict=True)
    return pad_sequence([torch.cat(steps) for steps in rows], batch_first=True, padding_value=filling), lengths


def _untraceable(reason: str) -> InvalidInput:
    return InvalidInput.at(Place(("module",), reason))
