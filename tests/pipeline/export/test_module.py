"""What a caller is told of an exported module, and what forward takes and returns."""

import copy
import threading

import pytest
import torch
from torch import nn

from gatescope.errors import CheckpointError, ModuleFailed
from gatescope.pipeline.export.archive import read
from gatescope.pipeline.export.module import ExportedModule
from tests.pipeline.export.conftest import AUTO, widen

STEPS = 13


class Full(nn.Module):
    """Ids, their lengths and a state; a dict of a prediction and nested states."""

    def __init__(self):
        super().__init__()
        self.embedding, self.lstm, self.fc = nn.Embedding(7, 3), nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, ids, sequence_lengths, initial_state):
        output, (h, c) = self.lstm(self.embedding(ids), initial_state)
        mask = torch.arange(ids.shape[1])[None] < sequence_lengths[:, None]
        pooled = (output * mask[..., None]).sum(1) / sequence_lengths[:, None]
        return {"prediction": self.fc(pooled), "final_state": (h, c), "none": None}


def given(batch, steps):
    lengths = torch.arange(batch) % steps + 1
    return torch.randint(7, (batch, steps)), lengths, (torch.randn(1, batch, 4), torch.randn(1, batch, 4))


SHAPES = ({0: AUTO, 1: AUTO}, {0: AUTO}, ({1: AUTO}, {1: AUTO}))


@pytest.fixture
def full(load):
    module = widen(Full())
    return module, load(module, *given(3, STEPS), dynamic_shapes=SHAPES)


def test_inputs_are_named_with_what_they_are(full):
    told = [(each.name, each.role, each.dtype, each.shape) for each in full[1].inputs]
    assert told == [
        ("ids", "sequence", torch.int64, (3, STEPS)),
        ("sequence_lengths", "lengths", torch.int64, (3,)),
        ("initial_state_0", "state", torch.float32, (1, 3, 4)),
        ("initial_state_1", "state", torch.float32, (1, 3, 4)),
    ]
    assert [size.symbol is None for size in full[1].inputs[0].dimensions] == [False, True]


def test_outputs_are_named_after_their_place(full):
    told = [(each.name, each.dtype, each.shape) for each in full[1].outputs]
    assert told == [
        ("prediction", torch.float32, (3, 2)),
        ("final_state.0", torch.float32, (1, 3, 4)),
        ("final_state.1", torch.float32, (1, 3, 4)),
        ("none", None, None),
    ]


@pytest.mark.parametrize("sizes", [(1, 1), (3, STEPS), (4, 60)])
def test_values_come_back_in_the_order_of_the_outputs(full, sizes):
    module, served = full
    ids, lengths, (h, c) = given(*sizes)
    own, returned = module(ids, lengths, (h, c)), served(ids, lengths, h, c)
    assert returned[3] is None
    for value, expected in zip(returned, (own["prediction"], *own["final_state"]), strict=False):
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-6)


def test_inputs_of_other_types_are_taken(full):
    _, served = full
    ids, lengths, (h, c) = given(2, 5)
    expected = served(ids, lengths, h, c)[0]
    torch.testing.assert_close(served(ids.int(), lengths.int(), h.double(), c.double())[0], expected)


def test_inputs_of_other_shapes_are_refused(full):
    _, served = full
    ids, lengths, (h, c) = given(2, 5)
    with pytest.raises(ModuleFailed, match="takes 4 inputs, and 1 are given"):
        served(ids)
    with pytest.raises(
        ModuleFailed, match=r"'sequence_lengths' .* must be \(2\) for a batch of 2 × 5 steps, not \(3\)"
    ):
        served(ids, torch.ones(3), h, c)
    with pytest.raises(ModuleFailed, match=r"takes sequences like \(3, 13\), not \(2, 5, 1\)"):
        served(ids[..., None], lengths, h, c)
    with pytest.raises(ModuleFailed, match=r"'initial_state_1' .* must be \(1, 2, 4\)"):
        served(ids, lengths, h, c[..., :3])
    with pytest.raises(ModuleFailed, match=r"node 'embedding' \(aten.embedding.default\) fails"):
        served(ids + 100, lengths, h, c)


