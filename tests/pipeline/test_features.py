import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from gatescope.pipeline.features import Feature, FeatureEncoder, FeatureInputs, StaticInputs

INPUTS = FeatureInputs(
    kind="features",
    features=(
        Feature(name="gauge", categories=(1022500, 3015500, 7)),
        Feature(name="rain", mean=3.0, std=2.0),
        Feature(name="half_hour", period=48),
        Feature(name="plain"),
    ),
)


def test_each_feature_is_expanded_in_place_in_the_order_listed():
    raw = torch.tensor([[[3015500, 7.0, 12.0, 0.5], [7, 3.0, 40.0, -1.0]]])
    expected = torch.tensor(
        [
            [
                [0, 1, 0, 2.0, 1.0, 0.0, 0.5],
                [0, 0, 1, 0.0, math.sin(2 * math.pi * 40 / 48), math.cos(2 * math.pi * 40 / 48), -1.0],
            ]
        ]
    )
    encoder = FeatureEncoder(INPUTS)
    torch.testing.assert_close(encoder(raw), expected, rtol=0, atol=1e-6)
    assert encoder.width == INPUTS.width == 7
    assert [feature.width for feature in INPUTS.features] == [3, 1, 2, 1]
    assert INPUTS.names == ["gauge", "rain", "half_hour", "plain"]


def test_the_lstms_inputs_are_named_after_the_features_that_fill_them():
    assert INPUTS.input_names == [
        "gauge=1022500",
        "gauge=3015500",
        "gauge=7",
        "rain",
        "half_hour (sin)",
        "half_hour (cos)",
        "plain",
    ]


def test_a_phase_comes_round_after_its_period():
    encoder = FeatureEncoder(FeatureInputs(kind="features", features=(Feature(name="hour", period=24),)))
    hours = torch.arange(24.0)[None, :, None]
    torch.testing.assert_close(encoder(hours), encoder(hours + 24), rtol=0, atol=1e-5)
    torch.testing.assert_close(encoder(hours).square().sum(-1), torch.ones(1, 24))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_the_layers_read_is_float32(dtype):
    plain = FeatureInputs(kind="features", features=(Feature(name="a"),))
    assert FeatureEncoder(INPUTS)(torch.ones(1, 2, 4, dtype=dtype)).dtype == torch.float32
    assert FeatureEncoder(plain)(torch.ones(1, 2, 1, dtype=dtype)).dtype == torch.float32


@pytest.mark.parametrize(
    "feature",
    [
        Feature(name="julian_day", mean=2451545.0, std=365.25),
        Feature(name="unix_seconds", mean=1.7e9, std=3600.0),
        Feature(name="unix_seconds", period=86400.0),
        Feature(name="nanoseconds", mean=1.7e18, std=6e11),
    ],
    ids=lambda feature: f"{feature.name} {'phase' if feature.period else 'number'}",
)
def test_dates_keep_their_digits_because_they_are_scaled_in_float64(feature):
    raw = (feature.mean or 1.7e9) + np.linspace(-3, 3, 50) * (feature.std if feature.mean else 7e4)
    if feature.period:
        phase = raw * (2 * np.pi / feature.period)
        expected = np.stack((np.sin(phase), np.cos(phase)), axis=-1)
    else:
        expected = ((raw - feature.mean) / feature.std)[:, None]
    inputs = FeatureInputs(kind="features", features=(feature,))
    encoded = FeatureEncoder(inputs)(torch.from_numpy(raw)[None, :, None])
    np.testing.assert_allclose(encoded[0].numpy(), expected, rtol=1e-6, atol=1e-6)
    in_float32 = FeatureEncoder(inputs)(torch.from_numpy(raw)[None, :, None].float())
    assert np.abs(in_float32[0].numpy() - expected).max() > 1e-4  # so many digits are lost in float32
    assert inputs.is_scaled


def test_what_is_passed_on_as_it_is_needs_no_float64():
    assert not FeatureInputs(kind="features", features=(Feature(name="a"),)).is_scaled
    assert INPUTS.is_scaled


def test_static_features_are_encoded_for_each_sequence_once():
    static = StaticInputs(features=INPUTS.features)
    encoded = FeatureEncoder(static)(torch.tensor([[7, 3.0, 12.0, 0.5]], dtype=torch.float64))
    torch.testing.assert_close(encoded, torch.tensor([[0, 0, 1, 0, 1, 0, 0.5]]), rtol=0, atol=1e-6)


def test_a_missing_number_stays_missing():
    encoded = FeatureEncoder(INPUTS)(torch.tensor([[[7.0, math.nan, 1.0, 1.0]]]))
    assert encoded[0, 0].isnan().tolist() == [False, False, False, True, False, False, False]


def test_the_first_unknown_category_is_found_at_its_step_and_feature():
    sequence = np.array([[7, 1, 1, 1], [math.nan, 1, 1, 1], [8, 1, 1, 1], [9, 1, 1, 1]], dtype=np.float32)
    place = INPUTS.unknown_category(sequence)
    assert place is not None
    assert place.loc == (2, 0)
    assert place.message == "'gauge' is 8; the model knows 1022500, 3015500, 7"


def test_known_categories_pass():
    assert INPUTS.unknown_category(np.array([[1022500, 0, 0, 0], [7, 0, 0, 0]], dtype=np.float32)) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"mean": 1.0, "categories": (1, 2)},
        {"std": 1.0, "period": 24},
        {"categories": (1, 2), "period": 24},
        {"categories": (1, 2, 1)},
        {"std": 0.0},
        {"std": -1.0},
        {"mean": math.nan},
        {"std": math.inf},
        {"period": 0},
        {"period": -24},
        {"scale": 2.0},
        {"name": ""},
    ],
    ids=str,
)
def test_a_feature_that_contradicts_itself_is_refused(fields):
    with pytest.raises(ValidationError):
        Feature(**{"name": "a"} | fields)


@pytest.mark.parametrize("period", [math.inf, math.nan])
def test_a_period_is_a_finite_number(period):
    with pytest.raises(ValidationError):
        Feature(name="a", period=period)


def test_categories_that_no_request_can_tell_apart_are_refused():
    # requests arrive as float32, in which both are 16777216: such a value would be fed as two categories at once
    with pytest.raises(ValidationError):
        Feature(name="gauge", categories=(16777216, 16777217))


def test_two_features_of_one_name_are_refused():
    with pytest.raises(ValidationError, match="same name"):
        FeatureInputs(kind="features", features=(Feature(name="a"), Feature(name="a")))


def test_a_model_without_features_is_refused():
    with pytest.raises(ValidationError):
        FeatureInputs(kind="features", features=())
