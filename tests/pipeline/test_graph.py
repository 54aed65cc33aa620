"""Layers in order: what each reads, which weights are taken, and what a graph is equal to."""

from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gatescope.errors import ManifestError, WeightsError
from gatescope.padding import pad
from gatescope.pipeline.layers.activation import FUNCTIONS
from gatescope.pipeline.query import Query

LENGTHS = (7, 1, 4)


@pytest.fixture
def weights(plain):
    return dict(plain(head=(5, 2)).state_dict())


FC = [{"name": "head.0", "type": "linear"}, {"name": "head.2", "type": "linear"}]


class TestNames:
    def test_two_layers_of_one_name_are_refused(self, build, weights):
        with pytest.raises(ManifestError, match=r"there are two layers 'head\.0'"):
            build(["lstm", FC[0], FC[0]], weights)

    @pytest.mark.parametrize("name", ["inputs", "static"])
    def test_what_the_request_gives_is_no_layers_name(self, build, weights, name):
        with pytest.raises(ManifestError, match=f"a layer is called '{name}', which is what the request gives"):
            build(["lstm", {"name": name, "type": "linear", "weights": "head.0"}], weights)

    @pytest.mark.parametrize("read", ["head.2", "elsewhere", "head.0"])
    def test_a_layer_reads_earlier_ones_only(self, build, weights, read):
        with pytest.raises(ManifestError, match=f"layer 'head.0' reads '{read}', which is no earlier layer"):
            build(["lstm", FC[0] | {"inputs": [read]}, FC[1]], weights)

    def test_static_inputs_are_read_where_there_are_some(self, build, weights):
        with pytest.raises(ManifestError, match=r"layer 'head\.0' reads 'static', but the manifest has no \[static\]"):
            build(["lstm", FC[0] | {"inputs": ["static"]}], weights)

    def test_a_layer_without_inputs_reads_the_one_before_it(self, build, weights):
        graph = build(["lstm", *FC], weights).graph
        assert graph.reads == {"lstm": ("inputs",), "head.0": ("lstm",), "head.2": ("head.0",)}
        assert graph.last == "head.2"


class TestWeights:
    def test_they_stand_under_the_layers_name_or_what_it_states(self, build, weights, random):
        moved = {name.replace("head.0", "model.fc").replace("lstm", "net.rnn"): v for name, v in weights.items()}
        stated = [{"name": "lstm", "type": "lstm", "weights": "net.rnn"}, FC[0] | {"weights": "model.fc."}, FC[1]]
        query = Query(torch.randn(2, 4, 3, generator=random), torch.tensor([4, 4]))
        heads = [{"task": "regression", "names": ["x", "y"]}]
        expected = build(["lstm", *FC], weights, heads).answer(query).prediction.values
        assert torch.equal(build(stated, moved, heads).answer(query).prediction.values, expected)

    def test_they_may_stand_at_the_top(self, build, seeded_lstm):
        lstm = seeded_lstm(3, 4, 2)
        pipeline = build([{"name": "lstm", "type": "lstm", "weights": ""}], lstm)
        assert torch.equal(pipeline.lstm.weight_ih_l1, lstm.weight_ih_l1)

    @pytest.mark.parametrize(
        "name", ["norm.weight", "lstm.norm.weight", "lstm2.weight_ih_l0", "head.1.bias", "head.weight", "fc"]
    )
    def test_those_that_no_layer_uses_are_refused_by_name(self, build, weights, name):
        with pytest.raises(WeightsError, match=f"the weights hold '{name}', which no layer of the manifest uses"):
            build(["lstm", *FC], weights | {name: torch.zeros(2)})

    @pytest.mark.parametrize("ignored", ["aux", "aux.fc", "aux.fc.weight"])
    def test_those_to_ignore_are_named_whole_or_by_what_stands_before(self, build, weights, ignored):
        build(["lstm", *FC], weights | {"aux.fc.weight": torch.zeros(2)}, ignored=[ignored])

    @pytest.mark.parametrize("ignored", ["au", "aux.f", "aux.fc.weight.more", ""])
    def test_a_part_of_a_name_ignores_nothing(self, build, weights, ignored):
        with pytest.raises(WeightsError, match=r"'aux\.fc\.weight'"):
            build(["lstm", *FC], weights | {"aux.fc.weight": torch.zeros(2)}, ignored=[ignored])

    def test_a_surplus_direction_or_layer_of_the_lstm_is_not_passed_over(self, build, weights):
        with pytest.raises(WeightsError, match="layer 'lstm'"):
            build(["lstm", *FC], weights | {"lstm.weight_ih_l0_reverse": weights["lstm.weight_ih_l0"]})

    def test_a_counter_of_batches_is_nobodys(self, build, weights):
        build(["lstm", *FC], weights | {"bn.num_batches_tracked": torch.tensor(3)})

    def test_a_model_needs_a_recurrent_layer(self, build):
        with pytest.raises(ManifestError, match="there is no recurrent layer: it needs one of type lstm"):
            build([{"name": "head.0", "type": "linear"}], {"head.0.weight": torch.zeros(2, 3)})


