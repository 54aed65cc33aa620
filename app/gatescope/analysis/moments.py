"""`Moments`: the mean of values, and the sum of their products about it, as further values come.

They are merged as in Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances",
1979: a mean far from 0, or one that drifts, costs no digits.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class Moments:
    """Of columns, in float64.

    Args:
        product: of one row of columns with itself: `torch.square`, or the outer product where each column is multiplied
            with each.
    """

    def __init__(self, product: Callable[[Tensor], Tensor]) -> None:
        self._product = product
        self.steps = 0
        self.mean = self.products = torch.zeros((), dtype=torch.float64)

    def add(self, steps: int, near: Tensor, sums: Tensor, products: Tensor) -> None:
        """Take in further steps.

        Args:
            steps: how many.
            near: their mean as rounded, (…, column).
            sums: of what is left without `near`, (…, column).
            products: of the same, summed.
        """
        rest = sums.double().cpu() / steps  # by how much the rounded mean is off
        difference, both = near.double().cpu() + rest - self.mean, self.steps + steps
        own = products.double().cpu() - steps * self._product(rest)
        self.products = self.products + own + self._product(difference) * (self.steps * steps / both)
        self.mean = self.mean + difference * (steps / both)
        self.steps = both
