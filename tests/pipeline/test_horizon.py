import copy

import numpy as np
import pytest
import torch
from torch import nn

from gatescope.backends import reference
from gatescope.cells import LSTM
from gatescope.interventions import Intervention
from gatescope.padding import pad
from gatescope.pipeline.features import Feature, FeatureInputs
from gatescope.pipeline.heads import HeadConfig
from gatescope.pipeline.query import Query
from gatescope.pipeline.sampling import Sampling
from gatescope.selection import Selection
from gatescope.state import State
from tests.interventions import by_hand

LENGTHS = (5, 1, 3)
HORIZON = 4
NEXT = {"names": ("spare", "demand"), "mean": (0.0, 9.0), "std": (1.0, 5.0), "predicts": "next_step"}
CHARACTERS = 8


@pytest.fixture
def future(days):
    """(3, 4, 3): day and hour are known, the demand is not."""
    known = torch.stack(days(*[HORIZON] * 3))
    known[..., 0] = torch.nan
    return known


class TestForecasts:
    """Predictions of the next step, fed back."""

    def by_hand(self, made, encode, sequence, future):
        """Run the whole sequence again for every step, with what was predicted appended."""
        rows, predictions = list(sequence), []
        for known in future:
            head = made.module(encode(torch.stack(rows))[None])[0, -1]
            predictions.append(torch.stack((head[0], head[1] * 5 + 9)))
            demand = predictions[-1][1] if known[0].isnan() else known[0]
            rows.append(torch.stack((demand, known[1], known[2])))
        return torch.stack(predictions), torch.stack(rows)

    @pytest.mark.parametrize("steps", ["all", "last"])
    def test_a_forecast_equals_a_loop_written_by_hand(self, case, days, encode, future, steps):
        made = case(output=NEXT, steps=steps, num_layers=2)
        rows = days(*LENGTHS)
        answer = made.ask(rows, horizon=HORIZON, future_inputs=future)
        assert answer.horizon == HORIZON
        assert answer.prediction.values.shape == (3, HORIZON, 2)
        assert answer.prediction.steps.tolist() == [HORIZON] * 3
        assert answer.sequence_lengths.tolist() == [length + HORIZON for length in LENGTHS]
        for row, sequence in enumerate(rows):
            predicted, read = self.by_hand(made, encode, sequence, future[row])
            torch.testing.assert_close(answer.prediction.values[row], predicted, rtol=0, atol=1e-4)
            torch.testing.assert_close(answer.inputs[row, : len(read)], read, rtol=0, atol=1e-4)

    def test_a_value_that_is_known_ahead_is_not_overwritten(self, case, days, encode, future):
        made = case(output=NEXT)
        rows = days(*LENGTHS)
        future[1, 2, 0] = 17.0
        answer = made.ask(rows, horizon=HORIZON, future_inputs=future)
        predicted, read = self.by_hand(made, encode, rows[1], future[1])
        assert answer.inputs[1, LENGTHS[1] + 2, 0] == 17.0
        torch.testing.assert_close(answer.prediction.values[1], predicted, rtol=0, atol=1e-4)
        torch.testing.assert_close(answer.inputs[1, : len(read)], read, rtol=0, atol=1e-4)

    def test_the_first_forecast_is_the_prediction_at_the_last_step(self, case, days, future):
        made, rows = case(output=NEXT), days(*LENGTHS)
        plain = made.ask(rows).prediction.values
        ahead = made.ask(rows, horizon=HORIZON, future_inputs=future).prediction.values
        for row, length in enumerate(LENGTHS):
            torch.testing.assert_close(ahead[row, 0], plain[row, length - 1], rtol=0, atol=1e-5)

    def test_a_shorter_horizon_is_the_beginning_of_a_longer_one(self, case, days, future):
        made, rows = case(output=NEXT), days(*LENGTHS)
        long = made.ask(rows, horizon=HORIZON, future_inputs=future)
        short = made.ask(rows, horizon=2, future_inputs=future[:, :2])
        torch.testing.assert_close(short.prediction.values, long.prediction.values[:, :2], rtol=0, atol=1e-6)

    def test_a_row_is_forecast_alike_alone_and_in_a_batch(self, case, days, future, random):
        made, rows = case(output=NEXT), days(*LENGTHS)
        state = made.state(3, random)
        together = made.ask(rows, horizon=HORIZON, future_inputs=future, initial_state=state, final_state=True)
        for row, sequence in enumerate(rows):
            alone = made.ask(
                [sequence],
                horizon=HORIZON,
                future_inputs=future[row : row + 1],
                initial_state=State(*(value[:, row : row + 1] for value in state)),
                final_state=True,
            )
            torch.testing.assert_close(together.prediction.values[row], alone.prediction.values[0], rtol=0, atol=1e-5)
            for mine, other in zip(together.final_state, alone.final_state, strict=True):
                torch.testing.assert_close(mine[:, row], other[:, 0], rtol=0, atol=1e-5)

    def test_output_state_and_trace_cover_the_further_steps(self, case, days, encode, future):
        made, rows = case(output=NEXT), days(*LENGTHS)
        answer = made.ask(rows, horizon=HORIZON, future_inputs=future, output=True, final_state=True, trace=Selection())
        assert answer.output.shape == (3, 5 + HORIZON, 6)
        assert answer.trace.input_gate.shape == (3, 1, 1, 5 + HORIZON, 6)
        assert answer.trace.sequence_lengths.tolist() == [9, 5, 7]
        for row, length in enumerate(answer.sequence_lengths.tolist()):
            fed = encode(answer.inputs[row, :length])
            expected = reference.run(made.module.lstm, fed.double())
            for signal in LSTM.signal_names:
                mine = answer.trace.signals[signal][row, :, :, :length].double()
                torch.testing.assert_close(mine, expected[signal], rtol=0, atol=1e-5)
            torch.testing.assert_close(answer.output[row, :length].double(), expected["output"], rtol=0, atol=1e-5)
            assert answer.output[row, length:].isnan().all()
            last = expected["cell_state"][:, 0, -1]
            torch.testing.assert_close(answer.final_state.cell_state[:, row].double(), last, rtol=0, atol=1e-5)

    def test_a_prediction_that_was_not_asked_for_is_not_given(self, case, days, future):
        answer = case(output=NEXT).ask(days(*LENGTHS), horizon=HORIZON, future_inputs=future, prediction=False)
        assert answer.prediction is None


