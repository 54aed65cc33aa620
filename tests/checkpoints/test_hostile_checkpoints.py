"""Files that were made to run code, to exhaust the process or to look like others: one line each, nothing done."""

import builtins
import json
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from gatescope.checkpoints.formats.checkpoint import read
from gatescope.checkpoints.formats.unpickler import MOST_INSTRUCTIONS, MOST_MARKS
from gatescope.errors import CheckpointError
from gatescope.zip_file import MOST_MEMBERS
from tests import bulk

BEGINS = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."
"""The legacy format's first two pickles, by torch.save's own protocol."""
SYSTEM = b"\x80\x02}q\x00."
"""The legacy format's third pickle."""
FOUR = struct.pack("<q", 4) + bytes(16)
"""Its storage of four numbers."""


def refusal(path):
    with pytest.raises(CheckpointError) as refused:
        read(path)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 600
    return str(refused.value)


def text(value):
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value):
    return b"\x8a\x10" + value.to_bytes(16, "little", signed=True)


def storage(key="0", numel=4, kind=b"Float", rest=b""):
    return (
        b"("
        + text("storage")
        + b"ctorch\n"
        + kind
        + b"Storage\n"
        + text(key)
        + text("cpu")
        + number(numel)
        + rest
        + b"tQ"
    )


def tensor(held, offset=0, shape=(4,), strides=(1,)):
    shapes = b"".join(b"(" + b"".join(map(number, sizes)) + b"t" for sizes in (shape, strides))
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + held
        + number(offset)
        + shapes
        + b"\x89ccollections\nOrderedDict\n)RtR"
    )


def saved(name, value):
    """A pickle of {name: value}."""
    return b"\x80\x02}" + text(name) + value + b"s."


@pytest.fixture
def archive(tmp_path):
    """A zip file around this pickle, with four numbers as storage 0."""

    def write(pickled, data=None, **options):
        path = tmp_path / "hostile.pt"
        with zipfile.ZipFile(path, "w", **options) as file:
            file.writestr("archive/data.pkl", pickled)
            file.writestr("archive/version", "3\n")
            for key, numbers in ({"0": bytes(16)} if data is None else data).items():
                file.writestr(f"archive/data/{key}", numbers)
        return path

    return write


@pytest.fixture
def legacy(tmp_path):
    """A file of the format before zip around this pickle."""

    def write(pickled, keys=("0",), data=FOUR):
        path = tmp_path / "hostile.pt"
        path.write_bytes(BEGINS + SYSTEM + pickled + b"\x80\x02](" + b"".join(map(text, keys)) + b"e." + data)
        return path

    return write


def test_what_is_made_here_is_read_where_nothing_is_wrong(archive):
    assert torch.equal(read(archive(saved("weight", tensor(storage())))).weights["weight"], torch.zeros(4))


class Call:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class State:
    """Pickles as an object with a state."""

    def __init__(self):
        self.x = 1


NAMES = {os.system: "posix.system", builtins.eval: "builtins.eval", builtins.exec: "builtins.exec"}
KINDS = [(new, protocol) for new in (True, False) for protocol in (2, 3, 4, 5)]


