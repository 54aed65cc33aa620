"""What is inside, recognised by names and shapes."""

import pytest
import torch
from torch import nn

from gatescope.checkpoints.structure.contents import Contents
from gatescope.checkpoints.structure.kinds import CRF, Conv1d, Embedding, FoundRecurrent, Linear, Norm, Other


def contents(module, **more):
    weights = {name: value for name, value in module.state_dict().items() if value.is_floating_point()}
    return Contents.of(weights | more)


def kinds(found):
    return {part.path: type(part) for part in found.parts}


def test_lstms_are_found_under_any_prefix_with_the_arguments_they_were_made_with():
    module = nn.ModuleDict(
        {
            "encoder": nn.Sequential(nn.Identity(), nn.LSTM(3, 4, 2, bidirectional=True, proj_size=2)),
            "cell": nn.LSTMCell(5, 6, bias=False),
            "lstm": nn.LSTM(7, 8, bias=False),
        }
    )
    found = {lstm.path: lstm for lstm in contents(module).lstms}
    deep, cell, plain = (found[path] for path in ("encoder.1", "cell", "lstm"))
    assert (deep.spec.input_size, deep.spec.hidden_size, deep.spec.num_layers, deep.spec.proj_size) == (3, 4, 2, 2)
    assert (deep.spec.bidirectional, deep.spec.bias) == (True, True)
    assert (cell.kind, cell.spec.input_size, cell.spec.num_layers, cell.spec.bias) == ("nn.LSTMCell", 5, 1, False)
    assert cell.names["weight_ih_l0"] == "cell.weight_ih"
    assert (plain.kind, plain.spec.bias) == ("nn.LSTM", False)


def test_an_lstm_at_the_top_has_an_empty_path():
    (lstm,) = contents(nn.LSTM(3, 4)).lstms
    assert (lstm.path, str(lstm)) == ("", "the checkpoint itself")


def test_what_can_be_computed_is_told_by_its_shapes():
    module = nn.ModuleDict(
        {
            "fc": nn.Linear(4, 2),
            "point": nn.Conv1d(4, 2, 1),
            "conv": nn.Conv1d(4, 2, 3),
            "depthwise": nn.Conv1d(4, 4, 3, groups=4),
            "batch": nn.BatchNorm1d(4),
            "plain_batch": nn.BatchNorm1d(4, affine=False),
            "layer": nn.LayerNorm(4),
            "layer_without_bias": nn.LayerNorm(4, bias=False),
            "rms": nn.RMSNorm(4),
        }
    )
    crf = {"crf.transitions": torch.zeros(3, 3), "crf.start_transitions": torch.zeros(3)}
    found = contents(module, **crf, **{"crf.end_transitions": torch.zeros(3)})
    assert list(found.parts) == [
        Linear("fc", 4, 2, True),
        Linear("point", 4, 2, True),
        Conv1d("conv", 4, 2, 3),
        Conv1d("depthwise", 1, 4, 3),
        Norm("batch", 4, ("batch_norm",)),
        Norm("plain_batch", 4, ("batch_norm",)),
        Norm("layer", 4, ("layer_norm",)),
        Norm("layer_without_bias", 4, ("layer_norm", "rms_norm", "prelu")),
        Norm("rms", 4, ("layer_norm", "rms_norm", "prelu")),
        CRF("crf", 3),
    ]


@pytest.mark.parametrize("name", ["gn", "gn1", "group_norm", "instance_norm", "in1"])
def test_a_group_norm_is_not_taken_for_a_layer_norm(name):
    (part,) = contents(nn.ModuleDict({name: nn.GroupNorm(2, 4)})).parts
    assert isinstance(part, Other)
    assert part.kind == "a norm"


def test_what_cannot_be_computed_is_told_by_what_it_looks_like():
    found = contents(
        nn.ModuleDict(
            {
                "picture": nn.Conv2d(3, 4, 5),
                "attention": nn.MultiheadAttention(4, 2),
                "criterion": nn.CrossEntropyLoss(weight=torch.ones(2)),
            }
        ),
        scale=torch.ones(3),
    )
    assert {part.path: part.kind for part in found.others} == {
        "picture": "an nn.Conv2d",
        "attention": "an nn.MultiheadAttention",
        "criterion": "of a loss",
        "": "unknown",
    }
    assert kinds(found)["attention.out_proj"] is Linear


