"""A custom module predicts what its own forward gives, and what recurs inside is traced as the equations have it."""

import copy

import pytest
import torch
from torch import nn

import example_modules as examples
from example_modules import cells, faulty, streams
from gatescope.backends import reference
from gatescope.decompose import Point
from gatescope.errors import DeadlineExceeded, InvalidInput, ModuleError, ModuleFailed, ReplyTooLarge, TraceTooLarge
from gatescope.padding import pad
from gatescope.pipeline.custom.program import CustomProgram
from gatescope.pipeline.features import Feature, FeatureInputs
from gatescope.pipeline.heads import HeadConfig
from gatescope.pipeline.program.pipeline import ProgramPipeline
from gatescope.pipeline.query import Query
from gatescope.pipeline.tokens import TokenInputs
from gatescope.selection import Selection
from gatescope.state import State

LENGTHS = (24, 7, 12, 7)
NAMES = {"names": ("x", "y")}
LABELS = {"labels": ("P", "Q", "R")}


def features(count, **first):
    named = [Feature(name=f"f{index}", **(first if index == 0 else {})) for index in range(count)]
    return FeatureInputs(kind="features", features=tuple(named))


def widen(module):
    """Weights wide enough that the gates do not all stand at one half."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(-0.6, 0.6)
    return module


@pytest.fixture
def build():
    """`build(module, task, output, inputs=…, steps=…)`; without inputs, as many features as it takes."""

    def make(module, task="regression", output=NAMES, inputs=None, steps=32):
        vocabulary = len(inputs.characters) if isinstance(inputs, TokenInputs) else None
        head = None if task is None else HeadConfig(task=task, **output)
        program = CustomProgram(widen(module))
        return ProgramPipeline(inputs or features(3), vocabulary, head, program, steps)

    return make


@pytest.fixture
def rows(random):
    return [torch.randn(length, 3, generator=random) for length in LENGTHS]


TOKENS = TokenInputs(kind="tokens", vocabulary="characters", characters="abcde")


@pytest.fixture
def letters(random):
    return [torch.randint(0, 5, (length,), generator=random) for length in LENGTHS]


def ask(pipeline, rows, **wanted):
    return pipeline.answer(Query(*pad(rows), **wanted))


def assert_predicts(pipeline, module, rows, *also):
    """Each row as the module's own forward has it alone."""
    answer = ask(pipeline, rows)
    for index, row in enumerate(rows):
        own = module(row.clone()[None], *(value(row) for value in also))[0]
        values = answer.prediction.values[index]
        if answer.prediction.steps is not None:
            assert int(answer.prediction.steps[index]) == len(own)
            assert values[len(own) :].isnan().all()
            values = values[: len(own)]
        torch.testing.assert_close(values, own, rtol=0, atol=1e-5)
    return answer.prediction


def assert_traces(pipeline, name, rows, expected, state=None):
    """Each row's trace of this module is that of the equations over what is expected to go in, in float64."""
    answer = ask(pipeline, rows, module=name, trace=Selection(), output=True, final_state=True)
    assert answer.module == name
    assert answer.trace.residual < 1e-5
    lengths = [len(row) for row in expected]
    assert answer.sequence_lengths.tolist() == answer.trace.sequence_lengths.tolist() == lengths
    for index, read in enumerate(expected):
        own = None if state is None else state(index)
        oracle = reference.run(pipeline.lstms[name], read.double(), own)
        for signal in pipeline.spec_of(name).signal_names:
            values = answer.trace.signals[signal][index]
            torch.testing.assert_close(values[:, :, : len(read)].double(), oracle[signal], rtol=0, atol=1e-5)
            assert values[:, :, len(read) :].isnan().all()
        output = answer.output[index]
        torch.testing.assert_close(output[: len(read)].double(), oracle["output"], rtol=0, atol=1e-5)
        assert output[len(read) :].isnan().all()
        for name_of_state, final in answer.final_state.named().items():
            last = oracle[name_of_state][:, 0, -1]  # forward
            forward = final[:: pipeline.spec_of(name).num_directions, index]
            torch.testing.assert_close(forward.double(), last, rtol=0, atol=1e-5)
    return answer


def wide(module):
    return copy.deepcopy(module).double()


