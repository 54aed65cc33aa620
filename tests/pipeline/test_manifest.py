"""Manifests of format 2: their fields, and the files beside them."""

import json

import pytest

from gatescope.errors import ManifestError
from gatescope.pipeline.manifest_file import read_manifest

FEATURES = """
format = 2
description = "two quantities"
window = 24
warmup_steps = 6
ignored = ["ema"]

[input]
kind = "features"
features = [{ name = "a" }, { name = "b", categories = [1, 2] }]

[static]
features = [{ name = "area", mean = 3.0 }]

[[layers]]
name = "beside"
type = "concat"
inputs = ["inputs", "static"]

[[layers]]
name = "lstm"
type = "lstm"
hidden_size = 4

[[layers]]
name = "fc"
type = "linear"
weights = "model.fc"

[[heads]]
task = "regression"
names = ["x", "y"]

[[heads]]
name = "state"
layer = "lstm"
task = "tagging"
labels = ["P", "Q", "R", "S"]
"""
TOKENS = """
format = 2
description = "letters"

[input]
kind = "tokens"
vocabulary = "characters"
characters = "\\n abc"

[[layers]]
name = "embedding"
type = "embedding"

[[layers]]
name = "lstm"
type = "lstm"

[[heads]]
task = "next_token"
"""
WORDS = """
format = 2
description = "words"

[input]
kind = "tokens"
vocabulary = "words"
file = "vocabulary.txt"

[[layers]]
name = "embedding"
type = "embedding"

[[layers]]
name = "lstm"
type = "lstm"

[[heads]]
task = "tagging"
labels = ["NOUN", "VERB"]

"""
CUSTOM = """
format = 2
description = "a module of its own"
factory = "package.module:function"

[input]
kind = "features"
features = [{ name = "a" }]

[[heads]]
task = "regression"
names = ["x"]
"""
ENTRIES = "I\nlove\nChina\n"


def changed(*replacements, manifest=None, more=""):
    """A manifest with parts replaced, each of which must be there."""
    text = WORDS if manifest is None else manifest
    for old, new in zip(replacements[::2], replacements[1::2], strict=True):
        assert old in text
        text = text.replace(old, new, 1)
    return text + more


