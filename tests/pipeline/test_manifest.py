import itertools
import json

import pytest

from gatescope.errors import ManifestError
from gatescope.pipeline.manifest import Manifest

TOKENS = """
description = "letters"
task = "next_token"

[input]
kind = "tokens"
vocabulary = "characters"
characters = "\\n abc"

[head]
"""
WORDS = """
description = "words"
task = "tagging"

[input]
kind = "tokens"
vocabulary = "words"
file = "vocabulary.txt"

[head]

[output]
labels = ["NOUN", "VERB"]
"""
ENTRIES = "I\nlove\nChina\n"


@pytest.fixture
def folder(tmp_path):
    """Write a manifest and files beside it; the folder they stand in."""
    fresh = itertools.count()

    def write(manifest, **files):
        path = tmp_path / f"{next(fresh)}" / "river"
        path.mkdir(parents=True)
        (path / "model.toml").write_bytes(manifest if isinstance(manifest, bytes) else manifest.encode())
        for name, content in files.items():
            (path / name.replace("_", ".")).write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def refusal(path):
    with pytest.raises(ManifestError) as refused:
        Manifest.read(path)
    return str(refused.value)


def changed(*replacements, manifest=None, more=""):
    """A manifest with parts replaced, each of which must be there."""
    text = WORDS if manifest is None else manifest
    for old, new in zip(replacements[::2], replacements[1::2], strict=True):
        assert old in text
        text = text.replace(old, new)
    return text + more


class TestReading:
    def test_a_manifest_is_read_with_its_defaults(self, model_folder):
        manifest = Manifest.read(model_folder().path)
        assert manifest.task == "regression"
        assert manifest.input.names == ["a", "b", "c"]
        assert manifest.output.names == ("x", "y")
        assert (manifest.head.steps, manifest.head.activation) == ("all", "relu")
        assert manifest.default_version is None
        assert manifest.examples == ()

    def test_a_byte_order_mark_is_no_part_of_it(self, folder):
        path = folder(("\ufeff" + WORDS).encode(), vocabulary_txt="\ufeff" + ENTRIES)
        manifest = Manifest.read(path)
        assert manifest.description == "words"
        assert manifest.read_vocabulary(path).entries[0] == "I"

    def test_the_lstm_alone_needs_neither_task_nor_head(self, folder):
        manifest = Manifest.read(folder(changed('task = "tagging"', "", "[head]", "")))
        assert (manifest.task, manifest.head) == (None, None)

    def test_a_missing_manifest_is_named(self, tmp_path):
        (tmp_path / "river").mkdir()
        assert "river/model.toml cannot be read" in refusal(tmp_path / "river")

    @pytest.mark.parametrize("text", ["description = ", "[input\n", "a = 1\na = 2\n", b"description = '\xff'"])
    def test_what_is_not_toml_is_refused(self, folder, text):
        assert "river/model.toml cannot be read" in refusal(folder(text))

    def test_an_empty_manifest_lacks_its_description(self, folder):
        assert "description" in refusal(folder(""))


class TestFields:
    @pytest.mark.parametrize(
        ("manifest", "named"),
        [
            (changed("[head]", "[head]\nwidth = 3"), "head.width"),
            (changed("task =", "tsk ="), "tsk"),
            (changed(more="\n[training]\nepochs = 3\n"), "training"),
            (changed(more="temprature = 1.0\n"), "output.temprature"),
            (changed("[head]", "[lstm]\nbatch_first = true\n[head]"), "lstm.batch_first"),
        ],
    )
    def test_an_unknown_field_is_named(self, folder, manifest, named):
        assert named in refusal(folder(manifest))

    @pytest.mark.parametrize(
        ("manifest", "named"),
        [
            (changed('"tagging"', '"translation"'), "task"),
            (changed('kind = "tokens"', 'kind = "pixels"'), "input"),
            (changed("[head]", '[head]\nsteps = "first"'), "head.steps"),
            (changed("[head]", '[head]\nactivation = "gelu"'), "head.activation"),
            (changed("[head]", '[lstm]\nhidden_size = "wide"\n[head]'), "lstm.hidden_size"),
            (changed(more='predicts = "yesterday"\n'), "output.predicts"),
            (changed(more='[[examples]]\ntitle = "no request"\n'), "examples.0"),
        ],
    )
    def test_a_value_that_a_field_cannot_have_is_refused_at_the_field(self, folder, manifest, named):
        assert f"river/model.toml: {named}" in refusal(folder(manifest))