class TestExamples:
    def test_a_forecaster_with_dropout_and_its_scales(self, build, rows):
        module = examples.Forecaster()
        scaled = {"names": ("x", "y"), "mean": (5.0, 0.0), "std": (2.0, 1.0)}
        pipeline = build(module, "regression", scaled, features(3, mean=1.0, std=2.0))
        fed = [torch.cat(((row[:, :1] - 1) / 2, row[:, 1:]), dim=1) for row in rows]
        answer = ask(pipeline, rows)
        for index, row in enumerate(fed):
            own = module(row[None])[0] * torch.tensor([2.0, 1.0]) + torch.tensor([5.0, 0.0])
            torch.testing.assert_close(answer.prediction.values[index, : len(row)], own, rtol=0, atol=1e-5)
        answer = assert_traces(pipeline, "lstm", rows, fed)
        assert answer.aligned
        assert list(pipeline.module_inputs("lstm").names) == ["f0", "f1", "f2"]
        assert not any(inner.training for inner in module.modules())

    def test_an_encoder_and_a_decoder(self, build, rows):
        module = examples.EncoderDecoder()
        pipeline = build(module, output={"names": ("x",)})
        assert list(pipeline.lstms) == ["encoder", "decoder"]
        assert assert_predicts(pipeline, module, rows).steps.tolist() == [5] * 4
        assert_traces(pipeline, "encoder", rows, rows)
        written, states = [], []
        exact = wide(module)
        for row in rows:
            _, state = exact.encoder(row.double()[None])
            value = row[None, -1:, :1].double()
            states.append(State(*state))
            fed = []
            for _ in range(5):
                fed.append(value[0, 0])
                output, state = exact.decoder(value, state)
                value = exact.head(output)
            written.append(torch.stack(fed))
        answer = assert_traces(pipeline, "decoder", rows, written, states.__getitem__)
        assert not answer.aligned
        assert answer.prediction.steps.tolist() == [5] * 4

    def test_a_convolution_attention_and_both_directions_over_half_the_steps(self, build, rows):
        module = examples.ConvAttention()
        pipeline = build(module, "classification", LABELS)
        prediction = assert_predicts(pipeline, module, rows)
        assert prediction.choices.tolist() == prediction.values.argmax(dim=-1).tolist()
        exact = wide(module)
        read = [exact.conv(row.double().T[None]).relu()[0].T for row in rows]
        assert [len(row) for row in read] == [12, 4, 6, 4]
        answer = assert_traces(pipeline, "lstm", rows, read)
        assert not answer.aligned
        assert list(pipeline.module_inputs("lstm").names) == [f"input {index}" for index in range(6)]

    def test_packed_tokens_through_two_lstms(self, build, letters):
        module = examples.Tagger()
        pipeline = build(module, "tagging", {"labels": tuple("abcde")}, TOKENS)
        assert list(pipeline.lstms) == ["below", "above"]
        assert_predicts(pipeline, module, letters, lambda row: torch.tensor([len(row)]))
        exact = wide(module)
        embedded = [exact.embedding(row) for row in letters]
        assert assert_traces(pipeline, "below", letters, embedded).aligned
        between = [exact.below(row[None])[0][0] for row in embedded]
        assert not assert_traces(pipeline, "above", letters, between).aligned  # it has heard of every token

    def test_learnt_states_and_given_ones(self, build, rows, random):
        module = examples.Stateful()
        pipeline = build(module)
        assert_predicts(pipeline, module, rows)
        learnt = State(module.h0.double(), module.c0.double())
        assert_traces(pipeline, "lstm", rows, rows, lambda _: learnt)
        given = State(*torch.randn(2, 2, 4, 4, generator=random))
        answer = ask(pipeline, rows, initial_state=given, trace=Selection())
        for index, row in enumerate(rows):
            own = tuple(value[:, index : index + 1] for value in given)
            values = module(row.clone()[None], initial_state=own)[0]
            torch.testing.assert_close(answer.prediction.values[index], values, rtol=0, atol=1e-5)
            oracle = reference.run(module.lstm, row.double(), State(*(value.double() for value in own)))
            torch.testing.assert_close(
                answer.trace.cell_state[index, :, :, : len(row)].double(), oracle["cell_state"], rtol=0, atol=1e-5
            )
        assert torch.equal(answer.trace.initial_state.cell_state, given.cell_state)

    def test_chunks_that_carry_their_state(self, build, rows):
        module = examples.Chunked()
        pipeline = build(module)
        assert_predicts(pipeline, module, rows)
        assert assert_traces(pipeline, "lstm", rows, rows).aligned

    def test_siamese_predicts_and_says_why_it_cannot_be_traced(self, build, random):
        module = examples.Siamese()
        pipeline = build(module, output={"names": ("x",)}, inputs=features(4))
        rows = [torch.randn(length, 4, generator=random) for length in LENGTHS]
        assert_predicts(pipeline, module, rows)
        with pytest.raises(InvalidInput, match=r"module: 'lstm' is called 2 times, and call 1 does not begin in the"):
            ask(pipeline, rows, trace=Selection())
        assert_predicts(pipeline, module, rows)

    def test_row_by_row_is_traced_one_sequence_at_a_time(self, build, rows):
        module = examples.RowByRow()
        pipeline = build(module)
        assert_predicts(pipeline, module, rows)
        assert_traces(pipeline, "lstm", rows[:1], rows[:1])
        assert_traces(pipeline, "lstm", rows[:3], rows[:3])  # of different lengths: each goes into forward alone
        with pytest.raises(InvalidInput, match=r"module: 'lstm' is called 2 times"):
            ask(pipeline, [rows[1], rows[3]], trace=Selection())

    @pytest.mark.parametrize(
        ("task", "fields"),
        [
            ("multi_label", {"labels": ("P", "Q"), "threshold": 0.4}),
            ("quantile", {"names": ("x",), "quantiles": (0.1, 0.9), "mean": (3.0,)}),
        ],
    )
    def test_labels_that_do_not_exclude_each_other_and_quantiles(self, build, rows, task, fields):
        module = examples.Forecaster()
        pipeline = build(module, task, fields)
        answer = ask(pipeline, rows)
        for row, sequence in enumerate(rows):
            own = module(sequence[None])[0]
            values = answer.prediction.values[row, : len(sequence)]
            torch.testing.assert_close(values, own + fields.get("mean", (0.0,))[0], rtol=0, atol=1e-5)
            if task == "multi_label":
                choices = answer.prediction.choices[row, : len(sequence)]
                assert torch.equal(choices, values.sigmoid() >= 0.4)

    def test_without_a_task_there_is_the_lstm_alone(self, build, rows):
        pipeline = build(examples.Alone(), None, {})
        assert list(pipeline.lstms) == ["lstm", "unused"]
        assert pipeline.prediction_shape(5) is None
        assert assert_traces(pipeline, "lstm", rows, rows).prediction is None
        with pytest.raises(InvalidInput, match=r"'unused' did not run"):
            ask(pipeline, rows, module="unused", trace=Selection())

    def test_a_module_that_is_an_lstm_is_called_lstm(self, build, rows):
        pipeline = build(examples.plain_lstm(), None, {})
        assert assert_traces(pipeline, "lstm", rows, rows).aligned


