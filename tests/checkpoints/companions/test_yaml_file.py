"""YAML as plain data: nothing is constructed, and nothing grows."""

import pytest

from gatescope.checkpoints.companions.plain import Unreadable
from gatescope.checkpoints.companions.yaml_file import Placeholder, parse


def test_scalars_are_read_by_the_core_schema():
    text = "a: [1, 0x1f, 1e-05, -.5, .inf, true, null, ~, no, 2001-01-01, 1:30, '1', !!str 2, 010]\nb:\n"
    values = [1, 31, 1e-5, -0.5, float("inf"), True, None, None, "no", "2001-01-01", "1:30", "1", "2", 10]
    assert parse(text) == {"a": values, "b": None}


def test_tags_become_placeholders(tmp_path):
    text = f"""
    model: !!python/object/apply:os.system ["touch {tmp_path}/run"]
    name: !!python/name:os.system
    pair: !!python/tuple [1, 2]
    custom: !thing {{a: 1}}
    """
    assert parse(text) == {
        "model": Placeholder("tag:yaml.org,2002:python/object/apply:os.system"),
        "name": Placeholder("tag:yaml.org,2002:python/name:os.system"),
        "pair": [1, 2],
        "custom": Placeholder("!thing"),
    }
    assert not (tmp_path / "run").exists()


def test_an_alias_is_what_it_stands_for():
    assert parse("a: &x [1, 2]\nb: *x\n") == {"a": [1, 2], "b": [1, 2]}


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{after}: &{after} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, after in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "has more than 500,000 values"),
        ("a: &a [*a]", "inside its own anchor"),
        ("a: *b", "is not YAML|without one"),
        ("[" * 100, "is nested too deeply"),
        ("- " * 100 + "1", "is nested too deeply"),
        ("a: 1\na: 2", "has the key 'a' twice"),
        ("b: &b {x: 1}\na: {<<: *b}", "merge key"),
        ("? [1]\n: 2", "as a key"),
        ("a: 1\n---\nb: 2", "has 2 YAML documents"),
        ("a: [1", "is not YAML in line"),
        ("a: \x01", "is not YAML"),
        ("a: " + "9" * 5000, "a number that is too long"),
    ],
)
def test_what_is_no_plain_data_is_refused(text, message):
    with pytest.raises(Unreadable, match=message):
        parse(text)


def test_an_empty_file_is_nothing():
    assert parse("") is None
