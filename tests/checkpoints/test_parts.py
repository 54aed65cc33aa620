"""Which parts are served where something else is there, too, or several could be meant."""

import pytest
import torch
from torch import nn

from gatescope.checkpoints.structure.contents import Contents
from gatescope.checkpoints.structure.heads import MOST_LAYERS
from gatescope.checkpoints.structure.options import Options
from gatescope.checkpoints.structure.parts import Parts
from gatescope.errors import InvalidInput


def modules(**named):
    return nn.ModuleDict(named)


def choose(module, *, ordered=True, **options):
    weights = {name: value for name, value in module.state_dict().items() if value.is_floating_point()}
    names = weights if ordered else sorted(weights)
    return Parts.choose(Contents.of({name: weights[name] for name in names}), Options(**options))


def head(parts):
    return [layer.path for layer in parts.head]


def refusal(module, **options):
    with pytest.raises(InvalidInput) as refused:
        choose(module, **options)
    ((loc, _),) = refused.value.places
    return loc[0], str(refused.value)


MLP = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))


class TestHead:
    @pytest.mark.parametrize("ordered", [True, False])
    @pytest.mark.parametrize(
        ("behind", "expected"),
        [
            ({"fc": nn.Linear(4, 1)}, ["fc"]),
            ({"head": MLP}, ["head.0", "head.2", "head.4"]),
            ({"fc1": nn.Linear(4, 4), "fc2": nn.Linear(4, 4), "fc10": nn.Linear(4, 1)}, ["fc1", "fc2", "fc10"]),
            ({"hidden": nn.Linear(4, 8), "out": nn.Linear(8, 1)}, ["hidden", "out"]),
            ({"fc": nn.Linear(4, 8), "fc2": nn.Linear(8, 1)}, ["fc", "fc2"]),
        ],
        ids=["one", "mlp", "all of one width", "named apart", "the first without a number"],
    )
    def test_a_chain_from_the_lstms_output_is_the_head(self, behind, expected, ordered):
        parts = choose(modules(lstm=nn.LSTM(3, 4), **behind), ordered=ordered)
        assert head(parts) == expected
        assert "--head" in "".join(parts.notes)

    @pytest.mark.parametrize("ordered", [True, False])
    @pytest.mark.parametrize(
        ("behind", "reason"),
        [
            ({}, "no linear layer behind the LSTM takes the 4 values of its output"),
            ({"fc": nn.Linear(5, 1)}, "no linear layer behind the LSTM takes the 4 values of its output"),
            ({"mean": nn.Linear(4, 1), "scale": nn.Linear(4, 1)}, "could be it, and so could"),
            ({"heads": nn.ModuleList([nn.Linear(4, 1), nn.Linear(4, 1)])}, "then 'heads.1' (4 → 1) has no place"),
            ({"fc": nn.Linear(4, 2), "late": nn.Linear(7, 1)}, "then 'late' (7 → 1) has no place"),
            ({"bn": nn.BatchNorm1d(4), "fc": nn.Linear(4, 1)}, "'bn' (a batch norm) may stand between"),
            ({"norm": nn.LayerNorm(4), "fc": nn.Linear(4, 1)}, "'norm' (a norm) may stand between"),
            ({"conv": nn.Conv1d(4, 4, 3), "fc": nn.Linear(4, 1)}, "'conv' (an nn.Conv1d) may stand between"),
            ({"attn": nn.MultiheadAttention(4, 2), "fc": nn.Linear(4, 1)}, "could be it"),
            ({"attn": nn.Linear(4, 1), "fc": nn.Linear(4, 2)}, "could be it, and so could"),
            ({"gru": nn.GRU(4, 4), "fc": nn.Linear(4, 1)}, "'gru' (nn.GRU) may stand between"),
        ],
    )
    def test_where_it_cannot_be_told_the_lstm_alone_is_served_and_the_reason_said(self, behind, reason, ordered):
        parts = choose(modules(lstm=nn.LSTM(3, 4), **behind), ordered=ordered)
        assert head(parts) == []
        assert reason in parts.headless
        assert f"No head: {parts.headless}" in "".join(parts.notes)

    def test_what_is_made_before_the_lstm_does_not_stand_behind_it(self):
        module = modules(conv=nn.Conv1d(3, 3, 3), project=nn.Linear(3, 4), lstm=nn.LSTM(4, 4), fc=nn.Linear(4, 3))
        parts = choose(module)
        assert head(parts) == ["fc"]
        assert "Left out: 'conv', 'project'" in "".join(parts.notes)
        assert head(choose(module, ordered=False)) == []

    def test_the_weights_of_a_loss_stand_nowhere(self):
        module = modules(lstm1=nn.LSTM(3, 4), lstm2=nn.LSTM(4, 4), fc=nn.Linear(4, 2), emb=nn.Embedding(9, 3))
        module["criterion"] = nn.CrossEntropyLoss(weight=torch.ones(2))
        parts = choose(module, ordered=False)
        assert (head(parts), parts.embedding.path, len(parts.stack.lstms)) == (["fc"], "emb", 2)

    def test_what_is_left_out_at_the_top_is_said_by_name(self):
        module = modules(lstm=nn.LSTM(3, 4), fc=nn.Linear(4, 2))
        module.h0 = nn.Parameter(torch.zeros(1, 1, 4))
        parts = choose(module)
        assert head(parts) == ["fc"]
        assert "Left out: 'h0'." in parts.notes

    def test_a_layer_that_feeds_the_lstm_needs_no_place_behind_it(self):
        module = modules(lstm=nn.LSTM(6, 4), fc=nn.Linear(4, 1), project=nn.Linear(3, 6))
        assert head(choose(module, ordered=False)) == ["fc"]

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            (("fc",), ["fc"]),
            (("mlp",), ["mlp.0", "mlp.2", "mlp.4"]),
            (("mlp.0.", "mlp.2"), ["mlp.0", "mlp.2"]),
            (("none",), []),
        ],
    )
    def test_a_flag_overrides_the_guess_whatever_stands_between(self, given, expected):
        module = modules(lstm=nn.LSTM(3, 4), bn=nn.BatchNorm1d(4), fc=nn.Linear(4, 2), mlp=MLP)
        assert head(choose(module, head=given)) == expected

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (("out",), "'out' is not in it; the checkpoint has 'fc', 'wide'"),
            (("bn",), "'bn' is a norm"),
            (("wide",), "'wide' takes 5 values, but what comes before it gives 4"),
            (("fc", "fc2"), "'fc2' is not in it"),
            (("fc", "wide"), "'wide' takes 5 values, but what comes before it gives 2"),
        ],
    )
    def test_a_flag_that_does_not_fit_is_refused(self, given, message):
        module = modules(lstm=nn.LSTM(3, 4), bn=nn.LayerNorm(4), fc=nn.Linear(4, 2), wide=nn.Linear(5, 1))
        option, said = refusal(module, head=given)
        assert option == "head"
        assert message in said

    def test_a_file_of_very_many_layers_is_not_searched(self):
        layer = torch.zeros(4, 4)
        weights = nn.LSTM(3, 4).state_dict() | {f"{'x' * n}.weight": layer for n in range(1, MOST_LAYERS + 2)}
        assert f"there are {MOST_LAYERS + 1} linear layers" in Parts.choose(Contents.of(weights), Options()).headless