LOOPS = [("LSTMCell", {}), ("GRUCell", {"bias": False}), ("RNNCell", {}), ("RNNCell", {"nonlinearity": "relu"})]


class TestCells:
    @pytest.mark.parametrize(("kind", "arguments"), LOOPS)
    def test_a_cell_in_a_loop(self, build, rows, kind, arguments):
        module = cells.Loop(kind, **arguments)
        pipeline = build(module)
        assert_predicts(pipeline, module, rows)
        assert assert_traces(pipeline, "cell", rows, rows).aligned
        assert list(pipeline.module_inputs("cell").names) == ["f0", "f1", "f2"]
        assert pipeline.spec.cell.cell_module.__name__ == kind
        assert pipeline.spec.bias == arguments.get("bias", True)
        assert set(pipeline.parameters()) == set(module.parameters())  # the cell's weights are not there twice

    def test_two_cells_a_step_one_of_them_backwards(self, build, rows):
        module = cells.BothWays()
        pipeline = build(module)
        assert_predicts(pipeline, module, rows)
        assert assert_traces(pipeline, "forwards", rows, rows).aligned
        answer = assert_traces(pipeline, "backwards", rows, [row.flip(0) for row in rows])  # time is the cell's own
        assert list(pipeline.lstms) == ["forwards", "backwards"]
        exact, state = wide(module).backwards, None
        for step in rows[2].double().flip(0):
            state = exact(step, state)
        torch.testing.assert_close(answer.trace.hidden_state[2, 0, 0, 11].double(), state, rtol=0, atol=1e-5)

    def test_modules_and_cells_of_every_kind_in_one(self, build, rows):
        module = cells.Mixed()
        pipeline = build(module, output={"names": ("x",)})
        assert list(pipeline.lstms) == ["gru", "rnn", "lstm", "cells.0", "cells.1", "unused"]
        kinds = [pipeline.spec_of(name).cell for name in pipeline.lstms]
        assert [cell.name for cell in kinds] == ["gru", "rnn", "lstm", "lstm", "rnn", "rnn"]
        assert [cell.nonlinearity for cell in kinds] == [None, "relu", None, None, "tanh", "tanh"]
        assert_predicts(pipeline, module, rows)
        exact = wide(module)
        read = [[row.double() for row in rows]]
        read.append([exact.gru(row[:, None])[0][:, 0] for row in read[-1]])
        read.append([exact.rnn(row[None])[0][0] for row in read[-1]])
        last = [exact.lstm(row[None])[0][0, -1] for row in read[-1]]
        read.append([step.expand(3, -1) for step in last])
        above = []
        for step in last:
            state, steps = None, []
            for _ in range(3):
                state = exact.cells[0](step[None], state)
                steps.append(state[0][0])
            above.append(torch.stack(steps))
        read.append(above)
        for name, expected in zip(pipeline.lstms, read, strict=False):
            assert_traces(pipeline, name, rows, expected)
        with pytest.raises(InvalidInput, match=r"'unused' did not run"):
            ask(pipeline, rows, module="unused", trace=Selection())

    @pytest.mark.parametrize(
        "how", ["without_gradients", "in_inference_mode", "dropped", "masked_in_padding", "in_place"]
    )
    def test_ways_of_calling_that_make_one_run(self, build, rows, how):
        module = cells.Told(how)
        pipeline = build(module)
        assert_predicts(pipeline, module, rows)
        assert assert_traces(pipeline, "cell", rows, rows).aligned

    def test_row_by_row_is_traced_one_sequence_at_a_time(self, build, rows):
        module = cells.Told("row_by_row")
        pipeline = build(module)
        assert_predicts(pipeline, module, rows)
        assert_traces(pipeline, "cell", rows[:3], rows[:3])
        with pytest.raises(InvalidInput, match=r"module: 'cell' is called 14 times, and call 7 does not begin in the"):
            ask(pipeline, [rows[1], rows[3]], trace=Selection())

    @pytest.mark.parametrize(
        ("how", "said"),
        [
            ("masked", "does not begin in the state where call .* its state is changed in between, as by a mask"),
            ("scaled", "'cell' is called 24 times, and call 1 does not begin in the state where call 0 ended"),
            ("twice_a_step", "'cell' is called 48 times, and call 1 does not begin in the state where call 0 ended"),
            ("own_batch", "'cell' reads a batch of 2 where there are 1 sequences"),
        ],
    )
    def test_what_is_no_run_over_the_sequences_predicts_and_says_why(self, build, rows, how, said):
        module = cells.Told(how)
        pipeline = build(module)
        assert_predicts(pipeline, module, rows)
        with pytest.raises(InvalidInput, match=said):
            ask(pipeline, rows[:1], trace=Selection())
        assert_predicts(pipeline, module, rows)

    def test_a_batch_that_shrinks_is_refused(self, build, rows):
        module = cells.Told("fewer_rows")
        with pytest.raises(ModuleError, match="the rows of a batch depend on one another"):
            build(module)
        pipeline = build(cells.Told("without_gradients"))
        pipeline.program.module.how = "fewer_rows"
        with pytest.raises(InvalidInput, match=r"'cell' is called 7 times, calls 2 and 3 with batches of 2 and 1"):
            ask(pipeline, [rows[1], rows[3]], trace=Selection())

    def test_one_call_is_a_run_of_one_step(self, build, rows):
        pipeline = build(cells.CellAlone(), None, {})
        assert not assert_traces(pipeline, "cell", rows, [row[-1:] for row in rows]).aligned

    def test_a_weight_that_is_computed_from_others(self, build, rows):
        module = cells.NormedLoop()
        pipeline = build(module)
        assert_predicts(pipeline, module, rows)
        answer = assert_traces(pipeline, "cell", rows, rows)
        exact, state = wide(module), None
        for step in rows[1].double():
            state = exact.cell(step, state)
        torch.testing.assert_close(answer.trace.hidden_state[1, 0, 0, 6].double(), state, rtol=0, atol=1e-5)

    def test_one_unit_of_a_cell_is_explained(self, build, rows):
        pipeline = build(cells.Loop("GRUCell"))
        answer = ask(pipeline, rows[1:2], explain=Point(0, "forward", -1, 2))
        expected = reference.run(pipeline.lstms["cell"], rows[1].double())["hidden_state"][0, 0, -1, 2]
        assert answer.explained.decomposition.updates["hidden_state"].value == pytest.approx(float(expected), abs=1e-6)

    def test_its_hooks_are_removed(self, build, rows):
        module = cells.Loop()
        pipeline = build(module)
        ask(pipeline, rows, trace=Selection())
        assert not any(inner._forward_hooks or inner._forward_pre_hooks for inner in module.modules())


