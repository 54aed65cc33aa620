"""The manifest that is written is the manifest that is read."""

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from gatescope.checkpoints import toml
from gatescope.pipeline.manifest import Manifest

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
NAMES = st.lists(TEXT, min_size=1, max_size=4, unique=True)


def read_back(manifest):
    return Manifest.model_validate(tomllib.loads(toml.dumps(manifest)))


@given(description=TEXT, features=NAMES, outputs=NAMES)
def test_any_name_is_written_so_that_it_is_read_back(description, features, outputs):
    manifest = Manifest.model_validate(
        {
            "description": description,
            "task": "regression",
            "input": {"kind": "features", "features": [{"name": name} for name in features]},
            "head": {"steps": "last", "activation": "tanh"},
            "output": {"names": outputs},
            "examples": [{"title": description, "file": "examples/random.json"}],
        }
    )
    assert read_back(manifest) == manifest


@given(characters=st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_character_is(characters):
    manifest = Manifest.model_validate(
        {
            "description": "letters",
            "task": "next_token",
            "input": {"kind": "tokens", "vocabulary": "characters", "characters": characters},
            "head": {"steps": "all"},
            "output": {"predicts": "next_step"},
        }
    )
    assert read_back(manifest) == manifest


def test_a_vocabulary_of_ids_and_one_in_a_file_are():
    for inputs in (
        {"vocabulary": "ids", "size": 9},
        {"vocabulary": "words", "file": "vocabulary.txt", "unknown": "token", "unknown_token": '"\\'},
    ):
        manifest = Manifest.model_validate({"description": "words", "input": {"kind": "tokens"} | inputs})
        assert read_back(manifest) == manifest
        assert "[head]" not in toml.dumps(manifest)
