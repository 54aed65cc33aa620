"""Folders of neuralhydrology runs: a real one where it is there, and small ones in its form."""

import csv
import pickle
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from gatescope.checkpoints.companions.neuralhydrology import read_run
from gatescope.errors import InvalidInput
from gatescope.pipeline.layered import LayeredPipeline
from gatescope.pipeline.manifest import Manifest
from gatescope.pipeline.query import Query

REAL = Path(__file__).parents[4] / "shared/data/neuralhydrology-run"

CONFIG = {
    "experiment_name": "small",
    "model": "cudalstm",
    "head": "regression",
    "hidden_size": 6,
    "dynamic_inputs": ["prcp(mm/day)", "tmax"],
    "static_attributes": ["slope", "area", "Elev"],
    "target_variables": ["QObs(mm/d)"],
    "clip_targets_to_zero": ["QObs(mm/d)"],
    "seq_length": 30,
    "predict_last_n": 1,
    "initial_forget_bias": 3,
    "output_dropout": 0.4,
    "learning_rate": {0: 0.01},
}
CENTER = {"prcp(mm/day)": 3.0, "tmax": 12.5, "QObs(mm/d)": 1.5, "level": 2.0, "landuse": 0.25}
SCALE = {"prcp(mm/day)": 7.0, "tmax": 9.0, "QObs(mm/d)": 2.5, "level": 1e-05, "landuse": 0.5}
MEANS = {"Elev": 500.0, "area": 100.0, "slope": 20.0}
STDS = {"Elev": 300.0, "area": 250.0, "slope": 8.0}


def scaler(center=CENTER, scale=SCALE, means=MEANS, stds=STDS):
    def dataset(values):
        return {"attrs": {}, "data_vars": {name: {"dims": [], "data": value} for name, value in values.items()}}

    parts = {"xarray_feature_center": dataset(center), "xarray_feature_scale": dataset(scale)}
    return parts | {"attribute_means": dict(means), "attribute_stds": dict(stds)}


@pytest.fixture
def run(tmp_path):
    """A function that writes a run's folder."""

    def write(changes=(), weights=None, stated=None, epochs=(3,)):
        folder = tmp_path / "run"
        (folder / "train_data").mkdir(parents=True)
        config = {key: value for key, value in (CONFIG | dict(changes)).items() if value is not None}
        (folder / "config.yml").write_text(yaml.safe_dump(config))
        (folder / "train_data/train_data_scaler.yml").write_text(yaml.safe_dump(scaler() if stated is None else stated))
        for epoch in epochs:
            torch.save({} if weights is None else weights, folder / f"model_epoch{epoch:03}.pt")
        return folder

    return write


@pytest.fixture
def refused(run):
    def message_of(changes=(), **how):
        folder = run(changes, **how)
        with pytest.raises(InvalidInput) as caught:
            read_run(folder)
        (place,) = caught.value.places
        assert place.loc == ("checkpoint",)
        assert place.message.startswith("run/")
        return place.message

    return message_of


def pipeline_of(recipe):
    """The pipeline that an importer makes of a recipe."""
    weights = torch.load(recipe.weights, map_location="cpu", weights_only=True)
    recipe = recipe.fitted({name: tuple(value.shape) for name, value in weights.items()})
    manifest = Manifest.model_validate(recipe.manifest)
    weights = {recipe.rename.get(name, name): value for name, value in weights.items()}
    arguments = manifest.input, manifest.static, None, manifest.layers, manifest.heads, weights
    return LayeredPipeline(*arguments, ignored=manifest.ignored)


def answered(recipe, inputs, static=None):
    """The prediction at every step of one sequence, (time, target)."""
    statics = None if static is None else static[None]
    query = Query(inputs[None], torch.tensor([len(inputs)]), static_inputs=statics, prediction=True)
    return pipeline_of(recipe).answer(query).prediction.values[0]


def inputs_of(steps=20):
    torch.manual_seed(0)
    return torch.rand(steps, 2, dtype=torch.float64) * 20


STATIC = torch.tensor([800.0, 50.0, 12.0], dtype=torch.float64)
"""Elev, area, slope: the order of the alphabet, capitals first, in which neuralhydrology feeds them."""


def scaled(inputs, static=STATIC):
    """By hand, in float64: (time, input)."""
    dynamic = (inputs - torch.tensor([3.0, 12.5])) / torch.tensor([7.0, 9.0])
    fixed = (static - torch.tensor([500.0, 100.0, 20.0])) / torch.tensor([300.0, 250.0, 8.0])
    return dynamic, fixed.expand(len(inputs), -1)


