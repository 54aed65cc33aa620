from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from gatescope import Selection, analyse, trace
from gatescope.cells import cell_of
from gatescope.errors import InvalidInput
from gatescope.interventions import Intervention, intervene, trace_edited
from tests.interventions.by_hand import ByHand, Edit, run

LENGTHS = [7, 3, 5]
FEATURES = 3


def module(kind: type[nn.RNNBase], **arguments: object) -> nn.RNNBase:
    torch.manual_seed(0)
    return kind(FEATURES, 4, batch_first=True, **arguments).double().eval()


def batch() -> torch.Tensor:
    return torch.randn(len(LENGTHS), max(LENGTHS), FEATURES, generator=torch.Generator().manual_seed(1)).double()


MODULES = {
    "lstm": lambda: module(nn.LSTM, num_layers=2, bidirectional=True),
    "lstm-proj": lambda: module(nn.LSTM, num_layers=2, bidirectional=True, proj_size=3),
    "gru": lambda: module(nn.GRU, num_layers=2, bidirectional=True),
    "gru-forward": lambda: module(nn.GRU, bias=False),
    "rnn": lambda: module(nn.RNN, num_layers=2, bidirectional=True),
    "rnn-relu": lambda: module(nn.RNN, num_layers=2, nonlinearity="relu"),
}
SIGNALS = [(name, signal) for name in MODULES for signal in cell_of(MODULES[name]()).signal_names]
OPERATIONS = ("set", "scale", "shift", "mean", "freeze", "patch")
UNITS, STEPS = [0, 2], range(2, 4)


def stated(operation: str, signal: str, baseline: list[ByHand], layer: int, direction: str) -> tuple[dict, list]:
    """The argument of an operation, and what it does to each sequence by hand."""
    number = 0.25
    if operation in ("set", "scale", "shift"):
        does = {
            "set": lambda v, _, __: np.full_like(v, number),
            "scale": lambda v, _, __: number * v,
            "shift": lambda v, _, __: v + number,
        }[operation]
        return {operation: number}, [does] * len(baseline)
    if operation == "mean":
        means = [each.signals[layer, direction][signal][:, UNITS].mean(0) for each in baseline]
        return {"mean": True}, [lambda _, __, ___, m=m: m for m in means]
    if operation == "freeze":
        return {"freeze": True}, [lambda _, __, before: before] * len(baseline)
    values = np.random.default_rng(0).uniform(0, 1, (len(STEPS), len(UNITS)))
    return {"patch": values}, [lambda _, t, __: values[t - STEPS.start]] * len(baseline)


def assert_equal(edited, by_hand: list[ByHand], spec_states: int) -> None:
    for row, (length, expected) in enumerate(zip(LENGTHS, by_hand, strict=True)):
        np.testing.assert_allclose(edited.output[row, :length], expected.output, atol=1e-12)
        assert torch.isnan(edited.output[row, length:]).all()
        for entry, ((layer, direction), signals) in enumerate(expected.signals.items()):
            for name, values in edited.signals.items():
                ours = values[row, layer, edited.spec.directions.index(direction), :length]
                np.testing.assert_allclose(ours, signals[name], atol=1e-12, err_msg=f"{name} {layer} {direction}")
            for index in range(spec_states):
                ours = edited.final_state[index][entry, row]
                np.testing.assert_allclose(ours, expected.final[layer, direction][index], atol=1e-12)