class TestFields:
    def test_a_manifest_is_read_with_its_defaults(self, folder):
        manifest = read_manifest(folder(FEATURES))
        assert manifest.format == 2
        assert [(layer.name, layer.type) for layer in manifest.layers] == [
            ("beside", "concat"),
            ("lstm", "lstm"),
            ("fc", "linear"),
        ]
        assert (manifest.layers[2].inputs, manifest.layers[2].weights) == ((), "model.fc")
        assert manifest.task == "regression"
        assert manifest.head is manifest.heads[0]
        assert [head.name for head in manifest.heads] == ["prediction", "state"]
        assert manifest.static.names == ["area"]
        assert (manifest.window, manifest.ignored, manifest.not_computed) == (24, ("ema",), ())
        assert manifest.warmup_steps == 6
        assert (manifest.default_version, manifest.examples, manifest.files) == (None, (), ())

    def test_recurrent_layers_alone_need_no_head(self, folder):
        manifest = read_manifest(folder(changed('[[heads]]\ntask = "next_token"\n', "", manifest=TOKENS)))
        assert (manifest.head, manifest.task) == (None, None)
        assert manifest.warmup_steps == 0

    def test_what_is_not_computed_is_stated(self, folder):
        more = '[[not_computed]]\nname = "attention"\nkind = "nn.MultiheadAttention"\nplace = "behind"\n'
        (left_out,) = read_manifest(folder(FEATURES + more)).not_computed
        assert (left_out.name, left_out.kind, left_out.place) == ("attention", "nn.MultiheadAttention", "behind")

    def test_the_files_beside_it_are_listed(self, folder):
        more = '[[examples]]\ntitle = "week"\nfile = "week.json"\n'
        assert read_manifest(folder(WORDS + more)).files == ("vocabulary.txt", "week.json")

    @pytest.mark.parametrize(
        ("manifest", "named"),
        [
            (changed("format = 2", "format = 2\ntsk = 3"), "tsk"),
            (changed(more="\n[training]\nepochs = 3\n"), "training"),
            (changed(more="temprature = 1.0\n"), "heads.0.temprature"),
            (changed('type = "lstm"', 'type = "lstm"\nbatch_first = true'), "layers.1.lstm.batch_first"),
            (changed('type = "lstm"', 'type = "transformer"'), "layers.1"),
            (changed('type = "lstm"', 'type = "gru"\nnonlinearity = "relu"'), "layers.1.gru.nonlinearity"),
            (changed('type = "lstm"', 'type = "rnn"\nnonlinearity = "gelu"'), "layers.1.rnn.nonlinearity"),
            (changed('"tagging"', '"translation"'), "heads.0.task"),
            (changed('kind = "tokens"', 'kind = "pixels"'), "input"),
            (changed('type = "lstm"', 'type = "lstm"\nhidden_size = "wide"'), "layers.1.lstm.hidden_size"),
            (changed(more='predicts = "yesterday"\n'), "heads.0.predicts"),
            (changed(more='[[examples]]\ntitle = "no request"\n'), "examples.0"),
            (changed("window = 24", "window = 0", manifest=FEATURES), "window"),
            (changed("warmup_steps = 6", "warmup_steps = -1", manifest=FEATURES), "warmup_steps"),
            (changed("warmup_steps = 6", "warmup_steps = 0.5", manifest=FEATURES), "warmup_steps"),
            (changed(more='[[not_computed]]\nname = "a"\nkind = "b"\nplace = "above"\n'), "not_computed.0.place"),
        ],
    )
    def test_a_field_that_cannot_be_is_refused_at_its_place(self, refusal, manifest, named):
        refused = refusal(manifest)
        assert f"river/model.toml: {named}" in refused


class TestContradictions:
    @pytest.mark.parametrize(
        ("manifest", "message"),
        [
            (
                'format = 2\ndescription = "d"\n[input]\nkind = "features"\nfeatures = [{ name = "a" }]',
                "needs [[layers",
            ),
            (changed('name = "state"', 'name = "prediction"', manifest=FEATURES), "two heads have the same name"),
            (
                changed('task = "regression"\nnames = ["x", "y"]', 'task = "next_token"', manifest=FEATURES),
                "next_token needs an input of tokens",
            ),
            (
                changed('names = ["x", "y"]', 'names = ["x", "b"]\npredicts = "next_step"', manifest=FEATURES),
                "output 'b' cannot be fed back: that input is a category or a phase",
            ),
            (changed('labels = ["NOUN", "VERB"]', ""), "heads.0: tagging needs labels"),
            (changed("format = 2", "format = 2\ntrial_steps = 3"), "`trial_steps` goes with `factory`"),
            (changed("format = 2", "format = 2\nfactory_arguments = {}"), "`factory_arguments` goes with `factory`"),
            (changed("format = 2", 'format = 2\nfactory = "a:b"'), "leave [[layers]] and [static] out"),
            (
                changed('task = "regression"', 'task = "regression"\nlayer = "fc"', manifest=CUSTOM),
                "leave [[layers]] and [static] out",
            ),
            (CUSTOM + '[static]\nfeatures = [{ name = "s" }]\n', "leave [[layers]] and [static] out"),
            (changed("package.module:function", "package.module", manifest=CUSTOM), "factory"),
            (changed('file = "vocabulary.txt"', 'characters = "abc"'), "a vocabulary of words comes from a `file`"),
            (changed('characters = "', 'file = "v.txt"\ncharacters = "', manifest=TOKENS), "either `characters` or"),
            (
                changed(more='[[examples]]\ntitle = "two"\nfile = "a.json"\nrequest = { text = "a" }\n'),
                "either `file` or `request`",
            ),
            (changed('{ name = "a" }', '{ name = "a", std = 2.0, period = 24 }', manifest=FEATURES), "feature 'a'"),
            (changed('{ name = "a" }', '{ name = "b" }', manifest=FEATURES), "two features have the same name"),
            (
                changed('features = [{ name = "area", mean = 3.0 }]', "features = []", manifest=FEATURES),
                "static.features",
            ),
        ],
    )
    def test_parts_that_contradict_each_other_are_refused(self, refusal, manifest, message):
        refused = refusal(manifest)
        assert message in refused
        assert refused.startswith("river/model.toml: ")
        assert "Value error" not in refused

    def test_a_factory_has_one_head_and_no_layers(self, folder):
        manifest = read_manifest(folder(CUSTOM))
        assert (manifest.factory, manifest.trial_steps, manifest.layers) == ("package.module:function", 32, ())


