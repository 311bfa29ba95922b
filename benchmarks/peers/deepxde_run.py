"""DeepXDE with its torch backend, in the settings of its own examples, for so many seconds or to their end.

Sources, all of https://github.com/lululxvi/deepxde/tree/master/examples/pinn_forward:

- burgers: Burgers.py. FNN 2-20-20-20-1, tanh, Glorot normal; 2540, 80 and 160 points; Adam 15,000 iterations, then
  L-BFGS.
- heat: heat.py. The same with Adam 20,000.
- allen_cahn: Allen_Cahn.py. Initial and boundary values by construction; 8000 points; Adam 40,000, then L-BFGS.
- helmholtz: Helmholtz_Dirichlet_2d.py. FNN 3 × 150, sine, boundary values by construction, 10 points per wavelength
  and coordinate, Adam 5000. Poisson's equation on a cube has no example of its own and takes these.
- poisson_lshape: Poisson_Lshape.py. FNN 4 × 50, 1200 and 120 points, Adam 50,000, then L-BFGS; other boundary
  values.
- wave: wave_1d.py. FNN 3 × 100 on scaled inputs, loss weights 5 / initial losses, points drawn anew every
  iteration, decaying rate, Adam 10,000. Its network of Fourier features (STMsFFN) does not exist for the torch
  backend; a plain one of its size takes its place.
- advection, kdv: without an example; network, points and optimisers of heat.py, PeriodicBC as in
  Poisson_periodic_1d.py.

Numbers are float32, as in the examples; --float64 is this benchmark's. Adam goes on beyond the example's iterations
where no L-BFGS follows and time is left, but not with --to-end. L-BFGS hands back after 50 iterations instead of
1000, so that the clock can be read; its memory stays.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass
from typing import Any

os.environ["DDE_BACKEND"] = "pytorch"

import deepxde as dde
import numpy as np
import torch
from equations import EQUATIONS, Equation
from stopwatch import Stopwatch, arguments, write

PROBLEMS = list(EQUATIONS)
ENDLESS = 10**9


@dataclass(frozen=True)
class Settings:
    """Settings of an example.

    Attributes:
        hidden: Widths.
        points: Numbers of points inside, on the boundary and at the initial time.
        adam: Iterations of Adam.
        lbfgs: Whether L-BFGS follows.
        activation: Of the network.
        initializer: Of the network.
        hard: Whether conditions are met by construction.
    """

    hidden: tuple[int, ...] = (20, 20, 20)
    points: tuple[int, int, int] = (2540, 80, 160)
    adam: int = 15000
    lbfgs: bool = True
    activation: str = "tanh"
    initializer: str = "Glorot normal"
    hard: bool = False


def settings(problem: str, equation: Equation) -> Settings:
    """The settings of the example a problem follows."""
    if equation.waves:
        # 10 points to the shortest wave, in every direction and on every face, as the example has it.
        side, d = round(10 * max(equation.waves)), len(equation.names)
        points = (side**d, 2 * d * side ** (d - 1), 0)
        return Settings((150,) * 3, points, 5000, False, "sin", "Glorot uniform", True)
    return {
        "burgers": Settings(),
        "poisson_lshape": Settings((50,) * 4, (1200, 120, 0), 50000, initializer="Glorot uniform"),
        "allen_cahn": Settings(points=(8000, 400, 800), adam=40000, hard=True),
        "wave": Settings((100,) * 3, (360, 360, 360), 10000, False, "tanh", "Glorot uniform"),
    }.get(problem, Settings(adam=20000))


class Values:
    """p.x, p.u, p.u_xx … of a network at the points of a batch, each `[N, 1]`, computed when asked for."""

    def __init__(self, names: str, x: Any, y: Any) -> None:
        self.names, self.columns, self.u = names, x, y

    def __getattr__(self, name: str) -> Any:
        if name in self.names:
            k = self.names.index(name)
            return self.columns[:, k : k + 1]
        letters = name.removeprefix("u_")
        value = self.u
        for letter in letters[:-2] if len(letters) > 1 else letters:
            value = dde.grad.jacobian(value, self.columns, i=0, j=self.names.index(letter))
        if len(letters) > 1:
            i, j = (self.names.index(letter) for letter in letters[-2:])
            value = dde.grad.hessian(value, self.columns, i=i, j=j)
        return value


class Polygon(dde.geometry.Polygon):
    """A polygon whose points have the precision of all others; DeepXDE's are float64 always."""

    def random_points(self, n: int, random: str = "pseudo") -> Any:
        return super().random_points(n, random).astype(dde.config.real(np))

    def random_boundary_points(self, n: int, random: str = "pseudo") -> Any:
        return super().random_boundary_points(n, random).astype(dde.config.real(np))

    def uniform_boundary_points(self, n: int) -> Any:
        return super().uniform_boundary_points(n).astype(dde.config.real(np))


def everywhere(_: Any, on_boundary: bool) -> bool:
    """A condition's place: the whole boundary, or the whole initial time."""
    return on_boundary


