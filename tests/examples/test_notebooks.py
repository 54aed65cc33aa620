"""The notebooks run as they stand, and show what is committed."""

import re
from itertools import zip_longest

import pytest

nbformat = pytest.importorskip("nbformat", reason="`make test-examples` installs what runs notebooks")
execute = pytest.importorskip("examples.execute")

NUMBER = re.compile(r"[+−-]?\d[\d,]*\.?\d*(e[+-]?\d+)?")


def shown(cell):
    """The kind and the text of each output but for notes, with # for numbers: they differ between processors."""
    texts = [
        (output.output_type, output.get("name"), *sorted(output.get("data", ())), output.get("text") or text_of(output))
        for output in cell.get("outputs", ())
        if output.get("name") != "stderr"
    ]
    return [(*kind, re.sub(r"\s+", " ", NUMBER.sub("#", text))) for *kind, text in texts]


def text_of(output):
    return output.get("data", {}).get("text/plain", "")


@pytest.mark.examples
@pytest.mark.timeout(600)
@pytest.mark.parametrize("path", execute.NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_what_is_committed(path, tmp_path):
    committed, executed = nbformat.read(path, as_version=4), execute.executed(path, tmp_path)
    for before, now in zip_longest(committed.cells, executed.cells):
        assert shown(now) == shown(before), before.source