class TestCode:
    @pytest.mark.parametrize(("new", "protocol"), KINDS)
    @pytest.mark.parametrize("function", NAMES)
    def test_a_call_is_set_aside_by_name_and_not_made(self, tmp_path, function, new, protocol):
        marker = tmp_path / "marker"
        command = f"touch {marker}" if function is os.system else f"open({str(marker)!r}, 'w').close()"
        path = tmp_path / "hostile.pt"
        weights, options = nn.LSTM(3, 4).state_dict(), {"pickle_protocol": protocol}
        calls = [Call(function, command), {3: Call(function, command)}, {Call(function, command)}]
        saved = {"model": weights, "x": calls}
        torch.save(saved, path, _use_new_zipfile_serialization=new, **options)
        checkpoint = read(path)
        assert not marker.exists()
        assert checkpoint.notes[0] == f"Not read: objects of '{NAMES[function]}'."
        assert all(torch.equal(checkpoint.weights[name], value) for name, value in weights.items())
        assert checkpoint.beside == {}

    @pytest.mark.parametrize(
        "function", [getattr, subprocess.Popen, shutil.rmtree, torch.hub.load, re.compile, print, open]
    )
    def test_whatever_is_called_is_no_weight(self, tmp_path, function):
        torch.save({"lstm.weight": Call(function, "x")}, tmp_path / "hostile.pt")
        assert f"{function.__name__}', which could run code and is not read" in refusal(tmp_path / "hostile.pt")
        torch.save({"x": Call(function, "x")}, tmp_path / "hostile.pt")
        assert f"{function.__name__}')" in refusal(tmp_path / "hostile.pt")

    def test_an_object_of_an_unknown_class_is_named(self, tmp_path):
        torch.save({"model": nn.LSTM(3, 4).state_dict(), "config": State()}, tmp_path / "hostile.pt")
        checkpoint = read(tmp_path / "hostile.pt")
        assert checkpoint.notes[0] == f"Not read: objects of '{State.__module__}.State'."
        assert (len(checkpoint.weights), checkpoint.beside) == (4, {})

    @pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
    @pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
    def test_a_whole_module_is_refused_with_how_to_save_its_weights(self, tmp_path, new):
        torch.save({"model": nn.Sequential(nn.Linear(3, 4))}, tmp_path / "a.pt", _use_new_zipfile_serialization=new)
        assert "holds a whole pickled module, which would run code when it is read" in refusal(tmp_path / "a.pt")
        assert 'torch.save(model.state_dict(), "weights.pt")' in refusal(tmp_path / "a.pt")

    def test_torchscript_is_refused_with_how_to_save_its_weights(self, tmp_path):
        with pytest.warns(DeprecationWarning, match="torch.jit"):
            torch.jit.save(torch.jit.script(nn.Linear(3, 4)), tmp_path / "a.pt")
        assert "holds a TorchScript program, which would run code when it is read" in refusal(tmp_path / "a.pt")

    @pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda eye: eye.to_sparse(), "'lstm.weight' is a sparse tensor"),
            (lambda eye: eye.to("meta"), "'lstm.weight' is a tensor on the meta device"),
            (lambda eye: torch.quantize_per_tensor(eye, 0.1, 0, torch.qint8), "it holds quantised weights"),
            (lambda eye: eye.to(torch.float8_e4m3fn), "'lstm.weight' holds torch.float8_e4m3fn, a precision that"),
            (lambda eye: eye.to(torch.uint16), "'lstm.weight' holds torch.uint16, not floating-point numbers"),
        ],
        ids=["sparse", "meta", "quantized", "float8", "uint16"],
    )
    def test_tensors_that_are_not_plain_are_no_weights(self, tmp_path, change, said):
        torch.save({"lstm.weight": change(torch.eye(3))}, tmp_path / "a.pt")
        assert said in refusal(tmp_path / "a.pt")
        torch.save({"state_dict": nn.LSTM(3, 4).state_dict(), "y": change(torch.eye(3))}, tmp_path / "a.pt")
        assert len(read(tmp_path / "a.pt").weights) == 4

    def test_a_protocol_before_2_is_refused(self, tmp_path):
        torch.save({"weight": torch.ones(2)}, tmp_path / "a.pt", pickle_protocol=1)
        assert "which torch.save does not write" in refusal(tmp_path / "a.pt")


DEEP = b")" + b"\x85" * 200_000
"""A tuple in a tuple in a tuple …"""
DOUBLED = b")" + b"q\x00h\x00\x86" * 100
"""A tuple of 2¹⁰⁰ tuples."""
MERSENNE = 2**61 - 1

NO_WEIGHTS = "it holds no weights by name, only 'weight'"
DAMAGED = "its pickle is damaged"


def length(count):
    return struct.pack("<Q", count)