class TestContradictions:
    @pytest.mark.parametrize(
        ("manifest", "message"),
        [
            (changed("[head]", ""), r"`task` and [head] go together"),
            (changed('task = "tagging"', ""), r"`task` and [head] go together"),
            (changed('"tagging"', '"regression"'), "a regression needs output.names"),
            (changed('labels = ["NOUN", "VERB"]', ""), "tagging needs output.labels"),
            (changed("[head]", '[head]\nsteps = "last"'), "head.steps must be 'all', not 'last'"),
            (changed('"tagging"', '"classification"'), "head.steps must be last, final, mean or max"),
            (changed(more="mean = [1.0]\n"), "output.mean has 1 numbers for 0 names"),
            (changed("[head]", '[head]\nsteps = "mean"', manifest=TOKENS), "head.steps must be 'all', not 'mean'"),
            (changed('file = "vocabulary.txt"', 'characters = "abc"'), "a vocabulary of words comes from a `file`"),
            (changed('characters = "', 'file = "v.txt"\ncharacters = "', manifest=TOKENS), "either `characters` or"),
            (
                changed(more='[[examples]]\ntitle = "two"\nfile = "a.json"\nrequest = { text = "a" }\n'),
                "either `file` or `request`",
            ),
        ],
    )
    def test_parts_that_contradict_each_other_are_refused(self, folder, manifest, message):
        refused = refusal(folder(manifest))
        assert message in refused
        assert refused.startswith("river/model.toml: ")
        assert "Value error" not in refused

    def test_next_token_needs_tokens(self, model_folder):
        made = model_folder()
        made.edit('"regression"', '"next_token"')
        assert "next_token needs an input of tokens" in refusal(made.path)

    def test_two_kinds_of_one_feature_are_refused(self, model_folder):
        made = model_folder()
        made.edit("std = 2.0", "categories = [1, 2]")
        assert "feature 'a'" in refusal(made.path)


class TestVocabulary:
    def test_features_have_none(self, model_folder):
        path = model_folder().path
        assert Manifest.read(path).read_vocabulary(path) is None

    def test_characters_stand_in_the_manifest(self, folder):
        path = folder(TOKENS)
        assert Manifest.read(path).read_vocabulary(path).entries == ("\n", " ", "a", "b", "c")

    @pytest.mark.parametrize("entries", [ENTRIES, ENTRIES.removesuffix("\n")])
    def test_words_stand_in_a_file_one_a_line(self, folder, entries):
        path = folder(WORDS, vocabulary_txt=entries)
        assert Manifest.read(path).read_vocabulary(path).entries == ("I", "love", "China")

    def test_an_empty_ending_keeps_its_space(self, folder):
        entries = "digit \nmark \nUPPER \nTitle \nlower "
        path = folder(changed("[head]", 'unknown = "suffix"\n[head]'), vocabulary_txt=entries)
        vocabulary = Manifest.read(path).read_vocabulary(path)
        assert vocabulary.entries[-1] == "lower "
        assert vocabulary.encode(["word", "4"]) == [4, 0]

    @pytest.mark.parametrize(
        ("entries", "message"),
        [
            ("I\nlove\nI\n", "lists 'I' twice"),
            (None, "river/vocabulary.txt cannot be read"),
            (b"caf\xe9\n", "river/vocabulary.txt cannot be read"),
        ],
        ids=["repeated", "missing", "not UTF-8"],
    )
    def test_a_file_that_is_no_vocabulary_is_refused(self, folder, entries, message):
        path = folder(WORDS) if entries is None else folder(WORDS, vocabulary_txt=entries)
        with pytest.raises(ManifestError) as refused:
            Manifest.read(path).read_vocabulary(path)
        assert message in str(refused.value)

    def test_the_entry_for_unknown_tokens_must_be_there(self, folder):
        path = folder(changed("[head]", 'unknown = "token"\nunknown_token = "<unk>"\n[head]'), vocabulary_txt=ENTRIES)
        with pytest.raises(ManifestError, match="'<unk>' is not in the vocabulary"):
            Manifest.read(path).read_vocabulary(path)

    @pytest.mark.parametrize("place", ["../secret.txt", "/etc/hostname", "a/../../secret.txt"])
    def test_a_path_outside_the_folder_is_refused(self, folder, place):
        path = folder(changed("vocabulary.txt", place))
        (path.parent / "secret.txt").write_text(ENTRIES, encoding="utf-8")
        with pytest.raises(ManifestError, match="lies outside the model's folder"):
            Manifest.read(path).read_vocabulary(path)

    def test_a_link_that_leads_outside_the_folder_is_refused(self, folder):
        path = folder(WORDS)
        (path.parent / "secret.txt").write_text(ENTRIES, encoding="utf-8")
        (path / "vocabulary.txt").symlink_to(path.parent / "secret.txt")
        with pytest.raises(ManifestError, match="lies outside the model's folder"):
            Manifest.read(path).read_vocabulary(path)


