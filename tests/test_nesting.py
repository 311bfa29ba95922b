"""Transfer between two spline spaces of one edge, against scipy and the definitions."""

from __future__ import annotations

from itertools import chain, pairwise

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline
from torch import Tensor

from kanpinn.splines import bspline
from kanpinn.splines.nesting import DyadicNesting, KnotInsertion, SplineNesting, dyadic_nesting, knot_insertion

DEGREES = range(1, 8)


def irregular(degree: int, n: int = 5) -> tuple[bspline.Knots, bspline.Knots]:
    """Irregular knots on some [a, b], and finer ones: one, no or three more per interval, others beyond the ends."""
    generator = np.random.default_rng(degree)
    t = np.cumsum(generator.uniform(0.2, 1.0, n + 2 * degree + 1)) - 3.0
    inner = t[degree : len(t) - degree]
    new = (np.linspace(a, b, 2 + (1, 0, 3)[m % 3])[1:-1] for m, (a, b) in enumerate(pairwise(inner)))
    middle = np.sort(np.concatenate([inner, *new]))
    steps = np.cumsum(generator.uniform(0.2, 0.5, (2, degree)), axis=1)
    fine = np.concatenate([middle[0] - steps[0][::-1], middle, middle[-1] + steps[1]])
    return tuple(t.tolist()), tuple(fine.tolist())


def nestings(degree: int) -> list[SplineNesting]:
    """One of every kind and size that differs: a single interval, fewer intervals than the degree, more."""
    counts = (1, 2, 5, 16)

    def insertion(spacing: str, n: int, fine: int) -> KnotInsertion:
        return KnotInsertion(*(bspline.knot_vector(spacing, m, degree) for m in (n, fine)), degree)

    return [
        *(DyadicNesting(n, degree) for n in counts),
        *(insertion("cosine", n, 2 * n) for n in counts),
        insertion("uniform", 4, 12),
        KnotInsertion(*irregular(degree), degree),
    ]


ALL = [(degree, nesting) for degree in DEGREES for nesting in nestings(degree)]
each = pytest.mark.parametrize(
    "nesting",
    [nesting for _, nesting in ALL],
    ids=[f"{type(q).__name__}, degree {k}, {q.coarse - k} to {q.fine - k}" for k, q in ALL],
)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def scipy_spline(knots: bspline.Knots, c: Tensor, degree: int) -> BSpline:
    return BSpline(np.asarray(knots), c.numpy(), degree)


def inside(nesting: SplineNesting, count: int = 60) -> np.ndarray:
    """Points of the interval, its ends, none of them a knot inside."""
    a, b = nesting.coarse_knots[nesting.degree], nesting.coarse_knots[-nesting.degree - 1]
    return np.concatenate([[a, b], np.random.default_rng(5).uniform(a, b, count)])


def quadrature(nesting: SplineNesting) -> tuple[np.ndarray, np.ndarray]:
    """Gauss–Legendre points and weights on every fine interval, more than are needed."""
    breakpoints = np.array(nesting.fine_knots[nesting.degree : len(nesting.fine_knots) - nesting.degree])
    nodes, weights = np.polynomial.legendre.leggauss(nesting.degree + 3)
    half = np.diff(breakpoints)[:, None] / 2
    return (breakpoints[:-1, None] + half * (1 + nodes)).ravel(), (half * weights).ravel()


@each
def test_prolongation_keeps_the_spline_and_its_derivatives(nesting: SplineNesting) -> None:
    c, x, k = random(nesting.coarse), inside(nesting), nesting.degree
    coarse, fine = (
        scipy_spline(nesting.coarse_knots, c, k),
        scipy_spline(nesting.fine_knots, nesting.prolong(c), k),
    )
    for order in range(min(k, 4)):  # the k-th derivative jumps at the knots, which the ends are
        before, after = coarse(x, nu=order), fine(x, nu=order)
        assert np.abs(after - before).max() <= 1e-12 * np.abs(before).max(), order


