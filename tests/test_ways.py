"""Ways of optimisers, number by number, as they were when they were last looked at: steps, trials, states."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from support.defaults import foreign_defaults
from support.minimisation import LeastSquares, P
from support.records import plain, stays
from torch import Tensor

import kanpinn as kp
from kanpinn.backbones import Kan, Mlp
from kanpinn.least_squares.linearization import Dense
from kanpinn.least_squares.objective import LeastSquares as Protocol
from kanpinn.optimizers import (
    Adam,
    GaussNewtonCg,
    GradientDescent,
    Lbfgs,
    LevenbergMarquardt,
    Optimizer,
    Relaxation,
    SsBroyden,
    VariableProjection,
    gauss_newton_cg,
)
from kanpinn.settings.objects import configuration_of_objects
from kanpinn.state import join, split

CPU = torch.device("cpu")


class Valley(LeastSquares):
    """A curved valley in four dimensions beside a cliff: residuals are NaN where 2 + c + d is below 0."""

    def __init__(self) -> None:
        super().__init__(self.rows)
        self.tried: list[float] = []

    @staticmethod
    def rows(x: Tensor) -> Tensor:
        a, b, c, d = x
        return torch.stack([3 * (b - a**2), 1 - a, 2 * (d - b * c), torch.log(2 + c + d), 0.3 * c])

    @staticmethod
    def jacobian(x: Tensor) -> Tensor:
        a, b, c, d = x
        o, log = torch.zeros_like(a), 1 / (2 + c + d)
        rows = [[-6 * a, o + 3, o, o], [o - 1, o, o, o], [o, -2 * c, -2 * b, o + 2], [o, o, log, log]]
        rows.append([o, o, o + 0.3, o])
        return torch.stack([torch.stack(row) for row in rows])

    def terms(self, r: Tensor) -> tuple[float, dict[str, float]]:
        loss = float(r.square().sum())
        self.tried.append(loss)
        return loss, {"interior": float(r[:2].square().sum()), "rest": float(r[2:].square().sum())}

    def loss(self, theta: Tensor) -> tuple[float, dict[str, float]]:
        return self.terms(self.r(theta))

    def loss_and_gradient(self, theta: Tensor) -> tuple[float, Tensor, dict[str, float]]:
        r = self.r(theta)
        loss, terms = self.terms(r)
        return loss, 2 * self.jacobian(theta).T @ r, terms

    def linearize(self, theta: Tensor) -> Dense:
        r, j = self.r(theta), self.jacobian(theta)
        loss, terms = self.terms(r)
        return Dense(j, j.T @ r, loss, terms, r)


WAYS: dict[str, Optimizer] = {
    "lm": LevenbergMarquardt(),
    "lm, momentum": LevenbergMarquardt(momentum=0.95, damping=1e-6),
    "lm, target": LevenbergMarquardt(damping_rule="target_ratio", target_ratio=0.3, trials=5),
    "lm, plain": LevenbergMarquardt(momentum=0.0, damping=1e-8, solver="eigen"),
    "lm, qr": LevenbergMarquardt(solver="qr", trials=4),
    "lm, svd": LevenbergMarquardt(solver="svd", memory_mib=1e-4),
    "lm, sums": LevenbergMarquardt(sketch="countsketch", sketch_rows=1.0),
    "cg": GaussNewtonCg(preconditioner="none"),
    "cg, jacobi": GaussNewtonCg(cg_steps=2, tolerance=0.9),
    "cg, fixed": GaussNewtonCg(forcing="fixed", tolerance=1e-3, trials=3, damping=1e-2),
    "lbfgs": Lbfgs(),
    "lbfgs, short": Lbfgs(memory=2, evaluations=3, iterations=3),
    "lbfgs, whole": Lbfgs(line_search="none"),
    "ssbroyden": SsBroyden(),
    "ssbfgs": SsBroyden(update="ssbfgs", evaluations=3),
    "bfgs": SsBroyden(update="bfgs", evaluations=4),
    "adam": Adam(lr=0.1, ramp_steps=3, weight_decay=0.1),
    "adam, cosine": Adam(lr=0.1, lr_end=0.02, decay="cosine", ramp_steps=0, beta1=0.5, beta2=0.9, epsilon=1e-3),
    "adam, cyclic": Adam(lr=0.1, decay="cyclic", period=5, gamma=0.9, ramp_steps=2),
    "descent": GradientDescent(lr=0.02, decay="none", momentum=0.8, ramp_steps=1),
    "jacobi": Relaxation(smoother="jacobi", sweeps=2),
    "gauss seidel": Relaxation(direction="backward", sweeps=3, damping=1e-2),
    "schwarz": Relaxation(smoother="schwarz", block=2),
    "schwarz, backward": Relaxation(smoother="schwarz", block=3, direction="backward", sweeps=2),
}


def like(optimizer: Optimizer, state: Any) -> Optimizer:
    """Another one with the same options, in some state."""
    new = copy.deepcopy(optimizer)
    with foreign_defaults():
        new.start(4, 20)
        if state is not None:
            new.load_state(join(*split(state, "")), CPU)
    return new


def tried(problem: Valley) -> Tensor:
    """All losses evaluated."""
    return torch.tensor(problem.tried, dtype=torch.float64).nan_to_num(7.0)


def taken(optimizer: Optimizer, problem: Protocol, theta: Tensor, steps: int) -> tuple[Tensor, list[Any]]:
    """Parameters after some steps, and all that is known of them."""
    told: list[Any] = []
    for _ in range(steps):
        with foreign_defaults():  # all tensors say where they lie and of which type they are
            found = optimizer.step(problem, theta)
        assert found.measured is None or found.measured is theta
        told += [found.loss, float(found.theta.sum()), *([found.stop, found.failed] if found.stop else [])]
        theta = found.theta
    told += [found.theta, found.terms, found.measured is None, plain(optimizer.state())]
    return theta, told


@pytest.mark.parametrize("name", WAYS)
def test_the_way_of_an_optimizer(name: str) -> None:
    """Steps, then from numbers that were not finite, from a state, from elsewhere, and on another level."""
    optimizer, problem = like(WAYS[name], None), Valley()
    optimizer.stream = (3, 1)
    theta = torch.tensor([-1.2, 1.0, 0.8, -2.5], dtype=torch.float64)
    theta, told = taken(optimizer, problem, theta, 5)
    told.append(optimizer.back_off())
    theta, more = taken(optimizer, problem, theta, 2)
    told += more
    optimizer = like(optimizer, optimizer.state())
    theta, more = taken(optimizer, problem, theta, 1)
    optimizer.moved()
    told += [more, plain(optimizer.state())]
    theta, more = taken(optimizer, problem, 0.9 * theta, 2)
    wide = torch.block_diag(P, P)
    other = like(optimizer, None)
    with foreign_defaults():
        other.carry(optimizer, lambda v: wide[:4] @ v, lambda v: wide[2:] @ v)
    told += [more, plain(other.state())]
    _, more = taken(other, problem, 0.95 * theta, 2)
    stays(f"way of {name}", [told, more, tried(problem), optimizer.storage(30, 7, jacobian=False)])


@pytest.mark.parametrize("name", ["lm", "cg", "lbfgs", "lbfgs, whole", "ssbroyden", "adam", "jacobi"])
@pytest.mark.parametrize("place", ["cliff", "minimum", "beyond"])
def test_steps_beside_a_cliff_at_a_minimum_and_where_nothing_is_finite(name: str, place: str) -> None:
    starts = {"cliff": [1.0, 1.0, -2.0, 1e-6], "minimum": [1.0, 1.0, 0.0, 0.0], "beyond": [1.0, 1.0, -3.0, 0.0]}
    optimizer, problem = like(WAYS[name], None), Valley()
    theta = torch.tensor(starts[place], dtype=torch.float64)
    if place == "minimum":
        plain = Valley.rows
        seen = torch.tensor([1.0, 1.0, 1.0, 0.0, 1.0], dtype=torch.float64)
        problem.r = lambda x: plain(x) * seen
    _, told = taken(optimizer, problem, theta, 2)
    stays(f"{name} at the {place}", [told, tried(problem)])


IMPATIENT: dict[str, Optimizer] = {
    "lm": LevenbergMarquardt(trials=1, damping=1e-12),
    "lm, target": LevenbergMarquardt(trials=1, damping_rule="target_ratio", damping=1e-12),
    "cg": GaussNewtonCg(trials=1, damping=1e-12),
    "lbfgs": Lbfgs(evaluations=1),
    "ssbroyden": SsBroyden(evaluations=1),
    "jacobi": Relaxation(smoother="jacobi", sweeps=40),
}


@pytest.mark.parametrize("name", IMPATIENT)
def test_steps_that_are_given_up_and_those_after_them(name: str) -> None:
    """Beyond the cliff; the numbers told of a step that is not taken are those of where it began."""
    told, stops, problem = [], [], Valley()
    for start in ([3.0, -2.0, 1.5, -3.4], [1.0, 1.0, -2.0, 1e-6], [1.0, 1.0, 3.0, 3.0]):
        optimizer, theta = like(IMPATIENT[name], None), torch.tensor(start, dtype=torch.float64)
        for _ in range(3):
            theta, more = taken(optimizer, problem, theta, 1)
            told.append(more)
            stops.append(optimizer.step(problem, theta).stop)
            optimizer.back_off()
    stays(f"given up by {name}", [told, stops, tried(problem)])


class Advection(kp.Problem):
    """u_t + 2 u_x = x, from sin x."""

    domain = kp.Box(x=(0, 2), t=(0.5, 1))
    derivatives = ("x", "t")

    def residual(self, p):
        return p.u_t + 2 * p.u_x - p.x

    def conditions(self):
        return [kp.Condition("start", "t-", lambda p: p.u - torch.sin(p.x))]


KAN = Kan(width=[2], degree=3, grid=2)
NETWORKS: dict[str, tuple[Any, Optimizer]] = {
    "projection": (KAN, VariableProjection(ridge=1e-3)),
    "projection, plain": (KAN, VariableProjection(momentum=0.0, ridge=1e-2, damping=1e-7, trials=2)),
    "projection, mlp": (Mlp(width=[3]), VariableProjection(momentum=0.9, ridge=1e-4)),
    "bpx": (Kan(width=[2], degree=3, grid=4, bias=True), GaussNewtonCg(preconditioner="bpx", cg_steps=7)),
    "relu gradient": (KAN, Adam(gradient="relu", lr=0.1)),
    "relu step": (KAN, GradientDescent(geometry="relu", lr=0.01)),
    "both relu": (KAN, Adam(gradient="relu", geometry="relu", weight_decay=0.3, decay="cosine")),
    "schwarz": (KAN, Relaxation(smoother="schwarz", block=4)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_way_of_a_network(name: str) -> None:
    options, optimizer = NETWORKS[name]
    setup = configuration_of_objects(Advection(), [options]).setup
    problem = setup.objective(network := setup.network())
    problem.set_points(kp.Uniform(interior=40, boundary=9).draw(setup.problem, 0, np.random.default_rng(0)))
    theta = network.initial(np.random.default_rng(1))
    optimizer.start(len(theta), 9)
    with foreign_defaults():
        optimizer.check_objective(problem, theta)
    theta, told = taken(optimizer, problem, theta, 4)
    resumed = taken(like(optimizer, optimizer.state()), problem, theta, 2)
    assert plain(resumed) == plain(taken(copy.deepcopy(optimizer), problem, theta, 2))
    before, optimizer = optimizer, like(optimizer, None)
    optimizer.carry(before, lambda v: 0.5 * v, lambda v: 0.5 * v)
    optimizer.back_off()
    _, more = taken(optimizer, problem, theta, 2)
    stays(f"network's way of {name}", [told, more])


def test_a_preconditioner_is_set_up_once_for_each_network(monkeypatch) -> None:
    built: list[int] = []
    plain_one = gauss_newton_cg.Multilevel
    monkeypatch.setattr(gauss_newton_cg, "Multilevel", lambda one: built.append(one.size) or plain_one(one))
    optimizer, sizes = GaussNewtonCg(preconditioner="bpx"), []
    optimizer.start(1, 9)
    for options in (KAN, Kan(width=[3], degree=3, grid=2)):
        setup = configuration_of_objects(Advection(), [options]).setup
        problem = setup.objective(network := setup.network())
        problem.set_points(kp.Uniform(interior=40, boundary=9).draw(setup.problem, 0, np.random.default_rng(0)))
        taken(optimizer, problem, network.initial(np.random.default_rng(1)), 3)
        sizes.append(network.size)
    assert built == sizes


def test_all_optimizers_have_their_way_here() -> None:
    from kanpinn.optimizers import OPTIMIZERS

    seen = {type(one) for one in WAYS.values()} | {type(one) for _, one in NETWORKS.values()}
    assert seen == set(OPTIMIZERS.values()) and issubclass(kp.Adam, Optimizer)
