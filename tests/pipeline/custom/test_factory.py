"""Modules with code of their own: off unless allowed, and whatever goes wrong in them is a reason."""

import sys

import pytest
import torch
from safetensors.torch import save_model

import example_modules as examples
from gatescope.errors import ManifestError, ModuleError, WeightsError
from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Query
from gatescope.server.repository.repository import Repository

CPU = torch.device("cpu")
MANIFEST = """
description = "a module of its own"
task = "regression"
factory = "FACTORY"

[input]
kind = "features"
features = [{name = "a"}, {name = "b"}, {name = "c"}]

[output]
names = ["x", "y"]
"""
TAGGER = """
description = "a tagger of its own"
task = "tagging"
factory = "example_modules:Tagger"

[input]
kind = "tokens"
vocabulary = "characters"
characters = "abcde"

[output]
labels = ["A", "B", "C", "D", "E"]
"""


@pytest.fixture
def folder(model_folder):
    """`folder("example_modules:forecaster", module)`; the module's state dict is version 1."""

    def write(factory="example_modules:Forecaster", module=None, manifest=MANIFEST, more=""):
        made = model_folder("own", manifest.replace("FACTORY", factory) + more)
        save_model(module or examples.Forecaster(), made.weights())
        return made

    return write


def load(made, *, allow_code=True):
    return Model.load(made.path, "1", CPU, allow_code=allow_code)


def refusal(made, kind=ModuleError):
    with pytest.raises(kind) as refused:
        load(made)
    return str(refused.value)


class TestServed:
    @pytest.mark.parametrize("factory", ["example_modules:Forecaster", "example_modules:forecaster"])
    def test_it_answers_as_the_trained_module_with_its_buffers(self, folder, random, factory):
        trained = examples.Forecaster()
        trained.train()(torch.randn(8, 5, 3, generator=random))  # moves the running mean and counts a batch
        made = folder(factory, trained.eval())
        model = load(made)
        raw = torch.randn(2, 6, 3, generator=random)
        values = model.pipeline.answer(Query(raw, torch.tensor([6, 6]))).prediction.values
        torch.testing.assert_close(values, trained(raw), rtol=0, atol=1e-5)
        assert int(model.pipeline.program.module.norm.num_batches_tracked) == 1
        assert (model.dtype, model.device, model.spec.num_layers) == ("float32", "cpu", 2)
        assert model.parameters == sum(value.numel() for value in trained.parameters())

    def test_its_factory_gets_the_manifests_arguments(self, folder):
        trained = examples.Forecaster(hidden=7, layers=3)
        made = folder(module=trained, more="\n[factory_arguments]\nhidden = 7\nlayers = 3\n")
        assert load(made).spec.hidden_size == 7

    def test_weights_of_another_precision_are_served_in_float32(self, folder):
        assert load(folder(module=examples.Forecaster().double())).dtype == "float32"
        assert load(folder(module=examples.Forecaster().bfloat16())).dtype == "float32"

    def test_tied_tensors_are_stored_once_or_twice(self, folder, random):
        trained = examples.Tagger().eval()
        made = folder(module=trained, manifest=TAGGER)
        ids = torch.randint(0, 5, (1, 7), generator=random)
        expected = trained(ids, torch.tensor([7]))
        for weights in (None, {name: value.clone() for name, value in trained.state_dict().items()}):
            if weights is not None:
                made.save(weights)
            model = load(made)
            values = model.pipeline.answer(Query(ids, torch.tensor([7]))).prediction.values
            torch.testing.assert_close(values, expected, rtol=0, atol=1e-5)
            assert model.pipeline.program.module.head.weight is model.pipeline.program.module.embedding.weight
        weights["head.weight"] = weights["head.weight"] + 1
        made.save(weights)
        assert "are one tensor in the module, but differ in the file" in refusal(made, WeightsError)

    def test_stated_arguments_are_held_against_the_lstm_that_runs_first(self, folder):
        assert load(folder(more="\n[lstm]\nnum_layers = 2\n")).spec.num_layers == 2
        assert "lstm.num_layers = 3" in refusal(folder(more="\n[lstm]\nnum_layers = 3\n"), ManifestError)

    def test_two_versions_are_two_modules(self, folder):
        made = folder()
        assert load(made).pipeline.program.module is not load(made).pipeline.program.module


class TestNotAllowed:
    def test_code_is_off_unless_allowed_and_then_nothing_is_imported(self, folder, monkeypatch):
        made = folder("example_modules.broken:build")
        monkeypatch.delitem(sys.modules, "example_modules.broken", raising=False)
        with pytest.raises(ModuleError, match="GATESCOPE_ALLOW_CODE=true if everyone who can write a manifest here"):
            load(made, allow_code=False)
        assert "example_modules.broken" not in sys.modules

    def test_a_repository_says_so_and_serves_the_others(self, folder, model_folder):
        made = folder()
        model_folder("plain")
        repository = Repository(made.models_dir, CPU)
        repository.load()
        assert "GATESCOPE_ALLOW_CODE" in repository.entry("own").reason(None)
        assert repository.entry("plain").state(None) == "ready"
        allowed = Repository(made.models_dir, CPU, allow_code=True)
        allowed.load()
        assert allowed.entry("own").state(None) == "ready"

    def test_code_in_the_folder_of_models_is_not_taken(self, folder, monkeypatch):
        before = set(sys.modules)
        made = folder("own_code:build")
        (made.models_dir / "own_code.py").write_text("raise SystemExit('this must not run')")
        monkeypatch.syspath_prepend(made.models_dir)
        assert "'own_code' lies in the folder of models" in refusal(made)
        (made.path / "code.py").write_text("")
        monkeypatch.syspath_prepend(made.models_dir.parent)
        made.edit("own_code:build", "models.own.code:build")
        assert "'models' lies in the folder of models" in refusal(made)
        assert not {"own_code", "models", "models.own"} & (sys.modules.keys() - before)