class TestEmbedding:
    def test_the_one_that_is_as_wide_as_the_input_is_taken(self):
        module = modules(users=nn.Embedding(100, 7), word_emb=nn.Embedding(20, 3), lstm=nn.LSTM(3, 4))
        parts = choose(module.requires_grad_(requires_grad=False))
        assert parts.embedding.path == "word_emb"
        assert "--embedding none" in "".join(parts.notes)

    @pytest.mark.parametrize("ordered", [True, False])
    @pytest.mark.parametrize(
        ("before", "reason"),
        [
            ({"emb_a": nn.Embedding(9, 3), "emb_b": nn.Embedding(9, 3)}, "so could 'emb_b'"),
            ({"emb": nn.Embedding(9, 3), "conv": nn.Conv1d(3, 3, 3)}, "'conv' (an nn.Conv1d) may stand between"),
        ],
    )
    def test_where_it_cannot_be_told_the_lstm_is_fed_itself(self, before, reason, ordered):
        parts = choose(modules(**before, lstm=nn.LSTM(3, 4)), ordered=ordered)
        assert parts.embedding is None
        assert reason in "".join(parts.notes)

    def test_what_is_made_behind_the_lstm_does_not_stand_before_it(self):
        parts = choose(modules(emb=nn.Embedding(9, 3), lstm=nn.LSTM(3, 4), norm=nn.LayerNorm(4)))
        assert parts.embedding.path == "emb"

    def test_a_flag_overrides_the_guess(self):
        module = modules(emb_a=nn.Embedding(9, 3), emb_b=nn.Embedding(8, 3), lstm=nn.LSTM(3, 4))
        assert choose(module, embedding="emb_b").embedding.num_embeddings == 8
        assert choose(module, embedding="none").embedding is None

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ("words", "'words' is not in it; the checkpoint has 'emb'"),
            ("emb", "rows have 5 values, but the LSTM takes 3"),
        ],
    )
    def test_a_flag_that_does_not_fit_is_refused(self, given, message):
        option, said = refusal(modules(emb=nn.Embedding(9, 5), lstm=nn.LSTM(3, 4)), embedding=given)
        assert option == "embedding"
        assert message in said


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("gru",), "'gru' is nn.GRU; the checkpoint has 'lstm'"),
        (("broken",), "'bias_hh_l0' is missing; the checkpoint has 'lstm'"),
        (("decoder",), "'decoder' is not in it; the checkpoint has 'lstm'"),
    ],
)
def test_a_prefix_without_a_whole_lstm_is_refused_with_the_reason(given, message):
    module = modules(lstm=nn.LSTM(3, 4), gru=nn.GRU(3, 4), broken=nn.LSTM(3, 4))
    del module["broken"].bias_hh_l0
    option, said = refusal(module, prefix=given)
    assert option == "prefix"
    assert message in said
