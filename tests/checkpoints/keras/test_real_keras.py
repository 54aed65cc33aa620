"""Models that Keras itself made and saved are served with the numbers of its own `predict`; `make test-keras`."""

import os
from itertools import product

import numpy as np
import pytest

from gatescope.errors import CheckpointError

pytestmark = [pytest.mark.keras, pytest.mark.filterwarnings("ignore")]  # of Keras itself

STEPS, FEATURES, TOKENS = 7, 3, 11
TOLERANCE = 1e-5
RANDOM_MODELS = 40


@pytest.fixture(scope="module")
def keras():
    os.environ.setdefault("KERAS_BACKEND", "torch")
    return pytest.importorskip("keras")


@pytest.fixture(params=["keras", "h5"])
def form(request):
    return request.param


@pytest.fixture
def compared(keras, tmp_path, imported, predicted):
    """`compared(model, form, inputs, static)`: the served model, after its numbers were held against Keras's own."""

    def compare(model, form, x=None, static=None, **options):
        rng = np.random.default_rng(0)
        for variable in model.weights:  # wide enough that no gate stands at one half
            if variable.dtype == "float32":
                values = rng.normal(0, 0.6, variable.shape).astype(np.float32)
                variable.assign(np.abs(values) + 0.1 if "variance" in variable.path else values)
        if x is None:
            x = rng.normal(0, 1, (3, STEPS, FEATURES)).astype(np.float32)
        file = tmp_path / f"m.{form}"
        model.save(file)
        expected = model.predict(x if static is None else [x, static], verbose=0)
        served = imported(file, **options)
        given = predicted(served, x, static)
        expected = expected if isinstance(expected, list) else [expected]
        assert len(given) == len(expected)
        for ours, theirs in zip(given, expected, strict=True):
            assert ours.shape == theirs.shape
            assert np.abs(ours - theirs).max() <= TOLERANCE * np.abs(theirs).max()
        return served

    return compare


def chain(keras, *layers, shape=(STEPS, FEATURES), dtype="float32"):
    return keras.Sequential([keras.Input(shape, dtype=dtype), *layers])


KINDS = ("LSTM", "GRU", "SimpleRNN")


