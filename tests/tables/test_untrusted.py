"""Parquet and Arrow of others: small bodies that would become large, and such that are not what they say."""

import contextlib
import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import feather, parquet

from gatescope.errors import InvalidInput
from gatescope.tables.files import read_table

MOST = 1_000_000
DAYS = pd.date_range("2024-01-01", periods=3)
FRAME = pd.DataFrame(
    {"id": ["a", "b", "a"], "load": [1.5, np.nan, 3.0], "time": pd.date_range("2024-01-01", periods=3)}
)


def as_parquet(table, **options):
    written = io.BytesIO()
    parquet.write_table(table, written, **options)
    return written.getvalue()


def as_arrow(table, **options):
    written = io.BytesIO()
    feather.write_feather(table, written, **options)
    return written.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.parquet", as_parquet(pa.Table.from_pandas(FRAME))),
        ("t.arrow", as_arrow(FRAME)),
        ("t.arrow", as_arrow(FRAME, compression="uncompressed")),
    ],
)
def test_a_table_is_what_was_written(name, content):
    pd.testing.assert_frame_equal(read_table(content, name, MOST).frame, FRAME, check_dtype=False)


@pytest.mark.parametrize("use_dictionary", [True, False])
def test_many_cells_in_a_small_body_are_refused_unless_any_number_is_taken(use_dictionary):
    content = as_parquet(pa.table({"load": np.zeros(2 * MOST)}), use_dictionary=use_dictionary)
    assert len(content) < MOST
    with pytest.raises(InvalidInput, match="at most 1,000,000 cells"):
        read_table(content, "t.parquet", MOST)
    assert len(read_table(content, "t.parquet").frame) == 2 * MOST


def test_many_bytes_in_few_cells_are_refused():
    content = as_parquet(pa.table({"name": ["x" * 100_000_000]}), use_dictionary=False, compression="zstd")
    assert len(content) < MOST
    with pytest.raises(InvalidInput, match="at most 1,000,000 cells"):
        read_table(content, "t.parquet", MOST)


def test_a_long_text_in_every_row_is_kept_once():
    """Were it written out, this would take 100 GB."""
    text = pa.DictionaryArray.from_arrays(pa.array(np.zeros(100_000, dtype=np.int32)), ["x" * 1_000_000])
    content = as_parquet(pa.table({"load": np.arange(100_000.0), "name": text}), store_schema=False)
    frame = read_table(content, "t.parquet", MOST).frame
    assert frame["name"].iloc[0] is frame["name"].iloc[-1]


@pytest.mark.parametrize("name", ["t.parquet", "t.arrow"])
@pytest.mark.parametrize("seed", range(40))
def test_forged_bodies_are_refused_or_read(name, seed):
    """Bytes are changed at random: whatever comes of it, it is no crash."""
    generator = np.random.default_rng(seed)
    texts = pa.table({"id": ["a", "bb", "ccc"] * 20, "load": np.arange(60.0)})
    content = bytearray(as_parquet(texts) if name == "t.parquet" else as_arrow(texts, compression="uncompressed"))
    for place in generator.integers(0, len(content), 6):
        content[place] = generator.integers(256)
    with contextlib.suppress(InvalidInput):
        read_table(bytes(content), name, MOST)


def test_offsets_that_lead_out_of_the_body_are_refused():
    content = as_arrow(pa.table({"id": ["x" * 77, "y" * 13]}), compression="uncompressed")
    true, forged = (np.array(offsets, dtype=np.int32).tobytes() for offsets in ([0, 77, 90], [0, 2**30, 90]))
    assert content.count(true) == 1
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_table(content.replace(true, forged), "t.arrow", MOST)
