"""Archives that were made to run code, to exhaust the process or to lie: one line each, nothing done."""

import json
import os
import pickle
import random
import struct
import zipfile

import pytest
import torch

from gatescope.errors import CheckpointError
from gatescope.pipeline.export import archive as archive_file
from gatescope.pipeline.export.module import ExportedModule
from gatescope.pipeline.export.read_graph import MOST_BRACKETS, MOST_NODES

LSTM_WEIGHT = "encoder.lstm.weight_ih_l0"


def refusal(path):
    with pytest.raises(CheckpointError) as refused:
        ExportedModule.load(path)
    message = str(refused.value)
    assert message.startswith(f"{path.name}: ")
    assert message.isprintable()
    assert len(message) < 900
    return message


def nodes(program):
    return program["graph_module"]["graph"]["nodes"]


def node(program, target):
    return next(each for each in nodes(program) if each["target"].endswith(target))


def call(target, *inputs, name="forged", outputs=None, **arguments):
    """A node as JSON; `inputs` and `arguments` are (name, argument)."""
    given = [*inputs, *arguments.items()]
    return {
        "target": f"torch.ops.{target}",
        "inputs": [{"name": key, "arg": value, "kind": 1} for key, value in given],
        "outputs": [{"as_tensor": {"name": name}}] if outputs is None else outputs,
        "metadata": {},
        "name": name,
    }


def inserted(*made):
    """A change that puts nodes behind all others."""

    def change(program):
        nodes(program).extend(made)

    return change


def tensor(name):
    return {"as_tensor": {"name": name}}


def test_the_archive_is_read_where_nothing_is_changed(forge):
    module = ExportedModule.load(forge())
    assert module(torch.zeros(1, 3, 3))[0].shape == (1, 3, 2)


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


class TestPickles:
    def test_a_pickled_weight_is_refused_and_not_read(self, forge, tmp_path):
        marker = tmp_path / "marker"

        def weights(config):
            config["config"][LSTM_WEIGHT]["use_pickle"] = True

        def members(content):
            content["data/weights/weight_0"] = pickle.dumps(Payload(marker))

        assert "'encoder.lstm.weight_ih_l0' is stored as a pickle" in refusal(forge(weights=weights, members=members))
        assert not marker.exists()

    def test_pickles_that_nothing_needs_are_left_alone(self, forge, tmp_path):
        marker = tmp_path / "marker"

        def members(content):
            content["data/sample_inputs/model.pt"] = content["data/constants/custom_obj_0"] = pickle.dumps(
                Payload(marker)
            )

        ExportedModule.load(forge(members=members))
        assert not marker.exists()

    @pytest.mark.parametrize("kind", ["custom_obj", "token"])
    def test_objects_of_code_are_refused(self, forge, kind):
        def program(content):
            content["graph_module"]["signature"]["input_specs"].append({kind: {"arg": {"name": "x", "class_fqn": "X"}}})

        assert f"is given a {kind}" in refusal(forge(program))


