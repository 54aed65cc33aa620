"""A report names what was built into a network, and nothing where nothing was."""

import pytest

from tests.bulk import number
from tests.reporting.planted import is_named, planted, random_network, report_of


@pytest.mark.random
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("noise", [0.0, 0.05])
@pytest.mark.parametrize("kind", ["counts", "latches", "remembers", "slow"])
def test_the_planted_unit_is_named_with_its_number(kind, noise):
    count = number(2, 100)
    truths = [planted(kind, seed, noise) for seed in range(count)]
    assert sum(is_named(report_of(truth), truth) for truth in truths) >= 0.9 * count


@pytest.mark.random
@pytest.mark.timeout(1800)
def test_random_networks_on_white_noise_have_nothing():
    count = number(3, 100)
    assert sum(bool(random_network(seed).found) for seed in range(count)) <= 0.04 * count