class TestAgainstLoopsByHand:
    @pytest.mark.parametrize(("name", "signal"), SIGNALS)
    def test_every_signal_and_operation(self, name: str, signal: str):
        net, inputs = MODULES[name](), batch()
        spec_directions = ("forward", "reverse")[: 1 + net.bidirectional]
        sequences = [inputs[row, :length] for row, length in enumerate(LENGTHS)]
        baseline = [run(net, sequence, []) for sequence in sequences]
        selection = Selection(signals=cell_of(net).signal_names)
        for operation, layer, direction in itertools.product(OPERATIONS, range(net.num_layers), spec_directions):
            argument, does = stated(operation, signal, baseline, layer, direction)
            steps = STEPS
            if operation == "freeze":  # a gate has no value before the first step of a direction
                steps = range(1, 2) if direction == "reverse" else range(1, 4)
            edit = Intervention(signal, layer, direction, UNITS, steps.start, steps.stop, **argument)
            edited = trace_edited(net, inputs, [edit], LENGTHS, selection=selection)
            by_hand = [
                run(net, sequence, [Edit(signal, layer, direction, UNITS, steps, become)])
                for sequence, become in zip(sequences, does, strict=True)
            ]
            assert_equal(edited, by_hand, len(cell_of(net).states))

    @pytest.mark.parametrize("scope", ["both", "recurrent", "outgoing"])
    @pytest.mark.parametrize("name", ["lstm", "lstm-proj", "gru", "rnn"])
    def test_scopes_of_an_ablated_unit(self, name: str, scope: str):
        net, inputs = MODULES[name](), batch()
        sequences = [inputs[row, :length] for row, length in enumerate(LENGTHS)]
        for layer, direction in itertools.product(range(2), ("forward", "reverse")):
            ablation = Intervention("hidden_state", layer, direction, [1], scope=scope, set=0)
            edited = trace_edited(net, inputs, [ablation], LENGTHS)
            edit = Edit("hidden_state", layer, direction, [1], range(9), lambda v, _, __: 0 * v, scope)
            by_hand = [run(net, sequence, [edit]) for sequence in sequences]
            assert_equal(edited, by_hand, len(cell_of(net).states))

    def test_several_of_one_value_in_their_order(self):
        net, inputs = MODULES["lstm"](), batch()
        given = [
            Intervention("forget_gate", 0, "forward", [1, 2], 1, 5, scale=0.5),
            Intervention("forget_gate", 0, "forward", [2, 3], 3, 7, shift=0.1),
            Intervention("forget_gate", 0, "forward", [3], 4, 6, [0], set=1),
            Intervention("cell_state", 1, "reverse", [0], 2, 6, [1, 0], freeze=True),
            Intervention("hidden_state", 1, "reverse", [0], 0, 3, scope="recurrent", scale=-1),
        ]
        edited = trace_edited(net, inputs, given, LENGTHS)
        by_hand = []
        for row, length in enumerate(LENGTHS):
            edits = [
                Edit("forget_gate", 0, "forward", [1, 2], range(1, 5), lambda v, _, __: 0.5 * v),
                Edit("forget_gate", 0, "forward", [2, 3], range(3, 7), lambda v, _, __: v + 0.1),
                Edit("forget_gate", 0, "forward", [3], range(4, 6 if row == 0 else 4), lambda v, _, __: 0 * v + 1),
                Edit("cell_state", 1, "reverse", [0], range(2, 6 if row < 2 else 2), lambda _, __, before: before),
                Edit("hidden_state", 1, "reverse", [0], range(3), lambda v, _, __: -v, "recurrent"),
            ]
            by_hand.append(run(net, inputs[row, :length], edits))
        assert_equal(edited, by_hand, 2)


class TestFloat32:
    @pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
    def test_the_fused_kernel_goes_on_behind_an_edit(self, kind: type[nn.RNNBase]):
        torch.manual_seed(0)
        net, inputs = kind(FEATURES, 20, batch_first=True).eval(), torch.randn(1, 200, FEATURES)
        signal = cell_of(net).signal_names[0]
        edited = trace_edited(net, inputs, [Intervention(signal, units=[3], start=90, stop=95, set=0)])
        by_hand = run(net, inputs[0], [Edit(signal, 0, "forward", [3], range(90, 95), lambda v, _, __: 0 * v)])
        np.testing.assert_allclose(edited.output[0], by_hand.output, atol=2e-6)
        assert edited.residual < 1e-5

    def test_what_is_set_anyway_changes_nothing(self):
        torch.manual_seed(0)
        net, inputs = nn.LSTM(FEATURES, 20, 2, batch_first=True).eval(), torch.randn(2, 50, FEATURES)
        known = trace(net, inputs, LENGTHS[:2])
        for signal in cell_of(net).signal_names:
            for layer in range(2):
                run_again = intervene(net, inputs, [Intervention(signal, layer, patch=known, stop=3)], LENGTHS[:2])
                assert max(values.nan_to_num().abs().max() for values in run_again.difference.values()) < 1e-6

    def test_a_patch_of_the_whole_state_makes_it_the_other_run(self):
        torch.manual_seed(0)
        net, inputs = nn.LSTM(FEATURES, 20, batch_first=True).eval(), torch.randn(2, 50, FEATURES)
        mine, other = inputs[:1], torch.cat([inputs[1:, :25], inputs[:1, 25:]], dim=1)
        known = trace(net, other)
        patches = [Intervention(name, start=24, stop=25, patch=known) for name in ("cell_state", "hidden_state")]
        edited = trace_edited(net, mine, patches)
        torch.testing.assert_close(edited.output[:, 24:], known.output[:, 24:], atol=1e-6, rtol=0)

    def test_a_state_that_is_frozen_from_the_start_stays_the_initial_one(self):
        torch.manual_seed(0)
        net = nn.LSTM(FEATURES, 5, bidirectional=True, batch_first=True).eval()
        h0, c0 = torch.rand(2, 3, 5), torch.rand(2, 3, 5)
        for row, direction in enumerate(("forward", "reverse")):
            frozen = [Intervention(name, 0, direction, np.array([1]), freeze=True) for name in cell_of(net).states]
            edited = trace_edited(net, batch().float(), frozen, LENGTHS, (h0, c0))
            for name, initial in (("hidden_state", h0), ("cell_state", c0)):
                values = edited.signals[name][:, 0, row, :3, 1]
                torch.testing.assert_close(values, initial[row, :, 1:2].expand(3, 3), atol=0, rtol=0)
                torch.testing.assert_close(edited.final_state.named()[name][row, :, 1], initial[row, :, 1])

    def test_variants_of_one_run_are_rows_of_a_batch(self):
        torch.manual_seed(0)
        net, sequence = nn.LSTM(FEATURES, 6, 2, batch_first=True).eval(), torch.randn(1, 30, FEATURES)
        lesions = [Intervention("hidden_state", 0, units=[unit], sequences=[unit], set=0) for unit in range(6)]
        together = trace_edited(net, sequence.expand(6, -1, -1), lesions, selection=Selection(signals=()))
        for unit in range(6):
            alone = trace_edited(net, sequence, [Intervention("hidden_state", 0, units=[unit], set=0)])
            torch.testing.assert_close(together.output[unit], alone.output[0], atol=1e-6, rtol=0)