GREEDY = {
    "bytes without end": (b"c__builtin__\nbytearray\n" + number(10**12) + b"\x85R", "object of 'builtins.bytearray'"),
    "a tensor by its class": (b"ctorch\nFloatTensor\n" + number(10**12) + b"\x85R", "object of 'torch.FloatTensor'"),
    "a storage by its class": (b"ctorch.storage\nUntypedStorage\n" + number(10**12) + b"\x85R", "UntypedStorage'"),
    "a storage type called": (b"ctorch\nFloatStorage\n" + number(10**12) + b"\x85R", "object of 'torch.FloatStorage'"),
    "another codec": (b"c_codecs\nencode\n" + text("x") + text("hex") + b"\x86R", "object of '_codecs.encode'"),
    "copies of a text": (
        b"](" + text("x" * 2**20) + b"q\x00" + (b"c_codecs\nencode\nh\x00" + text("latin1") + b"\x86R") * 80 + b"e",
        "its pickle makes objects of more than",
    ),
    "copies of bytes": (
        b"](B"
        + struct.pack("<I", 2**20)
        + bytes(2**20)
        + b"q\x00"
        + b"c__builtin__\nbytearray\nh\x00\x85R" * 80
        + b"e",
        "its pickle makes objects of more than",
    ),
    "empty containers": (b"](" + b"}" * 400_000 + b"e", "its pickle makes objects of more than"),
    "copies of pairs": (
        b"](](" + b"NN\x86" * 10_000 + b"eq\x00" + b"ccollections\nOrderedDict\nh\x00\x85R" * 100 + b"e",
        "its pickle makes objects of more than",
    ),
    "one mapping many times": (
        b"](}("
        + b"".join(text(str(key)) + b"N" for key in range(10_000))
        + b"uq\x00"
        + b"ccollections\nCounter\nh\x00\x85R" * 100
        + b"e",
        NO_WEIGHTS,
    ),
    "a key that hashes too deep": (b"}" + DEEP + b"Ns", NO_WEIGHTS),
    "a key that hashes too long": (b"}" + DOUBLED + b"Ns", NO_WEIGHTS),
    "keys that hash alike": (
        b"}(" + b"".join(number(MERSENNE * key) + b"N" for key in range(1, 50_000)) + b"u",
        NO_WEIGHTS,
    ),
    "a set": (b"c__builtin__\nset\n](" + DOUBLED + b"e\x85R", NO_WEIGHTS),
    "a new set": (b"\x8f(" + DOUBLED + b"\x90", NO_WEIGHTS),
    "a frozen set": (b"(" + DOUBLED + b"\x91", NO_WEIGHTS),
    "an integer without end": (b"\x8b" + struct.pack("<I", 2**20) + b"\x7f" * 2**20, "object of 'builtins.int'"),
    "an integer that is not there": (b"\x8b" + struct.pack("<I", 2**31 - 1), DAMAGED),
    "text that is not there": (b"\x8d" + length(2**62), DAMAGED),
    "bytes that are not there": (b"\x8e" + length(2**40), DAMAGED),
    "a bytearray that is not there": (b"\x96" + length(2**40), DAMAGED),
    "a frame that is not there": (b"\x95" + length(2**40), DAMAGED),
    "a memo without end": (b"Nr" + struct.pack("<I", 2**32 - 1), DAMAGED),
    "a memo with gaps": (b"Nr" + struct.pack("<I", MOST_INSTRUCTIONS - 1) + b"h\x02", DAMAGED),
    "a name without end": (
        text("x" * 2**20) + b"q\x000](" + b"h\x00h\x00\x93" * 50_000 + b"e0" + b"h\x00h\x00\x93)R",
        "object of 'xxxx",
    ),
    "a name that is no text": (b"NN\x93", DAMAGED),
    "an array that is not there": (
        b"cnumpy.core.multiarray\n_reconstruct\n)R(K\x01"
        + number(10**12)
        + b"\x85cnumpy\ndtype\n"
        + text("f8")
        + b"\x85R\x89C\x00tb",
        NO_WEIGHTS,
    ),
    "an ordered copy": (b"ccollections\nOrderedDict\n]\x85R", NO_WEIGHTS),
    "arguments without end": (b"cargparse\nNamespace\n(" + b"N" * 1000 + b"tR", NO_WEIGHTS),
    "a tensor as arguments": (b"cargparse\nNamespace\n" + tensor(storage()) + b"R", DAMAGED),
    "a call of what is no class": (b"N)R", DAMAGED),
    "a registered extension": (b"\x82\x01", "has the instruction EXT1"),
    "a buffer from elsewhere": (b"\x97", "has the instruction NEXT_BUFFER"),
    "a mark without end": (b"(" * (MOST_MARKS + 1), f"nested more than {MOST_MARKS} levels deep"),
    "instructions without end": (
        b"](" + b"N" * MOST_INSTRUCTIONS + b"e",
        f"more than {MOST_INSTRUCTIONS} instructions",
    ),
    "a mapping that is a tensor": (tensor(storage()) + text("x") + b"Ns", DAMAGED),
    "a state for a tensor": (tensor(storage()) + b"(" + storage() + b"tb", DAMAGED),
    "a stack that is empty": (b"000", DAMAGED),
    "a memo that is empty": (b"h\x09", DAMAGED),
    "an unknown instruction": (b"\xff", DAMAGED),
    "a persistent module": (b"(" + text("module") + b"NNNtQ", "holds a whole pickled module"),
    "a protocol to come": (b"\x80\x06", "pickled with protocol 6"),
}

