"""An ONNX graph, and an archive of `torch.export`, beside the module that they were exported from."""

import numpy as np
import pytest
import torch
from torch import nn

from example_exports import archived
from example_graphs import NodeGraph, exported
from gatescope.analysis.registry import analyse
from gatescope.errors import InvalidInput
from gatescope.interventions import Intervention
from gatescope.pipeline.export.file import ExportedFile
from gatescope.pipeline.heads import HeadConfig
from gatescope.pipeline.program.graph_config import GraphConfig
from gatescope.pipeline.program.pipeline import ProgramPipeline
from gatescope.pipeline.query import Query
from gatescope.selection import Selection
from tests.pipeline.custom.test_heads import build, gradient_by_autograd, subject_of
from tests.pipeline.onnx.test_program import features, pipeline_of

LENGTHS = torch.tensor([9, 9])


class Net(nn.Module):
    """Two modules, the upper of which is read at its end; the lower at each step."""

    def __init__(self, cell):
        super().__init__()
        self.below = cell(3, 4, batch_first=True, bidirectional=True)
        self.above = cell(8, 5, batch_first=True)
        self.fc = nn.Linear(13, 2)

    def forward(self, x):
        below = self.below(x)[0].tanh()
        above, last = self.above(below)
        last = last[0] if isinstance(last, tuple) else last
        return self.fc(torch.cat((above, below), -1)) + last[0, :, None, :2]


@pytest.fixture(scope="module", params=[nn.LSTM, nn.GRU, nn.RNN])
def beside(request, tmp_path_factory):
    """The module, its own pipeline, that of its graph and that of its archive."""
    module = Net(request.param)
    own, folder = build(module), tmp_path_factory.mktemp("graphs")
    onnx = pipeline_of(exported(module, (torch.randn(2, 7, 3),), folder / "m.onnx"), 2)
    archive = ExportedFile(archived(module, (torch.randn(2, 7, 3),), folder / "m.pt2"))
    program = archive.program(GraphConfig.model_validate(archive.described().config))
    head = HeadConfig(task="regression", names=("x", "y"))
    return module, own, onnx, ProgramPipeline(features(3), None, head, program, 12)


def test_lesions_are_those_of_the_module(beside, random):
    _, own, *graphs = beside
    query = Query(torch.randn(2, 9, 3, generator=random), LENGTHS)
    for index, name in enumerate(("below", "above")):
        expected = analyse(subject_of(own, query, name), "lesions")["effect"]
        assert (expected > 0).all()
        for pipeline in graphs:
            found = analyse(subject_of(pipeline, query, list(pipeline.lstms)[index]), "lesions")["effect"]
            np.testing.assert_allclose(found, expected, rtol=2e-4)


def test_an_archive_has_gradients_and_a_graph_says_why_it_has_none(beside, random):
    module, _, onnx, archive = beside
    assert "ONNX Runtime, which gives no gradients" in onnx.head_refusals(None)["gradient"]
    assert archive.head_refusals("below") == archive.head_refusals("above") == {}
    inputs = torch.randn(1, 9, 3, generator=random)
    subject = subject_of(archive, Query(inputs, LENGTHS[:1]), "below")
    found = analyse(subject, "connectivity", target="x", time_step=5)
    expected = gradient_by_autograd(module, "below", inputs, lambda predicted: predicted[0, 5, 0])
    np.testing.assert_allclose(found["gradient_norm"], expected.norm(dim=-1).numpy(), atol=2e-6)


def test_edits_are_those_of_the_module(beside, random):
    _, own, *graphs = beside
    inputs = torch.randn(2, 9, 3, generator=random)
    edits = (
        Intervention("hidden_state", direction="reverse", units=(0, 2), start=2, stop=6, set=0.5, sequences=(1,)),
        Intervention("hidden_state", units=(1,), start=4, freeze=True),
        Intervention("hidden_state", units=(3,), start=-3, mean=True),
    )
    for index, name in enumerate(("below", "above")):
        used = edits if name == "below" else edits[1:]
        wanted = {"interventions": used, "trace": Selection(), "final_state": True}
        expected = own.answer(Query(inputs, LENGTHS, module=name, **wanted))
        plain = own.answer(Query(inputs, LENGTHS)).prediction.values
        assert float((expected.prediction.values - plain).abs().amax(dim=(1, 2)).min()) > 1e-3
        for pipeline in graphs:
            found = pipeline.answer(Query(inputs, LENGTHS, module=list(pipeline.lstms)[index], **wanted))
            assert found.trace.residual < 1e-5
            values = found.prediction.values
            torch.testing.assert_close(values, expected.prediction.values, rtol=0, atol=2e-6)
            for signal, values in expected.trace.signals.items():
                torch.testing.assert_close(found.trace.signals[signal], values, rtol=0, atol=2e-6)
            for one, other in zip(found.final_state, expected.final_state, strict=True):
                torch.testing.assert_close(one, other, rtol=0, atol=2e-6)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_a_node_of_ragged_rows_is_edited_in_its_own_order(direction, tmp_path, random):
    pipeline = pipeline_of(NodeGraph("GRU", direction, lengths=True).saved(tmp_path / "m.onnx"), None)
    inputs, lengths = torch.randn(3, 8, 3, generator=random), torch.tensor([8, 5, 2])
    edit = Intervention("hidden_state", units=(0,), start=1, stop=3, set=0.25)
    edited = pipeline.answer(Query(inputs, lengths, interventions=(edit,), trace=Selection(), output=True))
    assert edited.trace.residual < 1e-5
    for row, length in enumerate(lengths.tolist()):
        hidden = edited.trace.hidden_state[row, 0, 0, :length, 0]
        assert hidden[1 : min(3, length)].tolist() == [0.25] * (min(3, length) - 1)
    assert edited.trace.hidden_state[2, 0, 0, 2:].isnan().all()


def test_a_graph_without_a_head_has_none(tmp_path):
    pipeline = pipeline_of(NodeGraph().saved(tmp_path / "m.onnx"), None)
    assert pipeline.head_refusals(None) == {"head": "the model predicts nothing"}
    edit = (Intervention("cell_sate", set=0),)
    with pytest.raises(InvalidInput, match="no signal 'cell_sate'; did you mean 'cell_state'"):
        pipeline.answer(Query(torch.zeros(1, 4, 3), torch.tensor([4]), interventions=edit))
