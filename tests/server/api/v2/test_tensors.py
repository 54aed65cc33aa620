"""Tensors on the wire."""

import struct

import numpy as np
import pytest
import torch
from tritonclient.utils import serialize_byte_tensor

from gatescope.server.api.schema.shapes import ShapeError
from gatescope.server.api.v2 import tensors

SHAPE = (2, 3)
DTYPES = {
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
}


def refused(function, *arguments):
    with pytest.raises(ShapeError) as caught:
        function(*arguments)
    return caught.value.places[0]


@pytest.mark.parametrize("datatype", DTYPES)
@pytest.mark.parametrize("offset", [0, 1, 3])
def test_binary_numbers_of_every_type_are_read_wherever_they_stand(datatype, offset):
    values = np.arange(6).astype(DTYPES[datatype]).reshape(SHAPE)
    content = memoryview(b"{" * offset + values.tobytes())[offset:]
    read = tensors.from_binary(content, datatype, SHAPE)
    np.testing.assert_array_equal(read, values)
    assert read.flags.aligned
    assert read.flags.writeable


def test_bf16_is_the_upper_half_of_a_float32():
    values = torch.tensor([1.5, -2.25, 1e30, 3.140625])
    content = values.to(torch.bfloat16).view(torch.int16).numpy().tobytes()
    read = tensors.from_binary(memoryview(content), "BF16", (4,))
    np.testing.assert_array_equal(read, values.to(torch.bfloat16).float().numpy())


@pytest.mark.parametrize("datatype", DTYPES)
def test_json_is_read_flat_or_nested_as_the_shape_says(datatype):
    values = np.arange(6).astype(DTYPES[datatype]).reshape(SHAPE)
    for data in (values.ravel().tolist(), values.tolist()):
        np.testing.assert_array_equal(tensors.from_json(data, datatype, SHAPE), values)


def test_unsigned_numbers_beyond_int64_stay_too_large_for_anything():
    values = np.array([1, 2**64 - 1], dtype=np.uint64)
    read = tensors.from_binary(memoryview(values.tobytes()), "UINT64", (2,))
    assert read.tolist() == tensors.from_json(values.tolist(), "UINT64", (2,)).tolist() == [1, 2**63 - 1]


def test_texts_are_read_as_the_stock_client_writes_them():
    texts = ["", "I love China", "Grüße 🌍"]
    content = serialize_byte_tensor(np.array(texts, dtype=object)).item()
    assert tensors.from_binary(memoryview(content), "BYTES", (3,)) == texts
    assert tensors.from_json(texts, "BYTES", (3,)) == texts


@pytest.mark.parametrize(
    ("content", "count", "message"),
    [
        (b"", 1, "ends before element 0 of 1"),
        (b"\x01\x00\x00", 1, "ends before element 0"),
        (struct.pack("<I", 5) + b"four", 1, "ends before element 0"),
        (struct.pack("<I", 2**32 - 1) + b"x", 1, "ends before element 0"),
        (struct.pack("<I", 1) + b"ab", 1, "has 6 bytes, but its 1 elements end after 5"),
        (struct.pack("<I", 1) + b"a", 10**15, "ends before element 1 of"),
        (struct.pack("<I", 1) + b"\xff", 1, "is no UTF-8 text"),
    ],
)
def test_texts_that_do_not_end_where_they_should_are_refused(content, count, message):
    assert message in refused(tensors.from_binary, memoryview(content), "BYTES", (count,)).message


@pytest.mark.parametrize("count", [0, 23, 25])
def test_other_than_the_bytes_that_the_shape_says_are_refused(count):
    assert refused(tensors.from_binary, memoryview(bytes(count)), "FP32", SHAPE).message == (
        f"has {count} bytes; FP32 of shape [2, 3] has 24"
    )


@pytest.mark.parametrize(
    ("data", "datatype", "loc", "message"),
    [
        ([1, 2, 3, 4, 5], "FP32", (), "has 5 elements; a tensor of shape [2, 3] has 6"),
        ([1, 2, 3, 4, "5", 6], "FP32", (1, 1), "must be a number, not the string '5'"),
        ([[1, 2, 3], [4, 5, None]], "FP32", (1, 2), "must be a number, not null"),
        ([1, 2, 3, True, 5, 6], "FP32", (1, 0), "must be a number, not true"),
        ([1, 2, 3, 4, 5, 1e39], "FP32", (1, 2), "must be a finite float32 number"),
        ([[1, 2], [3, 4], [5, 6]], "FP32", (), "look at axis 0"),
        ([[1, 2, 3], [4, 5]], "FP32", (), "look at axis 1"),
        ([[1, 2, 3], 4], "FP32", (), "look at axis 1"),
        ([[1, 2, 3], [4, 5, [6]]], "FP32", (1, 2), "must be a number, not a list"),
        ([1, 2, 3, 4, 5, 1.0], "INT64", (1, 2), "must be a whole number of INT64, not 1.0"),
        ([1, 2, 3, 4, 5, 128], "INT8", (1, 2), "must be a whole number of INT8, not 128"),
        ([1, 2, 3, 4, 5, -1], "UINT64", (1, 2), "must be a whole number of UINT64"),
        ([1, 2, 3, 4, 5, False], "INT32", (1, 2), "must be a whole number of INT32, not false"),
        (["a", "b", "c", "d", "e", 6], "BYTES", (1, 2), "must be a text, not 6"),
        ("abcdef", "BYTES", (), "'data' must be a list, not the string 'abcdef'"),
        (None, "FP32", (), "has no data"),
        ([1, 2, 3, 4, 5, 6], "BF16", (), "binary data only"),
    ],
)
def test_json_that_is_not_as_its_shape_and_type_say_is_refused_at_its_place(data, datatype, loc, message):
    place = refused(tensors.from_json, data, datatype, SHAPE)
    assert place.loc == loc
    assert message in place.message


def test_numbers_are_written_row_after_row_whatever_their_strides():
    values = np.arange(6, dtype=np.float32).reshape(2, 3).T
    assert bytes(tensors.to_binary(values)) == values.copy().tobytes()
    assert tensors.to_json(values).tolist() == [0, 3, 1, 4, 2, 5]
