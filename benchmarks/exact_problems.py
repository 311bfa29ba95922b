"""Problems on which conditions built in are measured against conditions in the loss; chosen before anything was run.

Where the data are not zero their formula is not the solution's, so that continuing it gives nothing away.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from kanpinn.problems.allen_cahn import AllenCahn
from kanpinn.problems.burgers import Burgers
from kanpinn.problems.heat import Heat
from kanpinn.problems.helmholtz import Helmholtz
from kanpinn.problems.poisson_holes import PoissonHoles
from kanpinn.problems.wave import Wave
from torch import Tensor, cos, exp, log, sin

from kanpinn import Box, Condition, Problem
from kanpinn.geometry import Disk, Polygon
from kanpinn.jets.automatic import jet_of
from kanpinn.jets.jet import JetSpace
from kanpinn.pde.text_problem import text_problem


@dataclass(frozen=True)
class Manufactured(Problem):
    """Poisson's equation with a known solution; its conditions are the subclass's."""

    derivatives = ("xx", "yy")

    def residual(self, p: Any) -> Tensor:
        points = torch.stack([p.x, p.y], dim=1)
        space = JetSpace(("x", "y"), self.derivatives)
        u = jet_of(lambda q: self.solution(*q.unbind(1)), points, space)
        return p.u_xx + p.u_yy - u["xx"] - u["yy"]

    def solution(self, x: Tensor, y: Tensor) -> Tensor:
        """Return u."""
        raise NotImplementedError

    def conditions(self) -> list[Condition]:
        return [Condition("edge", "boundary", lambda p: p.u)]

    def reference(self, p: Any) -> Tensor:
        return self.solution(p.x, p.y)


@dataclass(frozen=True)
class DiskProblem(Manufactured):
    """The unit disk, u = 0 on the rim."""

    domain = Disk()

    def solution(self, x: Tensor, y: Tensor) -> Tensor:
        return (1 - x**2 - y**2) * sin(2 * x + 3 * y)


@dataclass(frozen=True)
class Ring(Manufactured):
    """Laplace's equation in a ring between 0 inside and 1 outside."""

    domain = Disk(radius=2, name="rim") - Disk(radius=0.5, name="hole")

    def solution(self, x: Tensor, y: Tensor) -> Tensor:
        return log(4 * (x**2 + y**2)) / log(torch.tensor(16.0))

    def conditions(self) -> list[Condition]:
        return [Condition("rim", "rim", lambda p: p.u - 1), Condition("hole", "hole", lambda p: p.u)]


@dataclass(frozen=True)
class Square(Manufactured):
    """A square with values of its own on every side."""

    domain = Box(x=(0, 1), y=(0, 1))

    def solution(self, x: Tensor, y: Tensor) -> Tensor:
        return exp(x) * cos(3 * y) + x * y**2 + sin(4 * x * y)

    def conditions(self) -> list[Condition]:
        return [
            Condition("left", "x-", lambda p: p.u - cos(3 * p.y)),
            Condition("right", "x+", lambda p: p.u - math.e * cos(3 * p.y) - p.y**2 - sin(4 * p.y)),
            Condition("lower", "y-", lambda p: p.u - exp(p.x)),
            Condition("upper", "y+", lambda p: p.u - exp(p.x) * math.cos(3) - p.x - sin(4 * p.x)),
        ]


@dataclass(frozen=True)
class Plate(Manufactured):
    """A square with a hole, u = 0 on all of its boundary."""

    domain = Box(x=(-1, 1), y=(-1, 1)) - Disk([0.2, 0.1], 0.4)

    def solution(self, x: Tensor, y: Tensor) -> Tensor:
        hole = (x - 0.2) ** 2 + (y - 0.1) ** 2 - 0.16
        return (1 - x**2) * (1 - y**2) * hole * exp(x) * cos(y)


@dataclass(frozen=True)
class Triangle(Manufactured):
    """A triangle, u = 0 on its edges."""

    domain = Polygon([(0, 0), (2, 0), (1, 1.5)])

    def solution(self, x: Tensor, y: Tensor) -> Tensor:
        return y * (1.5 * x - y) * (3 - 1.5 * x - y) * sin(3 * x + y)


@dataclass(frozen=True)
class Corner(Manufactured):
    """An L-shaped polygon, u = 0 on its edges, smooth at the corner all the same."""

    domain = Polygon([(-1, -1), (1, -1), (1, 0), (0, 0), (0, 1), (-1, 1)])

    def solution(self, x: Tensor, y: Tensor) -> Tensor:
        return sin(math.pi * x) * sin(math.pi * y)


