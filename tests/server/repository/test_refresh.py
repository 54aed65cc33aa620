"""What is served keeps up with what lies on disk, and with what it is told to load and unload."""

import os
import shutil
import stat

import pytest
import torch

from gatescope.errors import ModelError, ModelNotFound, ModelUnavailable, NotFound, VersionNotFound
from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Query
from gatescope.server.repository.found import look
from gatescope.server.repository.repository import Repository

INPUTS = torch.tensor([[[1.0, 2.0, 3.0], [-1.0, 0.5, 0.0]]])
QUERY = Query(INPUTS, torch.tensor([2]))
SCALED = (INPUTS - torch.tensor([1.0, 0.0, 0.0])) / torch.tensor([2.0, 1.0, 1.0])  # as the manifest of `tiny` feeds it


@pytest.fixture
def folder(model_folder):
    """`models/tiny` with version 1."""
    return model_folder(seed=1)


@pytest.fixture
def repository(folder):
    """The model, loaded."""
    made = Repository(folder.models_dir, torch.device("cpu"))
    made.load()
    return made


def settle(repository):
    """Look until nothing changes any more; how many looks it took."""
    looks = 1
    while repository.refresh():
        looks += 1
        assert looks < 10
    return looks


def answer(model):
    return model.pipeline.answer(QUERY).prediction.values


def expected(module):
    return module.forward(SCALED)


def assert_answers(repository, version, module, asked=None):
    model = repository.model("tiny", asked)
    assert model.version == version
    torch.testing.assert_close(answer(model), expected(module), atol=1e-6, rtol=0)


def copied(folder, name, **arguments):
    """Another model, written where nobody looks and then put into the folder."""
    target = folder.models_dir / name
    shutil.copytree(folder.path, target, **arguments)
    return target


