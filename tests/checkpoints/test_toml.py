"""The manifest that is written is the manifest that is read."""

import tomllib
from datetime import UTC, date, datetime, time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatescope.checkpoints import toml
from gatescope.pipeline.layers.activation import FUNCTIONS
from gatescope.pipeline.manifest import Manifest

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
NAME = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
POSITIVE = st.floats(min_value=1e-9, max_value=1e9)
ANYTHING = st.recursive(
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | TEXT
    | st.dates()
    | st.times()
    | st.datetimes(timezones=st.sampled_from([None, UTC])),
    lambda deeper: st.lists(deeper, max_size=3) | st.dictionaries(TEXT, deeper, max_size=3),
    max_leaves=8,
)


def optional(**fields):
    return st.fixed_dictionaries({}, optional=fields)


def both(*parts):
    return st.tuples(*parts).map(lambda found: {key: value for part in found for key, value in part.items()})


FEATURE = both(
    optional(unit=TEXT),
    st.one_of(
        optional(mean=NUMBER, std=POSITIVE),
        st.fixed_dictionaries({"categories": st.lists(st.integers(-99, 99), min_size=1, max_size=4, unique=True)}),
        st.fixed_dictionaries({"period": POSITIVE}),
    ),
)


@st.composite
def features(draw):
    names = draw(st.lists(TEXT, min_size=1, max_size=4, unique=True))
    return [{"name": name} | draw(FEATURE) for name in names]


LAYERS = {
    "embedding": {},
    "one_hot": {},
    "linear": {},
    "conv1d": {"padding": st.sampled_from(["same", "causal"]), "dilation": st.integers(1, 9)},
    "batch_norm": {"eps": POSITIVE},
    "layer_norm": {"eps": POSITIVE},
    "rms_norm": {"eps": POSITIVE},
    "lstm": {
        "hidden_size": st.integers(1, 99),
        "bias": st.booleans(),
        "initial_hidden_state": TEXT,
    },
    "activation": {"function": st.sampled_from(sorted(FUNCTIONS))},
    "prelu": {},
    "pool": {"how": st.sampled_from(["last", "mean"])},
    "directions": {"how": st.sampled_from(["sum", "swap"])},
    "concat": {},
    "add": {},
    "crf": {},
}
NEEDED = {"activation": "function", "pool": "how", "directions": "how"}


@st.composite
def layers(draw):
    made, before = [], "inputs"
    for name in draw(st.lists(TEXT, min_size=1, max_size=5, unique=True)):
        kind = draw(st.sampled_from(sorted(LAYERS)))
        needed = {NEEDED[kind]: LAYERS[kind][NEEDED[kind]]} if kind in NEEDED else {}
        fields = LAYERS[kind] | {"inputs": st.lists(TEXT, min_size=1, max_size=3), "weights": st.just("") | TEXT}
        stated = draw(st.fixed_dictionaries(needed, optional={k: v for k, v in fields.items() if k not in needed}))
        if stated.get("inputs") == [before]:
            del stated["inputs"]
        if stated.get("weights") == name:
            del stated["weights"]
        made.append({"name": name, "type": kind} | stated)
        before = name
    return made


@st.composite
def heads(draw):
    made = []
    for name in draw(st.lists(NAME, max_size=3, unique=True)):
        task = draw(st.sampled_from(["regression", "quantile", "tagging", "binary", "multi_label"]))
        count = 2 if task == "binary" else draw(st.integers(1, 3))
        called = draw(st.lists(TEXT, min_size=count, max_size=count, unique=True))
        head = {"name": name, "task": task} | draw(optional(layer=TEXT))
        if task in ("regression", "quantile"):
            numbers = st.lists(NUMBER, min_size=count, max_size=count)
            head |= {"names": called} | draw(optional(mean=numbers, minimum=numbers, std=st.just([2.5] * count)))
        else:
            head |= {"labels": called} | draw(optional(threshold=st.floats(0.01, 0.99)))
        if task == "quantile":
            head["quantiles"] = sorted(draw(st.lists(st.floats(0.01, 0.99), min_size=1, max_size=3, unique=True)))
        made.append(head)
    return made


TOKENS = st.one_of(
    st.fixed_dictionaries({"vocabulary": st.just("ids"), "size": st.integers(1, 10_000_000)}),
    both(
        st.fixed_dictionaries({"vocabulary": st.just("words"), "file": TEXT}),
        optional(lowercase=st.booleans()),
        st.sampled_from([{}, {"unknown": "suffix"}, {"unknown": "token", "unknown_token": '"\\\x7f'}]),
    ),
    st.fixed_dictionaries({"vocabulary": st.just("characters"), "characters": TEXT}),
).map(lambda fields: {"kind": "tokens"} | fields)