class TestVocabulary:
    def test_features_have_none(self, folder):
        path = folder(FEATURES)
        assert read_manifest(path).read_vocabulary(path) is None

    @pytest.mark.parametrize("text", ["I LOVE China", "i love china"])
    def test_a_text_is_lower_cased_where_the_manifest_says_so(self, folder, text):
        path = folder(changed('file = "', 'lowercase = true\nfile = "'), vocabulary_txt=ENTRIES.lower())
        vocabulary = read_manifest(path).read_vocabulary(path)
        assert vocabulary.encode(vocabulary.split(text)) == [0, 1, 2]

    def test_characters_stand_in_the_manifest(self, folder):
        path = folder(TOKENS)
        assert read_manifest(path).read_vocabulary(path).entries == ("\n", " ", "a", "b", "c")

    @pytest.mark.parametrize("entries", [ENTRIES, ENTRIES.removesuffix("\n")])
    def test_words_stand_in_a_file_one_a_line(self, folder, entries):
        path = folder(WORDS, vocabulary_txt=entries)
        assert read_manifest(path).read_vocabulary(path).entries == ("I", "love", "China")

    def test_an_empty_ending_keeps_its_space(self, folder):
        entries = "digit \nmark \nUPPER \nTitle \nlower "
        path = folder(
            changed('file = "vocabulary.txt"', 'file = "vocabulary.txt"\nunknown = "suffix"'), vocabulary_txt=entries
        )
        vocabulary = read_manifest(path).read_vocabulary(path)
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
            read_manifest(path).read_vocabulary(path)
        assert message in str(refused.value)

    def test_the_entry_for_unknown_tokens_must_be_there(self, folder):
        path = folder(
            changed('file = "vocabulary.txt"', 'file = "vocabulary.txt"\nunknown = "token"\nunknown_token = "<unk>"'),
            vocabulary_txt=ENTRIES,
        )
        with pytest.raises(ManifestError, match="'<unk>' is not in the vocabulary"):
            read_manifest(path).read_vocabulary(path)

    @pytest.mark.parametrize("place", ["../secret.txt", "/etc/hostname", "a/../../secret.txt"])
    def test_a_path_outside_the_folder_is_refused(self, folder, place):
        path = folder(changed("vocabulary.txt", place))
        (path.parent / "secret.txt").write_text(ENTRIES, encoding="utf-8")
        with pytest.raises(ManifestError, match="lies outside the model's folder"):
            read_manifest(path).read_vocabulary(path)

    def test_a_link_that_leads_outside_the_folder_is_refused(self, folder):
        path = folder(WORDS)
        (path.parent / "secret.txt").write_text(ENTRIES, encoding="utf-8")
        (path / "vocabulary.txt").symlink_to(path.parent / "secret.txt")
        with pytest.raises(ManifestError, match="lies outside the model's folder"):
            read_manifest(path).read_vocabulary(path)


class TestExamples:
    BODY = {"text": "I love China", "horizon": 3}  # noqa: RUF012 (read only)

    def read(self, path):
        return read_manifest(path).read_examples(path)

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
