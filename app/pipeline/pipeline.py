"""`Pipeline`: raw request values -> features -> `nn.LSTM` -> head -> prediction, as one module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from app.errors import ManifestError, WeightsError
from app.lstm import LSTMSpec, State, Trace, trace
from app.lstm.explain import explain
from app.lstm.forward import forward
from app.pipeline import horizon
from app.pipeline.features import FeatureEncoder, FeatureInputs
from app.pipeline.head import Head, HeadConfig
from app.pipeline.output import OutputConfig, OutputScale, Task
from app.pipeline.query import Answer, Prediction, Query
from app.pipeline.tokens import TokenEncoder, TokenInputs


class Pipeline(nn.Module):
    """A trained model as it is served; it holds no request's state.

    Args:
        inputs: what the model takes.
        vocabulary_size: how many tokens there are, for token inputs.
        task: what the head's values mean; None without a head.
        head: how the head reads the LSTM's output; None serves the LSTM alone.
        output: the meaning of the head's values.
        weights: `lstm.*`, and where they are part of the model `embedding.weight` and `head.*`.

    Raises:
        WeightsError: the weights are not an LSTM's, or a part is missing, surplus or of the wrong shape.
        ManifestError: the parts do not fit together; both sizes are shown.
    """

    def __init__(
        self,
        inputs: FeatureInputs | TokenInputs,
        vocabulary_size: int | None,
        task: Task | None,
        head: HeadConfig | None,
        output: OutputConfig,
        weights: Mapping[str, Tensor],
    ) -> None:
        super().__init__()
        self.inputs, self.task, self.output_config = inputs, task, output
        self.spec = LSTMSpec.from_state_dict(weights, prefix="lstm.")
        self.encoder = _encoder(inputs, vocabulary_size, weights)
        self.lstm = self.spec.build()
        self.lstm.load_state_dict({name: weights[f"lstm.{name}"] for name in self.spec.parameter_shapes()})
        self.head = None if head is None else Head(head, weights)
        self.scale = OutputScale(output) if task == "regression" else None
        self._check_widths(vocabulary_size)
        _refuse_surplus(self, weights)
        self.eval()

    def answer(self, query: Query) -> Answer:
        """Compute what is asked for, on the device of the weights; the answer's tensors lie on the CPU."""
        with torch.no_grad():
            return _to_cpu(self._answer(_to_device(query, next(self.lstm.parameters()))))

    @property
    def predicts_next_step(self) -> bool:
        """Whether the prediction at step t is of step t + 1, so that it can be fed back."""
        return self.task == "next_token" or self.output_config.predicts == "next_step"

    def initial_state(self, query: Query, encoded: Tensor) -> State:
        """The state that the query starts from."""
        return query.initial_state or State.zeros(self.spec, len(encoded), encoded)

    def predict_steps(self, output: Tensor) -> Tensor:
        """The head's values (…, value) from the LSTM's output at some steps (…, unit)."""
        if self.head is None:
            raise TypeError("a model without a head predicts nothing")
        return self._scaled(self.head.layers(output))

    def _answer(self, query: Query) -> Answer:
        query.go_on()
        inputs, lengths, prediction = query.inputs, query.sequence_lengths, None
        if query.horizon:
            inputs, lengths, prediction = horizon.extend(self, query)
        if query.explain is not None:
            encoded = self.encoder(inputs)
            explained = explain(self.lstm, encoded[0], self.initial_state(query, encoded), query.explain)
            return Answer(lengths, inputs, query.horizon, explained=explained)
        needs_steps = query.output or query.final_state or query.trace is not None
        if not needs_steps and (prediction is not None or not query.prediction):
            return Answer(lengths, inputs, query.horizon, prediction if query.prediction else None)
        encoded = self.encoder(inputs)
        traced, state = None, self.initial_state(query, encoded)
        if query.trace is not None:
            traced = trace(self.lstm, encoded, lengths, state, query.trace).settled()
            output, final_state = traced.output, traced.final_state
        else:
            output, final_state = forward(self.lstm, encoded, lengths, state)
        if query.prediction and prediction is None:
            prediction = self._prediction(output, lengths)
        return Answer(
            sequence_lengths=lengths,
            inputs=inputs,
            horizon=query.horizon,
            prediction=prediction if query.prediction else None,
            output=output if query.output else None,
            final_state=final_state if query.final_state else None,
            trace=traced,
        )

    def _prediction(self, output: Tensor, lengths: Tensor) -> Prediction | None:
        if self.head is None:
            return None
        values = self._scaled(self.head(output, lengths))
        choices = None if self.task == "regression" else values.argmax(dim=-1)
        return Prediction(values, lengths if self.head.per_step else None, choices)

    def _scaled(self, values: Tensor) -> Tensor:
        return values if self.scale is None else self.scale(values)

    def _check_widths(self, vocabulary_size: int | None) -> None:
        if self.encoder.width != self.spec.input_size:
            raise ManifestError(
                f"the manifest's inputs fill {self.encoder.width} values a time step, but the weights' nn.LSTM has "
                f"input_size {self.spec.input_size}"
            )
        if self.head is None:
            return
        if self.head.input_size != self.spec.output_size:
            raise ManifestError(
                f"the head takes {self.head.input_size} values, but the nn.LSTM's output has {self.spec.output_size}"
            )
        kind, count = self._outputs(vocabulary_size)
        if self.head.output_size != count:
            raise ManifestError(f"the head gives {self.head.output_size} values, but there are {count} {kind}")

    def _outputs(self, vocabulary_size: int | None) -> tuple[str, int | None]:
        if self.task == "next_token":
            return "vocabulary entries", vocabulary_size
        if self.task == "regression":
            return "output.names", len(self.output_config.names)
        return "output.labels", len(self.output_config.labels)