LYING = {
    "numbers that the file does not have": (
        tensor(storage(numel=10**12), shape=(10**12,)),
        "declares 4000000000000 bytes",
    ),
    "a storage that the file does not have": (tensor(storage(key="7")), "where the archive has none"),
    "a storage outside the archive": (tensor(storage(key="../version")), "where the archive has none"),
    "two sizes of one storage": (b"(" + storage() + storage(numel=10**9) + b"t", "its pickle is damaged"),
    "two types of one storage": (b"(" + storage() + storage(kind=b"Double") + b"t", "its pickle is damaged"),
    "fewer numbers than none": (storage(numel=-4), "its pickle is damaged"),
    "a view beyond the storage": (tensor(storage(), shape=(5,)), "shape [5] lies outside its storage of 4 numbers"),
    "a view that begins beyond it": (tensor(storage(), offset=1), "lies outside its storage"),
    "a view that strides beyond it": (tensor(storage(), shape=(2,), strides=(4,)), "lies outside its storage"),
    "a view that begins before it": (tensor(storage(), offset=-1), "in a way that torch.save does not write"),
    "a negative stride": (tensor(storage(), strides=(-1,)), "in a way that torch.save does not write"),
    "a shape that overflows": (tensor(storage(), shape=(2**62, 2**62), strides=(0, 0)), "is an expanded view"),
    "one number, a billion times": (
        tensor(storage(), shape=(10**9,), strides=(0,)),
        "is an expanded view of 4 numbers",
    ),
    "more strides than sizes": (tensor(storage(), strides=(1, 1)), "in a way that torch.save does not write"),
    "dimensions without end": (tensor(storage(), shape=(1,) * 99, strides=(1,) * 99), "in a way that torch.save"),
}


class TestPickles:
    @pytest.mark.timeout(20)
    @pytest.mark.parametrize("case", [*GREEDY, *LYING])
    def test_what_asks_for_too_much_is_refused_before_it_gets_it(self, archive, case):
        value, said = (GREEDY | LYING)[case]
        assert said in refusal(archive(saved("weight", value)))

    @pytest.mark.timeout(20)
    @pytest.mark.parametrize("case", GREEDY)
    def test_what_asks_for_too_much_is_refused_in_old_files_too(self, legacy, case):
        value, said = GREEDY[case]
        if "Storage\n" not in str(value):
            assert said in refusal(legacy(saved("weight", value), keys=(), data=b""))

    @pytest.mark.timeout(20)
    @pytest.mark.parametrize(
        "value",
        [DEEP, DOUBLED, b"]q\x00h\x00a", b"}q\x00" + text("self") + b"h\x00s", b"]" * 20_000 + b"a" * 19_999],
        ids=["deep", "doubled", "list of itself", "mapping of itself", "deep lists"],
    )
    def test_what_has_no_end_is_not_walked_to_its_end(self, archive, value):
        assert "it holds no weights by name" in refusal(archive(b"\x80\x02}" + text("x") + value + b"s."))

    @pytest.mark.timeout(20)
    def test_mappings_that_double_are_not_walked_twice(self, archive):
        levels = b"".join(b"}q\x01" + text("a") + b"h\x00s" + text("b") + b"h\x00sq\x00" for _ in range(100))
        start = b"}q\x00" + text("weight") + tensor(storage()) + b"s"
        assert len(read(archive(b"\x80\x02(" + start + levels + b"t.")).weights) == 1

    @pytest.mark.timeout(20)
    def test_many_views_of_the_same_numbers_are_counted_each(self, archive):
        mib = 2**18
        view = storage(numel=mib) + b"q\x00"
        first = text("w") + tensor(view, shape=(mib,))
        more = b"".join(text(f"w{index}") + tensor(b"h\x00", shape=(mib,)) for index in range(3000))
        path = archive(b"\x80\x02}(" + first + more + b"u.", {"0": bytes(4 * mib)})
        assert "its weights share memory" in refusal(path)

    def test_names_in_messages_are_printable_and_short(self, archive):
        refused = refusal(archive(saved("x", b"c" + b"\x1b[31m" * 500 + b"\nname\n)R")))
        assert "objects of '\\x1b[31m" in refused


