"""Splines, nestings, jets, edits and boxes of any size and shape that hypothesis thinks of, each against an oracle."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline
from support.naive_network import at_points
from torch import Tensor

from kanpinn.backbones import Kan, Separable
from kanpinn.backbones.edits import edited, refinement
from kanpinn.backbones.embedding import EmbeddingOptions
from kanpinn.geometry import Box
from kanpinn.jets.jet import JetSpace
from kanpinn.splines import bspline, piecewise
from kanpinn.splines.nesting import KnotInsertion
from kanpinn.splines.piecewise import greville

# The same cases on every machine: a failure in one place is a failure everywhere.
few = settings(max_examples=40, derandomize=True, database=None, deadline=None)
degrees = st.integers(1, 6)


@st.composite
def knots(draw: st.DrawFn, degree: int) -> bspline.Knots:
    """Strictly increasing knots, neighbouring intervals up to twenty times as wide as each other."""
    count = draw(st.integers(1, 6)) + 2 * degree
    widths = draw(st.lists(st.integers(1, 20), min_size=count, max_size=count))
    return tuple((draw(st.integers(-40, 40)) / 20 + np.concatenate([[0], np.cumsum(widths)]) / 20).tolist())


def inside(t: bspline.Knots, degree: int) -> np.ndarray:
    """Points of every interval and the ends, none of them a knot inside."""
    inner = np.array(t[degree : len(t) - degree])
    return np.concatenate([inner[[0, -1]], *(a + (b - a) * np.array([0.11, 0.5, 0.83]) for a, b in pairwise(inner))])


@few
@given(st.data(), degrees)
def test_bases_on_any_knots_are_scipys(data: st.DataObject, degree: int) -> None:
    t = data.draw(knots(degree))
    x = inside(t, degree)
    cell, s, slope = bspline.locate_on(torch.from_numpy(x), t, degree)
    pieces = torch.from_numpy(bspline.interval_polynomials(t, degree))[cell]  # (N, k + 1, powers of s)
    by_s = piecewise.derivatives(pieces.movedim(2, 0), s[:, None], min(degree, 3))
    values = [values * slope[:, None] ** order for order, values in enumerate(by_s)]
    places = cell[:, None] + torch.arange(degree + 1)
    for order in range(min(degree, 3) + 1):
        ours = torch.zeros(len(x), len(t) - degree - 1, dtype=torch.float64).scatter_(1, places, values[order])
        oracle = BSpline(np.array(t), np.eye(ours.shape[1]), degree)(x, nu=order)
        assert np.abs(ours.numpy() - oracle).max() <= 1e-12 * max(1.0, np.abs(oracle).max())
    ours = torch.zeros(len(x), len(t) - degree - 1, dtype=torch.float64).scatter_(1, places, values[0])
    assert np.allclose(ours.numpy() @ greville(t, degree), x, rtol=0, atol=1e-12)


@few
@given(st.data(), degrees)
def test_any_knots_may_be_inserted_and_the_ends_continued_anyhow(data: st.DataObject, degree: int) -> None:
    t = data.draw(knots(degree))
    inner = t[degree : len(t) - degree]
    counts = data.draw(st.lists(st.integers(0, 3), min_size=len(inner) - 1, max_size=len(inner) - 1))
    new = (np.linspace(a, b, count + 2)[1:-1] for count, (a, b) in zip(counts, pairwise(inner), strict=True))
    middle = np.sort(np.concatenate([inner, *new]))
    left, right = (np.cumsum(data.draw(st.lists(st.integers(4, 10), min_size=degree, max_size=degree))) for _ in "ab")
    fine = (*(middle[0] - left[::-1] / 20), *middle, *(middle[-1] + right / 20))
    nesting = KnotInsertion(t, fine, degree)
    generator = np.random.default_rng(len(fine))
    c, f = (torch.from_numpy(generator.standard_normal(n)) for n in (nesting.coarse, nesting.fine))
    x = inside(fine, degree)
    before, after = (BSpline(np.array(u), v.numpy(), degree)(x) for u, v in ((t, c), (fine, nesting.prolong(c))))
    assert np.abs(after - before).max() <= 1e-11 * np.abs(before).max()
    assert math.isclose(nesting.prolong(c) @ f, c @ nesting.prolong_transpose(f), rel_tol=1e-9, abs_tol=1e-9)
    again = nesting.prolong(nesting.restrict(nesting.prolong(c)))  # the function, however hard its coefficients to tell
    assert np.abs(BSpline(np.array(fine), again.numpy(), degree)(x) - before).max() <= 1e-9 * np.abs(before).max()


def unary(name: str, inner: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A function of an expression, shifted or squashed to where all its derivatives are tame."""
    f = getattr(torch, name)
    if name in ("log", "sqrt"):
        return lambda *v: f(2.5 + torch.sin(inner(*v)))
    return lambda *v: f(torch.sin(inner(*v)) * 0.8)


