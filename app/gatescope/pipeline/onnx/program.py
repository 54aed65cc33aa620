"""`OnnxProgram`: an ONNX graph as ONNX Runtime runs it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from hashlib import blake2b
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from gatescope import padding
from gatescope.capture import Call, Calls
from gatescope.cells import GRU, LSTM
from gatescope.errors import ManifestError, ModuleFailed
from gatescope.pipeline.onnx import proto
from gatescope.pipeline.onnx.graph import OnnxGraph
from gatescope.pipeline.onnx.recurrent import RecurrentNode
from gatescope.pipeline.onnx.session import RUN_ERRORS, said, session
from gatescope.pipeline.program.graph_config import GraphConfig
from gatescope.pipeline.program.program import Program, Replaced, Returned, zeroed
from gatescope.pipeline.program.state_layout import StateLayout
from gatescope.spec import Spec
from gatescope.state import State

_SEQUENCE = 3  # axes of (batch, time, value)
_PER_LAYER = 3  # axes of a state (layers · directions, batch, size)


class OnnxProgram(Program):
    """A graph, on the CPU. Rows of unequal length go into one run only where the graph takes their lengths.

    Args:
        graph: of the model.
        config: what its inputs and outputs are.

    Raises:
        ManifestError: the graph has no such input or output.
        CheckpointError: ONNX Runtime refuses the model.
    """

    kind = "a graph"
    subject = "the graph"
    takes_no_state = "its graph takes no state"
    gives_no_state = "its graph gives no state back"
    is_stateless = is_reentrant = runs_elsewhere = True

    def __init__(self, graph: OnnxGraph, config: GraphConfig) -> None:
        super().__init__()
        inputs = graph.ancestry.inputs
        self.config, self._graph, self._inputs = config, graph, inputs
        self._check_names()
        self.recurrent = {name: node.module for name, node in graph.nodes.items()}
        self.modules_in_order = nn.ModuleList(self.recurrent.values())  # under numbers: names may have dots
        content = graph.model.SerializeToString(deterministic=True)
        self.register_buffer("digest", torch.frombuffer(bytearray(blake2b(content).digest()), dtype=torch.uint8))
        self.takes_lengths = config.sequence_lengths is not None
        self.takes_state = bool(config.initial_state)
        self.is_probability = config.is_probability
        sizes = proto.dims(inputs[config.input]) or []
        batch, time, *_ = [*sizes, None, None]
        if config.layout == "time_first":
            batch, time = time, batch
        self.fixed_steps = time
        self.fixed_batch = batch
        self._dtypes = {name: proto.dtype(value) for name, value in inputs.items()}
        self._session = session(graph.model)
        self._sessions_without: dict[str, onnxruntime.InferenceSession] = {}  # a node, whose outputs are given; by name
        self._outputs = [name for name in (config.prediction, *config.final_state) if name is not None]

    def _check_names(self) -> None:
        config, inputs = self.config, self._inputs
        named = {config.input, config.sequence_lengths, *config.initial_state} - {None}
        for name in sorted(named - inputs.keys() | inputs.keys() - named, key=str):
            what = "is not described in [graph]" if name in inputs else "is in [graph], but the graph has no such input"
            raise ManifestError(f"the input '{name}' {what}; the graph's inputs are {', '.join(inputs)}")
        for name in (config.prediction, *config.final_state):
            if name is not None and name not in self._graph.outputs:
                shown = ", ".join(self._graph.outputs)
                raise ManifestError(f"[graph] names the output '{name}', but the graph's are {shown}")

    @property
    def parameter_count(self) -> int:
        """The numbers of its constants, but for whole ones."""
        constants = self._graph.ancestry.constants.values()
        return sum(int(np.prod(each.dims)) for each in constants if each.data_type in proto.FLOATS)

    def state_layout(self, first: str) -> StateLayout:
        """That of the graph's inputs; of a graph without, that of the node."""
        spec = Spec.from_module(self.recurrent[first])  # type: ignore[arg-type] # a node's module is no cell
        if not self.config.initial_state:
            return StateLayout(spec, is_cell=False, subject=self.subject)
        sizes = [proto.dims(self._inputs[name]) or [] for name in self.config.initial_state]
        is_cell = len(sizes[0]) < _PER_LAYER
        entries, size = 1 if is_cell else sizes[0][0], sizes[0][-1]
        if entries is None or size is None or any(each[-1] != size for each in sizes):
            raise ManifestError("the graph's states must be (layers · directions, batch, size) of known sizes")
        if (spec.state_entries, spec.hidden_size, len(spec.cell.states)) != (entries, size, len(sizes)):
            spec = Spec(spec.input_size, size, num_layers=entries, cell=LSTM if len(sizes) > 1 else GRU)
        return StateLayout(spec, is_cell, self.subject)

    def begin(self, first: Call) -> State:
        """Zeros, as PyTorch has it where nobody gives a state."""
        if not self.config.initial_state:
            return first.initial_state
        name = next(iter(self.recurrent))
        return State.zeros(self.state_layout(name).spec, 1, torch.empty(0))

    def run(
        self, inputs: Tensor, lengths: Tensor, hx: Any, watched: Collection[str], replaced: Replaced
    ) -> tuple[Returned, Calls]:
        """What the graph gives for these rows, and what the nodes read and gave.

        A node that is replaced is left out of the second of two runs, and what replaces its outputs is given to it.
        """
        feeds = self._feeds(inputs, lengths, hx)
        nodes = [self._graph.nodes[name] for name in watched]
        wanted = dict.fromkeys((*self._outputs, *(name for node in nodes for name in self._values_of(node))))
        if not wanted:
            return Returned(None), {}
        made = self._made(self._session, wanted, feeds)
        calls = {node.name: [_call(node, made | feeds, self._constants, len(inputs))] for node in nodes}
        for name, replace_by in replaced.items():
            (call,) = calls[name]
            output, final = replace_by(call)
            calls[name] = [replace(call, output=output, final_state=final)]
            made = self._made_without(self._graph.nodes[name], calls[name][0], made, feeds)
        state = tuple(torch.from_numpy(made[name]) for name in self.config.final_state)
        return Returned(self._prediction(made), state if len(state) > 1 else next(iter(state), None)), calls

    def _made(
        self, run_by: onnxruntime.InferenceSession, wanted: Collection[str], feeds: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """These values of the graph, by name."""
        try:
            return dict(zip(wanted, run_by.run(list(wanted), dict(feeds)), strict=True))
        except RUN_ERRORS as error:
            batch, time = feeds[self.config.input].shape[:2]
            batch, time = (time, batch) if self.config.layout == "time_first" else (batch, time)
            raise ModuleFailed(f"the graph over a batch of {batch} × {time} steps failed: {said(error)}") from error

    def _made_without(
        self, node: RecurrentNode, call: Call, made: Mapping[str, np.ndarray], feeds: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """The graph's outputs where this node gives what the call holds; `made` is what it gave itself."""
        own = {name: np.asarray(value, made[name].dtype) for name, value in _given_back(node, call).items()}
        wanted = [name for name in self._outputs if name not in own]
        if not wanted:
            return own
        if node.name not in self._sessions_without:
            types = {name: onnx.helper.np_dtype_to_tensor_dtype(value.dtype) for name, value in own.items()}
            self._sessions_without[node.name] = session(self._graph.without(types, wanted))
        return own | self._made(self._sessions_without[node.name], wanted, {**feeds, **own})

    def _feeds(self, inputs: Tensor, lengths: Tensor, hx: Any) -> dict[str, np.ndarray]:
        config = self.config
        given = zeroed(inputs, lengths) if self.takes_lengths else inputs
        feeds = {config.input: given.transpose(0, 1) if config.layout == "time_first" else given}
        if config.sequence_lengths is not None:
            feeds[config.sequence_lengths] = lengths
        if self.takes_state:
            name = next(iter(self.recurrent))
            layout = self.state_layout(name)
            if hx is None:
                hx = layout.given(State.zeros(layout.spec, len(inputs), torch.empty(0)))
            states = hx if isinstance(hx, tuple) else (hx,)
            feeds |= dict(zip(config.initial_state, states, strict=True))
        return {
            name: np.ascontiguousarray(value.numpy(force=True), self._dtypes[name]) for name, value in feeds.items()
        }

    def _prediction(self, made: Mapping[str, np.ndarray]) -> Tensor | None:
        if self.config.prediction is None:
            return None
        values = torch.from_numpy(made[self.config.prediction])
        is_turned = self.config.layout == "time_first" and values.dim() == _SEQUENCE
        return values.transpose(0, 1) if is_turned else values

    def _values_of(self, node: RecurrentNode) -> list[str]:
        """What has to be fetched to see a node's call."""
        read = (node.inputs[name] for name in ("X", "sequence_lens", "initial_h", "initial_c") if name in node.inputs)
        return [*(name for name in read if name in self._graph.ancestry.producers), *node.outputs.values()]

    @property
    def _constants(self) -> Mapping[str, Any]:
        return self._graph.ancestry.constants


def _call(node: RecurrentNode, values: Mapping[str, np.ndarray], constants: Mapping[str, Any], rows: int) -> Call:
    """A node's run in the library's form."""

    def read(name: str) -> Tensor | None:
        key = node.inputs.get(name)
        if key is None:
            return None
        return torch.from_numpy(values[key] if key in values else proto.array(constants[key]).copy())

    given = read("X")
    if given is None:
        raise TypeError("a recurrent node reads X")
    inputs = given.transpose(0, 1).float()  # (batch, time, feature)
    stated = read("sequence_lens")
    lengths = torch.full((len(inputs),), inputs.shape[1]) if stated is None else stated.long()
    y, *finals = (torch.from_numpy(values[name]) for name in node.outputs.values())
    output = y.permute(2, 0, 1, 3).flatten(2).float()  # (batch, time, directions · unit)
    spec = Spec.from_module(node.module)
    begin = [read(name) for name in ("initial_h", "initial_c")[: len(finals)]]
    zeros = State.zeros(spec, rows, inputs)
    initial = State(*(zero if value is None else value.float() for zero, value in zip(zeros, begin, strict=True)))
    if node.is_reverse:
        inputs, output = (_reversed(each, lengths) for each in (inputs, output))
    return Call(inputs, lengths, initial, output, State(*(value.float() for value in finals)), ran_elsewhere=True)


def _given_back(node: RecurrentNode, call: Call) -> dict[str, np.ndarray]:
    """The values of a node's outputs, by their names in the graph: the reverse of what `_call` does with them."""
    valid = padding.is_valid(call.lengths, call.output.shape[1])[..., None]  # (batch, time, 1)
    output = call.output.where(valid, 0)  # as a node has it where a sequence has ended
    output = _reversed(output, call.lengths) if node.is_reverse else output
    directions = Spec.from_module(node.module).num_directions
    apart = output.reshape(*output.shape[:2], directions, -1)  # (batch, time, direction, unit)
    y = apart.permute(1, 2, 0, 3)
    return {
        name: values.contiguous().numpy(force=True)
        for name, values in zip(node.outputs.values(), (y, *call.final_state), strict=True)
    }


def _reversed(values: Tensor, lengths: Tensor) -> Tensor:
    """(batch, time, …) with each row reversed within its own length."""
    turned = values.clone()
    for row, length in enumerate(lengths.tolist()):
        turned[row, :length] = values[row, :length].flip(0)
    return turned
