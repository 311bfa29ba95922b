"""Variable projection against dense oracles; what it refuses."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.minimisation import LeastSquares, iterate
from support.networks import WIDE
from support.problems import CASES, NONE, System, build
from torch import Tensor

from kanpinn.backbones import Kan, Separable
from kanpinn.errors import UserError
from kanpinn.geometry import Box, Coordinates
from kanpinn.jets.jet import Jet
from kanpinn.optimizers import LevenbergMarquardt, VariableProjection
from kanpinn.pde import Condition, Point, Problem


@dataclass(frozen=True)
class Diffusion(Problem):
    """u_t = 0.3 u_xx + x u, linear; with an exact form affine in the output."""

    domain = Box(x=(-1.0, 1.0), t=(0.5, 2.0))
    derivatives = ("t", "xx")

    def residual(self, p: Point) -> Tensor:
        return p.u_t - 0.3 * p.u_xx - p.x * p.u - torch.sin(p.t)

    def conditions(self) -> list[Condition]:
        return [
            Condition("initial", "t-", lambda p: p.u - torch.cos(p.x)),
            Condition("walls", ("x-", "x+"), lambda p: p.u_x),
        ]

    def exact(self, p: Coordinates, raw: Coordinates) -> Jet:
        return torch.cos(p.x) + (p.t - 0.5) * raw.u


SMALL = Kan(width=[2], degree=3, grid=2, embedding=NONE)


@pytest.mark.parametrize(("problem", "options", "is_exact"), CASES.values(), ids=CASES)
def test_the_last_layers_columns_are_those_of_the_jacobian(problem, options, is_exact: bool) -> None:
    objective, theta, _ = build(problem, options, exact=is_exact)
    where = objective.backbone.last_layer
    a, expected = objective.linearize(theta).columns(where), objective.linearize(theta).dense().jacobian[:, where]
    assert torch.allclose(a, expected, rtol=1e-12, atol=1e-13 * float(expected.abs().max()))


def test_the_last_layers_columns_of_pairs_and_several_equations() -> None:
    objective, theta, _ = build(System(), replace(WIDE, width=[2], embedding=NONE))
    where = objective.backbone.last_layer
    a, expected = objective.linearize(theta).columns(where), objective.linearize(theta).dense().jacobian[:, where]
    assert torch.allclose(a, expected, rtol=1e-12, atol=1e-13 * float(expected.abs().max()))


@pytest.mark.parametrize("is_exact", [False, True])
def test_a_step_is_kaufmans_and_its_last_layer_the_least_squares_solution(is_exact: bool) -> None:
    objective, theta, _ = build(Diffusion(), SMALL, exact=is_exact)
    objective, theta = many_points(objective, theta)
    ridge = 1e-6
    optimizer = VariableProjection(damping=0.5, momentum=0.0, ridge=ridge)
    optimizer.start(len(theta), 5)
    step = optimizer.step(objective, theta)
    assert step.stop is None
    first = objective.backbone.last_layer.start

    def held(at: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A with the ridge below it, the other columns and the residual with zeros below them."""
        j, r = objective.linearize(at).dense().jacobian.numpy(), objective.residual(at)[0].numpy()
        a, size = j[:, first:], j.shape[1] - first
        below = np.sqrt(ridge * np.sum(a**2) / size) * np.eye(size)
        return np.vstack([a, below]), np.vstack([j[:, :first], np.zeros((size, first))]), np.append(r, np.zeros(size))

    a, others, r = held(theta)
    projected = others - a @ np.linalg.lstsq(a, others, rcond=None)[0]
    rest = r - a @ np.linalg.lstsq(a, r, rcond=None)[0]
    # The step in the other layers, by NumPy's least squares; λ may have been raised by failures.
    errors = []
    for raised in (1, 2, 2**3, 2**6, 2**10, 2**15, 2**21):
        shift = 0.5 * raised * np.mean(np.sum(projected**2, axis=0))
        rows = np.vstack([projected, np.sqrt(shift) * np.eye(first)])
        delta = np.linalg.lstsq(rows, np.concatenate([-rest, np.zeros(first)]), rcond=None)[0]
        errors.append(np.abs((step.theta - theta).numpy()[:first] - delta).max() / np.abs(delta).max())
    assert min(errors) < 1e-6
    # The last layer, at its best for them.
    moved = theta.clone()
    moved[:first] = step.theta[:first]
    a, _, r = held(moved)
    expected = moved[first:].numpy() - np.linalg.lstsq(a, r, rcond=None)[0]
    assert np.allclose(step.theta[first:].numpy(), expected, rtol=0, atol=1e-7 * np.abs(expected).max())
    assert step.loss == pytest.approx(float(objective.residual(step.theta)[0].square().sum()), rel=1e-12)
    assert step.loss < float(rest @ rest)


