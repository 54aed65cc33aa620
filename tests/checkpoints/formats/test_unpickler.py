"""Every protocol and every value that may stand beside weights; nothing that a file names is imported or called."""

import argparse
import builtins
import contextlib
import datetime as dt
import decimal
import enum
import fractions
import functools
import importlib
import os
import pickle
import sys
import threading
import types
from collections import Counter, OrderedDict, defaultdict, deque

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from gatescope.checkpoints.formats import checkpoint
from gatescope.checkpoints.formats.checkpoint import read
from gatescope.errors import CheckpointError
from tests.bulk import some

PROTOCOLS = (2, 3, 4, 5)
KINDS = [(kind, protocol) for kind in ("zip", "legacy") for protocol in PROTOCOLS]


class Stage(enum.Enum):
    DONE = "done"


class Tokenizer:
    def __init__(self):
        self.words = {"a": 0}


class Named(dict):
    pass


class Listed(list):
    pass


class Slotted:
    __slots__ = ("x",)

    def __init__(self):
        self.x = 1


class Keyworded:
    def __new__(cls, *, size):
        made = super().__new__(cls)
        made.size = size
        return made

    def __getnewargs_ex__(self):
        return (), {"size": 3}


@pytest.fixture
def state():
    torch.manual_seed(17)
    return nn.LSTM(3, 4).state_dict()


@pytest.fixture
def save(tmp_path):
    def write(saved, kind="zip", protocol=2):
        path = tmp_path / "a.pt"
        torch.save(saved, path, pickle_protocol=protocol, _use_new_zipfile_serialization=kind == "zip")
        return path

    return write


def assert_same(weights, expected):
    assert list(weights) == list(expected)
    assert all(torch.equal(weights[name], value) for name, value in expected.items())


PLAIN = {
    "set": {"a", "b"},
    "frozen set": frozenset({1, 2}),
    "negative key": {-100: "ignore"},
    "timestamp key": {1609459200: 3.2},
    "address key": {140178894849152: 1},
    "float key": {0.5: 1},
    "pair key": {("DE", 1): 0.3},
    "bool key": {True: "yes", False: "no"},
    "none key": {None: 0},
    "bytes key": {b"a": 0},
    "complex": 1j,
    "bytes": b"\x00\xff" * 200,
    "bytearray": bytearray(b"a" * 300),
    "no bytes": (b"", bytearray()),
    "integers": [0, -1, 255, 65535, 2**31 - 1, -(2**31), 2**63, -(2**64), 10**30],
    "text": ["", "é", "\ud800", "x" * 300],
    "floats": [0.1, float("inf")],
    "nothing": None,
    "tuples": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
    "size": torch.Size([2, 3]),
    "device": torch.device("cuda", 1),
    "dtype": [torch.float32, torch.qint8],
}

READ_AS = {
    "namespace": (types.SimpleNamespace(lr=0.1, layers=[2]), {"lr": 0.1, "layers": [2]}),
    "arguments": (argparse.Namespace(lr=0.1), {"lr": 0.1}),
    "ordered": (OrderedDict(a=1), {"a": 1}),
    "default": (defaultdict(list, a=[1]), {"a": [1]}),
    "counts": (Counter("aab"), {"a": 2, "b": 1}),
    "version": (torch.__version__, str(torch.__version__)),
    "scalars": (
        [np.float32(0.5), np.int64(-3), np.bool_(True), np.str_("é"), np.complex128(1j)],
        [0.5, -3, True, "é", 1j],
    ),
    "array": (np.arange(6.0).reshape(2, 3), [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]),
    "columns": (np.asfortranarray(np.arange(6).reshape(2, 3)), [[0, 1, 2], [3, 4, 5]]),
    "big-endian": (np.arange(3, dtype=">i4"), [0, 1, 2]),
    "texts": (np.array(["a", "bc"]), ["a", "bc"]),
    "objects": (np.array(["a", None], dtype=object), ["a", None]),
}

SET_ASIDE = {
    "datetime": (dt.datetime(2024, 5, 1), "datetime.datetime"),  # noqa: DTZ001
    "date": (dt.date(2024, 5, 1), "datetime.date"),
    "random state": (np.random.RandomState(1), "__randomstate_ctor"),
    "generator": (np.random.default_rng(1), "__generator_ctor"),
    "loss": (nn.MSELoss(), "torch.nn.modules.loss.MSELoss"),
    "enum": (Stage.DONE, f"{__name__}.Stage"),
    "object": (Tokenizer(), f"{__name__}.Tokenizer"),
    "mapping": (Named(a=1), f"{__name__}.Named"),
    "list": (Listed([1, 2]), f"{__name__}.Listed"),
    "slots": (Slotted(), f"{__name__}.Slotted"),
    "decimal": (decimal.Decimal("1.5"), "decimal.Decimal"),
    "fraction": (fractions.Fraction(1, 2), "fractions.Fraction"),
    "deque": (deque([1, 2]), "collections.deque"),
    "partial": (functools.partial(int, "3"), "functools.partial"),
    "dates": (np.array(["2024-05-01"], dtype="datetime64[D]"), None),
    "function": (torch.nn.functional.relu, None),
    "class": (Tokenizer, None),
    "method": (Tokenizer().__init__, "builtins.getattr"),
    "long": (1 << 10_000, "builtins.int"),
}


