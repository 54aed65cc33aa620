"""The training recipes begin with the files that the authors of their data publish, or say what they need."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
MISSING = {
    "pos-tagger": (
        "en_ewt-ud-train.conllu",
        "https://github.com/UniversalDependencies/UD_English-EWT (commit 15d613d8)",
    ),
    "shakespeare": ("input.txt", "https://github.com/karpathy/char-rnn/tree/master/data/tinyshakespeare"),
}
TREEBANK = """\
# sent_id = weblog-0001
# text = He didn't run.
1\tHe\the\tPRON\tPRP\tCase=Nom|Number=Sing\t4\tnsubj\t4:nsubj\t_
2-3\tdidn't\t_\t_\t_\t_\t_\t_\t_\t_
2\tdid\tdo\tAUX\tVBD\tMood=Ind\t4\taux\t4:aux\t_
3\tn't\tnot\tPART\tRB\t_\t4\tadvmod\t4:advmod\t_
4\trun\trun\tVERB\tVB\tVerbForm=Inf\t0\troot\t0:root\tSpaceAfter=No
4.1\tfast\tfast\tADV\tRB\t_\t_\t_\t4:advmod\t_
5\t.\t.\tPUNCT\t.\t_\t4\tpunct\t4:punct\t_

# newpar
# text = Run # 9
1\tRun\trun\tVERB\tVB\t_\t0\troot\t0:root\t_
2\t#\t#\tSYM\t$\t_\t3\tdep\t3:dep\t_
3\t9\t9\tNUM\tCD\t_\t1\tobj\t1:obj\t_

"""
SENTENCES = [
    [("He", "PRON"), ("did", "AUX"), ("n't", "PART"), ("run", "VERB"), (".", "PUNCT")],
    [("Run", "VERB"), ("#", "SYM"), ("9", "NUM")],
]


@pytest.fixture
def recipe_of(monkeypatch, tmp_path):
    """A model's recipe, which reads its data from an empty folder and leaves torch's settings as they are."""

    def imported(name):
        train = import_module(f"models.{name}.train")
        monkeypatch.setattr(train.recipe, "DATA", tmp_path)
        monkeypatch.setattr(train.recipe, "prepare", lambda *_, **__: None)
        return train

    return imported


def missing(name, folder):
    """What a recipe says whose data are not in this folder."""
    file, source = MISSING[name]
    return (
        f"{folder / file} is missing: {name} is trained on {file}, from {source}. "
        "Put it there, or name its folder in GATESCOPE_DATA."
    )


@pytest.mark.parametrize("name", MISSING)
def test_a_recipe_without_its_data_says_in_one_line_where_to_get_them(recipe_of, monkeypatch, tmp_path, name):
    monkeypatch.setattr(sys, "argv", ["train"])
    with pytest.raises(SystemExit) as ended:
        recipe_of(name).main()
    assert ended.value.code == missing(name, tmp_path)


def test_the_recipe_itself_ends_with_status_1_and_that_line(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-m", "models.shakespeare.train"],
        cwd=ROOT,
        env=os.environ | {"GATESCOPE_DATA": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (1, missing("shakespeare", tmp_path) + "\n")


def test_what_is_no_text_is_said(recipe_of, tmp_path):
    (tmp_path / "input.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(SystemExit, match=r"input\.txt cannot be read \('utf-8' codec .*\): shakespeare is trained on"):
        recipe_of("shakespeare").read_parts()


class TestTagger:
    def test_words_and_tags_are_read_and_ranges_comments_and_empty_nodes_are_not(self, recipe_of, tmp_path):
        for text in (TREEBANK, TREEBANK.replace("\n", "\r\n"), TREEBANK.rstrip("\n")):
            (tmp_path / "en_ewt-ud-dev.conllu").write_text(text, encoding="utf-8", newline="")
            assert recipe_of("pos-tagger").read("dev") == SENTENCES

    def test_a_file_of_another_format_is_refused_with_its_line(self, recipe_of, tmp_path):
        path = tmp_path / "en_ewt-ud-dev.conllu"
        path.write_text("# words\nI\tPRON\n", encoding="utf-8")
        with pytest.raises(SystemExit) as ended:
            recipe_of("pos-tagger").read("dev")
        assert ended.value.code == f"{path}, line 2: a CoNLL-U line has 10 columns, this one 2."

    def test_it_trains_on_the_original_files(self, recipe_of, tmp_path):
        for part in ("train", "dev"):
            (tmp_path / f"en_ewt-ud-{part}.conllu").write_text(TREEBANK, encoding="utf-8")
        train = recipe_of("pos-tagger")
        model, entries = train.train(train.Settings(word_count=1, embedding=4, hidden=4, batch=1, epochs=2))
        assert {word for sentence in SENTENCES for word, _ in sentence} <= set(entries)
        assert all(value.isfinite().all() for value in model.state_dict().values())


class TestShakespeare:
    def test_it_trains_on_the_original_file(self, recipe_of, tmp_path):
        (tmp_path / "input.txt").write_text("ROMEO:\nIs the day so young?\n\n" * 120, encoding="utf-8")
        model = recipe_of("shakespeare").learn_text(max_steps=1)
        assert all(value.isfinite().all() for value in model.state_dict().values())

    def test_another_text_is_refused(self, recipe_of, tmp_path):
        (tmp_path / "input.txt").write_text("être", encoding="utf-8")
        with pytest.raises(SystemExit, match=r"input\.txt has 'ê', which tiny Shakespeare, from https"):
            recipe_of("shakespeare").read_parts()


class TestRiver:
    def test_its_numbers_are_there_with_source_and_licence(self, recipe_of):
        rows, discharge, dates = recipe_of("river").load()
        assert rows.shape == (4, 1096, 7)
        assert discharge.shape == (4, 1096)
        assert (str(dates[0]), str(dates[-1]), len(dates)) == ("2000-01-01", "2002-12-31", 1096)
        assert (np.diff(dates).astype(int) == 1).all()
        about = (ROOT / "models" / "river" / "DATA.md").read_text(encoding="utf-8")
        assert "## Source" in about
        assert "BSD 3-Clause License" in about

    def test_its_examples_are_those_numbers(self, recipe_of):
        train = recipe_of("river")
        rows, _, dates = train.load()
        (shown,) = train.recipe.example("river", "two-winters.json")["inputs"]
        begin = int(np.flatnonzero(dates == np.datetime64("2000-10-01"))[0])
        np.testing.assert_array_equal(shown, rows[train.GAUGES.index("03015500"), begin : begin + len(shown)])

    def test_it_trains_on_them(self, recipe_of, monkeypatch):
        train = recipe_of("river")
        monkeypatch.setattr(train, "STEPS", 2)
        monkeypatch.setattr(train, "PARTS", 1)
        rows, measured, dates = train.load()
        known = dates < np.datetime64("2000-03-01")
        model = train.train(train.encode(rows)[:, known], measured[:, known], np.ones(known.sum(), dtype=bool))
        assert all(value.isfinite().all() for value in model.state_dict().values())


def test_demand_names_the_package_that_it_lacks(recipe_of, monkeypatch):
    monkeypatch.setitem(sys.modules, "pmdarima.datasets", None)
    with pytest.raises(SystemExit, match="the package pmdarima, which is not installed: `make train MODEL=demand`"):
        recipe_of("demand").series()


def test_brackets_makes_its_own_data(recipe_of):
    train = recipe_of("brackets")
    assert train.generate_reaching(4, 16, 3, 0.0, seed=0) is not None
