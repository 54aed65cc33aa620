import pytest
from pydantic import ValidationError

from gatescope.pipeline.tokens import TokenInputs


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"vocabulary": "characters"}, "either `characters` or `file`"),
        ({"vocabulary": "characters", "characters": "ab", "file": "v.txt"}, "either `characters` or `file`"),
        ({"vocabulary": "words", "characters": "ab"}, "comes from a `file`"),
        ({"vocabulary": "characters", "characters": "ab", "unknown": "token"}, "unknown_token"),
        ({"vocabulary": "characters", "characters": "ab", "unknown_token": "a"}, "unknown_token"),
        ({"vocabulary": "characters", "characters": "ab", "unknown": "suffix"}, "a rule for words"),
        ({"vocabulary": "syllables", "file": "v.txt"}, "vocabulary"),
        ({"vocabulary": "ids"}, "`size` goes with"),
        ({"vocabulary": "ids", "size": 0}, "size"),
        ({"vocabulary": "ids", "size": 10**9}, "size"),
        ({"vocabulary": "words", "file": "v.txt", "size": 3}, "`size` goes with"),
        ({"vocabulary": "ids", "size": 3, "characters": "abc"}, "neither entries nor a rule"),
        ({"vocabulary": "ids", "size": 3, "unknown": "refuse"}, "neither entries nor a rule"),
        ({"vocabulary": "ids", "size": 3, "lowercase": True}, "neither entries nor a rule"),
    ],
    ids=str,
)
def test_token_inputs_that_contradict_themselves_are_refused(fields, message):
    with pytest.raises(ValidationError, match=message):
        TokenInputs(kind="tokens", **fields)