class TestOnDisk:
    def test_nothing_is_loaded_again_while_nothing_changes(self, repository):
        before = repository.model("tiny")
        assert settle(repository) == 1
        assert repository.model("tiny") is before
        assert repository.entry("tiny").loads == 1

    def test_a_new_version_takes_over_and_the_old_one_stays_to_be_asked(self, folder, repository, plain):
        newer = plain(seed=2)
        folder.save(newer.state_dict(), "2")
        assert repository.refresh()  # it may be half-written
        assert_answers(repository, "1", folder.module)
        assert not repository.refresh()
        assert_answers(repository, "2", newer)
        assert_answers(repository, "1", folder.module, asked="1")
        assert repository.entry("tiny").versions == ["1", "2"]

    def test_what_began_with_a_model_ends_with_it(self, folder, repository, plain):
        held = repository.model("tiny")
        folder.save(plain(seed=2).state_dict())
        settle(repository)
        assert repository.model("tiny") is not held
        torch.testing.assert_close(answer(held), expected(folder.module), atol=1e-6, rtol=0)

    def test_weights_written_over_in_place_change_no_model_that_is_loaded(self, folder, repository, plain):
        newer = plain(seed=2)
        before = answer(repository.model("tiny"))
        torch.testing.assert_close(before, expected(folder.module), atol=1e-6, rtol=0)
        folder.save(newer.state_dict(), "scratch")
        with folder.weights().open("r+b") as file:
            file.write(folder.weights("scratch").read_bytes())
        assert torch.equal(answer(repository.model("tiny")), before)
        shutil.rmtree(folder.path / "scratch")
        settle(repository)
        assert_answers(repository, "1", newer)

    def test_a_new_model_appears_and_a_deleted_one_goes(self, folder, repository):
        copied(folder, "other")
        settle(repository)
        assert [entry.name for entry in repository.entries()] == ["other", "tiny"]
        assert repository.model("other").name == "other"
        shutil.rmtree(folder.path)
        assert repository.refresh()  # another folder may be about to take its place
        assert repository.model("tiny").version == "1"
        assert not repository.refresh()
        with pytest.raises(ModelNotFound):
            repository.model("tiny")

    def test_a_folder_that_is_replaced_is_never_missed(self, folder, repository, plain):
        newer, moved = plain(seed=2), folder.path.with_name("old")
        folder.path.rename(moved)
        repository.refresh()
        assert repository.model("tiny").version == "1"
        shutil.copytree(moved, folder.path)
        folder.save(newer.state_dict())
        shutil.rmtree(moved)
        settle(repository)
        assert_answers(repository, "1", newer)

    def test_a_deleted_version_goes_and_the_one_before_answers(self, folder, repository, plain):
        folder.save(plain(seed=2).state_dict(), "2")
        settle(repository)
        shutil.rmtree(folder.path / "2")
        settle(repository)
        assert_answers(repository, "1", folder.module)
        with pytest.raises(VersionNotFound, match="it has 1"):
            repository.model("tiny", "2")

    def test_without_its_last_version_a_model_is_unavailable_until_there_is_one(self, folder, repository):
        shutil.rmtree(folder.path / "1")
        settle(repository)
        assert (repository.entry("tiny").state(None), repository.entry("tiny").versions) == ("unavailable", [])
        with pytest.raises(ModelUnavailable, match="has no weights"):
            repository.model("tiny")
        folder.save(folder.module.state_dict(), "3")
        settle(repository)
        assert_answers(repository, "3", folder.module)
        assert repository.entry("tiny").reason(None) is None

    @pytest.mark.parametrize("name", [".hidden", "..2026_11_23"])
    def test_what_begins_with_a_dot_is_not_looked_at(self, folder, repository, name):
        copied(folder, name)
        folder.save(folder.module.state_dict(), name)
        assert not repository.refresh()
        assert [entry.name for entry in repository.entries()] == ["tiny"]
        assert repository.entry("tiny").versions == ["1"]

    def test_a_folder_of_models_that_cannot_be_read_unloads_nothing(self, folder, repository, capsys):
        gone = folder.models_dir.with_name("gone")
        folder.models_dir.rename(gone)
        for _ in range(3):
            assert not repository.refresh()
        assert_answers(repository, "1", folder.module)
        assert capsys.readouterr().out.count("cannot be read") <= 1
        with pytest.raises(NotFound, match="does not exist"):
            repository.load_model("tiny")
        gone.rename(folder.models_dir)
        assert not repository.refresh()
        assert_answers(repository, "1", folder.module)

    def test_a_model_that_cannot_be_looked_into_goes_on_with_the_reason(self, folder, repository, monkeypatch):
        right = os.listdir

        def guarded(path):
            if str(path) == str(folder.path):
                raise PermissionError(13, "Permission denied", str(path))
            return right(path)

        with monkeypatch.context() as patch:
            patch.setattr(os, "listdir", guarded)
            assert settle(repository) == 2
        assert_answers(repository, "1", folder.module)
        assert "tiny cannot be read: Permission denied" in repository.entry("tiny").reason(None)
        settle(repository)
        assert repository.entry("tiny").reason(None) is None
        assert repository.entry("tiny").loads == 1

    def test_permission_given_later_is_noticed(self, folder, repository):
        before = look(folder.models_dir)
        os.chmod(folder.weights(), stat.S_IRUSR)  # noqa: PTH101 - leaves the contents and their time as they are
        assert look(folder.models_dir) != before
        settle(repository)
        assert repository.entry("tiny").loads == 2


