import pytest

from gatescope.pipeline.vocabulary import UnknownToken, Vocabulary, shape_of

SHAPES = ["digit ", "mark ", "UPPER ", "Title ", "lower "]


@pytest.fixture
def suffixes():
    return Vocabulary(
        ["the", "The", "lower ing", "lower ng", "lower tion", "Title ing", "UPPER s", "digit th", *SHAPES],
        "words",
        "suffix",
    )


def entry(vocabulary, token):
    (index,) = vocabulary.encode([token])
    return vocabulary.entries[index]


class TestEncoding:
    def test_characters_are_every_character(self):
        assert Vocabulary("ab ", "characters").split("ab \n") == ["a", "b", " ", "\n"]

    def test_ids_are_places_in_the_list_and_back(self):
        vocabulary = Vocabulary("\n abc", "characters")
        assert len(vocabulary) == 5
        assert vocabulary.encode("cab\n") == [4, 2, 3, 0]
        assert vocabulary.join([4, 2, 3, 0]) == "cab\n"

    def test_words_are_joined_with_spaces(self):
        vocabulary = Vocabulary(["love", "I", "China"], "words")
        assert vocabulary.encode(vocabulary.split("I love China")) == [1, 0, 2]
        assert vocabulary.join([1, 0, 2]) == "I love China"

    @pytest.mark.parametrize("kind", ["characters", "words"])
    def test_an_unknown_token_is_refused_at_its_place(self, kind):
        with pytest.raises(UnknownToken) as refused:
            Vocabulary(["a", "b"], kind).encode(["a", "b", "x", "y"])
        assert (refused.value.index, refused.value.token) == (2, "x")

    def test_an_unknown_token_is_replaced_where_the_rule_says_so(self):
        vocabulary = Vocabulary(["a", "<unk>"], "words", "token", "<unk>")
        assert vocabulary.encode(["a", "x", "A"]) == [0, 1, 1]

    def test_a_text_is_lower_cased_where_the_vocabulary_says_so(self):
        assert Vocabulary("ab", "characters", lowercase=True).split("aB") == ["a", "b"]
        assert Vocabulary(["i", "love", "china"], "words", lowercase=True).split("I love China") == [
            "i",
            "love",
            "china",
        ]

    def test_tokens_that_are_no_entries_are_found_whatever_they_are_read_as(self):
        vocabulary = Vocabulary(["a", "<unk>"], "words", "token", "<unk>")
        assert vocabulary.unknown(["a", "x", "<unk>", "A"]) == [1, 3]


class TestSuffixes:
    @pytest.mark.parametrize(
        ("token", "expected"),
        [
            ("the", "the"),
            ("The", "The"),
            ("THE", "the"),  # lower-cased it is known
            ("jumping", "lower ing"),  # "lower ping" is not listed
            ("king", "lower ing"),
            ("ng", "lower ng"),
            ("g", "lower "),
            ("nation", "lower tion"),
            ("Beijing", "Title ing"),
            ("Nation", "Title "),
            ("USERS", "UPPER s"),
            ("NATO", "UPPER "),
            ("A", "Title "),
            ("35th", "digit th"),
            ("3.5", "digit "),
            ("?!", "mark "),
            ("iPhone", "lower "),
        ],
    )
    def test_a_word_is_read_as_written_or_lower_cased_or_by_its_longest_ending(self, suffixes, token, expected):
        assert entry(suffixes, token) == expected

    @pytest.mark.parametrize(
        ("word", "shape"),
        [
            ("4ever", "digit"),
            ("B2B", "digit"),
            ("...", "mark"),
            ("'", "mark"),
            ("USA", "UPPER"),
            ("U.S.", "UPPER"),
            ("I", "Title"),
            ("Paris", "Title"),
            ("McX", "Title"),
            ("cat", "lower"),
            ("eBay", "lower"),
            ("'s", "lower"),
            ("Élan", "Title"),
            ("中国", "lower"),
        ],
    )
    def test_the_first_shape_that_applies(self, word, shape):
        assert shape_of(word) == shape

    @pytest.mark.parametrize("missing", SHAPES)
    def test_every_shape_needs_its_entry_with_an_empty_ending(self, missing):
        entries = [shape for shape in SHAPES if shape != missing]
        with pytest.raises(ValueError, match=f"'{missing}'"):
            Vocabulary(entries, "words", "suffix")


def test_an_entry_listed_twice_is_named():
    with pytest.raises(ValueError, match="'b' twice"):
        Vocabulary("abcb", "characters")


def test_an_unknown_token_that_is_no_entry_is_refused():
    with pytest.raises(ValueError, match="'<unk>' is not in the vocabulary"):
        Vocabulary(["a"], "words", "token", "<unk>")


def test_ids_alone_are_written_as_they_are_and_read_no_text():
    vocabulary = Vocabulary.of_ids(12)
    assert (len(vocabulary), vocabulary.entries[11]) == (12, "11")
    assert not vocabulary.reads_text
    assert Vocabulary("ab", "characters").reads_text
