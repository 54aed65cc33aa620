"""Each ugly table is read rightly, or refused with its place and remedy."""

import numpy as np
import pytest

from gatescope.errors import InvalidInput
from gatescope.tables import csv_file
from gatescope.tables.files import read_table
from gatescope.tables.sequences import Reading, Wanted, interpret
from tests.tables.ugly import ALL, FEATURES, Refused

WANTED = Wanted("demand", FEATURES, ("load",), feeds_back=True)


@pytest.mark.parametrize("head_lines", [csv_file.HEAD_LINES, 4])
@pytest.mark.parametrize("table", ALL, ids=lambda table: table.name)
def test_an_ugly_table_is_read_rightly_or_refused(table, head_lines, monkeypatch):
    """Also where what is behind the first lines is read as what is laid out like them."""
    monkeypatch.setattr(csv_file, "HEAD_LINES", head_lines)
    if isinstance(table.expected, Refused):
        with pytest.raises(InvalidInput) as refused:
            interpret(read_table(table.content, table.file), WANTED, Reading(**table.reading))
        assert [part for part in table.expected.parts if part not in str(refused.value)] == [], refused.value
        return
    found = interpret(read_table(table.content, table.file), WANTED, Reading(**table.reading))
    expected = table.expected
    np.testing.assert_equal(found.inputs, list(expected.inputs))
    np.testing.assert_equal(found.future_inputs, expected.future and list(expected.future))
    assert found.ids == expected.ids
    if expected.times is not None:
        assert found.timestamps == [list(each) for each in expected.times]
    assert expected.note in " ".join(found.notes)
