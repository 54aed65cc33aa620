"""Files that were made to harm: each is refused in one line, runs nothing and leaves nothing behind."""

import contextlib
import json
import struct
import subprocess
import zipfile

import h5py
import numpy as np
import pytest

from gatescope.checkpoints.keras import hdf5
from gatescope.errors import CheckpointError
from tests.bulk import number
from tests.checkpoints.keras.files import LSTM, PLACES, layer, sequential, write_h5, write_keras
from tests.checkpoints.keras.files import hdf5 as hdf5_of

CONFIG = sequential(LSTM)
WEIGHTS = {"layers/lstm/cell": PLACES["layers/lstm/cell"]}
KERNEL, RECURRENT, BIAS = WEIGHTS["layers/lstm/cell"]


@pytest.fixture
def refused(tmp_path, imported):
    """`refused(file, message)`: the import says this and leaves nothing."""

    def check(file, message):
        with pytest.raises(CheckpointError, match=message) as error:
            imported(file)
        assert str(error.value).isprintable()
        assert len(str(error.value)) < 600
        assert not (tmp_path / "models").exists()

    return check


@pytest.fixture
def with_hdf5(tmp_path):
    """`with_hdf5(make)`: a `.keras` file whose HDF5 part `make(file, group)` has filled."""

    def write(make):
        path = tmp_path / "weights.h5"
        with h5py.File(path, "w") as file:
            group = file.create_group("layers/lstm/cell/vars")
            make(file, group)
        with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
            archive.writestr("metadata.json", json.dumps({"keras_version": "3.15.1"}))
            archive.writestr("config.json", json.dumps(CONFIG))
            archive.write(path, "model.weights.h5")
        return tmp_path / "m.keras"

    return write


def others(group):
    group["1"], group["2"] = RECURRENT, BIAS