class TestLegacy:
    def test_storages_that_the_file_does_not_fill_are_refused(self, legacy):
        # torch would leave in them whatever lay in memory
        whole = saved("weight", tensor(storage(rest=b"N")))
        assert torch.equal(read(legacy(whole)).weights["weight"], torch.zeros(4))
        assert "damaged or cut off" in refusal(legacy(whole, keys=()))
        assert "damaged or cut off" in refusal(legacy(whole, keys=("0", "0")))
        assert "damaged or cut off" in refusal(legacy(whole, keys=("1",)))
        assert "damaged or cut off" in refusal(legacy(whole, data=struct.pack("<q", 3) + bytes(12)))
        assert "damaged or cut off" in refusal(legacy(whole, data=struct.pack("<q", 4) + bytes(8)))

    def test_numbers_that_the_file_does_not_have_are_refused(self, legacy):
        claimed = tensor(storage(numel=10**12, rest=b"N"), shape=(10**12,))
        assert "damaged or cut off" in refusal(legacy(saved("weight", claimed), data=struct.pack("<q", 10**12)))

    def test_views_of_storages_are_refused(self, legacy):
        assert "its pickle is damaged" in refusal(legacy(saved("weight", tensor(storage(rest=b"(NNNt")))))


class TestArchives:
    WHOLE = saved("weight", tensor(storage()))

    def test_a_zip_bomb_is_refused_before_it_is_unpacked(self, archive):
        path = archive(self.WHOLE, {"0": bytes(64 * 2**20)}, compression=zipfile.ZIP_DEFLATED)
        assert path.stat().st_size < 100_000
        assert "it is a compressed zip file" in refusal(path)

    def test_members_that_overlap_are_refused(self, archive):
        path = archive(self.WHOLE, {str(index): bytes(64) for index in range(4)})
        directory = path.read_bytes()
        offset = directory.rindex(b"PK\x01\x02") + 42
        path.write_bytes(directory[:offset] + struct.pack("<I", 0) + directory[offset + 4 :])
        assert "its zip directory is damaged" in refusal(path)

    @pytest.mark.parametrize(
        "names", [("archive/data.pkl",), ("archive/DATA.pkl",), ("other/data.pkl",), ("data.pkl",)]
    )
    def test_members_that_could_be_taken_for_others_are_refused(self, archive, names):
        path = archive(self.WHOLE)
        with zipfile.ZipFile(path, "a") as file:
            for name in names:
                if name == "archive/data.pkl":
                    with pytest.warns(UserWarning, match="Duplicate name"):
                        file.writestr(name, self.WHOLE)
                else:
                    file.writestr(name, self.WHOLE)
        assert "not one that torch.save wrote" in refusal(path)

    def test_a_zip_file_of_something_else_is_refused(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "a.pt", "w") as file:
            file.writestr("../../etc/passwd", "x")
        assert "not one that torch.save wrote" in refusal(tmp_path / "a.pt")

    def test_a_directory_that_claims_too_many_members_is_not_read(self, archive):
        path = archive(self.WHOLE)
        whole = path.read_bytes()
        length, offset = struct.unpack("<2L", whole[-10:-2])
        end64 = struct.pack(
            "<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, MOST_MEMBERS + 1, MOST_MEMBERS + 1, length, offset
        )
        locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, offset + length, 1)
        path.write_bytes(whole[:-22] + end64 + locator + whole[-22:])
        assert f"lists {MOST_MEMBERS + 1} members" in refusal(path)

    @pytest.mark.parametrize(
        ("name", "content"), [(".format_version", b"\xff"), ("version", b"9" * 50), ("byteorder", b"x")]
    )
    def test_records_that_torch_cannot_read_are_refused_in_one_line(self, tmp_path, name, content):
        with zipfile.ZipFile(tmp_path / "a.pt", "w") as file:
            file.writestr("a/data.pkl", self.WHOLE)
            file.writestr("a/data/0", bytes(16))
            if name != "version":
                file.writestr("a/version", "3\n")
            file.writestr(f"a/{name}", content)
        if name == ".format_version":
            read(tmp_path / "a.pt")
        else:
            assert "a.pt: it is damaged (" in refusal(tmp_path / "a.pt")


