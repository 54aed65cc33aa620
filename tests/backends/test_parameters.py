"""Parameters are kept as long as the module has the same tensors."""

import copy
import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import nn
from torch.nn.utils import parametrizations

from gatescope.backends import reference
from gatescope.backends.parameters import Parameters
from gatescope.tracing import trace


def assert_traced(module, inputs):
    """The trace equals the equations with the weights that the module has now."""
    traced = trace(module, inputs)
    for row, sequence in enumerate(inputs):
        expected = reference.run(module, sequence.double())
        for signal, values in traced.signals.items():
            torch.testing.assert_close(values[row].double(), expected[signal], rtol=0, atol=1e-5)


def test_parameters_are_made_once():
    module = nn.LSTM(3, 5)
    assert Parameters.of(module) is Parameters.of(module)
    assert Parameters.of(module) is not Parameters.of(copy.deepcopy(module))


def test_parameters_share_the_modules_memory():
    module = nn.LSTM(3, 5, 2, bidirectional=True)
    mine = [tensor.data_ptr() for weights in Parameters.of(module).weights for tensor in weights.flat()]
    assert mine == [parameter.data_ptr() for parameter in module.parameters()]


def test_changed_weights_count_in_the_next_trace():
    module, inputs = nn.LSTM(3, 5, batch_first=True), torch.randn(2, 4, 3)
    assert_traced(module, inputs)
    module.weight_hh_l0.data.mul_(-2)
    assert_traced(module, inputs)
    module.load_state_dict(nn.LSTM(3, 5).state_dict())
    assert_traced(module, inputs)
    module.weight_ih_l0 = nn.Parameter(torch.randn(20, 3))
    assert_traced(module, inputs)
    module.bias_ih_l0.data = torch.randn(20)
    assert_traced(module, inputs)
    assert trace(module.double(), inputs.double()).backend == "replay"
    assert_traced(module, inputs.double())


def test_parametrized_weights_are_read_again():
    module, inputs = nn.LSTM(3, 5, batch_first=True), torch.randn(2, 4, 3)
    parametrizations.weight_norm(module, "weight_hh_l0")
    assert_traced(module, inputs)
    with torch.no_grad():
        module.parametrizations.weight_hh_l0.original0.mul_(3)
    assert_traced(module, inputs)


def test_parameters_keep_no_module_alive():
    module = nn.LSTM(3, 5)
    trace(module, torch.randn(1, 2, 3))
    Parameters.of(module).reordered(1)
    gone = weakref.ref(module)
    del module
    gc.collect()
    assert gone() is None


def test_several_threads_trace_at_once():
    module = nn.LSTM(3, 5, 2, bidirectional=True, batch_first=True)
    batches = [torch.randn(rows, time, 3) for rows in (1, 2) for time in (3, 6)] * 5
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda inputs: assert_traced(module, inputs), batches))
