"""What predicts behind a module of its own: analyses of its recurrent modules, and runs with edited signals."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import example_modules as examples
from example_modules import cells, streams
from gatescope.analysis.registry import analyse
from gatescope.analysis.subject import Subject
from gatescope.errors import InvalidInput
from gatescope.interventions import Intervention
from gatescope.padding import pad
from gatescope.pipeline.custom.program import CustomProgram
from gatescope.pipeline.features import Feature, FeatureInputs
from gatescope.pipeline.heads import HeadConfig
from gatescope.pipeline.program.pipeline import ProgramPipeline
from gatescope.pipeline.query import Query
from gatescope.pipeline.subject import ReadOut
from gatescope.pipeline.tokens import TokenInputs
from gatescope.selection import Selection

NAMES = {"names": ("x", "y")}
TOKENS = TokenInputs(kind="tokens", vocabulary="characters", characters="abcde")


class HandLSTM(nn.Module):
    """An `nn.LSTM` of one layer or an `nn.LSTMCell` in float64, equation by equation; `edit(name, step, value)`."""

    def __init__(self, module, edit):
        super().__init__()
        self.weights = [value.detach().double() for value in module.parameters()]
        self.is_cell, self.edit, self.step = isinstance(module, nn.LSTMCell), edit, 0

    def forward(self, inputs=None, state=None, *, input=None, hx=None):  # noqa: A002 - as nn.LSTM calls it
        x, state = inputs if input is None else input, state if hx is None else hx
        w, u, *biases = self.weights
        steps = [x] if self.is_cell else x.unbind(1)
        if state is None:
            zeros = x.new_zeros(len(x), u.shape[1])
            state = (zeros, zeros)
        h, c = (value.reshape(len(x), -1) for value in state)
        outputs = []
        for each in steps:
            i, f, g, o = (each @ w.T + h @ u.T + sum(biases)).chunk(4, dim=1)
            gates = {"input_gate": i.sigmoid(), "forget_gate": f.sigmoid()}
            gates |= {"cell_candidate": g.tanh(), "output_gate": o.sigmoid()}
            i, f, g, o = (self.edit(name, self.step, value) for name, value in gates.items())
            c = self.edit("cell_state", self.step, f * c + i * g)
            h = self.edit("hidden_state", self.step, o * c.tanh())
            outputs.append(h)
            self.step += 1
        return (h, c) if self.is_cell else (torch.stack(outputs, 1), (h[None], c[None]))


def by_hand(module, path, inputs, edit):
    """What a module of its own predicts in float64 with edits in one of its LSTMs."""
    made = copy.deepcopy(module).double()
    *folder, name = path.split(".")
    setattr(made.get_submodule(".".join(folder)), name, HandLSTM(module.get_submodule(path), edit))
    with torch.no_grad():
        returned = made(inputs.double())
    return returned[0] if isinstance(returned, tuple) else returned


def features(count):
    return FeatureInputs(kind="features", features=tuple(Feature(name=f"f{index}") for index in range(count)))


def build(module, task="regression", output=NAMES, inputs=None, steps=12):
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(-0.8, 0.8)
    vocabulary = len(inputs.characters) if isinstance(inputs, TokenInputs) else None
    head = None if task is None else HeadConfig(task=task, **output)
    return ProgramPipeline(inputs or features(3), vocabulary, head, CustomProgram(module.eval()), steps)


class _Model:
    def __init__(self, pipeline):
        self.pipeline = pipeline


def subject_of(pipeline, query, module=None, names=("x", "y")):
    """As the service makes it."""
    module = module or next(iter(pipeline.lstms))
    traced = pipeline.answer(query.evolve(trace=Selection(), module=module)).trace
    head = ReadOut(_Model(pipeline), query.evolve(module=module), names)
    given = traced.module, traced.inputs, traced.sequence_lengths, traced.initial_state
    return Subject(*given, head=None if "head" in pipeline.head_refusals(module) else head)


def gradient_by_autograd(module, path, inputs, value):
    """(time, feature): of a value of the prediction with respect to what one inner module reads, in float64."""
    made, leaves = copy.deepcopy(module).double(), []
    inner = made.get_submodule(path)

    def hold(_, args, kwargs):
        given = args[0] if args else kwargs["input"]
        leaves.append(given.detach().clone().requires_grad_())
        return (leaves[-1], *args[1:]), {name: each for name, each in kwargs.items() if name != "input"}

    inner.register_forward_pre_hook(hold, with_kwargs=True)
    value(made(inputs.double())).backward()
    is_time_first = isinstance(inner, nn.RNNBase) and not inner.batch_first
    gradients = [leaf.grad for leaf in leaves]
    if isinstance(inner, nn.RNNCellBase):
        return torch.stack(gradients, 1)[0]
    return torch.cat([each.transpose(0, 1) if is_time_first else each for each in gradients], 1)[0]


HEADS = {
    "a norm and a linear layer": (examples.Forecaster, "lstm", {}),
    "attention over a strided convolution": (
        examples.ConvAttention,
        "lstm",
        {"task": "classification", "output": {"labels": ("P", "Q", "R")}},
    ),
    "the last hidden state": (examples.Stateful, "lstm", {}),
    "chunks of ten steps": (examples.Chunked, "lstm", {"steps": 24}),
    "a loop of cells": (cells.Loop, "cell", {}),
    "two loops of cells, the backward one": (cells.BothWays, "backwards", {}),
    "modules above, and steps of its own": (cells.Mixed, "gru", {"output": {"names": ("x",)}}),
}


@pytest.fixture(params=HEADS)
def case(request):
    make, path, arguments = HEADS[request.param]
    module = make()
    return module, path, build(module, **arguments)


def value_at(step, index):
    """One value of the prediction of the only sequence: at a step, where it has steps of its module."""
    return lambda predicted: predicted.flatten()[index] if step is None else predicted[0, step, index]


def test_connectivity_is_autograd_through_the_whole_module(case, random):
    module, path, pipeline = case
    inputs = torch.randn(1, 24, 3, generator=random)
    query = Query(inputs, torch.tensor([24]))
    width = pipeline.prediction_shape(24)
    names = tuple(f"v{index}" for index in range(np.prod(width[-1:]) * (pipeline.own_steps or 1)))
    subject = subject_of(pipeline, query, path, names)
    is_per_step = len(width) > 1 and pipeline.own_steps is None
    step = subject.lengths[0] - 6 if is_per_step else subject.lengths[0] - 1
    found = analyse(subject, "connectivity", target=names[-1], time_step=step)
    value = value_at(step if is_per_step else None, -1)
    expected = gradient_by_autograd(module, path, inputs, value).norm(dim=-1)
    assert float(expected.max()) > 1e-4
    np.testing.assert_allclose(found["gradient_norm"], expected.numpy(), atol=2e-6)


def test_attribution_adds_up_to_the_prediction(case, random):
    _, path, pipeline = case
    inputs = torch.randn(1, 24, 3, generator=random)
    query = Query(inputs, torch.tensor([24]))
    shape = pipeline.prediction_shape(24)
    names = tuple(f"v{index}" for index in range(shape[-1] * (pipeline.own_steps or 1)))
    found = analyse(subject_of(pipeline, query, path, names), "attribution")
    values = pipeline.answer(query).prediction.values[0]
    expected = values[-1] if len(shape) > 1 and pipeline.own_steps is None else values.flatten()
    if pipeline.task == "classification":
        expected = pipeline.answer(query).prediction.values[0]
    np.testing.assert_allclose(found["prediction"], expected.numpy(), atol=1e-5)
    total = found["contribution"].sum(1) + found["initial"] + found["bias"]
    np.testing.assert_allclose(total, found["prediction"], atol=5e-3)
    assert found.check.value == pytest.approx(np.abs(total - found["prediction"]).max(), abs=1e-9)


def test_lesions_are_those_of_a_loop_by_hand(random):
    class Stacked(nn.Module):
        """One module reads another."""

        def __init__(self):
            super().__init__()
            self.below, self.above = nn.LSTM(3, 4, batch_first=True), nn.GRU(4, 3, batch_first=True)
            self.head = nn.Linear(3, 2)

        def forward(self, inputs):
            return self.head(self.above(self.below(inputs)[0].tanh())[0])

    module = Stacked()
    pipeline = build(module)
    rows = [torch.randn(length, 3, generator=random) for length in (9, 5, 9)]
    found = analyse(subject_of(pipeline, Query(*pad(rows)), "below"), "lesions", scope="both")

    def predicted(unit):
        made = []
        for row in rows:
            mean = copy.deepcopy(module).double().below(row[None].double())[0][0, :, unit].mean() if unit >= 0 else None

            def edit(name, _, value, mean=mean):
                if name == "hidden_state" and unit >= 0:
                    value = value.clone()
                    value[:, unit] = mean
                return value

            made.append(by_hand(module, "below", row[None], edit)[0])
        return torch.cat(made)

    before = predicted(-1)
    deviation = before.std(dim=0, correction=0)
    expected = [float(((predicted(unit) - before) / deviation).square().mean().sqrt()) for unit in range(4)]
    np.testing.assert_allclose(found["effect"][0, 0], expected, rtol=1e-4)


class Cut(nn.Module):
    """Reads its LSTM through NumPy, or half of it."""

    def __init__(self, *, half=False):
        super().__init__()
        self.lstm, self.head, self.half = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 2), half

    def forward(self, inputs):
        output, _ = self.lstm(inputs)
        if self.half:
            return self.head(output) + output[..., :2].detach()
        return self.head(torch.from_numpy(output.detach().numpy()))


class FedBack(nn.Module):
    """A loop whose cell reads its own prediction, or the class of it."""

    def __init__(self, *, is_class=False):
        super().__init__()
        self.cell, self.head, self.is_class = nn.LSTMCell(4, 4), nn.Linear(4, 2), is_class

    def forward(self, inputs):
        state, made = None, inputs.new_zeros(len(inputs), 1)
        outputs = []
        for step in inputs.unbind(1):
            state = self.cell(torch.cat((step, made), 1), state)
            outputs.append(self.head(state[0]))
            made = outputs[-1].argmax(1, keepdim=True).to(step) if self.is_class else outputs[-1][:, :1]
        return torch.stack(outputs, 1)


REFUSED = {
    "a cell state": (examples.EncoderDecoder, "encoder", "head", "a state of 'encoder' that is no part of its output"),
    "its own output": (examples.EncoderDecoder, "decoder", "head", "reads what was made of its own output"),
    "two runs": (lambda: examples.Siamese(3 + 1), "lstm", "head", "does not begin in the state"),
    "cut off": (Cut, "lstm", "gradient", "cuts gradients off"),
    "cut off in part": (lambda: Cut(half=True), "lstm", "gradient", "cuts gradients off"),
    "fed back": (FedBack, "cell", "head", "reads what was made of its own output"),
    "fed back as a class": (lambda: FedBack(is_class=True), "cell", "head", "reads what was made of its own output"),
    "in inference mode": (lambda: cells.Told("in_inference_mode"), "cell", "gradient", "cuts gradients off"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_function_of_the_output_is_refused_with_the_reason(name, random):
    make, path, need, reason = REFUSED[name]
    module = make()
    one = {"output": {"names": ("x",)}} if isinstance(module, examples.EncoderDecoder | examples.Siamese) else {}
    pipeline = build(module, inputs=features(4) if isinstance(module, examples.Siamese) else None, **one)
    refusals = pipeline.head_refusals(path)
    assert refusals.keys() == {need}
    assert reason in refusals[need]


def test_half_a_cut_leaves_lesions(random):
    pipeline = build(Cut())
    inputs = torch.randn(1, 8, 3, generator=random)
    subject = subject_of(pipeline, Query(inputs, torch.tensor([8])))
    assert (analyse(subject, "lesions")["effect"] > 0).all()


def test_a_gru_of_which_the_last_state_is_read_has_a_head(random):
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru, self.head = nn.GRU(3, 4, bidirectional=True), nn.Linear(8, 2)

        def forward(self, inputs):
            _, last = self.gru(inputs.transpose(0, 1))
            return self.head(torch.cat((last[0], last[1]), -1))

    module = Last()
    pipeline = build(module)
    inputs = torch.randn(1, 9, 3, generator=random)
    subject = subject_of(pipeline, Query(inputs, torch.tensor([9])))
    found = analyse(subject, "connectivity", target="y")
    expected = gradient_by_autograd(module, "gru", inputs, value_at(None, 1)).norm(dim=-1)
    np.testing.assert_allclose(found["gradient_norm"], expected.numpy(), atol=2e-6)


def test_packed_rows_have_heads(random):
    module = examples.Tagger()
    pipeline = build(module, "tagging", {"labels": tuple("ABCDE")}, TOKENS)
    letters = [torch.randint(0, 5, (length,), generator=random) for length in (7, 12, 4)]
    query = Query(*pad(letters))
    for name in ("below", "above"):
        subject = subject_of(pipeline, query, name, tuple("ABCDE"))
        assert subject.lengths == [7, 12, 4]
        with torch.no_grad():
            output = subject.trace(Selection(signals=())).output
            twice = subject.head(torch.cat((output, output / 2)))
        values = pipeline.answer(query).prediction.values
        torch.testing.assert_close(twice[:3], values, rtol=0, atol=1e-5, equal_nan=True)
        one = analyse(subject, "connectivity", sequence=0, target="B", time_step=3)
        made, leaves = copy.deepcopy(module).double(), []

        def hold(_, args, leaves=leaves):
            packed = args[0]
            leaves.append(packed.data.detach().requires_grad_())
            return (packed._replace(data=leaves[0]),)

        made.get_submodule(name).register_forward_pre_hook(hold)
        made(letters[0][None], torch.tensor([7]))[0, 3, 1].backward()
        np.testing.assert_allclose(one["gradient_norm"], leaves[0].grad.norm(dim=-1).numpy(), atol=2e-6)


class TestInterventions:
    """Runs with edits against the equations by hand."""

    def test_a_module_is_edited_and_what_follows_sees_it(self, random):
        module = examples.Forecaster()
        module.lstm = nn.LSTM(3, 4, batch_first=True)
        pipeline = build(module)
        rows = [torch.randn(length, 3, generator=random) for length in (8, 5)]
        edits = (
            Intervention("forget_gate", units=(1, 2), start=2, stop=6, set=0.25),
            Intervention("hidden_state", units=(0,), start=-3, scale=0.5, sequences=(0,)),
            Intervention("cell_state", units=(3,), mean=True, sequences=(1,)),
        )
        answer = pipeline.answer(Query(*pad(rows), interventions=edits, trace=Selection(), output=True))
        assert answer.trace.residual < 1e-5
        for index, row in enumerate(rows):
            cell_states = []
            by_hand(module, "lstm", row[None], lambda name, _, v, kept=cell_states: _kept(name, v, kept))
            mean = torch.cat(cell_states)[:, 3].mean()

            def edit(name, step, value, index=index, mean=mean):
                value = value.clone()
                if name == "forget_gate" and 2 <= step < 6:
                    value[:, [1, 2]] = 0.25
                if name == "hidden_state" and step >= 5 and index == 0:
                    value[:, 0] *= 0.5
                if name == "cell_state" and index == 1:
                    value[:, 3] = mean
                return value

            expected = by_hand(module, "lstm", row[None], edit)[0]
            values = answer.prediction.values[index, : len(row)]
            torch.testing.assert_close(values.double(), expected, rtol=0, atol=1e-5)
        assert (answer.trace.forget_gate[:, 0, 0, 2:5, 1:3] == 0.25).all()
        torch.testing.assert_close(answer.output[0], answer.trace.hidden_state[0, 0, 0], rtol=0, atol=1e-6)

    @pytest.mark.parametrize("make", [cells.Loop, streams.CellStream])
    def test_cells_in_a_loop_remember_what_is_frozen(self, make, random):
        module = make()
        pipeline = build(module)
        inputs = torch.randn(1, 10, 3, generator=random)
        edits = (
            Intervention("input_gate", units=(0, 2), start=3, stop=7, freeze=True),
            Intervention("cell_state", units=(1,), start=0, stop=4, freeze=True),
            Intervention("output_gate", units=(3,), start=5, shift=0.125),
        )
        answer = pipeline.answer(Query(inputs, torch.tensor([10]), interventions=edits, trace=Selection()))
        held = {}
        begin = getattr(module, "c0", torch.zeros(4)).double()

        def edit(name, step, value):
            value = value.clone()
            if name == "input_gate":
                if step == 2:
                    held["gate"] = value[:, [0, 2]].clone()
                if 3 <= step < 7:
                    value[:, [0, 2]] = held["gate"]
            if name == "cell_state" and step < 4:
                value[:, 1] = begin[1]
            if name == "output_gate" and step >= 5:
                value[:, 3] += 0.125
            return value

        expected = by_hand(module, "cell", inputs, edit)
        torch.testing.assert_close(answer.prediction.values.double(), expected, rtol=0, atol=1e-5)
        assert answer.trace.residual < 1e-5
        divided = (Intervention("hidden_state", set=0, scope="outgoing"),)
        with pytest.raises(InvalidInput, match="its next step reads what everybody reads"):
            pipeline.answer(Query(inputs, torch.tensor([10]), interventions=divided))

    def test_a_decoder_reads_what_follows_from_its_edits(self, random):
        module = examples.EncoderDecoder()
        pipeline = build(module, output={"names": ("x",)})
        inputs = torch.randn(2, 7, 3, generator=random)
        lengths = torch.tensor([7, 7])

        def at(first, name):
            def edit(signal, step, value):
                return torch.full_like(value, 0.25) if signal == name and step >= first else value

            return edit

        edit = Intervention("output_gate", start=2, set=0.25)
        answer = pipeline.answer(Query(inputs, lengths, module="decoder", interventions=(edit,), trace=Selection()))
        expected = by_hand(module, "decoder", inputs, at(2, "output_gate"))
        torch.testing.assert_close(answer.prediction.values.double(), expected, rtol=0, atol=1e-5)
        assert answer.trace.signals["output_gate"].shape[3] == 5
        edit = Intervention("cell_state", start=6, set=0.25)
        answer = pipeline.answer(Query(inputs, lengths, module="encoder", interventions=(edit,)))
        expected = by_hand(module, "encoder", inputs, at(6, "cell_state"))
        torch.testing.assert_close(answer.prediction.values.double(), expected, rtol=0, atol=1e-5)
        behind = (Intervention("cell_state", start=5, set=0.25),)
        with pytest.raises(InvalidInput, match=r"interventions\.0\.time: 5: holds no time step"):
            pipeline.answer(Query(inputs, lengths, module="decoder", interventions=behind))

    def test_several_calls_of_rows_of_different_lengths_are_refused_or_run_apart(self, random):
        module = examples.Chunked()
        pipeline = build(module, steps=24)
        rows = [torch.randn(length, 3, generator=random) for length in (24, 13)]
        edit = (Intervention("cell_state", layer=1, units=(0,), start=8, stop=12, set=0.5),)
        both = pipeline.answer(Query(*pad(rows), interventions=edit)).prediction.values
        for index, row in enumerate(rows):
            alone = pipeline.answer(Query(*pad([row]), interventions=edit)).prediction.values
            torch.testing.assert_close(both[index, : len(row)], alone[0], rtol=0, atol=1e-6)
        plain = pipeline.answer(Query(*pad(rows))).prediction.values
        changed = (plain - both).abs()[0].amax(-1) > 1e-6
        assert changed.tolist() == [False] * 8 + [True] * 16

    def test_a_part_of_a_stream_is_edited_as_in_the_whole(self, random):
        pipeline = build(streams.Stream())
        inputs = torch.randn(1, 12, 3, generator=random)
        edit = (Intervention("forget_gate", layer=0, units=(1,), start=4, stop=9, set=1.0),)
        whole = pipeline.answer(Query(inputs, torch.tensor([12]), interventions=edit, final_state=True))
        (first,) = (each.resolved(pipeline.spec, 1, 12).part([0], [12], 0, 6) for each in edit)
        (second,) = (each.resolved(pipeline.spec, 1, 12).part([0], [12], 6, 12) for each in edit)
        begun = pipeline.answer(Query(inputs[:, :6], torch.tensor([6]), interventions=(first,), final_state=True))
        ended = pipeline.answer(
            Query(inputs[:, 6:], torch.tensor([6]), begun.final_state, interventions=(second,), final_state=True)
        )
        parts = torch.cat((begun.prediction.values, ended.prediction.values), 1)
        torch.testing.assert_close(parts, whole.prediction.values, rtol=0, atol=1e-5)
        for one, other in zip(ended.final_state, whole.final_state, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def _kept(name, value, kept, wanted="cell_state"):
    if name == wanted:
        kept.append(value)
    return value


@pytest.mark.parametrize("make", [cells.Loop, streams.CellStream])
@pytest.mark.parametrize("predicts", ["next_step", "same_step"])
def test_a_horizon_goes_on_from_edited_states(make, predicts, random):
    module = make()
    pipeline = build(module, output=NAMES | {"predicts": predicts})
    inputs, future = torch.randn(2, 8, 3, generator=random), torch.randn(2, 4, 3, generator=random)
    edit = (Intervention("cell_state", units=(1,), start=3, set=0.75), Intervention("input_gate", start=6, mean=True))
    query = Query(inputs, torch.tensor([8, 5]), horizon=4, future_inputs=future, interventions=edit)
    answer = pipeline.answer(query)
    for row, length in enumerate((8, 5)):
        gates = []
        own = inputs[row : row + 1, :length]
        by_hand(module, "cell", own, lambda name, _, v, kept=gates: _kept(name, v, kept, "input_gate"))
        mean = torch.cat(gates).mean(dim=0)

        def edited(name, step, value, length=length, mean=mean):
            value = value.clone()
            if name == "cell_state" and 3 <= step < length:
                value[:, 1] = 0.75
            return mean.expand_as(value) if name == "input_gate" and 6 <= step < length else value

        values = by_hand(module, "cell", torch.cat((own, future[row : row + 1]), 1), edited)[0]
        first = length - (predicts == "next_step")
        expected = values[first : first + 4]
        torch.testing.assert_close(answer.prediction.values[row].double(), expected, rtol=0, atol=1e-5)
