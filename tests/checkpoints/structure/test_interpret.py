"""What weights compute: found by a sample, guessed and said, or not served; held against the module's own forward."""

from itertools import pairwise, product

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gatescope.checkpoints.structure.interpret import AmbiguousSample
from gatescope.errors import InvalidInput
from tests.bulk import some

WIDTH = 4


class Chain(nn.Module):
    """Modules and functions in the order in which they run; an LSTM gives its output."""

    def __init__(self, **steps):
        super().__init__()
        self.steps = steps
        generator = torch.Generator().manual_seed(3)
        for name, step in steps.items():
            if isinstance(step, nn.Module):
                self.add_module(name, step)
        for value in self.parameters():
            value.data.uniform_(-1, 1, generator=generator)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.running_mean.uniform_(-1, 1, generator=generator)
                module.running_var.uniform_(0.5, 2, generator=generator)
        self.eval()

    def forward(self, values):
        for step in self.steps.values():
            if isinstance(step, nn.LSTM):
                values = step(values)[0]
            elif isinstance(step, nn.BatchNorm1d | nn.Conv1d | nn.GroupNorm) and values.dim() == 3:
                values = step(values.transpose(1, 2)).transpose(1, 2)
            else:
                values = step(values)
        return values


def lstm(given=WIDTH, hidden=5, **more):
    return nn.LSTM(given, hidden, batch_first=True, **more)


def last(values):
    return values[:, -1]


def computed(module, inputs) -> Tensor:
    with torch.no_grad():
        return module(inputs)


@pytest.fixture
def inputs(random):
    """Varied enough to tell functions apart."""
    return 2 * torch.randn(4, 12, WIDTH, generator=random)


@pytest.fixture
def verified(bring, inputs, random):
    """`verified(module, …)`: imported with a sample, its predictions are the module's on other inputs, too."""

    def verify(module, given=None, **options):
        given = inputs if given is None else given
        brought = bring(module, sample={"inputs": given, "expected": computed(module, given)}, **options)
        assert brought.model.verified is not None, brought.notes
        assert brought.model.verified.max_error <= 1e-5
        if given.is_floating_point():
            others = [3 * torch.randn(3, time, given.shape[2], generator=random) for time in (1, 9, 20)]
        else:
            others = [torch.randint(0, int(given.max()) + 1, (3, time), generator=random) for time in (1, 9, 20)]
        for other in others:
            expected = computed(module, other)
            values = brought.ask([*other]).prediction.values
            assert values.shape == expected.shape
            assert float((values - expected).abs().max() / expected.abs().max()) < 1e-5
        return brought

    return verify


def guessed(brought, module, inputs):
    """Without a sample it predicts as the module does, and says that nobody has compared that."""
    assert brought.model.verified is None
    assert "--sample" in brought.notes
    values = brought.ask([*inputs]).prediction.values
    torch.testing.assert_close(values, computed(module, inputs), rtol=1e-5, atol=1e-5)


def not_predicted(brought, *names):
    """The recurrent layers alone are served; it is said why, and what to do."""
    has_sample = "sample " in brought.notes.replace("--sample", "")
    assert (brought.model.verified, brought.manifest.heads) == (None, ())
    assert all(f"'{name}'" in brought.notes for name in names)
    assert {each.name for each in brought.manifest.not_computed} >= set(names)
    assert all(remedy in brought.notes for remedy in ("--layers", "--ignore"))
    assert has_sample or "--sample" in brought.notes


NORMS = {
    "batch": nn.BatchNorm1d,
    "batch without weights": lambda width: nn.BatchNorm1d(width, affine=False),
    "layer": nn.LayerNorm,
    "layer without bias": lambda width: nn.LayerNorm(width, bias=False),
    "rms": nn.RMSNorm,
}
TOLD = ("batch", "batch without weights", "layer")
PLACES = {
    "before the LSTM": lambda norm: Chain(norm=norm(WIDTH), lstm=lstm(), fc=nn.Linear(5, 2)),
    "between LSTMs": lambda norm: Chain(lstm1=lstm(hidden=6), ln=norm(6), lstm2=lstm(6), fc=nn.Linear(5, 2)),
    "behind the LSTM": lambda norm: Chain(lstm=lstm(), bn1=norm(5), fc=nn.Linear(5, 2)),
    "behind the last step": lambda norm: Chain(lstm=lstm(), last=last, layer_norm=norm(5), fc=nn.Linear(5, 2)),
    "between linear layers": lambda norm: Chain(
        lstm=lstm(), last=last, fc1=nn.Linear(5, 6), input_norm=norm(6), relu=torch.relu, fc2=nn.Linear(6, 2)
    ),
    "behind the head": lambda norm: Chain(lstm=lstm(), last=last, fc=nn.Linear(5, 3), norm=norm(3)),
}


