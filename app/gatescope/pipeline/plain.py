"""`PlainPipeline`: features or tokens -> `nn.LSTM` -> head, built from the names and shapes of the weights alone."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from gatescope import padding
from gatescope.decompose import explain
from gatescope.errors import ManifestError, WeightsError
from gatescope.forward import forward
from gatescope.pipeline.features import FeatureEncoder, FeatureInputs
from gatescope.pipeline.head import Head, HeadConfig
from gatescope.pipeline.output import OutputConfig, Task
from gatescope.pipeline.pipeline import ModuleInputs, Pipeline
from gatescope.pipeline.query import LSTM, Answer, Prediction, Query
from gatescope.pipeline.tokens import TokenEncoder, TokenInputs
from gatescope.spec import Spec
from gatescope.state import State
from gatescope.tracing import trace

WARMED = ((1, 1), (1, 32), (8, 32))
"""Rows and time steps of what a model reads before it is asked."""

MOST_KEPT = 16 * 1024
"""The zeros from which a run begins are kept if they have at most so many rows times units: to make them anew costs
little beside such a run, but each small operation gives the interpreter away and must wait to get it back."""


class PlainPipeline(Pipeline):
    """A plain module: its LSTM reads the inputs step by step, its head reads the LSTM.

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

    takes_initial_state = True
    runs_in_parts = True
    rows_are_independent = True
    is_reentrant = True

    def __init__(
        self,
        inputs: FeatureInputs | TokenInputs,
        vocabulary_size: int | None,
        task: Task | None,
        head: HeadConfig | None,
        output: OutputConfig,
        weights: Mapping[str, Tensor],
    ) -> None:
        super().__init__(inputs, vocabulary_size, task, output)
        spec = Spec.from_state_dict(weights, prefix="lstm.")
        self.encoder = _encoder(inputs, vocabulary_size, weights)
        self.lstm = spec.build()
        self.lstm.load_state_dict({name: weights[f"lstm.{name}"] for name in spec.parameter_shapes()})
        self.head = None if head is None else Head(head, weights, spec.num_directions)
        self.lstms = {LSTM: self.lstm}
        self.sums_up = self.head is not None and self.head.steps in ("mean", "max")
        self.horizon_refusal = _horizon_refusal(self)
        self._check_widths()
        _refuse_surplus(self, weights)
        self.eval()

    def prediction_shape(self, steps: int) -> tuple[int, ...] | None:
        """As the head gives it."""
        if self.head is None:
            return None
        return (steps, self.head.output_size) if self.head.per_step else (self.head.output_size,)

    def module_inputs(self, module: str | None = None) -> ModuleInputs:  # noqa: ARG002 - there is but one
        """Features by name, the entries of an embedding by number."""
        if isinstance(self.inputs, FeatureInputs):
            return ModuleInputs(True, self.inputs.input_names)
        if isinstance(self.encoder, TokenEncoder) and self.encoder.embedding is None:
            return ModuleInputs(True, None)
        return ModuleInputs(True, [f"embedding {index}" for index in range(self.encoder.width)])

    def predict_on(self, query: Query) -> Generator[Tensor, Tensor]:
        """The LSTM's state is carried, so each further row costs one step."""
        encoded, lengths = self.encoder(query.inputs), query.sequence_lengths
        begin = self._initial_state(query, encoded)
        output, state = forward(self.lstm, encoded, lengths, begin, ragged=query.is_ragged)
        row = yield self._predicted(padding.at_last_step(output, lengths))
        one_step = torch.ones_like(lengths)
        while state is not None:
            output, state = forward(self.lstm, self.encoder(row[:, None]), one_step, state, ragged=False)
            row = yield self._predicted(output[:, 0])

    def predict_further(self, query: Query, inputs: Tensor, lengths: Tensor) -> Tensor:
        """The head, whatever it reads else, reads each further step."""
        encoded = self.encoder(inputs)
        state = self._initial_state(query, encoded)
        ragged = query.is_ragged
        output, _ = forward(self.lstm, encoded, lengths, state, ragged=ragged, with_state=False, with_padding=False)
        steps = torch.arange(query.horizon, device=lengths.device) + query.sequence_lengths[:, None]  # (batch, horizon)
        return self._predicted(output.take_along_dim(steps[..., None], dim=1))

    def warmup_queries(self) -> list[Query]:
        """A few sequences, alone and together, short and less short: each kernel must be made once."""
        inputs = self.inputs
        width, dtype = ([len(inputs.names)], torch.float32) if isinstance(inputs, FeatureInputs) else ([], torch.int64)
        return [
            Query(torch.zeros(rows, steps, *width, dtype=dtype), torch.full((rows,), steps), output=True)
            for rows, steps in WARMED
        ]

    def _run(self, query: Query) -> Answer:
        lengths, traced = query.sequence_lengths, None
        answer = Answer(lengths, query.inputs)
        if not query.looks_inside and not query.prediction:
            return answer
        encoded = self.encoder(query.inputs)
        begin, final_state = self._initial_state(query, encoded), None
        if query.explain is not None:
            return replace(answer, explained=explain(self.lstm, encoded[0], begin, query.explain))
        if query.trace is not None:
            traced = trace(self.lstm, encoded, lengths, begin, query.trace).with_residual()
            output, final_state = traced.output, traced.final_state
        else:
            output, final_state = forward(
                self.lstm,
                encoded,
                lengths,
                begin,
                ragged=query.is_ragged,
                with_state=query.final_state,
                with_padding=query.output or self.head is None or self.head.reads_padding,
            )
        return replace(
            answer,
            prediction=self._of(output, query) if query.prediction else None,
            output=output if query.output else None,
            final_state=final_state if query.final_state else None,
            trace=traced,
        )

    def _of(self, output: Tensor, query: Query) -> Prediction | None:
        if self.head is None:
            return None
        values = self._scaled(self.head(output, query.sequence_lengths if query.is_ragged else None))
        return self._prediction(values, query.sequence_lengths if self.head.per_step else None)

    def _predicted(self, output: Tensor) -> Tensor:
        """The head's values (…, value) from the LSTM's output at some steps (…, unit)."""
        if self.head is None:
            raise TypeError("a model without a head predicts nothing")
        return self._scaled(self.head.layers(output))

    def _initial_state(self, query: Query, encoded: Tensor) -> State:
        if query.initial_state is not None:
            return query.initial_state
        if len(encoded) * self.spec.hidden_size > MOST_KEPT:
            return State.zeros(self.spec, len(encoded), encoded)
        return _zeros(self.spec, len(encoded), encoded.dtype, encoded.device)

    def _check_widths(self) -> None:
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
        kind, count = self._values_wanted()
        if self.head.output_size != count:
            raise ManifestError(f"the head gives {self.head.output_size} values, but there are {count} {kind}")


@lru_cache(maxsize=256)
def _zeros(spec: Spec, rows: int, dtype: torch.dtype, device: torch.device) -> State:
    """Where most runs begin; nobody writes into it."""
    return State.zeros(spec, rows, torch.empty(0, dtype=dtype, device=device))


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


def _refuse_surplus(pipeline: PlainPipeline, weights: Mapping[str, Tensor]) -> None:
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


def _horizon_refusal(pipeline: PlainPipeline) -> str | None:
    """A head must predict where the sequence ends; what reads back must not read both ways."""
    task, head = pipeline.task, pipeline.head
    if task not in ("regression", "next_token") or head is None or head.steps in ("mean", "max"):
        return f"({task or 'an LSTM without a head'}) has no prediction that could run on"
    if pipeline.spec.bidirectional and (pipeline.predicts_next_step or head.steps != "all"):
        return "reads both ways: a step added at the end would change all before it"
    return None
