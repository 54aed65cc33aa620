"""`CustomPipeline`: any module around one or more `nn.LSTM`s; its forward predicts, its LSTMs are traced by hooks."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from gatescope import padding
from gatescope.capture import Calls, Run, capture_calls
from gatescope.decompose import explain
from gatescope.errors import ModuleError, ModuleFailed
from gatescope.pipeline import size
from gatescope.pipeline.custom.forward_signature import ForwardSignature
from gatescope.pipeline.custom.output_shape import OutputShape
from gatescope.pipeline.custom.probe import probe, sizes
from gatescope.pipeline.features import FeatureEncoder, FeatureInputs
from gatescope.pipeline.heads import Head, HeadConfig, Task
from gatescope.pipeline.horizon import append
from gatescope.pipeline.layers.layer import Shape
from gatescope.pipeline.pipeline import ModuleInputs, Pipeline
from gatescope.pipeline.query import LSTM, Answer, Prediction, Query
from gatescope.pipeline.tokens import TokenInputs
from gatescope.spec import Spec
from gatescope.state import State


class CustomPipeline(Pipeline):
    """A module with code of its own. It is run once before anybody asks it, to find out what it reads and gives.

    Args:
        inputs: what the model takes.
        vocabulary_size: how many tokens there are, for token inputs.
        head: what its prediction means; None serves its LSTMs alone.
        module: on its device, with its weights.
        trial_steps: how many time steps the probe has.

    Raises:
        ModuleError: it has no `nn.LSTM`, fails in the probe, or gives another number of values than there are names.
    """

    runs_in_parts = rows_are_independent = is_reentrant = sums_up = False

    def __init__(
        self,
        inputs: FeatureInputs | TokenInputs,
        vocabulary_size: int | None,
        head: HeadConfig | None,
        module: nn.Module,
        trial_steps: int,
    ) -> None:
        super().__init__(inputs, vocabulary_size)
        task = None if head is None else head.task
        found = _lstms(module)
        self.encoder = FeatureEncoder(inputs) if isinstance(inputs, FeatureInputs) else nn.Identity()
        self.module = module
        self.eval()
        try:
            self._signature = ForwardSignature(module)
            self.takes_initial_state = self._signature.takes_state
            self._probed = probe(self._signature, found, self._random_inputs(*sizes(trial_steps)), task)
        except ModuleFailed as error:
            hint = f"; state `trial_steps` if it needs another number of steps than {trial_steps}"
            raise ModuleError(f"a trial run failed: {error}{hint if error.__cause__ else ''}") from error
        self.lstms = {name: found[name] for name in (*self._probed.ran, *found)}
        self.lstm = self.lstm_of(self._probed.ran[0])
        self.state_spec = self.spec
        self.horizon_refusal = _horizon_refusal(task, self._probed.output_shape)
        self.heads = {} if head is None else {head.name: self._head(head)}
        self.head_modules = nn.ModuleList(self.heads.values())  # under numbers: a name may be one of nn.Module's own

    def prediction_shape(self, steps: int, head: str | None = None) -> tuple[int, ...] | None:  # noqa: ARG002 - one
        """As in the probe."""
        return None if self._probed.output_shape is None else self._probed.output_shape.shape(steps)

    def module_inputs(self, module: str | None = None) -> ModuleInputs:
        """As in the probe."""
        name = self._name(module)
        if name in self._probed.fed_as_is and isinstance(self.inputs, FeatureInputs):
            return ModuleInputs(True, self.inputs.input_names)
        width = self.lstms[name].input_size
        return ModuleInputs(name in self._probed.aligned, [f"input {index}" for index in range(width)])

    def predict_on(self, query: Query) -> Generator[Tensor, Tensor]:
        """Forward runs again over the whole sequence with each row: it has no state that could be carried."""
        inputs, lengths = query.inputs, query.sequence_lengths
        while True:
            row = yield self._last(query, inputs, lengths)
            inputs, lengths = append(inputs, lengths, row[:, None])

    def predict_further(self, query: Query, inputs: Tensor, lengths: Tensor) -> Tensor:
        """One forward where there is a prediction per step, else one per further step."""
        first = query.sequence_lengths
        if self._probed.output_shape is not None and self._probed.output_shape.per_step:
            steps = torch.arange(query.horizon, device=first.device) + first[:, None]  # (batch, horizon)
            return self._values(query, inputs, lengths).take_along_dim(steps[..., None], dim=1)
        return torch.stack([self._last(query, inputs, first + step + 1) for step in range(query.horizon)], dim=1)

    def warmup_queries(self) -> list[Query]:
        """None: the probe was enough."""
        return []

    def _run(self, query: Query) -> Answer:
        lengths, name = query.sequence_lengths, self._name(query.module)
        watched = {name: self.lstms[name]} if query.looks_inside else {}
        output_shape = self._probed.output_shape if query.prediction and query.explain is None else None
        values, runs = [], []
        for rows, steps, output, calls in (
            self._parts(query, query.inputs, lengths, watched) if watched or output_shape else ()
        ):
            if output_shape is not None:
                values.append((rows, output_shape.read(output, lengths[rows], steps)))
            if watched:
                runs.append((rows, Run.of(name, self.lstms[name], calls.get(name, []), len(rows))))
        answer = Answer(lengths, query.inputs, module=name)
        if output_shape is not None:
            predicted = self._scaled(output_shape.gathered(values, query.inputs.shape[1]))
            choices = None if self.head is None else self.head.choices(predicted, lengths)
            answer = replace(answer, prediction=Prediction(predicted, output_shape.steps(lengths), choices))
        return self._inside(query, answer, Run.gathered(runs)) if runs else answer

    def _inside(self, query: Query, answer: Answer, run: Run) -> Answer:
        """The same with what is wanted of an LSTM's run, whose lengths need not be those of the inputs."""
        lstm, lengths = self.lstms[answer.module], run.lengths
        aligned = answer.module in self._probed.aligned and torch.equal(lengths, answer.sequence_lengths.cpu())
        answer = replace(answer, sequence_lengths=lengths, aligned=aligned)
        if query.explain is not None:
            return replace(answer, explained=explain(lstm, run.inputs[0], run.initial_state, query.explain))
        _check_size(query, run, lstm)
        return replace(
            answer,
            output=run.output if query.output else None,
            final_state=run.final_state if query.final_state else None,
            trace=None if query.trace is None else run.traced(lstm, query.trace),
        )

    def _parts(
        self, query: Query, inputs: Tensor, lengths: Tensor, watched: Mapping[str, nn.RNNBase]
    ) -> Iterator[tuple[Tensor, int, Any, Calls]]:
        """Rows that went into forward together, their padded steps, what it returned and what was heard meanwhile."""
        encoded, state = self.encoder(inputs), query.initial_state
        for rows, steps in self._signature.groups(lengths):
            query.raise_if_cancelled()
            begin = None if state is None else State(*(value[:, rows] for value in state))
            with capture_calls(watched) as calls:
                output = self._signature.call(encoded[rows, :steps], lengths[rows], begin)
            yield rows, steps, output, calls

    def _values(self, query: Query, inputs: Tensor, lengths: Tensor) -> Tensor:
        """The values of the prediction, (batch, time, value) or (batch, value)."""
        if (output_shape := self._probed.output_shape) is None:
            raise TypeError("a module without a task predicts nothing")
        parts = [
            (rows, output_shape.read(output, lengths[rows], steps))
            for rows, steps, output, _ in self._parts(query, inputs, lengths, {})
        ]
        return self._scaled(output_shape.gathered(parts, inputs.shape[1]))

    def _last(self, query: Query, inputs: Tensor, lengths: Tensor) -> Tensor:
        """The prediction where each sequence ends, (batch, value)."""
        values = self._values(query, inputs, lengths)
        return padding.at_last_step(values, lengths) if values.dim() == 3 else values  # noqa: PLR2004

    def _name(self, module: str | None) -> str:
        return self._probed.ran[0] if module is None else module

    def _random_inputs(self, sequences: int, steps: int) -> Tensor:
        """As forward takes them: (batch, time, feature), or (batch, time) ids."""
        random = torch.Generator().manual_seed(0)
        if isinstance(self.encoder, FeatureEncoder):
            inputs = torch.randn(sequences, steps, self.encoder.width, generator=random)
        else:
            inputs = torch.randint(self.vocabulary_size or 0, (sequences, steps), generator=random)
        return inputs.to(next(self.module.parameters()).device)

    def _scaled(self, values: Tensor) -> Tensor:
        return values if self.head is None else self.head.scaled(values)

    def _head(self, config: HeadConfig) -> Head:
        output_shape, (kind, count) = self._probed.output_shape, config.count(self.vocabulary_size)
        if output_shape is None:
            raise TypeError("a module without a task predicts nothing")
        if output_shape.values != count:
            raise ModuleError(
                f"the module's forward predicts {output_shape.values} values, but there are {count} {kind}"
            )
        return Head(config, Shape(output_shape.values, is_sequence=output_shape.per_step))