class TestLinks:
    def test_a_link_that_is_turned_to_another_folder_is_a_change(self, folder, plain, tmp_path):
        """As a Kubernetes ConfigMap does it: `model.toml -> ..data/model.toml`, `..data -> ..2026_1`."""
        newer, real = plain(seed=2), folder.path
        for name, module in (("..2026_1", folder.module), ("..2026_2", newer)):
            shutil.copytree(real, tmp_path / name)
            shutil.move(tmp_path / name, real / name)
            folder.save(module.state_dict(), f"{name}/1")
        (real / "..data").symlink_to("..2026_1")
        shutil.rmtree(real / "1")
        (real / "model.toml").unlink()
        for name in ("1", "model.toml"):
            (real / name).symlink_to(f"..data/{name}")
        repository = Repository(folder.models_dir, torch.device("cpu"))
        repository.load()
        assert_answers(repository, "1", folder.module)
        (real / "..data_tmp").symlink_to("..2026_2")
        (real / "..data_tmp").rename(real / "..data")
        settle(repository)
        assert_answers(repository, "1", newer)

    def test_the_folder_of_models_and_a_model_may_be_links(self, folder, plain, tmp_path):
        newer = plain(seed=2)
        shutil.move(folder.path, tmp_path / "first")
        shutil.copytree(tmp_path / "first", tmp_path / "second")
        folder.path.symlink_to(tmp_path / "second")
        folder.save(newer.state_dict())
        folder.path.unlink()
        folder.path.symlink_to(tmp_path / "first")
        (tmp_path / "link").symlink_to(folder.models_dir)
        repository = Repository(tmp_path / "link", torch.device("cpu"))
        repository.load()
        assert_answers(repository, "1", folder.module)
        (tmp_path / "turned").symlink_to(tmp_path / "second")
        (tmp_path / "turned").rename(folder.path)
        settle(repository)
        assert_answers(repository, "1", newer)


class TestManifest:
    def test_a_changed_manifest_changes_every_version(self, folder, repository):
        folder.save(folder.module.state_dict(), "2")
        settle(repository)
        folder.edit('["x", "y"]', '["left", "right"]')
        settle(repository)
        for version in ("1", "2"):
            assert repository.model("tiny", version).manifest.head.names == ("left", "right")

    def test_so_does_a_file_that_it_names(self, folder, repository):
        folder.append('\n[[examples]]\ntitle = "a"\nfile = "a.json"\n')
        (folder.path / "a.json").write_text('{"inputs": [[1, 2, 3]]}')
        settle(repository)
        assert repository.model("tiny").examples[0]["request"] == {"inputs": [[1, 2, 3]]}
        (folder.path / "a.json").write_text('{"inputs": [[4, 5, 6]]}')
        settle(repository)
        assert repository.model("tiny").examples[0]["request"] == {"inputs": [[4, 5, 6]]}

    def test_a_file_that_it_does_not_name_changes_nothing(self, folder, repository):
        (folder.path / "README.md").write_text("a card")
        assert settle(repository) == 1
        assert repository.entry("tiny").loads == 1

    def test_a_version_is_pinned_and_set_free_again(self, folder, repository, plain):
        newer = plain(seed=2)
        folder.save(newer.state_dict(), "2")
        settle(repository)
        folder.edit("description", 'default_version = "1"\ndescription')
        settle(repository)
        assert_answers(repository, "1", folder.module)
        folder.edit('default_version = "1"\n', "")
        settle(repository)
        assert_answers(repository, "2", newer)

    def test_a_pin_that_cannot_be_met_changes_nothing(self, folder, repository):
        folder.edit("description", 'default_version = "7"\ndescription')
        settle(repository)
        assert_answers(repository, "1", folder.module)
        entry = repository.entry("tiny")
        assert entry.state(None) == "ready"
        assert entry.reason(None) == "version '1' still answers: its manifest pins version '7', which has no weights"