# --- any graph is the module that it describes ------------------------------------------------------------------------

WIDTHS = st.integers(1, 6)


@dataclass
class Drawn:
    """A torch module and the layers that describe it, step by step alike."""

    module: nn.ModuleDict = field(default_factory=nn.ModuleDict)
    layers: list[dict] = field(default_factory=list)
    functions: list = field(default_factory=list)
    """Of the values so far, (1, time, width) each, the inputs first."""
    widths: list[int] = field(default_factory=lambda: [3])
    directions: list[int] = field(default_factory=lambda: [1])

    def add(self, stated, function, width, directions=1, module=None):
        name = f"layer{len(self.layers)}"
        if module is not None:
            self.module[name] = module
        self.layers.append({"name": name, **stated})
        self.functions.append(function)
        self.widths.append(width)
        self.directions.append(directions)

    def value(self, inputs: Tensor) -> Tensor:
        values = [inputs]
        for function in self.functions:
            values.append(function(values))
        return values[-1]


def over_channels(module):
    return lambda row: module(row.transpose(1, 2)).transpose(1, 2)


def _linear(drawn, draw):
    module = nn.Linear(drawn.widths[-1], width := draw(WIDTHS), bias=draw(st.booleans()))
    drawn.add({"type": "linear"}, lambda values: module(values[-1]), width, module=module)


def _conv(drawn, draw):
    module = nn.Conv1d(
        drawn.widths[-1],
        width := draw(WIDTHS),
        draw(st.sampled_from([1, 3, 5])),
        dilation=draw(st.integers(1, 2)),
        padding="same",
    )
    stated = {"type": "conv1d", "dilation": module.dilation[0]}
    drawn.add(stated, lambda values: over_channels(module)(values[-1]), width, module=module)


def _norm(drawn, draw):
    width, directions = drawn.widths[-1], drawn.directions[-1]
    kind = draw(st.sampled_from(["batch_norm", "layer_norm", "rms_norm"]))
    module = {"batch_norm": nn.BatchNorm1d, "layer_norm": nn.LayerNorm, "rms_norm": nn.RMSNorm}[kind](width, eps=1e-3)
    function = over_channels(module) if kind == "batch_norm" else module
    drawn.add({"type": kind, "eps": 1e-3}, lambda values: function(values[-1]), width, directions, module)


def _activation(drawn, draw):
    name = draw(st.sampled_from(sorted(FUNCTIONS.keys() - {"exp", "log_softmax"})))  # those may grow without bound
    drawn.add(
        {"type": "activation", "function": name},
        lambda values: FUNCTIONS[name](values[-1]),
        drawn.widths[-1],
        drawn.directions[-1],
    )


def _lstm(drawn, draw):
    module = nn.LSTM(
        drawn.widths[-1],
        hidden := draw(st.integers(2, 5)),
        num_layers=draw(st.integers(1, 2)),
        bias=draw(st.booleans()),
        bidirectional=draw(st.booleans()),
        proj_size=draw(st.sampled_from([0, 1])) if hidden > 1 else 0,
        batch_first=True,
    )
    directions = 2 if module.bidirectional else 1
    width = directions * (module.proj_size or hidden)
    drawn.add({"type": "lstm"}, lambda values: module(values[-1])[0], width, directions, module)


def _gru_or_rnn(drawn, draw):
    kind = draw(st.sampled_from([{"type": "gru"}, {"type": "rnn"}, {"type": "rnn", "nonlinearity": "relu"}]))
    module = {"gru": nn.GRU, "rnn": nn.RNN}[kind["type"]](
        drawn.widths[-1],
        hidden := draw(st.integers(2, 5)),
        num_layers=draw(st.integers(1, 2)),
        bias=draw(st.booleans()),
        bidirectional=draw(st.booleans()),
        batch_first=True,
        **{name: value for name, value in kind.items() if name != "type"},
    )
    directions = 2 if module.bidirectional else 1
    drawn.add(kind, lambda values: module(values[-1])[0], directions * hidden, directions, module)