class TestZip:
    @pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/etc/evil", "a\\evil", "a//b"])
    def test_members_outside_the_folder_are_refused(self, forge, tmp_path, name):
        before = {path.name for path in tmp_path.parent.iterdir()}
        assert "which is no name" in refusal(forge(members=lambda content: content.update({name: b"x"})))
        assert {path.name for path in tmp_path.parent.iterdir()} == before
        assert [path.name for path in tmp_path.iterdir()] == ["forged.pt2"]

    def test_two_members_of_one_name_are_refused(self, forge):
        path = forge(members=lambda content: content.update({"models/MODEL.json": b"{}"}))
        assert "two members of one name" in refusal(path)

    def test_a_compressed_archive_is_refused(self, forge):
        assert "compressed" in refusal(forge(compression=zipfile.ZIP_DEFLATED))

    def test_an_encrypted_archive_is_refused(self, forge):
        path = forge()
        raw = bytearray(path.read_bytes())
        place = raw.rindex(b"PK\x01\x02")
        raw[place + 8] |= 1
        path.write_bytes(raw)
        assert "encrypted" in refusal(path)

    def test_no_truncated_archive_is_read(self, forge):
        path = forge()
        raw = path.read_bytes()
        for length in (0, 10, 100, len(raw) // 2, len(raw) - 1):
            path.write_bytes(raw[:length])
            refusal(path)

    def test_a_file_that_is_too_long_is_not_read(self, forge):
        path = forge()
        with pytest.raises(CheckpointError, match="at most 1000 are read"):
            archive_file.read(path, 1000)

    def test_other_zip_files_are_refused(self, forge, tmp_path):
        torch.save({"a": torch.zeros(2)}, tmp_path / "weights.pt")
        assert "none of torch.export.save" in refusal(tmp_path / "weights.pt")
        assert "needs one exported program" in refusal(forge(members=lambda content: content.pop("models/model.json")))

    @pytest.mark.parametrize(("name", "value"), [("byteorder", b"big"), ("archive_version", b"7"), ("byteorder", b"?")])
    def test_other_versions_and_byte_orders_are_refused(self, forge, name, value):
        assert value.decode() in refusal(forge(members=lambda content: content.update({name: value})))


class TestWeights:
    @pytest.mark.parametrize(
        "change",
        [
            {"sizes": [{"as_int": 2**40}, {"as_int": 2**20}]},
            {"sizes": [{"as_int": 17}, {"as_int": 3}]},
            {"sizes": [{"as_int": -1}, {"as_int": 3}]},
            {"sizes": [{"as_int": 16}]},
            {"strides": [{"as_int": 2**50}, {"as_int": 1}]},
            {"strides": [{"as_int": -3}, {"as_int": 1}]},
            {"strides": None},
            {"storage_offset": {"as_int": 1}},
            {"storage_offset": {"as_int": -1}},
            {"storage_offset": {"as_int": 2**63}},
            {"storage_offset": None},
            {"dtype": 8},
            {"dtype": 9},
            {"dtype": 99},
            {"dtype": "float"},
            {"layout": 1},
            {"sizes": [{"as_expr": {"expr_str": "s0"}}, {"as_int": 3}]},
            {"sizes": [{"as_int": 1}] * 20},
            {"sizes": "many"},
        ],
    )
    def test_lying_shapes_are_refused(self, forge, change):
        refusal(forge(weights=lambda config: config["config"][LSTM_WEIGHT]["tensor_meta"].update(change)))

    @pytest.mark.parametrize("name", ["../constants/tensor_0", "weight_99", "", "/etc/passwd"])
    def test_weights_lie_in_a_member_of_their_folder(self, forge, name):
        path = forge(weights=lambda config: config["config"][LSTM_WEIGHT].update(path_name=name))
        assert "which the file does not hold" in refusal(path)

    def test_weights_that_are_missing_are_named(self, forge):
        path = forge(weights=lambda config: config["config"].pop(LSTM_WEIGHT))
        assert f"reads '{LSTM_WEIGHT}', which the file does not hold" in refusal(path)

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_weights_are_finite(self, forge, value):
        def members(content):
            content["data/weights/weight_0"] = struct.pack("<f", value) + content["data/weights/weight_0"][4:]

        assert "holds NaN or Infinity" in refusal(forge(members=members))

    def test_weights_of_another_shape_than_a_recurrent_module_are_refused(self, forge):
        def weights(config):
            meta = config["config"][LSTM_WEIGHT]["tensor_meta"]
            meta.update(sizes=[{"as_int": 8}, {"as_int": 6}], strides=[{"as_int": 6}, {"as_int": 1}])

        assert "are none of an nn.LSTM" in refusal(forge(weights=weights))

    def test_views_of_one_storage_do_not_exhaust_the_memory(self, forge, monkeypatch):
        monkeypatch.setattr(archive_file, "MOST_TIMES_FILE", 0)
        assert "more than 0 times" in refusal(forge())


class TestJson:
    def test_deep_nesting_is_refused(self, forge):
        deep = b"[" * 100_000 + b"]" * 100_000
        path = forge(members=lambda content: content.update({"models/model.json": deep}))
        assert "nested too deep" in refusal(path)

    def test_many_lists_are_refused_before_they_are_made(self, forge):
        path = forge(members=lambda content: content.update({"models/model.json": b"[" * (MOST_BRACKETS + 1)}))
        assert f"more than {MOST_BRACKETS} lists" in refusal(path)

    def test_a_large_graph_is_not_read(self, forge, monkeypatch):
        monkeypatch.setattr(archive_file, "MOST_JSON_BYTES", 1000)
        assert "at most 1000 are read" in refusal(forge())

    @pytest.mark.parametrize("raw", [b"", b"{", b"\xff\xfe", b"[]", b"null", b'{"schema_version": 3}', b"{}"])
    def test_what_is_no_program_is_refused(self, forge, raw):
        refusal(forge(members=lambda content: content.update({"models/model.json": raw})))

    @pytest.mark.parametrize("major", [7, 9, None, "8", 2**70])
    def test_other_schemas_are_refused(self, forge, major):
        path = forge(lambda content: content["schema_version"].update(major=major))
        assert "export and save it again" in refusal(path)

    def test_newer_operators_are_refused(self, forge):
        assert "operators have version 99" in refusal(forge(lambda content: content["opset_version"].update(aten=99)))

    def test_too_many_nodes_are_refused(self, forge):
        path = forge(inserted(*[call("aten.relu.default", ("self", tensor("x")))] * MOST_NODES))
        assert f"at most {MOST_NODES} are run" in refusal(path)

    def test_a_graph_with_any_part_damaged_is_refused_or_read(self, forge, written):
        """Whatever stands at any place, it is told in one line or is not needed."""
        source = random.Random(0)  # noqa: S311 - reproducible
        odd = [None, -1, 2**70, "x", [], {}, [[]], {"as_int": 1}, 1.5, True, {"as_tensor": {"name": "x"}}]
        for _ in range(150):
            content = json.loads(written["models/model.json"])
            place = content["graph_module"]
            while True:
                keys = list(place) if isinstance(place, dict) else list(range(len(place)))
                if not keys:
                    break
                key = source.choice(keys)
                if not isinstance(place[key], dict | list) or source.random() < 0.15:
                    place[key] = source.choice(odd)
                    break
                place = place[key]
            raw = json.dumps(content).encode()
            path = forge(members=lambda members, raw=raw: members.update({"models/model.json": raw}))
            try:
                ExportedModule.load(path)
            except CheckpointError as error:
                assert str(error).isprintable()  # noqa: PT017 - most are refused, some are not


class TestGraph:
    def test_unknown_operators_are_all_named(self, forge):
        made = [
            call(target, ("self", tensor("x")), name=f"made{index}")
            for index, target in enumerate(("aten.nonzero.default", "evil.run.default", "aten.item.default"))
        ]
        message = refusal(forge(inserted(*made)))
        assert "'aten.nonzero.default', 'evil.run.default', 'aten.item.default'" in message

    @pytest.mark.parametrize(
        "target",
        ["os.system", "builtins.eval", "torch.ops.aten.__class__.default", "torch.load", "_operator.attrgetter"],
    )
    def test_functions_that_are_no_operators_are_refused(self, forge, target):
        made = call("x", ("a", {"as_string": "touch marker"})) | {"target": target}
        assert "are not served" in refusal(forge(inserted(made)))

    def test_subgraphs_are_refused(self, forge):
        made = call("higher_order.cond", ("graph", {"as_graph": {"name": "g", "graph": {}}}))
        assert "is given 'graph', which is not served" in refusal(forge(inserted(made)))

    def test_values_are_computed_before_they_are_read(self, forge):
        cycle = [
            call("aten.relu.default", ("self", tensor(a)), name=b)
            for a, b in (("second", "first"), ("first", "second"))
        ]
        assert "node 'first' reads 'second', which nothing before it computes" in refusal(forge(inserted(*cycle)))

    def test_values_are_computed_once(self, forge):
        made = call("aten.relu.default", ("self", tensor("x")), name="x")
        assert "node 'x' computes 'x', which is there already" in refusal(forge(inserted(made)))

    @pytest.mark.parametrize(
        "made",
        [
            call("aten.zeros.default", ("size", {"as_ints": [2**40]})),
            call("aten.zeros.default", ("size", {"as_ints": [2**31, 2**31, 2**31]})),
            call("aten.full.default", ("size", {"as_ints": [2**30]}), ("fill_value", {"as_int": 1})),
            call("aten.arange.default", ("end", {"as_int": 2**60})),
            call("aten.eye.default", ("n", {"as_int": 2**20})),
            call("aten.repeat.default", ("self", tensor("x")), ("repeats", {"as_ints": [2**30, 1, 1]})),
            call("aten.linspace.default", start={"as_int": 0}, end={"as_int": 1}, steps={"as_int": 2**40}),
            call("aten.constant_pad_nd.default", ("self", tensor("x")), ("pad", {"as_ints": [2**40, 0]})),
            call("aten.one_hot.default", ("self", tensor("x")), ("num_classes", {"as_int": 2**40})),
            call("aten.expand.default", ("self", tensor("p_fc_bias")), ("size", {"as_ints": [2**40, 2]})),
            call("aten.zeros.default", ("size", {"as_ints": [-5]})),
        ],
    )
    def test_results_beyond_the_bounds_are_refused_before_they_are_computed(self, forge, made):
        assert "node 'forged'" in refusal(forge(inserted(made)))

    def test_all_results_together_are_bounded(self, forge):
        count = 40
        made = [
            call("aten.zeros.default", ("size", {"as_ints": [2**26]}), name=f"made{index}") for index in range(count)
        ]
        last = call(
            "aten.stack.default", ("tensors", {"as_tensors": [{"name": f"made{index}"} for index in range(count)]})
        )
        assert "with which the graph holds" in refusal(forge(inserted(*made, last)))

    def test_numbers_do_not_grow_without_end(self, forge):
        made = [call("aten.sym_size.int", ("self", tensor("x")), ("dim", {"as_int": 1}), name="n0")]
        made[0]["outputs"] = [{"as_sym_int": {"as_name": "n0"}}]
        for index in range(64):
            before = {"as_sym_int": {"as_name": f"n{index}"}}
            outputs = [{"as_sym_int": {"as_name": f"n{index + 1}"}}]
            square = call("x", ("a", before), ("b", before), name=f"n{index + 1}", outputs=outputs)
            made.append(square | {"target": "_operator.mul"})
        assert "more than 64 bits" in refusal(forge(inserted(*made)))

    @pytest.mark.parametrize("name", ["x", "p_fc_weight"])
    def test_inputs_and_weights_are_never_changed(self, forge, name):
        view = call("aten.transpose.int", ("self", tensor(name)), dim0={"as_int": 0}, dim1={"as_int": 1}, name="view")
        change = call("aten.mul_.Scalar", ("self", tensor("view")), ("other", {"as_int": 2}))
        assert "changes an input or a weight in place" in refusal(forge(inserted(view, change)))

    @pytest.mark.parametrize("kind", ["buffer_mutation", "user_input_mutation", "token", "loss_output"])
    def test_a_forward_that_keeps_something_is_refused(self, forge, kind):
        def program(content):
            content["graph_module"]["signature"]["output_specs"].insert(0, {kind: {"arg": {"name": "x"}}})

        assert "only what computes and returns is served" in refusal(forge(program))

    def test_arguments_are_those_of_the_operator(self, forge):
        assert "is given 'out', which it does not take" in refusal(
            forge(inserted(call("aten.relu.default", ("self", tensor("x")), ("out", tensor("p_fc_bias")))))
        )
        assert "lacks its argument 'mat2'" in refusal(forge(inserted(call("aten.mm.default", ("self", tensor("x"))))))

    @pytest.mark.parametrize("text", ["__import__('os')", "no such mode"])
    def test_texts_are_those_that_operators_know(self, forge, text):
        made = call("aten.gelu.default", ("self", tensor("x")), approximate={"as_string": text})
        assert "which is not served" in refusal(forge(inserted(made)))

    def test_stated_shapes_are_held_against_the_graph(self, forge):
        def program(content):
            content["graph_module"]["graph"]["tensor_values"]["linear"]["sizes"][2] = {"as_int": 3}

        assert "but its graph gives" in refusal(forge(program))

    def test_a_hostile_name_stays_in_one_line(self, forge):
        made = call("aten.nonzero.default", ("self", tensor("x")), name="a\nb\x1b[31m") | {"target": "torch.ops.a\nb"}
        assert "\\n" in refusal(forge(inserted(made)))

    def test_training_is_refused(self, forge):
        def program(content):
            lstm = node(content, "lstm.input")
            for argument in lstm["inputs"]:
                if argument["name"] == "train":
                    argument["arg"] = {"as_bool": True}
                if argument["name"] == "dropout":
                    argument["arg"] = {"as_float": 0.5}

        assert "call .eval() before torch.export.export" in refusal(forge(program))
