# ruff: noqa: ARG005 - the methods of the small problems here have the arguments their protocol asks for
"""The residual vector, its gradient and its Jacobian against independent residuals under torch.func."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from support.naive_network import derivative, network
from support.networks import WIDE
from support.problems import CASES, NONE, System, Wave, build, draw_for
from torch import Tensor
from torch.func import jacrev, vmap

from kanpinn.backbones import Backbone, Kan, Mlp
from kanpinn.errors import UserError
from kanpinn.geometry import Box, Coordinates
from kanpinn.least_squares.diagnosis import pointwise
from kanpinn.least_squares.linearization import gram
from kanpinn.least_squares.objective import Objective
from kanpinn.least_squares.residuals import Residuals, Scales
from kanpinn.least_squares.weighting import Fixed, ResidualAttention
from kanpinn.pde import Condition, Data, Point, Problem
from kanpinn.samplers import SAMPLERS, CollocationSample
from kanpinn.settings.discovery import load_problem_class, problem_names

Unknowns = Callable[[Tensor], dict[str, Tensor]]
"""The unknowns at one point `[d]`, as scalars by name: what the independent residuals differentiate."""


def plain(
    problem: Wave | System,
    options: Kan | Mlp,
    backbone: Backbone,
    draw: CollocationSample,
    weights: dict[str, float],
    exact: bool,
) -> Callable[[Tensor], Tensor]:
    """The documented residual vector √(w q/|set|) r, from the plain network and nested derivatives."""
    names = problem.domain.names

    def residual(theta: Tensor) -> Tensor:
        def unknowns(p: Tensor) -> dict[str, Tensor]:
            raw = dict(zip(problem.unknowns, network(options, backbone, theta, p), strict=True))
            return problem.plain_exact(p, raw) if exact else raw

        def at(p: Tensor) -> Callable[[str, str], Tensor]:
            return lambda name, letters: derivative(lambda q: unknowns(q)[name], names, letters)(p)

        rows = []
        inside = vmap(lambda p: torch.stack(problem.plain_residual(at(p), p)))(draw.interior.points)
        rows += [(inside, draw.interior, "interior")]
        for condition in problem.conditions():
            chosen = draw.conditions[condition.name]
            if condition.periodic:
                if condition.periodic in backbone.embedding.periodic:
                    continue
                pairs = vmap(lambda p, q: torch.stack(problem.plain_pair(at(p), at(q))))  # type: ignore[union-attr]
                rows.append((pairs(chosen.points, draw.paired[condition.name]), chosen, condition.name))
            elif not exact:
                name = condition.name
                faces = vmap(lambda p, name=name: torch.stack(problem.plain_conditions(name, at(p), p)))
                rows.append((faces(chosen.points), chosen, name))
        parts = []
        for values, chosen, name in rows:
            measure = chosen.weights.sum()
            parts += [torch.sqrt(weights.get(name, 1.0) * chosen.weights / measure) * column for column in values.T]
        return torch.cat(parts)

    return residual


@pytest.mark.parametrize(("problem", "options", "exact"), CASES.values(), ids=CASES)
def test_residual_jacobian_and_gradient_equal_automatic_ones(
    problem: Wave | System, options: Kan | Mlp, exact: bool
) -> None:
    objective, theta, draw = build(problem, options, exact=exact)
    oracle = plain(problem, options, objective.backbone, draw, {"interior": 0.7, "initial": 3.0}, exact)
    expected, jacobian = oracle(theta), jacrev(oracle)(theta)
    size = max(1.0, float(jacobian.abs().max()))
    r, losses = objective.residual(theta)
    assert r.shape == expected.shape
    assert float((r - expected).abs().max()) <= 1e-10 * max(1.0, float(expected.abs().max()))
    stored = objective.linearize(theta).dense()
    j = stored.jacobian
    assert torch.equal(stored.residual, r)
    assert float((j - jacobian).abs().max()) <= 1e-10 * size
    loss, gradient, _ = objective.loss_and_gradient(theta)
    assert loss == pytest.approx(float(expected.square().sum()), rel=1e-12)
    assert sum(losses.values()) == pytest.approx(loss, rel=1e-12)
    right = 2 * jacobian.T @ expected
    assert torch.allclose(gradient, right, rtol=0, atol=1e-10 * max(1.0, float(right.abs().max())))
    matrix, half, loss_again, _ = objective.linearize(theta).gram()
    assert torch.allclose(matrix, jacobian.T @ jacobian, rtol=0, atol=1e-10 * size**2 * len(r))
    assert torch.equal(matrix, matrix.T)
    assert torch.allclose(2 * half, gradient, rtol=0, atol=1e-11 * max(1.0, float(right.abs().max())))
    assert loss_again == pytest.approx(loss, rel=1e-12)


def test_multipliers_scale_residual_and_jacobian_point_by_point() -> None:
    weighting = ResidualAttention({"initial": 2.0}, decay=0.5, rate=0.5)
    objective, theta, _ = build(System(), replace(WIDE, width=[2], embedding=NONE), weighting)
    before = objective.linearize(theta).dense()
    r0, j0 = before.residual, before.jacobian
    first = weighting.multipliers("interior", "mass")
    objective.update_multipliers(theta)
    after = objective.linearize(theta).dense()
    r1, j1, losses = after.residual, after.jacobian, after.terms
    sizes = [
        ("interior", "mass", 7),
        ("interior", "momentum", 7),
        ("initial", "", 6),
        ("periodic", "u", 6),
        ("periodic", "v", 6),
    ]
    m = torch.cat([torch.as_tensor(weighting.multipliers(t, e)).expand(n) for t, e, n in sizes]) / first
    assert len(torch.unique(m)) == len(m) - 4  # all differ but the largest of each of the five equations
    assert torch.allclose(r1, m * r0, rtol=1e-12)
    assert torch.allclose(j1, m[:, None] * j0, rtol=1e-12, atol=1e-14)
    loss, gradient, _ = objective.loss_and_gradient(theta)
    assert torch.allclose(gradient, 2 * j1.T @ r1, rtol=1e-9, atol=1e-12)
    assert sum(losses.values()) == pytest.approx(loss)


def test_new_points_forget_the_multipliers() -> None:
    weighting = ResidualAttention()
    objective, theta, draw = build(Wave(), WIDE, weighting)
    r, _ = objective.residual(theta)
    objective.update_multipliers(theta)
    assert not torch.allclose(objective.residual(theta)[0], r)
    objective.set_points(draw)
    assert torch.equal(objective.residual(theta)[0], r)


def test_every_change_of_the_loss_changes_the_version() -> None:
    objective, theta, draw = build(Wave(), WIDE, ResidualAttention())
    versions = [objective.version]
    objective.update_multipliers(theta)
    versions.append(objective.version)
    objective.set_points(draw)
    versions.append(objective.version)
    assert len(set(versions)) == 3
    fixed, theta, _ = build(Wave(), WIDE)
    before = fixed.version
    fixed.update_multipliers(theta)
    assert fixed.version == before


@pytest.mark.parametrize("options", [WIDE, Mlp(width=[5, 5])], ids=["kan", "mlp"])
def test_taylor_remainders_fall_at_second_order(options: Kan | Mlp) -> None:
    objective, theta, _ = build(Wave(), options)
    direction = torch.from_numpy(np.random.default_rng(7).standard_normal(len(theta)))
    stored = objective.linearize(theta).dense()
    r, j = stored.residual, stored.jacobian
    loss, gradient, _ = objective.loss_and_gradient(theta)
    steps = [2.0**-k for k in range(6, 12)]
    of_residual, of_loss = [], []
    for h in steps:
        moved = theta + h * direction
        of_residual.append(float((objective.residual(moved)[0] - r - h * j @ direction).norm()))
        of_loss.append(abs(objective.loss_and_gradient(moved)[0] - loss - h * float(gradient @ direction)))
    for remainders in (of_residual, of_loss):
        slopes = np.diff(np.log(remainders)) / np.diff(np.log(steps))
        assert np.all(np.abs(slopes[-3:] - 2) < 0.1), slopes


def test_the_size_of_a_residual_takes_all_equations_together() -> None:
    objective, theta, _ = build(System(), replace(WIDE, width=[2], embedding=NONE))
    parts: dict[str, list[Tensor]] = {}
    for term, equation, value in objective.rows(theta):
        parts.setdefault(term.name, []).append(value.detach() * objective.residuals.scales.of(term.name, equation))
    assert {name: len(values) for name, values in parts.items()} == {"interior": 2, "initial": 1, "periodic": 2}
    for name, size in pointwise(objective, theta).items():
        assert torch.allclose(size, torch.stack(parts[name]).norm(dim=0), rtol=1e-13)


def test_the_size_of_a_residual_is_in_the_problems_units_whatever_it_is_divided_by() -> None:
    problem = Wave()
    plain, theta, draw = build(problem, WIDE, Fixed())
    sizes = {(term.name, equation): 2.0 + k for k, (term, equation, _) in enumerate(plain.rows(theta))}
    divided = Residuals(problem, plain.backbone, scales=Scales(plain.residuals.scales.outputs, sizes))
    scaled = Objective(divided, Fixed())
    scaled.set_points(draw)
    expected, found = pointwise(plain, theta), pointwise(scaled, theta)
    assert all(torch.allclose(found[name], size, rtol=1e-13) for name, size in expected.items())
    losses = plain.residual(theta)[1]
    for name, loss in scaled.residual(theta)[1].items():
        assert loss == pytest.approx(losses[name] / sizes[name, ""] ** 2, rel=1e-12)


@pytest.mark.parametrize("size", [0.0, -1.0, math.inf, math.nan])
def test_sizes_that_are_no_sizes_are_no_state(size: float) -> None:
    good = Scales((2.0,), {("interior", ""): 3.0}).state()
    assert Scales.from_state(good) == Scales((2.0,), {("interior", ""): 3.0})
    for state in ({**good, "outputs": [size]}, {**good, "terms": [["interior", "", size]]}):
        with pytest.raises(ValueError, match="positive"):
            Scales.from_state(state)


def test_equal_weights_make_the_loss_a_mean_square() -> None:
    problem = Wave()
    objective, theta, _ = build(problem, WIDE, Fixed({"walls": 5.0}))
    objective.set_points(SAMPLERS["uniform"](interior=30, boundary=12).draw(problem, 0, np.random.default_rng(3)))
    plainly = pointwise(objective, theta)
    _, losses = objective.residual(theta)
    for name, weight in (("interior", 1.0), ("initial", 1.0), ("walls", 5.0)):
        assert losses[name] == pytest.approx(weight * float(plainly[name].square().mean()), rel=1e-12)
    assert {name: len(points) for name, points in objective.collocation.by_term().items()} == {
        "interior": 30,
        "initial": 12,
        "walls": 12,
    }


def test_the_loss_is_the_quadrature_of_the_squared_residual() -> None:
    # Gauss-Legendre on every spline interval integrates the residual of a linear, single-layer spline exactly.
    @dataclass(frozen=True)
    class Linear(Problem):
        domain = Box(x=(-1.0, 1.0))
        derivatives = ("x",)

        def residual(self, p: Point) -> Tensor:
            return p.u_x

        def conditions(self) -> list[Condition]:
            return [Condition("left", "x-", lambda p: p.u)]

    problem, options = Linear(), Kan(width=[], degree=3, grid=4)
    backbone = options.build(options.embedding.build(problem.domain, (), np.random.default_rng(0)), 1)
    theta = backbone.initial(np.random.default_rng(0))
    objective = Objective(Residuals(problem, backbone), Fixed({"left": 0.0}))
    losses = []
    for order in (3, 8):
        sampler = SAMPLERS["gauss_legendre"](interior=4 * order, boundary=1, order=order)
        objective.set_points(sampler.draw(problem, 0, np.random.default_rng(0), cells={"x": 4}))
        losses.append(objective.loss_and_gradient(theta)[0])
    # u_x² has degree 4 on each interval: three points per interval are exact.
    assert losses[0] == pytest.approx(losses[1], rel=1e-13)


@pytest.mark.parametrize("name", problem_names())
def test_exact_forms_of_the_problems_agree_with_automatic_derivatives(name: str) -> None:
    cls = load_problem_class(name)
    if cls.exact is Problem.exact:
        pytest.skip(f"{name} offers no exact form")
    problem, options = cls(), Mlp(width=[4])
    objective, theta, _ = build(problem, options, Fixed(), exact=True)
    names = problem.domain.names
    generator = np.random.default_rng(2)
    x = torch.from_numpy(generator.uniform(problem.domain.lower, problem.domain.upper, (5, len(names))))
    fields = objective.residuals.fields(theta, x)

    def u(p: Tensor) -> Tensor:
        raw = network(options, objective.backbone, theta, p)
        result = problem.exact(Coordinates(names, list(p)), Coordinates(problem.unknowns, list(raw)))
        return result[problem.unknowns[0]] if isinstance(result, dict) else result  # type: ignore[return-value]

    jet = fields[problem.unknowns[0]]
    for letters in jet.space.indices:
        expected = vmap(derivative(u, names, letters))(x)
        assert float((jet[letters] - expected).abs().max()) <= 1e-10 * max(1.0, float(expected.abs().max())), letters


@pytest.mark.parametrize("name", problem_names())
def test_exact_forms_meet_every_condition_but_periodic_ones(name: str) -> None:
    cls = load_problem_class(name)
    if cls.exact is Problem.exact:
        pytest.skip(f"{name} offers no exact form")
    problem = cls()
    objective, theta, draw = build(problem, Mlp(width=[4], embedding=NONE), Fixed(), exact=True)
    for condition in problem.conditions():
        if isinstance(condition, Data) or condition.periodic or condition.inner:
            continue
        if condition.symmetry:  # what this network does not have stays a term
            assert condition.name in objective.collocation.by_term()
            continue
        x = draw.conditions[condition.name].points
        point = Point(problem.domain.names, x, objective.residuals.fields(theta, x))
        result = condition.residual(point)
        for r in result.values() if isinstance(result, dict) else [result]:
            assert float(r.abs().max()) < 1e-12, condition.name
        assert condition.name not in objective.collocation.by_term()


def changed(**members) -> Problem:
    """The wave problem with some methods replaced."""
    cls = dataclass(frozen=True)(type("Mine", (Wave,), members))
    return cls()


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (
            changed(residual=lambda self, p: p.u[:3]),
            r"Mine: residual returned \(3,\), expected a tensor of shape \(7,\)",
        ),
        (changed(residual=lambda self, p: 0.0), r"residual returned float, expected a tensor of shape \(7,\)"),
        (changed(residual=lambda self, p: {"a": p.u, "b": None}), r"residual returned NoneType"),
        (changed(residual=lambda self, p: p.u_y), r"p\.u_y is not computed: add 'y' to the problem's derivatives"),
        (changed(residual=lambda self, p: p.w), r"p\.w: no such coordinate or unknown; known are x, t, u"),
        (
            changed(residual=lambda self, p: 1 / 0),
            r"residual raised ZeroDivisionError: division by zero \(.*line \d+\)",
        ),
        (
            changed(conditions=lambda self: [Condition("initial", "t-", lambda p: p.u[None])]),
            r"condition 'initial' returned \(1, 6\)",
        ),
    ],
)
def test_mistakes_in_a_problem_are_one_line(problem: Problem, message: str) -> None:
    def evaluate() -> None:
        objective, theta, _ = build(problem, WIDE)
        objective.residual(theta)

    with pytest.raises(UserError, match=message) as caught:
        evaluate()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("options", [WIDE, Mlp(width=[3])], ids=["kan", "mlp"])
def test_equations_without_unknowns_have_a_zero_jacobian(options: Kan | Mlp) -> None:
    problem = changed(residual=lambda self, p: {"a": p.u, "b": p.x * 1.0}, conditions=lambda self: [])
    objective, theta, _ = build(problem, options, Fixed())
    j = objective.linearize(theta).dense().jacobian
    assert bool(j[:7].any())
    assert not j[7:].any()
    nothing = changed(residual=lambda self, p: p.x * 1.0, conditions=lambda self: [])
    objective, theta, _ = build(nothing, options, Fixed())
    assert not objective.linearize(theta).dense().jacobian.any()
    assert not objective.loss_and_gradient(theta)[1].any()


def test_conditions_need_names_of_their_own() -> None:
    def zero(p: Point) -> Tensor:
        return p.u

    twice = [Condition("wall", "x-", zero), Condition("wall", "x+", zero)]
    with pytest.raises(UserError, match=r"Mine: two conditions are called 'wall'"):
        build(changed(conditions=lambda self: twice), WIDE)
    with pytest.raises(UserError, match=r"Mine: a condition cannot be called 'interior'"):
        build(changed(conditions=lambda self: [Condition("interior", "x-", zero)]), WIDE)


def test_weights_of_terms_that_do_not_exist_are_refused() -> None:
    with pytest.raises(UserError, match=r"^weighting\.terms=intial: unknown\. Did you mean 'initial'\?.*interior"):
        build(Wave(), WIDE, Fixed({"intial": 2.0}))
    with pytest.raises(UserError, match=r"^weighting\.only=wall: unknown\. Did you mean 'walls'\?"):
        build(Wave(), WIDE, ResidualAttention(only=["wall"]))
    # A weight for a condition that is built in does no harm: the same settings serve soft and exact conditions.
    build(Wave(), WIDE, Fixed({"initial": 2.0}), exact=True)


def test_an_exact_form_that_cannot_be_built_is_refused() -> None:
    square = [Condition("initial", "t-", lambda p: p.u**2 - 1)]
    objective, theta, _ = build(changed(exact=Problem.exact, conditions=lambda self: square), WIDE, exact=True)
    with pytest.raises(UserError, match=r"Mine: conditions=exact: no condition can be built in \(initial: is"):
        objective.residual(theta)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_gram_is_the_matrix_product(dtype: torch.dtype) -> None:
    j = torch.from_numpy(np.random.default_rng(0).standard_normal((40, 11))).to(dtype)
    tolerance = 1e-13 if dtype == torch.float64 else 1e-4
    assert torch.allclose(gram(j), j.T @ j, rtol=0, atol=tolerance)
    assert torch.allclose(gram(j[::2, 1:]), j[::2, 1:].T @ j[::2, 1:], rtol=0, atol=tolerance)


def test_interior_residual_is_unweighted() -> None:
    objective, theta, draw = build(Wave(), WIDE, Fixed({"interior": 100.0}))
    values = objective.residuals.interior(theta, draw.interior.points)
    assert list(values) == [""]
    assert torch.allclose(values[""].abs(), pointwise(objective, theta)["interior"])
    assert math.isclose(
        objective.residual(theta)[1]["interior"], 100 * float((draw.interior.weights * values[""] ** 2).sum() / 3)
    )


@pytest.mark.parametrize("options", [Kan(width=[3], degree=4, grid=3), Mlp(width=[4])], ids=["kan", "mlp"])
def test_points_are_embedded_once_until_they_are_drawn_anew(
    options: Kan | Mlp, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = Wave()
    objective, theta, _ = build(problem, options)
    embedded, whole = [], type(objective.backbone.embedding).forward
    monkeypatch.setattr(
        type(objective.backbone.embedding),
        "forward",
        lambda self, p, s: (embedded.append(len(p)), whole(self, p, s))[1],
    )
    objective.linearize(theta).dense()
    first = objective.loss(theta)[0]
    assert objective.loss(theta)[0] == first
    assert objective.loss_and_gradient(theta)[0] == first
    assert len(embedded) == 1
    other = draw_for(problem, seed=3)
    objective.set_points(other)
    fresh = Objective(Residuals(problem, objective.backbone), objective.weighting)
    fresh.set_points(other)
    assert objective.loss(theta)[0] == fresh.loss(theta)[0] != first
    assert len(embedded) == 3
    parts = [p.linearize(theta).gram() for p in objective.parts(5)]
    assert torch.allclose(sum(part[0] for part in parts), objective.linearize(theta).gram()[0], rtol=0, atol=1e-9)
