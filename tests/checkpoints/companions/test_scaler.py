"""Scaler files: every form that training code leaves, and what is refused."""

import io
import json
import pickle
import zipfile
import zlib

import numpy as np
import pytest

from gatescope.checkpoints.companions.scaler import parse_scaler, read_scaler
from gatescope.errors import InvalidInput

FEATURES = ("rain", "temperature")
RAW = np.array([[0.0, 271.5], [3.5, 280.25], [12.0, 295.125]])


@pytest.fixture
def read(tmp_path):
    def write_and_read(content, name="scaler.json"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else as_text(content).encode())
        return read_scaler(path)

    return write_and_read


@pytest.fixture
def refused(read):
    def message_of(content, name="scaler.json"):
        with pytest.raises(InvalidInput) as caught:
            read(content, name)
        (place,) = caught.value.places
        assert place.loc == ("scaler",)
        assert place.message.startswith(f"{name}: ")
        assert "\n" not in place.message
        return place.message

    return message_of


def as_text(content):
    return content if isinstance(content, str) else json.dumps(content)


def scaled(scaling, features=FEATURES):
    mean, std = np.array(scaling.resolve(features)).T
    return (RAW - mean) / std


def npz(**arrays):
    stored = io.BytesIO()
    np.savez(stored, **arrays)
    return stored.getvalue()


STANDARD = (RAW - [1, 280]) / [2, 10]
FORMS = {
    "lists": {"mean": [1, 280], "std": [2, 10]},
    "scikit-learn": {"mean_": [1, 280], "scale_": [2, 10], "var_": [4, 100], "n_samples_seen_": 9},
    "variance alone": {"mean_": [1, 280], "var_": [4, 100]},
    "kept dimensions": {"mean": [[[1, 280]]], "std": [[2], [10]]},
    "by statistic": {"mean": {"temperature": 280, "rain": 1}, "std": {"rain": 2, "temperature": 10}},
    "by name": {"temperature": {"mean": 280, "std": 10}, "rain": {"mean": 1, "std": 2}},
    "entries": [{"name": "temperature", "mean": 280, "std": 10}, {"name": "rain", "mean": 1, "std": 2}],
    "named lists": {"columns": ["temperature", "rain"], "mean": [280, 1], "std": [10, 2]},
    "features as names": {"features": ["temperature", "rain"], "mean": [280, 1], "std": [10, 2]},
    "range by name": {"temperature": {"min": 280, "max": 290}, "rain": {"mean": 1, "std": 2}},
    "range": {"min": [1, 280], "max": [3, 290]},
    "range attributes": {"data_min_": [1, 280], "data_max_": [3, 290], "feature_range": [0, 1]},
    "wider range": {"min": [1, 280], "max": [3, 290], "feature_range": [0, 1.0]},
    "scale and offset": {"scale_": [0.5, 0.1], "min_": [-0.5, -28.0], "data_min_": [1, 280], "data_max_": [3, 290]},
    "wrapped": {"scaler": {"mean": [1, 280], "std": [2, 10]}},
    "sections": {"inputs": {"mean": [1, 280], "std": [2, 10]}, "created": "2026-01-01"},
    "prefixes": {"x_mean": [1, 280], "x_std": [2, 10], "y_mean": 3, "y_std": 4},
    "suffixes": {"mean_x": [1, 280], "std_x": [2, 10]},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_scaling(form, read):
    np.testing.assert_allclose(scaled(read(FORMS[form]).inputs), STANDARD, rtol=1e-15, atol=1e-13)


def test_a_range_is_scaled_as_scikit_learn_does(read):
    low, high, least, most = -1.0, 1.0, np.array([-2.0, 250.0]), np.array([14.0, 310.0])
    expected = low + (RAW - least) / (most - least) * (high - low)
    read_in = read({"min": least.tolist(), "max": most.tolist(), "feature_range": [low, high]})
    np.testing.assert_allclose(scaled(read_in.inputs), expected, rtol=1e-14)


def test_one_number_is_for_all_features(read):
    np.testing.assert_allclose(scaled(read({"mean": 5, "std": 2}).inputs), (RAW - 5) / 2)
    np.testing.assert_allclose(scaled(read({"mean": [1, 280], "std": 2}).inputs), (RAW - [1, 280]) / 2)


def test_a_mean_that_was_not_subtracted_is_left_out(read):
    np.testing.assert_allclose(
        scaled(read({"mean_": [1, 280], "scale_": [2, 10], "with_mean": False}).inputs), RAW / [2, 10]
    )
    np.testing.assert_allclose(scaled(read({"mean_": None, "scale_": [2, 10]}).inputs), RAW / [2, 10])
    np.testing.assert_allclose(scaled(read({"max_abs_": [2, 10], "scale_": [2, 10]}).inputs), RAW / [2, 10])


def test_clipping_is_noted(read):
    assert "clip" in read({"min_": [0], "scale_": [1], "clip": True}).notes[0]


def test_sections_are_kept_apart(read):
    file = read(
        {
            "x": {"mean": [1, 2], "std": [3, 4]},
            "targets": {"discharge": {"min": 0, "max": 2}},
            "static": {"mean": {"area": 5}, "std": {"area": 6}},
        }
    )
    assert file.outputs.resolve(["discharge"]) == ((0.0, 2.0),)
    assert file.static.resolve(["area"]) == ((5.0, 6.0),)
    assert file.outputs.names == ("discharge",)
    assert file.inputs.names is None


def test_yaml_reads_exponents_without_a_point(read):
    assert read("mean: [1e-05, 2]\nstd: 1e3\n", "scaler.yml").inputs.resolve(FEATURES) == ((1e-5, 1e3), (2.0, 1e3))


@pytest.mark.parametrize("text", ['{"mean": [1, 280], "std": [2, 10]}', "mean: [1, 280]\nstd: [2, 10]\n"])
def test_a_text_is_read_as_a_file_is(text):
    np.testing.assert_allclose(scaled(parse_scaler(text, "scaler").inputs), STANDARD)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "scaler: is not JSON"),
        (" " * (4 * 2**20 + 1), "scaler: has more than"),
        ("\ud800", "scaler: is not UTF-8"),
    ],
)
def test_a_text_that_states_no_scaling_is_refused(text, message):
    with pytest.raises(InvalidInput, match=message):
        parse_scaler(text, "scaler")