def in_parts(pipeline, inputs, sizes, state=None):
    """The prediction of each part of (batch, time, …), the state carried; the last state."""
    values = []
    for part in inputs.split(sizes, dim=1):
        lengths = torch.full((len(part),), part.shape[1])
        answer = pipeline.answer(Query(part, lengths, initial_state=state, final_state=True))
        values.append(answer.prediction.values)
        state = answer.final_state
    return values, state


STREAMS = [
    (streams.Stream, {"kind": "LSTM"}),
    (streams.Stream, {"kind": "LSTM", "layers": 1}),
    (streams.Stream, {"kind": "GRU"}),
    (streams.Stream, {"kind": "RNN", "nonlinearity": "relu"}),
    (streams.DictStream, {"kind": "GRU", "layers": 1}),
    (streams.CellStream, {}),
]


class TestInParts:
    @pytest.fixture(params=STREAMS, ids=str)
    def module(self, request):
        kind, arguments = request.param
        return kind(**arguments)

    def own(self, module, inputs, state=None):
        made = module(inputs, state)
        return (made["prediction"], made["final_state"]) if isinstance(made, dict) else made

    def test_parts_are_the_whole(self, build, module, random):
        pipeline = build(module)
        assert (pipeline.runs_in_parts, pipeline.parts_refusal) == (True, None)
        inputs = torch.randn(3, 12, 3, generator=random)
        expected, state = self.own(module, inputs)
        for sizes in ([12], [1] * 12, [5, 1, 6]):
            values, reached = in_parts(pipeline, inputs, sizes)
            torch.testing.assert_close(torch.cat(values, dim=1), expected, rtol=0, atol=1e-5)
            own = State(*(state if isinstance(state, tuple) else (state,)))
            for given, theirs in zip(reached, own, strict=True):
                torch.testing.assert_close(given.reshape(theirs.shape), theirs, rtol=0, atol=1e-5)

    def test_its_state_has_the_layout_of_the_module_that_runs_first(self, build, module, random):
        pipeline = build(module)
        assert pipeline.state_modules == {next(iter(pipeline.lstms)): pipeline.spec}
        begin = pipeline.initial_state(2)
        assert {name: tuple(value.shape) for name, value in begin.named().items()} == pipeline.spec.state_shapes(2)
        inputs = torch.randn(2, 7, 3, generator=random)
        values, _ = in_parts(pipeline, inputs, [3, 4], begin)
        torch.testing.assert_close(torch.cat(values, dim=1), self.own(module, inputs)[0], rtol=0, atol=1e-5)
        packed = State.unpacked(begin.packed(), pipeline.state_spec)
        assert all(torch.equal(*pair) for pair in zip(packed, begin, strict=True))

    def test_a_traced_part_begins_where_the_one_before_ended(self, build, module, random):
        pipeline = build(module)
        inputs, name = torch.randn(2, 9, 3, generator=random), next(iter(pipeline.lstms))
        whole = pipeline.answer(Query(inputs, torch.tensor([9, 9]), trace=Selection())).trace
        first = Query(inputs[:, :4], torch.tensor([4, 4]), final_state=True)
        state = pipeline.answer(first).final_state
        asked = Query(inputs[:, 4:], torch.tensor([5, 5]), initial_state=state, trace=Selection(), final_state=True)
        answer = pipeline.answer(asked)
        assert answer.module == name
        for signal, values in answer.trace.signals.items():
            torch.testing.assert_close(values, whole.signals[signal][:, :, :, 4:], rtol=0, atol=1e-5)
        for given, own in zip(answer.final_state, answer.trace.final_state, strict=True):
            torch.testing.assert_close(given, own, rtol=0, atol=1e-6)

    def test_a_horizon_goes_on_from_the_state(self, build, module, rows, random):
        pipeline = build(module, output=TestHorizon.NEXT)
        future = torch.randn(4, 6, 3, generator=random)
        future[..., 0] = torch.nan
        calls = []
        handle = module.register_forward_pre_hook(lambda _, args: calls.append(args[0].shape[1]))
        answer = ask(pipeline, rows, horizon=6, future_inputs=future)
        handle.remove()
        assert sorted(calls) == sorted([*{len(row) for row in rows}, *[1] * 5])
        for index, row in enumerate(rows):
            predicted, _ = TestHorizon().by_hand(module, row, future[index], self.own_last)
            torch.testing.assert_close(answer.prediction.values[index], predicted, rtol=0, atol=1e-5)

    def own_last(self, made):
        return (made["prediction"] if isinstance(made, dict) else made[0])[0, -1]

    def test_a_prediction_per_sequence(self, build, rows, random):
        module = streams.LastStream("GRU")
        pipeline = build(module)
        assert pipeline.runs_in_parts
        future = torch.randn(4, 5, 3, generator=random)
        values = ask(pipeline, rows, horizon=5, future_inputs=future).prediction.values
        for index, row in enumerate(rows):
            whole = torch.cat((row, future[index]))
            expected = torch.cat([module(whole[None, : len(row) + step])[0] for step in range(1, 6)])
            torch.testing.assert_close(values[index], expected, rtol=0, atol=1e-5)

    def test_packed_tokens_end_each_in_their_own_state(self, build, letters):
        module = streams.TokenStream()
        pipeline = build(module, "next_token", {}, TOKENS)
        assert pipeline.runs_in_parts
        answer = ask(pipeline, letters, final_state=True)
        for index, row in enumerate(letters):
            _, state = module(row[None], torch.tensor([len(row)]))
            torch.testing.assert_close(answer.final_state.hidden_state[:, index], state[:, 0], rtol=0, atol=1e-6)
        written = ask(pipeline, letters, horizon=4).prediction.choices
        for index, row in enumerate(letters):
            read = row
            for _ in range(4):
                read = torch.cat((read, module(read[None], torch.tensor([len(read)]))[0][0, -1].argmax()[None]))
            assert written[index].tolist() == read[len(row) :].tolist()

    def test_where_it_begins_is_the_modules_own(self, build):
        module = streams.CellStream()
        pipeline = build(module)
        begin = pipeline.initial_state(3)
        assert torch.equal(begin.hidden_state, module.h0.expand(1, 3, -1))
        assert torch.equal(begin.cell_state, module.c0.expand(1, 3, -1))

    def test_a_module_without_a_head(self, build, random):
        pipeline = build(streams.Stream("GRU"), None, {})
        assert pipeline.runs_in_parts
        inputs = torch.randn(1, 6, 3, generator=random)
        whole = pipeline.answer(Query(inputs, torch.tensor([6]), output=True, final_state=True))
        first = pipeline.answer(Query(inputs[:, :2], torch.tensor([2]), final_state=True))
        asked = Query(inputs[:, 2:], torch.tensor([4]), initial_state=first.final_state, output=True)
        torch.testing.assert_close(pipeline.answer(asked).output, whole.output[:, 2:], rtol=0, atol=1e-5)

    @pytest.mark.parametrize(
        ("how", "said"),
        [
            ("no_state", "its forward gives no state back; let it return the prediction and the state"),
            ("old_state", "it gives something else"),
            ("lost_state", "it gives something else"),
            ("lost_state_unseen", "it gives something else"),
            ("neighbours", "it gives something else"),
            ("mean", "it gives something else"),
            ("fails_on_one_step", "a trial in parts failed: the module's forward gives NaN or Infinity"),
            ("own_steps", "it predicts steps of its own"),
        ],
    )
    def test_a_module_that_cannot_is_served_whole(self, build, rows, how, said):
        module = streams.Wrong(how)
        pipeline = build(module)
        assert not pipeline.runs_in_parts
        assert said in pipeline.parts_refusal
        assert pipeline.state_modules == {}
        values = ask(pipeline, rows[:1]).prediction.values
        own = module(rows[0][None])
        torch.testing.assert_close(values, own if how == "no_state" else own[0], rtol=0, atol=1e-5)

    def test_a_state_behind_the_padding_is_none_to_go_on_from(self, build):
        pipeline = build(streams.TokenStream(packs=False), "next_token", {}, TOKENS)
        assert "it gives something else" in pipeline.parts_refusal

    def test_one_trial_step_cannot_be_divided(self, build):
        assert "`trial_steps` = 1" in build(streams.Stream(), steps=1).parts_refusal
        for steps in (2, 3):
            assert build(streams.Stream(), steps=steps).runs_in_parts

    def test_a_forward_without_a_state(self, build):
        assert build(examples.Forecaster()).parts_refusal == "its forward has no parameter `initial_state`"
        assert "gives no state back" in build(examples.Stateful()).parts_refusal

    @pytest.mark.parametrize(
        ("how", "said"),
        [
            (
                "only_hidden",
                "must be like the one that it takes, a tuple of (1, 2, 4), (1, 2, 4): return the prediction alone,",
            ),
            ("two_layers", "gives tuple beside its prediction"),
            ("three", "gives tuple, not a tensor; return the prediction alone"),
            ("infinite", "gives NaN or Infinity in its state"),
        ],
    )
    def test_another_state_is_refused_when_loaded(self, build, how, said):
        assert said in refusal(build, streams.Wrong(how))

    def test_another_state_in_a_request_fails_it(self, build, rows):
        module = streams.Stream()
        pipeline = build(module)
        module.give = lambda prediction, state: (prediction, state[0])
        with pytest.raises(ModuleFailed, match=r"gives a tensor \(2, 1, 4\) beside its prediction"):
            ask(pipeline, rows[:1], final_state=True)


