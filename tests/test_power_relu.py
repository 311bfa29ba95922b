"""The power-ReLU basis: change of basis, transfer, the backbone relu_kan and the benchmark of evaluations."""

from __future__ import annotations

import importlib
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline
from support.naive_network import at_points, network
from support.power_relus import change_of_basis
from torch import Tensor

from kanpinn.backbones import Backbone, Kan, ReluKan
from kanpinn.backbones.base import Tape
from kanpinn.backbones.edits import refinement
from kanpinn.backbones.embedding import EmbeddingOptions
from kanpinn.backbones.relu_kan import map_splines
from kanpinn.errors import UserError
from kanpinn.geometry import Box
from kanpinn.jets.jet import JetSpace
from kanpinn.splines import power_relu
from kanpinn.splines.nesting import dyadic_nesting
from kanpinn.splines.power_relu import (
    PowerReluNesting,
    relu_coefficients,
    relu_gradient,
    spline_coefficients,
    spline_gradient,
)

DEGREES = range(1, 8)
EPS = 2.0**-52


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def exact_inverse(n: int, degree: int) -> Tensor:
    """A^{-1}[i, j] = k! h^k C(j − i + k, k)."""
    matrix = torch.zeros(n + degree, n + degree, dtype=torch.float64)
    for d in range(n + degree):
        matrix.diagonal(d).fill_(math.comb(d + degree, degree) * math.factorial(degree) * (2 / n) ** degree)
    return matrix


def condition(n: int, degree: int) -> float:
    """‖A‖ ‖A^{-1}‖ in the maximum norm."""
    return 2.0 ** (degree + 1) * math.comb(n + 2 * degree, degree + 1)


@pytest.mark.parametrize("degree", DEGREES)
def test_b_splines_are_a_times_power_relus_on_the_interval(degree: int) -> None:
    for n in (1, 2, 5, 12):
        x = np.linspace(-1, 1, 97)[:-1]
        t = -1 + 2 / n * (np.arange(n + 2 * degree + 1) - degree)
        oracle = BSpline(t, np.eye(n + degree), degree)(x)
        psi = power_relu.power_relu(torch.from_numpy(x), n, degree).numpy()
        a = change_of_basis(n, degree).numpy()
        cancellation = EPS * float((psi @ np.abs(a).T).max())
        assert np.abs(psi @ a.T - oracle).max() <= 20 * cancellation
        assert np.array_equal(a, np.triu(a))
        assert np.count_nonzero(np.triu(a, degree + 2)) == 0


@pytest.mark.parametrize("degree", DEGREES)
def test_the_inverse_and_the_condition_number_have_the_stated_closed_forms(degree: int) -> None:
    for n in (2, 8, 40):
        a, inverse, scale = (
            change_of_basis(n, degree),
            exact_inverse(n, degree),
            math.factorial(degree) * (2 / n) ** degree,
        )
        # Both are whole numbers but for the scale: their product is exact.
        whole, sums = ((m * s).round().long() for m, s in ((a, scale), (inverse, 1 / scale)))
        assert torch.equal(whole @ sums, torch.eye(n + degree, dtype=torch.int64))
        norms = [float(m.abs().sum(0).max()) for m in (a, inverse)]
        assert math.isclose(norms[0] * norms[1], condition(n, degree), rel_tol=1e-12)


@pytest.mark.parametrize("degree", DEGREES)
def test_the_four_conversions_are_products_with_a_its_inverse_and_their_transposes(degree: int) -> None:
    for n in (3, 10):
        a, inverse = change_of_basis(n, degree), exact_inverse(n, degree)
        w = random(2, 3, n + degree)
        for convert, matrix in (
            (relu_coefficients, a),
            (spline_coefficients, inverse),
            (spline_gradient, a.T),
            (relu_gradient, inverse.T),
        ):
            expected = w @ matrix
            scale = float((w.abs() @ matrix.abs()).max())
            assert float((convert(w, n, degree) - expected).abs().max()) <= 100 * EPS * scale, convert
            # Linear maps: autograd's cotangent of W M is g Mᵀ.
            leaf, g = w.clone().requires_grad_(True), random(2, 3, n + degree, seed=1)
            (pulled,) = torch.autograd.grad(convert(leaf, n, degree), leaf, g)
            scale = float((g.abs() @ matrix.T.abs()).max())
            assert float((pulled - g @ matrix.T).abs().max()) <= 100 * EPS * scale, convert


