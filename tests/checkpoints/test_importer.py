"""What is written, what is refused, and that a failure leaves nothing behind."""

import errno
import json
import resource
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import example_modules
from gatescope.checkpoints import importer
from gatescope.checkpoints.importer import Options, import_checkpoint
from gatescope.errors import (
    CheckpointError,
    InvalidInput,
    ManifestError,
    ModelError,
    ModuleError,
    VersionExists,
    WeightsError,
)
from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Query
from gatescope.server.repository.repository import Repository


def forecaster(hidden=4, features=3, outputs=1, **lstm):
    return nn.ModuleDict({"lstm": nn.LSTM(features, hidden, **lstm), "fc": nn.Linear(hidden, outputs)})


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


class TestWritten:
    def test_a_model_is_a_manifest_weights_a_card_and_an_example(self, bring, models):
        brought = bring(forecaster(), description="mine | yours")
        assert files(models) == [
            "mine/1/model.safetensors",
            "mine/README.md",
            "mine/examples/random.json",
            "mine/model.toml",
        ]
        assert load_file(models / "mine/1/model.safetensors").keys() == forecaster().state_dict().keys()
        card = (models / "mine/README.md").read_text()
        assert card.startswith("# mine\n\nmine \\| yours\n")
        assert "nn.LSTM(3, 4)" in card
        assert all(heading in card for heading in ("## Data", "## Quality", "## Limits", "## Licence"))
        assert all(note.split(":")[0] in card for note in brought.imported.notes)
        assert oct((models / "mine").stat().st_mode) == oct((models / "mine/1").stat().st_mode)

    def test_the_example_is_a_complete_request_and_always_the_same(self, bring, models):
        first, second = bring(forecaster()), bring(forecaster(), name="other")
        request = json.loads((models / "mine/examples/random.json").read_text())
        assert request == first.imported.request == second.imported.request == first.model.examples[0]["request"]
        assert torch.tensor(request["inputs"]).shape == (1, 6, 3)

    def test_a_vocabulary_is_written_beside_the_manifest(self, bring, models):
        module = nn.ModuleDict({"emb": nn.Embedding(3, 4), "lstm": nn.LSTM(4, 5), "fc": nn.Linear(5, 2)})
        brought = bring(module, vocabulary=("<unk>", "sun", "é "), labels=("sad", "glad"))
        assert (models / "mine/vocabulary.txt").read_bytes() == "<unk>\nsun\né \n".encode()
        assert brought.model.vocabulary.entries == ("<unk>", "sun", "é ")
        assert brought.model.vocabulary.encode(["sun", "rain"]) == [1, 0]

    def test_a_version_may_be_named(self, bring):
        assert bring(forecaster(), version="2026-11.rc1").model.version == "2026-11.rc1"

    @pytest.mark.parametrize("name", ["model.toml", "README.md", "examples", "vocabulary.txt"])
    def test_a_version_may_not_be_named_like_another_part_of_the_model(self, bring, models, name):
        with pytest.raises(InvalidInput, match=f"version: '{name}' is the name of another part"):
            bring(forecaster(), version=name)
        assert not models.exists()


