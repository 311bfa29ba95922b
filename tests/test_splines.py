"""kanpinn.splines against scipy.interpolate.BSpline and against the theorems splines obey."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline

from kanpinn import splines
from kanpinn.errors import UserError

DEGREES = range(1, 8)
COUNTS = (1, 2, 3, 7, 32)
INTERVALS = ((-1.0, 1.0), (0.3, 2.1))


def scipy_spline(coefficients: np.ndarray, n: int, degree: int, lower: float, upper: float) -> BSpline:
    h = (upper - lower) / n
    return BSpline(lower + h * np.arange(-degree, n + degree + 1), coefficients, degree, extrapolate=True)


def evaluate(c: torch.Tensor, x: torch.Tensor, n: int, degree: int, order: int = 0, **options) -> torch.Tensor:
    return splines.basis(x, n, degree, order, **options) @ c


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def inside(count: int, lower: float, upper: float) -> torch.Tensor:
    """Random points, the ends and the middles of no particular interval; no inner knots."""
    x = np.random.default_rng(5).uniform(lower, upper, count)
    return torch.from_numpy(np.concatenate([[lower, upper], x]))


@pytest.mark.parametrize("degree", DEGREES)
@pytest.mark.parametrize(("lower", "upper"), INTERVALS)
def test_bases_and_their_derivatives_equal_scipys(degree: int, lower: float, upper: float) -> None:
    for n in COUNTS:
        x = inside(101, lower, upper)
        for order in range(min(degree, 3) + 1):
            oracle = scipy_spline(np.eye(n + degree), n, degree, lower, upper)(x.numpy(), nu=order)
            ours = splines.basis(x, n, degree, order, lower=lower, upper=upper).numpy()
            assert np.abs(ours - oracle).max() <= 1e-12 * max(1.0, np.abs(oracle).max()), (n, order)


@pytest.mark.parametrize("degree", DEGREES)
def test_local_basis_holds_the_functions_that_do_not_vanish(degree: int) -> None:
    n, x = 5, inside(50, -1, 1).reshape(4, 13)
    cell, values = splines.local_basis(x, n, degree, 2)
    assert cell.shape == (4, 13)
    assert values.shape == (4, 13, 3, degree + 1)
    t = splines.knots(n, degree)
    assert bool((t[cell + degree] <= x).all() & (x <= t[cell + degree + 1]).all())
    if degree < 2:
        return
    dense = splines.basis(x, n, degree, 2)
    local = torch.gather(dense, -1, cell[..., None] + torch.arange(degree + 1))
    assert torch.equal(local, values[..., 2, :])
    assert torch.allclose(dense.abs().sum(-1), local.abs().sum(-1), rtol=1e-14)


@pytest.mark.parametrize("degree", DEGREES)
def test_the_basis_is_a_partition_of_unity(degree: int) -> None:
    for n in COUNTS:
        x = torch.linspace(-1, 1, 97, dtype=torch.float64)
        b = splines.basis(x, n, degree)
        assert bool((b >= -1e-15).all())
        assert float((b.sum(-1) - 1).abs().max()) < 1e-14
        for order in range(1, 4):
            assert float(splines.basis(x, n, degree, order).sum(-1).abs().max()) < 1e-12 * n**order


@pytest.mark.parametrize("degree", DEGREES)
def test_derivatives_beyond_the_degree_are_zero(degree: int) -> None:
    x = inside(20, -1, 1)
    assert not splines.basis(x, 4, degree, degree + 1).any()


@pytest.mark.parametrize("degree", DEGREES)
def test_splines_are_smooth_across_knots(degree: int) -> None:
    n, c = 6, random(6 + degree)
    knot = splines.knots(n, degree)[degree + 1 : degree + n]
    gap = 1e-9
    for order in range(degree):
        left, right = evaluate(c, knot - gap, n, degree, order), evaluate(c, knot + gap, n, degree, order)
        size, slope = (float(evaluate(c, inside(50, -1, 1), n, degree, k).abs().max()) for k in (order, order + 1))
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
            assert np.abs(ours - expected).max() <= 1e-9 * np.abs(expected).max()
            oracle = scipy_spline(c.numpy(), n, degree, -1, 1)
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
    within = inside(30, -1, 1)
    for order in (0, 1, 2):
        assert torch.equal(
            evaluate(c, within, n, degree, order, outside="clamp"), evaluate(c, within, n, degree, order)
        )


def test_error_refuses_inputs_outside_and_takes_the_ends() -> None:
    ends = torch.tensor([-1.0, 0.2, 1.0], dtype=torch.float64)
    assert torch.equal(splines.basis(ends, 4, 3, outside="error"), splines.basis(ends, 4, 3))
    with pytest.raises(UserError, match=r"1\.5.*outside the knots \[-1, 1\].*outside=error"):
        splines.basis(torch.tensor([0.0, 1.5], dtype=torch.float64), 4, 3, outside="error")


def test_inputs_that_are_not_finite_give_values_that_are_not_finite() -> None:
    # Not an index error: an optimiser must be able to see that a step was too long.
    for outside in ("extrapolate", "clamp"):
        values = splines.basis(torch.tensor([0.1, torch.nan], dtype=torch.float64), 4, 3, outside=outside)
        assert bool(values[0].isfinite().all())
        assert bool(values[1].isnan().any())


@pytest.mark.parametrize("degree", DEGREES)
def test_refinement_is_exact_inside_and_outside(degree: int) -> None:
    for n in (1, 2, 5, 32):
        c = random(n + degree, seed=n)
        fine = splines.refinement_matrix(n, degree) @ c
        x = torch.cat([inside(60, -1, 1), torch.tensor([-1.4, -1.001, 1.001, 1.3], dtype=torch.float64)])
        for outside in ("extrapolate", "clamp"):
            for order in range(min(degree, 3) + 1 if outside == "extrapolate" else 1):
                if order == degree:
                    x = x[2:]  # the highest derivative jumps at the knots; the ends belong to either piece
                coarse = evaluate(c, x, n, degree, order, outside=outside)
                refined = evaluate(fine, x, 2 * n, degree, order, outside=outside)
                # Polynomial continuation multiplies rounding by the size of the basis there.
                scale = float((splines.basis(x, 2 * n, degree, order, outside=outside).abs() @ fine.abs()).max())
                assert float((coarse - refined).abs().max()) <= 1e-12 * max(scale, 1e-30), (n, outside, order)


@pytest.mark.parametrize("degree", DEGREES)
def test_refinement_is_knot_insertion(degree: int) -> None:
    for n in (1, 3, 8):
        # Boehm's algorithm in scipy, on a wider spline so that the middle part sees uniform knots only.
        h = 2.0 / n
        wide = scipy_spline(
            random(n + 3 * degree, seed=n).numpy(), n + 2 * degree, degree, -1 - degree * h, 1 + degree * h
        )
        coarse = wide.c[degree : degree + n + degree]
        for x in -1 - degree * h + h * (np.arange(n + 2 * degree) + 0.5):
            wide = wide.insert_knot(x)
        fine = wide.c[2 * degree : 2 * degree + 2 * n + degree]
        assert np.allclose(splines.refinement_matrix(n, degree).numpy() @ coarse, fine, rtol=0, atol=1e-13)


@pytest.mark.parametrize("degree", DEGREES)
def test_refining_twice_is_the_product_of_the_matrices(degree: int) -> None:
    for n in (1, 3, 8):
        twice = splines.refinement_matrix(2 * n, degree) @ splines.refinement_matrix(n, degree)
        c = random(n + degree, seed=n)
        x = inside(80, -1, 1)
        assert torch.allclose(evaluate(twice @ c, x, 4 * n, degree), evaluate(c, x, n, degree), rtol=0, atol=1e-13)
        assert torch.allclose(twice.sum(1), torch.ones(4 * n + degree, dtype=torch.float64), rtol=0, atol=1e-14)


@pytest.mark.parametrize("degree", DEGREES)
def test_greville_abscissae_are_the_coefficients_of_the_identity(degree: int) -> None:
    for n in COUNTS:
        for lower, upper in INTERVALS:
            x = inside(40, lower, upper)
            y = splines.basis(x, n, degree, lower=lower, upper=upper) @ splines.greville(n, degree, lower, upper)
            assert torch.allclose(y, x, rtol=0, atol=1e-13)


@pytest.mark.parametrize("degree", DEGREES)
def test_fit_gives_back_a_spline(degree: int) -> None:
    n = 6
    c = random(n + degree, 2)
    x = torch.linspace(-1, 1, 100, dtype=torch.float64)
    found = splines.fit(x, splines.basis(x, n, degree) @ c, n, degree)
    assert found.shape == c.shape
    assert torch.allclose(found, c, rtol=0, atol=1e-9)


def test_fit_of_sparse_data_is_finite_and_small_and_passes_through_them() -> None:
    x = torch.tensor([-0.9, 0.1, 0.11], dtype=torch.float64)
    y = torch.tensor([1.0, -2.0, -2.1], dtype=torch.float64)
    c = splines.fit(x, y, 16, 3)
    assert torch.allclose(splines.basis(x, 16, 3) @ c, y, atol=1e-10)
    assert float(c.norm()) <= float((torch.linalg.pinv(splines.basis(x, 16, 3)) @ y).norm()) * (1 + 1e-10)
    with pytest.raises(UserError, match="at least one data point"):
        splines.fit(x[:0], y[:0], 4, 3)
    with pytest.raises(UserError, match="finite"):
        splines.fit(x, y * torch.nan, 4, 3)


@pytest.mark.parametrize("degree", DEGREES)
def test_fitting_a_smooth_function_converges_at_order_degree_plus_one(degree: int) -> None:
    # Fine enough to be past the first transient, coarse enough to stay above rounding (3e-13 at degree 7).
    counts = (28, 36, 48)
    x = torch.linspace(-1, 1, 4001, dtype=torch.float64)
    y = torch.sin(4 * x + 1)
    fits = [splines.basis(x, n, degree) @ splines.fit(x, y, n, degree) for n in counts]
    errors = [float((fit - y).square().mean().sqrt()) for fit in fits]
    slopes = -np.diff(np.log(errors)) / np.diff(np.log(counts))
    assert np.all(np.abs(slopes - (degree + 1)) < 0.2), slopes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((0, 3, "clamp"), r"^backbone\.grid=0: expected an integer of at least 1"),
        ((4, 0, "clamp"), r"^backbone\.degree=0: expected an integer from 1 to 7"),
        ((4, 8, "clamp"), r"^backbone\.degree=8: expected an integer from 1 to 7"),
        ((4, 3, "clmp"), r"^backbone\.outside=clmp: unknown\. Did you mean 'clamp'\?"),
    ],
)
def test_senseless_options_are_refused(options: tuple, message: str) -> None:
    with pytest.raises(UserError, match=message):
        splines.check_options("backbone", *options)
