"""A pipeline of layers answers what the torch module gives whose weights it serves, row by row."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from gatescope import trace
from gatescope.backends import reference
from gatescope.cells import LSTM
from gatescope.decompose import Point
from gatescope.errors import ManifestError
from gatescope.padding import pad
from gatescope.pipeline.features import Feature, StaticInputs
from gatescope.pipeline.layered import LayeredPipeline
from gatescope.pipeline.layers.crf import CRF
from gatescope.pipeline.layers.layer import Shape
from gatescope.pipeline.query import Query
from gatescope.selection import Selection
from gatescope.state import State

LENGTHS = (5, 1, 3)
LABELS = {"labels": ("P", "Q")}


@pytest.fixture
def feed(encode):
    """kind -> one raw sequence as the module's LSTM reads it."""

    def of(kind, module, sequence):
        if kind == "features":
            return encode(sequence)
        return module.embedding(sequence) if kind == "embedding" else one_hot(sequence, 8).float()

    return of


@pytest.fixture
def sequences(days, texts):
    return lambda kind, *lengths: (days if kind == "features" else texts)(*lengths)


@pytest.mark.parametrize("arguments", [{}, {"num_layers": 2, "bidirectional": True, "proj_size": 3}], ids=str)
@pytest.mark.parametrize("kind", ["features", "embedding", "one-hot"])
def test_a_prediction_per_step_is_what_the_trained_module_gives(case, feed, sequences, kind, arguments):
    made = case(kind, head=(7, 2), **arguments)
    rows = sequences(kind, *LENGTHS)
    answer = made.ask(rows)
    assert answer.prediction.values.shape == (3, 5, 2)
    assert answer.prediction.steps.tolist() == list(LENGTHS)
    assert answer.prediction.choices is None
    for row, sequence in enumerate(rows):
        output, _ = made.module.lstm(feed(kind, made.module, sequence)[None])
        expected = made.module.head(output)[0]
        values = answer.prediction.values[row]
        torch.testing.assert_close(values[: len(sequence)], expected, rtol=0, atol=1e-5)
        assert values[len(sequence) :].isnan().all()


@pytest.mark.parametrize("steps", ["last", "mean", "max"])
@pytest.mark.parametrize("kind", ["features", "embedding", "one-hot"])
def test_a_prediction_per_sequence_is_what_the_trained_module_gives(case, feed, sequences, kind, steps):
    made = case(kind, "classification", steps=steps, activation="tanh", head=(4, 2), output=LABELS)
    rows = sequences(kind, *LENGTHS)
    answer = made.ask(rows)
    assert answer.prediction.steps is None
    for row, sequence in enumerate(rows):
        output, _ = made.module.lstm(feed(kind, made.module, sequence)[None])
        pooled = {"last": output[0, -1], "mean": output[0].mean(0), "max": output[0].amax(0)}[steps]
        expected = made.module.head(pooled)
        torch.testing.assert_close(answer.prediction.values[row], expected, rtol=0, atol=1e-5)
        assert answer.prediction.choices[row] == expected.argmax()


def test_a_tag_is_chosen_for_every_step(case, texts):
    made = case("embedding", "tagging", output=LABELS)
    (ids,) = texts(6)
    answer = made.ask([ids])
    assert torch.equal(answer.prediction.choices[0], made.module(ids[None])[0].argmax(-1))


def test_a_regressions_outputs_are_scaled_and_clamped(case, days, encode):
    made = case(output={"names": ("x", "y"), "mean": (100.0, -5.0), "std": (50.0, 2.0), "minimum": (95.0, -5.5)})
    (sequence,) = days(12)
    head = made.module(encode(sequence)[None])[0]
    expected = torch.stack(((head[:, 0] * 50 + 100).clamp(min=95), (head[:, 1] * 2 - 5).clamp(min=-5.5)), dim=1)
    values = made.ask([sequence]).prediction.values[0]
    torch.testing.assert_close(values, expected, rtol=0, atol=1e-4)
    assert bool((values == torch.tensor([95.0, -5.5])).any())  # the clamp is at work


