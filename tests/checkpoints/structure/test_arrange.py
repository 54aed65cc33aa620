"""In which order parts may stand, where something else is there, too, or several could be meant."""

import pytest
import torch
from torch import nn

from gatescope.checkpoints.structure.arrange import MAX_PERMUTED, Arranger
from gatescope.checkpoints.structure.contents import Contents
from gatescope.checkpoints.structure.options import Options
from gatescope.errors import InvalidInput, WeightsError


def modules(**named):
    return nn.ModuleDict(named)


def arrangements(module, *, ordered=True, **options):
    weights = {name: value for name, value in module.state_dict().items() if value.is_floating_point()}
    names = weights if ordered else sorted(weights)
    return Arranger(Contents.of({name: weights[name] for name in names}), Options(**options)).arrangements()


def behind(arrangement):
    return [part.path for part in arrangement.behind]


def before(arrangement):
    return [part.path for part in arrangement.before]


def refusal(module, **options):
    with pytest.raises(InvalidInput) as refused:
        arrangements(module, **options)
    ((loc, said),) = refused.value.places
    return loc[0], said


MLP = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))


class TestHead:
    @pytest.mark.parametrize("ordered", [True, False])
    @pytest.mark.parametrize(
        ("parts", "expected"),
        [
            ({"fc": nn.Linear(4, 1)}, ["fc"]),
            ({"head": MLP}, ["head.0", "head.2", "head.4"]),
            ({"fc1": nn.Linear(4, 4), "fc2": nn.Linear(4, 4), "fc10": nn.Linear(4, 1)}, ["fc1", "fc2", "fc10"]),
            ({"hidden": nn.Linear(4, 8), "out": nn.Linear(8, 1)}, ["hidden", "out"]),
            ({"bn": nn.BatchNorm1d(4), "fc": nn.Linear(4, 1)}, ["bn", "fc"]),
            ({"fc1": nn.Linear(4, 8), "ln": nn.LayerNorm(8), "fc2": nn.Linear(8, 1)}, ["fc1", "ln", "fc2"]),
        ],
        ids=["one", "mlp", "all of one width", "named apart", "a norm before", "a norm between"],
    )
    def test_a_chain_from_the_lstms_output_is_the_head(self, parts, expected, ordered):
        found = arrangements(modules(lstm=nn.LSTM(3, 4), **parts), ordered=ordered)
        assert expected in [behind(each) for each in found]
        assert all(each.is_complete for each in found)
        assert not ordered or [behind(each) for each in found] == [expected]

    @pytest.mark.parametrize(
        ("parts", "missing"),
        [
            ({"fc": nn.Linear(5, 1)}, {"fc"}),
            ({"mean": nn.Linear(4, 1), "scale": nn.Linear(4, 1)}, {"mean", "scale"}),
            ({"fc": nn.Linear(4, 2), "late": nn.Linear(7, 1)}, {"fc", "late"}),
            ({"attn": nn.Linear(4, 1), "fc": nn.Linear(4, 2)}, {"attn", "fc"}),
        ],
    )
    def test_parts_that_do_not_all_fit_are_all_left(self, parts, missing):
        (found,) = arrangements(modules(lstm=nn.LSTM(3, 4), **parts))
        assert {part.path for part in found.missing("behind")} == missing
        assert not found.is_complete

    @pytest.mark.parametrize("part", [nn.MultiheadAttention(4, 2), nn.Conv2d(3, 4, 5)])
    def test_what_cannot_be_computed_is_left_though_the_rest_fits(self, part):
        (found,) = arrangements(modules(lstm=nn.LSTM(3, 4), odd=part, fc=nn.Linear(4, 1)))
        assert "odd" in {each.path for each in found.missing("behind")}

    def test_what_is_made_before_the_lstm_stands_before_it(self):
        module = modules(conv=nn.Conv1d(3, 3, 3), project=nn.Linear(3, 4), lstm=nn.LSTM(4, 4), fc=nn.Linear(4, 3))
        (found,) = arrangements(module)
        assert (before(found), behind(found)) == (["conv", "project"], ["fc"])
        assert len(arrangements(module, ordered=False)) > 1

    def test_the_weights_of_a_loss_stand_nowhere(self):
        module = modules(lstm1=nn.LSTM(3, 4), lstm2=nn.LSTM(4, 5), fc=nn.Linear(5, 2), emb=nn.Embedding(9, 3))
        module["criterion"] = nn.CrossEntropyLoss(weight=torch.ones(2))
        (found,) = arrangements(module, ordered=False)
        assert (behind(found), found.embedding.path, len(found.lstms)) == (["fc"], "emb", 2)
        assert found.is_complete

    @pytest.mark.parametrize(
        ("given", "expected"),
        [(("mlp",), ["mlp.0", "mlp.2", "mlp.4"]), (("mlp.0.", "mlp.2", "mlp.4"), ["mlp.0", "mlp.2", "mlp.4"])],
    )
    def test_a_head_that_is_stated_stands_behind(self, given, expected):
        module = modules(mlp=MLP, lstm=nn.LSTM(3, 4))
        assert [behind(each) for each in arrangements(module, head=given)] == [expected]

    @pytest.mark.parametrize(
        ("given", "message"),
        [(("out",), "'out' is not in it; the checkpoint has 'fc'"), (("bn",), "'bn' is batch_norm")],
    )
    def test_a_head_that_is_none_is_refused(self, given, message):
        option, said = refusal(modules(lstm=nn.LSTM(3, 4), bn=nn.BatchNorm1d(4), fc=nn.Linear(4, 2)), head=given)
        assert option == "head"
        assert message in said

    def test_what_is_ignored_needs_no_place(self):
        module = modules(lstm=nn.LSTM(3, 4), fc=nn.Linear(4, 1), aux=nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 9)))
        assert not arrangements(module)[0].is_complete
        assert behind(arrangements(module, ignore=("aux",))[0]) == ["fc"]

    def test_very_many_parts_of_a_sorted_file_are_not_permuted(self):
        named = {f"{'x' * n}": nn.Linear(4, 4) for n in range(1, MAX_PERMUTED + 2)}
        (found,) = arrangements(modules(lstm=nn.LSTM(3, 4), **named), ordered=False)
        assert len(found.left) == MAX_PERMUTED + 1


