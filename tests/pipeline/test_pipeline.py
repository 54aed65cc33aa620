import pytest
import torch
from torch import nn
from torch.nn.functional import one_hot

from gatescope.backends import reference
from gatescope.cells import LSTM
from gatescope.errors import ManifestError, WeightsError
from gatescope.pipeline.features import Feature, FeatureInputs
from gatescope.pipeline.head import HeadConfig
from gatescope.pipeline.output import OutputConfig
from gatescope.pipeline.plain import PlainPipeline
from gatescope.pipeline.query import Query
from gatescope.pipeline.tokens import TokenInputs
from gatescope.selection import Selection

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


class TestRefusals:
    @pytest.fixture
    def build(self, plain):
        """A pipeline of three plain features and two outputs, from changed weights."""

        def make(change, inputs=None, size=None, task="regression", output=None, **arguments):
            features = tuple(Feature(name=name) for name in "abc")
            weights = dict(plain(**arguments).state_dict())
            weights |= change
            return PlainPipeline(
                inputs or FeatureInputs(kind="features", features=features),
                size,
                task,
                None if task is None else HeadConfig(),
                output or OutputConfig(names=("x", "y")),
                {name: value for name, value in weights.items() if value is not None},
            )

        return make

    @pytest.fixture
    def tokens(self):
        return TokenInputs(kind="tokens", vocabulary="characters", characters="abcde")

    def test_the_unchanged_model_is_served(self, build):
        assert build({}).spec.input_size == 3

    def test_inputs_of_another_width_show_both(self, build):
        with pytest.raises(ManifestError, match=r"inputs fill 3 values.*input_size 4"):
            build({}, input_size=4)

    def test_a_head_of_another_width_shows_both(self, build):
        with pytest.raises(ManifestError, match=r"head takes 9 values.*output has 8"):
            build({"head.0.weight": torch.zeros(2, 9)}, bidirectional=True)

    @pytest.mark.parametrize(
        ("task", "output", "named"),
        [
            ("regression", OutputConfig(names=("x", "y", "z")), r"gives 2 values.*3 output\.names"),
            ("tagging", OutputConfig(labels=("P", "Q", "R")), r"gives 2 values.*3 output\.labels"),
        ],
    )
    def test_another_number_of_names_or_labels_shows_both(self, build, task, output, named):
        with pytest.raises(ManifestError, match=named):
            build({}, task=task, output=output)

    def test_a_next_token_head_has_one_value_per_vocabulary_entry(self, build, tokens):
        with pytest.raises(ManifestError, match=r"gives 2 values.*5 vocabulary entries"):
            build({}, tokens, 5, "next_token", embedding=5)

    def test_an_embedding_needs_a_row_per_entry(self, build, tokens):
        with pytest.raises(ManifestError, match=r"'embedding\.weight' has 4 rows.*5 entries"):
            build({}, tokens, 5, embedding=4)

    @pytest.mark.parametrize("shape", [(5,), (5, 3, 1)])
    def test_an_embedding_is_a_matrix(self, build, tokens, shape):
        with pytest.raises((WeightsError, ManifestError), match=r"embedding\.weight"):
            build({"embedding.weight": torch.zeros(shape)}, tokens, 5)

    def test_one_hot_tokens_fill_the_input(self, build, tokens):
        with pytest.raises(ManifestError, match=r"inputs fill 5 values.*input_size 3"):
            build({}, tokens, 5)

    def test_a_missing_lstm_is_refused(self, build, plain):
        nothing = {name: None for name in plain().state_dict() if name.startswith("lstm.")}
        with pytest.raises(WeightsError, match=r"no nn\.LSTM"):
            build(nothing)

    def test_a_missing_head_is_refused(self, build):
        with pytest.raises(WeightsError, match=r"no 'head\.0\.weight'"):
            build({"head.0.weight": None, "head.0.bias": None})

    @pytest.mark.parametrize(
        "name",
        [
            "norm.weight",
            "embedding.weight",
            "lstm.norm.weight",
            "lstm2.weight_ih_l0",
            "head.extra.weight",
            "head.1.bias",
            "head.1.running_mean",
            "head.weight",
        ],
    )
    def test_weights_without_a_place_are_refused_by_name(self, build, name):
        with pytest.raises(WeightsError, match=name.replace(".", r"\.")):
            build({name: torch.zeros(2)})

    def test_a_head_without_a_manifests_head_is_surplus(self, build):
        with pytest.raises(WeightsError, match=r"'head\.0\.bias'"):
            build({}, task=None)

    def test_tokens_without_a_vocabulary_are_refused(self, build, tokens):
        with pytest.raises(ManifestError, match="needs a vocabulary"):
            build({}, tokens, None)


def test_a_pipeline_does_not_train(case):
    made = case()
    assert not made.pipeline.training
    assert not any(module.training for module in made.pipeline.modules())
    assert isinstance(made.pipeline.lstm, nn.LSTM)