def each_of(names):
    """Each in each kind of file and by each protocol."""
    return [(name, *kind) for name in names for kind in KINDS]


class TestBeside:
    @pytest.mark.random
    @pytest.mark.parametrize(("name", "kind", "protocol"), some(each_of(PLAIN), 3))
    def test_a_plain_value_is_kept_as_it_was(self, save, state, kind, protocol, name):
        found = read(save({"model_state_dict": state, "beside": PLAIN[name]}, kind, protocol))
        assert_same(found.weights, state)
        assert found.beside == {"beside": PLAIN[name]}
        assert type(found.beside["beside"]) is type(PLAIN[name])
        assert found.notes == ("The weights are those under 'model_state_dict'; beside them: 'beside'.",)

    @pytest.mark.parametrize("protocol", PROTOCOLS)
    @pytest.mark.parametrize("name", READ_AS)
    def test_containers_and_numpy_values_become_plain_ones(self, save, state, protocol, name):
        value, expected = READ_AS[name]
        assert read(save({"model": state, "beside": value}, protocol=protocol)).beside == {"beside": expected}

    @pytest.mark.random
    @pytest.mark.parametrize(("name", "kind", "protocol"), some(each_of(SET_ASIDE), 3))
    @pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
    def test_an_object_is_set_aside_by_the_name_of_its_class(self, save, state, kind, protocol, name):
        value, expected = SET_ASIDE[name]
        found = read(save({"model_state_dict": state, "beside": value, "epoch": 3}, kind, protocol))
        assert_same(found.weights, state)
        assert found.beside == {"epoch": 3}
        assert (expected is None) != any(f"{expected}'." in note for note in found.notes)

    @pytest.mark.parametrize(("protocol", "name"), [(2, "functools.partial"), (4, f"{__name__}.Keyworded")])
    def test_an_object_may_be_made_with_keywords(self, save, state, protocol, name):
        found = read(save({"state_dict": state, "x": Keyworded(size=3)}, protocol=protocol))
        assert found.notes[0] == f"Not read: objects of '{name}'."

    def test_objects_inside_plain_data_are_left_out(self, save, state):
        beside = {"when": dt.date(2024, 5, 1), "lr": 0.1, "all": [1, Tokenizer(), (Stage.DONE,)], "x": state}
        assert read(save({"state_dict": state, "config": beside})).beside == {"config": {"lr": 0.1, "all": [1]}}

    def test_a_list_that_holds_itself_is_left_out(self, save, state):
        endless = [1]
        endless.append(endless)
        found = read(save({"state_dict": state, "endless": endless, "pair": (endless,), "epoch": 3}))
        assert found.beside["epoch"] == 3
        assert_same(found.weights, state)


class TestOptimizersOfOldPyTorch:
    @pytest.mark.parametrize("kind", ["zip", "legacy"])
    def test_parameters_may_be_keyed_by_their_address(self, save, kind):
        model = nn.ModuleDict({"lstm": nn.LSTM(4, 6, 3), "linear": nn.Linear(6, 6)})
        optimizer = torch.optim.Adam(model.parameters(), 1e-4)
        model["linear"](model["lstm"](torch.randn(2, 5, 4))[0]).pow(2).sum().backward()
        optimizer.step()
        state = optimizer.state_dict()
        old = {
            "state": {140178894849152 + 72 * key: value for key, value in state["state"].items()},
            "param_groups": [
                {**group, "params": [140178894849152 + 72 * key for key in group["params"]]}
                for group in state["param_groups"]
            ],
        }
        found = read(save({"step": 1564501, "model_state": model.state_dict(), "optimizer_state": old}, kind))
        assert_same(found.weights, model.state_dict())
        assert found.beside == {"step": 1564501}