class TestEdits:
    """Edits are of the steps of the inputs; those of the horizon see what comes of them."""

    EDITS = (
        Intervention("forget_gate", units=(1, 4), start=-4, set=0.875),
        Intervention("cell_state", 1, units=(0,), start=2, freeze=True, sequences=(0, 2)),
        Intervention("output_gate", 1, units=(2,), mean=True),
    )

    def by_hand(self, made, fed, length):
        """The head's values of each step of a sequence (time, feature), edited in its first steps, in float64."""
        before = by_hand.run(made.module.lstm, fed[:length], [])
        mean = before.signals[1, "forward"]["output_gate"][:, 2:3].mean(axis=0)
        first = max(0, LENGTHS[0] - 4)
        edits = [
            by_hand.Edit("forget_gate", 0, "forward", [1, 4], range(first, length), lambda *_: np.full(2, 0.875)),
            by_hand.Edit("output_gate", 1, "forward", [2], range(length), lambda *_: mean),
        ]
        if length > 2:
            edits.append(by_hand.Edit("cell_state", 1, "forward", [0], range(2, length), lambda _, __, was: was))
        output = torch.tensor(by_hand.run(made.module.lstm, fed, edits).output)
        return copy.deepcopy(made.module.head).double()(output).detach()

    @pytest.mark.parametrize("steps", ["all", "last"])
    def test_predictions_that_are_fed_back_follow_from_edited_states(self, case, days, encode, future, steps):
        made = case(output=NEXT, steps=steps, num_layers=2)
        rows = days(*LENGTHS)
        answer = made.ask(
            rows, horizon=HORIZON, future_inputs=future, interventions=self.EDITS, trace=Selection(), output=True
        )
        plain = made.ask(rows, horizon=HORIZON, future_inputs=future).prediction.values
        assert (answer.prediction.values - plain).abs().amax(dim=(1, 2)).gt(1e-3).tolist() == [True, False, True]
        for row, length in enumerate(LENGTHS):
            fed = encode(answer.inputs[row, : length + HORIZON])
            head = self.by_hand(made, fed, length)[length - 1 : -1]
            expected = torch.stack((head[:, 0], head[:, 1] * 5 + 9), dim=1)
            torch.testing.assert_close(answer.prediction.values[row].double(), expected, rtol=0, atol=1e-4)
            torch.testing.assert_close(
                answer.inputs[row, length : length + HORIZON, 0].double()[:-1], expected[:-1, 1], rtol=0, atol=1e-4
            )
        gates = answer.trace.forget_gate[0, 0, 0, :, 1]
        assert (gates == 0.875).tolist() == [False] + [True] * 4 + [False] * HORIZON

    def test_predictions_of_further_inputs_follow_from_edited_states(self, case, days, encode):
        made = case(num_layers=2)
        rows, future = days(*LENGTHS), torch.stack(days(*[HORIZON] * 3))
        answer = made.ask(rows, horizon=HORIZON, future_inputs=future, interventions=self.EDITS)
        for row, length in enumerate(LENGTHS):
            fed = encode(torch.cat((rows[row], future[row])))
            expected = self.by_hand(made, fed, length)[length:]
            torch.testing.assert_close(answer.prediction.values[row].double(), expected, rtol=0, atol=1e-4)

    def test_each_sample_of_a_text_sees_the_edits(self, case, texts):
        made = case("embedding", "next_token", head=(CHARACTERS,), output={"temperature": 1.0}, num_layers=2)
        rows = texts(*LENGTHS)
        wanted = {"sampling": Sampling(temperature=1.0, seed=5, samples=3), "interventions": self.EDITS}
        answer = made.ask(rows, horizon=2, **wanted)
        at_end = made.ask(rows, interventions=self.EDITS).prediction.values
        for row, length in enumerate(LENGTHS):
            scores = answer.prediction.values[row, 0]
            torch.testing.assert_close(scores, at_end[row, length - 1], rtol=0, atol=1e-5)
        patch = Intervention("cell_state", sequences=(2, 0), stop=2, patch=torch.rand(2, 2, 6))
        repeated = patch.resolved(made.pipeline.spec, 3, 5).of_repeated(3)
        assert repeated.sequences == (6, 7, 8, 0, 1, 2)
        assert torch.equal(repeated.patch[4], repeated.patch[3])
        assert torch.equal(repeated.patch[3].float(), patch.patch[1])


