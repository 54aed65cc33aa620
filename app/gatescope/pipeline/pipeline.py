"""`Pipeline`: raw request values -> prediction, output, states and trace, as one module."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from gatescope.analysis.analysis import Need
from gatescope.backends.probe import backend_of
from gatescope.errors import InvalidInput, Place
from gatescope.interventions import stated
from gatescope.interventions.checks import check
from gatescope.interventions.intervention import FIELD
from gatescope.pipeline import horizon, window
from gatescope.pipeline.features import FeatureInputs
from gatescope.pipeline.heads import Head, HeadConfig, Task
from gatescope.pipeline.layout import map_state, map_tensors
from gatescope.pipeline.query import Answer, Query
from gatescope.pipeline.tokens import TokenInputs
from gatescope.selection import Selection
from gatescope.spec import Spec
from gatescope.state import State
from gatescope.tracing import Trace

_ANY = -1
_NATIVE = (torch.float32, torch.float64, torch.int64)  # as requests give them


@dataclass(frozen=True)
class ModuleInputs:
    """What an LSTM of a pipeline reads."""

    aligned: bool
    """Whether its time step t reads the inputs' time step t, and no other."""

    names: Sequence[str] | None
    """What its inputs are called; None for one-hot tokens, which the vocabulary names."""


class Pipeline(nn.Module, ABC):
    """A trained model as it is served; it holds no request's state.

    Args:
        inputs: what the model takes.
        vocabulary_size: how many tokens there are, for token inputs.
    """

    heads: Mapping[str, Head]
    """What is predicted, by name; empty where nothing is. The first is the prediction of replies."""

    lstm: nn.RNNBase
    """The LSTM that is looked into where none is named."""

    lstms: Mapping[str, nn.RNNBase]
    """Every `nn.LSTM` that can be looked into, by name; the first where none is named."""

    takes_initial_state: bool
    """Whether a request may say where the LSTM starts."""

    takes_no_state: str = ""
    """Why not, as the end of a sentence."""

    runs_in_parts: bool
    """Whether a sequence may be run part by part, the LSTM's state carried from one to the next."""

    rows_are_independent: bool
    """Whether a sequence is answered the same in any batch, so that requests may share one."""

    is_reentrant: bool
    """Whether several threads may ask it at once."""

    state_spec: Spec
    """The layout of the state that is carried from part to part; of several recurrent modules, all their states in one
    entry."""

    sums_up: bool
    """Whether a prediction needs all steps of a sequence at once, so that no part of it is enough for one."""

    fixed_steps: int | None = None
    """The only number of time steps that a sequence can have; None where it can have any."""

    window: int | None = None
    """How many time steps the sequences of the training had, where that is known."""

    horizon_refusal: str | None
    """Why predictions cannot run on beyond the inputs, as the end of a sentence; None where they can."""

    def __init__(self, inputs: FeatureInputs | TokenInputs, vocabulary_size: int | None) -> None:
        super().__init__()
        self.inputs, self.vocabulary_size = inputs, vocabulary_size
        self._specs: dict[str | None, Spec] = {}

    @abstractmethod
    def prediction_shape(self, steps: int, head: str | None = None) -> tuple[int, ...] | None:
        """The shape of the prediction of one sequence of so many steps: (step, value) or (value,); None without one.

        Args:
            steps: of the sequence.
            head: its name; the first where none is named.
        """

    @abstractmethod
    def module_inputs(self, module: str | None = None) -> ModuleInputs:
        """What this LSTM reads."""

    @abstractmethod
    def predict_on(self, query: Query) -> Generator[Tensor, Tensor]:
        """Give the prediction behind the last step (batch, value); for each row of inputs sent, that behind it."""

    @abstractmethod
    def predict_further(self, query: Query, inputs: Tensor, lengths: Tensor) -> Tensor:
        """The predictions (batch, horizon, value) of the further steps, which end each row of inputs."""

    @abstractmethod
    def head_refusals(self, module: str | None) -> Mapping[Need, str]:
        """Why the prediction cannot be computed from the output of a recurrent module, or not be differentiated.

        Args:
            module: the recurrent module; the first where none is named.

        Returns:
            A reason for "head" and "gradient" each, as a sentence without its end; those that can be are missing.
        """

    @abstractmethod
    def read_out(self, query: Query, module: str | None) -> Callable[[Tensor], Tensor]:
        """The prediction as a function of the output of a recurrent module.

        Only where `head_refusals` has no reason against it.

        Args:
            query: what else the prediction is made of.
            module: the recurrent module; the first where none is named.

        Returns:
            From (batch · n, time, directions · unit), n batches one after another, to (batch · n, time, value) or
            (batch · n, value); a prediction of steps of its own is one of each sequence.
        """

    @abstractmethod
    def predict_end(self, query: Query) -> Tensor:
        """The first head's prediction where each sequence of a query without a horizon ends, (batch, value)."""

    @abstractmethod
    def warmup_queries(self) -> list[Query]:
        """Queries to compute before the first request, which need not wait then for what happens once."""

    @abstractmethod
    def _run(self, query: Query) -> Answer:
        """All that is asked for, but the horizon."""

    def answer(self, query: Query) -> Answer:
        """Compute what is asked for, on the device of the weights; the answer's tensors lie on the CPU."""
        with torch.no_grad():
            if self.is_cpu_float32 and query.inputs.dtype in _NATIVE:
                return self._answer(query)
            return map_tensors(Tensor.cpu, self._answer(to_device(query, next(self.lstm.parameters()))))

    @cached_property
    def is_cpu_float32(self) -> bool:
        """Whether the weights lie where queries do, and in their precision."""
        weight = next(self.lstm.parameters())
        return weight.device.type == "cpu" and weight.dtype == torch.float32

    @cached_property
    def are_per_step(self) -> frozenset[bool]:
        """Whether the heads predict at each time step, or for a sequence as a whole; both where they differ."""
        shapes = (self.prediction_shape(_ANY, head) for head in self.heads)
        return frozenset(shape[0] == _ANY for shape in shapes if shape is not None)

    @property
    def own_steps(self) -> int | None:
        """For how many steps of its own it predicts, whatever steps a sequence has; None if it does not."""
        first, *rest = self.prediction_shape(_ANY) or (0,)
        return first if rest and first != _ANY else None

    @property
    def pooled_window(self) -> int | None:
        """How many time steps a sequence is cut to, its last ones; None of a model that predicts at each step only."""
        return self.window if self.window is not None and False in self.are_per_step else None

    @property
    def parameter_count(self) -> int:
        """How many numbers were trained."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def trace_method(self) -> str:
        """The backend that traces the first LSTM."""
        return backend_of(self.lstm)

    @property
    def spec(self) -> Spec:
        """The arguments of the first LSTM."""
        return self.spec_of(None)

    def lstm_of(self, module: str | None) -> nn.RNNBase:
        """The LSTM of this name, the first without one."""
        return self.lstm if module is None else self.lstms[module]

    def spec_of(self, module: str | None) -> Spec:
        """The arguments of the LSTM of this name, of the first without one."""
        if module not in self._specs:
            self._specs[module] = Spec.from_module(self.lstm_of(module))
        return self._specs[module]

    @property
    def head(self) -> Head | None:
        """The first head, None where nothing is predicted."""
        return next(iter(self.heads.values()), None)

    @property
    def task(self) -> Task | None:
        """Of the first head."""
        return None if self.head is None else self.head.config.task

    @property
    def predicts_next_step(self) -> bool:
        """Whether the prediction at step t is of step t + 1, so that it can be fed back."""
        return self.head is not None and predicts_next_step(self.head.config)

    def split_state(self, state: State) -> Mapping[str, State] | None:
        """The states of several recurrent modules by name, out of the one that is carried; None of a lone module's."""
        return None if len(self.state_modules) < 2 else _split(state, self.state_modules)  # noqa: PLR2004

    def join_states(self, states: Mapping[str, State]) -> State:
        """The state to carry, of the states of the modules by name."""
        return _joined([states[name] for name in self.state_modules])

    def initial_state(self, sequences: int) -> State:
        """The state to carry from which so many sequences begin that state none."""
        return State.zeros(self.state_spec, sequences, torch.empty(0))

    @property
    def state_modules(self) -> Mapping[str, Spec]:
        """The modules whose states are carried."""
        return {name: self.spec_of(name) for name in self.lstms} if self.runs_in_parts else {}

    def check_interventions(self, query: Query) -> None:
        """Refuse interventions that cannot be computed, or that do not fit.

        Raises:
            InvalidInput: they are such; every place is named.
        """
        if not query.interventions:
            return
        if self.pooled_window is not None and query.longest > self.pooled_window:
            raise InvalidInput.at(
                Place((FIELD,), f"this model reads the last {self.pooled_window:,} time steps: send no more than these")
            )
        if self.runs_over_inputs:
            lengths = query.sequence_lengths.tolist()
            check(query.interventions, self.spec_of(query.module), lengths, query.inputs.shape[1])

    @property
    def runs_over_inputs(self) -> bool:
        """Whether each recurrent module is known to have the time steps of the inputs before it runs."""
        return True

    def module_lengths(self, query: Query) -> Tensor:
        """(batch,) how many steps the recurrent module runs over that is looked at, without a horizon."""
        return query.sequence_lengths

    def with_stated_edits(self, query: Query, lengths: Tensor) -> Query:
        """The same query; what becomes of each value that is edited follows from the interventions alone.

        The mean over a sequence, for one, is read from the run without them.

        Args:
            query: without or before its horizon.
            lengths: as `module_lengths` gives them.

        Raises:
            InvalidInput: they do not fit; every place is named.
        """

        def baseline(selection: Selection) -> Trace:
            nothing = {"prediction": False, "output": False, "final_state": False, "explain": None}
            traced = self._run(query.evolve(interventions=(), horizon=0, trace=selection, **nothing)).trace
            if traced is None:
                raise TypeError("the answer holds no trace")
            return traced

        return query.evolve(
            interventions=stated(query.interventions, self.spec_of(query.module), lengths.tolist(), baseline)
        )

    def _answer(self, query: Query) -> Answer:
        query.raise_if_cancelled()
        self.check_interventions(query)
        if not query.horizon:
            return self._run(query) if self.window is None else window.answer(self, query, self._run)
        if query.interventions:
            # of each sequence's own steps: those of the horizon see the edited states
            lengths = self.module_lengths(query)
            query = self.with_stated_edits(query, lengths)
            own = (part for each in query.interventions for part in each.within(lengths.tolist()))
            query = query.evolve(interventions=tuple(own))
        inputs, lengths, prediction, generated = horizon.extend(self, query)
        extended = replace(query, inputs=inputs, sequence_lengths=lengths, prediction=False)
        answer = self._run(extended)
        return replace(answer, horizon=query.horizon, prediction=prediction, generated=generated)