def parts(width=5, targets=1):
    torch.manual_seed(1)
    lstm, head = nn.LSTM(width, 6).double(), nn.Linear(6, targets).double()
    with torch.no_grad():
        for value in (*lstm.parameters(), *head.parameters()):
            value.copy_(value.float() * 2)  # weights are stored as float32
    return lstm, head


def state(**modules):
    return {f"{prefix}.{name}": value.float() for prefix, module in modules.items() for name, value in module.items()}


def stored(lstm, head):
    return state(lstm=lstm.state_dict()) | {
        f"head.net.0.{name}": value.float() for name, value in head.state_dict().items()
    }


def forward(lstm, head, read):
    return head(lstm(read[:, None])[0][:, 0]).detach()


def test_a_run_predicts_what_its_module_predicts(run):
    lstm, head = parts()
    inputs = inputs_of()
    expected = (forward(lstm, head, torch.cat(scaled(inputs), dim=-1)) * 2.5 + 1.5).clamp(min=0)
    recipe = read_run(run(weights=stored(lstm, head)))
    torch.testing.assert_close(answered(recipe, inputs, STATIC).double(), expected, rtol=1e-5, atol=1e-5)
    assert expected.std() > 0.01


def test_the_manifest_says_what_the_run_says(run):
    recipe = read_run(run())
    manifest = Manifest.model_validate(recipe.manifest)
    assert [(each.name, each.unit, each.mean, each.std) for each in manifest.input.features] == [
        ("prcp(mm/day)", "mm/day", 3.0, 7.0),
        ("tmax", "", 12.5, 9.0),
    ]
    assert [each.name for each in manifest.static.features] == ["Elev", "area", "slope"]
    assert (manifest.window, manifest.warmup_steps) == (30, 29)
    assert (manifest.head.names, manifest.head.units) == (("QObs(mm/d)",), ("mm/d",))
    assert (manifest.head.mean, manifest.head.std, manifest.head.minimum) == ((1.5,), (2.5,), (0.0,))
    assert "small" in manifest.description
    notes = "\n".join(recipe.notes)
    assert "alphabetical order ('Elev', 'area', 'slope')" in notes
    assert "sequences of 30 steps, predicting the last step" in notes


def test_several_targets_are_clipped_each_for_itself(run):
    lstm, head = parts(targets=2)
    with torch.no_grad():
        head.bias.fill_(-3)
    inputs = inputs_of()
    targets = {"target_variables": ["level", "QObs(mm/d)"], "clip_targets_to_zero": ["QObs(mm/d)"]}
    raw = forward(lstm, head, torch.cat(scaled(inputs), dim=-1))
    expected = torch.stack([raw[:, 0] * 1e-5 + 2, (raw[:, 1] * 2.5 + 1.5).clamp(min=0)], dim=-1)
    recipe = read_run(run(targets, stored(lstm, head)))
    torch.testing.assert_close(answered(recipe, inputs, STATIC).double(), expected, rtol=1e-5, atol=1e-5)
    assert (expected[:, 1] == 0).all()


@pytest.mark.parametrize(("activation", "function"), [("relu", torch.relu), ("Softplus", nn.functional.softplus)])
def test_output_activations_come_before_the_scaling(activation, function, run):
    lstm, head = parts()
    inputs = inputs_of()
    expected = function(forward(lstm, head, torch.cat(scaled(inputs), dim=-1))) * 2.5 + 1.5
    changes = {"output_activation": activation, "clip_targets_to_zero": None}
    recipe = read_run(run(changes, stored(lstm, head)))
    torch.testing.assert_close(answered(recipe, inputs, STATIC).double(), expected, rtol=1e-5, atol=1e-5)


def test_an_output_activation_that_neuralhydrology_ignores_is_noted(run):
    recipe = read_run(run({"output_activation": "tanh"}))
    assert "linear, as neuralhydrology ignores 'tanh'" in "\n".join(recipe.notes)
    assert not any(layer["type"] == "activation" for layer in recipe.manifest["layers"])