def test_nothing_that_is_given_changes_and_threads_do_not_meet(full):
    module, served = full
    ids, lengths, (h, c) = given(3, 20)
    before = [value.clone() for value in (ids, lengths, h, c)]
    expected = module(ids, lengths, (h, c))["prediction"]
    results = []
    threads = [threading.Thread(target=lambda: results.append(served(ids, lengths, h, c)[0])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    for result in results:
        torch.testing.assert_close(result, expected, rtol=0, atol=1e-6)
    assert all(torch.equal(value, old) for value, old in zip((ids, lengths, h, c), before, strict=True))


def test_a_copy_has_weights_of_its_own(full):
    _, served = full
    other = copy.deepcopy(served)
    ids, lengths, (h, c) = given(2, 5)
    expected = served(ids, lengths, h, c)[0].clone()
    with torch.no_grad():
        for value in (*other.parameters(), *other.buffers()):
            value.zero_()
    assert torch.equal(served(ids, lengths, h, c)[0], expected)
    assert not bool(other(ids, lengths, h, c)[0].any())


class Returning(nn.Module):
    """Returns its input and a weight beside a prediction, two places of one tuple."""

    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(3, 4, batch_first=True)

    def forward(self, x):
        output, state = self.gru(x)
        return output, (state, x, self.gru.weight_ih_l0)


def test_what_is_returned_is_no_part_of_the_module(load):
    module = widen(Returning())
    served, x = load(module, torch.randn(2, STEPS, 3)), torch.randn(2, 4, 3)
    assert [each.name for each in served.outputs] == ["output_0", "output_1.0", "output_1.1", "output_1.2"]
    first = [value.clone() for value in served(x)]
    for value in served(x):
        value.zero_()
    assert bool(x.any())
    for value, expected in zip(served(x), first, strict=True):
        assert torch.equal(value, expected)


class Half(nn.Module):
    """A module of another precision."""

    def __init__(self, dtype):
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True)
        self.fc = nn.Linear(4, 2)
        self.to(dtype)

    def forward(self, x):
        return self.fc(self.lstm(x)[0] + torch.zeros(4, dtype=x.dtype))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_modules_of_other_precisions_are_served_in_float32(load, dtype):
    module = widen(Half(dtype))
    served = load(module, torch.randn(2, STEPS, 3, dtype=dtype))
    assert all(value.dtype == torch.float32 for value in served.parameters())
    x = torch.randn(3, 5, 3)
    torch.testing.assert_close(served(x)[0], copy.deepcopy(module).float()(x), rtol=0, atol=1e-6)


class Masked(nn.Module):
    """A buffer with Infinity, as masks have, and one weight that two layers share."""

    def __init__(self):
        super().__init__()
        self.rnn, self.first, self.second = nn.RNN(4, 4, batch_first=True), nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.register_buffer("mask", torch.tensor([0.0, -torch.inf, 0.0, 0.0]))

    def forward(self, x):
        return (self.second(self.rnn(self.first(x))[0]) + self.mask).softmax(-1)


def test_masks_may_be_infinite_and_tied_weights_are_one_tensor(save):
    module = widen(Masked())
    path = save(module, torch.randn(2, STEPS, 4))
    tensors = read(path).tensors
    assert tensors["p_first_weight"] is tensors.get("p_second_weight", tensors["p_first_weight"])
    x = torch.randn(2, 5, 4)
    torch.testing.assert_close(ExportedModule.load(path)(x)[0], module(x))


class Two(nn.Module):
    """Takes what no caller can give."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True)

    def forward(self, x, more):
        return self.lstm(x)[0] * more


@pytest.mark.parametrize("more", [torch.ones(1, 2, STEPS, 4), torch.ones(2, STEPS, 1, dtype=torch.bool)])
def test_inputs_that_are_no_sequence_are_refused(load, more):
    with pytest.raises(CheckpointError, match="a forward must take one sequence"):
        load(widen(Two()), torch.randn(2, STEPS, 3), more, dynamic_shapes=None)
