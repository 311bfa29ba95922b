"""DeepXDE with its torch backend on a problem of the blind suite, in the settings of one example for all of them.

Burgers.py (https://github.com/lululxvi/deepxde/tree/master/examples/pinn_forward): FNN of 3 × 20, tanh, Glorot
normal; Adam, rate 1e-3, for 15,000 iterations, then L-BFGS; float32. Points are given, its 2540 inside and those of
every condition, 160 at the first time and 80 elsewhere, where the equations hold too, as in the example. Derivatives
are `dde.grad`'s, shared between equations and conditions. --scaled maps the box to [-1, 1]^d, which is this
benchmark's, as is --third: the example has the coordinates as they are, and 15,000 iterations however long they take.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

os.environ["DDE_BACKEND"] = "pytorch"

import deepxde as dde
import numpy as np
import torch
from deepxde_regions import Share
from deepxde_run import Clock
from statement import Formula, Statement, Term
from untuned_words import finish, given_words

ADAM = 15_000


class Derivatives:
    """Derivatives of outputs `[N, m]` by inputs `[N, d]`, each computed once."""

    def __init__(self, x: Any, y: Any) -> None:
        self.x, self.y = x, y
        self._known: dict[tuple[int, tuple[int, ...]], Any] = {(i, ()): y[:, i : i + 1] for i in range(y.shape[1])}

    def __call__(self, i: int, along: tuple[int, ...]) -> Any:
        """A derivative `[N, 1]` of output i."""
        if (i, along) not in self._known:
            self._known[i, along] = dde.grad.jacobian(self(i, along[:-1]), self.x, i=0, j=along[-1])
        return self._known[i, along]


class Posed:
    """Equations and conditions of a problem as DeepXDE asks for them.

    Attributes:
        statement: The problem.
        net: From points `[N, d]` to outputs `[N, m]`, for integrals.
    """

    def __init__(self, statement: Statement, net: Callable[[Any], Any]) -> None:
        self.statement, self.net = statement, net
        self._last: Derivatives | None = None

    def derivatives(self, x: Any, y: Any) -> Derivatives:
        """The derivatives of one batch."""
        if self._last is None or self._last.y is not y:
            self._last = Derivatives(x, y)
        return self._last

    def residual(self, one: Formula, x: Any, y: Any, rows: slice, normals: Any = None) -> Any:
        """The residual `[n, 1]` of a formula at some of the points."""
        names, found = self.statement.coordinates, self.derivatives(x, y)

        def here(name: str) -> Any:
            if name in names:
                return x[rows, names.index(name)]
            if name.startswith("n_") and normals is not None:
                return normals[:, names.index(name[2:])]
            return found(*self.statement.derivative(name))[rows, 0]

        def there(coordinate: str, at: Any) -> Callable[[str], Any]:
            columns = [x[rows, k].expand_as(at) for k in range(len(names))]
            columns[names.index(coordinate)] = at
            points = torch.stack(columns, dim=-1).reshape(-1, len(names))
            if not points.requires_grad:
                points.requires_grad_()
            inner = Derivatives(points, self.net(points))
            return lambda name: inner(*self.statement.derivative(name))[:, 0].reshape(at.shape)

        return self.statement.value(one, here, there, torch).expand(len(x[rows]))[:, None]

    def pde(self, x: Any, y: Any) -> list[Any]:
        """The residuals of the equations at all points."""
        return [self.residual(one, x, y, slice(None)) for one in self.statement.terms[0].formulas]


class Vanishing(dde.icbc.PointSetOperatorBC):
    """A formula that vanishes at points; taken there alone, while an operator of the library is taken everywhere."""

    def __init__(self, posed: Posed, term: Term, one: Formula) -> None:
        super().__init__(term.points, np.zeros((len(term.points), 1)), None)
        self._posed, self._formula = posed, one
        self._normals = None if term.normals is None else dde.backend.as_tensor(term.normals.astype(real()))

    def error(self, X: Any, inputs: Any, outputs: Any, beg: int, end: int, aux_var: Any = None) -> Any:
        """The residual `[n, 1]`, under the library's name."""
        del X, aux_var
        return self._posed.residual(self._formula, inputs, outputs, slice(beg, end), self._normals)


def real() -> Any:
    return dde.config.real(np)


def data_of(posed: Posed) -> Any:
    """The points and losses of a problem."""
    inside, *conditions = posed.statement.terms
    cloud = dde.geometry.PointCloud(inside.points)
    losses = [Vanishing(posed, term, one) for term in conditions for one in term.formulas]
    edges = np.vstack([term.points for term in conditions])
    return dde.data.PDE(cloud, posed.pde, losses, num_domain=len(inside.points), anchors=edges)


def main() -> None:
    given = given_words("DeepXDE on the blind suite.")
    torch.set_num_threads(given.threads)
    dde.config.set_random_seed(given.seed)
    dde.optimizers.config.LBFGS_options.update(iter_per_step=50, fun_per_step=62)
    began = time.perf_counter()
    statement = Statement.read(given.statement)
    net = dde.nn.FNN([len(statement.coordinates), *(20,) * 3, len(statement.unknowns)], "tanh", "Glorot normal")
    if given.scaled:
        net.apply_feature_transform(statement.scaled)
    model = dde.Model(data_of(Posed(statement, net)), net)

    def values(points: np.ndarray) -> np.ndarray:
        return model.predict(points.astype(real()))

    watch = given.watch(values)
    model.compile("adam", lr=1e-3, verbose=0)
    setup = time.perf_counter() - began
    watch.start()
    clock = Share(watch, given.seconds / 3) if given.third else Clock(watch)
    model.train(iterations=ADAM, callbacks=[clock], verbose=0, display_every=10**9)
    adam = model.train_state.iteration
    if watch.goes_on():
        model.compile("L-BFGS", verbose=0)
        model.train(callbacks=[Clock(watch)], verbose=0, display_every=10**9)
    version = f"deepxde {dde.__version__}, torch {torch.__version__}"
    finish(given, watch, values, setup_s=setup, adam=adam, steps=model.train_state.iteration, version=version)


if __name__ == "__main__":
    main()