@pytest.mark.parametrize("dynamics", ["dynamics_embedding", "dynamics_embeddings.0"])
def test_embeddings_are_computed(dynamics, run):
    torch.manual_seed(2)
    of_static = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Dropout(0.0), nn.Linear(4, 2)).double()
    of_dynamic = nn.Sequential(nn.Linear(2, 3)).double()
    with torch.no_grad():
        for value in (*of_static.parameters(), *of_dynamic.parameters()):
            value.copy_(value.float())
    lstm, head = parts(width=5)
    inputs = inputs_of()
    dynamic, fixed = scaled(inputs)
    expected = forward(lstm, head, torch.cat([of_dynamic(dynamic), of_static(fixed)], dim=-1)) * 2.5 + 1.5
    weights = stored(lstm, head)
    for name, net in (("statics_embedding", of_static), (dynamics, of_dynamic)):
        weights |= {f"embedding_net.{name}.net.{key}": value.float() for key, value in net.state_dict().items()}
    changes = {
        "statics_embedding": {"type": "fc", "hiddens": [4, 2], "activation": "tanh", "dropout": 0.1},
        "dynamics_embedding": {"hiddens": 3},
    }
    recipe = read_run(run(changes | {"clip_targets_to_zero": None}, weights))
    torch.testing.assert_close(answered(recipe, inputs, STATIC).double(), expected.detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("model", ["customlstm", "lstm"])
def test_neuralhydrologys_own_cell_is_an_lstm_under_other_names(model, run):
    lstm, head = parts()
    inputs = inputs_of()
    expected = (forward(lstm, head, torch.cat(scaled(inputs), dim=-1)) * 2.5 + 1.5).clamp(min=0)
    weights = {
        name.replace("lstm.weight", "cell.w").replace("lstm.bias", "cell.b").replace("_l0", ""): value
        for name, value in stored(lstm, head).items()
    }
    recipe = read_run(run({"model": model}, weights))
    torch.testing.assert_close(answered(recipe, inputs, STATIC).double(), expected, rtol=1e-5, atol=1e-5)


def test_an_embcudalstm_has_its_weights_twice(run):
    torch.manual_seed(3)
    net = nn.Linear(3, 3).double()
    lstm, head = parts()
    inputs = inputs_of()
    dynamic, fixed = scaled(inputs)
    with torch.no_grad():
        for value in net.parameters():
            value.copy_(value.float())
        expected = (forward(lstm, head, torch.cat([dynamic, net(fixed)], dim=-1)) * 2.5 + 1.5).clamp(min=0)
    weights = stored(lstm, head)
    weights |= {
        f"embedding_net.statics_embedding.net.0.{key}": value.float() for key, value in net.state_dict().items()
    }
    weights |= {f"cudalstm.{name}": value for name, value in weights.items()}
    changes = {"model": "embcudalstm", "statics_embedding": True, "embedding_hiddens": [3]}
    recipe = read_run(run(changes, weights))
    torch.testing.assert_close(answered(recipe, inputs, STATIC).double(), expected, rtol=1e-5, atol=1e-5)


def test_without_attributes_there_are_no_static_inputs(run):
    lstm, head = parts(width=2)
    inputs = inputs_of()
    expected = (forward(lstm, head, scaled(inputs)[0]) * 2.5 + 1.5).clamp(min=0)
    recipe = read_run(run({"static_attributes": None}, stored(lstm, head)))
    assert "static" not in recipe.manifest
    torch.testing.assert_close(answered(recipe, inputs).double(), expected, rtol=1e-5, atol=1e-5)


def test_evolving_attributes_follow_the_static_ones(run):
    recipe = read_run(run({"evolving_attributes": ["landuse"], "hydroatlas_attributes": []}))
    static = recipe.manifest["static"]["features"]
    assert [each["name"] for each in static] == ["Elev", "area", "slope", "landuse"]
    assert (static[3]["mean"], static[3]["std"]) == (0.25, 0.5)
    assert "their values at the last step" in "\n".join(recipe.notes)


def test_a_mixture_head_leaves_the_lstm_alone(run):
    lstm, _ = parts()
    weights = state(lstm=lstm.state_dict()) | {"head.fc1.weight": torch.zeros(2, 6), "head.fc1.bias": torch.zeros(2)}
    recipe = read_run(run({"head": "gmm"}, weights))
    assert "the LSTM alone is served" in "\n".join(recipe.notes)
    pipeline = pipeline_of(recipe)
    assert pipeline.task is None
    inputs = inputs_of()
    query = Query(inputs[None], torch.tensor([len(inputs)]), static_inputs=STATIC[None], output=True)
    expected = lstm(torch.cat(scaled(inputs), dim=-1)[:, None])[0][:, 0].detach()
    torch.testing.assert_close(pipeline.answer(query).output[0].double(), expected, rtol=1e-5, atol=1e-6)


def test_the_last_epoch_is_taken_unless_one_is_given(run):
    folder = run(epochs=(9, 10, 2, 1000))
    assert read_run(folder).weights.name == "model_epoch1000.pt"
    assert "the last of 4 epochs" in "\n".join(read_run(folder).notes)
    given = folder / "model_epoch002.pt"
    assert read_run(folder, given).weights == given


def test_one_frequency_may_be_named(run):
    changes = {
        "dynamic_inputs": {"1D": CONFIG["dynamic_inputs"]},
        "seq_length": {"1D": 30},
        "predict_last_n": {"1D": 7},
    }
    recipe = read_run(run(changes))
    assert (recipe.manifest["window"], recipe.manifest["warmup_steps"]) == (30, 23)
    assert "the last 7 steps" in "\n".join(recipe.notes)


def test_old_names_are_read(run):
    old = {"camels_attr_means": MEANS, "camels_attr_stds": STDS}
    stated = scaler()
    stated = old | {"xarray_means": stated["xarray_feature_center"], "xarray_stds": stated["xarray_feature_scale"]}
    changes = {"static_attributes": None, "camels_attributes": ["slope"], "target_variables": None}
    recipe = read_run(run(changes | {"target_variable": "QObs(mm/d)"}, stated=stated))
    assert recipe.manifest["static"]["features"][0]["mean"] == 20.0


def test_other_folders_are_no_runs(tmp_path):
    assert read_run(tmp_path / "absent") is None
    assert read_run(tmp_path) is None
    (tmp_path / "config.yml").write_text("model: cudalstm\n")
    assert read_run(tmp_path) is None
    (tmp_path / "config.yml").write_text("[")
    assert read_run(tmp_path) is None
    (tmp_path / "model_epoch001.pt").touch()
    with pytest.raises(InvalidInput, match=r"config\.yml: is not YAML"):
        read_run(tmp_path)


REFUSED = {
    **{
        model: ({"model": model}, f"config.yml: model: {model} cannot be served, as")
        for model in ("ealstm", "mtslstm", "odelstm", "transformer", "gru", "mclstm", "arlstm", "stacked_forecast_lstm")
    },
    "unknown model": ({"model": "cudalstn"}, "model: 'cudalstn' is not known (did you mean 'cudalstm'?)"),
    "umal": ({"head": "umal"}, "head: umal cannot be served"),
    "unknown head": ({"head": "mlp"}, "head: 'mlp' is not known"),
    "basins": ({"use_basin_id_encoding": True}, "use_basin_id_encoding: the model also reads which basin"),
    "forecasts": ({"forecast_inputs": ["a"]}, "forecast_inputs: the model reads hindcasts and forecasts apart"),
    "hindcasts": ({"hindcast_inputs": ["a"]}, "hindcast_inputs: "),
    "own predictions": ({"autoregressive_inputs": ["a"]}, "autoregressive_inputs: "),
    "gaps": ({"nan_handling_method": "masked_mean"}, "nan_handling_method: "),
    "frequencies": ({"dynamic_inputs": {"1D": ["a"], "1h": ["b"]}}, "the run has 2 frequencies ('1D', '1h')"),
    "no list": ({"dynamic_inputs": 3}, "dynamic_inputs is 3, not a list of names"),
    "no inputs": ({"dynamic_inputs": []}, "dynamic_inputs is empty"),
    "no targets": ({"target_variables": []}, "target_variables is empty"),
    "input twice": ({"dynamic_inputs": ["tmax", "tmax"]}, "dynamic_inputs has 'tmax' twice"),
    "text as size": ({"hidden_size": "6"}, "hidden_size is '6', not a whole number above 0"),
    "negative size": ({"seq_length": -1}, "seq_length is -1"),
    "clipped stranger": ({"clip_targets_to_zero": ["QObs"]}, "clip_targets_to_zero: 'QObs' is no target"),
    "embedding of another type": ({"statics_embedding": {"type": "lstm"}}, "statics_embedding: "),
    "embedding without sizes": ({"statics_embedding": {"hiddens": []}}, "statics_embedding.hiddens is []"),
    "embedding with gelu": (
        {"statics_embedding": {"hiddens": [2], "activation": "gelu"}},
        "statics_embedding.activation is 'gelu'",
    ),
    "embedding of nothing": (
        {"static_attributes": None, "statics_embedding": {"hiddens": [2]}},
        "statics_embedding: the run has no static attributes",
    ),
    "input without scaling": (
        {"dynamic_inputs": ["prcp(mm/d)"]},
        "has no 'prcp(mm/d)', which is one of config.yml's dynamic_inputs (did you mean 'prcp(mm/day)'?)",
    ),
    "attribute without scaling": ({"static_attributes": ["forest"]}, "attribute_means has no 'forest'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_served_is_refused(case, refused):
    changes, message = REFUSED[case]
    assert message in refused(changes)


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        (scaler(scale=SCALE | {"tmax": 0.0}), "xarray_feature_scale of 'tmax' is 0, and must be above 0"),
        (scaler(scale=SCALE | {"tmax": float("nan")}), "xarray_feature_scale of 'tmax' is nan"),
        (scaler(center=CENTER | {"tmax": "warm"}), "xarray_feature_center of 'tmax' is 'warm', not a number"),
        (scaler(stds=STDS | {"area": -1.0}), "attribute_stds of 'area' is -1"),
        ([1, 2], "has no xarray_feature_center and xarray_feature_scale"),
    ],
)
def test_a_scaler_that_scales_nothing_is_refused(stated, message, refused):
    assert message in refused(stated=stated)


def test_a_missing_scaler_is_refused_with_where_it_may_be(run):
    folder = run()
    (folder / "train_data/train_data_scaler.yml").unlink()
    with pytest.raises(InvalidInput, match=r"train_data_scaler\.yml: is missing; a fine-tuned run"):
        read_run(folder)
    (folder / "train_data/train_data_scaler.p").write_bytes(pickle.dumps({}))
    with pytest.raises(InvalidInput) as caught:
        read_run(folder)
    assert 'pickle.load(open("train_data/train_data_scaler.p", "rb"))' in str(caught.value)


def test_missing_weights_are_refused(run):
    with pytest.raises(InvalidInput, match=r"model_epoch….pt: is missing"):
        read_run(run(epochs=()))


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("lstm.weight_ih_l0", (24, 4), r"model_epoch003.pt: 'lstm.weight_ih_l0' has shape \[24, 4\], but .* \[24, 5\]"),
        ("head.net.0.weight", None, "model_epoch003.pt: has no weight 'head.net.0.weight'"),
    ],
)
def test_weights_of_another_run_are_refused(name, shape, message, run):
    shapes = {key: tuple(value.shape) for key, value in stored(*parts()).items()}
    shapes[name] = shape
    shapes = {key: value for key, value in shapes.items() if value is not None}
    with pytest.raises(InvalidInput, match=message):
        read_run(run()).fitted(shapes)


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the run of NOAA's National Water Model is not at {REAL}")
def test_a_real_run_predicts_what_its_module_predicts():
    recipe = read_run(REAL)
    weights = torch.load(recipe.weights, map_location="cpu", weights_only=True)
    lstm, head = nn.LSTM(4, 126).double(), nn.Linear(126, 1).double()
    lstm.load_state_dict({name.removeprefix("lstm."): value for name, value in weights.items() if "lstm." in name})
    head.load_state_dict({name.removeprefix("head.net.0."): value for name, value in weights.items() if "head" in name})

    known = yaml.safe_load((REAL / "train_data/train_data_scaler.yml").read_text())
    center, scale = (known[f"xarray_feature_{part}"]["data_vars"] for part in ("center", "scale"))
    names, target, attributes = (
        ["APCP_surface", "TMP_2maboveground"],
        "QObs(mm/h)",
        {"elev_mean": 310.0, "slope_mean": 9.5},
    )
    with (REAL / "forcing-cat-67.csv").open() as file:
        rows = torch.tensor([[float(row[name]) for name in names] for row in csv.DictReader(file)], dtype=torch.float64)
    columns = [(rows[:, index] - center[name]["data"]) / scale[name]["data"] for index, name in enumerate(names)]
    columns += [
        torch.full((len(rows),), (value - known["attribute_means"][name]) / known["attribute_stds"][name]).double()
        for name, value in attributes.items()
    ]
    read = torch.stack(columns, dim=-1).double()
    expected = (forward(lstm, head, read) * scale[target]["data"] + center[target]["data"]).clamp(min=0)

    given = answered(recipe, rows, torch.tensor(list(attributes.values()), dtype=torch.float64)).double()
    assert (given - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert given.shape == (720, 1)
    assert expected.max() > 0.1