def _directions(drawn, draw):
    if drawn.directions[-1] < 2:
        return
    half = drawn.widths[-1] // 2
    how = draw(st.sampled_from(["sum", "mean", "max", "forward", "reverse", "swap"]))
    merges = {
        "sum": lambda forward, reverse: forward + reverse,
        "mean": lambda forward, reverse: (forward + reverse) / 2,
        "max": torch.maximum,
        "forward": lambda forward, _: forward,
        "reverse": lambda _, reverse: reverse,
        "swap": lambda forward, reverse: torch.cat((reverse, forward), dim=-1),
    }
    drawn.add(
        {"type": "directions", "how": how},
        lambda values: merges[how](values[-1][..., :half], values[-1][..., half:]),
        2 * half if how == "swap" else half,
        2 if how == "swap" else 1,
    )


def at_every_step(values, chosen):
    """These values, vectors repeated for each step."""
    steps = values[0].shape[1]
    each = (values[index] for index in chosen)
    return [value if value.dim() == 3 else value[:, None].expand(-1, steps, -1) for value in each]


def _combined(drawn, draw):
    kind = draw(st.sampled_from(["concat", "add"]))
    fits = [i for i, width in enumerate(drawn.widths) if kind == "concat" or width == drawn.widths[-1]]
    chosen = [len(drawn.layers), *draw(st.lists(st.sampled_from(fits), max_size=2))]
    inputs = ["inputs" if index == 0 else f"layer{index - 1}" for index in chosen]
    if kind == "concat":
        width = sum(drawn.widths[index] for index in chosen)
        drawn.add({"type": kind, "inputs": inputs}, lambda v: torch.cat(at_every_step(v, chosen), dim=-1), width)
        return
    every = {drawn.directions[index] for index in chosen}
    directions = every.pop() if len(every) == 1 else 1
    drawn.add({"type": kind, "inputs": inputs}, lambda v: sum(at_every_step(v, chosen)), drawn.widths[-1], directions)


def _pooled_beside(drawn, draw):
    """A summary of the whole sequence, at every step of it."""
    how = draw(st.sampled_from(["last", "first", "mean", "max", "sum", "final"]))
    directions, width, source = drawn.directions[-1], drawn.widths[-1], len(drawn.layers)
    half = width // directions

    def final(row):
        return row[:, -1] if directions == 1 else torch.cat((row[:, -1, :half], row[:, 0, half:]), dim=-1)

    pools = {
        "last": lambda row: row[:, -1],
        "first": lambda row: row[:, 0],
        "mean": lambda row: row.mean(dim=1),
        "max": lambda row: row.amax(dim=1),
        "sum": lambda row: row.sum(dim=1) / 10,
        "final": final,
    }
    drawn.add({"type": "pool", "how": how}, lambda values: pools[how](values[-1]), width)
    if how == "sum":  # so that it does not grow from layer to layer
        drawn.functions[-1] = lambda values: values[-1].sum(dim=1)
    inputs = ["inputs" if source == 0 else f"layer{source - 1}", drawn.layers[-1]["name"]]
    drawn.add(
        {"type": "concat", "inputs": inputs},
        lambda v: torch.cat((v[source], v[-1][:, None].expand(-1, v[source].shape[1], -1)), dim=-1),
        2 * width,
    )


MAKERS = [_linear, _conv, _norm, _activation, _lstm, _gru_or_rnn, _directions, _combined, _pooled_beside]


@st.composite
def graphs(draw):
    """A list of layers beside the torch module that it describes; its weights are those of a seed."""
    drawn = Drawn()
    for _ in range(draw(st.integers(0, 5))):
        draw(st.sampled_from(MAKERS))(drawn, draw)
    draw(st.sampled_from([_lstm, _gru_or_rnn]))(drawn, draw)
    for _ in range(draw(st.integers(0, 3))):
        draw(st.sampled_from(MAKERS))(drawn, draw)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    for name, value in (*drawn.module.named_parameters(), *drawn.module.named_buffers()):
        if value.is_floating_point():
            low = 0.5 if "running_var" in name else -0.7
            value.data.uniform_(low, low + 1.4, generator=generator)
    drawn.module.eval().requires_grad_(requires_grad=False)
    rows = [torch.randn(length, 3, generator=generator) for length in LENGTHS]
    return drawn, rows


@settings(deadline=None, max_examples=150)
@given(drawn_and_rows=graphs())
def test_any_list_of_layers_predicts_what_the_module_does_that_it_describes(build_once, drawn_and_rows):
    drawn, rows = drawn_and_rows
    head = {"task": "regression", "names": [f"y{index}" for index in range(drawn.widths[-1])]}
    pipeline = build_once(drawn.layers, drawn.module, [head])
    values = pipeline.answer(Query(*pad(rows))).prediction.values
    for row, sequence in enumerate(rows):
        expected = drawn.value(sequence[None])[0]
        largest = max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(values[row, : len(sequence)], expected, rtol=0, atol=1e-5 * largest)
        assert values[row, len(sequence) :].isnan().all()