@pytest.mark.parametrize("steps", ["all", "last", "mean", "max"])
def test_a_ragged_batch_equals_its_rows_alone(case, days, random, steps):
    made = case(steps=steps, num_layers=2)
    rows, state = days(*LENGTHS), made.state(3, random)
    together = made.ask(rows, initial_state=state, output=True, final_state=True)
    for row, sequence in enumerate(rows):
        of_row = type(state)(*(value[:, row : row + 1] for value in state))
        alone = made.ask([sequence], initial_state=of_row, output=True, final_state=True)
        mine, other = together.prediction.values[row], alone.prediction.values[0]
        torch.testing.assert_close(mine[: len(sequence)] if steps == "all" else mine, other, rtol=0, atol=1e-6)
        torch.testing.assert_close(together.output[row, : len(sequence)], alone.output[0], rtol=0, atol=1e-6)
        for name in state.names:
            mine, other = getattr(together.final_state, name), getattr(alone.final_state, name)
            torch.testing.assert_close(mine[:, row], other[:, 0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("garbage", [1e30, float("nan")])
def test_raw_values_in_the_padding_reach_no_answer(case, days, garbage):
    made = case(steps="mean", bidirectional=True)
    rows = days(*LENGTHS)
    dirty = torch.full((3, 5, 3), garbage)
    for row, sequence in enumerate(rows):
        dirty[row, : len(sequence)] = sequence
    expected = made.ask(rows, trace=Selection())
    answer = made.pipeline.answer(Query(dirty, torch.tensor(LENGTHS), trace=Selection()))
    torch.testing.assert_close(answer.prediction.values, expected.prediction.values, rtol=0, atol=0)
    for signal in LSTM.signal_names:
        mine, other = answer.trace.signals[signal], expected.trace.signals[signal]
        torch.testing.assert_close(mine, other, rtol=0, atol=0, equal_nan=True)


def test_output_state_and_trace_belong_to_the_encoded_inputs(case, days, encode, random):
    made = case(num_layers=2)
    (sequence,) = days(6)
    state = made.state(1, random)
    answer = made.ask([sequence], initial_state=state, output=True, final_state=True, trace=Selection())
    expected = reference.run(made.module.lstm, encode(sequence).double(), type(state)(*(v.double() for v in state)))
    for signal in LSTM.signal_names:
        torch.testing.assert_close(answer.trace.signals[signal][0].double(), expected[signal], rtol=0, atol=1e-5)
    torch.testing.assert_close(answer.output[0].double(), expected["output"], rtol=0, atol=1e-5)
    last = expected["cell_state"][:, 0, -1]
    torch.testing.assert_close(answer.final_state.cell_state[:, 0].double(), last, rtol=0, atol=1e-5)
    assert torch.equal(answer.inputs[0], sequence)
    assert answer.sequence_lengths.tolist() == [6]


def test_an_answer_holds_only_what_was_asked_for(case, days):
    made, rows = case(), days(4)
    answer = made.ask(rows)
    assert (answer.output, answer.final_state, answer.trace) == (None, None, None)
    answer = made.ask(rows, prediction=False, output=True)
    assert (answer.prediction, answer.final_state, answer.trace) == (None, None, None)
    assert answer.output is not None
    answer = made.ask(rows, prediction=False, final_state=True)
    assert (answer.prediction, answer.output) == (None, None)
    assert answer.final_state is not None
    answer = made.ask(rows, prediction=False)
    assert (answer.prediction, answer.output, answer.final_state, answer.trace) == (None, None, None, None)


def test_the_same_with_and_without_a_trace(case, days):
    made, rows = case(bidirectional=True), days(*LENGTHS)
    plain, traced = made.ask(rows, output=True), made.ask(rows, output=True, trace=Selection(signals=()))
    torch.testing.assert_close(plain.output, traced.output, rtol=0, atol=1e-6, equal_nan=True)
    torch.testing.assert_close(plain.prediction.values, traced.prediction.values, rtol=0, atol=1e-6, equal_nan=True)


def test_an_lstm_without_a_head_is_served_alone(case, days, encode):
    made = case(task=None, head=None)
    (sequence,) = days(4)
    answer = made.ask([sequence], output=True)
    assert answer.prediction is None
    torch.testing.assert_close(answer.output[0], made.module(encode(sequence)[None])[0], rtol=0, atol=1e-6)


def test_values_of_higher_precision_are_taken_in_that_of_the_weights(case, days):
    made, rows = case(), days(*LENGTHS)
    answer = made.ask([sequence.double() for sequence in rows])
    assert answer.prediction.values.dtype == torch.float32
    torch.testing.assert_close(answer.prediction.values, made.ask(rows).prediction.values, equal_nan=True)


def test_a_pipeline_does_not_train(case):
    made = case()
    assert not made.pipeline.training
    assert not any(module.training for module in made.pipeline.modules())
    assert isinstance(made.pipeline.lstm, nn.LSTM)


@pytest.fixture
def ragged(random):
    """Rows of three features, each of its own length."""
    return [torch.randn(length, 3, generator=random) for length in (9, 2, 5, 1)]


def ask(pipeline, rows, **wanted):
    return pipeline.answer(Query(*pad(rows), **wanted))


def state_of(spec, rows, generator):
    return State(*(torch.randn(shape, generator=generator) for shape in spec.state_shapes(rows).values()))


def seeded(module, spread=0.6):
    """Weights wide enough that the gates do not all stand at one half; statistics that are those of no fresh norm."""
    generator = torch.Generator().manual_seed(3)
    for value in module.parameters():
        value.data.uniform_(-spread, spread, generator=generator)
        value.requires_grad_(requires_grad=False)
    for name, value in module.named_buffers():
        if value.is_floating_point():
            value.uniform_(*((0.5, 2.0) if "var" in name else (-0.5, 0.5)), generator=generator)
    return module.eval()


class Residual(nn.Module):
    """LSTM, norm and a shortcut, twice, as in a residual stack."""

    def __init__(self):
        super().__init__()
        self.project = nn.Linear(3, 4)
        self.lower = nn.LSTM(4, 4, batch_first=True)
        self.norm = nn.LayerNorm(4)
        self.upper = nn.LSTM(4, 4, batch_first=True)
        self.fc = nn.Linear(4, 2)

    def inner(self, inputs):
        """What each LSTM reads, by name."""
        projected = self.project(inputs)
        between = self.norm(projected + self.lower(projected)[0])
        return {"lower": projected, "upper": between}

    def forward(self, inputs):
        between = self.inner(inputs)["upper"]
        return self.fc(between + self.upper(between)[0])


RESIDUAL = [
    {"name": "project", "type": "linear"},
    {"name": "lower", "type": "lstm"},
    {"name": "sum", "type": "add", "inputs": ["project", "lower"]},
    {"name": "norm", "type": "layer_norm"},
    {"name": "upper", "type": "lstm"},
    {"name": "top", "type": "add", "inputs": ["norm", "upper"]},
    {"name": "fc", "type": "linear"},
]


class Towers(nn.Module):
    """Two LSTMs side by side, one of them both ways behind a convolution and a batch norm."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(3, 6, 3, padding="same", groups=3)
        self.bn = nn.BatchNorm1d(6)
        self.both = nn.LSTM(6, 4, bidirectional=True, batch_first=True, num_layers=2)
        self.plain = nn.LSTM(3, 5, batch_first=True, proj_size=2)
        self.fc = nn.Linear(10, 2)

    def inner(self, inputs):
        return {"both": self.bn(self.conv(inputs.transpose(1, 2))).transpose(1, 2).relu(), "plain": inputs}

    def forward(self, inputs):
        read = self.inner(inputs)
        return self.fc(torch.cat((self.both(read["both"])[0], self.plain(read["plain"])[0]), dim=-1)).tanh()


TOWERS = [
    {"name": "conv", "type": "conv1d"},
    {"name": "bn", "type": "batch_norm"},
    {"name": "act", "type": "activation", "function": "relu"},
    {"name": "both", "type": "lstm"},
    {"name": "plain", "type": "lstm", "inputs": ["inputs"]},
    {"name": "beside", "type": "concat", "inputs": ["both", "plain"]},
    {"name": "fc", "type": "linear"},
    {"name": "out", "type": "activation", "function": "tanh"},
]
STACKS = {"residual": (Residual, RESIDUAL), "towers": (Towers, TOWERS)}


@pytest.fixture(params=STACKS)
def stack(request, build, regression):
    """A module with several recurrent layers, and its pipeline."""
    kind, layers = STACKS[request.param]
    module = seeded(kind())
    return module, build(layers, module, [regression(2)])


class TestSeveralRecurrentLayers:
    def test_a_prediction_is_the_modules_for_each_row_alone(self, stack, ragged):
        module, pipeline = stack
        values = ask(pipeline, ragged).prediction.values
        for row, sequence in enumerate(ragged):
            torch.testing.assert_close(values[row, : len(sequence)], module(sequence[None])[0], rtol=0, atol=1e-6)
            assert values[row, len(sequence) :].isnan().all()

    def test_garbage_in_the_padding_changes_nothing(self, stack, ragged):
        _, pipeline = stack
        inputs, lengths = pad(ragged)
        expected = pipeline.answer(Query(inputs, lengths, output=True, trace=Selection()))
        for garbage in (torch.nan, 1e30, -torch.inf):
            dirty = inputs.clone()
            for row, length in enumerate(lengths.tolist()):
                dirty[row, length:] = garbage
            answer = pipeline.answer(Query(dirty, lengths, output=True, trace=Selection()))
            for mine, other in (
                (answer.prediction.values, expected.prediction.values),
                (answer.output, expected.output),
                *zip(answer.trace.signals.values(), expected.trace.signals.values(), strict=True),
            ):
                torch.testing.assert_close(mine, other, rtol=0, atol=0, equal_nan=True)

    def test_each_layer_is_traced_as_torchs_module_on_its_own_inputs(self, stack, ragged):
        module, pipeline = stack
        assert list(pipeline.lstms) == list(module.inner(ragged[0][None]))
        for name in pipeline.lstms:
            lstm = getattr(module, name)
            answer = ask(pipeline, ragged, module=name, trace=Selection(), output=True, final_state=True)
            assert answer.module == name
            assert answer.trace.residual < 1e-5
            for row, sequence in enumerate(ragged):
                read = module.inner(sequence[None])[name]
                alone = trace(lstm, read)
                equations = reference.run(lstm, read[0].double())
                for signal in LSTM.signal_names:
                    mine = answer.trace.signals[signal][row, :, :, : len(sequence)]
                    torch.testing.assert_close(mine, getattr(alone, signal)[0], rtol=0, atol=1e-5)
                    torch.testing.assert_close(mine.double(), equations[signal], rtol=0, atol=1e-5)
                output = answer.output[row, : len(sequence)]
                torch.testing.assert_close(output, lstm(read)[0][0], rtol=0, atol=1e-5)

    def test_a_step_of_each_layer_is_explained(self, stack, ragged):
        module, pipeline = stack
        for name in pipeline.lstms:
            read = module.inner(ragged[0][None])[name]
            assert len(pipeline.module_inputs(name).names) == read.shape[-1]
            point = Point(layer=0, direction="forward", time_step=4, unit=1)
            explained = ask(pipeline, ragged[:1], module=name, explain=point).explained
            equations = reference.run(getattr(module, name), read[0].double())
            for gate, summed in explained.decomposition.gates.items():
                expected = float(equations[gate][0, 0, 4, 1])
                assert summed.value == pytest.approx(expected, abs=1e-5)

    def test_the_states_of_all_layers_are_one_to_carry(self, stack, random):
        _, pipeline = stack
        states = {name: state_of(pipeline.spec_of(name), 4, random) for name in pipeline.lstms}
        joint = pipeline.join_states(states)
        spec = pipeline.state_spec
        assert [value.shape for value in joint] == [(1, 4, size) for size in spec.state_sizes]
        for name, state in pipeline.split_state(joint).items():
            for mine, other in zip(state, states[name], strict=True):
                assert torch.equal(mine, other)
        again = State.unpacked(joint.packed(), spec)
        for mine, other in zip(again, joint, strict=True):
            assert torch.equal(mine, other)

    def test_each_layer_begins_in_its_own_state(self, stack, ragged, random):
        _, pipeline = stack
        states = {name: state_of(pipeline.spec_of(name), 1, random) for name in pipeline.lstms}
        for name, lstm in pipeline.lstms.items():
            answer = ask(
                pipeline,
                ragged[:1],
                initial_state=pipeline.join_states(states),
                module=name,
                trace=Selection(),
                final_state=True,
            )
            for mine, other in zip(answer.trace.initial_state, states[name], strict=True):
                assert torch.equal(mine, other)
            ended = pipeline.split_state(answer.final_state)[name]
            for mine, other in zip(ended, answer.trace.final_state, strict=True):
                assert torch.equal(mine, other)
            assert lstm is pipeline.lstm_of(name)

    def test_a_ragged_batch_ends_where_each_row_does(self, stack, ragged):
        _, pipeline = stack
        together = pipeline.split_state(ask(pipeline, ragged, final_state=True).final_state)
        for row, sequence in enumerate(ragged):
            alone = pipeline.split_state(ask(pipeline, [sequence], final_state=True).final_state)
            for name in pipeline.lstms:
                for mine, other in zip(together[name], alone[name], strict=True):
                    torch.testing.assert_close(mine[:, row], other[:, 0], rtol=0, atol=1e-6)


class TestParts:
    """Whether a sequence may be run part by part."""

    @pytest.mark.parametrize("cut", [1, 4, 8])
    def test_parts_give_what_the_whole_gives(self, build, regression, ragged, cut):
        pipeline = build(RESIDUAL, seeded(Residual()), [regression(2)])
        assert pipeline.runs_in_parts
        (whole, *_), wanted = ragged, {"output": True, "final_state": True, "module": "upper"}
        expected = ask(pipeline, [whole], **wanted)
        first = ask(pipeline, [whole[:cut]], **wanted)
        second = ask(pipeline, [whole[cut:]], initial_state=first.final_state, **wanted)
        for field in ("output",):
            joined = torch.cat((getattr(first, field), getattr(second, field)), dim=1)
            torch.testing.assert_close(joined, getattr(expected, field), rtol=0, atol=1e-6)
        values = torch.cat((first.prediction.values, second.prediction.values), dim=1)
        torch.testing.assert_close(values, expected.prediction.values, rtol=0, atol=1e-6)
        for mine, other in zip(second.final_state, expected.final_state, strict=True):
            torch.testing.assert_close(mine, other, rtol=0, atol=1e-6)

    @pytest.mark.parametrize(
        ("layers", "runs_in_parts", "sums_up"),
        [
            (["lstm"], True, False),
            ([{"name": "fc", "type": "linear"}, "lstm"], True, False),
            ([{"name": "conv", "type": "conv1d", "padding": "causal"}, "lstm"], False, False),
            (["lstm", {"name": "conv", "type": "conv1d"}], False, False),
            (["lstm", {"name": "pool", "type": "pool", "how": "last"}], True, False),
            (["lstm", {"name": "pool", "type": "pool", "how": "first"}], True, True),
            (["lstm", {"name": "pool", "type": "pool", "how": "mean"}], True, True),
            (
                [
                    {"name": "pool", "type": "pool", "how": "mean"},
                    {"name": "beside", "type": "concat", "inputs": ["inputs", "pool"]},
                    {"name": "wide", "type": "lstm"},
                ],
                False,
                True,
            ),
            (
                [
                    {"name": "beside", "type": "concat", "inputs": ["inputs", "static"]},
                    {"name": "wide", "type": "lstm"},
                ],
                True,
                False,
            ),
            (["lstm", {"name": "both", "type": "lstm"}], False, False),
        ],
        ids=str,
    )
    def test_what_reads_other_steps_is_read_as_a_whole(self, build, seeded_lstm, layers, runs_in_parts, sums_up):
        module = nn.ModuleDict(
            {
                "lstm": seeded_lstm(3, 3),
                "wide": seeded_lstm(6, 3),
                "both": seeded_lstm(3, 3, bidirectional=True),
                "fc": nn.Linear(3, 3),
                "conv": nn.Conv1d(3, 3, 3),
            }
        )
        used = {each if isinstance(each, str) else each["name"] for each in layers}
        unused = [name for name in module if name not in used]
        width = 6 if "both" in used else 3
        head = {"task": "regression", "names": [f"y{index}" for index in range(width)]}
        pipeline = build(layers, module, [head], static=3, ignored=unused)
        assert (pipeline.runs_in_parts, pipeline.sums_up) == (runs_in_parts, sums_up)

    def test_a_layer_behind_a_convolution_says_where_it_ended(self, build, seeded_lstm, ragged, random):
        module = nn.ModuleDict({"conv": nn.Conv1d(3, 3, 3, padding=1), "lstm": seeded_lstm(3, 4, batch_first=True)})
        pipeline = build([{"name": "conv", "type": "conv1d"}, "lstm"], module)
        state = state_of(pipeline.spec, 1, random)
        answer = ask(pipeline, ragged[:1], initial_state=state, final_state=True)
        read = module.conv(ragged[0].T[None]).transpose(1, 2)
        _, ended = module.lstm(read, tuple(state))
        for mine, other in zip(answer.final_state, ended, strict=True):
            torch.testing.assert_close(mine, other.detach(), rtol=0, atol=1e-6)

    def test_learned_states_are_where_a_run_begins(self, build, seeded_lstm, ragged, random):
        lstm = seeded_lstm(3, 4, 2, batch_first=True)
        weights = {f"lstm.{name}": value for name, value in lstm.state_dict().items()}
        weights |= {name: torch.randn(2, 1, 4, generator=random) for name in ("h0", "c0")}
        stated = {"name": "lstm", "type": "lstm", "initial_hidden_state": "h0", "initial_cell_state": "c0"}
        pipeline = build([stated], weights)
        answer = ask(pipeline, ragged, output=True, final_state=True, trace=Selection())
        for row, sequence in enumerate(ragged):
            output, ended = lstm(sequence[None], (weights["h0"], weights["c0"]))
            torch.testing.assert_close(answer.output[row, : len(sequence)], output[0], rtol=0, atol=1e-6)
            for mine, other in zip(answer.final_state, ended, strict=True):
                torch.testing.assert_close(mine[:, row], other[:, 0], rtol=0, atol=1e-6)
        given = state_of(pipeline.spec, 4, random)
        for mine, other in zip(
            ask(pipeline, ragged, initial_state=given, trace=Selection()).trace.initial_state, given, strict=True
        ):
            assert torch.equal(mine, other)


class TestStatic:
    STATIC = StaticInputs(
        features=(Feature(name="area", mean=100.0, std=50.0), Feature(name="soil", categories=(1, 2)))
    )
    RAW = torch.tensor([[130.0, 1], [55.5, 2], [100.0, 2], [20.0, 1]], dtype=torch.float64)

    def by_hand(self, row):
        area, soil = self.RAW[row].tolist()
        return torch.tensor([(area - 100) / 50, float(soil == 1), float(soil == 2)])

    def test_they_stand_at_every_step_beside_the_inputs(self, build, regression, seeded_lstm, ragged):
        module = nn.ModuleDict({"lstm": seeded_lstm(6, 4, batch_first=True), "fc": nn.Linear(4, 1)})
        layers = [
            {"name": "beside", "type": "concat", "inputs": ["inputs", "static"]},
            "lstm",
            {"name": "fc", "type": "linear"},
        ]
        pipeline = build(layers, module, [regression(1)], static=self.STATIC)
        assert list(pipeline.module_inputs().names) == ["f0", "f1", "f2", "area", "soil=1", "soil=2"]
        values = ask(pipeline, ragged, static_inputs=self.RAW).prediction.values
        for row, sequence in enumerate(ragged):
            read = torch.cat((sequence, self.by_hand(row).expand(len(sequence), 3)), dim=1)
            expected = module.fc(module.lstm(read[None])[0])[0].detach()
            torch.testing.assert_close(values[row, : len(sequence)], expected, rtol=0, atol=1e-6)

    def test_they_join_behind_the_last_step(self, build, regression, seeded_lstm, ragged):
        module = nn.ModuleDict(
            {"lstm": seeded_lstm(3, 4, batch_first=True), "inner": nn.Linear(3, 2), "fc": nn.Linear(6, 1)}
        )
        layers = [
            "lstm",
            {"name": "pool", "type": "pool", "how": "last"},
            {"name": "inner", "type": "linear", "inputs": ["static"]},
            {"name": "beside", "type": "concat", "inputs": ["pool", "inner"]},
            {"name": "fc", "type": "linear"},
        ]
        pipeline = build(layers, module, [regression(1)], static=self.STATIC)
        values = ask(pipeline, ragged, static_inputs=self.RAW).prediction.values
        for row, sequence in enumerate(ragged):
            last = module.lstm(sequence[None])[0][0, -1]
            expected = module.fc(torch.cat((last, module.inner(self.by_hand(row))))).detach()
            torch.testing.assert_close(values[row], expected, rtol=0, atol=1e-6)

    def test_a_query_without_them_is_an_error_of_ours(self, build, seeded_lstm, ragged):
        pipeline = build(["lstm"], {f"lstm.{n}": v for n, v in seeded_lstm(3, 4).state_dict().items()}, static=2)
        with pytest.raises(TypeError, match="static inputs"):
            ask(pipeline, ragged, output=True)


class TestRefusals:
    @pytest.fixture
    def weights(self, plain):
        return dict(plain().state_dict())

    LAYERS = ("lstm", {"name": "head.0", "type": "linear"})

    def test_a_head_of_another_width_shows_both(self, build, weights, regression):
        with pytest.raises(ManifestError, match=r"layer 'head\.0' gives 2 values, but head 'prediction' has 3 names"):
            build(self.LAYERS, weights, [regression(3)])

    @pytest.mark.parametrize(
        ("head", "message"),
        [
            ({"task": "tagging", "labels": ["P", "Q", "R"]}, "gives 2 values, but head 'prediction' has 3 labels"),
            ({"task": "binary", "labels": ["P", "Q"]}, "gives 2 values, but head 'prediction' has 1 value of a binary"),
            ({"task": "quantile", "names": ["y"], "quantiles": [0.1, 0.5, 0.9]}, "has 3 names"),
            ({"task": "classification", "labels": ["P", "Q"]}, "a prediction per sequence, but layer 'head.0' gives"),
            ({"task": "regression", "names": ["y"], "layer": "fc"}, "head 'prediction' reads 'fc', which is no layer"),
        ],
        ids=str,
    )
    def test_a_head_that_does_not_fit_its_layer_is_refused(self, build, weights, head, message):
        with pytest.raises(ManifestError, match=message.replace(".", r"\.")):
            build(self.LAYERS, weights, [head])

    @pytest.mark.parametrize("task", ["tagging", "next_token"])
    def test_a_prediction_per_step_is_not_one_per_sequence(self, build, case, task):
        layers = ["embedding", "lstm", {"name": "pool", "type": "pool", "how": "last"}]
        module = case("embedding", "next_token", head=(8,), output={"seed": 1}).module
        inputs = case("embedding", None, head=None).pipeline.inputs
        with pytest.raises(ManifestError, match=rf"{task} gives a prediction per time step, but layer 'head\.0' gives"):
            build(
                [*layers, {"name": "head.0", "type": "linear"}],
                module,
                [{"task": task, "labels": list("abcdefgh")}],
                inputs,
            )

    def test_a_next_token_head_has_a_value_per_token(self, case):
        with pytest.raises(ManifestError, match="gives 2 values, but head 'prediction' has 8 vocabulary entries"):
            case("embedding", "next_token", output={"temperature": 0.5})

    def test_token_ids_are_no_prediction(self, build, case):
        made = case("embedding", None, head=None)
        with pytest.raises(ManifestError, match="head 'prediction' reads 'inputs', which is token ids"):
            build(
                ["embedding", "lstm"],
                made.module,
                [{"task": "tagging", "labels": list("abcdefgh"), "layer": "inputs"}],
                made.pipeline.inputs,
            )

    def test_tokens_without_a_vocabulary_are_refused(self, case):
        made = case("embedding", None, head=None)
        with pytest.raises(ManifestError, match="needs a vocabulary"):
            LayeredPipeline(made.pipeline.inputs, None, None, [], [], {})


def test_heads_may_be_called_as_methods_of_a_module_are(build, plain, regression):
    names = ("values", "keys", "forward", "training", "type", "half")
    heads = [regression(2, name=name) for name in names]
    pipeline = build(["lstm", {"name": "head.0", "type": "linear"}], plain(), heads)
    assert tuple(pipeline.heads) == names
    answer = ask(pipeline, [torch.zeros(3, 3)])
    assert tuple(answer.heads) == names[1:]


def test_scales_move_with_the_pipeline(build, plain, regression):
    pipeline = build(["lstm", {"name": "head.0", "type": "linear"}], plain(), [regression(2, mean=[1.0, 2.0])])
    assert pipeline.to(torch.float64).head.mean.dtype == torch.float64


def test_further_heads_are_answered_by_name_from_their_own_layers(build, plain, regression, ragged):
    module = nn.ModuleDict({"net": plain(head=(2,)), "end": nn.Linear(4, 3)})
    layers = [
        {"name": "lstm", "type": "lstm", "weights": "net.lstm"},
        {"name": "steps", "type": "linear", "weights": "net.head.0."},
        {"name": "pool", "type": "pool", "how": "last", "inputs": ["lstm"]},
        {"name": "end", "type": "linear"},
    ]
    heads = [
        regression(2, "steps", std=[2.0, 3.0]),
        {"name": "kind", "task": "classification", "labels": ["a", "b", "c"]},
        regression(4, "lstm", name="raw"),
    ]
    pipeline = build(layers, module, heads)
    answer = ask(pipeline, ragged)
    assert list(answer.heads) == ["kind", "raw"]
    assert pipeline.prediction_shape(7) == (7, 2)
    assert pipeline.prediction_shape(7, "kind") == (3,)
    assert pipeline.prediction_shape(7, "raw") == (7, 4)
    for row, sequence in enumerate(ragged):
        output = module.net.lstm(sequence[None])[0][0]
        expected = module.net.head(output) * torch.tensor([2.0, 3.0])
        torch.testing.assert_close(answer.prediction.values[row, : len(sequence)], expected, rtol=0, atol=1e-6)
        scores = module.end(output[-1])
        torch.testing.assert_close(answer.heads["kind"].values[row], scores, rtol=0, atol=1e-6)
        assert answer.heads["kind"].choices[row] == scores.argmax()
        torch.testing.assert_close(answer.heads["raw"].values[row, : len(sequence)], output, rtol=0, atol=1e-6)
    assert answer.heads["kind"].steps is None


def test_a_batch_of_tags_is_the_best_path_of_each_row(build, seeded_lstm, ragged, random):
    module = nn.ModuleDict({"lstm": seeded_lstm(3, 3, bidirectional=True, batch_first=True), "fc": nn.Linear(6, 3)})
    own = {
        "transitions": 3 * torch.randn(3, 3, generator=random),
        "start_transitions": torch.randn(3, generator=random),
        "end_transitions": torch.randn(3, generator=random),
    }
    weights = {**module.state_dict(), **{f"crf.{name}": value for name, value in own.items()}}
    layers = ["lstm", {"name": "fc", "type": "linear"}, "crf"]
    pipeline = build(layers, weights, [{"task": "tagging", "labels": ["a", "b", "c"]}])
    answer = ask(pipeline, ragged)
    alone = CRF(*own.values(), Shape(3))
    differs = False
    for row, sequence in enumerate(ragged):
        scores = module.fc(module.lstm(sequence[None])[0]).detach()
        path = alone.decode(scores, torch.tensor([len(sequence)]))[0]
        assert answer.prediction.choices[row, : len(sequence)].tolist() == path.tolist()
        torch.testing.assert_close(answer.prediction.values[row, : len(sequence)], scores[0], rtol=0, atol=1e-6)
        differs |= path.tolist() != scores[0].argmax(-1).tolist()
    assert differs
    assert pipeline.head.probabilities(answer.prediction.values) is None


def test_a_crf_is_for_tagging(build, seeded_lstm, regression):
    weights = {f"lstm.{name}": value for name, value in seeded_lstm(3, 2).state_dict().items()}
    weights |= {"crf.transitions": torch.zeros(2, 2), "crf.start_transitions": torch.zeros(2)}
    weights["crf.end_transitions"] = torch.zeros(2)
    with pytest.raises(ManifestError, match="reads the crf layer 'crf', which is for the task tagging"):
        build(["lstm", "crf"], weights, [regression(2)])


def test_weights_that_are_tied_serve_two_layers(build, case, texts):
    made = case("embedding", "next_token", head=(8,), output={"temperature": 0.0})
    lstm = made.module.lstm
    weights = {f"lstm.{name}": value for name, value in lstm.state_dict().items()}
    weights |= {"down.weight": torch.randn(5, 6), "embedding.weight": made.module.embedding.weight}
    layers = [
        "embedding",
        "lstm",
        {"name": "down", "type": "linear"},
        {"name": "out", "type": "linear", "weights": "embedding"},
    ]
    pipeline = build(layers, weights, [{"task": "next_token"}], made.pipeline.inputs)
    (ids,) = texts(6)
    expected = lstm(made.module.embedding(ids)[None])[0] @ weights["down.weight"].T @ weights["embedding.weight"].T
    values = pipeline.answer(Query(ids[None], torch.tensor([6]))).prediction.values
    torch.testing.assert_close(values, expected, rtol=1e-5, atol=1e-6)


def test_only_what_is_asked_for_is_computed(build, seeded_lstm, ragged, monkeypatch):
    ran = []
    module = nn.ModuleDict({"lstm": seeded_lstm(3, 3), "fc": nn.Linear(3, 1)})
    pipeline = build(["lstm", {"name": "fc", "type": "linear"}], module, [{"task": "regression", "names": ["y"]}])
    layer = pipeline.graph.layer("fc")
    forward = layer.forward
    monkeypatch.setattr(layer, "forward", lambda *values, steps: ran.append(1) or forward(*values, steps=steps))
    ask(pipeline, ragged, prediction=False, output=True, final_state=True)
    assert not ran
    ask(pipeline, ragged)
    assert ran


def test_warmup_asks_what_the_model_takes(stack, build, seeded_lstm):
    for pipeline in (stack[1], build(["lstm"], nn.ModuleDict({"lstm": seeded_lstm(3, 4)}), static=2)):
        for query in pipeline.warmup_queries():
            assert isinstance(pipeline.answer(query).output, Tensor)


class TestMixedCells:
    """An LSTM, a GRU and a plain recurrent network in one graph: two have no cell state."""

    STATED = ({"name": "gru", "type": "gru"}, "lstm", {"name": "rnn", "type": "rnn", "nonlinearity": "relu"})

    @pytest.fixture(params=[(0, 1, 2), (1, 0, 2), (2, 0), (0,), (2, 1)], ids=str)
    def mixed(self, request, build, seeded_lstm):
        """The pipeline, and its modules in order."""
        widths, stated = [3], [self.STATED[index] for index in request.param]
        modules = nn.ModuleDict()
        for index in request.param:
            name, width = ("gru", "lstm", "rnn")[index], (4, 5, 6)[index]
            make = (nn.GRU, seeded_lstm, lambda *given, **named: nn.RNN(*given, nonlinearity="relu", **named))[index]
            modules[name] = make(widths[-1], width, 2 if index == 0 else 1, batch_first=True)
            widths.append(width)
        modules.requires_grad_(requires_grad=False)
        return build(stated, modules), modules

    @pytest.fixture
    def rows(self, random):
        return [torch.randn(length, 3, generator=random) for length in LENGTHS]

    def test_the_states_are_split_as_they_were_joined(self, mixed, random):
        pipeline, modules = mixed
        specs = pipeline.state_modules
        assert list(specs) == list(modules)
        states = {
            name: State(*(torch.randn(shape, generator=random) for shape in spec.state_shapes(3).values()))
            for name, spec in specs.items()
        }
        joint = pipeline.join_states(states)
        assert [value.shape for value in joint] == [value.shape for value in pipeline.initial_state(3)]
        rows = State.unpacked(joint.packed(), pipeline.state_spec)
        assert all(torch.equal(mine, other) for mine, other in zip(joint, rows, strict=True))
        split = pipeline.split_state(joint)
        if len(modules) == 1:
            assert split is None
            return
        for name, state in split.items():
            assert state.names == specs[name].cell.states
            assert all(torch.equal(mine, other) for mine, other in zip(state, states[name], strict=True))

    def test_parts_give_what_the_whole_gives(self, mixed, rows):
        pipeline, modules = mixed
        value = rows[0][None]
        for module in modules.values():
            value = module(value)[0]
        last = list(modules)[-1]
        state, outputs = None, []
        for part in rows[0].split(2):
            query = Query(part[None], torch.tensor([len(part)]), initial_state=state, output=True, final_state=True)
            answer = pipeline.answer(replace(query, module=last))
            outputs.append(answer.output)
            state = answer.final_state
        torch.testing.assert_close(torch.cat(outputs, dim=1), value, rtol=0, atol=1e-6)

    def test_each_module_is_traced_and_explained(self, mixed, rows):
        pipeline, modules = mixed
        for name in modules:
            answer = pipeline.answer(Query(*pad(rows), trace=Selection(), module=name))
            assert answer.trace.spec.cell.module is type(modules[name])
            assert answer.trace.residual <= 1e-6
            for row, sequence in enumerate(rows):
                value = sequence[None]
                for each, module in modules.items():
                    value = module(value)[0]
                    if each == name:
                        break
                torch.testing.assert_close(answer.trace.output[row, : len(sequence)], value[0], rtol=0, atol=1e-6)
            query = Query(rows[0][None], torch.tensor([5]), explain=Point(0, "forward", 3, 1), module=name)
            explained = pipeline.answer(query).explained
            assert explained.residual <= 1e-6

    def test_a_ragged_batch_ends_where_each_row_does(self, mixed, rows):
        pipeline, _ = mixed
        together = pipeline.answer(Query(*pad(rows), final_state=True)).final_state
        for row, sequence in enumerate(rows):
            alone = pipeline.answer(Query(*pad([sequence]), final_state=True)).final_state
            for mine, other in zip(together, alone, strict=True):
                torch.testing.assert_close(mine[:, row], other[:, 0], rtol=0, atol=1e-6)
