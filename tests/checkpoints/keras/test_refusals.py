"""What is not served is refused by the name of its layer, in one line, and nothing is left behind."""

import json

import h5py
import numpy as np
import pytest

from gatescope.checkpoints.keras.nodes import nodes_of
from gatescope.checkpoints.keras.variables import variables_of
from gatescope.checkpoints.report import report
from gatescope.errors import CheckpointError
from tests.checkpoints.keras.files import (
    HEAD,
    LSTM,
    PLACES,
    an_input,
    dense,
    functional,
    keras_3,
    layer,
    recurrent,
    sequential,
    write_h5,
    write_keras,
)

STEPS = recurrent("LSTM", 4, return_sequences=True)


def changed(entry, **stated):
    return {**entry, "config": {**entry["config"], **stated}}


def calls(entry, read, **keywords):
    return functional([an_input(), keras_3(entry, read, **keywords)], [["x", 0, 0]], [[entry["config"]["name"], 0, 0]])


def tensor(name, output=0):
    return {"class_name": "__keras_tensor__", "config": {"keras_history": [name, 0, output]}}


STATES = functional(
    [
        an_input(),
        keras_3(changed(STEPS, return_state=True), "x"),
        {**dense(), "name": "dense", "inbound_nodes": [{"args": [tensor("lstm", 1)], "kwargs": {}}]},
    ],
    [["x", 0, 0]],
    [["dense", 0, 0]],
)
CIRCLE = functional(
    [an_input(), keras_3(layer("Add", "one"), "x", "two"), keras_3(layer("Dropout", "two", rate=0.1), "one")],
    [["x", 0, 0]],
    [["two", 0, 0]],
)