class TestTensors:
    @pytest.mark.parametrize(("kind", "protocol"), KINDS)
    def test_every_dtype_may_stand_beside_the_weights(self, save, state, kind, protocol):
        dtypes = {value for value in vars(torch).values() if isinstance(value, torch.dtype)}
        others = {}
        for dtype in sorted(dtypes, key=str):
            try:
                others[str(dtype)] = torch.zeros(4, dtype=torch.uint8).view(dtype)
                save({"x": others[str(dtype)]}, kind, protocol)
            except (RuntimeError, TypeError, KeyError, AttributeError, NotImplementedError):  # torch cannot save it
                others.pop(str(dtype), None)
        assert len(others) > 15
        assert_same(read(save({"state_dict": state, "others": others}, kind, protocol)).weights, state)

    def test_parameters_with_attributes_are_read(self, save):
        parameter = nn.Parameter(torch.randn(3))
        parameter.note = "mine"
        tensor = torch.randn(2)
        tensor.note = "mine"
        assert_same(read(save({"w": parameter, "v": tensor})).weights, {"w": parameter, "v": tensor})

    def test_conjugated_tensors_are_no_plain_ones(self, save, state):
        conjugated = torch.ones(2, dtype=torch.complex64).conj()
        found = read(save({"state_dict": state, "x": conjugated}))
        assert found.notes[0] == "Not read: objects of 'torch.Tensor'."
        assert_same(found.weights, state)

    def test_an_optimizers_state_is_not_read_from_the_file(self, save, state, monkeypatch):
        filled = []
        fill = checkpoint.Source.fill
        monkeypatch.setattr(
            checkpoint.Source, "fill", lambda self, buffer, at: filled.append(len(buffer)) or fill(self, buffer, at)
        )
        read(save({"state_dict": state, "moments": {"optimizer": [torch.zeros(1000)] * 9}}))
        assert sum(filled) == sum(value.nbytes for value in state.values())

    def test_a_file_that_changes_later_changes_no_weight(self, save, state):
        path = save(state)
        found = read(path)
        with path.open("r+b") as file:
            file.write(bytes(path.stat().st_size))
        assert_same(found.weights, state)
        found.weights["bias_ih_l0"].zero_()  # they may be written to


class Canary:
    """Unpickling it would make a file."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(("kind", "protocol"), KINDS)
def test_a_canary_is_set_aside_and_not_run(save, state, tmp_path, kind, protocol):
    marker = tmp_path / "marker"
    canaries = [
        Canary(os.system, f"touch {marker}"),
        Canary(open, str(marker), "w"),
        Canary(exec, f"open({str(marker)!r}, 'w')"),
        Canary(pickle.loads, pickle.dumps(Canary(os.mkdir, str(marker)))),
    ]
    saved = {"state_dict": state, "x": canaries, "y": {"deep": (canaries[0],)}, "z": {canaries[1]: canaries[2]}}
    found = read(save(saved, kind, protocol))
    assert_same(found.weights, state)
    assert not marker.exists()
    assert "posix.system" in found.notes[0]
    assert found.beside == {}


@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
@pytest.mark.parametrize(("kind", "protocol"), KINDS)
def test_nothing_that_a_file_names_is_imported(save, state, tmp_path, monkeypatch, kind, protocol):
    (tmp_path / "module_of_the_file.py").write_text("raise SystemExit('imported')")
    named = types.ModuleType("module_of_the_file")
    named.Thing = type("Thing", (), {"__module__": "module_of_the_file"})
    monkeypatch.setitem(sys.modules, "module_of_the_file", named)
    things = [named.Thing(), named.Thing, nn.MSELoss(), np.arange(3), dt.date(2024, 5, 1)]
    paths = [save({"state_dict": state, "x": things}, kind, protocol)]
    read(paths[0])
    monkeypatch.delitem(sys.modules, "module_of_the_file")
    monkeypatch.syspath_prepend(tmp_path)
    asked, before = [], set(sys.modules)
    thread, import_ = threading.get_ident(), builtins.__import__

    def watched(name, *arguments, **options):
        if threading.get_ident() == thread:
            asked.append(name)
        return import_(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", watched)
    monkeypatch.setattr(importlib, "import_module", watched)
    found = read(paths[0])
    monkeypatch.undo()
    assert_same(found.weights, state)
    assert not [name for name in asked if name.startswith(("module_of_the_file", "datetime", "torch.nn"))]
    assert set(sys.modules) - before == set()


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False),
    st.complex_numbers(allow_nan=False),
    st.text(max_size=20),
    st.binary(max_size=20),
)
KEYS = st.one_of(SCALARS, st.tuples(SCALARS, SCALARS))
DATA = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=4),
        st.dictionaries(KEYS, inner, min_size=1, max_size=4),
        st.tuples(inner, inner),
        st.sets(KEYS, max_size=4),
        st.frozensets(KEYS, max_size=4),
    ),
    max_leaves=20,
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(beside=DATA, kind=st.sampled_from(["zip", "legacy"]), protocol=st.sampled_from(PROTOCOLS))
def test_any_plain_data_may_stand_beside_the_weights(save, state, beside, kind, protocol):
    found = read(save({"state_dict": state, "beside": beside}, kind, protocol))
    assert_same(found.weights, state)
    assert found.beside == {"beside": beside}


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), kind=st.sampled_from(["zip", "legacy"]), protocol=st.sampled_from((4, 5)))
def test_changed_bytes_of_newer_protocols_are_read_or_refused(save, state, data, kind, protocol):
    beside = {"a": {1, 2}, "b": frozenset({3}), "c": bytearray(b"x"), "d": np.arange(3), "e": Tokenizer()}
    path = save({"state_dict": state, "beside": beside}, kind, protocol)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, 900))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    with contextlib.suppress(CheckpointError):
        read(path)