@pytest.mark.parametrize(
    "module", [nn.LSTM(3, 4), nn.GRU(3, 4), nn.RNN(3, 4), nn.LSTMCell(3, 4), nn.GRUCell(3, 4), nn.RNNCell(3, 4)]
)
def test_recurrent_modules_are_told_apart_by_their_weights(module):
    (found,) = contents(nn.ModuleDict({"it": module})).lstms
    assert (found.path, found.kind) == ("it", f"nn.{type(module).__name__}")
    assert (found.spec.input_size, found.spec.hidden_size) == (3, 4)


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda own: own.pop("lstm.weight_hh_l0"), "'weight_hh_l0' is missing"),
        (lambda own: own.pop("lstm.bias_hh_l1"), "'bias_hh_l1' is missing"),
        (lambda own: own.update({"lstm.bias_ih_l0": torch.zeros(3)}), "'bias_ih_l0' has shape [3]"),
        (lambda own: own.update({"lstm.weight_ih_l0": torch.zeros(3)}), "'weight_ih_l0' must be a matrix"),
        (lambda own: own.update({"lstm.weight_ih_l0": torch.zeros(15, 3)}), "'weight_ih_l0' has 15 rows"),
        (lambda own: own.update({"lstm.bias_hr_l1": torch.zeros(3)}), "'bias_hr_l1' does not belong"),
    ],
)
def test_a_broken_lstm_is_reported_with_the_reason_beside_a_whole_one(harm, reason):
    module = nn.ModuleDict({"lstm": nn.LSTM(3, 4, 2), "second": nn.LSTM(3, 4)})
    weights = module.state_dict()
    harm(weights)
    found = Contents.of(weights)
    (broken,) = found.others
    assert (broken.path, broken.kind) == ("lstm", "a broken recurrent module")
    assert reason in broken.reason
    assert [lstm.path for lstm in found.lstms] == ["second"]


class TestOrder:
    MODULE = nn.ModuleDict({"table": nn.Linear(4, 9, bias=False), "lstm": nn.LSTM(4, 5), "fc": nn.Linear(5, 2)})

    def test_a_file_in_the_order_of_definition_tells_what_is_before_and_what_behind(self):
        found = contents(self.MODULE)
        lstm, (fc,) = found.lstms[0], found.linear_layers
        assert found.ordered
        assert found.may_follow(fc, lstm)
        assert not found.may_precede(fc, lstm)

    def test_a_file_sorted_by_name_does_not(self):
        weights = self.MODULE.state_dict()
        found = Contents.of({name: weights[name] for name in sorted(weights)})
        lstm = found.lstms[0]
        assert not found.ordered
        assert all(found.may_follow(part, lstm) and found.may_precede(part, lstm) for part in found.linear_layers)

    def test_nor_does_one_that_is_shuffled(self):
        weights = self.MODULE.state_dict()
        names = [*weights][::2] + [*weights][1::2]
        assert not Contents.of({name: weights[name] for name in names}).ordered

    def test_a_matrix_ahead_of_the_lstm_that_is_as_wide_as_its_input_is_an_embedding(self):
        assert kinds(contents(self.MODULE)) == {"table": Embedding, "lstm": FoundRecurrent, "fc": Linear}
        assert contents(self.MODULE).embeddings[0].num_embeddings == 9


@pytest.mark.parametrize("path", ["embedding", "word_embeddings", "embed", "emb", "wte", "encoder.token_embedding"])
def test_a_matrix_named_like_one_is_an_embedding(path):
    found = Contents.of({f"{path}.weight": torch.zeros(9, 4)})
    assert found.embeddings == [Embedding(path, 9, 4)]


def test_a_name_that_would_write_on_the_terminal_is_escaped():
    (part,) = Contents.of({"\x1b[31mred.weight": torch.zeros(3)}).parts
    assert "\x1b" not in str(part)