def _encoder(
    inputs: FeatureInputs | TokenInputs, vocabulary_size: int | None, weights: Mapping[str, Tensor]
) -> FeatureEncoder | TokenEncoder:
    if isinstance(inputs, FeatureInputs):
        return FeatureEncoder(inputs)
    embedding = weights.get("embedding.weight")
    if vocabulary_size is None:
        raise ManifestError("a model of tokens needs a vocabulary")
    if embedding is not None and embedding.dim() != 2:  # noqa: PLR2004
        raise WeightsError(f"'embedding.weight' must be a matrix, but has shape {list(embedding.shape)}")
    if embedding is not None and len(embedding) != vocabulary_size:
        raise ManifestError(
            f"'embedding.weight' has {len(embedding)} rows, but the vocabulary has {vocabulary_size} entries"
        )
    return TokenEncoder(vocabulary_size, embedding)


def _refuse_surplus(pipeline: Pipeline, weights: Mapping[str, Tensor]) -> None:
    used = {f"lstm.{name}" for name in pipeline.spec.parameter_shapes()}
    if isinstance(pipeline.encoder, TokenEncoder):
        used.add("embedding.weight")
    if pipeline.head is not None:
        used |= pipeline.head.names
    if surplus := sorted(weights.keys() - used):
        raise WeightsError(
            f"the weights hold '{surplus[0]}', which the manifest gives no place: "
            "the service reads lstm.*, embedding.weight for tokens, and head.* with a [head]"
        )


def _to_device(query: Query, like: Tensor) -> Query:
    future, state = query.future_inputs, query.initial_state
    return replace(
        query,
        inputs=_as(query.inputs, like),
        sequence_lengths=query.sequence_lengths.to(like.device),
        initial_state=None if state is None else State(*state).to(like),
        future_inputs=None if future is None else _as(future, like),
    )


def _as(inputs: Tensor, like: Tensor) -> Tensor:
    return inputs.to(like.device, like.dtype) if inputs.is_floating_point() else inputs.to(like.device)


T = TypeVar("T")


def _to_cpu(value: T) -> T:
    """The same answer with every tensor in it on the CPU."""
    if isinstance(value, Tensor):
        return value.cpu()  # type: ignore[return-value]
    if isinstance(value, dict):
        return {key: _to_cpu(item) for key, item in value.items()}  # type: ignore[return-value]
    if isinstance(value, State):
        return State(*(item.cpu() for item in value))  # type: ignore[return-value]
    if isinstance(value, Answer | Prediction | Trace):
        return replace(value, **{field.name: _to_cpu(getattr(value, field.name)) for field in fields(value)})
    return value