def _lstms(module: nn.Module) -> dict[str, nn.LSTM]:
    """Those inside by name; a module that is one itself is called as in a plain module."""
    found = {name or LSTM: inner for name, inner in module.named_modules() if isinstance(inner, nn.LSTM)}
    if found:
        return found
    cells = [name for name, inner in module.named_modules() if isinstance(inner, nn.LSTMCell)]
    hint = f": '{cells[0]}' is an nn.LSTMCell, whose steps are the module's own and cannot be traced" if cells else ""
    raise ModuleError(f"the module has no nn.LSTM to look into{hint}")


def _horizon_refusal(task: Task | None, output_shape: OutputShape | None) -> str | None:
    if output_shape is None or task not in {"regression", "next_token"}:
        return f"({task or 'no task'}) has no prediction that could run on"
    if output_shape.own_steps is not None:
        return (
            f"predicts {output_shape.own_steps} steps of its own, which cannot run on: ask for them without 'horizon'"
        )
    return None


def _check_size(query: Query, run: Run, lstm: nn.RNNBase) -> None:
    """The run's time axis is its own, so what the request asked of it shows only now."""
    spec, sequences, longest = Spec.from_module(lstm), len(run.inputs), int(run.lengths.max())
    most = query.most_bytes
    if query.trace is not None:
        selection = query.trace.resolve(spec)
        size.check_steps(selection, longest)
        if most is not None:
            size.check_trace(selection.shape(sequences, longest), selection, most)
    if query.output and most is not None:
        size.check_reply(sequences * longest * spec.output_size, most)