class TestNorms:
    @pytest.mark.parametrize("place", PLACES)
    @pytest.mark.parametrize("kind", NORMS)
    def test_every_norm_is_computed_at_every_place_where_a_sample_shows_it(self, verified, kind, place):
        verified(PLACES[place](NORMS[kind]))

    @pytest.mark.parametrize("kind", TOLD)
    @pytest.mark.parametrize("place", ["before the LSTM", "behind the LSTM"])
    def test_one_that_its_weights_tell_is_computed_without_a_sample(self, bring, inputs, kind, place):
        module = PLACES[place](NORMS[kind])
        guessed(bring(module, steps="all"), module, inputs)

    @pytest.mark.parametrize("kind", sorted(NORMS.keys() - set(TOLD)))
    @pytest.mark.parametrize(("place", "name"), [("before the LSTM", "norm"), ("behind the LSTM", "bn1")])
    def test_one_that_its_weights_do_not_tell_is_not_guessed(self, bring, kind, place, name):
        not_predicted(bring(PLACES[place](NORMS[kind])), name)

    @pytest.mark.parametrize("place", ["before the LSTM", "behind the LSTM"])
    def test_a_group_norm_is_never_computed(self, bring, inputs, place):
        module = PLACES[place](lambda width: nn.GroupNorm(1, width))
        if place == "before the LSTM":
            module = Chain(group_norm=nn.GroupNorm(2, WIDTH), lstm=lstm(), fc=nn.Linear(5, 2))
        sample = {"inputs": inputs, "expected": computed(module, inputs)}
        brought = bring(module, sample=sample)
        assert (brought.model.verified, brought.manifest.heads) == (None, ())
        assert "No prediction" in brought.notes or "no prediction" in brought.notes


class TestInFront:
    @pytest.mark.parametrize(
        "function", [None, torch.relu, torch.tanh, functional.gelu], ids=["none", "relu", "tanh", "gelu"]
    )
    def test_a_projection_is_computed(self, verified, function):
        steps = {"act": function} if function else {}
        verified(Chain(proj=nn.Linear(WIDTH, 6), **steps, lstm=lstm(6), fc=nn.Linear(5, 2)))

    def test_a_projection_without_a_function_is_guessed(self, bring, inputs):
        module = Chain(proj=nn.Linear(WIDTH, 6), lstm=lstm(6), fc=nn.Linear(5, 2))
        guessed(bring(module), module, inputs)

    @pytest.mark.parametrize(
        "arguments", [{"padding": 1}, {"padding": "same", "groups": 2}, {"padding": 1, "bias": False}]
    )
    def test_a_convolution_that_keeps_the_steps_is_computed(self, verified, arguments):
        verified(Chain(conv=nn.Conv1d(WIDTH, 6, 3, **arguments), act=torch.relu, lstm=lstm(6), fc=nn.Linear(5, 2)))

    @pytest.mark.parametrize("kernel", [2, 3])
    def test_a_causal_convolution_is_computed(self, verified, kernel):
        class Causal(nn.Conv1d):
            def forward(self, values):
                return super().forward(functional.pad(values, (kernel - 1, 0)))

        verified(Chain(conv=Causal(WIDTH, 6, kernel), lstm=lstm(6), fc=nn.Linear(5, 2)))

    @pytest.mark.parametrize("arguments", [{}, {"stride": 2}], ids=str)
    def test_a_convolution_that_changes_the_steps_predicts_nothing(self, bring, inputs, arguments):
        module = Chain(conv=nn.Conv1d(WIDTH, 6, 3, **arguments), lstm=lstm(6), last=last, fc=nn.Linear(5, 2))
        brought = bring(module, sample={"inputs": inputs, "expected": computed(module, inputs)})
        not_predicted(brought, "conv", "fc")
        assert "No prediction: of " in brought.notes
        brought.traces({"lstm": module.lstm}, torch.ones(7, 6))

    def test_a_convolution_is_not_guessed(self, bring):
        module = Chain(conv=nn.Conv1d(WIDTH, 6, 3, padding=1), lstm=lstm(6), fc=nn.Linear(5, 2))
        brought = bring(module)
        not_predicted(brought, "conv")
        assert brought.manifest.input.names[:2] == ["lstm_input_0", "lstm_input_1"]

    def test_names_are_refused_where_what_reads_the_raw_inputs_is_not_computed(self, bring):
        module = Chain(conv=nn.Conv1d(WIDTH, 6, 3, padding=1), lstm=lstm(6), fc=nn.Linear(5, 2))
        with pytest.raises(InvalidInput, match=r"features: is about raw inputs, but .* is not computed"):
            bring(module, features=("a", "b", "c", "d"))

    def test_a_convolution_may_be_stated(self, bring, inputs):
        module = Chain(conv=nn.Conv1d(WIDTH, 6, 3, padding=1), lstm=lstm(6), fc=nn.Linear(5, 2))
        brought = bring(module, layers=("conv=same", "lstm", "fc"))
        torch.testing.assert_close(
            brought.ask([*inputs]).prediction.values, computed(module, inputs), rtol=0, atol=1e-5
        )