class TestBroken:
    """What cannot be loaded is told, and changes nothing."""

    HARM = (
        (lambda folder: folder.edit('"regression"', '"regresion"'), "task"),
        (lambda folder: folder.edit("[head]", "[head"), "model.toml cannot be read"),
        (lambda folder: folder.weights().write_bytes(b"x"), "model.safetensors cannot be read"),
        (lambda folder: folder.save({"lstm.weight": torch.zeros(2, 2)}), "no 'head.0.weight'"),
        (lambda folder: (folder.path / "model.toml").write_bytes(b"\xff\xfe"), "model.toml cannot be read"),
    )

    @pytest.mark.parametrize(("harm", "reason"), HARM)
    def test_what_was_loaded_goes_on_until_the_files_are_mended(self, folder, repository, harm, reason):
        manifest, weights = (folder.path / "model.toml").read_bytes(), folder.weights().read_bytes()
        before = repository.model("tiny")
        harm(folder)
        settle(repository)
        assert repository.model("tiny") is before
        entry = repository.entry("tiny")
        assert (entry.state(None), entry.state("1"), entry.failures) == ("ready", "ready", 1)
        assert "what was loaded before still answers" in entry.reason("1")
        assert reason in entry.reason("1")
        assert reason in entry.reason(None)
        settle(repository)
        assert repository.entry("tiny").failures == 1  # it is not tried again and again
        (folder.path / "model.toml").write_bytes(manifest)
        folder.weights().write_bytes(weights)
        settle(repository)
        assert repository.entry("tiny").reason(None) is None
        assert_answers(repository, "1", folder.module)

    def test_a_manifest_that_breaks_forgets_no_pin(self, folder, repository, plain):
        folder.save(plain(seed=2).state_dict(), "2")
        folder.edit("description", 'default_version = "1"\ndescription')
        settle(repository)
        folder.edit("[head]", "[head")
        settle(repository)
        assert_answers(repository, "1", folder.module)

    def test_a_new_version_does_not_take_over_and_is_told(self, folder, repository):
        folder.save({"head.weight": torch.zeros(2, 4)}, "2")
        settle(repository)
        assert_answers(repository, "1", folder.module)
        entry = repository.entry("tiny")
        assert (entry.state(None), entry.state("2"), entry.version(None)) == ("ready", "unavailable", "1")
        assert "version '1' answers, because version '2' is unavailable: " in entry.reason(None)
        assert "no 'head.0.weight'" in entry.reason("2")
        with pytest.raises(ModelUnavailable, match=r"no 'head\.0\.weight'"):
            repository.model("tiny", "2")

    def test_a_model_that_cannot_compute_a_step_does_not_take_over(self, folder, repository, plain):
        def warm(model):
            raise RuntimeError("no memory left on the device")

        repository.warm = warm
        folder.save(plain(seed=2).state_dict(), "2")
        settle(repository)
        assert_answers(repository, "1", folder.module)
        assert "RuntimeError while loading it" in repository.entry("tiny").reason("2")

    def test_a_file_that_grows_is_not_read_before_it_is_whole(self, folder, repository, plain):
        newer = plain(seed=2)
        folder.save(newer.state_dict(), "scratch")
        whole = folder.weights("scratch").read_bytes()
        shutil.rmtree(folder.path / "scratch")
        (folder.path / "2").mkdir()
        with folder.weights("2").open("wb") as file:
            for start in range(0, len(whole), 100):
                file.write(whole[start : start + 100])
                file.flush()
                assert repository.refresh()
                assert repository.entry("tiny").failures == 0
        settle(repository)
        assert_answers(repository, "2", newer)

    def test_a_copy_that_paused_for_long_is_loaded_when_it_is_whole(self, folder, repository):
        whole = folder.weights().read_bytes()
        (folder.path / "2").mkdir()
        folder.weights("2").write_bytes(whole[:-10])
        settle(repository)
        assert "2/model.safetensors cannot be read" in repository.entry("tiny").reason("2")
        with folder.weights("2").open("ab") as file:
            file.write(whole[-10:])
        settle(repository)
        assert_answers(repository, "2", folder.module)

    def test_files_that_change_while_they_are_read_are_not_taken(self, folder, repository, plain, monkeypatch):
        newer, right = plain(seed=2), Model.load.__func__

        def slowly(cls, path, version, device, **more):
            model = right(cls, path, version, device, **more)
            if version == "2":
                folder.save(newer.state_dict(), "2")
            return model

        folder.save(folder.module.state_dict(), "2")
        with monkeypatch.context() as patch:
            patch.setattr(Model, "load", classmethod(slowly))
            settle_once = [repository.refresh(), repository.refresh()]
        assert settle_once == [True, False]
        assert "changed while they were read" in repository.entry("tiny").reason("2")
        settle(repository)
        assert_answers(repository, "2", newer)