@pytest.mark.parametrize("degree", DEGREES)
def test_round_trips_lose_no_more_than_the_condition_number(degree: int) -> None:
    for n in (4, 8, 16, 32, 64, 100, 128):
        w = random(20, n + degree)
        there = spline_coefficients(relu_coefficients(w, n, degree), n, degree)
        back = relu_coefficients(spline_coefficients(w, n, degree), n, degree)
        for found in (there, back):
            assert float((found - w).abs().max()) <= EPS * condition(n, degree) * float(w.abs().max())


def test_measured_round_trip_errors_are_those_the_docstring_states() -> None:
    lines = [line.split() for line in str(power_relu.__doc__).splitlines() if line.strip().startswith("n = ")]
    assert [int(words[2]) for words in lines] == [32, 128]
    for words in lines:
        n = int(words[2])
        for degree, stated in zip(DEGREES, map(float, words[3:]), strict=True):
            w = random(50, n + degree, seed=degree)
            error = (spline_coefficients(relu_coefficients(w, n, degree), n, degree) - w).abs().max() / w.abs().max()
            assert stated / 6 < float(error) < 6 * stated, (n, degree, float(error))


@pytest.mark.parametrize("degree", DEGREES)
def test_prolongation_commutes_with_the_change_of_basis(degree: int) -> None:
    # As matrices on columns of coefficients: P_relu A_cᵀ = A_fᵀ P_spline, here applied to the unit vectors.
    for n in (1, 2, 3, 8):
        nesting = PowerReluNesting(n, degree)
        unit = torch.eye(n + degree, dtype=torch.float64)
        left = nesting.prolong(relu_coefficients(unit, n, degree))
        right = relu_coefficients(dyadic_nesting(n, degree).prolong(unit), 2 * n, degree)
        assert left.shape == (n + degree, 2 * n + degree)
        assert torch.allclose(left, right, rtol=0, atol=1e-12 * float(right.abs().max()))