class TestHeads:
    def test_a_convolution_of_one_step_is_a_linear_head(self, bring, verified, inputs):
        module = Chain(lstm=lstm(), head=nn.Conv1d(5, 2, 1))
        guessed(bring(module), module, inputs)
        verified(module, name="other")

    @pytest.mark.parametrize(
        ("pool", "how"),
        [
            (last, "last"),
            (lambda values: values[:, 0], "first"),
            (lambda values: values.mean(1), "mean"),
            (lambda values: values.amax(1), "max"),
            (lambda values: values.sum(1), "sum"),
        ],
        ids=["last", "first", "mean", "max", "sum"],
    )
    def test_every_pool_is_found_before_and_behind_the_layers(self, verified, pool, how):
        head = {"fc1": nn.Linear(5, 6), "relu": torch.relu, "fc2": nn.Linear(6, 5)}
        assert f"lstm,{how},fc1" in verified(Chain(lstm=lstm(), pool=pool, **head)).layers
        brought = verified(Chain(lstm=lstm(), **head, pool=pool), name="behind")
        assert brought.layers.endswith(f"fc2,{how}" if how in {"mean", "max", "sum"} else "fc2")

    @pytest.mark.parametrize("function", ["tanh", "gelu", "leaky_relu", "silu", "elu", "sigmoid"])
    def test_functions_are_found_before_between_and_behind(self, verified, function):
        act = getattr(functional, function)
        module = Chain(
            lstm=lstm(), last=last, before=act, fc1=nn.Linear(5, 6), between=act, fc2=nn.Linear(6, 3), behind=torch.tanh
        )
        assert verified(module).layers.count(function) >= 2

    @pytest.mark.parametrize("function", ["softplus", "exp", "sigmoid", "softmax", "log_softmax", "l2_norm"])
    def test_functions_at_the_end_are_found(self, verified, function):
        act = {
            "exp": torch.exp,
            "softmax": lambda values: values.softmax(-1),
            "log_softmax": lambda values: values.log_softmax(-1),
            "l2_norm": functional.normalize,
        }.get(function) or getattr(functional, function)
        brought = verified(Chain(lstm=lstm(), last=last, fc=nn.Linear(5, 3), act=act))
        assert brought.layers.endswith(function)

    def test_scores_behind_a_softmax_are_not_normalised_again(self, verified, inputs):
        module = Chain(lstm=lstm(), last=last, fc=nn.Linear(5, 3), act=lambda values: values.softmax(-1))
        brought = verified(module)
        assert brought.manifest.task == "classification"
        values = brought.ask([*inputs]).prediction.values
        torch.testing.assert_close(brought.model.pipeline.head.probabilities(values), values)

    @pytest.mark.parametrize("merge", ["sum", "mean", "forward", "reverse"])
    def test_what_is_made_of_two_directions_is_found(self, verified, merge):
        made = {
            "sum": lambda values: values[..., :5] + values[..., 5:],
            "mean": lambda values: (values[..., :5] + values[..., 5:]) / 2,
            "forward": lambda values: values[..., :5],
            "reverse": lambda values: values[..., 5:],
        }[merge]
        verified(Chain(lstm=lstm(bidirectional=True), merge=made, fc=nn.Linear(5, 4)))

    @pytest.mark.parametrize("order", [(-2, -1), (-1, -2)])
    def test_final_states_of_two_directions_are_found_in_either_order(self, verified, order):
        class Final(nn.Module):
            def __init__(self):
                super().__init__()
                self.lstm, self.fc = lstm(bidirectional=True), nn.Linear(10, 4)

            def forward(self, values):
                h_n = self.lstm(values)[1][0]
                return self.fc(torch.cat([h_n[order[0]], h_n[order[1]]], -1))

        verified(Final())

    def test_two_heads_predict_nothing_until_one_is_ignored(self, bring, inputs):
        module = Chain(lstm=lstm(), mean=nn.Linear(5, 1), scale=nn.Linear(5, 1))
        not_predicted(bring(module), "mean", "scale")
        only = Chain(lstm=module.lstm, mean=module.mean)
        brought = bring(module, name="other", ignore=("scale",))
        guessed(brought, only, inputs)
        assert brought.manifest.ignored == ("scale",)

    def test_attention_predicts_nothing_with_a_sample_or_without(self, bring, inputs):
        class Attention(nn.Module):
            def __init__(self):
                super().__init__()
                self.lstm, self.attn, self.fc = lstm(), nn.Linear(5, 1), nn.Linear(5, 2)

            def forward(self, values):
                output = self.lstm(values)[0]
                return self.fc((self.attn(output).softmax(1) * output).sum(1))

        module = Attention()
        not_predicted(bring(module), "attn", "fc")
        brought = bring(module, name="other", sample={"inputs": inputs, "expected": computed(module, inputs)})
        not_predicted(brought, "attn", "fc")
        assert "The sample is not used" in brought.notes
        brought.traces({"lstm": module.lstm}, inputs[0])

    def test_multi_head_attention_predicts_nothing(self, bring):
        module = Chain(lstm=lstm(hidden=6), attn=nn.MultiheadAttention(6, 2), fc=nn.Linear(6, 2))
        not_predicted(bring(module), "attn")