@pytest.mark.parametrize("degree", DEGREES)
@pytest.mark.parametrize("n", [1, 2, 3, 8])
def test_dyadic_stencils_are_the_two_scale_relation_and_knot_insertion(n: int, degree: int) -> None:
    nesting = DyadicNesting(n, degree)
    columns = nesting.prolong(torch.eye(n + degree, dtype=torch.float64))
    # Southworth et al. 2026, eq. 21, with the factor 2^(-k): the whole mask where a column lies inside.
    mask = np.poly1d([1, 1]) ** (degree + 1)
    whole = np.zeros((n + degree, 2 * (n + degree) + degree))
    for i, row in enumerate(whole):
        row[2 * i : 2 * i + degree + 2] = mask.coeffs / 2**degree
    assert np.array_equal(columns.numpy(), whole[:, degree : degree + 2 * n + degree])
    knots = (bspline.knot_vector("uniform", m, degree) for m in (n, 2 * n))
    inserted = KnotInsertion(*knots, degree).prolong(torch.eye(n + degree, dtype=torch.float64))
    assert torch.allclose(columns, inserted, rtol=0, atol=1e-13)


@pytest.mark.parametrize("degree", DEGREES)
def test_knot_insertion_equals_boehms_algorithm_in_scipy(degree: int) -> None:
    # On a wider spline, so that the middle part sees the same knots in both.
    for spacing in bspline.KNOTS:
        n = 8
        knots = np.array(bspline.knot_vector(spacing, n, degree))
        reach = np.arange(1, 2 * degree + 1) * 0.4
        wide = np.concatenate([knots[0] - reach[::-1], knots, knots[-1] + reach])
        spline = scipy_spline(tuple(wide), random(len(wide) - degree - 1), degree)
        for a, b in pairwise(knots):
            spline = spline.insert_knot((a + b) / 2)
        fine = np.sort(np.concatenate([knots, (knots[1:] + knots[:-1]) / 2]))[degree : len(knots) * 2 - 1 - degree]
        start = int(np.flatnonzero(np.isclose(spline.t, fine[0], rtol=0, atol=1e-14))[0])
        expected = spline.c[start : start + len(fine) - degree - 1]
        c = scipy_spline(tuple(wide), random(len(wide) - degree - 1), degree).c[2 * degree : 2 * degree + n + degree]
        ours = KnotInsertion(tuple(knots), tuple(fine), degree).prolong(torch.from_numpy(c))
        assert np.abs(ours.numpy() - expected).max() <= 1e-12, spacing


@each
def test_transposes_are_adjoint(nesting: SplineNesting) -> None:
    c, f = random(nesting.coarse), random(nesting.fine, seed=1)
    p, r = nesting.prolong(c), nesting.restrict(f)
    assert float((p @ f - c @ nesting.prolong_transpose(f)).abs()) <= 1e-13 * float(p.norm() * f.norm())
    assert float((r @ c - f @ nesting.restrict_transpose(c)).abs()) <= 1e-11 * float(r.norm() * c.norm())


@each
def test_restriction_undoes_prolongation(nesting: SplineNesting) -> None:
    c = random(nesting.coarse)
    # Rounding of the fine coefficients comes back amplified by the operator's norm: coefficients of functions that
    # hardly reach into the interval are hard to tell, up to 1e6 for degree 7.
    norm = float(nesting.restrict(torch.eye(nesting.fine, dtype=torch.float64)).abs().sum(0).max())
    assert float((nesting.restrict(nesting.prolong(c)) - c).abs().max()) <= 1e-14 * norm * float(c.abs().max())


@each
def test_restriction_is_the_projection_in_l2(nesting: SplineNesting) -> None:
    f, k = random(nesting.fine), nesting.degree
    coarse = nesting.restrict(f)
    x, w = quadrature(nesting)
    error = scipy_spline(nesting.fine_knots, f, k)(x) - scipy_spline(nesting.coarse_knots, coarse, k)(x)
    basis = scipy_spline(nesting.coarse_knots, torch.eye(nesting.coarse, dtype=torch.float64), k)(x)
    functional = basis.T @ (w * error)
    size = np.sqrt((w @ basis**2) * (w @ scipy_spline(nesting.fine_knots, f, k)(x) ** 2))
    assert np.abs(functional / size).max() <= 1e-11  # orthogonal to every coarse function
    # And the same function as weighted least squares gives, by orthogonal factorisation.
    root = np.sqrt(w)
    values = root * scipy_spline(nesting.fine_knots, f, k)(x)
    scale = np.linalg.norm(root[:, None] * basis, axis=0)
    solution = np.linalg.lstsq(root[:, None] * basis / scale, values, rcond=None)[0] / scale
    assert np.abs(basis @ (solution - coarse.numpy())).max() <= 1e-11 * np.abs(basis @ solution).max()


