"""DeepXDE with its torch backend on the problems of `benchmarks/regions.py`, for so many seconds.

Kovasznay has an example of its own (Kovasznay_flow.py: FNN 4 × 50, tanh, 2601 and 400 points, Adam 1e-3 and L-BFGS);
the others take the network and points of the nearest one, Poisson_Lshape.py (FNN 4 × 50, 1200 and 120 points), with
as many points per area. All https://github.com/lululxvi/deepxde/tree/master/examples/pinn_forward. Adam has the first
third of the time and L-BFGS the rest, which serves these problems better than the examples' counts of iterations:
with these, L-BFGS is hardly reached in two minutes. Weights of conditions are 1, as in the examples. Numbers are
float32; --float64 is this benchmark's.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import pi
from typing import Any

os.environ["DDE_BACKEND"] = "pytorch"

import deepxde as dde
import numpy as np
import torch
from deepxde_run import Clock, Polygon
from stopwatch import Stopwatch, arguments, write

G = dde.geometry

Residual = Callable[[Any, Any], list[Any]]


@dataclass(frozen=True)
class Case:
    """One problem.

    Attributes:
        geometry: Its domain, with time where it has one.
        pde: Residuals of its equations.
        conditions: Its conditions.
        outputs: Number of outputs of the network.
        points: Numbers of points inside, on the boundary and at the initial time.
        chosen: The unknowns `[N, n]` from points and outputs; None where they are the outputs.
    """

    geometry: Any
    pde: Residual
    conditions: list[Any]
    outputs: int = 1
    points: tuple[int, int, int] = (1200, 120, 0)
    chosen: Callable[[Any, Any], Any] | None = None


def d(y: Any, x: Any, i: int, *along: int) -> Any:
    """The first or second derivative of an output."""
    if len(along) == 1:
        return dde.grad.jacobian(y, x, i=i, j=along[0])
    return dde.grad.hessian(y, x, component=i, i=along[0], j=along[1])


def laplace(y: Any, x: Any, dimension: int, i: int = 0) -> Any:
    """Δ of an output in the first coordinates."""
    component = i if y.shape[1] > 1 else 0
    return sum(dde.grad.hessian(y, x, component=component, i=k, j=k) for k in range(dimension))


def on(geometry: Any) -> Callable[[Any, bool], bool]:
    """Places on the boundary of a part of the domain."""
    return lambda x, at: bool(at and geometry.on_boundary(x[None])[0])


def disk() -> Case:
    geometry = G.Disk([0, 0], 1)

    def pde(x: Any, y: Any) -> list[Any]:
        s, c = torch.sin(2 * x[:, :1] + 3 * x[:, 1:]), torch.cos(2 * x[:, :1] + 3 * x[:, 1:])
        r2 = (x * x).sum(1, keepdim=True)
        return [laplace(y, x, 2) - (-4 * s - 4 * (2 * x[:, :1] + 3 * x[:, 1:]) * c - 13 * (1 - r2) * s)]

    return Case(geometry, pde, [dde.icbc.DirichletBC(geometry, lambda _: 0, lambda _, at: at)])


def annulus() -> Case:
    rim, hole = G.Disk([0, 0], 2), G.Disk([0, 0], 1)
    geometry = rim - hole
    inner = dde.icbc.NeumannBC(geometry, lambda _: -1, on(hole))  # u = 0.75 + ln(r²/4)/2
    outer = dde.icbc.RobinBC(geometry, lambda _, y: -2 * (y - 1), on(rim))
    return Case(geometry, lambda x, y: [laplace(y, x, 2)], [inner, outer], points=(2400, 240, 0))


def poisson2d_c() -> Case:
    square, geometry = G.Rectangle([-0.5, -0.5], [0.5, 0.5]), G.Rectangle([-0.5, -0.5], [0.5, 0.5])
    for a in (-0.3, 0.3):
        for b in (-0.3, 0.3):
            geometry = geometry - G.Disk([a, b], 0.1)
    outer = dde.icbc.DirichletBC(geometry, lambda _: 1, on(square))
    inner = dde.icbc.DirichletBC(geometry, lambda _: 0, lambda x, at: at and not square.on_boundary(x[None])[0])
    return Case(geometry, lambda x, y: [laplace(y, x, 2)], [outer, inner], points=(1200, 240, 0))


def poisson2d_cg() -> Case:
    square, geometry = G.Rectangle([-1, -1], [1, 1]), G.Rectangle([-1, -1], [1, 1])
    for a, b, r in ((0.5, 0.5, 0.2), (0.4, -0.4, 0.4), (-0.2, -0.7, 0.1), (-0.6, 0.5, 0.3)):
        geometry = geometry - G.Disk([a, b], r)

    def pde(x: Any, y: Any) -> list[Any]:
        f = 10 * (17 + (x * x).sum(1, keepdim=True)) * torch.sin(pi * x[:, :1]) * torch.sin(4 * pi * x[:, 1:])
        return [-laplace(y, x, 2) + 64 * y - f]

    outer = dde.icbc.DirichletBC(geometry, lambda _: 0.2, on(square))
    inner = dde.icbc.DirichletBC(geometry, lambda _: 1, lambda x, at: at and not square.on_boundary(x[None])[0])
    return Case(geometry, pde, [outer, inner], points=(2400, 360, 0))


def kovasznay() -> Case:
    reynolds = 40
    rate = reynolds / 2 - (reynolds**2 / 4 + 4 * pi**2) ** 0.5
    geometry = G.Rectangle([-0.5, -0.5], [1, 1.5])

    def pde(x: Any, y: Any) -> list[Any]:
        u, v = y[:, 0:1], y[:, 1:2]
        momentum = [
            u * d(y, x, k, 0) + v * d(y, x, k, 1) + d(y, x, 2, k) - laplace(y, x, 2, k) / reynolds for k in (0, 1)
        ]
        return [*momentum, d(y, x, 0, 0) + d(y, x, 1, 1)]

    def u(x: Any) -> Any:
        return 1 - np.exp(rate * x[:, 0:1]) * np.cos(2 * pi * x[:, 1:2])

    def v(x: Any) -> Any:
        return rate / (2 * pi) * np.exp(rate * x[:, 0:1]) * np.sin(2 * pi * x[:, 1:2])

    def p(x: Any) -> Any:
        return (1 - np.exp(2 * rate * x[:, 0:1])) / 2

    conditions = [
        dde.icbc.DirichletBC(geometry, u, lambda _, at: at, component=0),
        dde.icbc.DirichletBC(geometry, v, lambda _, at: at, component=1),
        dde.icbc.DirichletBC(geometry, p, lambda x, at: at and bool(np.isclose(x[0], 1)), component=2),
    ]
    return Case(geometry, pde, conditions, 3, (2601, 400, 0))


def cavity() -> Case:
    reynolds = 100
    geometry = G.Rectangle([0, 0], [1, 1])

    def pde(x: Any, y: Any) -> list[Any]:
        u, v = y[:, 0:1], y[:, 1:2]
        momentum = [
            u * d(y, x, k, 0) + v * d(y, x, k, 1) + d(y, x, 2, k) - laplace(y, x, 2, k) / reynolds for k in (0, 1)
        ]
        return [*momentum, d(y, x, 0, 0) + d(y, x, 1, 1)]

    def lid(x: Any) -> Any:
        return np.where(np.isclose(x[:, 1:2], 1), 4 * x[:, 0:1] * (1 - x[:, 0:1]), 0)

    conditions = [
        dde.icbc.DirichletBC(geometry, lid, lambda _, at: at, component=0),
        dde.icbc.DirichletBC(geometry, lambda _: 0, lambda _, at: at, component=1),
        dde.icbc.PointSetBC(np.zeros((1, 2)), np.zeros((1, 1)), component=2),
    ]
    return Case(geometry, pde, conditions, 3, (2601, 400, 0))


def star() -> Case:
    corners = [[(1, 0.6)[k % 2] * f(pi * k / 5) for f in (np.cos, np.sin)] for k in range(10)]
    hole = G.Rectangle([-0.2, -0.2], [0.2, 0.2])
    geometry = Polygon(corners) - hole

    def u(x: Any) -> Any:
        return np.exp(x[:, :1]) * np.sin(3 * x[:, 1:]) + np.cos(4 * x[:, :1]) * x[:, 1:]

    def pde(x: Any, y: Any) -> list[Any]:
        f = 8 * torch.exp(x[:, :1]) * torch.sin(3 * x[:, 1:]) + 16 * torch.cos(4 * x[:, :1]) * x[:, 1:]
        return [laplace(y, x, 2) + f]

    return Case(geometry, pde, [dde.icbc.DirichletBC(geometry, u, lambda _, at: at)], points=(1200, 240, 0))


def body() -> Case:
    geometry = G.Sphere([0, 0, 0], 1) - G.Cuboid([-0.3, -0.4, -0.2], [0.3, 0.4, 0.5])

    def u(m: Any, x: Any) -> Any:
        return m.sin(2 * x[:, 0:1]) * m.cos(x[:, 1:2]) * m.exp(x[:, 2:3] / 2)

    def pde(x: Any, y: Any) -> list[Any]:
        return [laplace(y, x, 3) + 4.75 * u(torch, x)]

    condition = dde.icbc.DirichletBC(geometry, lambda x: u(np, x), lambda _, at: at)
    return Case(geometry, pde, [condition], points=(2400, 600, 0))


def cylinder() -> Case:
    """Two outputs, one for each material, joined on the circle: DeepXDE has no interfaces of its own."""
    k, geometry = 100.0, G.Rectangle([-1, -1], [1, 1])
    turns = 2 * pi * np.arange(120)[:, None] / 120
    circle = 0.5 * np.hstack([np.cos(turns), np.sin(turns)])
    zero = np.zeros((len(circle), 1))

    def inside(x: Any) -> Any:
        return (x * x).sum(1)[:, None] < 0.25

    def pde(x: Any, y: Any) -> list[Any]:
        return [torch.where(inside(x), laplace(y, x, 2, 0), laplace(y, x, 2, 1))]

    def flux(x: Any, y: Any, _: Any) -> Any:
        slopes = [(dde.grad.jacobian(y, x, i=i) * x).sum(1, keepdim=True) / 0.5 for i in (0, 1)]
        return slopes[0] - slopes[1]

    def u(x: Any) -> Any:
        return x[:, :1] * (1 - (k - 1) / (k + 1) * 0.25 / (x * x).sum(1, keepdims=True))

    conditions = [
        dde.icbc.PointSetOperatorBC(circle, zero, lambda _, y, __: y[:, 0:1] / k - y[:, 1:2]),
        dde.icbc.PointSetOperatorBC(circle, zero, flux),
        dde.icbc.DirichletBC(geometry, u, lambda _, at: at, component=1),
    ]

    def chosen(x: Any, y: Any) -> Any:
        return np.where(inside(x), y[:, 0:1] / k, y[:, 1:2])

    return Case(geometry, pde, conditions, 2, chosen=chosen)


def taylor_green() -> Case:
    nu, square = 0.1, G.Rectangle([0, 0], [2 * pi, 2 * pi])
    geometry = G.GeometryXTime(square, G.TimeDomain(0, 1))

    def pde(x: Any, y: Any) -> list[Any]:
        u, v = y[:, 0:1], y[:, 1:2]
        momentum = [
            d(y, x, k, 2) + u * d(y, x, k, 0) + v * d(y, x, k, 1) + d(y, x, 2, k) - nu * laplace(y, x, 2, k)
            for k in (0, 1)
        ]
        return [*momentum, d(y, x, 0, 0) + d(y, x, 1, 1)]

    def right(axis: int) -> Callable[[Any, bool], bool]:
        return lambda x, at: bool(at and np.isclose(x[axis], 2 * pi))

    times = np.linspace(0, 1, 9)[:, None]
    gauge = np.hstack([np.zeros((9, 2)), times])
    conditions = [
        *(
            dde.icbc.PeriodicBC(geometry, axis, right(axis), derivative_order=order, component=component)
            for axis in (0, 1)
            for component in (0, 1, 2)
            for order in (0, 1)
        ),
        dde.icbc.IC(geometry, lambda x: np.cos(x[:, 0:1]) * np.sin(x[:, 1:2]), lambda _, at: at, component=0),
        dde.icbc.IC(geometry, lambda x: -np.sin(x[:, 0:1]) * np.cos(x[:, 1:2]), lambda _, at: at, component=1),
        dde.icbc.PointSetBC(gauge, -np.exp(-4 * nu * times) / 2, component=2),
    ]
    return Case(geometry, pde, conditions, 3, (2601, 400, 400))


CASES: dict[str, Callable[[], Case]] = {
    "disk": disk,
    "annulus": annulus,
    "star": star,
    "ball": body,
    "inclusion": cylinder,
    "taylor_green": taylor_green,
    "poisson2d_c": poisson2d_c,
    "poisson2d_cg": poisson2d_cg,
    "kovasznay": kovasznay,
    "cavity": cavity,
}
"""The problems, by the names of `benchmarks/regions.py`."""


class Share(Clock):
    """A clock that also ends Adam when its share of the time is up.

    Attributes:
        until: Seconds of that share.
    """

    def __init__(self, watch: Stopwatch, until: float) -> None:
        super().__init__(watch)
        self.until = until

    def on_epoch_end(self) -> None:
        super().on_epoch_end()
        if self.watch.seconds >= self.until:
            self.model.stop_training = True


def main() -> None:
    given = arguments("DeepXDE on regions.", list(CASES))
    torch.set_num_threads(given.threads)
    began = time.perf_counter()
    if given.float64:
        dde.config.set_default_float("float64")
    dde.config.set_random_seed(given.seed)
    dde.optimizers.config.LBFGS_options.update(iter_per_step=50, fun_per_step=62)
    case = CASES[given.problem]()
    inside, boundary, start = case.points
    timed = isinstance(case.geometry, G.GeometryXTime)
    data = (
        dde.data.TimePDE(case.geometry, case.pde, case.conditions, inside, boundary, start)
        if timed
        else dde.data.PDE(case.geometry, case.pde, case.conditions, inside, boundary)
    )
    net = dde.nn.FNN([case.geometry.dim, *(50,) * 4, case.outputs], "tanh", "Glorot uniform")
    model = dde.Model(data, net)

    def values(points: np.ndarray) -> np.ndarray:
        found = model.predict(points.astype(dde.config.real(np)))
        return found if case.chosen is None else case.chosen(points, found)

    watch = Stopwatch(given.seconds, values, given.reference)
    model.compile("adam", lr=1e-3, verbose=0)
    setup = time.perf_counter() - began
    watch.start()
    model.train(iterations=10**9, callbacks=[Share(watch, given.seconds / 3)], verbose=0)
    adam = model.train_state.iteration
    if watch.goes_on():
        model.compile("L-BFGS", verbose=0)
        model.train(callbacks=[Clock(watch)], verbose=0)
    parameters = sum(p.numel() for p in net.parameters())
    version = f"deepxde {dde.__version__}, torch {torch.__version__}"
    iterations = model.train_state.iteration
    result = watch.result(setup_s=setup, parameters=parameters, version=version, steps=iterations, adam=adam)
    write(given.out, result)


if __name__ == "__main__":
    main()