class TestHdf5:
    def test_external_links_are_not_followed(self, with_hdf5, refused, tmp_path):
        with h5py.File(tmp_path / "secret.h5", "w") as file:
            file["x"] = KERNEL

        def make(_, group):
            group["0"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/x")
            others(group)

        refused(with_hdf5(make), "'layers/lstm/cell/vars/0' is a link to somewhere else, which is not followed")

    def test_soft_links_are_not_followed(self, with_hdf5, refused):
        def make(file, group):
            file["elsewhere"] = KERNEL
            group["0"] = h5py.SoftLink("/elsewhere")
            others(group)

        refused(with_hdf5(make), "is a link to somewhere else")

    def test_hard_links_to_one_array_are_refused(self, with_hdf5, refused):
        def make(_, group):
            group["0"] = KERNEL
            group["0 again"] = group["0"]
            others(group)

        refused(with_hdf5(make), "stands in it twice")

    def test_groups_in_a_circle_are_refused(self, with_hdf5, refused):
        def make(file, group):
            others(group)
            group["again"] = file["layers"]

        refused(with_hdf5(make), "stands in it twice")

    def test_arrays_in_other_files_are_not_read(self, with_hdf5, refused, tmp_path):
        (tmp_path / "secret.bin").write_bytes(b"secret" * 1000)

        def make(_, group):
            group.create_dataset("0", KERNEL.shape, "f4", external=[(str(tmp_path / "secret.bin"), 0, KERNEL.nbytes)])
            others(group)

        refused(with_hdf5(make), "is compressed, in chunks or in another file")

    def test_virtual_arrays_are_not_read(self, with_hdf5, refused, tmp_path):
        with h5py.File(tmp_path / "source.h5", "w") as file:
            file["x"] = KERNEL

        def make(_, group):
            virtual = h5py.VirtualLayout(shape=KERNEL.shape, dtype="f4")
            virtual[:] = h5py.VirtualSource(str(tmp_path / "source.h5"), "x", shape=KERNEL.shape)
            group.create_virtual_dataset("0", virtual)
            others(group)

        refused(with_hdf5(make), "is compressed, in chunks or in another file")

    def test_compressed_arrays_are_refused_before_they_grow(self, with_hdf5, refused):
        def make(_, group):
            group.create_dataset("0", data=np.zeros((5_000, 5_000), np.float32), compression="gzip")
            others(group)

        refused(with_hdf5(make), "is compressed, in chunks or in another file")

    @pytest.mark.parametrize("size", [10**5, 10**9])
    def test_arrays_larger_than_the_file_are_refused(self, with_hdf5, refused, size):
        def make(_, group):
            plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            plan.set_alloc_time(h5py.h5d.ALLOC_TIME_LATE)
            space = h5py.h5s.create_simple((size, 1000))
            h5py.h5d.create(group.id, b"0", h5py.h5t.IEEE_F32LE, space, plan)
            others(group)

        refused(with_hdf5(make), r"is said to have \d+ bytes of numbers, which the file does not have")

    def test_empty_chunks_are_refused(self, with_hdf5, refused):
        def make(_, group):
            group.create_dataset("0", (10**6, 10**6), "f4", chunks=(1000, 1000))
            others(group)

        refused(with_hdf5(make), "is compressed, in chunks or in another file")

    @pytest.mark.parametrize(
        "values",
        [
            np.zeros(3, [("a", "f4"), ("b", "f4")]),
            np.array([b"text"]),
            np.zeros(3, np.complex64),
            np.zeros(3, bool),
        ],
        ids=["compound", "text", "complex", "enumeration"],
    )
    def test_what_is_no_plain_number_is_refused(self, with_hdf5, refused, values):
        def make(_, group):
            group["0"] = values
            others(group)

        refused(with_hdf5(make), "'layers/lstm/cell/vars/0' holds no plain numbers")

    def test_references_are_refused(self, with_hdf5, refused):
        def make(file, group):
            group.create_dataset("0", (1,), dtype=h5py.ref_dtype)[0] = file.ref
            others(group)

        refused(with_hdf5(make), "holds no plain numbers")

    def test_named_types_are_refused(self, with_hdf5, refused):
        def make(file, group):
            file["type"] = np.dtype("f4")
            others(group)

        refused(with_hdf5(make), "'type' is a named type")

    def test_deep_groups_are_refused(self, with_hdf5, refused):
        def make(file, group):
            others(group)
            file.create_group("/".join(["deep"] * 100))

        refused(with_hdf5(make), "it is nested deeper than 32")

    def test_texts_that_are_repeated_without_end_take_no_memory(self, tmp_path, refused):
        """Each entry of the list is the same text; read one by one they would fill the memory."""
        file = write_h5(tmp_path / "m.h5", CONFIG, {"lstm": {}})
        with h5py.File(file, "a") as opened:
            names = np.array(["x"] * 2000, dtype=object)
            opened["model_weights/lstm"].attrs.create("weight_names", names, dtype=h5py.string_dtype())
        refused(file, "the file has 'x'")

    def test_an_endless_list_of_texts_is_refused(self, tmp_path, refused):
        file = tmp_path / "m.h5"
        with h5py.File(file, "w", libver="latest") as opened:
            group = opened.create_group("model_weights/lstm", track_order=True)
            group.attrs.create("weight_names", np.zeros(200_000, "S1"))
        refused(file, "attribute 'weight_names' at 'model_weights/lstm' is too long")

    def test_a_configuration_that_is_no_text_is_refused(self, tmp_path, refused):
        file = write_h5(tmp_path / "m.h5", CONFIG, {"lstm": {}})
        with h5py.File(file, "a") as opened:
            opened.attrs["model_config"] = 5
        refused(file, "attribute 'model_config' at '' is no text")

    def test_a_configuration_in_another_encoding_is_refused(self, tmp_path, refused):
        refused(write_h5(tmp_path / "m.h5", b"\xff\xfe{}", {"lstm": {}}), "is no UTF-8 text")

    @pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
    def test_files_that_are_cut_off_are_refused(self, tmp_path, refused, part):
        file = write_h5(tmp_path / "m.h5", CONFIG, {"lstm": {"kernel": KERNEL, "bias": np.zeros(10_000, np.float32)}})
        content = file.read_bytes()
        file.write_bytes(content[: int(len(content) * part)])
        refused(file, "damaged|which the file does not have|the end of the file")

    @pytest.mark.random
    @pytest.mark.parametrize("seed", range(number(4, 40)))
    def test_flipped_bytes_harm_nobody(self, tmp_path, imported, seed):
        named = dict(zip(("kernel", "recurrent_kernel", "bias"), WEIGHTS["layers/lstm/cell"], strict=True))
        file = write_h5(tmp_path / "m.h5", CONFIG, {"lstm": named})
        content, rng = bytearray(file.read_bytes()), np.random.default_rng(seed)
        for place in rng.integers(8, len(content), 40):
            content[place] = rng.integers(256)
        file.write_bytes(content)
        with contextlib.suppress(CheckpointError):
            imported(file)

    @pytest.mark.parametrize("status", [-11, 1, 139])
    def test_a_reader_that_dies_is_said_to_have(self, tmp_path, refused, monkeypatch, status):
        answered = subprocess.CompletedProcess([], status, b"", b"Segmentation fault")
        monkeypatch.setattr(hdf5.subprocess, "run", lambda *_, **__: answered)
        refused(write_keras(tmp_path / "m.keras", CONFIG, WEIGHTS), "its HDF5 part cannot be read: it is damaged")

    def test_a_reader_that_never_ends_is_stopped(self, tmp_path, refused, monkeypatch):
        monkeypatch.setattr(hdf5, "TIMEOUT_S", 0.001)
        refused(write_keras(tmp_path / "m.keras", CONFIG, WEIGHTS), "was not read within")

    def test_modules_of_the_users_folder_are_not_imported(self, tmp_path, imported, monkeypatch):
        for name in ("h5py", "numpy", "json"):
            (tmp_path / f"{name}.py").write_text("import pathlib; pathlib.Path('ran').touch(); raise SystemExit(1)")
        monkeypatch.chdir(tmp_path)
        imported(write_keras(tmp_path / "m.keras", CONFIG, WEIGHTS))
        assert not (tmp_path / "ran").exists()


class TestZip:
    def write(self, tmp_path, members, **more):
        with zipfile.ZipFile(tmp_path / "m.keras", "w", **more) as archive:
            for name, content in members:
                archive.writestr(name, content)
        return tmp_path / "m.keras"

    @property
    def members(self):
        return [
            ("metadata.json", json.dumps({"keras_version": "3.15.1"})),
            ("config.json", json.dumps(CONFIG)),
            ("model.weights.h5", hdf5_of(WEIGHTS)),
        ]

    def test_paths_in_the_archive_lead_nowhere(self, tmp_path, imported):
        imported(self.write(tmp_path, [*self.members, ("../../outside", "x"), ("/absolute", "x")]))
        assert not (tmp_path.parent / "outside").exists()

    def test_compressed_members_are_refused(self, tmp_path, refused):
        members = [*self.members, ("bomb", b"\0" * 50_000_000)]
        refused(self.write(tmp_path, members, compression=zipfile.ZIP_DEFLATED), "it is a compressed zip file")

    def test_names_that_stand_twice_are_refused(self, tmp_path, refused):
        with pytest.warns(UserWarning, match="Duplicate name"):
            file = self.write(tmp_path, [*self.members, self.members[1]])
        refused(file, "its zip directory names something twice")

    def test_sizes_beyond_the_file_are_refused(self, tmp_path, refused):
        file = self.write(tmp_path, self.members)
        content = file.read_bytes()
        end = content.rindex(b"PK\x01\x02")  # of the last member, the weights
        size = struct.pack("<2L", 2**31, 2**31)
        file.write_bytes(content[: end + 20] + size + content[end + 28 :])
        refused(file, "damaged")

    @pytest.mark.parametrize("part", [0.2, 0.6, 0.99])
    def test_archives_that_are_cut_off_are_refused(self, tmp_path, refused, part):
        file = self.write(tmp_path, self.members)
        file.write_bytes(file.read_bytes()[: int(file.stat().st_size * part)])
        refused(file, "damaged")

    def test_weights_in_other_formats_are_refused(self, tmp_path, refused):
        refused(
            self.write(tmp_path, [*self.members[:2], ("model.weights.npz", b"x")]), "it has no model.weights.h5, only"
        )

    def test_weights_that_are_no_hdf5_are_refused(self, tmp_path, refused):
        refused(self.write(tmp_path, [*self.members[:2], ("model.weights.h5", b"x" * 100)]), "does not begin as such")


class TestConfiguration:
    @pytest.mark.parametrize(
        ("config", "message"),
        [
            ("", "its config.json is no JSON"),
            ("[1]", "its config.json is no JSON object"),
            ('{"a": NaN}', "its config.json is no JSON"),
            (b'{"a": "\xff"}', "its config.json is no JSON"),
            ("[" * 100_000 + "]" * 100_000, "its config.json is nested deeper than 64"),
            ('{"a": ' + "9" * 5000 + "}", "its config.json is no JSON"),
            ("{}", "it is 'None', a class of one's own"),
            ('{"class_name": "Sequential"}', "has a layer without one"),
            ('{"class_name": "Sequential", "config": {"layers": [3]}}', "lists what is no layer"),
            ('{"class_name": "Sequential", "config": {"layers": [{"class_name": "LSTM"}]}}', "no name"),
            (
                '{"class_name": "Functional", "config": {"layers": [{"class_name": "LSTM", "config": {"name": "a"}}]}}',
                "its inputs or outputs are no list of layers",
            ),
        ],
    )
    def test_what_is_no_configuration_is_refused(self, tmp_path, refused, config, message):
        refused(write_keras(tmp_path / "m.keras", config, WEIGHTS), message)

    def test_models_inside_models_have_an_end(self, tmp_path, refused):
        config = CONFIG
        for level in range(12):
            inner = {"class_name": "Sequential", "config": {"name": f"m{level}", "layers": [config]}}
            config["config"]["name"] = f"inner{level}"
            config = inner
        refused(write_keras(tmp_path / "m.keras", config, WEIGHTS), "it has models inside models, more than 8 deep")

    def test_thousands_of_layers_are_refused(self, tmp_path, refused):
        many = [layer("Dropout", f"d{index}", rate=0.1) for index in range(1100)]
        refused(write_keras(tmp_path / "m.keras", sequential(*many), WEIGHTS), "it has more than 1000 layers")

    @pytest.mark.parametrize("units", [0, -4, 2**40, 10**18, 4.5, True, None, [4]])
    def test_units_that_cannot_be_are_refused(self, tmp_path, refused, units):
        changed = {**LSTM, "config": {**LSTM["config"], "units": units}}
        refused(write_keras(tmp_path / "m.keras", sequential(changed), WEIGHTS), "'lstm'")

    @pytest.mark.parametrize("name", ["", "a\nb", "x" * 300, 5, "inputs", "static"])
    def test_names_that_cannot_be_are_refused(self, tmp_path, refused, name):
        changed = {**LSTM, "config": {**LSTM["config"], "name": name}}
        refused(write_keras(tmp_path / "m.keras", sequential(changed), WEIGHTS), "name")

    def test_code_in_a_lambda_is_not_run(self, tmp_path, refused):
        code = {"class_name": "__lambda__", "config": {"code": "aW1wb3J0IG9z", "defaults": None, "closure": None}}
        file = write_keras(tmp_path / "m.keras", sequential(layer("Lambda", "evil", function=code), LSTM), WEIGHTS)
        refused(file, "'evil' is a Lambda, which is not served")

    @pytest.mark.parametrize(
        "config",
        [
            {"class_name": {"a": 1}, "config": {}},
            sequential(layer("RNN", "r", cell={"class_name": "StackedRNNCells", "config": {"cells": 5}})),
            sequential(layer("Masking", "m", mask_value={"a": 1}), LSTM),
            sequential(layer("Masking", "m", mask_value="Dense"), LSTM),
            sequential({**LSTM, "config": {**LSTM["config"], "activation": {"class_name": [1], "config": "tanh"}}}),
            sequential(layer("Bidirectional", "b", layer=5)),
            sequential(layer("TimeDistributed", "t", layer={"class_name": "Dense", "config": []}), LSTM),
        ],
    )
    def test_values_of_another_type_are_refused(self, tmp_path, refused, config):
        refused(write_keras(tmp_path / "m.keras", config, WEIGHTS), "m.keras: it")