@pytest.mark.parametrize("degree", DEGREES)
def test_prolonged_power_relus_are_the_same_functions(degree: int) -> None:
    n, x = 3, torch.linspace(-1, 1, 101, dtype=torch.float64)
    coarse, fine = power_relu.power_relu(x, n, degree), power_relu.power_relu(x, 2 * n, degree)
    p = PowerReluNesting(n, degree).prolong(torch.eye(n + degree, dtype=torch.float64))
    size = fine @ p.abs().T
    assert float(((fine @ p.T - coarse).abs() / (1 + size)).max()) <= 1e-14
    # The same coefficient wherever the coarse knot is a fine one, whole numbers elsewhere.
    kept = p[(degree + 1) // 2 :]
    assert bool(((kept == 0) | (kept == 1)).all()) and bool((kept.sum(1) == 1).all())
    assert torch.equal(p, p.round())


@pytest.mark.parametrize("degree", [1, 2, 3, 5])
def test_restrictions_undo_the_prolongation_and_transposes_are_adjoint(degree: int) -> None:
    n = 6
    nesting = PowerReluNesting(n, degree)
    c, f = random(4, n + degree), random(4, 2 * n + degree, seed=1)
    tolerance = 10 * EPS * condition(2 * n, degree)
    assert float((nesting.restrict(nesting.prolong(c)) - c).abs().max()) <= tolerance * float(c.abs().max())
    for apply, transpose, u, v in (
        (nesting.prolong, nesting.prolong_transpose, c, f),
        (nesting.restrict, nesting.restrict_transpose, f, c),
    ):
        left, right = (apply(u) * v).sum(-1), (u * transpose(v)).sum(-1)
        size = apply(u).norm(dim=-1) * v.norm(dim=-1)
        assert float(((left - right).abs() / size).max()) <= tolerance
        assert apply(u.float()).dtype == torch.float32
        single = transpose(v.float())
        assert single.dtype == torch.float32
        assert float((single - transpose(v)).norm() / transpose(v).norm()) <= 1e-6 * condition(2 * n, degree)


def test_restriction_is_the_l2_projection_of_the_function() -> None:
    # The residual of the projection is orthogonal to every coarse power-ReLU function.
    n, degree = 4, 3
    nesting, f = PowerReluNesting(n, degree), random(2 * n + degree)
    nodes, weights = np.polynomial.legendre.leggauss(degree + 1)
    left = -1 + 2 / (2 * n) * np.arange(2 * n)
    x = torch.from_numpy((left[:, None] + (nodes + 1) / (2 * n)).ravel())
    w = torch.from_numpy(np.tile(weights / (2 * n), 2 * n))
    coarse, fine = power_relu.power_relu(x, n, degree), power_relu.power_relu(x, 2 * n, degree)
    gap = fine @ f - coarse @ nesting.restrict(f)
    products = (w * gap) @ coarse
    sizes = (w @ coarse.square()).sqrt() * (w * (fine @ f).square()).sum().sqrt()
    assert float((products.abs() / sizes).max()) < 1e-9


def test_float32_is_converted_with_float64_sums() -> None:
    n, degree = 64, 3
    w = random(5, n + degree).float()
    exact = spline_coefficients(w.double(), n, degree)
    found = spline_coefficients(w, n, degree)
    assert found.dtype == torch.float32
    assert float((found - exact).abs().max()) <= 2.0**-24 * float(exact.abs().max())


def test_the_benchmarks_four_evaluations_are_the_same_spline(monkeypatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).resolve().parent.parent / "benchmarks")
    bases = importlib.import_module("bases")
    for degree, n in itertools.product(DEGREES, (2, 7)):
        x, coefficients = bases.layer(n, degree, torch.float64, 30, 2)
        t = -1 + 2 / n * (np.arange(n + 2 * degree + 1) - degree)
        c = coefficients.numpy()
        oracle = sum(BSpline(t, c[:, p].T, degree)(x[:, p].numpy()) for p in range(2))
        for name, method in bases.METHODS.items():
            assert np.allclose(method(x, coefficients, n, degree), oracle, rtol=0, atol=1e-9), name
        one = [bases.Fraction(v) for v in c[0, 0]]
        values = [float(bases.exact(point, one, n, degree)) for point in x[:, 0].tolist()]
        assert np.allclose(values, BSpline(t, c[0, 0], degree)(x[:, 0].numpy()), rtol=0, atol=1e-14)


def test_local_pieces_stay_exact_where_power_relus_cancel(monkeypatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).resolve().parent.parent / "benchmarks")
    errors = importlib.import_module("bases").errors(128, 3, torch.float32, 50)
    assert errors["pieces"] < 1e-5 and errors["power-ReLU, local"] < 1e-4
    assert errors["power-ReLU"] > 1e-2


DOMAIN = Box(x=(-1.0, 1.0), t=(0.5, 2.0))
NETWORKS = {
    "plain": Kan(width=[3, 2], degree=4, grid=3, scale=1.0),
    "degree 7": Kan(width=[2], degree=7, grid=2),
    "base and bias": Kan(width=[3], degree=3, grid=4, base=True, bias=True),
    "linear first": Kan(width=[3, 2], degree=3, grid=4, first="linear"),
    "extrapolated": Kan(width=[2], degree=3, grid=4, squash="none", scale=3.0),
    "clamped": Kan(width=[2], degree=3, grid=4, squash="none", outside="clamp", scale=3.0),
}


def pair(options: Kan, outputs: int = 2) -> tuple[Backbone, Tensor, Backbone, Tensor]:
    """A KAN with random parameters and the power-ReLU network of the same functions."""
    kan = options.build(EmbeddingOptions().build(DOMAIN, (), np.random.default_rng(0)), outputs)
    relu = ReluKan(**vars(options)).build(kan.embedding, outputs)
    theta = kan.initial(np.random.default_rng(1)) + 0.1 * random(kan.size, seed=2)
    return kan, theta, relu, map_splines(kan, theta, relu_coefficients)


def points(count: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(3).uniform(DOMAIN.lower, DOMAIN.upper, (count, 2)))


