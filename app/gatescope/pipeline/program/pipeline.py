"""`ProgramPipeline`: a program around recurrent modules predicts, and their calls are traced.

The recurrent modules are each `nn.LSTM`, `nn.GRU` and `nn.RNN`, and each `nn.LSTMCell`, `nn.GRUCell` and `nn.RNNCell`,
of which every call is a time step.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gatescope import padding
from gatescope.analysis.analysis import Need
from gatescope.capture import Calls, Replace, Run, gathered_state, over_time
from gatescope.decompose import explain
from gatescope.errors import ModuleError, ModuleFailed
from gatescope.pipeline import size
from gatescope.pipeline.features import FeatureEncoder, FeatureInputs
from gatescope.pipeline.heads import Head, HeadConfig, Task
from gatescope.pipeline.layers.layer import Shape
from gatescope.pipeline.pipeline import ModuleInputs, Pipeline, to_device
from gatescope.pipeline.program.edits import EditedCalls
from gatescope.pipeline.program.output_shape import OutputShape
from gatescope.pipeline.program.probe import probe, sizes
from gatescope.pipeline.program.program import Program, Returned
from gatescope.pipeline.program.replay import Refusals, ReplacedOutput, trial
from gatescope.pipeline.query import Answer, Prediction, Query
from gatescope.pipeline.tokens import TokenInputs
from gatescope.spec import Spec
from gatescope.state import State
from gatescope.tracing import is_known_enough


class _Part(NamedTuple):
    """Rows that went into one run."""

    rows: Tensor | None  # (row,) their numbers; None of all rows
    lengths: Tensor  # (row,)
    steps: int  # of the padded rows
    returned: Returned
    calls: Calls


class ProgramPipeline(Pipeline):
    """A model that runs as a whole. It is run before anybody asks it, to find out what it reads and gives.

    Args:
        inputs: what the model takes.
        vocabulary_size: how many tokens there are, for token inputs.
        head: what its prediction means; None serves its recurrent modules alone.
        program: on its device, with its weights.
        trial_steps: how many time steps the probe has.

    Raises:
        ModuleError: it fails in the probe, or gives another number of values than there are names.
    """

    parts_refusal: str | None
    """Why a sequence cannot be run part by part, as the end of a sentence; None where it can."""

    sums_up = False

    def __init__(
        self,
        inputs: FeatureInputs | TokenInputs,
        vocabulary_size: int | None,
        head: HeadConfig | None,
        program: Program,
        trial_steps: int,
    ) -> None:
        super().__init__(inputs, vocabulary_size)
        task = None if head is None else head.task
        self.encoder = FeatureEncoder(inputs) if isinstance(inputs, FeatureInputs) else nn.Identity()
        self.program = program
        self._trial_steps, self._refusals = trial_steps, dict[str, Refusals]()
        self.is_reentrant = program.is_reentrant
        self.fixed_steps = program.fixed_steps
        self.takes_initial_state, self.takes_no_state = program.takes_state, program.takes_no_state
        self.eval()
        try:
            self._probed = probe(program, self._random_inputs(*sizes(program, trial_steps)), task)
        except ModuleFailed as error:
            hint = f"; state `trial_steps` if it needs another number of steps than {trial_steps}"
            raise ModuleError(f"a trial run failed: {error}{hint if error.__cause__ else ''}") from error
        names = dict.fromkeys((*self._probed.ran, *program.recurrent))
        self.lstms = {name: over_time(program.recurrent[name]) for name in names}
        self.lstm = self.lstm_of(self._probed.ran[0])
        self.state_spec = self._probed.state_layout.spec
        self.parts_refusal = self._probed.parts_refusal
        self.runs_in_parts = self.parts_refusal is None
        self.rows_are_independent = program.is_stateless and self._probed.keeps_steps
        self.horizon_refusal = _horizon_refusal(task, self._probed.output_shape, program.fixed_steps)
        self.heads = {} if head is None else {head.name: self._head(head)}
        self.head_modules = nn.ModuleList(self.heads.values())  # under numbers: a name may be one of nn.Module's own

    @property
    def trace_method(self) -> str:
        """As any pipeline's; what ran elsewhere is replayed from its own output."""
        is_replayed = self.program.runs_elsewhere and is_known_enough(self.spec)
        return "replay" if is_replayed else super().trace_method

    @property
    def parameter_count(self) -> int:
        """How many numbers were trained."""
        return self.program.parameter_count

    @property
    def state_modules(self) -> Mapping[str, Spec]:
        """The module that runs first, beside the layout of the program's state, where it is carried."""
        return {self._probed.ran[0]: self.state_spec} if self.runs_in_parts else {}

    def initial_state(self, sequences: int) -> State:
        """Where the program begins if nobody says where."""
        if not self.runs_in_parts:
            return super().initial_state(sequences)
        return self._probed.state_layout.rows(self._probed.begin, sequences).to(torch.empty(0))

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
        """The program goes on from its state; without one, it runs again over the whole sequence with each row."""
        inputs, lengths, state = query.inputs, query.sequence_lengths, query.initial_state
        while True:
            values, reached = self._values(query.evolve(initial_state=state), inputs, lengths)
            row = yield _at_end(values, lengths)
            if reached is None:
                inputs, lengths = padding.append(inputs, lengths, row[:, None])
            else:
                inputs, lengths, state = row[:, None], torch.ones_like(lengths), reached
                query = query.evolve(interventions=())  # of the steps before

    def predict_further(self, query: Query, inputs: Tensor, lengths: Tensor) -> Tensor:
        """One run where there is a prediction per step, else one per further step, from the state if it has one."""
        first = query.sequence_lengths
        if self._probed.output_shape is not None and self._probed.output_shape.per_step:
            steps = torch.arange(query.horizon, device=first.device) + first[:, None]  # (batch, horizon)
            return self._values(query, inputs, lengths)[0].take_along_dim(steps[..., None], dim=1)
        if not self.runs_in_parts:
            further = [self._values(query, inputs, first + step + 1)[0] for step in range(query.horizon)]
            return torch.stack(further, dim=1)
        rows, run = torch.arange(len(first), device=first.device), self.predict_on(query)
        next(run)
        return torch.stack([run.send(inputs[rows, first + step]) for step in range(query.horizon)], dim=1)

    def predict_end(self, query: Query) -> Tensor:
        """One run."""
        return _at_end(self._values(query, query.inputs, query.sequence_lengths)[0], query.sequence_lengths)

    def warmup_queries(self) -> list[Query]:
        """None: the probe was enough."""
        return []

    @property
    def runs_over_inputs(self) -> bool:
        """Only where it can be run in parts: the modules of another may have steps of their own."""
        return self.runs_in_parts

    def module_lengths(self, query: Query) -> Tensor:
        """As the module is called, where that shows only then."""
        return query.sequence_lengths if self.runs_over_inputs else self._heard(query, self._name(query.module)).lengths

    def head_refusals(self, module: str | None) -> Mapping[Need, str]:
        """As a trial shows it, when a module is asked for the first time."""
        name = self._name(module)
        if name not in self._refusals:
            inputs = self._random_inputs(*sizes(self.program, self._trial_steps))
            self._refusals[name] = trial(name, self.program, self._probed.output_shape, inputs)
        return self._refusals[name].by_need

    def read_out(self, query: Query, module: str | None) -> Callable[[Tensor], Tensor]:
        """The program runs again for each batch, and its caller reads the given output of the module."""
        query, name = to_device(query, next(self.lstm.parameters())), self._name(module)
        with torch.no_grad():
            heard = self._heard(query, name)

        def predict(output: Tensor) -> Tensor:
            def replaced(rows: Sequence[int]) -> ReplacedOutput:
                own = [row % query.sequences for row in rows]
                longest = int(heard.lengths[own].max())
                read = heard.inputs[own, :longest]
                return ReplacedOutput(name, self.program.recurrent[name], output[list(rows), :longest], read)

            values, _ = self._predicted(_repeated(query, output.shape[0] // query.sequences), name, replaced)
            return values if self.own_steps is None else values.flatten(1)

        return predict

    def _run(self, query: Query) -> Answer:
        lengths, name = query.sequence_lengths, self._name(query.module)
        query, edits = self._edited(query)
        is_explained = query.explain is not None
        carries = query.final_state and self.runs_in_parts and not is_explained
        looks_inside = query.output or query.trace is not None or is_explained
        is_heard = looks_inside or (query.final_state and not carries) or edits is not None
        watched = (name,) if is_heard else ()
        output_shape = self._probed.output_shape if query.prediction and not is_explained else None
        values, runs, states = [], [], []
        is_run = is_heard or carries or output_shape is not None
        for part in self._parts(query, watched, edits) if is_run else ():
            count = len(part.lengths)
            if output_shape is not None:
                values.append((part.rows, output_shape.read(part.returned.prediction, part.lengths, part.steps)))
            if watched:
                run = Run.of(name, self.program.recurrent[name], part.calls.get(name, []), count)
                runs.append((part.rows, run))
            if carries:
                states.append((part.rows, self._probed.state_layout.read(part.returned.state, count)))
        answer = Answer(lengths, query.inputs, module=name)
        if output_shape is not None:
            predicted = self._scaled(output_shape.gathered(values, query.inputs.shape[1]))
            choices = None if self.head is None else self.head.choices(predicted, lengths)
            answer = replace(answer, prediction=Prediction(predicted, output_shape.steps(lengths), choices))
        if runs:
            heard = Run.gathered(runs)
            if edits is not None:
                edits.check(heard.lengths)
            answer = self._inside(query, answer, heard)
        return replace(answer, final_state=gathered_state(states)) if states else answer

    def _inside(self, query: Query, answer: Answer, run: Run) -> Answer:
        """The same with what is wanted of a module's run, whose lengths need not be those of the inputs."""
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
            trace=None if query.trace is None else run.traced(lstm, query.trace, query.interventions),
        )

    def _heard(self, query: Query, name: str) -> Run:
        """The run of a module without interventions."""
        runs = []
        for part in self._parts(query, (name,)):
            calls = part.calls.get(name, [])
            runs.append((part.rows, Run.of(name, self.program.recurrent[name], calls, len(part.lengths))))
        return Run.gathered(runs)

    def _edited(self, query: Query) -> tuple[Query, EditedCalls | None]:
        """The query with its interventions stated, and what they make of the calls of the module."""
        if not query.interventions:
            return query, None
        name, lengths = self._name(query.module), self.module_lengths(query)
        query = self.with_stated_edits(query, lengths)
        given = name, self.program.recurrent[name], query.interventions, lengths.tolist()
        return query, EditedCalls(*given, query.raise_if_cancelled)

    def _parts(
        self,
        query: Query,
        watched: Collection[str],
        replaced: Callable[[Sequence[int]], Replace | None] | None = None,
    ) -> Iterator[_Part]:
        """The runs that a batch is divided into.

        Args:
            query: its interventions are not read.
            watched: the recurrent modules whose calls are wanted.
            replaced: what replaces the calls of the first of these over some rows; None where nothing does.
        """
        encoded, lengths, state = self.encoder(query.inputs), query.sequence_lengths, query.initial_state
        for numbers, steps in self._groups(lengths.tolist(), is_watched=bool(watched)):
            query.raise_if_cancelled()
            if numbers is None:
                rows, own, part, begin = None, lengths, encoded[:, :steps], state
            else:
                rows = torch.tensor(numbers)
                own, part = lengths[rows], encoded[rows, :steps]
                begin = None if state is None else State(*(value[:, rows] for value in state))
            hx = self._probed.state_layout.given(begin)
            by = None if replaced is None else replaced(range(len(lengths)) if numbers is None else numbers)
            changed = {} if by is None else {next(iter(watched)): by}
            returned, calls = self.program.call(part, own, hx, watched, changed)
            yield _Part(rows, own, steps, returned, calls)

    def _groups(self, lengths: Sequence[int], *, is_watched: bool) -> Iterator[tuple[list[int] | None, int]]:
        """As the program has them; each row alone, where modules are heard that read the rows in another order."""
        if is_watched and self._probed.moves_rows and len(lengths) > 1:
            return (([row], length) for row, length in enumerate(lengths))
        return self.program.groups(lengths)

    def _values(self, query: Query, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, State | None]:
        """The values of the prediction, (batch, time, value) or (batch, value), and the state where one is carried."""
        query, edits = self._edited(replace(query, inputs=inputs, sequence_lengths=lengths))
        return self._predicted(query, self._name(query.module), edits)

    def _predicted(
        self, query: Query, name: str, replaced: Callable[[Sequence[int]], Replace | None] | None
    ) -> tuple[Tensor, State | None]:
        """The same where the calls of a module are replaced."""
        if (output_shape := self._probed.output_shape) is None:
            raise TypeError("a program without a task predicts nothing")
        values, states = [], []
        for part in self._parts(query, () if replaced is None else (name,), replaced):
            values.append((part.rows, output_shape.read(part.returned.prediction, part.lengths, part.steps)))
            if self.runs_in_parts:
                states.append((part.rows, self._probed.state_layout.read(part.returned.state, len(part.lengths))))
        made = self._scaled(output_shape.gathered(values, query.inputs.shape[1]))
        return made, gathered_state(states) if states else None

    def _name(self, module: str | None) -> str:
        return self._probed.ran[0] if module is None else module

    def _random_inputs(self, sequences: int, steps: int) -> Tensor:
        """As the program takes them: (batch, time, feature), or (batch, time) ids."""
        random = torch.Generator().manual_seed(0)
        if isinstance(self.encoder, FeatureEncoder):
            inputs = torch.randn(sequences, steps, self.encoder.width, generator=random)
        else:
            inputs = torch.randint(self.vocabulary_size or 0, (sequences, steps), generator=random)
        return inputs.to(next(self.program.parameters()).device)

    def _scaled(self, values: Tensor) -> Tensor:
        return values if self.head is None else self.head.scaled(values)

    def _head(self, config: HeadConfig) -> Head:
        output_shape, (kind, count) = self._probed.output_shape, config.count(self.vocabulary_size)
        if output_shape is None:
            raise TypeError("a program without a task predicts nothing")
        if output_shape.values != count:
            raise ModuleError(
                f"{self.program.subject} predicts {output_shape.values} values, but there are {count} {kind}"
            )
        are_probabilities = self.program.is_probability
        shape = Shape(output_shape.values, is_sequence=output_shape.per_step, is_probability=are_probabilities)
        return Head(config, shape)


def _repeated(query: Query, count: int) -> Query:
    """So many batches of the same sequences, one after another."""
    state = query.initial_state
    return replace(
        query,
        inputs=query.inputs.repeat(count, *(1,) * (query.inputs.dim() - 1)),
        sequence_lengths=query.sequence_lengths.repeat(count),
        initial_state=None if state is None else State(*(each.repeat(1, count, 1) for each in state)),
    )


def _at_end(values: Tensor, lengths: Tensor) -> Tensor:
    """The prediction where each sequence ends, (batch, value)."""
    return padding.at_last_step(values, lengths) if values.dim() == 3 else values  # noqa: PLR2004


def _horizon_refusal(task: Task | None, output_shape: OutputShape | None, fixed_steps: int | None) -> str | None:
    if output_shape is None or task not in {"regression", "next_token"}:
        return f"({task or 'no task'}) has no prediction that could run on"
    if fixed_steps is not None:
        return f"takes sequences of {fixed_steps} steps, and no others"
    if output_shape.own_steps is not None:
        return (
            f"predicts {output_shape.own_steps} steps of its own, which cannot run on: ask for them without 'horizon'"
        )
    return None


def _check_size(query: Query, run: Run, module: nn.RNNBase) -> None:
    """The run's time axis is its own, so what the request asked of it shows only now."""
    spec, sequences, longest = Spec.from_module(module), len(run.inputs), int(run.lengths.max())
    most = query.most_bytes
    if query.trace is not None:
        selection = query.trace.resolve(spec)
        size.check_steps(selection, longest)
        if most is not None:
            size.check_trace(selection.shape(sequences, longest), selection, most)
    if query.output and most is not None:
        size.check_reply(sequences * longest * spec.output_size, most)