REFUSED = {
    "a Lambda": (
        sequential(layer("Lambda", "mine", function="KGxhbWJkYSk="), LSTM),
        r"its layer 'mine' is a Lambda, which is not served: its code is not run",
    ),
    "a class of one's own": (
        sequential({**LSTM, "module": "my.layers", "registered_name": "my>LSTM"}),
        r"its layer 'lstm' is 'my>LSTM', a class of one's own, whose code is not in the file",
    ),
    "a registered class": (
        sequential({**LSTM, "registered_name": "Custom>LSTM"}),
        "its layer 'lstm' is 'Custom>LSTM', a class of one's own",
    ),
    "a subclassed model": (
        {"module": "mine", "class_name": "Mine", "config": {"name": "mine"}},
        "it is 'Mine', a class of one's own, whose code is not in the file",
    ),
    "an unknown class": (sequential(layer("MultiHeadAttention", "heads"), LSTM), "'heads' is a MultiHeadAttention"),
    "a function of one's own": (
        sequential(
            changed(
                LSTM,
                activation={"module": "builtins", "class_name": "function", "config": "f", "registered_name": "my>f"},
            )
        ),
        r"its layer 'lstm' \(LSTM\) has activation = 'my>f', a function of one's own",
    ),
    "an unknown function": (sequential(changed(LSTM, activation="sparsemax")), "has activation = 'sparsemax'"),
    "softmax in a cell": (
        sequential(changed(LSTM, recurrent_activation="softmax")),
        "recurrent_activation = 'softmax'",
    ),
    "an unknown option": (sequential(changed(LSTM, twist=3)), "has twist = 3, which is not known here"),
    "reading backward": (sequential(changed(LSTM, go_backwards=True)), "has go_backwards = true: a layer that reads"),
    "time first": (sequential(changed(LSTM, time_major=True)), "has time_major = true"),
    "units that are no number": (sequential(changed(LSTM, units="4")), "has units = '4', which is no int"),
    "no units": (sequential(layer("LSTM", "lstm", activation="tanh")), "'lstm'.*"),
    "a valid convolution": (
        sequential(layer("Conv1D", "conv", filters=4, kernel_size=[3], padding="valid"), LSTM),
        "its layer 'conv' .Conv1D. has padding = 'valid', which changes the number of steps",
    ),
    "an even kernel": (
        sequential(layer("Conv1D", "conv", filters=4, kernel_size=[2], padding="same"), LSTM),
        "has an even kernel of 2",
    ),
    "a stride": (
        sequential(layer("Conv1D", "conv", filters=4, kernel_size=[3], strides=[2], padding="same"), LSTM),
        "has strides above 1",
    ),
    "flattened steps": (sequential(STEPS, layer("Flatten", "flat")), "makes one vector of all steps"),
    "a repeated vector": (sequential(LSTM, layer("RepeatVector", "again", n=3)), "'again' is a RepeatVector"),
    "a norm over time": (
        sequential(layer("BatchNormalization", "norm", axis=1), LSTM),
        "its layer 'norm' .BatchNormalization. goes over axis 1",
    ),
    "a merge mode": (
        sequential(layer("Bidirectional", layer=LSTM, merge_mode=None)),
        "has merge_mode = None: concat, sum, ave and mul are served",
    ),
    "two directions that differ": (
        sequential(
            layer("Bidirectional", layer=LSTM, backward_layer=changed(LSTM, go_backwards=True, activation="relu"))
        ),
        "reads backward with activation = relu, and forward with tanh",
    ),
    "a mask elsewhere": (sequential(STEPS, layer("Masking", "mask"), layer("LSTM", "last", units=2)), "put it first"),
    "an initial state": (
        calls(LSTM, "x", initial_state=[tensor("x"), tensor("x")]),
        "'lstm' is called with initial_state, such as a state",
    ),
    "training": (calls(LSTM, "x", training=True), "'lstm' is called as in training"),
    "a state that is read": (STATES, r"what reads its layer 'lstm' takes output 1, such as a state \(return_state\)"),
    "a mask of one's own": (calls(LSTM, "x", mask=tensor("x")), "'lstm' is given a mask that is not Keras's own"),
    "a circle": (CIRCLE, "its layers 'one', 'two' read each other in a circle"),
    "what is not there": (calls(LSTM, "y"), "'lstm' read each other in a circle, or what is not there"),
    "several sequences": (
        functional(
            [an_input("x"), an_input("y"), keras_3(layer("Add", "add"), "x", "y")],
            [["x", 0, 0], ["y", 0, 0]],
            [["add", 0, 0]],
        ),
        "it has 2 inputs of sequences and 0 of vectors",
    ),
    "an image": (sequential(LSTM, shape=(None, 8, 8)), r"its input 'input_layer' has shape \(None, 8, 8\)"),
    "no recurrent layer": (sequential(dense()), "there is no recurrent layer"),
    "no layers": (
        {"module": "keras", "class_name": "Sequential", "config": {"name": "s", "layers": []}},
        "without layers",
    ),
    "two layers of a name": (sequential(STEPS, LSTM), "it has two layers 'lstm'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_by_name(tmp_path, imported, name):
    config, message = REFUSED[name]
    file = write_keras(tmp_path / "m.keras", config, _fitting(config))
    with pytest.raises(CheckpointError, match=message) as refused:
        imported(file)
    assert str(refused.value).startswith("m.keras: ")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "models").exists()


def _fitting(config):
    """Weights of the shapes that the configuration asks for, so that the weights are not what is refused."""
    places = {}
    try:
        found = variables_of(nodes_of(config).layers)
    except CheckpointError:
        return PLACES
    for variable, node in found.items():
        columns = node.stated["units"] if node.kind == "Dense" else 16
        shape = {"bias": (columns,), "kernel": (3, columns), "recurrent_kernel": (4, columns)}.get(variable.role, (3,))
        places.setdefault(variable.place, []).append(np.zeros(shape, np.float32))
    return places


class TestWeightsThatAreNotThoseOfTheConfiguration:
    CONFIG = sequential(LSTM, dense())

    def refused(self, tmp_path, imported, places, message, config=None):
        file = write_keras(tmp_path / "m.keras", config or self.CONFIG, places)
        with pytest.raises(CheckpointError, match=message):
            imported(file)

    def test_missing_ones_are_named(self, tmp_path, imported):
        message = "it lacks the weights 'layers/dense/vars/0', 'layers/dense/vars/1'"
        self.refused(tmp_path, imported, {"layers/lstm/cell": PLACES["layers/lstm/cell"]}, message)

    def test_surplus_ones_are_named(self, tmp_path, imported):
        places = {**PLACES, "layers/dense_1": HEAD}
        message = "it holds the weights 'layers/dense_1/vars/0', 'layers/dense_1/vars/1', which no layer"
        self.refused(tmp_path, imported, places, message)

    def test_those_of_an_optimizer_and_of_dropout_are_left_aside(self, tmp_path, imported):
        aside = {"optimizer": HEAD, "layers/lstm/cell/seed_generator": [np.zeros(2, np.float32)]}
        imported(write_keras(tmp_path / "m.keras", self.CONFIG, {**PLACES, **aside}))

    @pytest.mark.parametrize("place", PLACES)
    def test_other_shapes_are_named_with_both(self, tmp_path, imported, place):
        wrong = [np.zeros((5, 7), np.float32), *PLACES[place][1:]]
        self.refused(tmp_path, imported, {**PLACES, place: wrong}, r"has shape \[5, 7\], not any × ")

    def test_widths_that_do_not_fit_each_other_are_named(self, tmp_path, imported):
        head = [np.zeros((5, 2), np.float32), HEAD[1]]
        self.refused(tmp_path, imported, {**PLACES, "layers/dense": head}, "'dense' takes 5 values, but is given 4")

    @pytest.mark.parametrize("number", [np.nan, np.inf])
    def test_numbers_that_are_none_are_refused(self, tmp_path, imported, number):
        head = [HEAD[0].copy(), HEAD[1]]
        head[0][0, 0] = number
        self.refused(tmp_path, imported, {**PLACES, "layers/dense": head}, "'dense' holds NaN or Infinity")

    def test_whole_numbers_are_refused(self, tmp_path, imported):
        head = [HEAD[0].astype(np.int32), HEAD[1]]
        self.refused(tmp_path, imported, {**PLACES, "layers/dense": head}, "'dense' holds int32")

    def test_names_of_another_layer_in_an_h5_file_are_refused(self, tmp_path, imported):
        named = {
            "lstm": dict(zip(("kernel", "bias", "recurrent_kernel"), PLACES["layers/lstm/cell"], strict=True)),
            "dense": dict(zip(("kernel", "bias"), HEAD, strict=True)),
        }
        with pytest.raises(
            CheckpointError, match="the file has 'kernel', 'bias', 'recurrent_kernel' of its layer 'lstm'"
        ):
            imported(write_h5(tmp_path / "m.h5", self.CONFIG, named))


class TestFilesThatAreNotWhole:
    def test_weights_alone(self, tmp_path, imported):
        with h5py.File(tmp_path / "w.weights.h5", "w") as file:
            file["layers/lstm/cell/vars/0"] = HEAD[0]
        with pytest.raises(CheckpointError, match="it holds weights alone, and not the model that they belong to"):
            imported(tmp_path / "w.weights.h5")

    @pytest.mark.parametrize("version", [None, "1.2.0", "4.0.0", "three"])
    def test_versions_that_are_not_read(self, tmp_path, imported, version):
        named = {"lstm": dict(zip(("kernel", "recurrent_kernel", "bias"), PLACES["layers/lstm/cell"], strict=True))}
        file = write_h5(tmp_path / "m.h5", sequential(LSTM), named, version)
        with pytest.raises(CheckpointError, match="of the version of Keras that saved it; 2 and 3 are read"):
            imported(file)

    def test_a_keras_file_of_keras_2(self, tmp_path, imported):
        file = write_keras(tmp_path / "m.keras", sequential(LSTM), PLACES, "2.15.0")
        with pytest.raises(CheckpointError, match=r"Keras 2\.15\.0, which places weights in another way than Keras 3"):
            imported(file)

    def test_h5py_is_not_installed(self, tmp_path, imported, monkeypatch):
        file = write_keras(tmp_path / "m.keras", sequential(LSTM), PLACES)
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "h5py" else object())
        with pytest.raises(CheckpointError, match=r"h5py, which is not installed: pip install 'gatescope\[keras\]'"):
            imported(file)

    def test_what_is_not_served_is_still_inspected(self, tmp_path):
        file = write_keras(tmp_path / "m.keras", REFUSED["a Lambda"][0], PLACES)
        found = report(file)
        assert found["parameters"] == sum(each.size for own in PLACES.values() for each in own)
        assert found["others"][0]["shapes"].keys() >= {"0"}
        assert "'mine' is a Lambda" in found["import"]["refused"]
        assert json.dumps(found)