class TestOrder:
    def test_the_order_of_the_file_is_preferred_whatever_the_join(self):
        module = modules(
            pre=nn.BatchNorm1d(2), lstm1=nn.LSTM(2, 5), lstm2=nn.LSTM(2, 5), ln=nn.LayerNorm(5), fc=nn.Linear(5, 2)
        )
        (found,) = arrangements(module)
        assert (found.join, before(found), behind(found)) == ("parallel=add", ["pre"], ["ln", "fc"])

    def test_every_order_of_a_sorted_file_is_found(self):
        module = modules(lstm=nn.LSTM(4, 4), norm=nn.LayerNorm(4), fc=nn.Linear(4, 4))
        found = {(tuple(before(each)), tuple(behind(each))) for each in arrangements(module, ordered=False)}
        assert found == {
            ((), ("fc", "norm")),
            ((), ("norm", "fc")),
            (("norm",), ("fc",)),
            (("fc",), ("norm",)),
            (("fc", "norm"), ()),
            (("norm", "fc"), ()),
        }


class TestEmbedding:
    def test_the_one_that_is_as_wide_as_the_input_is_taken(self):
        module = modules(users=nn.Embedding(100, 7), word_emb=nn.Embedding(20, 3), lstm=nn.LSTM(3, 4))
        (found,) = arrangements(module)
        assert found.embedding.path == "word_emb"
        assert [part.path for part in found.missing("before")] == ["users"]

    def test_both_are_possible_where_both_fit(self):
        module = modules(emb_a=nn.Embedding(9, 3), emb_b=nn.Embedding(8, 3), lstm=nn.LSTM(3, 4))
        (found,) = arrangements(module)  # one, as the other has no place
        assert not found.is_complete

    def test_one_may_be_stated_or_none(self):
        module = modules(emb_a=nn.Embedding(9, 3), emb_b=nn.Embedding(8, 3), lstm=nn.LSTM(3, 4))
        assert arrangements(module, embedding="emb_b")[0].embedding.num_embeddings == 8
        assert arrangements(module, embedding="none")[0].embedding is None

    def test_one_that_is_none_is_refused(self):
        option, said = refusal(modules(emb=nn.Embedding(9, 3), lstm=nn.LSTM(3, 4)), embedding="words")
        assert option == "embedding"
        assert "'words' is not in it; the checkpoint has 'emb'" in said


class TestLearnedStates:
    @pytest.mark.parametrize(
        "names", [("h0", "c0"), ("h_0", "c_0"), ("init_h", "init_c"), ("hidden_init", "cell_init")]
    )
    def test_are_told_by_name_and_size(self, names):
        module = modules(lstm=nn.LSTM(3, 4, 2), fc=nn.Linear(4, 1))
        for name in names:
            module.register_parameter(name, nn.Parameter(torch.zeros(2, 1, 4)))
        (found,) = arrangements(module)
        assert found.learned == {"lstm": {"hidden_state": names[0], "cell_state": names[1]}}
        assert found.is_complete

    def test_of_another_size_are_no_states(self):
        module = modules(lstm=nn.LSTM(3, 4, 2), fc=nn.Linear(4, 1))
        module.h0 = nn.Parameter(torch.zeros(2, 1, 5))
        (found,) = arrangements(module)
        assert found.learned == {}
        assert not found.is_complete


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("picture",), "'picture' is an nn.Conv2d; the checkpoint has 'lstm'"),
        (("broken",), "'bias_hh_l0' is missing; the checkpoint has 'lstm'"),
        (("decoder",), "'decoder' is not in it; the checkpoint has 'lstm'"),
    ],
)
def test_a_prefix_without_a_whole_lstm_is_refused_with_the_reason(given, message):
    module = modules(lstm=nn.LSTM(3, 4), picture=nn.Conv2d(3, 4, 5), broken=nn.LSTM(3, 4))
    del module["broken"].bias_hh_l0
    option, said = refusal(module, prefix=given)
    assert option == "prefix"
    assert message in said


def test_without_a_recurrent_module_what_is_there_is_told():
    with pytest.raises(WeightsError, match=r"no nn\.LSTM, nn\.GRU or nn\.RNN in the checkpoint; it has 'fc'"):
        arrangements(modules(fc=nn.Linear(3, 4)))
