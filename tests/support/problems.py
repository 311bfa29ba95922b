# ruff: noqa: ARG002 - the methods of the small problems here have the arguments their protocol asks for
"""Problems, collocation points and objectives that several tests go through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from kanpinn.backbones import Kan, Mlp
from kanpinn.backbones.embedding import EmbeddingOptions
from kanpinn.geometry import Box, Coordinates
from kanpinn.jets.jet import Jet
from kanpinn.least_squares.objective import Objective
from kanpinn.least_squares.residuals import Residuals
from kanpinn.least_squares.weighting import Fixed, Weighting
from kanpinn.pde import Condition, Point, Problem
from kanpinn.samplers import SAMPLERS, CollocationSample, PointSet
from support.networks import NETWORKS, WIDE


@dataclass(frozen=True)
class Wave(Problem):
    """Scalar, second order, nonlinear; with an exact form."""

    domain = Box(x=(-1.0, 1.0), t=(0.5, 2.0))
    derivatives = ("t", "xx", "xt")

    def residual(self, p: Point) -> Tensor:
        return p.u_t + p.u * p.u_x - 0.3 * p.u_xx + p.x * p.u_xt - torch.sin(p.t)

    def conditions(self) -> list[Condition]:
        return [
            Condition("initial", "t-", lambda p: p.u - torch.cos(p.x)),
            Condition("walls", ("x-", "x+"), lambda p: p.u_x * p.u),
        ]

    def exact(self, p: Coordinates, raw: Coordinates) -> Jet:
        return torch.cos(p.x) + (p.t - 0.5) * torch.exp(p.x) * raw.u

    def plain_residual(self, f: Callable[[str, str], Tensor], p: Tensor) -> list[Tensor]:
        x, t = p
        return [f("u", "t") + f("u", "") * f("u", "x") - 0.3 * f("u", "xx") + x * f("u", "xt") - torch.sin(t)]

    def plain_conditions(self, name: str, f: Callable[[str, str], Tensor], p: Tensor) -> list[Tensor]:
        return [f("u", "") - torch.cos(p[0])] if name == "initial" else [f("u", "x") * f("u", "")]

    def plain_exact(self, p: Tensor, raw: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"u": torch.cos(p[0]) + (p[1] - 0.5) * torch.exp(p[0]) * raw["u"]}


@dataclass(frozen=True)
class System(Problem):
    """Two unknowns, two equations inside, one or two in the conditions; periodic in x; a term of one equation only."""

    domain = Box(x=(-1.0, 1.0), t=(0.5, 2.0))
    unknowns = ("u", "v")
    derivatives = ("t", "xx")
    periodic = ("x",)

    def residual(self, p: Point) -> dict[str, Tensor]:
        return {"mass": p.u_t + p.v_x * p.u, "momentum": p.v_t - p.u_xx + p.v**2}

    def conditions(self) -> list[Condition]:
        return [
            Condition("initial", "t-", lambda p: p.u - p.v),
            Condition("periodic", "x-", lambda p, q: {"u": p.u - q.u, "v": p.v_x * q.v - q.u_x}, periodic="x"),
        ]

    def exact(self, p: Coordinates, raw: Coordinates) -> dict[str, Jet]:
        return {"u": p.x + (p.t - 0.5) * raw.u, "v": raw.v * raw.u + p.x}

    def plain_residual(self, f: Callable[[str, str], Tensor], p: Tensor) -> list[Tensor]:
        return [f("u", "t") + f("v", "x") * f("u", ""), f("v", "t") - f("u", "xx") + f("v", "") ** 2]

    def plain_conditions(self, name: str, f: Callable[[str, str], Tensor], p: Tensor) -> list[Tensor]:
        return [f("u", "") - f("v", "")]

    def plain_pair(self, f: Callable[[str, str], Tensor], g: Callable[[str, str], Tensor]) -> list[Tensor]:
        return [f("u", "") - g("u", ""), f("v", "x") * g("v", "") - g("u", "x")]

    def plain_exact(self, p: Tensor, raw: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"u": p[0] + (p[1] - 0.5) * raw["u"], "v": raw["v"] * raw["u"] + p[0]}


def draw_for(
    problem: Problem, name: str = "uniform", counts: tuple[int, int] = (7, 6), seed: int = 0
) -> CollocationSample:
    """Points with weights that are not all equal."""
    generator = np.random.default_rng(seed)
    draw = SAMPLERS[name](interior=counts[0], boundary=counts[1]).draw(problem, 0, generator)

    def uneven(chosen: PointSet) -> PointSet:
        w = chosen.weights * torch.from_numpy(generator.uniform(0.2, 2, len(chosen.weights)))
        return PointSet(chosen.points, w * chosen.weights.sum() / w.sum())

    conditions = {n: uneven(s) for n, s in draw.conditions.items()}
    return CollocationSample(uneven(draw.interior), conditions, draw.paired)


def build(
    problem: Problem, options: Kan | Mlp, weighting: Weighting | None = None, *, exact: bool = False
) -> tuple[Objective, Tensor, CollocationSample]:
    embedding = options.embedding.build(problem.domain, problem.periodic, np.random.default_rng(0))
    backbone = options.build(embedding, len(problem.unknowns))
    generator = np.random.default_rng(1)
    theta = backbone.initial(generator)
    theta = theta + 0.1 * torch.from_numpy(generator.standard_normal(len(theta)))
    objective = Objective(
        Residuals(problem, backbone, exact=exact), weighting or Fixed({"interior": 0.7, "initial": 3.0})
    )
    draw = draw_for(problem)
    objective.set_points(draw)
    return objective, theta, draw


NONE = EmbeddingOptions("none")


KINDS = ("kan", "kan, base and bias, no squash", "kan, no squash, clamped", "kan, fourier", "mlp, silu")


CASES = {
    # every network's own Jacobian is tested in test_backbones; here one of each kind with conditions and weights
    **{f"wave, {name}": (Wave(), NETWORKS[name], False) for name in KINDS},
    "wave, exact, kan": (Wave(), WIDE, True),
    "wave, exact, mlp": (Wave(), Mlp(width=[4]), True),
    "system, kan, periodic by construction": (System(), replace(WIDE, width=[2]), False),
    "system, kan, periodic pairs": (System(), replace(WIDE, width=[2], embedding=NONE), False),
    "system, kan with base, periodic pairs": (
        System(),
        replace(WIDE, width=[2], base=True, bias=True, embedding=NONE),
        False,
    ),
    "system, mlp, periodic pairs": (System(), Mlp(width=[4], embedding=NONE), False),
    "system, exact, mlp, periodic pairs": (System(), Mlp(width=[3], embedding=NONE), True),
}