def predicts_next_step(config: HeadConfig) -> bool:
    """Whether a head's prediction at step t is of step t + 1."""
    return config.task == "next_token" or config.predicts == "next_step"


def _joined(states: Sequence[State]) -> State:
    """The states of several modules, (layers · directions, batch, size) each, as one of one entry, (1, batch, all).

    A cell that lacks a state adds nothing to it.
    """
    if len(states) == 1:
        return states[0]
    count = max(map(len, states))
    columns = ([_flat(state[index]) for state in states if index < len(state)] for index in range(count))
    return State(*(torch.cat(column, dim=1)[None] for column in columns))


def _flat(value: Tensor) -> Tensor:
    """(layers · directions, batch, size) -> (batch, layers · directions · size)."""
    return value.transpose(0, 1).flatten(1)


def _split(state: State, specs: Mapping[str, Spec]) -> dict[str, State]:
    """The reverse of `_joined`."""
    parts: dict[str, list[Tensor]] = {name: [] for name in specs}
    for index, value in enumerate(state):
        having = {name: spec for name, spec in specs.items() if index < len(spec.cell.states)}
        sizes = [spec.state_entries * spec.state_sizes[index] for spec in having.values()]
        for (name, spec), part in zip(having.items(), value[0].split_with_sizes(sizes, dim=1), strict=True):
            parts[name].append(part.reshape(len(part), spec.state_entries, -1).transpose(0, 1).contiguous())
    return {name: State(*values) for name, values in parts.items()}


def joint_spec(specs: Sequence[Spec]) -> Spec:
    """A spec whose state is laid out like the states of all these modules in one entry."""
    if len(specs) == 1:
        return specs[0]
    most = max((spec.cell for spec in specs), key=lambda cell: len(cell.states))
    sizes = [
        sum(spec.state_entries * spec.state_sizes[index] for spec in specs if index < len(spec.cell.states))
        for index in range(len(most.states))
    ]
    hidden, widest = sizes[0], sizes[-1]
    return Spec(0, widest, proj_size=0 if hidden == widest else hidden, cell=most)


def to_device(query: Query, like: Tensor) -> Query:
    """The same query with its tensors where this one lies."""
    future, state, static = query.future_inputs, query.initial_state, query.static_inputs
    return replace(
        query,
        inputs=query.inputs.to(like.device),
        sequence_lengths=query.sequence_lengths.to(like.device),
        initial_state=None if state is None else map_state(lambda values: values.to(like), state),
        future_inputs=None if future is None else future.to(like.device),
        static_inputs=None if static is None else static.to(like.device),
    )
