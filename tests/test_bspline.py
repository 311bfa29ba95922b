"""B-spline bases and fits against scipy.interpolate.BSpline and against the theorems splines obey."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline

from kanpinn.errors import UserError
from kanpinn.splines import bspline
from kanpinn.splines.piecewise import basis_derivatives, fit, greville, mass_matrix

DEGREES = range(1, 8)
COUNTS = (1, 2, 3, 7, 32)


def basis(
    x: torch.Tensor, n: int, degree: int, order: int = 0, spacing: str = "uniform", outside: str = "extrapolate"
) -> torch.Tensor:
    """All n + k basis functions, or one of their derivatives, at inputs `[N]`, `[N, n + k]`."""
    if spacing == "uniform":
        cell, s, slope = bspline.locate(x, n, outside=outside)
    else:
        cell, s, slope = bspline.locate_on(x, bspline.knot_vector(spacing, n, degree), degree, outside=outside)
    values = basis_derivatives(cell, s, spacing, n, degree, order)[order] * slope**order
    return x.new_zeros(len(x), n + degree).scatter_(1, cell[:, None] + torch.arange(degree + 1), values.T)


def evaluate(c: torch.Tensor, x: torch.Tensor, n: int, degree: int, order: int = 0, **options) -> torch.Tensor:
    return basis(x, n, degree, order, **options) @ c


@pytest.mark.parametrize("spacing", ["uniform", "cosine"])
def test_bases_have_the_type_of_their_points(spacing: str) -> None:
    x = torch.linspace(-0.9, 0.9, 7, dtype=torch.float32)
    assert basis(x, 4, 3, 1, spacing).dtype == torch.float32
    cell, s, _ = bspline.locate_on(x, bspline.knot_vector("cosine", 4, 3), 3)
    assert basis_derivatives(cell, s, spacing, 4, 3, 2).dtype == torch.float32


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def inside(count: int) -> torch.Tensor:
    """Random points, the ends and the middles of no particular interval; no inner knots."""
    x = np.random.default_rng(5).uniform(-1, 1, count)
    return torch.from_numpy(np.concatenate([[-1.0, 1.0], x]))


@pytest.mark.parametrize("degree", DEGREES)
@pytest.mark.parametrize("spacing", bspline.KNOTS)
def test_bases_and_their_derivatives_equal_scipys(degree: int, spacing: str) -> None:
    for n in COUNTS:
        x, t = inside(101), np.asarray(bspline.knot_vector(spacing, n, degree))
        for order in range(min(degree, 3) + 1):
            oracle = BSpline(t, np.eye(n + degree), degree)(x.numpy(), nu=order)
            ours = basis(x, n, degree, order, spacing).numpy()
            assert np.abs(ours - oracle).max() <= 1e-12 * max(1.0, np.abs(oracle).max()), (n, order)


@pytest.mark.parametrize("degree", DEGREES)
def test_the_basis_is_a_partition_of_unity(degree: int) -> None:
    for n in COUNTS:
        x = torch.linspace(-1, 1, 97, dtype=torch.float64)
        b = basis(x, n, degree)
        assert bool((b >= -1e-15).all())
        assert float((b.sum(-1) - 1).abs().max()) < 1e-14
        for order in range(1, 4):
            assert float(basis(x, n, degree, order).sum(-1).abs().max()) < 1e-12 * n**order


@pytest.mark.parametrize("degree", DEGREES)
def test_derivatives_beyond_the_degree_are_zero(degree: int) -> None:
    x = inside(20)
    assert not basis(x, 4, degree, degree + 1).any()


@pytest.mark.parametrize("degree", DEGREES)
def test_splines_are_smooth_across_knots(degree: int) -> None:
    n, c = 6, random(6 + degree)
    knot = torch.tensor(bspline.knot_vector("uniform", n, degree), dtype=torch.float64)[degree + 1 : degree + n]
    gap = 1e-9
    for order in range(degree):
        left, right = evaluate(c, knot - gap, n, degree, order), evaluate(c, knot + gap, n, degree, order)
        size, slope = (float(evaluate(c, inside(50), n, degree, k).abs().max()) for k in (order, order + 1))
        assert float((left - right).abs().max()) <= 3 * gap * slope + 1e-11 * size


@pytest.mark.parametrize("degree", DEGREES)
def test_extrapolation_continues_the_last_polynomial_piece(degree: int) -> None:
    n, c = 4, random(4 + degree)
    for order in range(min(degree, 3) + 1):
        for side, far in ((1.0, [1.0, 1.01, 1.3, 2.5]), (-1.0, [-1.0, -1.2, -3.0])):
            # The piece as a polynomial, interpolated inside the last interval.
            z = side * (1 - 0.5 * (0.5 - 0.5 * np.cos(np.pi * (np.arange(degree + 1) + 0.5) / (degree + 1))))
            y = evaluate(c, torch.from_numpy(z), n, degree).numpy()
            piece = (
                np.polynomial.Polynomial.fit(z, y, degree).deriv(order)
                if order
                else np.polynomial.Polynomial.fit(z, y, degree)
            )
            expected = piece(np.array(far))
            ours = evaluate(c, torch.tensor(far, dtype=torch.float64), n, degree, order).numpy()
            # Beyond the interval the fit's own rounding grows like its leading coefficients, by BLAS up to 2e-9.
            assert np.abs(ours - expected).max() <= (1e-7 if degree == 7 else 1e-9) * np.abs(expected).max()
            oracle = BSpline(bspline.knot_vector("uniform", n, degree), c.numpy(), degree)
            # scipy continues the piece of the outermost knot interval, which is another one: compare at the ends only.
            assert (
                np.isclose(ours[0], float(oracle(side, nu=order)), rtol=1e-12, atol=1e-12 * n**order) or order == degree
            )


@pytest.mark.parametrize("degree", DEGREES)
def test_clamp_holds_the_end_value_with_zero_derivatives(degree: int) -> None:
    n, c = 5, random(5 + degree)
    x = torch.tensor([-7.0, -1.0 - 1e-12, 1.0 + 1e-12, 4.0], dtype=torch.float64)
    ends = evaluate(c, torch.tensor([-1.0, -1.0, 1.0, 1.0], dtype=torch.float64), n, degree)
    assert torch.allclose(evaluate(c, x, n, degree, outside="clamp"), ends, rtol=1e-13, atol=1e-13)
    for order in (1, 2, 3):
        assert not evaluate(c, x, n, degree, order, outside="clamp").any()
    within = inside(30)
    for order in (0, 1, 2):
        assert torch.equal(
            evaluate(c, within, n, degree, order, outside="clamp"), evaluate(c, within, n, degree, order)
        )


@pytest.mark.parametrize("spacing", bspline.KNOTS)
def test_error_refuses_inputs_outside_and_takes_the_ends(spacing: str) -> None:
    ends = torch.tensor([-1.0, 0.2, 1.0], dtype=torch.float64)
    assert torch.equal(basis(ends, 4, 3, spacing=spacing, outside="error"), basis(ends, 4, 3, spacing=spacing))
    with pytest.raises(UserError, match=r"1\.5.*outside the knots \[-1, 1\].*outside=error"):
        basis(torch.tensor([0.0, 1.5], dtype=torch.float64), 4, 3, spacing=spacing, outside="error")


@pytest.mark.parametrize("spacing", bspline.KNOTS)
def test_inputs_that_are_not_finite_give_values_that_are_not_finite(spacing: str) -> None:
    # Not an index error: an optimiser must be able to see that a step was too long.
    for outside in ("extrapolate", "clamp"):
        values = basis(torch.tensor([0.1, torch.nan], dtype=torch.float64), 4, 3, spacing=spacing, outside=outside)
        assert bool(values[0].isfinite().all())
        assert bool(values[1].isnan().any())


@pytest.mark.parametrize("degree", DEGREES)
@pytest.mark.parametrize("spacing", bspline.KNOTS)
def test_greville_abscissae_are_the_coefficients_of_the_identity(degree: int, spacing: str) -> None:
    for n in COUNTS:
        x, t = inside(40), bspline.knot_vector(spacing, n, degree)
        y = basis(x, n, degree, spacing=spacing) @ torch.from_numpy(greville(t, degree))
        assert torch.allclose(y, x, rtol=0, atol=1e-13)


def arbitrary_knots(n: int, degree: int) -> bspline.Knots:
    """Strictly increasing knots with neighbouring intervals of very different widths; [a, b] is not [-1, 1]."""
    widths = np.random.default_rng(n).uniform(0.05, 1.0, n + 2 * degree)
    return tuple((np.concatenate([[0.0], np.cumsum(widths)]) - 2.0).tolist())


@pytest.mark.parametrize("degree", DEGREES)
@pytest.mark.parametrize("outside", ["extrapolate", "clamp"])
def test_both_searches_agree_on_uniform_knots(degree: int, outside: str) -> None:
    # Inside, outside and at the knots, where both take the interval to the right.
    n = 4
    at_knots = torch.tensor([-1.0, -0.5, 0.0, 1.0], dtype=torch.float64)
    far = torch.tensor([-1.7, -1.0 - 1e-9, 1.1, 2.0], dtype=torch.float64)
    t = bspline.knot_vector("uniform", n, degree)
    for x in (inside(50), at_knots, far):
        cell, s, slope = bspline.locate(x, n, outside=outside)
        other, place, steepness = bspline.locate_on(x, t, degree, outside=outside)
        assert torch.equal(cell, other)
        assert torch.allclose(s, place, rtol=0, atol=1e-13)
        assert torch.allclose(torch.as_tensor(slope, dtype=x.dtype), steepness, rtol=1e-13, atol=0)


@pytest.mark.parametrize("degree", DEGREES)
@pytest.mark.parametrize("n", COUNTS)
def test_cosine_knots_are_nested_mirrored_and_increase(n: int, degree: int) -> None:
    t = np.array(bspline.knot_vector("cosine", n, degree))
    assert bool((np.diff(t) > 0).all())
    inner = t[degree : len(t) - degree]
    assert np.allclose(inner, -np.cos(np.pi * np.arange(n + 1) / n), rtol=0, atol=1e-15)
    assert set(inner) <= set(bspline.knot_vector("cosine", 2 * n, degree))  # to the last bit
    assert np.allclose(t, -t[::-1], rtol=0, atol=1e-14)
    count = min(n, degree)
    assert np.allclose(t[degree - count : degree], -2 - t[degree + count : degree : -1], rtol=0, atol=1e-14)
    with pytest.raises(UserError, match=r"^backbone\.knots=cosinus: unknown\. Did you mean 'cosine'\?"):
        bspline.knot_vector("cosinus", n, degree)


@pytest.mark.parametrize("degree", DEGREES)
def test_mass_matrices_hold_the_inner_products(degree: int) -> None:
    for n in (1, 2, 6):
        for t in (*(bspline.knot_vector(spacing, n, degree) for spacing in bspline.KNOTS), arbitrary_knots(n, degree)):
            inner = np.array(t[degree : len(t) - degree])
            # A finer composite rule with more nodes than needed, on scipy's functions.
            nodes, weights = np.polynomial.legendre.leggauss(12)
            half = np.diff(inner)[:, None] / 2
            x, w = (inner[:-1, None] + half * (1 + nodes)).ravel(), (half * weights).ravel()
            values = BSpline(np.asarray(t), np.eye(n + degree), degree)(x)
            expected = values.T @ (w[:, None] * values)
            bands = mass_matrix(t, degree)
            ours = sum(
                np.diag(bands[d, : n + degree - d], s * d) for d in range(degree + 1) for s in ((1, -1) if d else (1,))
            )
            # Relative to the functions' sizes: those at the ends hardly reach inside.
            size = np.sqrt(np.diag(expected))
            assert np.abs((ours - expected) / np.outer(size, size)).max() <= 1e-13, (n, t)


@pytest.mark.parametrize("degree", DEGREES)
def test_fit_gives_back_a_spline(degree: int) -> None:
    n = 6
    c = random(n + degree, 2)
    x = torch.linspace(-1, 1, 100, dtype=torch.float64)
    found = fit(x, basis(x, n, degree) @ c, n, degree)
    assert found.shape == c.shape
    assert torch.allclose(found, c, rtol=0, atol=1e-9)


def test_fit_of_sparse_data_is_finite_and_small_and_passes_through_them() -> None:
    x = torch.tensor([-0.9, 0.1, 0.11], dtype=torch.float64)
    y = torch.tensor([1.0, -2.0, -2.1], dtype=torch.float64)
    c = fit(x, y, 16, 3)
    assert torch.allclose(basis(x, 16, 3) @ c, y, atol=1e-10)
    assert float(c.norm()) <= float((torch.linalg.pinv(basis(x, 16, 3)) @ y).norm()) * (1 + 1e-10)
    with pytest.raises(UserError, match="at least one data point"):
        fit(x[:0], y[:0], 4, 3)
    with pytest.raises(UserError, match="finite"):
        fit(x, y * torch.nan, 4, 3)


@pytest.mark.parametrize("degree", DEGREES)
def test_fitting_a_smooth_function_converges_at_order_degree_plus_one(degree: int) -> None:
    # Fine enough to be past the first transient, coarse enough to stay above rounding (3e-13 at degree 7).
    counts = (28, 36, 48)
    x = torch.linspace(-1, 1, 4001, dtype=torch.float64)
    y = torch.sin(4 * x + 1)
    fits = [basis(x, n, degree) @ fit(x, y, n, degree) for n in counts]
    errors = [float((fit - y).square().mean().sqrt()) for fit in fits]
    slopes = -np.diff(np.log(errors)) / np.diff(np.log(counts))
    assert np.all(np.abs(slopes - (degree + 1)) < 0.2), slopes


def test_the_input_farthest_outside_is_named() -> None:
    t = tuple(map(float, range(8, 20)))  # of degree 3, on [11, 16]
    with pytest.raises(UserError, match=r"spline input 18 lies outside the knots \[11, 16\]"):
        bspline.locate_on(torch.tensor([10.5, 12.0, 18.0], dtype=torch.float64), t, 3, outside="error")


def test_unequal_intervals_are_halved_on_finer_levels_and_keep_their_ends() -> None:
    coarse, fine = (bspline.knot_vector((-1.0, 0.0, 0.75, 1.0), n, 3) for n in (3, 12))
    inner = np.array(fine[3:-3])
    assert coarse[3:-3] == (-1.0, 0.0, 0.75, 1.0)
    np.testing.assert_array_equal(
        inner, [-1, -0.75, -0.5, -0.25, 0, 0.1875, 0.375, 0.5625, 0.75, 0.8125, 0.875, 0.9375, 1]
    )
    assert len(fine) == 12 + 7 and (np.diff(fine) > 0).all()
    assert np.diff(coarse)[:3].tolist() == [0.25, 0.75, 1.0]  # mirrored
    with pytest.raises(ValueError, match="7 is not 3 times a power of 2"):
        bspline.knot_vector((-1.0, 0.0, 0.75, 1.0), 7, 3)