def steady(equation: Equation, chosen: Settings, net: Any, pde: Any) -> Any:
    """The data of a problem without time; a boundary value built in is put into the network."""
    conditions: list[Any] = []
    if chosen.hard:
        low, high = ([end[k] for end in equation.box] for k in (0, 1))
        geometry = dde.geometry.Rectangle(low, high) if len(low) == 2 else dde.geometry.Hypercube(low, high)
        a, b = equation.box[0]

        def vanishing(x: Any, y: Any) -> Any:
            return y * torch.prod(4 / (b - a) ** 2 * (x - a) * (b - x), dim=1, keepdim=True)

        net.apply_output_transform(vanishing)
    else:
        geometry, values = Polygon([list(c) for c in equation.corners]), equation.boundary
        assert values is not None
        conditions.append(dde.icbc.DirichletBC(geometry, lambda x: values(np, x[:, 0:1], x[:, 1:2]), everywhere))
    inside, boundary, _ = chosen.points
    return dde.data.PDE(geometry, pde, conditions, num_domain=inside, num_boundary=boundary)


def evolving(equation: Equation, chosen: Settings, net: Any, pde: Any) -> Any:
    """The data of a problem with time; initial and boundary values built in are put into the network."""
    (a, b), (_, end) = equation.box
    geometry = dde.geometry.GeometryXTime(dde.geometry.Interval(a, b), dde.geometry.TimeDomain(0, end))
    initial = equation.initial
    assert initial is not None
    conditions: list[Any] = []
    if chosen.hard:  # Allen–Cahn: the only example with an initial value built in

        def transform(x: Any, y: Any) -> Any:
            return initial(torch, x[:, 0:1]) + x[:, 1:2] * (1 - x[:, 0:1] ** 2) * y

        net.apply_output_transform(transform)
    else:
        if equation.periodic:

            def right(x: Any, on_boundary: bool) -> bool:
                return on_boundary and bool(np.isclose(x[0], b))

            orders = (0, 1) if "xxx" in equation.highest else (0,)
            conditions += [dde.icbc.PeriodicBC(geometry, 0, right, derivative_order=n) for n in orders]
        else:
            conditions.append(dde.icbc.DirichletBC(geometry, lambda _: 0, everywhere))
        conditions.append(dde.icbc.IC(geometry, lambda x: initial(np, x[:, 0:1]), everywhere))
        if equation.at_rest:
            conditions.append(
                dde.icbc.OperatorBC(
                    geometry,
                    lambda x, y, _: dde.grad.jacobian(y, x, i=0, j=1),
                    lambda x, _: bool(dde.utils.isclose(x[1], 0)),
                )
            )
    inside, boundary, start = chosen.points
    return dde.data.TimePDE(geometry, pde, conditions, num_domain=inside, num_boundary=boundary, num_initial=start)


def weighted(model: Any) -> tuple[dict[str, Any], list[Any]]:
    """Options and callbacks of the wave's example, after its weights have been found from the initial losses."""
    model.net.apply_feature_transform(lambda x: (x - 0.5) * 2 * math.sqrt(3))
    model.compile("adam", lr=1e-3, verbose=0)
    losses, _ = model.train(0, verbose=0)
    options = {"lr": 1e-3, "loss_weights": 5 / losses.loss_train[0], "decay": ("inverse time", 2000, 0.9)}
    return options, [dde.callbacks.PDEPointResampler(period=1)]


class Clock(dde.callbacks.Callback):
    """Reads the stopwatch after every iteration."""

    def __init__(self, watch: Stopwatch) -> None:
        super().__init__()
        self.watch = watch

    def on_epoch_end(self) -> None:
        if not self.watch.goes_on():
            self.model.stop_training = True


def main() -> None:
    given = arguments("DeepXDE in the settings of its examples.", PROBLEMS)
    torch.set_num_threads(given.threads)
    began = time.perf_counter()
    if given.float64:
        dde.config.set_default_float("float64")
    dde.config.set_random_seed(given.seed)
    dde.optimizers.config.LBFGS_options.update(iter_per_step=50, fun_per_step=62)
    equation = EQUATIONS[given.problem]
    chosen = settings(given.problem, equation)

    def pde(x: Any, y: Any) -> Any:
        return equation.residual(torch, Values(equation.names, x, y))

    net = dde.nn.FNN([len(equation.names), *chosen.hidden, 1], chosen.activation, chosen.initializer)
    data = (steady if equation.initial is None else evolving)(equation, chosen, net, pde)
    model = dde.Model(data, net)
    options, callbacks = weighted(model) if given.problem == "wave" else ({"lr": 1e-3}, [])
    watch = Stopwatch(given.seconds, lambda points: model.predict(points.astype(dde.config.real(np))), given.reference)
    model.compile("adam", verbose=0, **options)
    setup = time.perf_counter() - began
    watch.start()
    adam = chosen.adam if chosen.lbfgs or given.to_end else ENDLESS
    model.train(iterations=adam, callbacks=[Clock(watch), *callbacks], verbose=0)
    if chosen.lbfgs and watch.goes_on():
        model.compile("L-BFGS", verbose=0)
        model.train(callbacks=[Clock(watch)], verbose=0)
    parameters = sum(p.numel() for p in net.parameters())
    version = f"deepxde {dde.__version__}, torch {torch.__version__}"
    iterations = model.train_state.iteration
    result = watch.result(setup_s=setup, compile_s=0.0, parameters=parameters, version=version, steps=iterations)
    write(given.out, result)


if __name__ == "__main__":
    main()