def binary(kind: str, a: Callable[..., Tensor], b: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Two expressions joined; a divisor stays away from zero."""
    joined: dict[str, Callable[..., Tensor]] = {
        "+": lambda *v: a(*v) + b(*v),
        "-": lambda *v: a(*v) - b(*v),
        "*": lambda *v: a(*v) * b(*v),
        "/": lambda *v: a(*v) / (2 + torch.sin(b(*v))),
    }
    return joined[kind]


NAMES = ("x", "y")
leaves = st.sampled_from([lambda *v: v[0], lambda *v: v[1], lambda x, y: 1.5 * x - y, lambda x, y: x * y + 0.5])
expressions = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(unary, st.sampled_from(["sin", "cos", "exp", "tanh", "log", "sqrt", "sinh", "cosh", "asin"]), inner),
        st.builds(binary, st.sampled_from("+-*/"), inner, inner),
        st.builds(lambda a, n: lambda *v: (2.5 + torch.sin(a(*v))) ** n, inner, st.sampled_from([-2, -0.5, 1.5, 3])),
    ),
    max_leaves=4,
)
derivatives = st.lists(st.text("xy", min_size=1, max_size=4), min_size=1, max_size=2)


@few
@given(expressions, derivatives)
def test_jets_of_any_expression_are_its_derivatives(f: Callable[..., Tensor], wanted: list[str]) -> None:
    space = JetSpace(NAMES, tuple(wanted))
    points = torch.tensor([[-0.7, 0.3], [0.2, 0.9]], dtype=torch.float64)
    jet = f(*space.variables(points))
    for name in wanted:
        expected = at_points(lambda p: f(p[0], p[1]), NAMES, name, points)
        size = max(1.0, *(float(jet[index].abs().max()) for index in space.indices))
        assert float((jet[name] - expected).abs().max()) <= 1e-11 * size


@settings(few, max_examples=15)
@given(
    st.sampled_from([Kan, Separable]),
    st.lists(st.integers(1, 3), min_size=1, max_size=2),
    st.integers(2, 5),
    st.integers(1, 5),
    st.sampled_from([("widen", 1), ("widen", 3), ("deepen", 1), ("deepen", 2)]),
    st.booleans(),
)
def test_any_network_keeps_its_function_when_it_grows(
    kind: type, width: list[int], degree: int, grid: int, edit: tuple[str, int], base: bool
) -> None:
    domain = Box(x=(-1, 1), t=(0.5, 2))
    options = kind(width=width, degree=degree, grid=grid, base=base, embedding=EmbeddingOptions("none"))
    network = options.build(options.embedding.build(domain, (), np.random.default_rng(0)), 1)
    theta = network.initial(np.random.default_rng(1))
    grown = edited(network, *edit, np.random.default_rng(2))
    finer = refinement(grown.after)
    points, space = (
        torch.from_numpy(domain.chart.stretched(np.random.default_rng(3).random((9, 2)))),
        JetSpace("xt", "x"),
    )
    before = network.forward(theta, points, space).data
    after = finer.after.forward(finer(grown(theta)), points, space).data
    assert float((after - before).abs().max()) <= 1e-10 * max(1.0, float(before.abs().max()))


@few
@given(st.dictionaries(st.sampled_from("xyzt"), st.tuples(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6)), min_size=1))
def test_boxes_are_bounded_by_their_faces(ends: dict[str, tuple[float, float]]) -> None:
    box = Box(**{name: (a, a + length) for name, (a, length) in ends.items()})
    unit = np.random.default_rng(0).random((20, len(box)))
    assert box.contains(box.chart.stretched(unit)).all()
    # The divergence theorem for the field p: the flux through all faces is d times the volume.
    flux = 0.0
    for piece in box.pieces.values():
        points = piece.chart.stretched(unit[:, 1:])
        assert piece.normal is not None
        assert box.contains(points).all()
        flux += piece.chart.measure * float((points * piece.normal(points)).sum(axis=1).mean())
    size = max(abs(end) for interval in ends.values() for end in (interval[0], sum(interval)))
    area = sum(piece.chart.measure for piece in box.pieces.values())
    assert abs(flux - len(box) * box.measure) <= 1e-12 * size * area
