"""What the entries of a vocabulary are."""

import string

import pytest

from gatescope.checkpoints.companions.tokens import is_lowercase, kind_of

LETTERS = [*string.ascii_lowercase, " "]
WORDS = ["the", "cat", "sat", "on", "a", "."]


@pytest.mark.parametrize(
    "special",
    ["PAD", "UNK", "pad", "<pad>", "[UNK]", "{SOS}", "__eos__", "<s>", "</s>", "<|endoftext|>", "START", "Stop", ""],
)
def test_special_entries_leave_a_list_of_characters(special):
    found = kind_of([special, *LETTERS])
    assert (found.kind, found.special) == ("characters", (special,))


def test_a_language_identifiers_characters():
    found = kind_of(["PAD", *LETTERS, "UNK"])
    assert (found.kind, found.special, found.unknown) == ("characters", ("PAD", "UNK"), "UNK")


def test_words_may_be_called_like_special_entries():
    found = kind_of(["<pad>", "<unk>", *WORDS, "start", "mask", "unknown", "MASK"])
    assert (found.kind, found.special, found.unknown) == ("words", ("<pad>", "<unk>", "MASK"), "<unk>")


@pytest.mark.parametrize("unknown", ["<unk>", "UNK", "[UNK]", "<OOV>", "unk", "__unknown__", "<UNK>"])
def test_the_unknown_entry_is_found(unknown):
    assert kind_of([unknown, *WORDS]).unknown == unknown


def test_a_marked_unknown_entry_comes_first():
    assert kind_of(["UNK", "<unk>", *LETTERS]).unknown == "<unk>"


def test_few_longer_entries_are_undecidable():
    found = kind_of([*LETTERS, "ch", "ll"])
    assert found.kind is None
    assert found.reason == "27 entries are one character, but 'ch', 'll' are not"


@pytest.mark.parametrize("parts", [["##ing", "##s"], ["Ġthe", "Ġa"], ["▁the", "▁a"]])
def test_parts_of_words_are_neither(parts):
    found = kind_of([*WORDS, *parts])
    assert found.kind is None
    assert "parts of words" in found.reason


def test_special_entries_alone_are_undecidable():
    assert kind_of(["<pad>", "<unk>"]).kind is None


@pytest.mark.parametrize(
    ("entries", "is_lower"),
    [
        (["<PAD>", "UNK", "the", "cat", "1"], True),
        (["the", "Cat"], False),
        (["1", "2", "."], False),
        (["日", "本"], False),
        (["straße"], True),
    ],
)
def test_lower_case_is_told_without_special_entries(entries, is_lower):
    assert is_lowercase(entries) is is_lower