def built(shipped: type[Problem]) -> type[Problem]:
    """Return a shipped problem without an exact form of its own."""
    return dataclass(frozen=True)(type(shipped.__name__, (shipped,), {"exact": Problem.exact}))


@dataclass(frozen=True)
class HelmholtzBuilt(Helmholtz):
    """The shipped problem with other wave numbers, not 0 on the boundary, without an exact form of its own."""

    a1: float = 1.3
    a2: float = 2.6

    exact = Problem.exact


@dataclass(frozen=True)
class PlainHoles(PoissonHoles):
    """The shipped problem without mirror images."""

    inverse: bool = False


SQUARE = {"x": [0, 1], "y": [0, 1]}
STEADY: dict[str, dict[str, Any]] = {
    "cube": {
        "domain": {**SQUARE, "z": [0, 1]},
        "equations": "laplace(u) = laplace(reference(u))",
        "conditions": {"faces": {"on": "boundary", "equation": "u = reference(u)"}},
        "reference": {"u": "exp(x)*sin(2*y + z) + cos(3*x*z)"},
    },
    "reaction": {
        "domain": SQUARE,
        "equations": "laplace(u) - u**3 = laplace(reference(u)) - reference(u)**3",
        "conditions": {"sides": {"on": "boundary", "equation": "u = reference(u)"}},
        "reference": {"u": "1 + sin(3*x + y)*cos(2*y)"},
    },
    "convection": {
        "domain": SQUARE,
        "equations": "u_x + u_y/2 - laplace(u)/20"
        " = d(reference(u), x) + d(reference(u), y)/2 - laplace(reference(u))/20",
        "conditions": {"sides": {"on": "boundary", "equation": "u = reference(u)"}},
        "reference": {"u": "sin(4*x)*exp(-y) + x*y"},
    },
    "mixed": {
        "domain": SQUARE,
        "equations": "laplace(u) = laplace(reference(u))",
        "conditions": {
            "sides": {"on": ["x-", "x+"], "equation": "u = reference(u)"},
            "lower": {"on": "y-", "equation": "u_y = d(reference(u), y)"},
            "upper": {"on": "y+", "equation": "u_y + u = d(reference(u), y) + reference(u)"},
        },
        "reference": {"u": "cos(3*x - 2*y) + x**2*y"},
    },
    "displacements": {
        "domain": SQUARE,
        "unknowns": ["u", "v"],
        "equations": {
            name: f"laplace({w}) + 2*d(div((u, v)), {x})"
            f" = laplace(reference({w})) + 2*d(d(reference(u), x) + d(reference(v), y), {x})"
            for name, w, x in (("along", "u", "x"), ("across", "v", "y"))
        },
        "conditions": {"sides": {"on": "boundary", "equation": {"u": "u = reference(u)", "v": "v = reference(v)"}}},
        "reference": {"u": "sin(2*x + 3*y)", "v": "exp(-x)*cos(3*y)"},
    },
    "bratu": {
        "domain": {"x": [0, 2]},
        "equations": "u_xx + exp(u) = d(d(reference(u), x), x) + exp(reference(u))",
        "conditions": {"ends": {"on": "boundary", "equation": "u = reference(u)"}},
        "reference": {"u": "sin(5*x)/2 + x"},
    },
    "ellipse": {
        "domain": "Ellipse([0, 0], [1, 0.5], name='rim')",
        "equations": "laplace(u) = laplace(reference(u))",
        "conditions": {"rim": {"on": "rim", "equation": "u = 0"}},
        "reference": {"u": "(1 - x**2 - 4*y**2)*cos(3*x - y)"},
    },
    "lens": {
        "domain": "Disk([-0.5, 0], 1, name='a') & Disk([0.5, 0], 1, name='b')",
        "equations": "laplace(u) = laplace(reference(u))",
        "conditions": {"rim": {"on": "boundary", "equation": "u = 0"}},
        "reference": {"u": "sin(1 - (x + 1/2)**2 - y**2)*sin(1 - (x - 1/2)**2 - y**2)*exp(y)"},
    },
}
"""Steady problems in which no piece ends at a corner that turns inwards."""


