"""kanpinn.splines.piecewise against scipy.interpolate.BSpline: polynomials by interval, derivatives, and transposes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline

from kanpinn.splines import bspline, piecewise

N, OUT = 5, 2


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def located(x: torch.Tensor, spacing: str, degree: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Intervals, places and ds/dx of inputs `[in, N]`."""
    if spacing == "uniform":
        cell, s, slope = bspline.locate(x, N)
        return cell, s, torch.full_like(x, slope)
    return bspline.locate_on(x, bspline.knot_vector(spacing, N, degree), degree)


@pytest.mark.parametrize("spacing", bspline.KNOTS)
@pytest.mark.parametrize("degree", [1, 3, 5, 7])
def test_edges_and_their_derivatives_are_the_splines(spacing: str, degree: int) -> None:
    c, x = random(OUT, 3, N + degree), random(3, 40, seed=1).clamp(-1, 1)
    cell, s, slope = located(x, spacing, degree)
    table = piecewise.to_pieces(c, spacing, N, degree)
    found = piecewise.derivatives(piecewise.gather(table, cell + N * torch.arange(3)[:, None]), s, 4)
    knots = np.asarray(bspline.knot_vector(spacing, N, degree))
    for p in range(3):
        for q in range(OUT):
            edge = BSpline(knots, c[q, p].numpy(), degree, extrapolate=True)
            for d in range(5):
                ours = found[d, q, p] * slope[p] ** d
                if d > degree:
                    assert not bool(ours.any())
                elif d < degree:  # the highest one jumps at knots, where either side is right
                    size = float(abs(edge(x[p].numpy(), nu=d)).max())
                    assert np.allclose(ours, edge(x[p].numpy(), nu=d), rtol=0, atol=1e-11 * size)


@pytest.mark.parametrize("spacing", bspline.KNOTS)
def test_basis_functions_are_the_edges_of_unit_coefficients(spacing: str) -> None:
    degree, x = 4, random(2, 30).clamp(-1, 1)
    cell, s, _ = located(x, spacing, degree)
    found = piecewise.basis_derivatives(cell, s, spacing, N, degree, 3)
    units = torch.eye(N + degree, dtype=torch.float64)[:, None].expand(-1, 2, -1)
    every = piecewise.derivatives(
        piecewise.gather(piecewise.to_pieces(units, spacing, N, degree), cell + N * torch.arange(2)[:, None]),
        s,
        3,
    )
    for j in range(degree + 1):
        at_work = torch.gather(every, 1, (cell + j).expand(4, 1, -1, -1))[:, 0]
        assert torch.allclose(found[:, j], at_work, rtol=0, atol=1e-12)


@pytest.mark.parametrize("spacing", bspline.KNOTS)
def test_gradients_go_the_transposed_way(spacing: str) -> None:
    degree = 3
    c, v = random(OUT, 3, N + degree), random(degree + 1, OUT, 3 * N, seed=1)
    forward = (piecewise.to_pieces(c, spacing, N, degree) * v).sum()
    assert torch.isclose(forward, (c * piecewise.from_pieces(v, spacing, N, degree)).sum(), rtol=1e-12, atol=0)
    rows = torch.from_numpy(np.random.default_rng(2).integers(0, 3 * N, (3, 50)))
    values, total = random(degree + 1, OUT, 3, 50, seed=3), torch.zeros_like(v)
    piecewise.scatter_add(total, rows, values)
    assert torch.isclose((piecewise.gather(v, rows) * values).sum(), (v * total).sum(), rtol=1e-12, atol=0)
