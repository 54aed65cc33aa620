"""What stands where weights should be, told by its true reason."""

import pytest
import torch
from torch import nn

from gatescope.checkpoints.formats.checkpoint import read
from gatescope.errors import CheckpointError

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4)
        self.fc = nn.Linear(4, 1)


class Straight(nn.Module):
    def __init__(self):
        super().__init__()
        self.quant = torch.ao.quantization.QuantStub()
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(self.quant(x))


def dynamic(dtype=torch.qint8):
    return torch.ao.quantization.quantize_dynamic(Model(), {nn.LSTM, nn.Linear}, dtype=dtype)


def static():
    module = Straight().eval()
    module.qconfig = torch.ao.quantization.default_qconfig
    prepared = torch.ao.quantization.prepare(module)
    prepared(torch.randn(2, 4))
    return torch.ao.quantization.convert(prepared)


@pytest.fixture
def refusal(tmp_path):
    def refused(saved, **options):
        torch.save(saved, tmp_path / "a.pt", **options)
        with pytest.raises(CheckpointError) as error:
            read(tmp_path / "a.pt")
        return str(error.value)

    return refused


@pytest.mark.parametrize(
    "make", [dynamic, lambda: dynamic(torch.float16), static], ids=["dynamic", "float16", "static"]
)
@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"state_dict": state, "epoch": 3}])
@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_a_quantised_module_is_told_to_save_the_float_one(refusal, make, wrap, new):
    refused = refusal(wrap(make().state_dict()), _use_new_zipfile_serialization=new)
    assert "it holds quantised weights" in refused
    assert "save the state_dict of the float model, from before quantize_dynamic or convert" in refused


def test_quantised_weights_beside_float_ones_stop_nobody(tmp_path):
    state = Model().state_dict()
    torch.save({"state_dict": state, "small": dynamic().state_dict()}, tmp_path / "a.pt")
    found = read(tmp_path / "a.pt")
    assert set(found.weights) == set(state)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda module: module,
        lambda module: {"model": module, "epoch": 3},
        lambda module: {"model": module, "stats": {"mean": torch.ones(2), "std": torch.ones(2)}},
        lambda module: {"my_network": module, "class_weights": torch.ones(2)},
        lambda module: [module],
    ],
)
@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("protocol", [2, 4])
def test_a_whole_module_is_told_from_a_state_dict(refusal, wrap, new, protocol):
    refused = refusal(wrap(Model()), _use_new_zipfile_serialization=new, pickle_protocol=protocol)
    assert "it holds a whole pickled module" in refused
    assert 'torch.save(model.state_dict(), "weights.pt")' in refused


@pytest.mark.parametrize("beside", [nn.MSELoss(), nn.CrossEntropyLoss(weight=torch.ones(3)), Model()])
def test_a_module_beside_as_many_weights_stops_nobody(tmp_path, beside):
    state = Model().state_dict()
    torch.save({"state_dict": state, "criterion": beside}, tmp_path / "a.pt")
    assert set(read(tmp_path / "a.pt").weights) == set(state)


def test_a_script_object_is_told_by_its_class(refusal):
    packed = dynamic().state_dict()["lstm._all_weight_values.0.param"]
    assert "it holds quantised weights" in refusal({"other": [packed]})
    assert "__torch__.torch.classes.rnn.CellParamsBase" in refusal({"optimizer": [packed]})


def test_a_file_of_objects_only_names_their_classes(refusal):
    assert "(not read: objects of 'builtins.slice')" in refusal({"x": slice(1)})
