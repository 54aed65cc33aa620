"""`ExportedProgram`: an archive of `torch.export` as a program; hooks hear its recurrent modules."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from gatescope.capture import Call, Calls, capture_calls, recurrent_modules
from gatescope.cells import GRU, LSTM
from gatescope.errors import ManifestError
from gatescope.pipeline.export.module import ExportedModule
from gatescope.pipeline.program.graph_config import GraphConfig
from gatescope.pipeline.program.program import Program, Replaced, Returned, zeroed
from gatescope.pipeline.program.state_layout import StateLayout
from gatescope.spec import Spec
from gatescope.state import State

_PER_LAYER = 3  # axes of a state (layers · directions, batch, size)


class ExportedProgram(Program):
    """The graph of an archive, on any device.

    Args:
        module: of the archive.
        config: what its inputs and outputs are.

    Raises:
        ManifestError: the graph has no such input or output.
    """

    kind = "a graph"
    subject = "the graph"
    takes_no_state = "its graph takes no state"
    gives_no_state = "its graph gives no state back"
    is_stateless = True
    is_reentrant = False

    def __init__(self, module: ExportedModule, config: GraphConfig) -> None:
        super().__init__()
        self.config, self.module = config, module
        self._inputs = {each.name: each for each in module.inputs}
        self._outputs = {each.name: index for index, each in enumerate(module.outputs)}
        self._check_names()
        self.recurrent = recurrent_modules(module)
        self.takes_lengths = config.sequence_lengths is not None
        self.takes_state = bool(config.initial_state)
        self.is_probability = config.is_probability
        self.fixed_batch, self.fixed_steps = module.fixed_batch, module.fixed_steps

    def _check_names(self) -> None:
        config = self.config
        if config.layout != "batch_first":
            raise ManifestError("an archive of torch.export is read with the batch first")
        named = {config.input, *config.initial_state, *([config.sequence_lengths] if config.sequence_lengths else [])}
        for name in sorted(named ^ self._inputs.keys()):
            what = "is not described in [graph]" if name in self._inputs else "is in [graph], but is no input of it"
            raise ManifestError(f"the input '{name}' {what}; the graph's inputs are {', '.join(self._inputs)}")
        for given in (config.prediction, *config.final_state):
            if given is not None and given not in self._outputs:
                known = ", ".join(self._outputs)
                raise ManifestError(f"[graph] names the output '{given}', but the graph's are {known}")

    @property
    def parameter_count(self) -> int:
        """The numbers of its parameters and buffers, but for whole ones."""
        tensors = (*self.module.parameters(), *self.module.buffers())
        return sum(tensor.numel() for tensor in tensors if tensor.is_floating_point())

    def state_layout(self, first: str) -> StateLayout:
        """That of the graph's inputs; of a graph without, that of the module that runs first."""
        layout = StateLayout.of(self.recurrent[first])
        if not self.config.initial_state:
            return StateLayout(layout.spec, layout.is_cell, self.subject)
        shapes = [self._inputs[name].shape for name in self.config.initial_state]
        is_cell = len(shapes[0]) < _PER_LAYER
        entries, size = 1 if is_cell else shapes[0][0], shapes[0][-1]
        if any(shape[-1] != size for shape in shapes) and len(shapes) != len(layout.spec.cell.states):
            raise ManifestError("the graph's states must be of one size")
        spec = layout.spec
        if (spec.state_entries, spec.hidden_state_size, len(spec.cell.states)) != (entries, size, len(shapes)):
            spec = Spec(spec.input_size, size, num_layers=entries, cell=LSTM if len(shapes) > 1 else GRU)
        return StateLayout(spec, is_cell, self.subject)

    def begin(self, first: Call) -> State:
        """Zeros, as PyTorch has it where nobody gives a state."""
        if not self.config.initial_state:
            return first.initial_state
        return State.zeros(self.state_layout(next(iter(self.recurrent))).spec, 1, torch.empty(0))

    def run(
        self, inputs: Tensor, lengths: Tensor, hx: Any, watched: Collection[str], replaced: Replaced
    ) -> tuple[Returned, Calls]:
        """What the graph gives for these rows, and the calls that the hooks heard."""
        config = self.config
        given = {config.input: zeroed(inputs, lengths) if self.takes_lengths else inputs}
        if config.sequence_lengths is not None:
            given[config.sequence_lengths] = lengths
        if config.initial_state:
            layout = self.state_layout(next(iter(self.recurrent)))
            states = layout.given(State.zeros(layout.spec, len(inputs), inputs.float())) if hx is None else hx
            given |= dict(zip(config.initial_state, states if isinstance(states, tuple) else (states,), strict=True))
        modules = {name: self.recurrent[name] for name in watched}
        with capture_calls(modules, replaced) as calls:
            made = self.module(*(given[name] for name in self._inputs))
        prediction = None if config.prediction is None else made[self._outputs[config.prediction]]
        finals = tuple(made[self._outputs[name]] for name in config.final_state)
        return Returned(prediction, finals if len(finals) > 1 else next(iter(finals), None)), calls
