"""What training scripts save, read as the weights of the module that was saved."""

import argparse
import io
import os
import pathlib
import zipfile
from collections import Counter, OrderedDict, defaultdict
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import parametrizations, prune

from gatescope.checkpoints.formats.checkpoint import read
from gatescope.errors import CheckpointError

FORMATS = ("zip", "legacy", "safetensors")


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(5, 3)
        self.lstm = nn.LSTM(3, 4, num_layers=2, bidirectional=True)
        self.norm = nn.BatchNorm1d(8)
        self.head = nn.Linear(8, 2)


@pytest.fixture
def module():
    return Tagger()


@pytest.fixture
def save(tmp_path):
    """`save(what, "legacy")` -> the file."""

    def write(saved, kind="zip", name="checkpoint.pt", **options):
        path = tmp_path / name
        if kind == "safetensors":
            save_file(saved, path)
        else:
            torch.save(saved, path, _use_new_zipfile_serialization=kind == "zip", **options)
        return path

    return write


def floating(module):
    return {name: value for name, value in module.state_dict().items() if value.is_floating_point()}


def assert_same(given, expected):
    assert list(given) == list(expected)
    for name, value in expected.items():
        assert torch.equal(given[name], value), name
        assert given[name].dtype == value.dtype


def pickled_with_storage(saved):
    """The pickle in an archive, whose storages are named from 0 on."""
    buffer = io.BytesIO()
    torch.save(saved, buffer)
    with zipfile.ZipFile(buffer) as file:
        return file.read(next(name for name in file.namelist() if name.endswith("data.pkl")))


def refusal(path, **options):
    with pytest.raises(CheckpointError) as refused:
        read(path, **options)
    assert str(refused.value).isprintable()
    return str(refused.value)


def stepped(module):
    """An optimizer with a state, as it is saved beside the weights."""
    optimizer = torch.optim.Adam(module.parameters())
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return optimizer


class TestFormats:
    @pytest.mark.parametrize("kind", ["zip", "legacy"])
    def test_a_state_dict_is_read_as_it_was_saved(self, save, module, kind):
        checkpoint = read(save(module.state_dict(), kind))
        assert_same(checkpoint.weights, floating(module))
        assert checkpoint.notes == (
            "Left out, because they are no floating-point numbers: 'norm.num_batches_tracked'.",
        )

    @pytest.mark.parametrize("begins", [b"\x80\x02", b"\x80\x04", b"\x80\x05"])
    def test_safetensors_whose_length_begins_like_a_pickle_are_read(self, tmp_path, begins):
        path, length = tmp_path / "weights.safetensors", int.from_bytes(begins, "little")
        module = nn.LSTM(2, 3)
        save_file(module.state_dict(), path)
        content = path.read_bytes()
        size = int.from_bytes(content[:8], "little")
        header = content[8 : 8 + size].rstrip().ljust(length)
        assert len(header) == length
        path.write_bytes(length.to_bytes(8, "little") + header + content[8 + size :])
        assert read(path).weights.keys() == module.state_dict().keys()

    def test_safetensors_are_read(self, save, module):
        given = read(save(module.state_dict(), "safetensors")).weights
        assert_same(dict(sorted(given.items())), dict(sorted(floating(module).items())))

    @pytest.mark.parametrize("kind", FORMATS)
    @pytest.mark.parametrize("name", ["a.pt", "a.pth", "a.ckpt", "a.bin", "a.safetensors", "a", "weights ü.txt"])
    def test_the_content_says_what_a_file_is_whatever_its_name(self, save, seeded_lstm, kind, name):
        weights = dict(sorted(seeded_lstm(3, 4).state_dict().items()))
        assert_same(dict(sorted(read(save(weights, kind, name)).weights.items())), weights)

    def test_parameters_are_read_like_tensors(self, save, module):
        weights = read(save(dict(module.named_parameters()))).weights
        assert_same(weights, dict(module.named_parameters()))
        assert not any(value.requires_grad for value in weights.values())

    def test_archives_without_checksums_are_read(self, save, seeded_lstm):
        torch.serialization.set_crc32_options(compute_crc32=False)
        try:
            path = save(seeded_lstm(3, 4).state_dict())
        finally:
            torch.serialization.set_crc32_options(compute_crc32=True)
        assert len(read(path).weights) == 4

    def test_weights_have_memory_of_their_own_even_where_they_were_views_or_tied(self, save):
        table = torch.arange(12.0).reshape(3, 4)
        weights = read(save({"a.weight": table.T, "b.weight": table[1:, 1], "c.weight": table})).weights
        assert_same(weights, {"a.weight": table.T, "b.weight": table[1:, 1], "c.weight": table})
        assert all(value.is_contiguous() for value in weights.values())
        assert len({value.untyped_storage().data_ptr() for value in weights.values()}) == 3

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
    @pytest.mark.parametrize("kind", FORMATS)
    def test_other_precisions_are_kept_and_said(self, save, seeded_lstm, kind, dtype):
        checkpoint = read(save(seeded_lstm(3, 4).to(dtype).state_dict(), kind))
        assert {value.dtype for value in checkpoint.weights.values()} == {dtype}
        assert checkpoint.notes == (
            f"Some or all weights are {str(dtype).removeprefix('torch.')}; float32 is what is served.",
        )

    def test_files_are_read_side_by_side(self, save, module):
        path = save({"model": module.state_dict(), "args": argparse.Namespace(lr=0.1)})
        with ThreadPoolExecutor(8) as pool:
            for checkpoint in pool.map(read, [path] * 32):
                assert_same(checkpoint.weights, floating(module))


