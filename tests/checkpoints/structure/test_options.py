"""Names and options that cannot be are refused before anything is read."""

import pytest

from gatescope.checkpoints.structure.options import Options, check, given
from gatescope.errors import InvalidInput


@pytest.mark.parametrize("name", ["river", "a", "7", "My-model_2.1", "x" * 64])
def test_plain_names_are_taken(name):
    check(name, Options(version=name))


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        ".hidden",
        "../up",
        "a/b",
        "/etc",
        "a\\b",
        "-rf",
        "_x",
        "a b",
        "a\n",
        "a\0",
        "é",
        "x" * 65,
        "a?b",
        "%2e",
    ],
)
def test_a_path_or_what_no_url_holds_is_no_name(name):
    with pytest.raises(InvalidInput, match=r"name: must be letters, digits"):
        check(name, Options())
    with pytest.raises(InvalidInput, match=r"version: must be letters, digits"):
        check("river", Options(version=name))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"task": "translation"},
            "task: must be regression, quantile, classification, tagging, binary, multi_label, next_token, not",
        ),
        ({"steps": "middle"}, "steps: must be all, last, first, final, mean, max, sum, not 'middle'"),
        ({"activation": "swish"}, "activation: must be none, relu, relu6"),
        ({"output_activation": "swish"}, "output_activation: must be none, relu, relu6"),
        ({"join": "tower"}, "join: must be stacked, residual, parallel, parallel=add, not 'tower'"),
        ({"features": ("a", "b", "a")}, "features: has 'a' twice"),
        ({"features": ("a", "")}, "features: must be printable and not empty"),
        ({"outputs": ("a\x1b[31m",)}, "outputs: must be printable"),
        ({"labels": ("\ud800",)}, "labels: must be printable"),
        ({"description": "two\nlines"}, "description: must be one printable line"),
        ({"description": "x" * 1001}, "description: must be one printable line of at most 1000"),
        ({"characters": ""}, "characters: is empty"),
        ({"characters": "aba"}, "characters: has 'a' twice"),
        ({"characters": "\ud800"}, "characters: '\\ud800' cannot be an entry"),
        ({"vocabulary": ("a\nb",)}, "vocabulary: 'a\\nb' cannot be an entry"),
        ({"characters": "ab", "vocabulary": ("a", "b")}, "vocabulary: give either"),
    ],
    ids=str,
)
def test_an_option_that_cannot_be_is_refused_by_name(options, message):
    with pytest.raises(InvalidInput) as refused:
        check("river", Options(**options))
    assert message in str(refused.value)


def test_every_place_is_named_at_once():
    with pytest.raises(InvalidInput) as refused:
        check("a/b", Options(version="c/d", task="x"))
    assert [place.loc for place in refused.value.places] == [("name",), ("version",), ("task",)]


def test_an_option_is_given_unless_it_is_left_out():
    assert given(Options(task="tagging", labels=("a",)), ("task", "steps", "labels", "outputs")) == ["task", "labels"]