def test_npz_is_read(read):
    content = npz(mean=np.array([[1, 280]]), std=np.array([2.0, 10.0]), feature_names=np.array(["rain", "temperature"]))
    file = read(content, "scaler.npz")
    np.testing.assert_allclose(scaled(file.inputs), STANDARD)
    assert file.inputs.names == FEATURES


def test_names_must_be_the_models(read):
    scaling = read({"mean": {"rain": 1, "temprature": 2}, "std": {"rain": 1, "temprature": 2}}).inputs
    with pytest.raises(InvalidInput, match=r"has no 'temperature' \(did you mean 'temprature'\?\)"):
        scaling.resolve(FEATURES)
    with pytest.raises(InvalidInput, match="also has 'temprature', which is no feature"):
        scaling.resolve(["rain"])
    assert scaling.resolve(["rain"], others=["temprature"]) == ((1.0, 1.0),)


def test_numbers_must_be_as_many_as_features(read):
    scaling = read({"mean": [1, 2, 3], "std": [1, 2, 3]}).inputs
    with pytest.raises(InvalidInput, match=r"has 3 numbers, but there are 2 features \('rain', 'temperature'\)"):
        scaling.resolve(FEATURES)


REFUSED = {
    "zero by name": ({"rain": {"mean": 1, "std": 0}}, "std of feature 'rain' is 0: set it to 1"),
    "zero by place": ({"mean": [1, 2], "std": [1, 0]}, "std of feature 1 is 0"),
    "zero for all": ({"mean": 1, "scale_": 0}, "scale_ of all features is 0"),
    "constant range": ({"min": {"rain": 2}, "max": {"rain": 2}}, "min and max of feature 'rain' are equal"),
    "negative": ({"mean": [1], "std": [-1]}, "std of feature 0 is negative"),
    "inverted scale": ({"min_": [0.0], "scale_": [0.0]}, "has no finite scaling"),
    "NaN": ('{"mean": [NaN], "std": [1]}', "mean of feature 0 is nan"),
    "infinite": ('{"mean": [0], "std": [1e999]}', "std of feature 0 is inf"),
    "huge integer": ({"mean": [10**400], "std": [1]}, "mean of feature 0 is inf"),
    "endless integer": ('{"mean": [' + "9" * 5000 + '], "std": [1]}', "a number that is too long"),
    "text": ({"mean": ["1.5"], "std": [1]}, "mean of feature 0 is '1.5', not a number"),
    "true": ({"mean": [True], "std": [1]}, "mean of feature 0 is True, not a number"),
    "null": ({"mean": [None], "std": [1]}, "mean of feature 0 is missing"),
    "table": ({"mean": [[1, 2], [3, 4]], "std": [1]}, "mean is a table"),
    "empty list": ({"mean": [], "std": []}, "mean is an empty list"),
    "unlike lengths": ({"mean": [1, 2], "std": [1, 2, 3]}, "has 2 numbers of one kind and 3 of the other"),
    "unlike offsets": ({"min_": [1, 2], "scale_": [1]}, "has 1 numbers of scale_ and 2 of min_"),
    "no offsets": ({"min_": [1, 2], "scale_": {}}, "scale_ is empty"),
    "unlike names": ({"mean": {"a": 1}, "std": {"b": 1}}, "'a', 'b' is in one of them alone"),
    "names too few": ({"names": ["a"], "mean": [1, 2], "std": [1, 2]}, "has 1 names, but 2 numbers"),
    "name twice": ({"names": ["a", "a"], "mean": [1, 2], "std": [1, 2]}, "names has a name twice"),
    "misspelt": ({"mean": [1], "sdt": [2]}, "has 'sdt', which is not known (did you mean"),
    "mean alone": ({"mean": [1]}, "has a mean, but no std"),
    "std alone": ({"std": [1]}, "has no mean"),
    "min alone": ({"min": [1]}, "has one of min and max"),
    "min and scale": ({"min": [1], "scale": [2]}, "has one of min and max: give both, or scikit-learn's min_"),
    "offset alone": ({"min_": [1]}, "has 'min_' without 'scale_'"),
    "described": ({"rain": {"count": 9, "mean": 1, "std": 2, "min": 0, "25%": 1, "max": 3}}, "keep the pair"),
    "two stds": ({"mean": [1], "std": [1], "scale": [2]}, "a std and a scale that differ"),
    "two means": ({"mean": [1], "mean_": [1], "std": [1]}, "has 'mean' and 'mean_'"),
    "foreign scale": ({"data_min_": [0], "data_max_": [2], "scale_": [3]}, "not that of min, max and feature_range"),
    "range of three": ({"min": [0], "max": [1], "feature_range": [0, 1, 2]}, "feature_range is [0, 1, 2]"),
    "several numbers": ({"rain": {"mean": [1, 2], "std": [1, 2]}}, "has 2 numbers for 'rain'"),
    "name that is a list": ([{"name": ["rain"], "mean": 1, "std": 1}], "has the name ['rain']"),
    "section twice": ({"x": {"mean": 1, "std": 1}, "inputs": {"mean": 1, "std": 1}}, "which are the same part"),
    "in a section": ({"y": {"mean": [1, 2], "std": [1, 0]}}, "y: std of feature 1 is 0"),
    "list": ([1, 2], "holds a list"),
    "number": ("3", "holds no scaling"),
    "nothing": ("{}", "holds no scaling"),
    "a run's": ({"xarray_feature_center": {}}, "import the run's folder"),
    "no JSON": ("{", "is not JSON"),
    "key twice": ('{"mean": 1, "mean": 2, "std": 1}', "has the key 'mean' twice"),
    "deep": ("[" * 200_000, "is nested too deeply"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_states_no_scaling_is_refused(case, refused):
    content, message = REFUSED[case]
    assert message in refused(content)


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("the pickle was run",))


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (pickle.dumps(Bomb()), "scaler.pkl"),
        (pickle.dumps(Bomb()), "scaler.json"),
        (pickle.dumps({"mean": [1]}, protocol=0), "scaler.json"),
        (zlib.compress(pickle.dumps(Bomb())), "scaler.bin"),
        (b"whatever", "scaler.joblib"),
    ],
    ids=["pickle", "renamed", "of protocol 0", "compressed", "joblib"],
)
def test_a_pickle_is_refused_with_the_lines_that_export_it(content, name, refused):
    message = refused(content, name)
    assert f'scaler = joblib.load("{name}")' in message
    assert 'json.dump({"mean": scaler.mean_.tolist(), "std": scaler.scale_.tolist()}' in message
    assert '{"min_": scaler.min_.tolist(), "scale_": scaler.scale_.tolist()}' in message
    assert 'open("scaler.json", "w")' in message