LSTM = MODULES["lstm"]
REFUSED = [
    ({"signal": "forget_gates", "set": 0}, ("signal",), "did you mean 'forget_gate'?"),
    ({"signal": "update_gate", "set": 0}, ("signal",), "has no signal 'update_gate'; "),
    ({"layer": 2, "set": 0}, ("layer",), "this model has 0 to 1"),
    ({"direction": "backward", "set": 0}, ("direction",), "this model has 'forward', 'reverse'"),
    ({"units": [4], "set": 0}, ("units", 0), "forget_gate has 0 to 3"),
    ({"units": [1, 1], "set": 0}, ("units", 1), "1 stands there twice"),
    ({"units": [], "set": 0}, ("units",), "is empty"),
    ({"sequences": [3], "set": 0}, ("sequences", 0), "this batch has 0 to 2"),
    ({}, (), "it states none"),
    ({"set": 0, "scale": 1}, (), "it states set, scale"),
    ({"scale": float("inf")}, ("scale",), "must be a finite number"),
    ({"set": 1.5}, ("set",), "1.5 is outside of what forget_gate can be, 0 to 1"),
    ({"set": 0, "start": 4, "stop": 4}, ("time",), "4:4 holds no time step"),
    ({"set": 0, "start": 3, "sequences": [1]}, ("time",), "3: holds no time step; the longest of its sequences has 3"),
    ({"set": 0, "scope": "recurrent"}, ("scope",), "goes with hidden_state only"),
    ({"freeze": True}, ("freeze",), "forget_gate has no value before step 0"),
    ({"freeze": True, "direction": "reverse", "start": 1}, ("freeze",), "has no value before step 6"),
    ({"patch": [[0.5]]}, ("patch",), "it must be (time, unit) = (7, 4)"),
    ({"patch": [[1.5]], "units": [0], "stop": 1}, ("patch",), "1.5 is outside"),
    ({"patch": [[float("nan")]], "units": [0], "stop": 1}, ("patch",), "that is not finite"),
]


class TestRefusals:
    @pytest.mark.parametrize(("given", "loc", "message"), REFUSED)
    def test_each_names_its_place(self, given: dict, loc: tuple, message: str):
        wrong = Intervention(**{"signal": "forget_gate", **given})
        with pytest.raises(InvalidInput) as caught:
            intervene(LSTM(), batch(), [Intervention("cell_state", set=0), wrong], LENGTHS)
        (place,) = caught.value.places
        assert place.loc == ("interventions", 1, *loc)
        assert message in place.message

    def test_a_direction_of_a_module_that_reads_one_way(self):
        with pytest.raises(InvalidInput, match="no direction 'reverse'; this model has 'forward'"):
            intervene(MODULES["gru-forward"](), batch(), [Intervention("candidate", direction="reverse", set=0)])

    def test_traces_that_lack_what_is_patched(self):
        net = LSTM()
        cases = [
            (trace(net, batch(), LENGTHS, selection=Selection(signals=("cell_state",))), "without forget_gate"),
            (trace(net, batch(), LENGTHS, selection=Selection(layers=(1,))), "layers lack 0"),
            (trace(net, batch(), LENGTHS, selection=Selection(units=(1,))), "units lack 0, 2, 3"),
            (trace(net, batch()[:, :5]), "time steps lack 5, 6"),
            (trace(net, batch()[:2]), "none for sequence 2"),
            (trace(net, batch(), [7, 3, 4]), "of a sequence that ends before the steps that are edited of sequence 2"),
            (trace(MODULES["lstm-proj"](), batch()), "of another module"),
        ]
        for patch, message in cases:
            with pytest.raises(InvalidInput, match=message):
                intervene(net, batch(), [Intervention("forget_gate", patch=patch)], LENGTHS)

    def test_an_analysis_of_an_edited_trace(self):
        run = intervene(LSTM(), batch(), [Intervention("forget_gate", set=0)])
        assert analyse(run.baseline, "timescales")
        with pytest.raises(InvalidInput, match="with edited signals cannot be analysed"):
            analyse(run.intervened, "timescales")

    def test_cancelled_between_chunks_of_the_loop(self):
        calls = []

        def raise_if_cancelled() -> None:
            calls.append(None)
            if len(calls) > 1:
                raise TimeoutError

        net = module(nn.LSTM)
        edit, inputs = [Intervention("forget_gate", set=0)], torch.zeros(1, 2000, FEATURES).double()
        with pytest.raises(TimeoutError):
            trace_edited(net, inputs, edit, raise_if_cancelled=raise_if_cancelled)