class TestVersions:
    def test_a_name_that_is_there_gets_the_next_version_under_its_own_manifest(self, bring, models, sequences):
        bring(forecaster(), outputs=("level",), version="9")
        manifest = (models / "mine/model.toml").read_bytes()
        second = forecaster(7).eval()
        brought = bring(second)
        assert brought.imported.version == "10"
        assert brought.manifest.head.names == ("level",)
        assert (models / "mine/model.toml").read_bytes() == manifest
        rows = sequences(3)
        with torch.no_grad():
            brought.predicts(rows, [second["fc"](second["lstm"](row)[0]) for row in rows])
        assert "Added as version 10 of 'mine'" in brought.notes

    def test_a_manifest_written_by_hand_is_obeyed(self, model_folder, bring, tmp_path):
        model_folder("mine")
        brought = bring(forecaster(5, outputs=2))
        assert brought.imported.folder == tmp_path / "models" / "mine"
        assert brought.manifest.head.names == ("x", "y")
        assert brought.imported.version == "2"

    def test_a_version_that_is_there_is_refused_and_stays_as_it_is(self, bring, listing):
        bring(forecaster())
        before = listing()
        with pytest.raises(VersionExists, match="model 'mine' has a version '1' already"):
            bring(Path("unread.pt"), version="1")
        assert listing() == before

    @pytest.mark.parametrize(
        ("module", "options", "error", "message"),
        [
            (forecaster(features=2), {}, ManifestError, "is given 3 values a time step, but .* input_size 2"),
            (forecaster(outputs=2), {}, ManifestError, "gives 2 values, but head 'prediction' has 1 names"),
            (nn.LSTM(3, 4), {}, InvalidInput, "the manifest has the layers lstm, linear, but the checkpoint has lstm"),
            (nn.GRU(3, 4), {}, InvalidInput, "the manifest has the layers lstm, linear, but the checkpoint has gru"),
            (forecaster(), {"task": "tagging"}, InvalidInput, "task: model 'mine' is there already"),
            (forecaster(), {"features": ("a", "b", "c")}, InvalidInput, "features: model 'mine' is there already"),
            (forecaster(), {"description": "x"}, InvalidInput, "description: model 'mine' is there already"),
            (forecaster(), {"version": "examples"}, VersionExists, "a version 'examples' already"),
        ],
    )
    def test_what_does_not_fit_the_manifest_that_is_there_changes_nothing(
        self, bring, saved, listing, module, options, error, message
    ):
        bring(forecaster())
        path = saved(module, "second.pt")
        before = listing()
        with pytest.raises(error, match=message):
            bring(path, **options)
        assert listing() == before

    def test_a_manifest_without_a_layer_does_not_take_its_weights_silently(self, bring):
        bring(nn.LSTM(3, 4))
        module = nn.ModuleDict({"emb": nn.Embedding(9, 3), "lstm": nn.LSTM(3, 4), "fc": nn.Linear(4, 2)})
        with pytest.raises(InvalidInput, match="has the layers lstm, but the checkpoint has embedding, lstm, linear"):
            bring(module)

    def test_a_broken_manifest_takes_no_version(self, bring, models, listing, saved):
        bring(forecaster())
        (models / "mine/model.toml").write_text("nonsense")
        path, before = saved(forecaster(), "second.pt"), listing()
        with pytest.raises(ManifestError, match="cannot be read"):
            bring(path)
        assert listing() == before

    def test_a_folder_that_is_no_model_is_not_touched(self, bring, models, listing, saved):
        (models / "mine").mkdir(parents=True)
        (models / "mine" / "notes.txt").write_text("mine")
        (models / "link").symlink_to("nowhere")
        path, before = saved(forecaster()), listing()
        for name in ("mine", "link"):
            with pytest.raises(InvalidInput, match=f"name: '{name}' is in the folder of models already"):
                bring(path, name=name)
        assert listing() == before


