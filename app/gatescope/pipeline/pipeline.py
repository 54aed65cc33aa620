"""`Pipeline`: raw request values -> prediction, output, states and trace, as one module."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from gatescope.pipeline import horizon
from gatescope.pipeline.features import FeatureInputs
from gatescope.pipeline.layout import map_state, map_tensors
from gatescope.pipeline.output import OutputConfig, OutputScale, Task
from gatescope.pipeline.query import Answer, Prediction, Query
from gatescope.pipeline.tokens import TokenInputs
from gatescope.spec import Spec

_NATIVE = (torch.float32, torch.int64)  # as requests give them


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
        task: what the values of a prediction mean; None where there is none.
        output: their names, labels and scale.
    """

    lstm: nn.RNNBase
    """The LSTM that is looked into where none is named."""

    lstms: Mapping[str, nn.RNNBase]
    """Every `nn.LSTM` that can be looked into, by name; the first where none is named."""

    takes_initial_state: bool
    """Whether a request may say where the LSTM starts."""

    runs_in_parts: bool
    """Whether a sequence may be run part by part, the LSTM's state carried from one to the next."""

    rows_are_independent: bool
    """Whether a sequence is answered the same in any batch, so that requests may share one."""

    is_reentrant: bool
    """Whether several threads may ask it at once."""

    sums_up: bool
    """Whether a prediction needs all steps of a sequence at once, so that no part of it is enough for one."""

    horizon_refusal: str | None
    """Why predictions cannot run on beyond the inputs, as the end of a sentence; None where they can."""

    def __init__(
        self, inputs: FeatureInputs | TokenInputs, vocabulary_size: int | None, task: Task | None, output: OutputConfig
    ) -> None:
        super().__init__()
        self.inputs, self.task, self.output_config = inputs, task, output
        self.vocabulary_size = vocabulary_size
        self.scale = OutputScale(output) if task == "regression" else None
        self._specs: dict[str | None, Spec] = {}

    @abstractmethod
    def prediction_shape(self, steps: int) -> tuple[int, ...] | None:
        """The shape of the prediction of one sequence of so many steps: (step, value) or (value,); None without one."""

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
            return map_tensors(Tensor.cpu, self._answer(_to_device(query, next(self.lstm.parameters()))))

    @cached_property
    def is_cpu_float32(self) -> bool:
        """Whether the weights lie where queries do, and in their precision."""
        weight = next(self.lstm.parameters())
        return weight.device.type == "cpu" and weight.dtype == torch.float32

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
    def predicts_next_step(self) -> bool:
        """Whether the prediction at step t is of step t + 1, so that it can be fed back."""
        return self.task == "next_token" or self.output_config.predicts == "next_step"

    def _answer(self, query: Query) -> Answer:
        query.raise_if_cancelled()
        if not query.horizon:
            return self._run(query)
        inputs, lengths, prediction = horizon.extend(self, query)
        extended = replace(query, inputs=inputs, sequence_lengths=lengths, prediction=False)
        return replace(self._run(extended), horizon=query.horizon, prediction=prediction if query.prediction else None)

    def _prediction(self, values: Tensor, steps: Tensor | None) -> Prediction:
        return Prediction(values, steps, None if self.task == "regression" else values.argmax(dim=-1))

    def _scaled(self, values: Tensor) -> Tensor:
        return values if self.scale is None else self.scale(values)

    def _values_wanted(self) -> tuple[str, int | None]:
        """What the values of a prediction stand for, and how many there must be."""
        if self.task == "next_token":
            return "vocabulary entries", self.vocabulary_size
        if self.task == "regression":
            return "output.names", len(self.output_config.names)
        return "output.labels", len(self.output_config.labels)


def _to_device(query: Query, like: Tensor) -> Query:
    future, state = query.future_inputs, query.initial_state
    return replace(
        query,
        inputs=_as(query.inputs, like),
        sequence_lengths=query.sequence_lengths.to(like.device),
        initial_state=None if state is None else map_state(lambda values: values.to(like), state),
        future_inputs=None if future is None else _as(future, like),
    )


def _as(inputs: Tensor, like: Tensor) -> Tensor:
    return inputs.to(like.device, like.dtype) if inputs.is_floating_point() else inputs.to(like.device)
