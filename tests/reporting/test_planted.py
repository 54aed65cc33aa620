"""A report names what was built into a network, and nothing where nothing was."""

import os

import pytest

from tests.bulk import number
from tests.reporting.planted import found_in, is_named, planted, random_network

CASES = [*((kind, noise) for kind in ("counts", "latches", "remembers", "slow") for noise in (0, 0.1))]


def count_of(few, every):
    """How many networks are drawn: `make test-planted` has a hundred of each, half an hour in all."""
    return 100 if "TEST_PLANTED" in os.environ else number(few, every)


@pytest.mark.random
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("kind", "noise"), [*CASES, ("swings", 0.02)])
def test_the_planted_unit_is_named_with_its_number(kind, noise):
    count = count_of(2, 10)
    truths = [planted(kind, seed, noise) for seed in range(count)]
    assert sum(is_named(found_in(truth), truth) for truth in truths) >= 0.9 * count


@pytest.mark.random
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_random_networks_on_white_noise_have_nothing(scale):
    count = count_of(1, 25 if scale == 1 else 8)
    assert sum(bool(random_network(seed, scale).found) for seed in range(count)) <= 0.04 * count