class TestHorizon:
    NEXT = {"names": ("f0", "spare"), "predicts": "next_step"}  # noqa: RUF012 (read only)

    def by_hand(self, module, row, future, pick):
        """Forward again for every step, over all that was read and fed back so far."""
        predicted, read = [], row
        for known in future:
            predicted.append(pick(module(read.clone()[None])))
            fed = torch.cat((predicted[-1][:1], known[1:]))
            read = torch.cat((read, fed[None]))
        return torch.stack(predicted), read

    @pytest.mark.parametrize(
        ("module", "pick"),
        [(examples.Forecaster, lambda given: given[0, -1]), (examples.Stateful, lambda given: given[0])],
        ids=["per step", "per sequence"],
    )
    def test_predictions_are_fed_back_and_forward_runs_again(self, build, rows, random, module, pick):
        made = module()
        pipeline = build(made, output=self.NEXT)
        future = torch.randn(4, 6, 3, generator=random)
        future[..., 0] = torch.nan
        answer = ask(pipeline, rows, horizon=6, future_inputs=future, trace=Selection())
        assert answer.prediction.values.shape == (4, 6, 2)
        assert answer.sequence_lengths.tolist() == [length + 6 for length in LENGTHS]
        for index, row in enumerate(rows):
            predicted, read = self.by_hand(made, row, future[index], pick)
            torch.testing.assert_close(answer.prediction.values[index], predicted, rtol=0, atol=1e-5)
            torch.testing.assert_close(answer.inputs[index, : len(read)], read, rtol=0, atol=1e-5)

    @pytest.mark.parametrize("module", [examples.Forecaster, examples.Stateful], ids=["per step", "per sequence"])
    def test_known_steps_are_read_ahead(self, build, rows, random, module):
        made = module()
        pipeline = build(made)
        future = torch.randn(4, 6, 3, generator=random)
        values = ask(pipeline, rows, horizon=6, future_inputs=future).prediction.values
        for index, row in enumerate(rows):
            whole = torch.cat((row, future[index]))
            if module is examples.Forecaster:
                expected = made(whole[None])[0, len(row) :]
            else:
                expected = torch.cat([made(whole[None, : len(row) + step].clone()) for step in range(1, 7)])
            torch.testing.assert_close(values[index], expected, rtol=0, atol=1e-5)

    def test_tokens_are_written(self, build, letters):
        module = examples.Tagger()
        pipeline = build(module, "next_token", {}, TOKENS)
        choices = ask(pipeline, letters, horizon=5).prediction.choices
        for index, row in enumerate(letters):
            read = row
            for _ in range(5):
                scores = module(read[None], torch.tensor([len(read)]))[0, -1]
                read = torch.cat((read, scores.argmax()[None]))
            assert choices[index].tolist() == read[len(row) :].tolist()

    def test_where_nothing_can_run_on_the_reason_is_given(self, build):
        own = build(examples.EncoderDecoder(), output={"names": ("x",)})
        assert "predicts 5 steps of its own" in own.horizon_refusal
        assert "(classification)" in build(examples.ConvAttention(), "classification", LABELS).horizon_refusal
        assert "(no task)" in build(examples.Alone(), None, {}).horizon_refusal
        assert build(examples.Forecaster()).horizon_refusal is None


