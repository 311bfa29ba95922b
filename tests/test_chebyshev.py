"""Chebyshev polynomials and transfer between degrees, against numpy.polynomial and Gauss–Chebyshev quadrature."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.polynomial import chebyshev
from torch import Tensor

from kanpinn.splines.chebyshev import ChebyshevNesting, chebyshev_basis

NESTINGS = [ChebyshevNesting(k, m) for k, m in ((0, 0), (0, 5), (1, 2), (3, 3), (4, 8), (4, 21), (5, 11), (16, 32))]
each = pytest.mark.parametrize("nesting", NESTINGS, ids=[f"{q.coarse - 1} to {q.fine - 1}" for q in NESTINGS])


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


@pytest.mark.parametrize("degree", [1, 2, 5, 16, 40])
def test_polynomials_and_their_derivatives_equal_numpys(degree: int) -> None:
    x = np.concatenate([[-1.0, 0.0, 1.0], np.random.default_rng(0).uniform(-1, 1, 50)])
    table = chebyshev_basis(torch.from_numpy(x).reshape(53, 1), degree, 4)
    assert table.shape == (53, 1, 5, degree + 1)
    for i in range(degree + 1):
        for d in range(5):
            expected = chebyshev.chebval(x, chebyshev.chebder(np.eye(degree + 1)[i], d))
            # At 1 a polynomial's derivative is the largest.
            largest = abs(chebyshev.chebval(1.0, chebyshev.chebder(np.eye(degree + 1)[i], d)))
            assert np.abs(table[:, 0, d, i].numpy() - expected).max() <= 1e-13 * max(largest, 1e-300) * (i + 1), (i, d)


@pytest.mark.parametrize("degree", [1, 7, 64])
def test_values_at_cosines_are_cosines(degree: int) -> None:
    angles = torch.from_numpy(np.random.default_rng(1).uniform(0, np.pi, 40))
    table = chebyshev_basis(torch.cos(angles), degree, 0)
    expected = torch.cos(angles[:, None] * torch.arange(degree + 1))
    assert float((table[:, 0] - expected).abs().max()) <= 1e-12


@each
def test_prolongation_keeps_the_polynomial(nesting: ChebyshevNesting) -> None:
    c, x = random(nesting.coarse), np.linspace(-1, 1, 30)
    fine = nesting.prolong(c)
    assert fine.shape == (nesting.fine,)
    assert np.array_equal(chebyshev.chebval(x, fine.numpy()), chebyshev.chebval(x, np.r_[c.numpy(), np.zeros(1)]))


@each
def test_transposes_are_adjoint_and_restrictions_undo_prolongation(nesting: ChebyshevNesting) -> None:
    c, f = random(3, nesting.coarse), random(3, nesting.fine, seed=1)
    assert float((nesting.prolong(c) * f).sum()) == pytest.approx(float((c * nesting.prolong_transpose(f)).sum()))
    assert float((nesting.restrict(f) * c).sum()) == pytest.approx(float((f * nesting.restrict_transpose(c)).sum()))
    assert torch.equal(nesting.restrict(nesting.prolong(c)), c)


@each
def test_restriction_is_the_weighted_projection(nesting: ChebyshevNesting) -> None:
    # The error is orthogonal to every coarse polynomial: ∫ (f − R f) T_i / √(1 − x²) dx = 0.
    f = random(nesting.fine)
    x, weights = chebyshev.chebgauss(2 * nesting.fine)
    error = chebyshev.chebval(x, f.numpy()) - chebyshev.chebval(x, nesting.restrict(f).numpy())
    moments = (weights * error) @ chebyshev.chebvander(x, nesting.coarse - 1)
    assert np.abs(moments).max() <= 1e-12 * nesting.fine


def test_a_lower_degree_contains_no_higher_one() -> None:
    with pytest.raises(ValueError, match="degree 2 do not contain those of degree 3"):
        ChebyshevNesting(3, 2)
