"""Files are those of the package safetensors, and a file that lies about itself is refused."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load, save

from gatescope import safetensors_file

ARRAYS = {
    "b": np.arange(3, dtype=np.int64),
    "a": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3),
    "mask": np.array([True, False, True]),
    "half": np.ones((1, 3), dtype=np.float16),
    "empty": np.zeros((2, 0), dtype=np.float64),
    "scalar": np.array(2.5),
}
METADATA = {"said": '["a \\" quote"]', "ü": "\x00\n", "": "🂡"}


def file_of(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def tensor(**other):
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | other


@pytest.mark.parametrize("size", [1, 10_000])
def test_the_package_safetensors_reads_what_is_written(tmp_path, size):
    strided = np.arange(4 * size, dtype=np.float32).reshape(2, size, 2).transpose(1, 0, 2)[:, ::-1]
    (tmp_path / "file").write_bytes(safetensors_file.write(ARRAYS | {"strided": strided}, METADATA))
    with safe_open(tmp_path / "file", "np") as file:
        assert file.metadata() == METADATA
        for name, array in (ARRAYS | {"strided": strided}).items():
            found = file.get_tensor(name)
            assert found.dtype == array.dtype
            np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("write", [safetensors_file.write, save], ids=["ours", "package"])
def test_what_was_written_is_read(write):
    arrays, metadata = safetensors_file.read(bytes(write(ARRAYS, METADATA)))
    assert metadata == METADATA
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert (arrays[name].dtype, arrays[name].shape) == (array.dtype, array.shape)
        assert arrays[name].flags.aligned
        np.testing.assert_array_equal(arrays[name], array)


def test_a_file_in_a_bytearray_can_be_written_to():
    content = bytearray(safetensors_file.write({"a": np.zeros(3)}, {}))
    safetensors_file.read(content).arrays["a"][1] = 5
    assert load(bytes(content))["a"].tolist() == [0, 5, 0]


def test_numbers_that_the_format_has_not_are_refused():
    with pytest.raises(TypeError, match="'a' is an array of complex128"):
        safetensors_file.write({"a": np.zeros(3, complex)}, {})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it has 0 bytes"),
        (b"\x02\0\0\0\0\0\0\0{", "the header has 2 bytes, but the file has 9 in all"),
        (b"\xff" * 8, "said to have 18446744073709551615 bytes"),
        (file_of(b"[]"), "no JSON object"),
        (file_of(b"{"), "no JSON"),
        (file_of(b"\xff\xff"), "no JSON"),
        (file_of(b"[" * 100_000), "no JSON"),
        (file_of(b'{"a": ' + b"9" * 10_000 + b"}"), "no JSON"),
        (file_of({"__metadata__": {"a": 1}}), "no object of texts"),
        (file_of({"__metadata__": "a"}), "no object of texts"),
        (file_of({"a": 1}), "no valid dtype, shape and data_offsets"),
        (file_of({"a": tensor(shape=[-2])}), "no valid"),
        (file_of({"a": tensor(shape=[2.0])}), "no valid"),
        (file_of({"a": tensor(shape=[True, 2])}), "no valid"),
        (file_of({"a": tensor(shape=None)}), "no valid"),
        (file_of({"a": tensor(data_offsets=[0])}), "no valid"),
        (file_of({"a": tensor(data_offsets=[-8, 0])}), "no valid"),
        (file_of({"a": tensor(dtype="BF16")}), "holds BF16; known are F64"),
        (file_of({"a": tensor(shape=[3])}), "another number of bytes"),
        (file_of({"a": tensor(data_offsets=[8, 0])}), "another number of bytes"),
        (file_of({"a": tensor(shape=[2**62, 2**62])}), "another number of bytes"),
        (file_of({"a": tensor(shape=[2**80, 0], data_offsets=[0, 0])}), "dimension"),
        (file_of({"a": tensor(shape=[0] * 100, data_offsets=[0, 0])}), "dimension"),
        (file_of({"a": tensor()}), "one behind the other in the 0 bytes"),
        (file_of({"a": tensor(data_offsets=[4, 12])}, b"\0" * 12), "one behind the other"),
        (file_of({"a": tensor(), "b": tensor()}, b"\0" * 8), "one behind the other"),
        (file_of({"a": tensor(), "b": tensor(data_offsets=[4, 12])}, b"\0" * 12), "one behind the other"),
        (file_of({"a": tensor()}, b"\0" * 9), "one behind the other"),
    ],
)
def test_a_file_that_lies_about_itself_is_refused(content, message):
    with pytest.raises(ValueError, match=message):
        safetensors_file.read(content)


@given(st.data())
def test_a_damaged_file_is_read_or_refused_with_a_value_error(data):
    content = bytearray(safetensors_file.write(ARRAYS, {"a": "b"}))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        arrays, _ = safetensors_file.read(bytes(content[: data.draw(st.integers(0, len(content)))]))
    except ValueError:
        return
    assert sum(array.nbytes for array in arrays.values()) <= len(content)
