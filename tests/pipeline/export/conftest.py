"""Exports of small modules, and archives that were changed after they were written."""

import json
import warnings
import zipfile

import pytest
import torch
from torch import nn
from torch.export import Dim

from gatescope.pipeline.export.module import ExportedModule

AUTO = Dim.AUTO
FREE = ({0: Dim.AUTO, 1: Dim.AUTO},)
"""As free as an export with a recurrent node can be: PyTorch fixes the number of steps all the same."""


class Tagger(nn.Module):
    """An LSTM and a linear layer at each step."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.ModuleDict({"lstm": nn.LSTM(3, 4, batch_first=True)})
        self.fc = nn.Linear(4, 2)
        self.register_buffer("scale", torch.tensor([1.0, 2.0, 3.0]))
        self.register_buffer("shift", torch.tensor([0.5, 0.0, -0.5]), persistent=False)

    def forward(self, x):
        return self.fc(self.encoder["lstm"](x * self.scale + self.shift)[0])


def widen(module):
    """Weights wide enough that the gates do not all stand at one half, in evaluation mode."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(-0.6, 0.6, generator=generator)
    return module.eval()


def exported(module, *inputs, dynamic_shapes=FREE, decompose=False):
    """What `torch.export.export` returns; decomposed but for the recurrent operators."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.export.export(module, inputs, dynamic_shapes=dynamic_shapes)
        if not decompose:
            return program
        table = torch.export.default_decompositions()
        for name in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
            table.pop(getattr(torch.ops.aten, name).input, None)
        for name in ("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"):
            table.pop(getattr(torch.ops.aten, name).default, None)
        return program.run_decompositions(table)


@pytest.fixture
def save(tmp_path):
    """`save(module, *inputs)`: the file of an export."""

    def write(module, *inputs, **options):
        path = tmp_path / "module.pt2"
        torch.export.save(exported(module, *inputs, **options), path)
        return path

    return write


@pytest.fixture
def load(save):
    """`load(module, *inputs)`: the same as it is served."""

    def read(module, *inputs, **options):
        return ExportedModule.load(save(module, *inputs, **options))

    return read


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """The members of a sound archive, by name."""
    path = tmp_path_factory.mktemp("export") / "module.pt2"
    torch.export.save(exported(widen(Tagger()), torch.randn(2, 11, 3)), path)
    with zipfile.ZipFile(path) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def forge(tmp_path, written):
    """`forge(program=…, weights=…, members=…)`: the archive with its JSON or its members changed in place."""

    def write(program=None, weights=None, members=None, root="module", **options):
        changed = dict(written)
        for name, change in (
            ("models/model.json", program),
            ("data/weights/model_weights_config.json", weights),
        ):
            if change is not None:
                content = json.loads(changed[name])
                change(content)
                changed[name] = json.dumps(content).encode()
        if members is not None:
            members(changed)
        path = tmp_path / "forged.pt2"
        with warnings.catch_warnings(), zipfile.ZipFile(path, "w", **options) as archive:
            warnings.simplefilter("ignore")  # of duplicate names
            for name, content in changed.items():
                archive.writestr(f"{root}/{name}", content)
        return path

    return write
