import errno
import shutil
from pathlib import Path

import pytest
import torch

from gatescope.errors import ModelNotFound, ModelUnavailable, NotFound, NotReady, VersionNotFound
from gatescope.pipeline import model
from gatescope.pipeline.model import Model
from gatescope.server.repository import found
from gatescope.server.repository.repository import Repository


@pytest.fixture
def repository(tmp_path):
    """The models written so far, loaded."""

    def read(*, load=True):
        made = Repository(tmp_path / "models", torch.device("cpu"))
        if load:
            made.load()
        return made

    return read


def pin(folder, version):
    folder.edit("description", f'default_version = "{version}"\ndescription')


def unavailable(repository, *asked):
    with pytest.raises(ModelUnavailable) as refused:
        repository.model(*asked)
    return str(refused.value)


def test_every_folder_with_a_manifest_is_a_model_by_name(model_folder, repository, tmp_path):
    for name in ("river", "demand"):
        model_folder(name)
    (tmp_path / "models" / "notes").mkdir()
    (tmp_path / "models" / "recipe.py").touch()
    made = repository()
    assert [entry.name for entry in made.entries()] == ["demand", "river"]
    assert made.model("river").name == "river"
    assert made.entry("river").state(None) == "ready"


def test_an_empty_folder_is_a_repository_without_models(repository, tmp_path):
    (tmp_path / "models").mkdir()
    assert repository().entries() == []
    with pytest.raises(ModelNotFound, match="none"):
        repository().model("river")


def test_a_folder_that_is_not_there_is_refused(repository, tmp_path):
    with pytest.raises(NotFound, match=r"models' does not exist"):
        repository()
    (tmp_path / "models").touch()
    with pytest.raises(NotFound, match=r"models' is no folder"):
        repository()


@pytest.fixture
def locked(monkeypatch):
    """`locked(path)`: from here on it cannot be read, as if its permissions said so (which root would not feel)."""

    def guard(path, name):
        right = getattr(Path, name)

        def guarded(self, *arguments, **more):
            if path in (self, *self.parents):
                raise PermissionError(errno.EACCES, "Permission denied", str(self))
            return right(self, *arguments, **more)

        monkeypatch.setattr(Path, name, guarded)

    def lock(path):
        for name in ("exists", "iterdir", "open"):
            guard(path, name)

    return lock


class TestPermissions:
    def test_a_model_that_may_not_be_read_is_listed_with_the_true_reason(self, model_folder, repository, locked):
        model_folder("demand")
        locked(model_folder("river").path)
        made = repository()
        assert [entry.name for entry in made.entries()] == ["demand", "river"]
        assert made.model("demand").name == "demand"
        assert "river cannot be read: Permission denied" in unavailable(made, "river")

    def test_so_is_a_manifest(self, model_folder, repository, locked):
        locked(model_folder("river").path / "model.toml")
        assert "river/model.toml cannot be read: Permission denied" in unavailable(repository(), "river")

    @pytest.mark.parametrize("part", ["1", "1/model.safetensors"])
    def test_so_are_weights(self, model_folder, repository, locked, part):
        locked(model_folder("river").path / part)
        made = repository()
        assert made.entry("river").versions == ["1"]
        assert "river/1/model.safetensors cannot be read: Permission denied" in unavailable(made, "river")


class TestFailures:
    @pytest.fixture
    def broken(self, model_folder, repository):
        """Three models, of which the middle one cannot be loaded."""

        def make(harm):
            for name in ("a-first", "b-broken", "c-last"):
                folder = model_folder(name)
                if name == "b-broken":
                    harm(folder)
            return repository()

        return make

    @pytest.mark.parametrize(
        ("harm", "reason"),
        [
            (lambda folder: folder.edit('"regression"', '"regresion"'), "task"),
            (lambda folder: folder.edit("[head]", "[head"), "model.toml cannot be read"),
            (lambda folder: folder.append("a = " + "[" * 3000), "model.toml cannot be read: it is nested too deeply"),
            (lambda folder: folder.weights().write_bytes(b"x"), "model.safetensors cannot be read"),
            (lambda folder: folder.edit('["x", "y"]', '["x"]'), "'head.0' gives 2 values"),
            (lambda folder: shutil.rmtree(folder.path / "1"), "no weights"),
            (lambda folder: folder.save({"head.0.weight": torch.zeros(2, 4)}), "no nn.LSTM"),
        ],
        ids=["manifest", "no TOML", "deep TOML", "weights", "contradiction", "no version", "no LSTM"],
    )
    def test_a_model_that_fails_says_why_and_stops_no_other(self, broken, harm, reason):
        made = broken(harm)
        assert [entry.state(None) for entry in made.entries()] == ["ready", "unavailable", "ready"]
        refused = unavailable(made, "b-broken")
        assert "model 'b-broken' is unavailable" in refused
        assert reason in refused
        assert reason in made.entry("b-broken").reason(None)
        assert [made.model(name).name for name in ("a-first", "c-last")] == ["a-first", "c-last"]

    def test_an_unforeseen_error_stops_no_other_either(self, broken, monkeypatch):
        right = Model.load.__func__

        def load(cls, folder, version, device, **more):
            if folder.name == "b-broken":
                raise MemoryError
            return right(cls, folder, version, device, **more)

        monkeypatch.setattr(Model, "load", classmethod(load))
        made = broken(lambda _: None)
        assert "MemoryError while loading it" in unavailable(made, "b-broken")
        assert made.model("c-last").name == "c-last"

    def test_nor_does_one_while_the_folder_is_read(self, broken, monkeypatch):
        def read(folder):
            if folder.name == "b-broken":
                raise MemoryError
            return right(folder)

        right = found.read_manifest
        for module in (found, model):
            monkeypatch.setattr(module, "read_manifest", read)
        made = broken(lambda _: None)
        assert [entry.state(None) for entry in made.entries()] == ["ready", "unavailable", "ready"]
        assert "MemoryError while loading it" in unavailable(made, "b-broken")

    def test_a_broken_version_leaves_the_others_of_its_model(self, model_folder, repository):
        folder = model_folder("river")
        folder.save(folder.module.state_dict(), "2")
        folder.weights("2").write_bytes(b"x")
        made = repository()
        assert made.model("river", "1").version == "1"
        assert "river/2/model.safetensors" in unavailable(made, "river", "2")
        assert made.model("river").version == "1"  # the newest that can answer
        entry = made.entry("river")
        assert [entry.state(version) for version in ("1", "2", None)] == ["ready", "unavailable", "ready"]
        assert "version '1' answers, because version '2' is unavailable: river/2/model" in entry.reason(None)
        assert entry.reason("1") is None


