"""The Fréchet distance of two Gaussians, and Gaussians gathered feature by feature."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.linalg import eigh

from moda.errors import InputError
from moda.landmarks import Array

MIN_FEATURES = 2


@dataclass
class RunningGaussian:
    """Mean and covariance of features that come in batches, without keeping them.

    Source of the update: T. Chan, G. Golub and R. LeVeque, "Updating Formulae and a Pairwise
    Algorithm for Computing Sample Variances", 1979.
    """

    count: int = 0
    mean: Array = field(default_factory=lambda: np.zeros(0))
    scatter: Array = field(default_factory=lambda: np.zeros((0, 0)))
    """(n, n) sum of the outer products of what differs from the mean"""

    def add(self, features: Array) -> None:
        """Take a batch (N, n)."""
        batch = np.asarray(features, np.float64)
        if not len(batch):
            return
        mean = batch.mean(0)
        scatter = (batch - mean).T @ (batch - mean)
        if self.count == 0:
            self.count, self.mean, self.scatter = len(batch), mean, scatter
            return
        total, apart = self.count + len(batch), mean - self.mean
        self.scatter = (
            self.scatter + scatter + np.outer(apart, apart) * self.count * len(batch) / total
        )
        self.mean = self.mean + apart * len(batch) / total
        self.count = total

    @property
    def covariance(self) -> Array:
        """(n, n) unbiased. Raises :class:`InputError` of fewer than two features."""
        if self.count < MIN_FEATURES:
            raise InputError(
                f"{self.count} samples have no covariance; give at least {MIN_FEATURES}"
            )
        return self.scatter / (self.count - 1)


def frechet_distance(first: RunningGaussian, second: RunningGaussian) -> float:
    """Squared Fréchet (2-Wasserstein) distance of two Gaussians:

    ``|m1 - m2|^2 + tr(C1) + tr(C2) - 2 tr((C1 C2)^(1/2))``.

    The trace of the root is the sum of the roots of the eigenvalues of ``C1^(1/2) C2 C1^(1/2)``,
    which is symmetric, so nothing becomes complex and singular covariances need no patching.

    Source: D. Dowson and B. Landau, "The Fréchet Distance between Multivariate Normal
    Distributions", 1982; M. Heusel et al., NeurIPS 2017, equation 6.
    """
    one, two = first.covariance, second.covariance
    values, vectors = eigh(one)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    inner = eigh(root @ two @ root, eigvals_only=True)
    trace = np.trace(one) + np.trace(two) - 2.0 * np.sqrt(np.maximum(inner, 0.0)).sum()
    return float(((first.mean - second.mean) ** 2).sum() + max(trace, 0.0))