FRESH: dict[str, dict[str, Any]] = {
    "tangent": {
        "domain": {"x": [-1, 1]},
        "equations": "u_xx = 2*u + 2*u**3",
        "conditions": {
            "left": {"on": "x-", "equation": "u = -1.5574077246549023"},
            "right": {"on": "x+", "equation": "u = 1.5574077246549023"},
        },
        "reference": {"u": "tan(x)"},
    },
    "brick": {
        "domain": {**SQUARE, "z": [0, 1]},
        "equations": "laplace(u) = 0",
        "conditions": {
            "front": {"on": "x+", "equation": "u = sin(pi*y)*sin(pi*z)"},
            "others": {"on": ["x-", "y-", "y+", "z-", "z+"], "equation": "u = 0"},
        },
        "reference": {"u": "sinh(sqrt(2)*pi*x)/sinh(sqrt(2)*pi)*sin(pi*y)*sin(pi*z)"},
    },
    "coupled": {
        "domain": SQUARE,
        "unknowns": ["u", "v"],
        "equations": {
            "first": "laplace(u) + u*v = laplace(reference(u)) + reference(u)*reference(v)",
            "second": "laplace(v) + u_x - v**2 = laplace(reference(v)) + d(reference(u), x) - reference(v)**2",
        },
        "conditions": {
            "u_sides": {"on": ["x-", "x+"], "equation": "u = 0"},
            "u_lower": {"on": "y-", "equation": "u = sin(pi*x)"},
            "u_upper": {"on": "y+", "equation": "u = exp(1)*sin(pi*x)"},
            "v_left": {"on": "x-", "equation": "v = y"},
            "v_right": {"on": "x+", "equation": "v = cos(1)*y"},
            "v_lower": {"on": "y-", "equation": "v = 0"},
            "v_upper": {"on": "y+", "equation": "v = cos(x)"},
        },
        "reference": {"u": "sin(pi*x)*exp(y)", "v": "cos(x)*y"},
    },
    "waves": {
        "domain": SQUARE,
        "equations": "laplace(u) + 100*u = 0",
        "conditions": {
            "left": {"on": "x-", "equation": "u = sin(8*y)"},
            "right": {"on": "x+", "equation": "u = sin(6 + 8*y)"},
            "lower": {"on": "y-", "equation": "u = sin(6*x)"},
            "upper": {"on": "y+", "equation": "u = sin(6*x + 8)"},
        },
        "reference": {"u": "sin(6*x + 8*y)"},
    },
    "drift": {
        "domain": SQUARE,
        "equations": "u_x - laplace(u)/20 = d(reference(u), x) - laplace(reference(u))/20",
        "conditions": {
            "left": {"on": "x-", "equation": "u = y"},
            "right": {"on": "x+", "equation": "u = y + sin(pi*y)"},
            "lower": {"on": "y-", "equation": "u = 0"},
            "upper": {"on": "y+", "equation": "u = 1"},
        },
        "reference": {"u": "y + (exp(20*(x - 1)) - exp(-20))/(1 - exp(-20))*sin(pi*y)"},
    },
}
"""Steady problems on boxes, written down to decide on a default, before any of them was run."""


@dataclass(frozen=True)
class Lid(Problem):
    """Laplace's equation in a square, 1 on the upper side and 0 on the others: values jump in two corners."""

    domain = Box(x=(0, 1), y=(0, 1))
    derivatives = ("xx", "yy")

    def residual(self, p: Any) -> Tensor:
        return p.u_xx + p.u_yy

    def conditions(self) -> list[Condition]:
        return [Condition("lid", "y+", lambda p: p.u - 1), Condition("walls", ("x-", "x+", "y-"), lambda p: p.u)]

    def reference(self, p: Any) -> Tensor:
        odd = [math.pi * n for n in range(1, 400, 2)]
        ratio = [exp(n * (p.y - 1)) * (1 - exp(-2 * n * p.y)) / (1 - math.exp(-2 * n)) for n in odd]
        series = sum((4 / n * sin(n * p.x) * r for n, r in zip(odd, ratio, strict=True)), 0 * p.x)
        return torch.where(p.y < 1, series, torch.ones_like(series))


@dataclass(frozen=True)
class Suite:
    """Problems by name in two halves, and steady ones, written down after the others, before they were run."""

    development: ClassVar[Mapping[str, Callable[[], Problem]]] = {
        "disk": DiskProblem,
        "ring": Ring,
        "square": Square,
        "heat": built(Heat),
        "wave": built(Wave),
        "corner": Corner,
    }
    control: ClassVar[Mapping[str, Callable[[], Problem]]] = {
        "plate": Plate,
        "triangle": Triangle,
        "holes": PlainHoles,
        "burgers": built(Burgers),
        "allen_cahn": built(AllenCahn),
        "helmholtz": HelmholtzBuilt,
    }
    steady: ClassVar[Mapping[str, Callable[[], Problem]]] = {
        name: partial(text_problem, name, text) for name, text in STEADY.items()
    }
    boxes: ClassVar[Mapping[str, Callable[[], Problem]]] = {
        **{name: partial(text_problem, name, text) for name, text in FRESH.items()},
        "lid": Lid,
    }