class TestFactoriesThatFail:
    @pytest.mark.parametrize(
        ("factory", "said"),
        [
            ("no_such_package.models:build", "the package 'no_such_package', which is not installed"),
            ("example_modules.nowhere:build", "importing 'example_modules.nowhere' raised ModuleNotFoundError"),
            ("example_modules.broken:build", "raised RuntimeError: this package needs a licence"),
            ("example_modules.faulty:missing", "'example_modules.faulty' has no 'missing'"),
            ("example_modules.faulty:answer", "is no function, but int"),
            ("example_modules.faulty:raises", "raised ValueError: no such corpus"),
            ("example_modules.faulty:exits", "raised SystemExit: 3"),
            ("example_modules.faulty:interrupts", "raised GeneratorExit"),
            ("example_modules.faulty:nothing", "must make an nn.Module; it gives NoneType"),
            ("example_modules:Faulty.how", "has no 'Faulty.how'"),
            ("os:getcwd", "must make an nn.Module; it gives str"),
        ],
    )
    def test_the_reason_names_it(self, folder, factory, said):
        message = refusal(folder(factory))
        assert said in message
        assert "\n" not in message

    def test_an_argument_that_it_does_not_take(self, folder):
        message = refusal(folder(more="\n[factory_arguments]\nheads = 2\n"))
        assert "raised TypeError" in message
        assert "'heads'" in message

    def test_the_same_module_cannot_be_two_versions(self, folder):
        made = folder("example_modules.faulty:always_the_same")
        first = load(made)
        assert "gives the same module a second time" in refusal(made)
        assert first.spec.hidden_size == 4

    def test_a_module_that_fails_its_trial(self, folder):
        message = refusal(folder("example_modules.faulty:Faulty", more='\n[factory_arguments]\nhow = "raises"\n'))
        assert message.startswith(
            "a trial run failed: the module's forward over a batch of 2 × 32 steps raised RuntimeError"
        )

    def test_a_repository_keeps_the_reason_and_serves_the_others(self, folder, model_folder):
        made = folder("example_modules.faulty:exits")
        model_folder("plain")
        repository = Repository(made.models_dir, CPU, allow_code=True)
        repository.load()
        assert "raised SystemExit: 3" in repository.entry("own").reason(None)
        assert repository.entry("plain").state(None) == "ready"


class TestWeights:
    def changed(self, made, **changes):
        weights = {name: value.clone() for name, value in examples.Forecaster().state_dict().items()}
        made.save({name: value for name, value in (weights | changes).items() if value is not None})
        return refusal(made, WeightsError)

    def test_the_first_that_does_not_fit_is_named(self, folder):
        made = folder()
        assert "lack 'head.weight', which the module has" in self.changed(made, **{"head.weight": None})
        missing = {"head.weight": None, "head.bias": None}
        assert "lack 'head.weight', which the module has (and 1 more)" in self.changed(made, **missing)
        assert "hold 'gru.bias', for which the module has no place" in self.changed(made, **{"gru.bias": torch.ones(2)})
        other = {"head.bias": torch.zeros(3)}
        assert "'head.bias' has shape [3]; the module's has [2]" in self.changed(made, **other)
        other = {"norm.running_mean": torch.full((4,), torch.nan)}
        assert "'norm.running_mean' holds NaN" in self.changed(made, **other)

    def test_a_file_that_is_none(self, folder):
        made = folder()
        made.weights().write_bytes(b"no tensors")
        assert "cannot be read" in refusal(made, WeightsError)


class TestManifest:
    @pytest.mark.parametrize(
        ("edit", "said"),
        [
            (("FACTORY", "no colon"), "factory: String should match pattern"),
            (("FACTORY", "pkg:"), "factory: String should match pattern"),
            (("FACTORY", "../pkg:build"), "factory: String should match pattern"),
            (('names = ["x", "y"]', 'names = ["x", "y"]\n[head]'), "has its own head: leave [head] out"),
            (('task = "regression"', "trial_steps = 0"), "trial_steps"),
            (('factory = "FACTORY"', "[factory_arguments]\nhidden = 3"), "`factory_arguments` goes with `factory`"),
            (('factory = "FACTORY"', "trial_steps = 8"), "`trial_steps` goes with `factory`"),
        ],
    )
    def test_what_does_not_go_together_is_refused(self, folder, edit, said):
        assert said in refusal(folder(manifest=MANIFEST.replace(*edit)), ManifestError)
