"""`gatescope import` of archives of `torch.export`, and the models that they become."""

import numpy as np
import pytest
import torch
from torch import nn

from example_exports import archived
from gatescope.backends.reference import run
from gatescope.checkpoints.importer import import_checkpoint
from gatescope.errors import CheckpointError
from gatescope.pipeline.manifest_file import read_manifest
from gatescope.pipeline.model import load_model
from gatescope.pipeline.query import Query
from gatescope.selection import Selection


class Tagger(nn.Module):
    def __init__(self, cell=nn.LSTM):
        super().__init__()
        self.norm = nn.LayerNorm(4)
        self.encoder = nn.ModuleDict({"rnn": cell(4, 6, 2, batch_first=True, bidirectional=True)})
        self.fc = nn.Linear(12, 3)

    def forward(self, x):
        return self.fc(self.encoder["rnn"](self.norm(x))[0])


class Stream(nn.Module):
    """Takes and gives the cell state first."""

    def __init__(self):
        super().__init__()
        self.rnn, self.fc = nn.LSTM(4, 8, 2, batch_first=True), nn.Linear(8, 2)

    def forward(self, x, c, h):
        y, (h, c) = self.rnn(x, (h, c))
        return self.fc(y), c, h


class Last(nn.Module):
    """Reads the step that was the last one in the export."""

    def __init__(self):
        super().__init__()
        self.rnn, self.fc = nn.GRU(4, 6, batch_first=True), nn.Linear(6, 3)

    def forward(self, x):
        return self.fc(self.rnn(x)[0][:, 6])


@pytest.fixture
def models(tmp_path):
    return tmp_path / "models"


def imported(module, inputs, models, tmp_path, **options):
    torch.manual_seed(1)
    import_checkpoint(archived(module, inputs, tmp_path / "m.pt2", **options), models, "it")
    return load_model(models / "it")


@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU])
def test_predictions_and_traces_are_the_modules_own(cell, models, tmp_path, random):
    module = Tagger(cell)
    model = imported(module, (torch.randn(3, 7, 4),), models, tmp_path)
    assert (model.verified.by, list(model.pipeline.lstms)) == ("graph", ["encoder.rnn"])
    lengths = [9, 3, 9, 1]
    inputs = torch.randn(4, 9, 4, generator=random)
    answer = model.pipeline.answer(Query(inputs, torch.tensor(lengths), trace=Selection()))
    for row, length in enumerate(lengths):
        own = inputs[row : row + 1, :length]
        assert torch.allclose(answer.prediction.values[row, :length], module(own)[0].detach(), atol=1e-6)
        exact = run(module.encoder["rnn"], module.norm(own)[0].detach().double())
        for name, values in answer.trace.signals.items():
            assert torch.allclose(values[row, :, :, :length].double(), exact[name], atol=1e-6)


def test_states_that_stand_in_another_order_are_found(models, tmp_path, random):
    module = Stream()
    model = imported(module, (torch.randn(3, 7, 4), torch.zeros(2, 3, 8), torch.zeros(2, 3, 8)), models, tmp_path)
    graph = read_manifest(models / "it").graph
    assert (graph.initial_state, graph.final_state) == (("h", "c"), ("output_2", "output_1"))
    assert model.pipeline.parts_refusal is None
    inputs = torch.randn(2, 9, 4, generator=random)
    state, made = None, []
    for part in inputs.split(4, dim=1):
        steps = torch.full((2,), part.shape[1])
        answer = model.pipeline.answer(Query(part, steps, state, final_state=True))
        state = answer.final_state
        made.append(answer.prediction.values)
    expected, (hidden, cell) = module.rnn(inputs)
    assert torch.allclose(torch.cat(made, dim=1), module.fc(expected).detach(), atol=1e-6)
    assert torch.allclose(state.hidden_state, hidden.detach(), atol=1e-6)
    assert torch.allclose(state.cell_state, cell.detach(), atol=1e-6)


def test_a_number_in_the_graph_fixes_the_length(models, tmp_path):
    model = imported(Last(), (torch.randn(3, 7, 4),), models, tmp_path)
    assert model.pipeline.fixed_steps == 7


def test_rows_are_filled_up_where_their_number_is_fixed(models, tmp_path, random):
    model = imported(Tagger(), (torch.randn(3, 7, 4),), models, tmp_path)
    program = model.pipeline.program
    inputs = torch.randn(5, 6, 4, generator=random)
    lengths = torch.tensor([6, 2, 6, 6, 6])
    expected = model.pipeline.answer(Query(inputs, lengths, trace=Selection()))
    program.fixed_batch = 3
    found = model.pipeline.answer(Query(inputs, lengths, trace=Selection()))
    values = found.prediction.values
    assert torch.allclose(values, expected.prediction.values, atol=1e-6, equal_nan=True)
    for name, signal in expected.trace.signals.items():
        assert torch.allclose(found.trace.signals[name], signal, atol=1e-6, equal_nan=True)


def test_a_sample_is_held_against_the_archive(models, tmp_path, random):
    module = Tagger()
    path = archived(module, (torch.randn(3, 7, 4),), tmp_path / "m.pt2")
    inputs = torch.randn(2, 5, 4, generator=random)
    np.savez(tmp_path / "s.npz", inputs=inputs.numpy(), expected=module(inputs).detach().numpy())
    assert import_checkpoint(path, models, "it", sample=tmp_path / "s.npz").verified.by == "sample"


def test_an_archive_is_known_by_its_content(models, tmp_path):
    path = archived(Tagger(), (torch.randn(3, 7, 4),), tmp_path / "m.pt2")
    path.rename(tmp_path / "upload")
    assert import_checkpoint(tmp_path / "upload", models, "it").verified.by == "graph"


def test_an_input_that_may_be_something_else_than_lengths_is_refused(models, tmp_path):
    class Sites(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.rnn = nn.Embedding(5, 4), nn.LSTM(4, 6, batch_first=True)

        def forward(self, x, site):
            return self.rnn(x + self.table(site)[:, None])[0]

    path = archived(Sites(), (torch.randn(3, 7, 4), torch.tensor([1, 2, 3])), tmp_path / "m.pt2")
    with pytest.raises(CheckpointError, match="'site' has a whole number for each sequence"):
        import_checkpoint(path, models, "it")
    assert not models.exists() or not list(models.iterdir())
