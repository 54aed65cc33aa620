"""Merged moments against NumPy in float64."""

import numpy as np
import pytest
import torch

from gatescope.analysis.moments import Moments


def outer(row):
    return torch.outer(row, row)


def products_of(values, *ends):
    """The sums of products of columns over these parts, and their mean."""
    moments = Moments(outer)
    for part in torch.tensor_split(values, ends):
        near = part.mean(0)
        left = part - near
        moments.add(len(part), near, left.sum(0), left.T @ left)
    return moments


@pytest.mark.parametrize("ends", [(), (1, 2, 700), (1000, 1999)])
def test_products_are_those_about_the_mean_of_all(ends):
    generator = torch.Generator().manual_seed(2)
    values = torch.randn(2000, 4, generator=generator) @ torch.randn(4, 4, generator=generator)
    values += torch.tensor([0.0, 1e3, -5, 1e4])  # far means
    values[:, 2] += torch.linspace(0, 300, 2000)  # a drift
    moments, exact = products_of(values, *ends), values.double().numpy()
    np.testing.assert_allclose(moments.mean, exact.mean(axis=0), rtol=1e-7, atol=1e-7)
    scale = np.sqrt(np.outer(exact.var(axis=0), exact.var(axis=0)))
    expected = np.cov(exact.T, bias=True)
    np.testing.assert_allclose(moments.products.numpy() / moments.steps / scale, expected / scale, atol=2e-6)


def test_what_stands_still_has_products_of_zero():
    assert not products_of(torch.full((999, 2), 0.1), 5, 6).products.any()