class TestSafetensors:
    def write(self, path, header, data=b"", length=None):
        raw = header if isinstance(header, bytes) else json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(raw) if length is None else length) + raw + data)
        return path

    @pytest.mark.parametrize(
        "entry",
        [
            {"dtype": "F32", "shape": [4], "data_offsets": [0, 1600]},
            {"dtype": "F32", "shape": [400], "data_offsets": [0, 16]},
            {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 16]},
            {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]},
            {"dtype": "F32", "shape": [3], "data_offsets": [4, 16]},
            {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]},
            {"dtype": "object", "shape": [4], "data_offsets": [0, 16]},
            {"shape": [4]},
            [],
        ],
    )
    def test_a_header_that_does_not_fit_the_numbers_is_refused(self, tmp_path, entry):
        path = self.write(tmp_path / "a.safetensors", {"weight": entry}, bytes(16))
        assert "a.safetensors: it is damaged (" in refusal(path)

    @pytest.mark.parametrize("length", [2**63, 2**40, 1000])
    def test_a_header_longer_than_its_file_is_refused(self, tmp_path, length):
        path = self.write(tmp_path / "a.safetensors", {}, bytes(16), length)
        assert f"its header says that it has {length} bytes" in refusal(path)

    @pytest.mark.parametrize("header", [b"{" * 100_000, b'{"a":' + b"[" * 100_000, b"{}", b"{nan}", b'{"\xff": 1}'])
    def test_a_header_that_is_not_one_is_refused(self, tmp_path, header):
        refusal(self.write(tmp_path / "a.safetensors", header))

    def test_float8_is_refused_by_name(self, tmp_path):
        save_file({"lstm.weight": torch.ones(3).to(torch.float8_e4m3fn)}, tmp_path / "a.safetensors")
        assert "'lstm.weight' holds torch.float8_e4m3fn" in refusal(tmp_path / "a.safetensors")


@pytest.mark.random
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_a_file_with_bytes_changed_is_read_or_refused_and_nothing_else(tmp_path, kind):
    weights, path = nn.LSTM(2, 3).state_dict(), tmp_path / "a.pt"
    if kind == "safetensors":
        save_file(weights, path)
    else:
        torch.save({"model": weights, "epoch": 1}, path, _use_new_zipfile_serialization=kind == "zip")
    whole, choose = path.read_bytes(), random.Random(0)  # noqa: S311 - no secret
    refusals, count = [], bulk.number(100, 2000)
    for _ in range(count):
        changed = bytearray(whole)
        for _ in range(choose.choice((1, 1, 2, 8))):
            changed[choose.randrange(len(whole))] = choose.choice(
                (0, 1, 0x7F, 0x80, 0xFF, choose.randrange(256), *b"(tRQhc}]s.b")
            )
        path.write_bytes(changed)
        try:
            read(path)
        except CheckpointError as error:
            refusals.append(str(error))
    assert 0 < len(refusals) < count
    assert all(map(str.isprintable, refusals))


LIMITED = """
import resource, sys
from pathlib import Path
from gatescope.errors import CheckpointError
from gatescope.checkpoints.formats.checkpoint import read

read(Path(sys.argv[1]))  # what torch imports when it first loads is not the files' fault
held = next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmSize" in line)
resource.setrlimit(resource.RLIMIT_AS, (held * 1024 + 256 * 2**20,) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (40, 40))
for path in sorted(Path(sys.argv[2]).iterdir()):
    try:
        read(path)
    except CheckpointError as error:
        print(error)
print("memory", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_a_process_of_little_memory_survives_all_of_them(tmp_path, archive):
    """None of them takes memory before it is refused: no refusal says that there was none."""
    hostile = tmp_path / "hostile"
    hostile.mkdir()
    for index, (value, _) in enumerate([*GREEDY.values(), *LYING.values()]):
        archive(saved("weight", value)).rename(hostile / f"{index}.pt")
    bomb = archive(saved("weight", tensor(storage())), {"0": bytes(300 * 2**20)}, compression=zipfile.ZIP_DEFLATED)
    bomb.rename(hostile / "bomb.pt")
    torch.save(nn.LSTM(2, 3).state_dict(), tmp_path / "whole.pt")
    command = [sys.executable, "-W", "error", "-c", LIMITED, tmp_path / "whole.pt", hostile]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    *refusals, _ = done.stdout.splitlines()
    assert len(refusals) == len(GREEDY) + len(LYING) + 1
    assert not [line for line in refusals if "memory (" in line or "allocate" in line or "MemoryError" in line]