def many_points(objective, theta: Tensor):
    """The same with several times as many points as parameters."""
    from support.problems import draw_for

    objective.set_points(draw_for(objective.residuals.problem, counts=(4 * len(theta), len(theta))))
    return objective, theta


class Exponentials(LeastSquares):
    """Σ_k c_k exp(−a_k x) fitted to data: the classical separable problem, c its last layer."""

    def __init__(self) -> None:
        x = torch.linspace(0, 3, 40, dtype=torch.float64)
        self.truth = torch.tensor([0.5, 3.0, 2.0, -1.5], dtype=torch.float64)

        def model(theta: Tensor) -> Tensor:
            return (theta[2:, None] * torch.exp(-theta[:2, None] * x)).sum(0)

        data = model(self.truth)
        super().__init__(lambda theta: model(theta) - data)
        self.backbone = SimpleNamespace(last_layer=slice(2, 4))  # type: ignore[assignment]


def test_a_classical_separable_fit_takes_fewer_steps_than_levenberg_marquardt() -> None:
    objective = Exponentials()
    start = torch.tensor([0.1, 1.0, 0.0, 0.0], dtype=torch.float64)
    counts = {}
    for optimizer in (VariableProjection(), LevenbergMarquardt()):
        steps = iterate(optimizer, objective, start, 200)
        assert torch.allclose(steps[-1].theta.sort().values, objective.truth.sort().values, rtol=1e-5)
        losses = [step.loss for step in steps]
        assert all(b <= a for a, b in itertools.pairwise(losses))
        counts[type(optimizer)] = next(k for k, loss in enumerate(losses) if loss < 1e-18)
    assert counts[VariableProjection] < counts[LevenbergMarquardt]


def test_nonlinear_equations_and_single_layers_are_refused() -> None:
    linear, theta, _ = build(Diffusion(), SMALL)
    VariableProjection().check_objective(linear, theta)
    wave, theta, _ = build(*CASES["wave, kan"][:2])
    with pytest.raises(UserError, match=r"^optimizer=variable_projection: the residuals are not linear in the network"):
        VariableProjection().check_objective(wave, theta)
    single, theta, _ = build(Diffusion(), Kan(width=[], degree=3, grid=2))
    with pytest.raises(UserError, match=r"one layer only .* valid choices: backbone=kan"):
        VariableProjection().check_objective(single, theta)
    shared, theta, _ = build(Diffusion(), Separable(width=[2], rank=3, degree=3, grid=2, last="linear"))  # type: ignore[arg-type]
    VariableProjection().check_objective(shared, theta)


def test_the_command_refuses_a_nonlinear_equation_before_it_starts(kanpinn) -> None:
    found = kanpinn("solve", "problem=burgers", "optimizer=variable_projection")
    assert found.code == 2
    assert "optimizer=variable_projection: the residuals are not linear in the network's last layer" in found.err
    assert found.err.strip().count("\n") == 0


def test_a_linear_equation_is_solved(kanpinn) -> None:
    words = ["problem=heat", "backbone=kan", "optimizer=variable_projection", "schedule.levels=2", "schedule.steps=6"]
    found = kanpinn("solve", *words, "output.figures=false", "output.progress=false", "hydra.run.dir=run")
    assert found.code == 0, found.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"damping": 0.0}, r"^optimizer\.damping=0\.0: expected a number above 0"),
        ({"ridge": -1.0}, r"^optimizer\.ridge=-1\.0: expected a number above 0"),
        ({"momentum": 1.0}, r"^optimizer\.momentum=1\.0: expected a number from 0 to below 1"),
        ({"trials": 0}, r"^optimizer\.trials=0: expected a whole number of at least 1"),
    ],
)
def test_senseless_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        VariableProjection(**options)