class TestSeveral:
    def test_towers_are_found(self, verified):
        class Towers(nn.Module):
            def __init__(self, *hidden):
                super().__init__()
                self.lstm1, self.lstm2 = lstm(hidden=hidden[0]), lstm(hidden=hidden[1])
                self.fc = nn.Linear(sum(hidden), 2)

            def forward(self, values):
                return self.fc(torch.cat([self.lstm1(values)[0], self.lstm2(values)[0]], -1))

        for hidden in ((5, 3), (4, 4)):
            assert "parallel" in verified(Towers(*hidden), name=f"t{hidden[0]}").layers

    @pytest.mark.parametrize("norms", [False, True])
    def test_residual_stacks_are_found_with_norms_and_without(self, verified, norms):
        class Residual(nn.Module):
            def __init__(self):
                super().__init__()
                for index in range(3):
                    self.add_module(f"lstm{index}", lstm(hidden=WIDTH))
                    if norms and index < 2:
                        self.add_module(f"norm{index}", nn.LayerNorm(WIDTH))
                self.fc = nn.Linear(WIDTH, 2)

            def forward(self, values):
                for index in range(3):
                    values = values + self.get_submodule(f"lstm{index}")(values)[0]
                    if norms and index < 2:
                        values = self.get_submodule(f"norm{index}")(values)
                return self.fc(values)

        brought = verified(Residual())
        assert [layer.type for layer in brought.manifest.layers].count("add") == 3

    def test_widths_that_leave_the_join_open_are_refused_where_no_reading_fits(self, bring, inputs):
        module = Chain(lstm1=lstm(hidden=WIDTH), lstm2=lstm(hidden=WIDTH), fc=nn.Linear(WIDTH, 2), act=torch.sin)
        with pytest.raises(InvalidInput, match=r"join: No prediction: .*off by .* do not tell .*give another --sample"):
            bring(module, sample={"inputs": inputs, "expected": computed(module, inputs)})

    def test_towers_one_of_which_reads_backwards_are_not_served_as_towers(self, bring, inputs):
        class BothWays(nn.Module):
            def __init__(self):
                super().__init__()
                self.lstm1, self.lstm2, self.fc = lstm(), lstm(), nn.Linear(10, 2)

            def forward(self, values):
                reverse = self.lstm2(values.flip(1))[0].flip(1)
                return self.fc(torch.cat([self.lstm1(values)[0], reverse], -1))

        module = BothWays()
        with pytest.raises(InvalidInput, match=r"join: No prediction: .*name one with --prefix"):
            bring(module, sample={"inputs": inputs, "expected": computed(module, inputs)})

    def test_a_norm_between_them_that_its_weights_do_not_tell_is_refused(self, bring):
        module = Chain(lstm1=lstm(hidden=6), ln=nn.RMSNorm(6), lstm2=lstm(6), fc=nn.Linear(5, 2))
        with pytest.raises(
            InvalidInput, match=r"layers: the weights of 'ln' do not tell .*--layers lstm1,ln.*--sample"
        ):
            bring(module)

    def test_a_stack_with_a_function_between_is_found(self, verified):
        verified(Chain(lstm1=lstm(hidden=6), act=torch.relu, lstm2=lstm(6), fc=nn.Linear(5, 2)))

    def test_cells_are_found(self, verified):
        class Cells(nn.Module):
            def __init__(self, *sizes):
                super().__init__()
                self.cells = nn.ModuleList([nn.LSTMCell(below, above) for below, above in pairwise(sizes)])
                self.fc = nn.Linear(sizes[-1], 2)

            def forward(self, values):
                states = [None] * len(self.cells)
                for step in values.unbind(1):
                    below = step
                    for index, cell in enumerate(self.cells):
                        states[index] = cell(below, states[index])
                        below = states[index][0]
                return self.fc(below)

        verified(Cells(WIDTH, 6, 5))

    def test_the_one_embedding_that_fits_is_taken(self, verified, random):
        module = Chain(word_emb=nn.Embedding(9, WIDTH), lstm=lstm(), last=last, fc=nn.Linear(5, 2))
        verified(module, torch.randint(0, 9, (6, 15), generator=random))

    def test_of_two_embeddings_that_fit_none_is_guessed(self, bring):
        module = nn.ModuleDict(
            {"emb_a": nn.Embedding(9, 4), "emb_b": nn.Embedding(8, 4), "lstm": lstm(), "fc": nn.Linear(5, 2)}
        )
        brought = bring(module)
        assert (brought.model.verified, brought.manifest.heads) == (None, ())
        assert "no prediction" in brought.notes
        chosen = bring(module, name="other", embedding="emb_b", ignore=("emb_a",))
        assert chosen.manifest.input.size == 8