class TestExplain:
    def test_one_unit_of_a_chosen_lstm(self, build, letters):
        module = examples.Tagger()
        pipeline = build(module, "tagging", {"labels": tuple("abcde")}, TOKENS)
        row = letters[1]
        answer = ask(pipeline, [row], module="above", explain=Point(0, "forward", -1, 2))
        assert (answer.module, answer.aligned, answer.explained.point.time_step) == ("above", False, 6)
        exact = wide(module)
        read = exact.below(exact.embedding(row)[None])[0][0].detach()
        expected = reference.run(exact.above, read)["cell_state"][0, 0, -1, 2]
        assert answer.explained.decomposition.updates["cell_state"].value == pytest.approx(float(expected), abs=1e-6)
        assert answer.explained.residual < 1e-6

    def test_a_step_that_the_lstm_does_not_have(self, build, rows):
        pipeline = build(examples.ConvAttention(), "classification", LABELS)
        with pytest.raises(InvalidInput, match="sequence has 0 to 3"):
            ask(pipeline, rows[1:2], explain=Point(0, "forward", 4, 0))


class TestBounds:
    def test_a_trace_over_steps_of_its_own_is_bounded_when_they_are_known(self, build, rows):
        pipeline = build(examples.EncoderDecoder(steps=50), output={"names": ("x",)})
        wanted = {"module": "decoder", "trace": Selection(signals=("input_gate",), units=(0,))}
        size = 4 * 50 * 4
        assert ask(pipeline, rows, **wanted, most_bytes=size).trace.input_gate.shape == (4, 1, 1, 50, 1)
        with pytest.raises(TraceTooLarge, match=rf"has {size} bytes"):
            ask(pipeline, rows, **wanted, most_bytes=size - 1)
        with pytest.raises(ReplyTooLarge):
            ask(pipeline, rows, module="decoder", output=True, most_bytes=size)

    def test_a_selection_of_none_of_its_steps_is_refused(self, build, rows):
        pipeline = build(examples.ConvAttention(), "classification", LABELS)
        with pytest.raises(InvalidInput, match=r"time: selects none of the 12 time steps"):
            ask(pipeline, rows, trace=Selection(time=slice(12, None)))

    def test_nobody_waits_for_an_abandoned_answer(self, build, rows):
        pipeline = build(examples.Forecaster())
        with pytest.raises(DeadlineExceeded):
            ask(pipeline, rows, is_cancelled=lambda: True)


