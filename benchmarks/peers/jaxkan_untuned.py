"""jaxKAN on a problem of the blind suite, in the settings of one tutorial for all of them.

"Tutorial 6 - PIKANs" (https://jaxkan.readthedocs.io/en/latest/tutorials): KAN of Chebyshev layers d-6-6-m, degree 5,
Glorot; 2^12 Sobol points inside and 2^6 on every piece of the boundary; sum of the mean squares; Adam, rate 1e-3;
float32. Points are given. Training goes on beyond the tutorial's 5000 steps while there is time; the seconds in which
JAX compiles are recorded apart and not counted. --scaled maps the box to [-1, 1]^d, which is this benchmark's; in the
tutorial coordinates go into the network as they are, whose layers take a tanh of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxkan.models.KAN import KAN
from jaxkan_run import CHEBYSHEV
from statement import Formula, Statement
from untuned_words import finish, given_words


class Functions:
    """The functions of jax.numpy, and erf."""

    erf = staticmethod(jax.scipy.special.erf)

    def __getattr__(self, name: str) -> Any:
        return getattr(jnp, name)


class Fields:
    """Unknowns of a problem and their derivatives at one point, by jax.grad.

    Attributes:
        statement: The problem.
        model: From points `[N, d]` to outputs `[N, m]`.
    """

    def __init__(self, statement: Statement, model: Callable[[Any], Any]) -> None:
        self.statement, self.model = statement, model

    def function(self, name: str) -> Callable[..., Any]:
        """A derivative as a function of the coordinates."""
        i, along = self.statement.derivative(name)

        def found(*where: Any) -> Any:
            return self.model(jnp.stack(where)[None])[0, i]

        for k in along:
            found = jax.grad(found, argnums=k)
        return found

    def residual(self, one: Formula, point: Any, normal: Any) -> Any:
        """The residual of a formula at a point `[d]`, with the normal there `[d]`."""
        names, where = self.statement.coordinates, list(point)

        def here(name: str) -> Any:
            if name in names:
                return point[names.index(name)]
            if name.startswith("n_"):
                return normal[names.index(name[2:])]
            return self.function(name)(*where)

        def there(coordinate: str, at: Any) -> Callable[[str], Any]:
            k = names.index(coordinate)
            return lambda name: jax.vmap(lambda s: self.function(name)(*where[:k], s, *where[k + 1 :]))(at)

        return self.statement.value(one, here, there, Functions())


def residuals(statement: Statement, model: Callable[[Any], Any], number: int, points: Any, normals: Any) -> list[Any]:
    """The residuals `[n]` of the formulas of a term, by its number."""
    fields = Fields(statement, model)
    formulas = statement.terms[number].formulas
    return [jax.vmap(lambda x, n, one=one: fields.residual(one, x, n))(points, normals) for one in formulas]


def step_of(statement: Statement, call: Callable[[Any, Any], Any]) -> Any:
    """The compiled step: the sum of the mean squares of all formulas, and Adam."""

    def loss(model: Any, points: Any, normals: Any) -> Any:
        total = 0.0
        for number, (x, n) in enumerate(zip(points, normals, strict=True)):
            for r in residuals(statement, lambda z: call(model, z), number, x, n):
                total += jnp.mean(r**2)
        return total

    @nnx.jit
    def step(model: Any, optimizer: Any, points: Any, normals: Any) -> Any:
        found, gradient = nnx.value_and_grad(loss)(model, points, normals)
        optimizer.update(model, gradient)
        return found

    return step


def main() -> None:
    given = given_words("jaxKAN on the blind suite.")
    began = time.perf_counter()
    statement = Statement.read(given.statement)
    model = KAN([len(statement.coordinates), 6, 6, len(statement.unknowns)], "chebyshev", CHEBYSHEV, given.seed)
    optimizer = nnx.Optimizer(model, optax.adam(learning_rate=1e-3), wrt=nnx.Param)
    points = [jnp.asarray(term.points, dtype=jnp.float32) for term in statement.terms]
    normals = [
        jnp.zeros_like(x) if term.normals is None else jnp.asarray(term.normals, dtype=jnp.float32)
        for term, x in zip(statement.terms, points, strict=True)
    ]

    def call(network: Any, x: Any) -> Any:
        return network(statement.scaled(x) if given.scaled else x)

    step = step_of(statement, call)
    predict = nnx.jit(call)

    def values(places: np.ndarray) -> np.ndarray:
        return np.asarray(predict(model, jnp.asarray(places, dtype=jnp.float32)))

    setup = time.perf_counter() - began
    began = time.perf_counter()
    step(model, optimizer, points, normals).block_until_ready()
    compiled = time.perf_counter() - began
    watch, steps = given.watch(values), 1
    watch.start()
    while watch.goes_on():
        step(model, optimizer, points, normals).block_until_ready()
        steps += 1
    versions = f"jaxkan {version('jaxkan')}, jax {jax.__version__}"
    finish(given, watch, values, setup_s=setup, compile_s=compiled, steps=steps, version=versions)


if __name__ == "__main__":
    main()