@pytest.mark.parametrize("names", [("h0", "c0"), ("lstm_init_h", "lstm_init_c"), ("initial_hidden", "initial_cell")])
def test_learned_initial_states_are_computed(bring, verified, inputs, names):
    class Learned(nn.Module):
        def __init__(self):
            super().__init__()
            for name in names:
                setattr(self, name, nn.Parameter(torch.linspace(-1, 1, 5)[None, None]))
            self.lstm, self.fc = lstm(), nn.Linear(5, 2)

        def forward(self, values):
            state = tuple(getattr(self, name).expand(-1, len(values), -1).contiguous() for name in names)
            return self.fc(self.lstm(values, state)[0])

    module = Learned()
    verified(module)
    guessed(bring(module, name="other"), module, inputs)


class TestAmbiguity:
    @pytest.fixture
    def positive(self, inputs):
        """A module whose predictions are above 0 on the inputs, and not on all others."""
        module = Chain(lstm=lstm(), last=last, fc=nn.Linear(5, 1))
        module.fc.bias.data -= computed(module, inputs).min() - 0.05
        return module

    def test_positive_predictions_leave_a_relu_open(self, bring, inputs, positive):
        with pytest.raises(
            AmbiguousSample, match=r"lstm,last,fc; lstm,last,fc,relu.*state one with --layers"
        ) as refused:
            bring(positive, sample={"inputs": inputs, "expected": computed(positive, inputs)})
        values = computed(positive, torch.from_numpy(refused.value.inputs).float())
        assert not torch.allclose(values, values.relu())

    def test_the_inputs_that_tell_apart_make_the_sample_that_is_enough(self, bring, inputs, positive):
        with pytest.raises(AmbiguousSample) as refused:
            bring(positive, sample={"inputs": inputs, "expected": computed(positive, inputs)})
        telling = torch.from_numpy(refused.value.inputs).float()
        brought = bring(positive, sample={"inputs": telling, "expected": computed(positive, telling)})
        assert brought.model.verified is not None
        assert brought.layers == "lstm,last,fc"

    def test_what_is_open_may_be_stated(self, bring, inputs, positive):
        sample = {"inputs": inputs, "expected": computed(positive, inputs)}
        brought = bring(positive, sample=sample, layers=("lstm", "last", "fc", "relu"))
        assert brought.model.verified is not None
        assert bring(positive, name="none", sample=sample, output_activation="none").layers == "lstm,last,fc"

    def test_one_step_does_not_tell_how_steps_are_pooled(self, bring, random):
        module = Chain(lstm=lstm(), pool=lambda values: values.mean(1), fc=nn.Linear(5, 2))
        one = torch.randn(6, 1, WIDTH, generator=random)
        with pytest.raises(AmbiguousSample, match="readings give what it expects") as refused:
            bring(module, sample={"inputs": one, "expected": computed(module, one)})
        assert refused.value.inputs.shape[1] > 1

    def test_predictions_that_are_all_zero_do_not_tell(self, bring, inputs):
        module = Chain(lstm=lstm(), last=last, fc=nn.Linear(5, 1), act=torch.relu)
        module.fc.bias.data -= computed(Chain(lstm=module.lstm, last=last, fc=module.fc), inputs).max() + 0.05
        assert not computed(module, inputs).any()
        with pytest.raises(AmbiguousSample):
            bring(module, sample={"inputs": inputs, "expected": computed(module, inputs)})


