"""Least-squares problems with known minima, and optimisers stepped by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from kanpinn.backbones import Backbone, Kan, Mlp, ReluKan
from kanpinn.backbones.embedding import EmbeddingOptions
from kanpinn.geometry import Box
from kanpinn.jets.jet import JetSpace
from kanpinn.least_squares.linearization import Dense
from kanpinn.least_squares.objective import LeastSquares as Protocol
from kanpinn.optimizers import Optimizer
from kanpinn.state import join, split


class LeastSquares(Protocol):
    """loss = ‖r(theta)‖², derivatives by torch.func; counts and keeps what was evaluated."""

    points, version = torch.empty(0, 1), 0

    def __init__(self, residual: Callable[[Tensor], Tensor]) -> None:
        self.r = residual
        self.evaluated: list[tuple[Tensor, float, Tensor]] = []

    def residual(self, theta: Tensor) -> tuple[Tensor, dict[str, float]]:
        r = self.r(theta)
        return r, {"interior": float(r.square().sum())}

    def loss_and_gradient(self, theta: Tensor) -> tuple[float, Tensor, dict[str, float]]:
        gradient, loss = torch.func.grad_and_value(lambda x: self.r(x).square().sum())(theta)
        self.evaluated.append((theta, float(loss), gradient))
        return float(loss), gradient, {"interior": float(loss)}

    @property
    def size(self) -> int:
        raise NotImplementedError

    def network(self, theta: Tensor):
        raise NotImplementedError

    def loss(self, theta: Tensor) -> tuple[float, dict[str, float]]:
        loss = float(self.r(theta).square().sum())
        return loss, {"interior": loss}

    def linearize(self, theta: Tensor) -> Dense:
        r, j = self.r(theta), torch.func.jacrev(self.r)(theta)
        loss = float(r.square().sum())
        return Dense(j, j.T @ r, loss, {"interior": loss}, r)


def linear(rows: int = 12, size: int = 6, condition: float = 30.0) -> tuple[LeastSquares, Tensor, Tensor, Tensor]:
    """‖A x − b‖² with its matrix, right-hand side and solution."""
    generator = np.random.default_rng(0)
    u, _ = np.linalg.qr(generator.standard_normal((rows, size)))
    v, _ = np.linalg.qr(generator.standard_normal((size, size)))
    a = torch.from_numpy(u * np.geomspace(1, 1 / condition, size) @ v.T)
    b = torch.from_numpy(generator.standard_normal(rows))
    return LeastSquares(lambda x: a @ x - b), a, b, torch.linalg.lstsq(a, b[:, None]).solution[:, 0]


def rosenbrock() -> LeastSquares:
    """Rosenbrock's valley in two dimensions as a least-squares problem; zero at (1, 1)."""
    return LeastSquares(lambda x: torch.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]]))


START = torch.tensor([-1.2, 1.0], dtype=torch.float64)


def iterate(optimizer: Optimizer, objective: LeastSquares, theta: Tensor, steps: int):
    optimizer.start(len(theta), steps)
    out = []
    for _ in range(steps):
        out.append(optimizer.step(objective, theta))  # type: ignore[arg-type]
        theta = out[-1].theta
        if out[-1].stop:
            break
    return out


class Regression(LeastSquares):
    """The mean square error of a network of one variable at random points."""

    def __init__(self, backbone: Backbone) -> None:
        generator = np.random.default_rng(0)
        x = torch.from_numpy(generator.uniform(0, 1, (30, 1)))
        target, space = torch.sin(5 * x[:, 0]), JetSpace(("x",), ("x",))
        super().__init__(lambda theta: (backbone.forward(theta, x, space).value[:, 0] - target) / 30**0.5)
        self.backbone = backbone

    def loss_and_gradient(self, theta: Tensor) -> tuple[float, Tensor, dict[str, float]]:
        leaf = theta.clone().requires_grad_(True)
        loss = self.r(leaf).square().sum()
        (gradient,) = torch.autograd.grad(loss, leaf)
        return float(loss.detach()), gradient, {"interior": float(loss.detach())}

    def network(self, theta: Tensor):
        return self, theta


def regression(options: Kan | ReluKan | Mlp) -> tuple[Regression, Tensor]:
    """A network on [0, 1] and its random start."""
    embedding = EmbeddingOptions().build(Box(x=(0, 1)), (), np.random.default_rng(0))
    backbone = options.build(embedding, 1)
    return Regression(backbone), backbone.initial(np.random.default_rng(1))


def damping_of(optimizer: Optimizer) -> float:
    """The damping that the next step will begin with."""
    return optimizer.state()["damping"]["value"]


def hold(optimizer: Optimizer, **changed: object) -> None:
    """Put a part of an optimiser's state in the place of another."""
    optimizer.load_state(join(*split({**optimizer.state(), **changed}, "")), torch.device("cpu"))


def carried(
    optimizer: Optimizer, vector: Callable[[Tensor], Tensor], covector: Callable[[Tensor], Tensor]
) -> Optimizer:
    """A fresh optimiser that has taken over another's state."""
    new = copy.deepcopy(optimizer)
    new.start(1, 10)
    new.carry(optimizer, vector, covector)
    return new


P = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]], dtype=torch.float64)