class TestWhenTold:
    def test_an_unloaded_model_stays_so_until_it_is_loaded(self, folder, repository):
        repository.unload_model("tiny")
        settle(repository)
        entry = repository.entry("tiny")
        assert (entry.state(None), entry.reason(None), entry.loaded) == ("unavailable", "it was unloaded", {})
        with pytest.raises(ModelUnavailable, match="model 'tiny' is unavailable: it was unloaded"):
            repository.model("tiny")
        repository.load_model("tiny")
        assert_answers(repository, "1", folder.module)
        assert repository.entry("tiny").reason(None) is None

    def test_or_until_its_files_change(self, folder, repository, plain):
        repository.unload_model("tiny")
        newer = plain(seed=2)
        folder.save(newer.state_dict())
        settle(repository)
        assert_answers(repository, "1", newer)

    def test_one_version_is_unloaded_and_another_answers(self, folder, repository, plain):
        folder.save(plain(seed=2).state_dict(), "2")
        settle(repository)
        repository.unload_model("tiny", "2")
        assert_answers(repository, "1", folder.module)
        assert repository.entry("tiny").state("2") == "unavailable"
        repository.load_model("tiny", "2")
        assert repository.model("tiny").version == "2"

    def test_a_pinned_version_that_is_unloaded_is_not_replaced_by_another(self, folder, repository):
        folder.save(folder.module.state_dict(), "2")
        folder.edit("description", 'default_version = "2"\ndescription')
        settle(repository)
        repository.unload_model("tiny", "2")
        with pytest.raises(ModelUnavailable, match="it was unloaded"):
            repository.model("tiny")
        assert repository.model("tiny", "1").version == "1"

    def test_loading_reads_anew_what_seems_unchanged(self, repository):
        before = repository.model("tiny")
        repository.load_model("tiny")
        assert repository.model("tiny") is not before

    def test_a_model_that_nobody_has_seen_yet_is_loaded(self, folder, repository):
        copied(folder, "other")
        assert repository.load_model("other").name == "other"
        assert repository.model("other").version == "1"

    def test_a_failed_load_is_told_and_what_served_goes_on(self, folder, repository):
        before = repository.model("tiny")
        folder.weights().write_bytes(b"x")
        with pytest.raises(ModelError, match=r"'tiny' could not be loaded: version '1'.*tiny/1/model.safetensors"):
            repository.load_model("tiny")
        assert repository.model("tiny") is before
        assert "cannot be read" in repository.entry("tiny").reason(None)

    def test_one_broken_version_fails_no_other_that_is_asked_for(self, folder, repository):
        folder.save({"head.weight": torch.zeros(2, 4)}, "2")
        assert repository.load_model("tiny", "1").loaded.keys() == {"1"}
        with pytest.raises(ModelError, match="version '2'"):
            repository.load_model("tiny")
        with pytest.raises(ModelError, match="version '2'"):
            repository.load_model("tiny", "2")

    @pytest.mark.parametrize("change", [Repository.load_model, Repository.unload_model])
    def test_what_is_not_there_can_be_neither_loaded_nor_unloaded(self, repository, change):
        with pytest.raises(ModelNotFound, match="no model 'tine'; did you mean 'tiny'"):
            change(repository, "tine")
        with pytest.raises(VersionNotFound, match="no version '9'; it has 1"):
            change(repository, "tiny", "9")
        for name in ("", ".", "..", "tiny/1", ".hidden"):
            with pytest.raises(ModelNotFound):
                change(repository, name)
        assert repository.model("tiny").version == "1"

    def test_loading_what_has_been_deleted_unloads_it(self, folder, repository):
        shutil.rmtree(folder.path)
        with pytest.raises(ModelNotFound):
            repository.load_model("tiny")
        assert repository.entries() == []