@st.composite
def manifests(draw):
    inputs = draw(TOKENS | features().map(lambda found: {"kind": "features", "features": found}))
    title = st.fixed_dictionaries({"title": TEXT})
    example = st.fixed_dictionaries({"request": st.dictionaries(TEXT, ANYTHING, max_size=3)}) | st.fixed_dictionaries(
        {"file": TEXT}
    )
    stated = {"description": draw(TEXT), "input": inputs, "examples": draw(st.lists(both(title, example), max_size=2))}
    if draw(st.booleans()):
        head = {key: value for key, value in draw(heads().filter(bool))[0].items() if key != "layer"}
        arguments = draw(optional(factory_arguments=st.dictionaries(TEXT, ANYTHING, max_size=3)))
        return stated | {"factory": "a.b:C", "heads": [head]} | arguments
    left_out = st.fixed_dictionaries({"name": TEXT, "kind": TEXT, "place": st.sampled_from(["before", "behind"])})
    return (
        stated
        | {"layers": draw(layers()), "heads": draw(heads())}
        | draw(
            optional(
                static=st.fixed_dictionaries({"features": features()}),
                window=st.integers(1, 10**6),
                warmup_steps=st.integers(0, 10**6),
                ignored=st.lists(TEXT, max_size=3),
                not_computed=st.lists(left_out, max_size=2),
                default_version=TEXT,
            )
        )
    )


def read_back(manifest):
    return Manifest.model_validate(tomllib.loads(toml.dumps(manifest)))


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(stated=manifests())
def test_any_manifest_is_written_so_that_it_is_read_back(stated):
    manifest = Manifest.model_validate(stated)
    assert read_back(manifest) == manifest


@pytest.mark.parametrize(
    "value",
    [1e300, -0.0, 5e-324, float("inf"), date(2000, 2, 29), time(1, 2, 3), datetime(1, 1, 1, 0, 0, 1)],  # noqa: DTZ001
)
def test_any_value_of_toml_is(value):
    request = {"inputs": [value], "a.b": {"": [], "c": {}}}
    examples = [{"title": "t", "request": request}]
    manifest = Manifest.model_validate(STACK | {"examples": examples})
    assert read_back(manifest).examples[0].request == request


STACK = {
    "format": 2,
    "description": "Rivers",
    "input": {"kind": "features", "features": [{"name": "rain", "unit": "mm"}, {"name": "hour", "period": 24.0}]},
    "layers": [
        {"name": "conv", "type": "conv1d", "inputs": ["inputs"], "dilation": 2},
        {"name": "lstm", "type": "lstm", "inputs": ["conv"], "weights": "lstm"},
        {"name": "sum", "type": "add", "inputs": ["conv", "lstm"]},
        {"name": "head.0", "type": "linear", "weights": "fc"},
    ],
    "heads": [{"task": "regression", "names": ["level"]}],
    "window": 365,
    "examples": [{"title": "Random", "file": "examples/random.json"}],
}


def test_only_what_must_be_said_is_written():
    assert (
        toml.dumps(Manifest.model_validate(STACK))
        == """\
# Written by `gatescope import`; docs/models.md says what else may stand here.
format = 2
description = "Rivers"
window = 365

[input]
kind = "features"
features = [
  { name = "rain", unit = "mm" },
  { name = "hour", period = 24.0 },
]

[[layers]]
name = "conv"
type = "conv1d"
dilation = 2

[[layers]]
name = "lstm"
type = "lstm"

[[layers]]
name = "sum"
type = "add"
inputs = ["conv", "lstm"]

[[layers]]
name = "head.0"
type = "linear"
weights = "fc"

[[heads]]
task = "regression"
names = ["level"]
# mean = [20.5] and std = [4.1], a number per name: if the targets were scaled; predicts = "next_step": if the
# prediction at step t is of step t + 1

[[examples]]
title = "Random"
file = "examples/random.json"
"""
    )


def test_a_comment_says_how_unscaled_features_would_be_scaled():
    plain = STACK | {"input": {"kind": "features", "features": [{"name": "rain"}]}}
    assert "]\n# mean = 20.5, std = 4.1 beside a name" in toml.dumps(Manifest.model_validate(plain))


def test_the_command_that_wrote_it_is_named():
    assert toml.dumps(Manifest.model_validate(STACK), "migrate").startswith("# Written by `gatescope migrate`;")


def test_what_toml_cannot_say_is_refused():
    manifest = Manifest.model_validate(STACK | {"examples": [{"title": "t", "request": {"inputs": [None]}}]})
    with pytest.raises(TypeError, match="TOML has no value for NoneType"):
        toml.dumps(manifest)