class TestNothingIsLeftBehind:
    @pytest.fixture
    def fails(self, models, saved, listing):
        """`fails(error, message, content)`: the import does, with a folder of models and without."""

        def fail(error, message, content, **options):
            path = content if isinstance(content, Path) else saved(content)
            for _ in range(2):
                before = listing()
                with pytest.raises(error, match=message):
                    import_checkpoint(path, models, "mine", Options(**options))
                assert listing() == before
                models.mkdir(exist_ok=True)

        return fail

    def test_after_a_checkpoint_that_cannot_be_read(self, fails, tmp_path):
        (tmp_path / "bad.pt").write_bytes(b"not a checkpoint")
        fails(CheckpointError, "bad.pt", tmp_path / "bad.pt")
        fails(CheckpointError, "missing.pt: it cannot be read", tmp_path / "missing.pt")

    def test_after_one_without_an_lstm(self, fails):
        fails(WeightsError, "no nn.LSTM", nn.Linear(3, 4))

    def test_after_nan(self, fails):
        module = forecaster()
        module["lstm"].bias_hh_l0.data[2] = torch.nan
        fails(ModelError, "'lstm.bias_hh_l0' holds NaN", module)

    def test_after_weights_that_answer_nan(self, fails):
        module = forecaster()
        module["fc"] = nn.Sequential(nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 1))
        for parameter in module["fc"].parameters():
            parameter.data.fill_(3e38)
        fails(WeightsError, "model 'mine' answers NaN or Infinity", module)

    def test_after_options_that_do_not_fit(self, fails):
        fails(InvalidInput, "features: has 1", forecaster(), features=("a",))

    def test_after_a_disk_that_takes_no_more(self, fails, saved):
        path = saved(forecaster(200))  # 660,000 bytes
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            fails(OSError, "File too large", path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    @pytest.mark.parametrize("step", ["mkdir", "rename"])
    def test_after_a_folder_that_may_not_be_written(self, fails, monkeypatch, step, models):
        right = getattr(Path, step)

        def guarded(self, *arguments, **more):
            if models in self.parents:
                raise PermissionError(errno.EACCES, "Permission denied", str(self))
            return right(self, *arguments, **more)

        monkeypatch.setattr(Path, step, guarded)
        fails(PermissionError, "Permission denied", forecaster())

    def test_where_the_folder_of_models_is_a_file(self, models, saved, listing):
        models.touch()
        path, before = saved(forecaster()), listing()
        with pytest.raises(OSError, match="models"):
            import_checkpoint(path, models, "mine")
        assert listing() == before

    def test_after_an_interrupt(self, fails, monkeypatch):
        def interrupt(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(importer.example, "prove", interrupt)
        fails(KeyboardInterrupt, None, forecaster())

    def test_when_somebody_else_takes_the_name_meanwhile(self, bring, models, monkeypatch):
        right = importer.example.prove

        def slow(model, body):
            shutil.copytree(models / ".." / "other", models / "mine")
            right(model, body)

        bring(forecaster(), name="theirs")
        (models / "theirs").rename(models / ".." / "other")
        monkeypatch.setattr(importer.example, "prove", slow)
        with pytest.raises(VersionExists, match="'models/mine' is there already"):
            bring(forecaster(5))
        assert not list(models.glob(".*"))
        assert Model.load(models / "mine", "1", torch.device("cpu")).spec.hidden_size == 4


def test_an_imported_model_is_found_while_the_hidden_ones_are_not(bring, models):
    bring(forecaster())
    shutil.copytree(models / "mine", models / ".import-1234")
    shutil.copytree(models / "mine/1", models / "mine/.import-1234")
    repository = Repository(models, torch.device("cpu"))
    repository.load()
    assert [(entry.name, entry.versions) for entry in repository.entries()] == [("mine", ["1"])]


class TestCustom:
    def test_the_module_of_a_factory_takes_all_weights(self, model_folder, saved, models, sequences):
        manifest = model_folder("mine").path / "model.toml"
        text = manifest.read_text().replace('[head]\nsteps = "all"\n', "")
        manifest.write_text('factory = "example_modules:Forecaster"\n' + text.replace("mean = 1.0\nstd = 2.0\n", ""))
        module = example_modules.Forecaster().eval()
        module.norm.running_mean.data.uniform_()
        imported = import_checkpoint(saved(module), models, "mine", allow_code=True)
        model = Model.load(imported.folder, imported.version, torch.device("cpu"), allow_code=True)
        (row, *_) = sequences(3)
        answer = model.pipeline.answer(Query(row[None], torch.tensor([len(row)])))
        with torch.no_grad():
            torch.testing.assert_close(answer.prediction.values, module(row[None]), rtol=0, atol=1e-5)

    MANIFEST = (
        'description = "custom"\nfactory = "nobody.has:this"\n[input]\nkind = "features"\nfeatures = [{name = "a"}]\n'
    )

    def test_a_factory_is_not_run_without_leave(self, models, saved, listing):
        (models / "mine").mkdir(parents=True)
        (models / "mine/model.toml").write_text(self.MANIFEST)
        path, before = saved(nn.LSTM(1, 2)), listing()
        with pytest.raises(ModuleError, match="runs no code"):
            import_checkpoint(path, models, "mine")
        with pytest.raises(ModuleError, match="'nobody', which is not installed"):
            import_checkpoint(path, models, "mine", allow_code=True)
        assert listing() == before
