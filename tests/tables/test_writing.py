"""Tables that are written frame by frame."""

import pandas as pd
import pytest

from gatescope.tables.files import read_table
from gatescope.tables.writing import SINKS, table_writer

FRAMES = [
    pd.DataFrame({"id": ["a", "a"], "level": [1.5, float("nan")]}),
    pd.DataFrame({"id": ["b"], "level": [0.1]}),
]


@pytest.mark.parametrize("suffix", SINKS)
def test_frames_become_one_table(tmp_path, suffix):
    file = tmp_path / f"out{suffix}"
    with table_writer(file) as table:
        for frame in FRAMES:
            table.write(frame)
    found = read_table(file).frame
    assert list(found.columns) == ["id", "level"]
    assert found["id"].tolist() == ["a", "a", "b"]
    assert pd.to_numeric(found["level"]).tolist() == pytest.approx([1.5, float("nan"), 0.1], nan_ok=True)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def _broken():
    return FRAMES[0][["elsewhere"]]


@pytest.mark.parametrize("suffix", SINKS)
def test_a_table_that_breaks_off_leaves_what_was_there(tmp_path, suffix):
    file = tmp_path / f"out{suffix}"
    file.write_text("before")
    with pytest.raises(KeyError), table_writer(file) as table:
        table.write(_broken())
    assert file.read_text() == "before"
    assert list(tmp_path.iterdir()) == [file]
