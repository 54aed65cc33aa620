"""What was trained is what is served: predictions as the original module's forward, traces as the equations'."""

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn.functional import relu

from gatescope.errors import InvalidInput, WeightsError
from gatescope.selection import Selection


class Forecaster(nn.Module):
    """As many tutorials write it."""

    def __init__(self, steps="last", **lstm):
        super().__init__()
        self.lstm = nn.LSTM(3, 6, batch_first=True, **lstm)
        width = (self.lstm.proj_size or 6) * (2 if self.lstm.bidirectional else 1)
        self.fc = nn.Linear(width, 2)
        self.steps = steps

    def forward(self, inputs):
        output, _ = self.lstm(inputs)
        return self.fc(output if self.steps == "all" else output[:, -1])


class Classifier(nn.Module):
    """Words in, a label out, from both directions' final hidden states."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(11, 5, padding_idx=0)
        self.rnn = nn.LSTM(5, 4, num_layers=2, bidirectional=True, dropout=0.5, batch_first=True)
        self.fc1 = nn.Linear(8, 7)
        self.fc2 = nn.Linear(7, 3)

    def forward(self, ids):
        _, (h, _) = self.rnn(self.embedding(ids))
        return self.fc2(relu(self.fc1(torch.cat((h[-2], h[-1]), dim=1))))


class Cells(nn.Module):
    """Stepped by hand."""

    def __init__(self, *sizes, bias=True):
        super().__init__()
        self.cells = nn.ModuleList([nn.LSTMCell(below, above, bias=bias) for below, above in pairwise(sizes)])
        self.out = nn.Linear(sizes[-1], 2)

    def forward(self, inputs):
        outputs, states = [], [None] * len(self.cells)
        for x in inputs.unbind(dim=1):
            fed = x
            for index, cell in enumerate(self.cells):
                states[index] = cell(fed, states[index])
                fed = states[index][0]
            outputs.append(self.out(fed))
        return torch.stack(outputs, dim=1)

    def as_lstms(self):
        lstms = {}
        for index, cell in enumerate(self.cells):
            lstm = nn.LSTM(cell.input_size, cell.hidden_size, bias=cell.bias)
            lstm.load_state_dict({f"{name}_l0": value for name, value in cell.state_dict().items()})
            lstms[f"cells.{index}"] = lstm
        return lstms


def forward(module, sequences):
    """What the module itself gives to each sequence alone."""
    with torch.no_grad():
        return [module(sequence[None])[0] for sequence in sequences]


def lightning(module):
    return {
        "epoch": 3,
        "global_step": 100,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": {f"model.{name}": value for name, value in module.state_dict().items()},
        "optimizer_states": [torch.optim.Adam(module.parameters()).state_dict()],
        "lr_schedulers": [],
        "hyper_parameters": {"hidden_size": 6, "lr": 1e-3},
    }


def nested(key):
    def save(module):
        optimizer = torch.optim.AdamW(module.parameters())
        module(torch.zeros(1, 2, 3)).sum().backward()
        optimizer.step()
        return {"epoch": 7, key: module.state_dict(), "optimizer": optimizer.state_dict(), "loss": 0.25}

    return save


FORMS = {
    "weights.pt": lambda module: module.state_dict(),
    "weights.pth": lambda module: dict(module.state_dict()),
    "pytorch_model.bin": lambda module: module.state_dict(),
    "weights.safetensors": lambda module: module.state_dict(),
    "last.ckpt": lightning,
    "parallel.pt": lambda module: nn.DataParallel(module).state_dict(),
    "compiled.pt": lambda module: torch.compile(module, backend="eager").state_dict(),
    "compiled-parallel.pt": lambda module: torch.compile(nn.DataParallel(module), backend="eager").state_dict(),
} | {f"{key}.pt": nested(key) for key in ("state_dict", "model_state_dict", "model_state", "model", "net", "network")}


@pytest.mark.parametrize("file", FORMS)
def test_every_form_of_checkpoint_is_served_as_it_was_trained(bring, sequences, file):
    module = Forecaster(num_layers=2)
    content = FORMS[file](module.train())
    brought = bring(content, file=file, steps="last")
    rows = sequences(3)
    brought.predicts(rows, forward(module.eval(), rows))
    brought.traces({"lstm": module.lstm}, rows[0])


@pytest.mark.parametrize("file", ["weights.pt", "weights.safetensors"])
@pytest.mark.parametrize(
    "arguments",
    [
        {"bias": False},
        {"bidirectional": True},
        {"proj_size": 2},
        {"num_layers": 3, "bidirectional": True, "proj_size": 4, "bias": False},
    ],
    ids=str,
)
def test_every_kind_of_lstm_is(bring, sequences, arguments, file):
    module = Forecaster("all", **arguments).eval()
    brought = bring(module, file=file)
    rows = sequences(3)
    brought.predicts(rows, forward(module, rows))
    brought.traces({"lstm": module.lstm}, rows[2])
    assert brought.manifest.task == "regression"
    assert brought.model.verified is None
    assert "--sample" in brought.notes


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("file", ["weights.pt", "weights.safetensors"])
def test_weights_of_every_precision_are(bring, sequences, dtype, file):
    module = Forecaster().to(dtype)
    brought = bring(module, file=file, steps="last")
    rows = sequences(3)
    brought.predicts(rows, forward(module.float(), rows))
    assert str(dtype).removeprefix("torch.") in brought.notes


@pytest.mark.parametrize("file", ["weights.pt", "weights.safetensors"])
def test_an_embedding_an_lstm_and_an_mlp_are_found_by_shape_and_name(bring, sequences, file):
    module = Classifier().eval()
    brought = bring(module, file=file, steps="final")
    rows = sequences(11, ids=True)
    brought.predicts(rows, forward(module, rows))
    brought.traces({"rnn": module.rnn}, rows[0], {"rnn": module.embedding(rows[0]).detach()})
    assert brought.manifest.task == "classification"
    assert brought.manifest.head.labels == ("0", "1", "2")
    assert brought.layers == "embedding,rnn,final,fc1,relu,fc2"
    for said in ("embedding,rnn,final,fc1,relu,fc2", "--layers", "--sample", "--task", "--labels"):
        assert said in brought.notes


@pytest.mark.parametrize(("activation", "layer"), [("relu", nn.ReLU()), ("tanh", nn.Tanh())])
def test_an_mlp_has_the_activation_that_is_named(bring, sequences, activation, layer):
    module = Forecaster("all")
    module.fc = nn.Sequential(nn.Linear(6, 5), layer, nn.Dropout(), nn.Linear(5, 5), layer, nn.Linear(5, 1))
    brought = bring(module.eval(), activation=activation)
    rows = sequences(3)
    brought.predicts(rows, forward(module, rows))
    functions = [layer.function for layer in brought.manifest.layers if layer.type == "activation"]
    assert functions == [activation, activation]


@pytest.mark.parametrize("steps", ["mean", "max"])
def test_a_head_over_all_steps_pools_as_named(bring, sequences, steps):
    module = Forecaster(bidirectional=True).eval()
    brought = bring(module, steps=steps)
    rows = sequences(3)
    pooled = {"mean": lambda output: output.mean(dim=0), "max": lambda output: output.amax(dim=0)}[steps]
    with torch.no_grad():
        brought.predicts(rows, [module.fc(pooled(module.lstm(row[None])[0][0])) for row in rows])


def test_an_embedding_and_a_head_as_wide_as_the_vocabulary_predict_the_next_token(bring, sequences):
    module = nn.ModuleDict({"encoder": nn.Embedding(9, 4), "rnn": nn.LSTM(4, 4), "decoder": nn.Linear(4, 9)})
    module["decoder"].weight = module["encoder"].weight  # tied
    brought = bring(module)
    assert (brought.manifest.task, brought.model.labels) == ("next_token", tuple("012345678"))
    assert not brought.model.reads_text
    rows = sequences(9, ids=True)
    with torch.no_grad():
        expected = [module["decoder"](module["rnn"](module["encoder"](row))[0]) for row in rows]
    brought.predicts(rows, expected)


def test_characters_one_hot_need_no_embedding(bring, sequences):
    module = nn.ModuleDict({"lstm": nn.LSTM(4, 5), "fc": nn.Linear(5, 4)})
    brought = bring(module, characters='a"\n\\')
    assert brought.manifest.task == "next_token"
    rows = sequences(4, ids=True)
    one_hot = torch.eye(4)
    with torch.no_grad():
        brought.predicts(rows, [module["fc"](module["lstm"](one_hot[row])[0]) for row in rows])
    assert set(brought.imported.request["text"]) <= set('a"\n\\')


class TestCells:
    @pytest.mark.parametrize("bias", [True, False])
    def test_a_cell_is_an_lstm_of_one_layer(self, bring, sequences, bias):
        module = Cells(3, 6, bias=bias).eval()
        brought = bring(module)
        rows = sequences(3)
        brought.predicts(rows, forward(module, rows))
        brought.traces(module.as_lstms(), rows[1])
        assert "nn.LSTMCell" in brought.notes

    @pytest.mark.parametrize("file", ["weights.pt", "weights.safetensors"])
    def test_cells_on_top_of_each_other_are_layers_in_the_order_of_their_numbers(self, bring, sequences, file):
        module = Cells(6, *[6] * 11).eval()  # cells.10 comes after cells.9, and every other order would fit as well
        brought = bring(module, file=file, join="stacked")
        assert list(brought.model.pipeline.lstms) == [f"cells.{index}" for index in range(11)]
        rows = sequences(6)
        brought.predicts(rows, forward(module, rows))
        brought.traces(module.as_lstms(), rows[0])


class Stacked(nn.Module):
    """Two LSTMs, as Keras users write them."""

    def __init__(self, below, above):
        super().__init__()
        self.lstm1, self.lstm2 = below, above
        below.batch_first = above.batch_first = True
        self.fc = nn.Linear(above.hidden_size * (2 if above.bidirectional else 1), 1)

    def forward(self, inputs):
        return self.fc(self.lstm2(self.lstm1(inputs)[0])[0])


class TestSeveral:
    @pytest.mark.parametrize("arguments", [{}, {"bidirectional": True, "bias": False, "num_layers": 2}], ids=str)
    @pytest.mark.parametrize("file", ["weights.pt", "weights.safetensors"])
    def test_lstms_that_are_said_to_be_stacked_feed_each_other(self, bring, sequences, arguments, file):
        width = 8 if arguments else 4
        module = Stacked(nn.LSTM(3, 4, **arguments), nn.LSTM(width, 4, **arguments)).eval()
        brought = bring(module, file=file, join="stacked")
        rows = sequences(3)
        brought.predicts(rows, forward(module, rows))
        brought.traces({"lstm1": module.lstm1, "lstm2": module.lstm2}, rows[0])

    def test_projected_ones_do_too(self, bring, sequences):
        module = Stacked(nn.LSTM(3, 4, proj_size=2), nn.LSTM(2, 4, proj_size=2))
        module.fc = nn.Linear(2, 1)
        brought = bring(module.eval(), prefix=("lstm1", "lstm2"))
        rows = sequences(3)
        brought.predicts(rows, forward(module, rows))
        brought.traces({"lstm1": module.lstm1, "lstm2": module.lstm2}, rows[0])

    def test_widths_that_allow_one_join_alone_need_no_word(self, bring, sequences):
        module = Stacked(nn.LSTM(3, 4), nn.LSTM(4, 5)).eval()
        brought = bring(module)
        rows = sequences(3)
        brought.predicts(rows, forward(module, rows))
        brought.traces({"lstm1": module.lstm1, "lstm2": module.lstm2}, rows[0])

    @pytest.mark.parametrize(
        ("lstms", "joins"),
        [
            ((nn.LSTM(4, 4), nn.LSTM(4, 4)), "stacked, residual, parallel=add"),
            ((nn.LSTM(3, 4), nn.LSTM(4, 4)), "stacked, residual"),
        ],
        ids=["all widths the same", "the second as wide as it is fed"],
    )
    @pytest.mark.parametrize("file", ["weights.pt", "weights.safetensors"])
    def test_widths_that_allow_several_joins_are_refused_with_all_of_them(self, bring, lstms, joins, file):
        with pytest.raises(
            InvalidInput, match=r"join: .* whose widths do not tell .*--prefix, or give a --sample"
        ) as said:
            bring(Stacked(*lstms), file=file)
        assert f"state {joins}, name one" in str(said.value)

    @pytest.mark.parametrize("join", ["stacked", "residual", "parallel=add"])
    def test_a_join_that_is_stated_is_served(self, bring, sequences, join):
        module = Stacked(nn.LSTM(4, 4), nn.LSTM(4, 4)).eval()
        brought = bring(module, join=join)
        (row, *_) = sequences(4)
        with torch.no_grad():
            first = module.lstm1(row)[0]
            expected = {
                "stacked": lambda: module.lstm2(first)[0],
                "residual": lambda: row + first + module.lstm2(row + first)[0],
                "parallel=add": lambda: first + module.lstm2(row)[0],
            }[join]()
            brought.predicts([row], [module.fc(expected)])

    def test_towers_of_one_width_are_side_by_side(self, bring, sequences):
        module = Stacked(nn.LSTM(3, 4), nn.LSTM(3, 5))
        module.fc = nn.Linear(9, 1)
        brought = bring(module.eval())
        (row, *_) = sequences(3)
        with torch.no_grad():
            brought.predicts([row], [module.fc(torch.cat([module.lstm1(row)[0], module.lstm2(row)[0]], -1))])

    def test_a_join_that_the_widths_do_not_allow_is_refused(self, bring):
        with pytest.raises(InvalidInput, match=r"join: .*do not allow 'parallel'"):
            bring(Stacked(nn.LSTM(3, 4), nn.LSTM(4, 5)), join="parallel")
        with pytest.raises(InvalidInput, match=r"prefix: 'lstm1' gives 4 values, but 'lstm2' takes 3"):
            bring(Stacked(nn.LSTM(3, 4), nn.LSTM(3, 4)), prefix=("lstm1", "lstm2"))

    @pytest.mark.parametrize("prefix", ["lstm2", "lstm2."])
    def test_the_upper_alone_is_served_on_its_own_inputs_without_a_prediction(self, bring, sequences, prefix):
        module = Stacked(nn.LSTM(3, 4), nn.LSTM(4, 5)).eval()
        brought = bring(module, prefix=(prefix,))
        assert (brought.manifest.heads, brought.manifest.input.names[0]) == ((), "lstm_input_0")
        assert "Not computed before the LSTM: 'lstm1'" in brought.notes
        brought.traces({"lstm2": module.lstm2}, sequences(4)[0])

    def test_the_upper_alone_predicts_where_the_lower_is_ignored(self, bring, sequences):
        module = Stacked(nn.LSTM(3, 4), nn.LSTM(4, 5)).eval()
        brought = bring(module, prefix=("lstm2",), ignore=("lstm1",))
        rows = sequences(4)
        with torch.no_grad():
            brought.predicts(rows, [module.fc(module.lstm2(row)[0]) for row in rows])

    def test_the_lower_one_does_not_get_the_head_of_the_upper(self, bring):
        brought = bring(Stacked(nn.LSTM(3, 5), nn.LSTM(5, 5)), prefix=("lstm1",))
        assert brought.manifest.task is None
        assert "No prediction: 'lstm2'" in brought.notes

    def test_an_encoder_and_a_decoder_are_no_stack_unless_somebody_says_so(self, bring, sequences):
        module = nn.ModuleDict({"encoder": nn.LSTM(3, 4), "decoder": nn.LSTM(4, 4)})
        with pytest.raises(InvalidInput, match=r"holds 2 LSTMs, 'encoder' \(3 → 4\), 'decoder' \(4 → 4\)"):
            bring(module)
        brought = bring(module, prefix=("encoder", "decoder"))
        brought.traces({"encoder": module["encoder"], "decoder": module["decoder"]}, sequences(3)[0])

    def test_a_layer_between_them_is_not_moved_behind_them(self, bring):
        module = nn.Module()
        module.lstm1, module.middle, module.lstm2 = nn.LSTM(3, 4), nn.Linear(4, 4), nn.LSTM(4, 4)
        brought = bring(module, join="stacked")
        assert brought.manifest.heads == ()
        assert "No prediction: 'middle'" in brought.notes


def test_the_weights_of_an_lstm_alone_are_served_as_its_output(bring, sequences):
    module = nn.LSTM(3, 4, 2)
    brought = bring(module)
    rows = sequences(3)
    assert (brought.manifest.task, brought.manifest.input.names) == (None, ["feature_0", "feature_1", "feature_2"])
    brought.traces({"lstm": module}, rows[0])
    answer = brought.ask(rows, output=True)
    torch.testing.assert_close(answer.output[1, :3], module(rows[1])[0], rtol=0, atol=1e-5)


def test_a_checkpoint_without_a_recurrent_module_says_what_is_there(bring):
    with pytest.raises(WeightsError, match=r"no nn\.LSTM, nn\.GRU or nn\.RNN in the checkpoint; it has '0', '2'"):
        bring(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1)))


def test_a_head_that_the_file_has_before_the_lstm_is_not_guessed(bring, sequences):
    module = nn.ModuleDict({"fc": nn.Linear(4, 1), "lstm": nn.LSTM(3, 4)})
    brought = bring(module)
    assert brought.manifest.heads == ()
    assert "The file has 'fc' on the other side of the LSTM from where its width fits." in brought.notes
    stated = bring(module, name="stated", head=("fc",))
    rows = sequences(3)
    with torch.no_grad():
        stated.predicts(rows, [module["fc"](module["lstm"](row)[0]) for row in rows])


class Reader(nn.Module):
    def __init__(self, kind, **arguments):
        super().__init__()
        self.emb = nn.Embedding(11, 4)
        self.rnn = kind(4, 6, 2, batch_first=True, **arguments)
        self.fc = nn.Linear(6, 3)

    def forward(self, ids):
        return self.fc(self.rnn(self.emb(ids))[0].mean(dim=1))


@pytest.mark.parametrize(("kind", "arguments"), [(nn.GRU, {}), (nn.RNN, {}), (nn.RNN, {"nonlinearity": "relu"})])
def test_grus_and_plain_rnns_are_imported_and_verified(bring, random, kind, arguments):
    module, ids = Reader(kind, **arguments).eval(), torch.randint(0, 11, (5, 7), generator=random)
    with torch.no_grad():
        brought = bring(module, sample={"inputs": ids, "expected": module(ids)})
        other = torch.randint(0, 11, (2, 9), generator=random)
        assert brought.model.verified is not None
        brought.predicts([*other], [*module(other)])
    assert brought.model.spec.cell.nonlinearity == (module.rnn.nonlinearity if kind is nn.RNN else None)
    assert brought.ask([*other], trace=Selection()).trace.residual < 1e-6
