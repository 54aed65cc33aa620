import numpy as np
import pytest

from studies.grammar import __main__ as grammar
from studies.grammar.reading import area
from studies.grammar.states import in_name, in_question, late

SPEECH = "ROMEO:\nWhat light through yonder window breaks?\nIt is the east.\n\n"


def marked(find, text):
    return "".join(np.array(list(text))[find(text)])


def test_states_are_those_of_a_play():
    assert marked(in_name, SPEECH) == "ROMEO"
    assert marked(in_question, SPEECH) == " light through yonder window breaks"
    assert marked(late, SPEECH) == "ow breaks?\n"


def test_area_counts_ties_as_half():
    assert area(np.array([1.0, 2.0]), np.array([1.0, 0.0])) == (0.5 + 1 + 1 + 1) / 4


@pytest.mark.examples
def test_grammar_study_runs_from_text_to_figures(tmp_path):
    text = tmp_path / "input.txt"
    text.write_text(SPEECH * 200)
    tiny = ["--passages", "4", "--length", "200", "--others", "1"]
    grammar.main(["--data", str(text), "--out", str(tmp_path / "out"), *tiny])
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"grammar.json", "grammar-lesions.svg"}