def test_an_array_of_objects_is_refused(refused):
    content = npz(mean=np.array([Bomb()], dtype=object))
    assert "array 'mean.npy' holds Python objects" in refused(content, "scaler.npz")


def test_an_archive_that_unpacks_to_too_much_is_refused(refused):
    assert "unpacks to more than" in refused(_zipped(np.zeros(10**6)), "scaler.npz")


def test_a_header_that_declares_too_much_is_refused(refused):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)})
        archive.writestr("mean.npy", header.getvalue() + bytes(8))
    assert "declares shape [1000000000000]" in refused(content.getvalue(), "scaler.npz")


def test_a_damaged_archive_is_refused(refused):
    content = bytearray(npz(mean=np.arange(9.0), std=np.ones(9)))
    content[60] ^= 0xFF
    assert "is no .npz archive that can be read" in refused(bytes(content), "scaler.npz")


def test_a_large_file_is_refused(refused):
    assert "has more than the 4,194,304 bytes" in refused(b" " * (4 * 2**20 + 1))


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(InvalidInput, match=r"absent\.json: cannot be read: No such file"):
        read_scaler(tmp_path / "absent.json")
    with pytest.raises(InvalidInput, match="is not an ordinary file"):
        read_scaler(tmp_path)


def _zipped(array):
    content = io.BytesIO()
    np.savez_compressed(content, mean=array)
    return content.getvalue()
