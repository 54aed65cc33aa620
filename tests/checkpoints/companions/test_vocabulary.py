"""Vocabularies in files and beside weights."""

import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as some

from gatescope.checkpoints.companions.vocabulary import find_labels, find_vocabulary, read_vocabulary
from gatescope.errors import InvalidInput
from gatescope.pipeline import words

LETTERS = {letter: index for index, letter in enumerate("_abcdefghijk")}
LANGUAGES = {"de": 0, "en": 1, "ro": 2}


@pytest.fixture
def read(tmp_path):
    def write_and_read(content, name="vocabulary.json"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_vocabulary(path)

    return write_and_read


FORMS = {
    "lines.txt": "<pad>\nthe\ncat\n",
    "no line break at the end.txt": "<pad>\nthe\ncat",
    "windows.txt": "<pad>\r\nthe\r\ncat\r\n",
    "list.json": json.dumps(["<pad>", "the", "cat"]),
    "ids.json": json.dumps({"the": 1, "<pad>": 0, "cat": 2}),
    "tokens.json": json.dumps({"2": "cat", "0": "<pad>", "1": "the"}),
    "nested.json": json.dumps({"word_to_ix": {"<pad>": 0, "the": 1, "cat": 2}, "tag_to_ix": {"DET": 0, "NN": 1}}),
    "mapping.yml": "<pad>: 0\nthe: 1\ncat: 2\n",
    "tokenizer.json": json.dumps(
        {
            "added_tokens": [{"id": 0, "content": "<pad>"}],
            "model": {"type": "WordLevel", "vocab": {"the": 1, "cat": 2}, "unk_token": "<unk>"},
        }
    ),
    "bom.txt": "\ufeff<pad>\nthe\ncat\n",
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_entries(name, read):
    assert read(FORMS[name], name).entries == ("<pad>", "the", "cat")


def test_keras_begins_at_one(read):
    config = {"num_words": 3, "word_index": json.dumps({"the": 1, "cat": 2, "dog": 3})}
    for content in ({"word_index": {"the": 1, "cat": 2}}, {"class_name": "Tokenizer", "config": config}):
        found = read(json.dumps(content))
        assert found.entries == ("<id 0>", "the", "cat")
        assert "No entry has the id 0" in found.notes[0]
    assert "from 3 on (num_words)" in found.notes[1]


def test_gaps_get_entries_that_no_text_gives(read):
    found = read(json.dumps({"a": 1, "<id 0>": 3, "b": 4}))
    assert found.entries == ("<<id 0>>", "a", "<id 2>", "<id 0>", "b")
    assert all(len(entry) > 1 and words.split(entry) != [entry] for entry in found.entries if "id" in entry)


def test_a_blank_line_is_an_empty_entry(read):
    assert read("\na\nb\n", "vocabulary.txt").entries == ("", "a", "b")


REFUSED = {
    "two blank lines": ("a\n\nb\n\n\nc", "v.txt", "lines 2 and 4 are blank"),
    "a line twice": ("a\nb\na", "v.txt", "'a' stands in line 1 and 3"),
    "empty": ("", "v.txt", "is empty"),
    "an empty list": ("[]", "v.json", "is empty"),
    "an id twice": ('{"a": 1, "A": 1}', "v.json", "'a' and 'A' have the same id 1"),
    "a token twice": ('{"0": "a", "1": "a"}', "v.json", "'a' stands in id 0 and 1"),
    "a key twice": ('{"a": 1, "a": 2}', "v.json", "has the key 'a' twice"),
    "negative": ('{"a": -1}', "v.json", "has the id -1"),
    "huge": ('{"a": 1000000000000}', "v.json", "'a' has the id 1,000,000,000,000, but there are 1 entries"),
    "mostly gaps": ('{"a": 0, "b": 90000}', "v.json", "ids are places in a list"),
    "half an id": ('{"a": 0.5}', "v.json", "has the id 0.5, which is no whole number"),
    "true": ('{"a": true}', "v.json", "has the id True"),
    "both text": ('{"a": "b"}', "v.json", "has the id 'a', which is no whole number"),
    "numbers": ("[1, 2]", "v.json", "entry 0 is 1, not text"),
    "a number": ("3", "v.json", "is no vocabulary"),
    "half a character": ('["\\ud800"]', "v.json", "which is no entry"),
    "a long entry": (json.dumps(["a" * 2000]), "v.json", "which is no entry"),
    "two vocabularies": ('{"vocab": ["a"], "words": ["b"]}', "v.json", "Several vocabularies"),
    "no name known": ('{"foo": {"a": 0}}', "v.json", "under none of its names 'foo' is a vocabulary"),
    "parts of words": ('{"model": {"type": "BPE", "vocab": {}}}', "v.json", "splits text into parts of words"),
    "not UTF-8": (b"caf\xe9\n", "v.txt", "is not UTF-8 at byte 3: save it as UTF-8"),
    "binary": (b"a\0b", "v.txt", "is not text"),
    "deep": ("[" * 200_000, "v.json", "is nested too deeply"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_vocabulary_is_refused(case, read):
    content, name, message = REFUSED[case]
    with pytest.raises(InvalidInput) as caught:
        read(content, name)
    (place,) = caught.value.places
    assert place.loc == ("vocabulary",)
    assert place.message.startswith(f"{name}: ")
    assert message in place.message


@pytest.mark.parametrize("name", ["vocab.pkl", "vocab.json", "vocab.txt"])
def test_a_pickle_is_refused_with_the_line_that_exports_it(name, read):
    with pytest.raises(InvalidInput) as caught:
        read(pickle.dumps({"a": 0}), name)
    assert f'json.dump(pickle.load(open("{name}", "rb")), open("vocab.json", "w"))' in str(caught.value)


def test_a_large_file_is_refused(read):
    with pytest.raises(InvalidInput, match="has more than the"):
        read(b"a\n" * (16 * 2**20 + 1), "v.txt")


def test_text_that_begins_like_an_archive_is_text(read):
    assert read("x^\nBZh\n(dp0\n", "v.txt").entries == ("x^", "BZh", "(dp0")


def test_a_vocabulary_and_labels_stand_beside_the_weights():
    beside = {"epoch": 3, "char_to_idx": LETTERS, "hyper_parameters": {"lang_to_idx": LANGUAGES}}
    vocabulary, labels = find_vocabulary(beside, 12), find_labels(beside, 3)
    assert (vocabulary.entries, vocabulary.source) == (tuple("_abcdefghijk"), "char_to_idx")
    assert (labels.entries, labels.source) == (("de", "en", "ro"), "hyper_parameters.lang_to_idx")


@pytest.mark.parametrize(
    "name",
    [
        *("char_to_idx", "char2id", "word_to_ix", "word2idx", "vocab", "stoi", "itos", "vocabulary", "token2id", "w2i"),
        *("idx2char", "ix_to_word", "word_index", "chars", "CHAR_TO_IX", "src_vocab", "token_to_id", "int2char"),
    ],
)
def test_usual_names_of_vocabularies_are_known(name):
    assert find_vocabulary({name: LETTERS}, 12).entries == tuple("_abcdefghijk")


@pytest.mark.parametrize(
    "name",
    [
        *("id2label", "label2id", "lang_to_idx", "idx_to_class", "class_to_idx", "labels", "classes", "tag_to_ix"),
        *("ix_to_tag", "class_names", "tag2id", "label_map", "LABELS", "target_names", "label_to_idx"),
    ],
)
def test_usual_names_of_labels_are_known(name):
    assert find_labels({name: LANGUAGES}, 3).entries == ("de", "en", "ro")
    assert find_labels({name: {number: label for label, number in LANGUAGES.items()}}, 3).entries == ("de", "en", "ro")
    assert find_labels({name: list(LANGUAGES)}, 3).entries == ("de", "en", "ro")


def test_spare_rows_of_the_embedding_are_allowed():
    assert find_vocabulary({"vocab": LETTERS}, 13).entries == tuple("_abcdefghijk")
    assert find_vocabulary({"vocab": LETTERS}, 11).entries is None
    assert find_vocabulary({"vocab": LETTERS}, 500).entries is None


def test_labels_must_be_exactly_as_many():
    assert find_labels({"labels": list(LANGUAGES)}, 4).entries is None
    assert find_labels({"label2id": {"a": 1, "b": 2}}, 3).entries is None


def test_two_ways_to_write_one_vocabulary_are_one():
    beside = {"stoi": LETTERS, "itos": list(LETTERS)}
    assert find_vocabulary(beside, 12).source == "stoi"


def test_several_that_fit_give_none_and_are_named():
    beside = {"src_vocab": {"a": 0, "b": 1}, "tgt": {"words": ["c", "d"]}}
    match = find_vocabulary(beside, 2)
    assert match.entries is None
    assert "'src_vocab', 'tgt.words'" in match.notes[0]
    assert "--vocabulary FILE" in match.notes[0]


def test_the_one_that_fits_exactly_is_taken_of_several():
    beside = {"char_vocab": ["a", "b", "c"], "word_vocab": ["the", "cat"]}
    assert find_vocabulary(beside, 3).source == "char_vocab"


def test_what_is_no_vocabulary_beside_weights_is_passed_over():
    beside = {"vocab": 12, "words": [1, 2], "labels": ["a", "a"], "chars": {"a": -1}, 3: {}, "tokens": object()}
    assert find_vocabulary(beside, None).entries is None
    assert find_labels(beside, 2).entries is None


def test_deep_and_circular_data_end():
    circular = {"a": {}}
    circular["a"]["b"] = circular
    assert find_vocabulary(circular, 2).entries is None
    deep = {"vocab": ["a", "b"]}
    for _ in range(100):
        deep = {"x": deep}
    assert find_vocabulary(deep, 2).entries is None


@given(some.lists(some.text(min_size=1, max_size=4).filter(lambda entry: "\n" not in entry), unique=True, min_size=1))
def test_a_dictionary_of_ids_gives_back_its_entries(entries):
    found = find_vocabulary({"vocab": {entry: index for index, entry in enumerate(entries)}}, len(entries))
    assert found.entries == tuple(entries)