def refusal(build, how, task="regression", output=NAMES, **arguments):
    with pytest.raises(ModuleError) as refused:
        build(how if isinstance(how, nn.Module) else faulty.Faulty(how), task, output, **arguments)
    return str(refused.value)


class TestRefusedWhenLoaded:
    @pytest.mark.parametrize(
        ("how", "said"),
        [
            ("raises", r"forward over a batch of 2 × 32 steps raised RuntimeError: size mismatch"),
            ("exits", "raised SystemExit: bye"),
            ("tuple", "gives tuple, not a tensor; return the prediction alone"),
            ("whole_numbers", "torch.int64, not floating-point numbers"),
            ("flat", "gives shape (128,) for a batch of 2 × 32 steps; for regression it must be (batch, value)"),
            ("squeezed", "gives shape (2,) for a batch of 1 × 32 steps, but (1, 2) follows"),
            ("transposed", "gives shape (32, 2, 2) for a batch of 2 × 32 steps"),
            ("nan", "gives NaN or Infinity at [0, 0, 0]"),
            ("random", "draws at random, or keeps something"),
            ("remembers", "draws at random, or keeps something"),
            ("mixes_rows", "the rows of a batch depend on one another"),
        ],
    )
    def test_a_forward_that_goes_wrong(self, build, how, said):
        message = refusal(build, how)
        assert message.startswith("a trial run failed: ")
        assert said in message
        assert ("`trial_steps`" in message) == ("raised" in message)

    def test_a_missing_batch_first(self, build):
        assert "is a recurrent module without batch_first given" in refusal(build, faulty.TimeFirst())

    def test_no_recurrent_module_or_one_that_is_never_called(self, build):
        expected = "the module has none of nn.LSTM, nn.LSTMCell, nn.GRU, nn.GRUCell, nn.RNN, nn.RNNCell to look into"
        assert refusal(build, faulty.no_lstm()) == expected
        assert "calls none of its recurrent modules (lstm)" in refusal(build, faulty.NeverCalled())
        assert "calls none of its recurrent modules (cell)" in refusal(build, cells.Told("never"))

    @pytest.mark.parametrize(
        ("task", "output", "said"),
        [
            ("regression", {"names": ("x", "y", "z")}, "predicts 2 values, but there are 3 names"),
            ("tagging", {"labels": ("P", "Q", "R")}, "predicts 2 values, but there are 3 labels"),
            ("classification", LABELS, "for classification it must be (batch, label)"),
        ],
    )
    def test_another_task_than_its_own(self, build, task, output, said):
        assert said in refusal(build, examples.Forecaster(), task, output)

    def test_a_tagger_must_tag_every_step(self, build):
        own = refusal(build, examples.EncoderDecoder(), "tagging", {"labels": ("P",)})
        assert "for tagging it must be (batch, time, label)" in own

    def test_the_trial_is_as_long_as_the_manifest_says(self, build):
        assert "index out of range" in refusal(build, "refuses_long", steps=41)
        assert build(faulty.Faulty("refuses_long"), steps=40).prediction_shape(7) == (7, 2)
        for steps in (1, 2):
            assert build(examples.Forecaster(), steps=steps).module_inputs("lstm").aligned