@pytest.mark.parametrize("degree", DEGREES)
def test_transfer_of_transfer_reaches_two_levels_up_and_down(degree: int) -> None:
    for spacing in bspline.KNOTS:
        knots = [bspline.knot_vector(spacing, n, degree) for n in (3, 6, 12)]
        low, high = (KnotInsertion(a, b, degree) for a, b in pairwise(knots))
        across = KnotInsertion(knots[0], knots[2], degree)
        c, f = random(across.coarse), random(across.fine, seed=1)
        assert torch.allclose(high.prolong(low.prolong(c)), across.prolong(c), rtol=0, atol=1e-12)
        # Orthogonal projections on nested spaces compose.
        both, direct = low.restrict(high.restrict(f)), across.restrict(f)
        assert float((both - direct).abs().max()) <= 1e-10 * float(direct.abs().max())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_operators_take_any_leading_shape_and_keep_the_dtype(dtype: torch.dtype) -> None:
    tolerance = 1e-4 if dtype == torch.float32 else 1e-12
    for nesting in (DyadicNesting(4, 3), KnotInsertion(*irregular(3), 3)):
        operators = {
            nesting.coarse: (nesting.prolong, nesting.restrict_transpose),
            nesting.fine: (nesting.prolong_transpose, nesting.restrict),
        }
        for count, operator in chain.from_iterable(((n, f) for f in fs) for n, fs in operators.items()):
            c = random(2, 3, count).to(dtype)
            out = operator(c.transpose(0, 1))  # not contiguous
            assert out.dtype == dtype
            for i in range(2):
                for j in range(3):
                    alone = operator(c[i, j].double())
                    assert float((out[j, i] - alone).abs().max()) <= tolerance * float(alone.abs().max())
            assert operator(c[:0]).shape == (0, 3, out.shape[-1])


def test_autograd_through_prolongation_is_its_transpose() -> None:
    for nesting in (DyadicNesting(3, 4), KnotInsertion(*irregular(4), 4)):
        c, g = random(2, nesting.coarse).requires_grad_(True), random(2, nesting.fine, seed=1)
        (gradient,) = torch.autograd.grad((nesting.prolong(c) * g).sum(), c)
        assert torch.allclose(gradient, nesting.prolong_transpose(g), rtol=0, atol=1e-14)
        assert torch.autograd.gradcheck(nesting.prolong, c)


def test_operators_are_kept() -> None:
    assert dyadic_nesting(4, 3) is dyadic_nesting(4, 3)
    knots = [bspline.knot_vector("cosine", n, 3) for n in (4, 8)]
    assert knot_insertion(*knots, 3) is knot_insertion(*knots, 3)


def test_knots_that_are_not_nested_or_do_not_increase_are_refused() -> None:
    coarse, fine = (bspline.knot_vector("uniform", n, 2) for n in (3, 6))
    with pytest.raises(ValueError, match="not among the fine ones"):
        KnotInsertion(bspline.knot_vector("uniform", 4, 2), fine, 2)
    with pytest.raises(ValueError, match="not among the fine ones with the same ends"):
        KnotInsertion(coarse, bspline.knot_vector("uniform", 6, 3), 2)
    with pytest.raises(ValueError, match="strictly increasing"):
        KnotInsertion(coarse[::-1], fine, 2)
    with pytest.raises(ValueError, match="strictly increasing"):
        KnotInsertion(coarse, (*fine[:4], *fine[3:]), 2)
    with pytest.raises(ValueError, match="at least 6 strictly increasing knots for degree 2"):
        KnotInsertion(coarse, fine[:5], 2)