class TestFinding:
    NAMES = ("state_dict", "model_state_dict", "model_state", "model", "net", "module", "weights", "my_best_lstm")

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("kind", ["zip", "legacy"])
    def test_weights_are_found_beside_what_training_needs(self, save, module, kind, name):
        optimizer = stepped(module)
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 4])
        checkpoint = read(
            save(
                {
                    "epoch": 3,
                    "optimizer_state_dict": optimizer.state_dict(),
                    "opt_states": [optimizer.state_dict()],
                    "schedule": schedule.state_dict(),
                    name: module.state_dict(),
                    "rng": [1, "two", None],
                },
                kind,
            )
        )
        assert_same(checkpoint.weights, floating(module))
        assert checkpoint.notes[0] == (
            f"The weights are those under '{name}'; beside them: "
            "'epoch', 'optimizer_state_dict', 'opt_states', 'schedule', 'rng'."
        )

    def test_names_are_followed_inwards(self, save, module):
        saved = {"model": {"state_dict": module.state_dict(), "config": {"hidden": 4}}, "loss": torch.tensor(0.3)}
        checkpoint = read(save(saved))
        assert_same(checkpoint.weights, floating(module))
        assert [note.split(";")[0] for note in checkpoint.notes[:2]] == [
            "The weights are those under 'model'",
            "The weights are those under 'state_dict'",
        ]

    def test_of_two_usual_names_the_one_with_more_tensors_is_taken(self, save, module):
        saved = {"model": module.head.state_dict(), "net": module.state_dict()}
        assert_same(read(save(saved)).weights, floating(module))

    @pytest.mark.parametrize("averaged", ["ema", "model_ema", "ema_state_dict", "averaged_model"])
    def test_a_running_average_is_second_choice(self, save, module, averaged):
        saved = {averaged: Tagger().state_dict(), "tagger": module.state_dict()}
        assert_same(read(save(saved)).weights, floating(module))
        assert_same(read(save({averaged: module.state_dict()})).weights, floating(module))

    def test_modules_side_by_side_keep_their_names_in_front(self, save, seeded_lstm):
        encoder, decoder = seeded_lstm(3, 4), nn.Linear(4, 2)
        saved = {"encoder": encoder.state_dict(), "decoder": decoder.state_dict(), "epoch": 3}
        checkpoint = read(save(saved))
        assert_same(
            checkpoint.weights,
            {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
            | {f"decoder.{name}": value for name, value in decoder.state_dict().items()},
        )
        assert checkpoint.notes == ("Beside the weights: 'epoch'.",)

    def test_a_tuple_of_state_dicts_is_looked_through(self, save, module):
        assert_same(read(save((7, module.state_dict(), stepped(module).state_dict()))).weights, floating(module))

    def test_an_optimizer_is_never_taken_for_the_weights(self, save, module):
        state = stepped(module).state_dict()
        assert "holds no weights by name, only 'state', 'param_groups'" in refusal(save(state))
        assert "holds no weights by name, only 'mine'" in refusal(save({"mine": state}))

    @pytest.mark.parametrize("saved", [{}, [], {"epoch": 3}, torch.zeros(3), None, 3, {3: torch.zeros(3)}])
    @pytest.mark.parametrize("kind", ["zip", "legacy"])
    def test_a_file_without_weights_is_refused(self, save, saved, kind):
        assert "checkpoint.pt: it holds no weights by name" in refusal(save(saved, kind))

    def test_plain_data_beside_the_weights_is_kept(self, save, module):
        saved = {
            "model": module.state_dict(),
            "args": argparse.Namespace(lr=0.1, folder=pathlib.PurePosixPath("/data")),
            "best": np.float64(0.5),
            "curve": np.arange(3.0),
            "history": defaultdict(list, {"loss": [1.0, 0.5]}),
            "counts": Counter("abca"),
            "version": torch.__version__,
            "dtype": torch.float32,
            "device": torch.device("cuda:0"),
            "shape": torch.Size([3, 4]),
            "blob": b"\x00\xff",
            "nothing": (b"", np.zeros(0)),
            "sentences": {"x" * 1000: [1, 2]},
        }
        checkpoint = read(save(saved))
        assert_same(checkpoint.weights, floating(module))
        assert checkpoint.notes[0] == "Not read: objects of 'pathlib.PurePosixPath'."
        assert checkpoint.beside == {
            "args": {"lr": 0.1},
            "best": 0.5,
            "curve": [0.0, 1.0, 2.0],
            "history": {"loss": [1.0, 0.5]},
            "counts": {"a": 2, "b": 1, "c": 1},
            "version": str(torch.__version__),
            "dtype": torch.float32,
            "device": torch.device("cuda:0"),
            "shape": torch.Size([3, 4]),
            "blob": b"\x00\xff",
            "nothing": (b"", []),
            "sentences": {"x" * 1000: [1, 2]},
        }


class TestNames:
    def test_what_wraps_a_module_is_taken_from_its_names(self, save, module):
        parallel = nn.DataParallel(module)
        checkpoint = read(save(parallel.state_dict()))
        assert_same(checkpoint.weights, floating(module))
        assert checkpoint.notes[-1] == "Taken away: 'module.' from the front of every name."
        averaged = torch.optim.swa_utils.AveragedModel(module)
        assert_same(read(save(averaged.state_dict())).weights, floating(module))

    @pytest.mark.parametrize(
        "wrapped",
        ["_orig_mod.{}", "module._orig_mod.{}", "_orig_mod.module.{}", "model.{}", "net.module._orig_mod.{}"],
    )
    def test_wrappers_are_taken_away_in_any_order(self, save, module, wrapped):
        saved = {"state_dict": {wrapped.format(name): value for name, value in module.state_dict().items()}}
        assert_same(read(save(saved)).weights, floating(module))

    def test_a_compiled_part_of_a_module_has_its_plain_names(self, save, module):
        saved = {name.replace("lstm.", "lstm._orig_mod."): value for name, value in module.state_dict().items()}
        checkpoint = read(save(saved))
        assert_same(checkpoint.weights, floating(module))
        assert checkpoint.notes[-1] == "Taken away: '_orig_mod.' from the names that have it."

    def test_a_prefix_that_only_some_names_have_is_a_part_of_them(self, save):
        saved = {"model.lstm.weight": torch.ones(2), "criterion.weight": torch.ones(2)}
        assert_same(read(save(saved)).weights, saved)

    def test_a_name_that_is_all_wrapper_stays(self, save):
        assert_same(
            read(save({"model": torch.ones(2), "net": torch.ones(2)})).weights,
            {"model": torch.ones(2), "net": torch.ones(2)},
        )

    def test_names_that_become_the_same_are_refused(self, save):
        saved = {"lstm._orig_mod.weight": torch.ones(2), "lstm.weight": torch.ones(2)}
        refused = refusal(save(saved))
        assert "'lstm._orig_mod.weight' and 'lstm.weight' are both 'lstm.weight' without their wrappers" in refused

    @pytest.mark.parametrize("name", ["a\nb.weight", "\x1b[31m.weight", "\ud800", "a\x00"])
    def test_a_name_that_cannot_be_printed_is_refused_in_print(self, save, name):
        assert "is no name of a weight" in refusal(save({name: torch.ones(2)}))

    def test_a_name_without_end_is_refused(self, save):
        assert "is too long" in refusal(save({"x" * 10_000: torch.ones(2)}))


class TestReparametrized:
    @pytest.mark.parametrize("dim", [0, 1, None])
    def test_weight_norm_is_put_together(self, save, dim):
        lstm = parametrizations.weight_norm(nn.LSTM(3, 4), "weight_hh_l0", dim)
        checkpoint = read(save(lstm.state_dict()))
        torch.testing.assert_close(checkpoint.weights["weight_hh_l0"], lstm.weight_hh_l0.detach(), rtol=1e-6, atol=1e-7)
        assert set(checkpoint.weights) == set(nn.LSTM(3, 4).state_dict())
        assert checkpoint.notes == ("Put together from weight_norm's magnitude and direction: 'weight_hh_l0'.",)

    def test_weight_norm_of_before_parametrizations_is_put_together(self, save):
        weight = torch.randn(16, 4)
        saved = {"lstm.weight_hh_l0_g": weight.norm(dim=1, keepdim=True), "lstm.weight_hh_l0_v": weight * 3}
        weights = read(save(saved)).weights
        torch.testing.assert_close(weights, {"lstm.weight_hh_l0": weight})

    def test_parts_that_do_not_fit_are_refused(self, save):
        saved = {"weight_g": torch.ones(3, 1), "weight_v": torch.ones(4, 2)}
        assert "the magnitude of 'weight' has shape [3, 1], its direction [4, 2]" in refusal(save(saved))
        saved = {"weight_g": torch.ones(4, 1), "weight_v": torch.ones(4, 2), "weight": torch.ones(4, 2)}
        assert "both 'weight' and its parts" in refusal(save(saved))

    @pytest.mark.parametrize(
        ("wrap", "part"),
        [
            (parametrizations.spectral_norm, "parametrizations.weight.original"),
            (parametrizations.orthogonal, "parametrizations.weight.original"),
            (nn.utils.spectral_norm, "weight_orig"),
        ],
    )
    @pytest.mark.filterwarnings("ignore:.*spectral_norm:FutureWarning")
    def test_other_parts_of_weights_are_refused_by_name(self, save, wrap, part):
        assert f"'{part}' is a part of a reparametrized or pruned weight" in refusal(
            save(wrap(nn.Linear(4, 4)).state_dict())
        )

    @pytest.mark.parametrize("kind", ["zip", "legacy"])
    def test_a_pruned_weight_has_its_mask_applied(self, save, kind):
        lstm = nn.LSTM(3, 4)
        prune.random_unstructured(lstm, "weight_hh_l0", 0.5)
        checkpoint = read(save(lstm.state_dict(), kind))
        assert torch.equal(checkpoint.weights["weight_hh_l0"], lstm.weight_hh_l0.detach())
        assert set(checkpoint.weights) == set(nn.LSTM(3, 4).state_dict())
        assert checkpoint.notes == ("Pruned, their mask applied: 'weight_hh_l0'.",)

    def test_a_mask_that_does_not_fit_is_refused(self, save):
        saved = {"weight_orig": torch.ones(4, 2), "weight_mask": torch.ones(4, 1)}
        assert "the original of 'weight' has shape [4, 2], its mask [4, 1]" in refusal(save(saved))

    def test_a_pruned_weight_under_another_reparametrization_is_refused(self, save):
        saved = {"weight_orig": torch.ones(4, 2), "weight_mask": torch.ones(4, 2), "weight_u": torch.ones(4)}
        assert "'weight_orig' is a part of a reparametrized or pruned weight" in refusal(save(saved))

    @pytest.mark.parametrize(
        ("raw", "others", "expected"),
        [
            ("rnns.0.weight_hh_l0_raw", ["rnns.0.module.weight_hh_l0"], "rnns.0.module.weight_hh_l0"),
            ("rnns.0.weight_hh_l0_raw", ["rnns.0.module.weight_ih_l0"], "rnns.0.module.weight_hh_l0"),
            ("rnns.0.module.weight_hh_l0_raw", ["rnns.0.module.weight_ih_l0"], "rnns.0.module.weight_hh_l0"),
            ("rnn.weight_hh_l0_raw", ["rnn.weight_hh_l0"], "rnn.weight_hh_l0"),
            ("weight_hh_l1_reverse_raw", ["weight_ih_l0"], "weight_hh_l1_reverse"),
            ("weight_hh_l0_raw", ["decoder.bias"], "weight_hh_l0"),
        ],
    )
    def test_the_raw_weight_is_taken_and_not_its_masked_copy(self, save, raw, others, expected):
        weight, saved = torch.randn(8, 2), {name: torch.zeros(8, 2) for name in others}
        checkpoint = read(save({**saved, raw: weight}))
        assert torch.equal(checkpoint.weights[expected], weight)
        assert set(checkpoint.weights) == {*others, expected}
        assert f"Taken from before weight drop masked them: '{expected}'." in checkpoint.notes

    def test_a_raw_weight_of_another_shape_than_its_copy_is_refused(self, save):
        saved = {"weight_hh_l0": torch.ones(4, 2), "weight_hh_l0_raw": torch.ones(4, 1)}
        assert "'weight_hh_l0' has shape [4, 2], its raw weight [4, 1]" in refusal(save(saved))


class TestValues:
    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
    @pytest.mark.parametrize("kind", FORMATS)
    def test_what_is_no_number_is_counted_and_placed(self, save, value, kind):
        weight = torch.ones(3, 4)
        weight[1, 2] = weight[2, 0] = value
        refused = refusal(save({"lstm.weight_hh_l0": weight}, kind))
        assert "'lstm.weight_hh_l0' holds NaN or Infinity" in refused
        assert "in 2 of its 12 places, first at [1, 2]" in refused

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
    @pytest.mark.parametrize("place", [0, 7, 8, 63, 1_999_999, 2_500_000, -1])
    @pytest.mark.parametrize("contiguous", [True, False])
    def test_no_place_is_looked_past(self, save, dtype, place, contiguous):
        weight = torch.ones(3_000_000 if contiguous else 3000, dtype=dtype)
        weight[place if contiguous else place % 3000] = torch.nan
        assert "holds NaN or Infinity" in refusal(save({"w": weight if contiguous else weight.view(30, 100).T}))

    @pytest.mark.parametrize(("value", "fits"), [(3.4028235677973366e38, False), (3.4028235677973362e38, True)])
    @pytest.mark.parametrize("sign", [1, -1])
    def test_what_float32_rounds_to_its_largest_number_is_read(self, save, value, fits, sign):
        weight = torch.tensor([sign * value], dtype=torch.float64)
        assert bool(weight.float().isfinite()) is fits
        path = save({"w": weight})
        assert len(read(path).weights) == 1 if fits else refusal(path)

    def test_big_endian_archives_are_read(self, tmp_path):
        weight = torch.arange(4, dtype=torch.float32)
        with zipfile.ZipFile(tmp_path / "a.pt", "w") as file:
            file.writestr("a/data.pkl", pickled_with_storage({"weight": weight}))
            file.writestr("a/byteorder", "big")
            file.writestr("a/data/0", weight.numpy().astype(">f4").tobytes())
        assert_same(read(tmp_path / "a.pt").weights, {"weight": weight})

    def test_a_weight_too_large_for_float32_is_refused(self, save):
        assert "'bias' holds" in refusal(save({"bias": torch.tensor([1.0, 1e300], dtype=torch.float64)}))

    @pytest.mark.parametrize("dtype", [torch.int64, torch.int8, torch.bool, torch.complex64])
    @pytest.mark.parametrize("kind", FORMATS)
    def test_weights_of_other_kinds_of_numbers_are_refused_by_name(self, save, dtype, kind):
        saved = {"lstm.weight_ih_l0": torch.ones(4, 3).to(dtype)}
        assert f"'lstm.weight_ih_l0' holds {dtype}, not floating-point numbers" in refusal(save(saved, kind))

    def test_weights_without_numbers_are_refused_by_name(self, save):
        assert "'fc.bias' holds no numbers, its shape is [0]" in refusal(save({"fc.bias": torch.ones(0)}))

    def test_a_file_of_whole_numbers_only_is_refused(self, save):
        assert "holds no floating-point weights, only 'ids'" in refusal(save({"ids": torch.arange(3)}))

    def test_weights_larger_than_allowed_are_refused(self, save):
        path = save({"weight": torch.ones(1000)})
        size = path.stat().st_size
        assert len(read(path, most_bytes=size).weights) == 1
        assert f"it has {size} bytes, and at most {size - 1} are read" in refusal(path, most_bytes=size - 1)

    def test_weights_that_share_memory_are_counted_apart(self, save):
        table = torch.ones(1000)
        path = save(OrderedDict((f"w{index}", table) for index in range(10)))
        assert "its weights share memory" in refusal(path, most_bytes=20_000)


class TestFiles:
    def test_an_empty_file_is_refused(self, tmp_path):
        (tmp_path / "empty.pt").touch()
        assert "empty.pt: it is empty" in refusal(tmp_path / "empty.pt")

    def test_a_folder_and_a_missing_file_are_refused(self, tmp_path):
        assert "it cannot be read: Is a directory" in refusal(tmp_path)
        assert "none.pt: it cannot be read: No such file or directory" in refusal(tmp_path / "none.pt")
        assert "no name of a file" in refusal(tmp_path / "a\x00b")

    def test_a_loop_of_links_is_refused(self, tmp_path):
        (tmp_path / "a.pt").symlink_to(tmp_path / "b.pt")
        (tmp_path / "b.pt").symlink_to(tmp_path / "a.pt")
        assert "a.pt: it cannot be read: Too many levels of symbolic links" in refusal(tmp_path / "a.pt")

    @pytest.mark.timeout(10)
    def test_a_named_pipe_is_refused_and_not_waited_for(self, tmp_path):
        os.mkfifo(tmp_path / "pipe.pt")
        assert "pipe.pt: it is no regular file" in refusal(tmp_path / "pipe.pt")
        assert "zero: it is no regular file" in refusal(pathlib.Path("/dev/zero"))

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_a_file_that_may_not_be_read_is_refused(self, save):
        path = save({"weight": torch.ones(2)})
        path.chmod(0)
        assert "it cannot be read: Permission denied" in refusal(path)

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"\x93NUMPY\x01\x00", "like no checkpoint"),
            (b"\x89HDF\r\n\x1a\n", "like no checkpoint"),
            (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
            (b"\x80\x04\x95", "it is a pickle that torch.save did not write"),
            (b"<!DOCTYPE html>", "like no checkpoint"),
        ],
    )
    def test_other_files_are_told_from_checkpoints(self, tmp_path, content, said):
        (tmp_path / "a.pt").write_bytes(content)
        assert said in refusal(tmp_path / "a.pt")

    @pytest.mark.parametrize("kind", FORMATS)
    def test_a_file_that_was_cut_off_anywhere_is_refused(self, save, seeded_lstm, kind):
        path = save(seeded_lstm(3, 4).state_dict(), kind)
        whole = path.read_bytes()
        for kept in [*range(0, len(whole), 97), len(whole) - 1]:
            path.write_bytes(whole[:kept])
            refusal(path)

    @pytest.mark.parametrize("kind", FORMATS)
    def test_a_file_that_goes_on_after_its_end_is_refused(self, save, seeded_lstm, kind):
        path = save(seeded_lstm(3, 4).state_dict(), kind)
        path.write_bytes(path.read_bytes() + b"more")
        refusal(path)

    def test_a_long_or_strange_name_of_a_file_stays_on_one_line(self, tmp_path):
        assert "a\\n\\x1b[31m.pt: it cannot be read" in refusal(tmp_path / "a\n\x1b[31m.pt")
        assert len(refusal(tmp_path / ("x" * 200))) < 200
