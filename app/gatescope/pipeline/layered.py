"""`LayeredPipeline`: inputs -> the layers of a manifest -> heads, built from the names and shapes of the weights."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from gatescope.analysis.analysis import Need
from gatescope.errors import InvalidInput, ManifestError, Place
from gatescope.pipeline.features import FeatureEncoder, FeatureInputs, StaticInputs
from gatescope.pipeline.graph import INPUTS, STATIC, Graph, Look, Run
from gatescope.pipeline.heads import Head, HeadConfig
from gatescope.pipeline.layers import LayerConfig
from gatescope.pipeline.layers.crf import CRF
from gatescope.pipeline.layers.layer import Shape, Steps
from gatescope.pipeline.pipeline import ModuleInputs, Pipeline, joint_spec, to_device
from gatescope.pipeline.query import Answer, Prediction, Query
from gatescope.pipeline.tokens import TokenInputs
from gatescope.spec import Spec
from gatescope.state import State

WARMED = ((1, 1), (1, 32), (8, 32))
"""Rows and time steps of what a model reads before it is asked."""


class LayeredPipeline(Pipeline):
    """A model of the layers that its manifest lists.

    Args:
        inputs: what the model takes.
        static: what it takes once for each sequence; None where it takes nothing.
        vocabulary_size: how many tokens there are, for token inputs.
        layers: in the order in which they run.
        heads: what is predicted; none serves the recurrent layers alone.
        weights: of all layers.
        ignored: names or prefixes of weights that are left aside knowingly.

    Raises:
        WeightsError: a weight is missing, surplus or of the wrong shape.
        ManifestError: the parts do not fit together; both sizes are shown.
    """

    takes_initial_state = True
    rows_are_independent = True
    is_reentrant = True

    def __init__(
        self,
        inputs: FeatureInputs | TokenInputs,
        static: StaticInputs | None,
        vocabulary_size: int | None,
        layers: Sequence[LayerConfig],
        heads: Sequence[HeadConfig],
        weights: Mapping[str, Tensor],
        *,
        ignored: Collection[str] = (),
    ) -> None:
        super().__init__(inputs, vocabulary_size)
        self.encoder = FeatureEncoder(inputs) if isinstance(inputs, FeatureInputs) else nn.Identity()
        self.static_encoder = None if static is None else FeatureEncoder(static)
        given = {INPUTS: _shape(inputs, vocabulary_size)}
        if static is not None:
            names = tuple(static.input_names)
            given[STATIC] = Shape(static.width, is_sequence=False, names=names, is_static=True)
        self.graph = Graph(layers, given, weights, ignored)
        self.lstms = {name: layer.module for name, layer in self.graph.recurrent.items()}
        self.lstm = next(iter(self.lstms.values()))
        self._layer_of = {head.name: head.layer or self.graph.last for head in heads}
        self._wanted = frozenset(self._layer_of.values())
        self.heads = {head.name: self._head(head) for head in heads}
        self.head_modules = nn.ModuleList(self.heads.values())  # under numbers: a name may be one of nn.Module's own
        shapes = [self.graph.shapes[name] for name in self._layer_of.values()]
        self.sums_up = any(shape.sums_up for shape in shapes)
        self.runs_in_parts = self.graph.runs_in_parts and all(shape.is_local for shape in shapes)
        self.state_spec = joint_spec([layer.spec for layer in self.graph.recurrent.values()])
        self.horizon_refusal = self._horizon_refusal()
        skipped = inputs.masked if isinstance(inputs, FeatureInputs) else inputs.padding
        self._skips = skipped is not None
        self.eval()

    @property
    def state_modules(self) -> Mapping[str, Spec]:
        """All recurrent layers, whether or not the model can be run part by part."""
        return {name: layer.spec for name, layer in self.graph.recurrent.items()}

    def prediction_shape(self, steps: int, head: str | None = None) -> tuple[int, ...] | None:
        """As the head's layer gives it."""
        if not self._layer_of:
            return None
        shape = self.graph.shapes[self._layer_of[head or next(iter(self._layer_of))]]
        return (steps, shape.width) if shape.is_sequence else (shape.width,)

    def module_inputs(self, module: str | None = None) -> ModuleInputs:
        """Features by name, the numbers of another layer by its name and their number."""
        (read,) = self.graph.reads[self._module(module)]
        return ModuleInputs(True, self.graph.shapes[read].names)

    def initial_state(self, sequences: int) -> State:
        """Zeros, or what the model has learned."""
        like = torch.empty(0)
        states = {}
        for name, layer in self.graph.recurrent.items():
            learned = layer.initial_state(sequences)
            states[name] = State.zeros(layer.spec, sequences, like) if learned is None else learned.to(like)
        return self.join_states(states)

    def predict_on(self, query: Query) -> Generator[Tensor, Tensor]:
        """The recurrent layers' states are carried, so each further row costs one step."""
        steps = Steps(query.sequence_lengths, query.inputs.shape[1], ragged=query.is_ragged)
        run = self._values(query, query.inputs, steps, self._begin(query))
        query = query.evolve(interventions=())
        row = yield self._at_end(run, steps)
        one_step = Steps(torch.ones_like(query.sequence_lengths), 1, ragged=False)
        while True:
            run = self._values(query, row[:, None], one_step, run.states)
            row = yield self._at_end(run, one_step)

    def predict_further(self, query: Query, inputs: Tensor, lengths: Tensor) -> Tensor:
        """The layers read the known features of the further steps, too."""
        first = query.sequence_lengths
        steps = torch.arange(query.horizon, device=lengths.device) + first[:, None]  # (batch, horizon)
        is_per_step = self.graph.shapes[self._layer_of[self._first]].is_sequence
        if not self.runs_in_parts and not is_per_step:
            ends = (replace(query, inputs=inputs, sequence_lengths=first + step + 1) for step in range(query.horizon))
            return torch.stack([self.predict_end(each) for each in ends], dim=1)
        every = Steps(lengths, inputs.shape[1], ragged=query.is_ragged, ends_everywhere=not is_per_step)
        run = self._values(query, inputs, every, self._begin(query), with_states=False)
        return self._scaled(run).take_along_dim(steps[..., None], dim=1)

    def predict_end(self, query: Query) -> Tensor:
        """One run."""
        steps = Steps(query.sequence_lengths, query.inputs.shape[1], ragged=True)
        return self._at_end(self._values(query, query.inputs, steps, self._begin(query), with_states=False), steps)

    def head_refusals(self, module: str | None) -> Mapping[Need, str]:  # noqa: ARG002 - the same of all
        """None if there is a head."""
        return {} if self._layer_of else {"head": "the model predicts nothing"}

    def read_out(self, query: Query, module: str | None) -> Callable[[Tensor], Tensor]:
        """The layers behind the module; where others lie beside it, they read the query's inputs."""
        query = to_device(query, next(self.lstm.parameters()))
        name, given, begin = self._module(module), self._given(query), self._begin(query)
        wanted, lengths = frozenset({self._layer_of[self._first]}), query.sequence_lengths

        def predict(output: Tensor) -> Tensor:
            count = output.shape[0] // query.sequences
            repeated = {name: value.repeat(count, *(1,) * (value.dim() - 1)) for name, value in given.items()}
            states = {name: State(*(each.repeat(1, count, 1) for each in state)) for name, state in begin.items()}
            steps = Steps(lengths.repeat(count), query.inputs.shape[1], ragged=query.is_ragged)
            return self._scaled(self.graph.run(repeated, steps, states, wanted, replaced={name: output}))

        return predict

    def warmup_queries(self) -> list[Query]:
        """A few sequences, alone and together, short and less short: each kernel must be made once."""
        static, step = self.static_encoder, _ordinary_step(self.inputs)
        return [
            Query(
                torch.from_numpy(np.repeat(step[None], rows * steps, axis=0).reshape(rows, steps, *step.shape)),
                torch.full((rows,), steps),
                static_inputs=None if static is None else torch.zeros(rows, len(static.features)),
                output=True,
            )
            for rows, steps in ((rows, min(steps, self.window or steps)) for rows, steps in WARMED)
        ]

    def _run(self, query: Query) -> Answer:
        lengths, module = query.sequence_lengths, self._module(query.module)
        answer = Answer(lengths, query.inputs, module=module)
        if not query.looks_inside and not query.prediction:
            return answer
        look = None
        if query.output or query.trace is not None or query.explain is not None or query.interventions:
            edits = query.interventions, query.raise_if_cancelled
            look = Look(module, query.output, query.trace, query.explain, *edits)
        steps = Steps(lengths, query.inputs.shape[1], ragged=query.is_ragged)
        wanted = self._wanted if query.prediction and query.explain is None else frozenset()
        with_states = query.final_state and query.explain is None
        run = self.graph.run(self._given(query), steps, self._begin(query), wanted, look, with_states=with_states)
        if query.explain is not None:
            return replace(answer, explained=run.explained)
        first, *others = self._predictions(run, steps) if wanted else [None]
        return replace(
            answer,
            prediction=first,
            heads=dict(zip(list(self.heads)[1:], others, strict=True)) if others else None,  # type: ignore[arg-type]
            output=run.output,
            final_state=self.join_states(run.states) if with_states else None,
            trace=run.trace,
        )

    def _predictions(self, run: Run, steps: Steps) -> list[Prediction]:
        """Of each head."""
        made = []
        for name, head in self.heads.items():
            layer = self._layer_of[name]
            values = head.scaled(run.values[layer])
            per_step = self.graph.shapes[layer].is_sequence
            choices = head.choices(values, steps.lengths)
            values = steps.filled(values, torch.nan) if per_step else values
            made.append(Prediction(values, steps.lengths if per_step else None, choices))
        return made

    def _given(self, query: Query, inputs: Tensor | None = None) -> dict[str, Tensor]:
        if self._skips:
            self._refuse_skipped(query.inputs if inputs is None else inputs, query.sequence_lengths)
        given = {INPUTS: self.encoder(query.inputs if inputs is None else inputs)}
        if self.static_encoder is not None:
            if query.static_inputs is None:
                raise TypeError("the model takes static inputs, and the query has none")
            given[STATIC] = self.static_encoder(query.static_inputs)
        return given

    def _refuse_skipped(self, inputs: Tensor, lengths: Tensor) -> None:
        """Refuse steps that the training skipped; raises `InvalidInput`."""
        for row, (sequence, length) in enumerate(zip(inputs.numpy(force=True), lengths.tolist(), strict=True)):
            if (place := self.inputs.skipped(sequence[:length])) is not None:
                raise InvalidInput.at(Place(("inputs", row, *place.loc), place.message))

    def _begin(self, query: Query) -> Mapping[str, State]:
        if query.initial_state is None:
            return {}
        return self.split_state(query.initial_state) or {next(iter(self.lstms)): query.initial_state}

    def _values(
        self,
        query: Query,
        inputs: Tensor,
        steps: Steps,
        begin: Mapping[str, State],
        *,
        with_states: bool = True,
    ) -> Run:
        """What the layers give for other inputs of the same sequences."""
        wanted, look = frozenset({self._layer_of[self._first]}), None
        if query.interventions:
            edits = query.interventions, query.raise_if_cancelled
            look = Look(self._module(query.module), False, None, None, *edits)
        return self.graph.run(self._given(query, inputs), steps, begin, wanted, look, with_states=with_states)

    def _scaled(self, run: Run) -> Tensor:
        """The first head's values, (batch, time, value) or (batch, value)."""
        return self.heads[self._first].scaled(run.values[self._layer_of[self._first]])

    def _at_end(self, run: Run, steps: Steps) -> Tensor:
        """The first head's values where each sequence ends, (batch, value)."""
        values = self._scaled(run)
        return steps.last(values) if values.dim() == 3 else values  # noqa: PLR2004 - (batch, time, value)

    @property
    def _first(self) -> str:
        """The name of the first head."""
        return next(iter(self._layer_of))

    def _module(self, module: str | None) -> str:
        return next(iter(self.lstms)) if module is None else module

    def _head(self, config: HeadConfig) -> Head:
        layer = self._layer_of[config.name]
        if layer not in self.graph.shapes:
            raise ManifestError(f"head '{config.name}' reads '{layer}', which is no layer")
        shape, (kind, count) = self.graph.shapes[layer], config.count(self.vocabulary_size)
        if shape.is_ids:
            raise ManifestError(f"head '{config.name}' reads '{layer}', which is token ids")
        if shape.width != count:
            raise ManifestError(
                f"layer '{layer}' gives {shape.width} values, but head '{config.name}' has {count} {kind}"
            )
        if config.is_per_step is not None and config.is_per_step != shape.is_sequence:
            wanted, given = ("time step", "sequence") if config.is_per_step else ("sequence", "time step")
            raise ManifestError(
                f"{config.task} gives a prediction per {wanted}, but layer '{layer}' gives one per {given}"
            )
        crf = self.graph.layer(layer) if layer in self.graph.reads else None
        if isinstance(crf, CRF) and config.task != "tagging":
            raise ManifestError(f"head '{config.name}' reads the crf layer '{layer}', which is for the task tagging")
        return Head(config, shape, crf if isinstance(crf, CRF) else None)

    def _horizon_refusal(self) -> str | None:
        """A head must predict where the sequence ends; what reads back must not read both ways."""
        if self.task not in ("regression", "next_token"):
            return f"({self.task or 'an LSTM without a head'}) has no prediction that could run on"
        if isinstance(self.inputs, TokenInputs) and self.inputs.padding is not None:
            return f"may predict {self.inputs.padding}, its padding, which it does not read"
        shape = self.graph.shapes[self._layer_of[self._first]]
        if shape.sums_up:
            return f"({self.task}) has no prediction that could run on"
        reads_both_ways = any(layer.spec.bidirectional for layer in self.graph.recurrent.values())
        if reads_both_ways and (self.predicts_next_step or not shape.is_sequence):
            return "reads both ways: a step added at the end would change all before it"
        if self.predicts_next_step and not self.runs_in_parts:
            return "reads neighbouring steps: a step added at the end would change those before it"
        return None


def _ordinary_step(inputs: FeatureInputs | TokenInputs) -> np.ndarray:
    """Zeros, or ones where the model skips zeros: (feature,) float32, or () int64."""
    is_features = isinstance(inputs, FeatureInputs)
    shape, dtype = ((len(inputs.names),), np.float32) if is_features else ((), np.int64)  # type: ignore[union-attr]
    zeros = np.zeros(shape, dtype)
    return zeros if inputs.skipped(zeros[None]) is None else np.ones(shape, dtype)


def _shape(inputs: FeatureInputs | TokenInputs, vocabulary_size: int | None) -> Shape:
    if isinstance(inputs, FeatureInputs):
        return Shape(inputs.width, names=tuple(inputs.input_names))
    if vocabulary_size is None:
        raise ManifestError("a model of tokens needs a vocabulary")
    return Shape(vocabulary_size, is_ids=True)
