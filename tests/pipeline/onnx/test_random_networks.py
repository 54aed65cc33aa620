"""Random networks through ONNX: predictions are the module's own, traces are the equations', or the reason is told."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import torch

from example_graphs import Stack, exported
from gatescope.checkpoints.importer import Options, import_checkpoint
from gatescope.pipeline.model import load_model
from gatescope.pipeline.query import Query
from gatescope.selection import Selection
from random_network import RandomNetwork
from tests.bulk import IS_ALL, number

pytestmark = pytest.mark.random
TOLERANCE = 1e-5


@pytest.fixture
def answered(tmp_path):
    """`answered(module, path)` imports a graph and compares predictions and hidden states; it returns the answer."""

    def compare(module, path, random):
        import_checkpoint(path, tmp_path / "models", "it", Options(task="regression"))
        pipeline = load_model(tmp_path / "models" / "it").pipeline
        lengths = torch.tensor([11, 6, 1, 11, 3])
        inputs = torch.randn(5, 11, module.features, generator=random)
        seen = {}
        hook = module.rnn.register_forward_hook(lambda _, __, made: seen.update(output=made[0].detach()))
        last = list(pipeline.lstms)[-1]
        answer = pipeline.answer(Query(inputs, lengths, module=last, trace=Selection(signals=("hidden_state",))))
        for row, length in enumerate(lengths.tolist()):
            with torch.no_grad():
                expected = module(inputs[row : row + 1, :length])[0].numpy()
            found = answer.prediction.values[row].numpy()
            found = found[:length] if expected.ndim > 1 else found
            assert np.abs(found - expected).max() <= TOLERANCE * max(1, np.abs(expected).max())
            hidden = answer.trace.signals["hidden_state"][row, 0, :, :length]  # (direction, time, unit)
            assert torch.allclose(torch.cat([*hidden], dim=-1), seen["output"][0], atol=TOLERANCE)
        assert answer.trace.residual < TOLERANCE
        hook.remove()
        return answer

    return compare


@pytest.mark.parametrize("seed", range(number(8, 200)))
def test_a_random_network_is_served_as_it_is(seed, answered, tmp_path, random):
    module = RandomNetwork(seed)
    path = exported(module, (torch.randn(2, 7, module.features),), tmp_path / "m.onnx")
    answered(module, path, random)


@pytest.mark.skipif(not IS_ALL, reason="the export alone takes ten seconds")
def test_the_newer_exporters_graph_is_served_as_it_is(answered, tmp_path, random):
    module = Stack().eval()
    # in a process of its own: whatever was exported there before with fixed axes would fix those of this one
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        export = pool.submit(exported, module, (torch.randn(2, 7, 5),), tmp_path / "m.onnx", dynamo=True)
    answered(module, export.result(), random)