class TestExamples:
    BODY = {"text": "I love China", "horizon": 3}  # noqa: RUF012 (read only)

    def read(self, path):
        return Manifest.read(path).read_examples(path)

    def test_an_example_stands_in_a_file_or_inline_in_the_order_given(self, folder):
        more = (
            '[[examples]]\ntitle = "inline"\nrequest = { text = "I love China", horizon = 3 }\n'
            '[[examples]]\ntitle = "file"\nfile = "week.json"\n'
        )
        path = folder(changed(more=more), week_json=json.dumps(self.BODY))
        assert self.read(path) == [{"title": title, "request": self.BODY} for title in ("inline", "file")]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (None, "river/week.json cannot be read"),
            ("{", "river/week.json is not JSON"),
            ("", "river/week.json is not JSON"),
            (b'{"text": "\xff"}', "river/week.json is not JSON"),
            ("[[1, 2]]", "river/week.json"),
            ('"text"', "river/week.json"),
        ],
        ids=["missing", "cut off", "empty", "not UTF-8", "a list", "a string"],
    )
    def test_a_file_that_is_no_json_object_is_refused(self, folder, content, message):
        files = {} if content is None else {"week_json": content}
        path = folder(changed(more='[[examples]]\ntitle = "week"\nfile = "week.json"\n'), **files)
        with pytest.raises(ManifestError) as refused:
            self.read(path)
        assert message in str(refused.value)

    def test_a_request_shows_nothing_but_what_json_has(self, folder):
        more = '[[examples]]\ntitle = "day"\nrequest = { inputs = [nan, 2000-01-01] }\n'
        assert self.read(folder(changed(more=more)))[0]["request"] == {"inputs": [None, "2000-01-01"]}

    def test_a_request_that_no_reply_could_hold_is_refused(self, folder):
        path = folder(
            changed(more='[[examples]]\ntitle = "deep"\nfile = "deep.json"\n'),
            deep_json=f'{{"inputs": {"[" * 300}{"]" * 300}}}',
        )
        with pytest.raises(ManifestError, match="river: the example 'deep' cannot be shown as JSON"):
            self.read(path)

    @pytest.mark.parametrize("place", ["../week.json", "/etc/hostname"])
    def test_a_path_outside_the_folder_is_refused(self, folder, place):
        path = folder(changed(more=f'[[examples]]\ntitle = "week"\nfile = "{place}"\n'))
        (path.parent / "week.json").write_text("{}", encoding="utf-8")
        with pytest.raises(ManifestError, match="lies outside the model's folder"):
            self.read(path)