@pytest.mark.parametrize("return_sequences", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_each_recurrent_layer(keras, compared, form, kind, return_sequences):
    made = getattr(keras.layers, kind)(5, return_sequences=return_sequences)
    compared(chain(keras, made, keras.layers.Dense(2)), form)


@pytest.mark.parametrize(
    ("kind", "stated"),
    [
        ("LSTM", {"activation": "relu"}),
        ("LSTM", {"recurrent_activation": "hard_sigmoid"}),
        ("LSTM", {"activation": "softsign", "recurrent_activation": "tanh"}),
        ("LSTM", {"activation": None}),
        ("LSTM", {"activation": "gelu", "unroll": True, "dropout": 0.1, "recurrent_dropout": 0.2}),
        ("LSTM", {"use_bias": False}),
        ("LSTM", {"unit_forget_bias": False, "stateful": False}),
        ("GRU", {"reset_after": False}),
        ("GRU", {"reset_after": False, "recurrent_activation": "hard_sigmoid"}),
        ("GRU", {"activation": "elu"}),
        ("GRU", {"use_bias": False}),
        ("GRU", {"use_bias": False, "reset_after": False}),
        ("SimpleRNN", {"activation": "relu"}),
        ("SimpleRNN", {"activation": "leaky_relu", "use_bias": False}),
        ("SimpleRNN", {"activation": "selu"}),
        ("SimpleRNN", {"activation": "softplus"}),
        ("SimpleRNN", {"activation": "swish"}),
        ("SimpleRNN", {"activation": "exponential"}),
    ],
    ids=str,
)
def test_each_argument_of_a_recurrent_layer(keras, compared, form, kind, stated):
    compared(chain(keras, getattr(keras.layers, kind)(4, **stated), keras.layers.Dense(2)), form)


@pytest.mark.parametrize("merge", ["concat", "sum", "mul", "ave"])
@pytest.mark.parametrize(("kind", "return_sequences"), list(product(KINDS, [False, True])))
def test_each_merge_mode(keras, compared, form, merge, kind, return_sequences):
    layers = keras.layers
    inner = getattr(layers, kind)(4, return_sequences=return_sequences)
    compared(chain(keras, layers.Bidirectional(inner, merge_mode=merge), layers.Dense(2)), form)


def test_a_backward_layer_of_its_own(keras, compared, form):
    layers = keras.layers
    both = layers.Bidirectional(
        layers.LSTM(4, return_sequences=True), backward_layer=layers.LSTM(4, return_sequences=True, go_backwards=True)
    )
    compared(chain(keras, both, layers.LSTM(3), layers.Dense(1)), form)


def test_cells_and_stacks_of_cells(keras, compared, form):
    layers = keras.layers
    stacked = [layers.LSTMCell(4), layers.GRUCell(5, reset_after=False), layers.SimpleRNNCell(3), layers.LSTMCell(2)]
    compared(
        chain(
            keras,
            layers.RNN(layers.GRUCell(4), return_sequences=True),
            layers.RNN(stacked, return_sequences=True),
            layers.Dense(2),
        ),
        form,
    )


OTHERS = {
    "Dense": lambda layers: [layers.Dense(4, activation="relu"), layers.Dense(4, use_bias=False)],
    "TimeDistributed": lambda layers: [
        layers.TimeDistributed(layers.Dense(4, activation="tanh")),
        layers.TimeDistributed(layers.Dropout(0.5)),
        layers.TimeDistributed(layers.Activation("sigmoid")),
    ],
    "Activation": lambda layers: [layers.Activation("hard_sigmoid"), layers.Activation("leaky_relu")],
    "ReLU": lambda layers: [layers.ReLU(), layers.ReLU(negative_slope=0.3), layers.Dense(3), layers.ReLU(max_value=6)],
    "LeakyReLU": lambda layers: [layers.LeakyReLU(), layers.LeakyReLU(negative_slope=0.05)],
    "ELU": lambda layers: [layers.ELU(), layers.ELU(0.4)],
    "PReLU": lambda layers: [layers.PReLU(shared_axes=[1])],
    "Softmax": lambda layers: [layers.Softmax()],
    "Dense of a layer": lambda layers: [layers.Dense(3, activation=layers.LeakyReLU(negative_slope=0.15))],
    "Dropout": lambda layers: [
        layers.Dropout(0.5),
        layers.SpatialDropout1D(0.5),
        layers.GaussianNoise(0.1),
        layers.GaussianDropout(0.1),
        layers.AlphaDropout(0.1),
        layers.ActivityRegularization(0.1),
    ],
    "BatchNormalization": lambda layers: [
        layers.BatchNormalization(),
        layers.BatchNormalization(scale=False, epsilon=0.1),
        layers.BatchNormalization(center=False, axis=2),
    ],
    "LayerNormalization": lambda layers: [
        layers.LayerNormalization(),
        layers.LayerNormalization(center=False, scale=False, epsilon=0.01),
    ],
    "Normalization": lambda layers: [layers.Normalization(mean=[1.0, 2, 3], variance=[4.0, 1, 0.25])],
    "inverse Normalization": lambda layers: [layers.Normalization(mean=[1.0, 2, 3], variance=[4.0, 1, 0], invert=True)],
    "Conv1D": lambda layers: [
        layers.Conv1D(6, 3, padding="same", activation="relu"),
        layers.Conv1D(4, 2, padding="causal", dilation_rate=2, groups=2, use_bias=False),
    ],
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("place", ["before", "behind"])
def test_each_other_layer(keras, compared, form, name, place):
    layers, others = keras.layers, OTHERS[name](keras.layers)
    recurrent = layers.LSTM(3, return_sequences=True)
    parts = [*others, recurrent] if place == "before" else [recurrent, *others]
    compared(chain(keras, *parts, layers.Dense(2)), form)


@pytest.mark.parametrize("pool", ["GlobalAveragePooling1D", "GlobalMaxPooling1D"])
def test_pools_and_layers_of_vectors(keras, compared, form, pool):
    layers = keras.layers
    vector = [layers.BatchNormalization(), layers.LayerNormalization(), layers.PReLU(), layers.Flatten()]
    parts = [layers.LSTM(4, return_sequences=True), getattr(layers, pool)(), *vector, layers.Dense(2)]
    compared(chain(keras, *parts), form)


ACTIVATIONS = (
    *("relu", "sigmoid", "tanh", "softmax", "softplus", "softsign", "elu", "selu", "gelu", "silu", "exponential"),
    *("linear", "hard_sigmoid", "leaky_relu", "relu6", "mish", "log_softmax", "hard_tanh"),
)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_each_activation_of_a_dense_layer(keras, compared, form, activation):
    compared(chain(keras, keras.layers.LSTM(3), keras.layers.Dense(4, activation=activation)), form)


@pytest.mark.parametrize(
    ("head", "task"),
    [
        ({"units": 3, "activation": "softmax"}, "classification"),
        ({"units": 1, "activation": "sigmoid"}, "binary"),
        ({"units": 3, "activation": "sigmoid"}, "multi_label"),
        ({"units": 2}, "regression"),
    ],
)
def test_the_last_function_tells_the_task(keras, compared, form, head, task):
    assert compared(chain(keras, keras.layers.LSTM(3), keras.layers.Dense(**head)), form).manifest.task == task


def test_a_softmax_at_every_step_is_a_tagging(keras, compared, form):
    layers = keras.layers
    parts = [layers.LSTM(3, return_sequences=True), layers.Dense(4, activation="softmax")]
    assert compared(chain(keras, *parts), form).manifest.task == "tagging"


def test_masked_tokens(keras, compared, form):
    layers = keras.layers
    ids = np.random.default_rng(3).integers(1, TOKENS, (3, STEPS)).astype(np.int32)
    parts = [layers.Embedding(TOKENS, 4, mask_zero=True), layers.Bidirectional(layers.LSTM(3)), layers.Dense(2)]
    served = compared(chain(keras, *parts, shape=(None,), dtype="int32"), form, ids)
    assert served.manifest.input.padding == 0
    assert served.manifest.window is None


def test_a_masked_sequence_is_served_as_the_same_without_its_padding(keras, compared, predicted):
    layers, ids = keras.layers, np.random.default_rng(3).integers(1, TOKENS, (3, STEPS)).astype(np.int32)
    parts = [
        layers.Embedding(TOKENS, 4, mask_zero=True),
        layers.LSTM(3, return_sequences=True),
        layers.GRU(3),
        layers.Dense(2),
    ]
    model = chain(keras, *parts, shape=(None,), dtype="int32")
    served = compared(model, "keras", ids)
    padded = np.concatenate([ids, np.zeros((3, 4), np.int32)], axis=1)  # as Keras's pad_sequences makes them
    np.testing.assert_allclose(predicted(served, ids)[0], model.predict(padded, verbose=0), rtol=0, atol=1e-5)


def test_masked_steps(keras, compared, form):
    layers = keras.layers
    parts = [
        layers.Masking(-1.0),
        layers.LSTM(3, return_sequences=True),
        layers.GlobalAveragePooling1D(),
        layers.Dense(2),
    ]
    assert compared(chain(keras, *parts), form).manifest.input.masked == -1


def test_adapted_normalization(keras, compared, form):
    layers, x = keras.layers, np.random.default_rng(1).normal(50, 20, (3, STEPS, FEATURES)).astype(np.float32)
    norm = layers.Normalization()
    norm.adapt(x)
    parts = [norm, layers.LSTM(3), layers.Dense(1)]
    served = compared(chain(keras, *parts), form, x)
    assert all(feature.std != 1 for feature in served.manifest.input.features)


class TestFunctionalModels:
    def test_two_branches(self, keras, compared, form):
        layers, x = keras.layers, keras.Input((STEPS, FEATURES))
        one = layers.LSTM(4, return_sequences=True)(x)
        other = layers.Conv1D(4, 3, padding="same")(x)
        added, multiplied = layers.Add()([one, other]), layers.Multiply()([one, other, one])
        joined = layers.Concatenate()([added, multiplied, x])
        compared(keras.Model(x, layers.Dense(2)(layers.GRU(3)(joined))), form)

    def test_static_inputs_and_several_outputs(self, keras, compared, form):
        layers = keras.layers
        x, basin = keras.Input((None, FEATURES), name="weather"), keras.Input((2,), name="basin")
        steps = layers.Bidirectional(layers.LSTM(4, return_sequences=True), merge_mode="sum")(x)
        joined = layers.Concatenate()([layers.GlobalMaxPooling1D()(steps), layers.Dense(3)(basin)])
        outputs = [layers.Dense(1, activation="sigmoid")(joined), layers.Dense(2)(steps), layers.Dense(3)(joined)]
        static = np.random.default_rng(2).normal(0, 1, (3, 2)).astype(np.float32)
        served = compared(keras.Model([x, basin], outputs), form, static=static)
        assert [head.task for head in served.manifest.heads] == ["binary", "regression", "regression"]

    def test_shared_layers(self, keras, compared, form):
        layers, x = keras.layers, keras.Input((STEPS, 4))
        lstm, dense = layers.LSTM(4, return_sequences=True), layers.Dense(4, activation="tanh")
        both = layers.Add()([dense(lstm(x)), lstm(dense(x))])
        x_given = np.random.default_rng(4).normal(0, 1, (3, STEPS, 4)).astype(np.float32)
        compared(keras.Model(x, layers.Dense(2)(lstm(both))), form, x_given)

    @pytest.mark.parametrize("kind", ["Sequential", "Functional"])
    def test_models_inside_models(self, keras, compared, form, kind):
        layers = keras.layers
        parts = [layers.LSTM(4, return_sequences=True), layers.BatchNormalization(), layers.Dense(4), layers.Dense(3)]
        inner = chain(keras, *parts)
        if kind == "Functional":
            given = keras.Input((STEPS, FEATURES))
            value = given
            for part in parts:
                value = part(value)
            inner = keras.Model(given, value)
        x = keras.Input((STEPS, FEATURES))
        compared(keras.Model(x, layers.Dense(2)(layers.GRU(3)(inner(x)))), form)

    def test_frozen_layers_inside_models(self, keras, compared, form):
        layers = keras.layers
        parts = [layers.LSTM(3, return_sequences=True), layers.BatchNormalization(), layers.Dense(3), layers.Dense(3)]
        parts[2].trainable = False
        inner = chain(keras, *parts)
        x = keras.Input((STEPS, FEATURES))
        compared(keras.Model(x, layers.LSTM(2)(inner(x))), form)

    def test_the_last_step(self, keras, compared, form):
        x = keras.Input((STEPS, FEATURES))
        steps = keras.layers.LSTM(4, return_sequences=True)(x)
        compared(keras.Model(x, keras.layers.Dense(2)(steps[:, -1])), form)

    @pytest.mark.parametrize("operation", ["x + 1", "x * x", "x - x", "softmax", "concatenate", "transpose"])
    def test_operations_are_refused(self, keras, imported, tmp_path, operation):
        x = keras.Input((STEPS, STEPS))
        made = {
            "x + 1": lambda: x + 1,
            "x * x": lambda: x * x,
            "x - x": lambda: x - x,
            "softmax": lambda: keras.ops.softmax(x, axis=1),
            "concatenate": lambda: keras.ops.concatenate([x, x], axis=1),
            "transpose": lambda: keras.ops.transpose(x, (0, 2, 1)),
        }[operation]()
        for form in ("keras", "h5"):
            keras.Model(x, keras.layers.LSTM(3)(made)).save(tmp_path / f"m.{form}")
            with pytest.raises(CheckpointError, match="its layer '"):
                imported(tmp_path / f"m.{form}")

    def test_states_are_refused(self, keras, imported, tmp_path):
        layers, x = keras.layers, keras.Input((STEPS, FEATURES))
        steps, *state = layers.LSTM(4, return_sequences=True, return_state=True)(x)
        keras.Model(x, layers.LSTM(4)(steps, initial_state=state)).save(tmp_path / "m.keras")
        with pytest.raises(CheckpointError, match="is called with initial_state"):
            imported(tmp_path / "m.keras")

    def test_a_lambda_is_refused(self, keras, imported, tmp_path):
        chain(keras, keras.layers.LSTM(3), keras.layers.Lambda(lambda x: x * 2)).save(tmp_path / "m.keras")
        with pytest.raises(CheckpointError, match="is a Lambda, which is not served"):
            imported(tmp_path / "m.keras")


def test_compiled_and_trained_models(keras, compared, form):
    model = chain(keras, keras.layers.LSTM(3, dropout=0.1), keras.layers.Dropout(0.2), keras.layers.Dense(1))
    model.compile(optimizer="adam", loss="mse", metrics=["mae"])
    model.fit(np.zeros((4, STEPS, FEATURES)), np.zeros((4, 1)), verbose=0)
    compared(model, form)


@pytest.mark.parametrize("seed", range(RANDOM_MODELS))
def test_random_models(keras, compared, seed):
    rng, layers = np.random.default_rng(seed), keras.layers

    def pick(*choices):
        return choices[rng.integers(len(choices))]

    def between():
        name = pick(*(name for name in OTHERS if "Normalization" not in name), "BatchNormalization", "none", "none")
        return [] if name == "none" else OTHERS[name](layers)[:1]

    def recurrent(return_sequences):
        kind = pick(*KINDS)
        stated = {"activation": pick("tanh", "tanh", "relu", "softsign"), "use_bias": bool(rng.integers(4))}
        if kind != "SimpleRNN":
            stated["recurrent_activation"] = pick("sigmoid", "sigmoid", "hard_sigmoid")
        if kind == "GRU":
            stated["reset_after"] = bool(rng.integers(2))
        made = getattr(layers, kind)(int(rng.integers(1, 7)), return_sequences=return_sequences, **stated)
        return layers.Bidirectional(made, merge_mode=pick("concat", "sum", "mul", "ave")) if rng.integers(2) else made

    per_step = bool(rng.integers(2))
    count, tokens = int(rng.integers(1, 4)), bool(rng.integers(3) == 0)
    first = [layers.Embedding(TOKENS, 3, mask_zero=bool(rng.integers(2)))] if tokens else between()
    parts = [
        part for index in range(count) for part in (recurrent(per_step or index < count - 1), *between()[:per_step])
    ]
    head = layers.Dense(int(rng.integers(1, 5)), activation=pick("linear", "linear", "softmax", "sigmoid", "softplus"))
    x = rng.integers(1, TOKENS, (3, STEPS)).astype(np.int32) if tokens else None
    shape, dtype = ((None,), "int32") if tokens else ((pick(STEPS, None), FEATURES), "float32")
    compared(chain(keras, *first, *parts, head, shape=shape, dtype=dtype), pick("keras", "h5"), x)
