import pickle
import re

import pytest

from gatescope import errors
from gatescope.errors import AppError, InvalidInput, Place

PLACES = (Place(("body", "inputs", 0, 2), "is NaN"), Place(("body", "horizon"), "is negative"))


def below(kind):
    """Every class under this one."""
    return [kind, *(found for child in kind.__subclasses__() for found in below(child))]


ALL = [kind for kind in below(AppError) if kind.__module__ == errors.__name__]


def drawn():
    """name -> the name it hangs under, from the tree in the docstring."""
    parents, branch = {}, {}
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"( {4}[│├└─ ]*)([A-Z][A-Za-z]+)\b", line):
            depth = len(match[1])
            parents[match[2]] = branch.get(depth - 4)
            branch[depth] = match[2]
    return parents


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("places", [(), PLACES], ids=["no places", "places"])
def test_every_error_survives_pickle_with_all_it_says(kind, places):
    error = kind("what was given; what was expected", places)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 (our own bytes)
    assert type(copy) is kind
    assert copy.detail == str(copy) == "what was given; what was expected"
    assert copy.places == places
    assert all(isinstance(place, Place) for place in copy.places)


def test_the_tree_in_the_docstring_is_the_tree_of_classes():
    assert drawn() == {kind.__name__: None if kind is AppError else kind.__base__.__name__ for kind in ALL}


def test_every_error_says_what_it_means():
    meanings = [kind.__doc__ for kind in ALL]
    assert all(meanings)
    assert len(set(meanings)) == len(meanings)


def test_invalid_input_says_the_first_place_and_how_many_more_there_are():
    error = InvalidInput.at(*PLACES)
    assert error.detail == "body.inputs.0.2: is NaN (and 1 more)"
    assert error.places == PLACES
    assert InvalidInput.at(PLACES[1]).detail == "body.horizon: is negative"
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 (our own bytes)
    assert (copy.detail, copy.places) == (error.detail, error.places)