def test_before_it_is_loaded_a_model_is_not_ready(model_folder, repository):
    model_folder("river")
    made = repository(load=False)
    assert made.entry("river").state(None) == "loading"
    with pytest.raises(NotReady, match="'river' is still being loaded"):
        made.model("river")


class TestVersions:
    @pytest.fixture
    def river(self, model_folder):
        """A model of the versions 1, 2, 9 and 10."""
        folder = model_folder("river")
        for version in ("10", "9", "2"):
            folder.save(folder.module.state_dict(), version)
        return folder

    @pytest.mark.usefixtures("river")
    def test_they_sort_as_numbers_and_the_newest_answers(self, repository):
        made = repository()
        assert made.entry("river").versions == ["1", "2", "9", "10"]
        assert made.model("river").version == "10"
        assert made.model("river", "2").version == "2"

    def test_names_come_before_numbers(self, river, repository):
        river.save(river.module.state_dict(), "beta")
        made = repository()
        assert made.entry("river").versions == ["beta", "1", "2", "9", "10"]
        assert made.model("river").version == "10"
        assert made.model("river", "beta").version == "beta"

    def test_a_folder_without_weights_is_no_version(self, river, repository):
        (river.path / "11").mkdir()
        (river.path / "examples").mkdir()
        assert repository().entry("river").versions == ["1", "2", "9", "10"]

    def test_the_manifest_pins_the_one_that_answers(self, river, repository):
        pin(river, "9")
        made = repository()
        assert made.entry("river").default_version == "9"
        assert made.model("river").version == "9"
        assert made.model("river", "10").version == "10"

    def test_a_pinned_version_without_weights_is_not_replaced_by_another(self, river, repository):
        pin(river, "3")
        made = repository()
        assert "pins version '3'" in unavailable(made, "river")
        assert made.entry("river").state(None) == "unavailable"
        assert made.model("river", "10").version == "10"
        assert (made.entry("river").state("10"), made.entry("river").reason("10")) == ("ready", None)

    @pytest.mark.usefixtures("river")
    def test_an_unknown_version_is_refused_with_those_there_are(self, repository):
        made = repository()
        for ask in (made.model, lambda name, version: made.entry(name).state(version)):
            with pytest.raises(VersionNotFound, match="'river' has no version '3'; it has 1, 2, 9, 10"):
                ask("river", "3")


class TestUnknownModels:
    @pytest.fixture
    def two(self, model_folder, repository):
        for name in ("river", "demand"):
            model_folder(name)
        return repository()

    @pytest.mark.parametrize("asked", ["rivers", "riber", "River"])
    def test_the_nearest_name_is_suggested(self, two, asked):
        with pytest.raises(ModelNotFound, match=rf"no model '{asked}'; did you mean 'river'\?.*demand, river"):
            two.model(asked)

    def test_without_a_near_name_all_are_listed_in_a_sentence_of_their_own(self, two):
        with pytest.raises(ModelNotFound) as refused:
            two.model("zzz")
        assert "did you mean" not in str(refused.value)
        assert str(refused.value).endswith("demand, river")
        assert "'zzz' This" not in str(refused.value)

    @pytest.mark.parametrize("asked", ["", "..", "../models/river", "river/1"])
    def test_a_path_is_no_name(self, two, asked):
        with pytest.raises(ModelNotFound):
            two.model(asked)