class TestNothingFits:
    def test_the_nearest_reading_is_told_and_the_lstm_alone_served(self, bring, inputs):
        module = Chain(lstm=lstm(), last=last, fc=nn.Linear(5, 2), twice=lambda values: 2 * values + 0.1)
        brought = bring(module, sample={"inputs": inputs, "expected": computed(module, inputs)})
        not_predicted(brought, "fc")
        assert "No prediction: of " in brought.notes
        assert "is off by " in brought.notes
        assert "(allowed: 1e-05)" in brought.notes
        brought.traces({"lstm": module.lstm}, inputs[0])

    def test_expected_values_of_no_shape_that_fits_are_told(self, bring, inputs):
        module = Chain(lstm=lstm(), last=last, fc=nn.Linear(5, 2))
        brought = bring(module, sample={"inputs": inputs, "expected": torch.ones(4, 7)})
        not_predicted(brought, "fc")
        assert "none gives its shape" in brought.notes


class TestManyLayers:
    @pytest.mark.timeout(40)
    @pytest.mark.random
    @pytest.mark.parametrize(
        ("with_sample", "file"), some(product((True, False), ("weights.safetensors", "weights.pt")), 3)
    )
    def test_a_file_of_forty_layers_is_read_within_seconds(self, bring, inputs, file, with_sample):
        linear = {f"fc{index:02}": nn.Linear(5, 5) for index in range(38)}
        steps = {}
        for name, layer in linear.items():
            steps |= {name: layer, f"act_{name}": torch.relu}
        module = Chain(proj=nn.Linear(WIDTH, 6), lstm=lstm(6), last=last, **steps)
        sample = {"sample": {"inputs": inputs, "expected": computed(module, inputs)}} if with_sample else {}
        try:
            brought = bring(module, file=file, **sample)
        except AmbiguousSample:
            return
        assert len(brought.manifest.layers) >= 1

    @pytest.mark.timeout(40)
    def test_so_is_one_of_a_stack_of_twenty(self, bring, inputs):
        module = Chain(**{f"lstm{index:02}": lstm(hidden=WIDTH) for index in range(20)}, fc=nn.Linear(WIDTH, 2))
        brought = bring(module, sample={"inputs": inputs, "expected": computed(module, inputs)})
        assert brought.model.verified is not None
