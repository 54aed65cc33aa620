import time

import pytest

from gatescope.pipeline.words import split


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("I love China", "I love China"),
        ("  a \n b\t", "a b"),
        ("I can't, won't and don't.", "I ca n't , wo n't and do n't ."),
        ("Can't Won't Shan't isn't", "Ca n't Wo n't Sha n't is n't"),
        ("It's I'm we're they've he'll she'd", "It 's I 'm we 're they 've he 'll she 'd"),
        ("I'd've", "I 'd 've"),
        ("don’t it’s we’ve", "do n’t it ’s we ’ve"),
        ("the dogs' tails", "the dogs ' tails"),
        ("Mary's", "Mary 's"),
        ("IT'S", "IT 'S"),
        ("Hello, world!", "Hello , world !"),
        ('"Why?" (he said)', '" Why ? " ( he said )'),
        ("well-known", "well - known"),
        ("wait -- no...", "wait -- no ..."),
        ("end.", "end ."),
        ("3.5% of $1,000", "3.5 % of $ 1,000"),
        ("at 10:30 on 3/4", "at 10:30 on 3/4"),
        ("in 1990, the 1990s, the 21st", "in 1990 , the 1990s , the 21st"),
        ("costs 5.", "costs 5 ."),
        ("the U.S. and e.g. this", "the U.S. and e.g. this"),
        ("Mr. Smith vs. Dr. Who", "Mr. Smith vs. Dr. Who"),
        ("See https://pytorch.org/docs, now", "See https://pytorch.org/docs , now"),
        ("(http://a.b/c?d=e).", "( http://a.b/c?d=e ) ."),
        ("write to a.b+c@d-e.org.", "write to a.b+c@d-e.org ."),
        ("cannot gonna", "can not gon na"),
        ("an e-mail, 2004-10-01", "an e-mail , 2004-10-01"),
        ("O'Connor smiled :)", "O'Connor smiled :)"),
        ("naïve Straße 中国", "naïve Straße 中国"),
    ],
)
def test_words_marks_numbers_and_contractions(text, tokens):
    assert split(text) == tokens.split()


def test_a_contraction_in_capitals():
    assert split("DON'T") == ["DO", "N'T"]


@pytest.mark.parametrize("text", ["", " ", "\n\t "])
def test_blank_text_has_no_words(text):
    assert split(text) == []


def test_nothing_but_white_space_is_lost():
    text = "He's \"fine\", 3.5% — a_b@c.d; don't? http://x.y/z... (U.S.)-based 'n' <<€5>> x--y .5 1,2,3"
    assert "".join(split(text)) == "".join(text.split())


@pytest.mark.parametrize(
    "unit", ["a-", "a.", "+a", "1.", "n'", "http://", "'", "a@", "1x", "^_", "co-", "a.-", "x.com"]
)
def test_splitting_takes_time_in_proportion_to_the_text(unit):
    text = unit * (40_000 // len(unit))
    start = time.process_time()
    split(text)
    assert time.process_time() - start < 2  # reading back over the text at every mark takes far longer