class TestSameStep:
    """Predictions of the step whose inputs are given."""

    @pytest.mark.parametrize("arguments", [{}, {"num_layers": 2, "proj_size": 3}], ids=str)
    def test_future_inputs_are_as_if_they_stood_behind_the_inputs(self, case, days, random, arguments):
        made = case(**arguments)
        rows, future = days(*LENGTHS), torch.stack(days(*[HORIZON] * 3))
        state = made.state(3, random)
        wanted = {"initial_state": state, "output": True, "final_state": True}
        answer = made.ask(rows, horizon=HORIZON, future_inputs=future, **wanted)
        appended = made.ask([torch.cat(pair) for pair in zip(rows, future, strict=True)], **wanted)
        for row, length in enumerate(LENGTHS):
            expected = appended.prediction.values[row, length : length + HORIZON]
            torch.testing.assert_close(answer.prediction.values[row], expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(answer.output, appended.output, rtol=0, atol=1e-5, equal_nan=True)
        torch.testing.assert_close(answer.inputs, appended.inputs, rtol=0, atol=0)
        for mine, other in zip(answer.final_state, appended.final_state, strict=True):
            torch.testing.assert_close(mine, other, rtol=0, atol=1e-5)

    def test_a_bidirectional_lstm_reads_the_future_inputs_backwards_too(self, case, days):
        made = case(bidirectional=True)
        rows, future = days(4), torch.stack(days(HORIZON))
        answer = made.ask(rows, horizon=HORIZON, future_inputs=future)
        appended = made.ask([torch.cat((rows[0], future[0]))])
        torch.testing.assert_close(answer.prediction.values[0], appended.prediction.values[0, 4:], rtol=0, atol=1e-5)


class TestText:
    """Tokens drawn from the prediction, and read."""

    @pytest.mark.parametrize("kind", ["embedding", "one-hot"])
    def test_greedy_text_equals_a_loop_written_by_hand(self, case, texts, kind):
        made = case(kind, "next_token", head=(CHARACTERS,), output={"temperature": 0.0}, num_layers=2)
        rows = texts(*LENGTHS)
        answer = made.ask(rows, horizon=6)
        assert answer.prediction.values.shape == (3, 6, CHARACTERS)
        for row, sequence in enumerate(rows):
            ids, scores = sequence.tolist(), []
            for _ in range(6):
                read = torch.tensor(ids)
                fed = read if kind == "embedding" else torch.nn.functional.one_hot(read, CHARACTERS).float()
                scores.append(made.module(fed[None])[0, -1])
                ids.append(int(scores[-1].argmax()))
            assert answer.prediction.choices[row].tolist() == ids[len(sequence) :]
            assert answer.inputs[row, : len(ids)].tolist() == ids
            torch.testing.assert_close(answer.prediction.values[row], torch.stack(scores), rtol=0, atol=1e-5)

    @pytest.fixture
    def writer(self, case):
        return case("embedding", "next_token", head=(CHARACTERS,), output={"temperature": 0.9, "seed": 3})

    def test_a_row_writes_the_same_text_alone_and_in_a_batch(self, writer, texts):
        rows = texts(*LENGTHS)
        together = writer.ask(rows, horizon=30).prediction.choices
        for row, sequence in enumerate(rows):
            assert writer.ask([sequence], horizon=30).prediction.choices[0].tolist() == together[row].tolist()

    def test_a_shorter_horizon_writes_the_beginning_of_a_longer_one(self, writer, texts):
        rows = texts(*LENGTHS)
        long, short = (writer.ask(rows, horizon=horizon).prediction.choices for horizon in (30, 12))
        assert short.tolist() == long[:, :12].tolist()

    def test_a_request_has_one_answer_and_another_seed_another(self, writer, case, texts):
        rows = texts(*LENGTHS)
        first, again = (writer.ask(rows, horizon=30).prediction.choices for _ in range(2))
        other = case("embedding", "next_token", head=(CHARACTERS,), output={"temperature": 0.9, "seed": 4})
        assert first.tolist() == again.tolist()
        assert first.tolist() != other.ask(rows, horizon=30).prediction.choices.tolist()
        assert len(set(first.flatten().tolist())) > 3  # it draws, it does not repeat the likeliest

    def test_drawing_leaves_torchs_own_random_numbers_alone(self, writer, texts):
        before = torch.get_rng_state()
        writer.ask(texts(3), horizon=5)
        assert torch.equal(torch.get_rng_state(), before)

    def test_output_state_and_trace_cover_the_text_that_was_written(self, writer, texts):
        rows = texts(*LENGTHS)
        answer = writer.ask(rows, horizon=6, output=True, final_state=True, trace=Selection(("cell_state",)))
        assert answer.trace.cell_state.shape == (3, 1, 1, 11, 6)
        again = writer.ask(
            [torch.cat((sequence, written)) for sequence, written in zip(rows, answer.prediction.choices, strict=True)],
            output=True,
            final_state=True,
        )
        torch.testing.assert_close(answer.output, again.output, rtol=0, atol=1e-5, equal_nan=True)
        for mine, other in zip(answer.final_state, again.final_state, strict=True):
            torch.testing.assert_close(mine, other, rtol=0, atol=1e-5)


def test_a_temperature_of_zero_is_the_default():
    assert HeadConfig(task="next_token").temperature == 0


class TestGraphs:
    """Each kind of graph that can run on, against one run over the whole extended sequence."""

    LSTM = ({"name": "lstm", "type": "lstm"},)
    POOL = {"name": "pool", "type": "pool", "how": "last"}  # noqa: RUF012 (read only)
    FC = {"name": "fc", "type": "linear"}  # noqa: RUF012 (read only)
    CONV = {"name": "conv", "type": "conv1d", "padding": "causal"}  # noqa: RUF012 (read only)
    STATIC = {"name": "beside", "type": "concat", "inputs": ["inputs", "static"]}  # noqa: RUF012 (read only)
    LATE = {"name": "late", "type": "concat", "inputs": ["lstm", "pool"]}  # noqa: RUF012 (read only)

    @pytest.fixture
    def weights(self, seeded_lstm):
        torch.manual_seed(5)
        return {
            "lstm": seeded_lstm(3, 4),
            "wide": seeded_lstm(5, 4),
            "conv": nn.Conv1d(3, 3, 3),
            "fc": nn.Linear(4, 2),
            "fc2": nn.Linear(8, 2),
            "fc3": nn.Linear(6, 2),
        }

    @pytest.fixture
    def rows(self, random):
        return [torch.randn(length, 3, generator=random) for length in LENGTHS]

    @pytest.fixture
    def ahead(self, random):
        return torch.randn(3, HORIZON, 3, generator=random)

    @pytest.fixture
    def made(self, build, weights):
        def make(*layers, static=None, **head):
            used = {layer.get("weights", layer["name"]) for layer in layers}
            named = nn.ModuleDict({name: module for name, module in weights.items() if name in used})
            return build(layers, named, [{"task": "regression", "names": ["f1", "y"]} | head], static=static)

        return make

    SAME_STEP = (
        (*LSTM, FC),
        (*LSTM, POOL, FC),
        (CONV, *LSTM, FC),
        (CONV, *LSTM, POOL, FC),
        (*LSTM, POOL, LATE, FC | {"weights": "fc2"}),
        (STATIC, {"name": "wide", "type": "lstm"}, FC),
        (STATIC, {"name": "wide", "type": "lstm"}, POOL, FC),
        (
            *LSTM,
            POOL,
            {"name": "late", "type": "concat", "inputs": ["pool", "static"]},
            {"name": "fc3", "type": "linear"},
        ),
    )

    @pytest.mark.parametrize("layers", SAME_STEP, ids=lambda layers: "-".join(layer["name"] for layer in layers))
    def test_predictions_of_the_same_step_are_those_of_the_whole(self, made, rows, ahead, layers):
        pipeline = made(*layers, static=2)
        static = torch.tensor([[0.3, -1.0], [1.5, 0.2], [-0.4, 0.8]])
        query = Query(*pad(rows), horizon=HORIZON, future_inputs=ahead, static_inputs=static)
        values = pipeline.answer(query).prediction.values
        per_step = pipeline.prediction_shape(1) == (1, 2)
        for row, sequence in enumerate(rows):
            whole = torch.cat((sequence, ahead[row]))
            for step in range(HORIZON):
                read = whole if per_step else whole[: len(sequence) + step + 1]
                asked = Query(read[None], torch.tensor([len(read)]), static_inputs=static[row : row + 1])
                alone = pipeline.answer(asked).prediction.values[0]
                expected = alone[len(sequence) + step] if per_step else alone
                torch.testing.assert_close(values[row, step], expected, rtol=0, atol=1e-5)

    NEXT_STEP = (
        (*LSTM, FC),
        (*LSTM, POOL, FC),
        (*LSTM, {"name": "sum", "type": "add", "inputs": ["lstm", "lstm"]}, FC),
        (STATIC, {"name": "wide", "type": "lstm"}, FC),
        (STATIC, {"name": "wide", "type": "lstm"}, POOL, FC),
    )

    @pytest.mark.parametrize("layers", NEXT_STEP, ids=lambda layers: "-".join(layer["name"] for layer in layers))
    def test_predictions_of_the_next_step_are_read_back(self, made, rows, ahead, layers):
        pipeline = made(*layers, static=2, predicts="next_step", mean=[0.5, 0.0], std=[2.0, 1.0])
        static = torch.tensor([[0.3, -1.0], [1.5, 0.2], [-0.4, 0.8]])
        ahead[..., 1] = torch.nan  # f1 is fed back
        query = Query(*pad(rows), horizon=HORIZON, future_inputs=ahead, static_inputs=static)
        values = pipeline.answer(query).prediction.values
        for row, sequence in enumerate(rows):
            read = sequence
            for step in range(HORIZON):
                asked = Query(read[None], torch.tensor([len(read)]), static_inputs=static[row : row + 1])
                predicted = pipeline.answer(asked).prediction.values[0]
                predicted = predicted if predicted.dim() == 1 else predicted[-1]
                torch.testing.assert_close(values[row, step], predicted, rtol=0, atol=1e-5)
                known = ahead[row, step].clone()
                known[1] = predicted[0]
                read = torch.cat((read, known[None]))

    def test_several_layers_carry_their_states(self, build, seeded_lstm, rows, ahead):
        named = nn.ModuleDict({"a": seeded_lstm(3, 4), "b": seeded_lstm(4, 3, 2), "fc": nn.Linear(3, 1)})
        layers = [{"name": "a", "type": "lstm"}, {"name": "b", "type": "lstm"}, self.FC]
        pipeline = build(layers, named, [{"task": "regression", "names": ["f1"], "predicts": "next_step"}])
        ahead[..., 1] = torch.nan
        values = pipeline.answer(Query(*pad(rows), horizon=HORIZON, future_inputs=ahead)).prediction.values
        for row, sequence in enumerate(rows):
            read = sequence
            for step in range(HORIZON):
                predicted = pipeline.answer(Query(read[None], torch.tensor([len(read)]))).prediction.values[0, -1]
                torch.testing.assert_close(values[row, step], predicted, rtol=0, atol=1e-5)
                known = torch.stack((ahead[row, step, 0], predicted[0], ahead[row, step, 2]))
                read = torch.cat((read, known[None]))

    @pytest.mark.parametrize(
        ("layers", "head", "reason"),
        [
            ((*LSTM, {"name": "pool", "type": "pool", "how": "mean"}, FC), {}, "no prediction that could run on"),
            ((CONV, *LSTM, FC), {"predicts": "next_step"}, "reads neighbouring steps"),
            ((*LSTM, POOL, LATE, FC | {"weights": "fc2"}), {"predicts": "next_step"}, "reads neighbouring steps"),
            ((*LSTM, FC), {"task": "tagging", "labels": ["P", "Q"]}, "(tagging) has no prediction"),
            ((*LSTM, FC), {"task": "quantile", "names": ["y"], "quantiles": [0.1, 0.9]}, "(quantile) has no"),
        ],
        ids=str,
    )
    def test_what_cannot_run_on_says_why(self, made, layers, head, reason):
        assert reason in made(*layers, **head).horizon_refusal

    @pytest.mark.parametrize(("steps", "predicts"), [("all", "next_step"), ("last", "same_step")])
    def test_what_reads_both_ways_cannot_either(self, case, steps, predicts):
        made = case(bidirectional=True, steps=steps, output={"names": ("x", "y"), "predicts": predicts})
        assert made.pipeline.horizon_refusal.startswith("reads both ways")

    def test_dates_beyond_float32_are_fed_back_in_float64(self, build, seeded_lstm):
        seconds = Feature(name="time", mean=1.7e9, std=3600.0)
        inputs = FeatureInputs(kind="features", features=(seconds, Feature(name="y", mean=3.0, std=2.0)))
        named = nn.ModuleDict({"lstm": seeded_lstm(2, 4), "fc": nn.Linear(4, 1)})
        pipeline = build(
            [*self.LSTM, self.FC], named, [{"task": "regression", "names": ["y"], "predicts": "next_step"}], inputs
        )
        rows = torch.tensor([[1.7e9 + 1, 2.0], [1.7e9 + 2, 3.0], [1.7e9 + 3, 4.0]], dtype=torch.float64)
        later = torch.tensor([[[1.7e9 + 4, torch.nan], [1.7e9 + 5, torch.nan]]], dtype=torch.float64)
        answer = pipeline.answer(Query(rows[None], torch.tensor([3]), horizon=2, future_inputs=later))
        assert answer.inputs.dtype == torch.float64
        assert answer.inputs[0, :, 0].tolist() == [1.7e9 + second for second in (1, 2, 3, 4, 5)]