class TestRequestsThatFail:
    @pytest.mark.parametrize(
        ("how", "said"),
        [
            ("refuses_long", "forward over a batch of 1 × 41 steps raised IndexError: index out of range in self"),
            ("exits_when_long", "raised SystemExit: 1"),
            ("infinite_when_long", "gives NaN or Infinity at [0, 0, 0]"),
            ("other_shape_when_long", r"gives shape (1, 40, 2) for a batch of 1 × 41 steps, but (1, 41, 2) follows"),
        ],
    )
    def test_the_error_has_a_name_and_the_next_request_its_answer(self, build, rows, random, how, said):
        module = faulty.Faulty(how)
        pipeline = build(module)
        with pytest.raises(ModuleFailed) as failed:
            ask(pipeline, [torch.randn(41, 3, generator=random), *rows], trace=Selection())
        assert said in str(failed.value)
        assert not any(inner._forward_hooks or inner._forward_pre_hooks for inner in module.modules())
        assert ask(pipeline, rows, trace=Selection()).trace.residual < 1e-6

    def test_an_lstm_that_runs_only_sometimes_or_over_other_rows(self, build, rows, random):
        pipeline = build(faulty.Sometimes())
        assert list(pipeline.lstms) == ["lstm", "folded", "long"]
        with pytest.raises(InvalidInput, match=r"'long' did not run over these inputs"):
            ask(pipeline, rows, module="long", trace=Selection())
        long = [torch.randn(41, 3, generator=random)]
        assert_traces(pipeline, "long", long, long)
        with pytest.raises(InvalidInput, match=r"'folded' reads a batch of 3 where there are 1 sequences"):
            ask(pipeline, long, module="folded", trace=Selection())