@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS)
def test_relu_kan_is_the_kan_of_the_converted_coefficients(options: Kan) -> None:
    kan, theta, relu, converted = pair(options)
    space = JetSpace(DOMAIN.names, ("t", "xx", "xt"))
    expected = kan.forward(theta, points(40), space).data
    found = relu.forward(converted, points(40), space).data
    tolerance = EPS * condition(options.grid, options.degree)
    for c, name in enumerate(space.indices):
        # A derivative magnifies errors of the coefficients by the number of intervals.
        scale = float(expected[c].abs().max()) * options.grid ** len(name)
        assert float((found[c] - expected[c]).abs().max()) <= tolerance * scale, name


def test_the_same_seed_starts_both_bases_from_the_same_function() -> None:
    for options in NETWORKS.values():
        kan, _, relu, _ = pair(options)
        theta = kan.initial(np.random.default_rng(5))
        start = relu.initial(np.random.default_rng(5))
        assert torch.equal(start, map_splines(kan, theta, relu_coefficients))


@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS)
def test_relu_kans_jacobian_and_gradient_equal_torch_func(options: Kan) -> None:
    kan, _, relu, converted = pair(options)
    x, space = points(4), JetSpace(DOMAIN.names, ("x", "t"))
    weights = random(len(space), 4, 2, seed=9)

    def residual(vector: Tensor) -> Tensor:
        splines = torch.cat(
            [
                (
                    values @ exact_inverse(options.grid, options.degree) if name == "relu_coefficients" else values
                ).flatten()
                for arrays in relu.arrays(vector)
                for name, values in arrays.items()
            ]
        )
        total = torch.zeros(4, dtype=torch.float64)
        for c, name in enumerate(space.indices):
            for k in range(2):
                values = at_points(lambda p, k=k: network(options, kan, splines, p)[k], DOMAIN.names, name, x)
                total = total + weights[c, :, k] * values**2
        return total

    expected = torch.func.jacrev(residual)(converted)
    # Columns differ by powers of h: each is held to its own size.
    size = expected.abs().amax(0) + 1e-12 * float(expected.abs().max())
    tape = Tape()
    data = relu.forward(converted, x, space, tape).data
    block = torch.full((4, relu.size), torch.nan, dtype=torch.float64)
    relu.jacobian(converted, tape, (weights * data**2).sum(), block)
    tolerance = max(1e-10, 10 * EPS * condition(options.grid, options.degree))
    assert float(((block - expected).abs() / size).max()) <= tolerance
    leaf = converted.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad((weights * relu.forward(leaf, x, space).data ** 2).sum(), leaf)
    assert float(((gradient - expected.sum(0)).abs() / size).max()) <= 10 * tolerance


@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS)
def test_refining_a_relu_kan_keeps_its_function_as_far_as_the_basis_allows(options: Kan) -> None:
    _, _, relu, theta = pair(options)
    space = JetSpace(DOMAIN.names, ("x",))
    before = relu.forward(theta, points(100), space).data[0]
    for _ in range(2):
        theta, relu = refinement(relu)(theta), relu.refined()
        assert len(theta) == relu.size
        after = relu.forward(theta, points(100), space).data[0]
        # The fine coefficients are exact but for their rounding, which the fine basis magnifies.
        assert relu.grid is not None
        tolerance = EPS * condition(relu.grid, options.degree)
        assert float((after - before).abs().max()) <= tolerance * float(before.abs().max())


def test_relu_kan_refuses_other_knots_in_one_line() -> None:
    with pytest.raises(UserError, match=r"^backbone\.knots=cosine: expected uniform \(backbone=relu_kan has"):
        ReluKan(knots="cosine")


def test_a_mapped_vector_keeps_everything_but_the_spline_coefficients() -> None:
    kan, theta, relu, converted = pair(NETWORKS["base and bias"])
    for before, after in zip(kan.arrays(theta), relu.arrays(converted), strict=True):
        for name, values in before.items():
            if name == "coefficients":
                assert torch.equal(after["relu_coefficients"], relu_coefficients(values, 4, 3))
            else:
                assert torch.equal(after[name], values)
    assert torch.allclose(map_splines(kan, converted, spline_coefficients), theta, rtol=0, atol=1e-11)
