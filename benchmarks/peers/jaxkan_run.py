"""jaxKAN in the settings of its own tutorials, for so many seconds or to their end.

Sources, both of https://github.com/srigas/jaxKAN/tree/main/docs/tutorials
(https://jaxkan.readthedocs.io/en/latest/tutorials):

- "Tutorial 6 - PIKANs", its Burgers: KAN of Chebyshev layers 2-6-6-1, degree 5, Glorot; 2^12 Sobol points inside
  and 2^6 on every face; sum of the mean squares; Adam, rate 1e-3, 5000 steps. For all problems whose solution is not
  periodic.
- "Tutorial 10 - Advanced Models for PDEs", its Allen–Cahn: RGAKAN of two blocks, 8 wide, degree 5, with periodic
  embedding; residual-based attention, causal weights on 32 chunks, loss weights annealed every 1000 steps, 2^12
  points of a pool of 128 × 128 drawn anew every 2000 by their residuals; Adam with a decaying rate, 10,000 steps.
  For all periodic problems.

Neither tutorial has an L-BFGS. Numbers are float32, as in the tutorials; --float64 is this benchmark's. Training goes
on while there is time, but not with --to-end. The seconds of the first step, in
which JAX compiles, are recorded apart and not counted; nor are those of compiling the first resampling.
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
from equations import EQUATIONS, Equation
from flax import nnx
from jaxkan.models.KAN import KAN
from jaxkan.models.RGAKAN import RGAKAN
from jaxkan.pikan.adaptive import get_colloc_indices, lr_anneal
from jaxkan.pikan.sampling import get_collocs_grid, get_collocs_sobol
from stopwatch import Stopwatch, arguments, write

PROBLEMS = [name for name, equation in EQUATIONS.items() if not equation.corners]
CHEBYSHEV = {
    "D": 5,
    "flavor": "exact",
    "residual": None,
    "external_weights": False,
    "init_scheme": {"type": "glorot_fine"},
    "add_bias": True,
}
CHUNKS, CAUSAL, MIXING, ANNEAL, RESAMPLE, BATCH = 32, 1.0, 0.9, 1000, 2000, 2**12
GAMMA, ETA = 0.999, 0.01


def names_of(equation: Equation) -> str:
    """The order in which the network takes the coordinates: the time first."""
    return "tx" if equation.initial else equation.names


def residual_of(equation: Equation) -> Any:
    """The residual `[N, 1]` of a model at points `[N, d]` in the network's order, as jaxkan.pikan.pde builds it."""
    names = names_of(equation)

    def residual(model: Any, points: Any) -> Any:
        def u(*where: Any) -> Any:
            return model(jnp.stack(where)[None])[0, 0]

        class Values:
            def __init__(self, *where: Any) -> None:
                self.where = where

            def __getattr__(self, name: str) -> Any:
                if name in names:
                    return self.where[names.index(name)]
                function = u
                for letter in name.removeprefix("u").removeprefix("_"):
                    function = jax.grad(function, argnums=names.index(letter))
                return function(*self.where)

        def at(*where: Any) -> Any:
            return equation.residual(jnp, Values(*where))

        return jax.vmap(at)(*(points[:, k] for k in range(len(names))))[:, None]

    return residual


class Soft:
    """Training of Tutorial 6.

    Attributes:
        model: The network.
        epochs: Steps of the tutorial.
    """

    epochs = 5000

    def __init__(self, equation: Equation, seed: int) -> None:
        """Build network, points and optimiser, nothing compiled yet."""
        names = names_of(equation)
        ranges = [equation.box[equation.names.index(name)] for name in names]
        self.model = KAN([len(names), 6, 6, 1], "chebyshev", CHEBYSHEV, seed)
        self.optimizer = nnx.Optimizer(self.model, optax.adam(learning_rate=1e-3), wrt=nnx.Param)
        self.inside = get_collocs_sobol(ranges=ranges, total_points=2**12, seed=seed)
        faces, values = [], []
        for k, name in enumerate(names):
            for end in ranges[k][:1] if name == "t" else ranges[k]:
                face = [*ranges[:k], (end, end), *ranges[k + 1 :]]
                points = get_collocs_sobol(ranges=face, total_points=2**6, seed=seed)
                faces.append(points)
                start = equation.initial if name == "t" else None
                values.append(start(jnp, points[:, 1]) if start else jnp.zeros(len(points)))
        self.faces, self.values = jnp.concatenate(faces), jnp.concatenate(values)[:, None]
        self._step = soft_step(equation, faces[0])

    def step(self) -> None:
        """Do one step and wait for it."""
        self._step(self.model, self.optimizer, self.inside, self.faces, self.values).block_until_ready()


def soft_step(equation: Equation, initial: Any) -> Any:
    """The compiled step of Tutorial 6; where the solution starts at rest its velocity at `initial` counts too."""
    residual = residual_of(equation)

    def loss(model: Any, inside: Any, faces: Any, values: Any) -> Any:
        total = jnp.mean(residual(model, inside) ** 2) + jnp.mean((model(faces) - values) ** 2)
        if equation.at_rest:
            velocity = jax.vmap(jax.grad(lambda t, x: model(jnp.stack([t, x])[None])[0, 0]))
            total += jnp.mean(velocity(initial[:, 0], initial[:, 1]) ** 2)
        return total

    @nnx.jit
    def step(model: Any, optimizer: Any, inside: Any, faces: Any, values: Any) -> Any:
        value, gradient = nnx.value_and_grad(loss)(model, inside, faces, values)
        optimizer.update(model, gradient)
        return value

    return step


class Adaptive:
    """Training of Tutorial 10.

    Attributes:
        model: The network.
        epochs: Steps of the tutorial.
    """

    epochs = 10000

    def __init__(self, equation: Equation, seed: int) -> None:
        """Build network, points and optimiser, nothing compiled yet."""
        assert equation.initial is not None
        (a, b), (_, end) = equation.box
        self.model = RGAKAN(
            n_in=2, n_out=1, n_hidden=8, num_blocks=2, flavor="exact", D=5, init_scheme={"type": "glorot_fine"},
            alpha=0.0, beta=0.0, ref=None, period_axes={1: (2 * np.pi / (b - a), False)}, rff_std=None, sine_D=5,
            seed=seed,
        )  # fmt: skip
        schedule = optax.exponential_decay(init_value=1e-3, transition_steps=1000, decay_rate=0.9, staircase=False)
        rule = optax.adam(learning_rate=schedule, b1=0.9, b2=0.999, eps=1e-8)
        self.optimizer = nnx.Optimizer(self.model, rule, wrt=nnx.Param)
        self.pool = get_collocs_grid(ranges=[(0, end, 2**7), (a, b, 2**7)])
        self.start = get_collocs_grid(ranges=[(0, 0, 1), (a, b, 2**6)])
        self.values = equation.initial(jnp, self.start[:, 1])[:, None]
        residual = residual_of(equation)
        self._step, self._resample = adaptive_step(residual), resampling(residual, seed)
        self.everywhere = jnp.ones((self.pool.shape[0], 1))
        self.indices = get_colloc_indices(collocs_pool=self.pool, batch_size=BATCH, px=None, seed=seed)
        self.points, self.e, self.i = self.pool[self.indices], self.everywhere[self.indices], jnp.ones((2**6, 1))
        self.lam = (jnp.array(1.0), jnp.array(1.0))
        self.count = 0

    def compile_more(self) -> None:
        """Compile what a first step leaves out."""
        self._resample(self.model, self.pool, self.indices, self.e, self.everywhere)

    def step(self) -> None:
        """Do one step and wait for it."""
        first, second, self.e, self.i = self._step(
            self.model, self.optimizer, self.points, self.start, self.values, self.lam, self.e, self.i
        )
        self.e.block_until_ready()
        if self.count and self.count % ANNEAL == 0:
            self.lam = lr_anneal((first, second), self.lam, MIXING)
        if self.count and self.count % RESAMPLE == 0:
            self.indices, self.everywhere = self._resample(self.model, self.pool, self.indices, self.e, self.everywhere)
            self.points, self.e = self.pool[self.indices], self.everywhere[self.indices]
        self.count += 1


def attention(size: Any, before: Any) -> Any:
    """Residual-based attention: the weights of points after residuals of this size."""
    return GAMMA * before + ETA * size / jnp.max(size)


def adaptive_step(residual: Callable[[Any, Any], Any]) -> Any:
    """The compiled step of Tutorial 10."""
    causal = jnp.triu(jnp.ones((CHUNKS, CHUNKS)), k=1).T

    def interior_loss(model: Any, before: Any, points: Any) -> Any:
        values = residual(model, points)
        now = attention(jnp.abs(values), before)
        loss = jnp.mean((now * values).reshape(CHUNKS, -1) ** 2, axis=1)
        weights = jax.lax.stop_gradient(jnp.exp(-CAUSAL * (causal @ loss)))
        return jnp.mean(weights * loss), now

    def initial_loss(model: Any, before: Any, points: Any, values: Any) -> Any:
        difference = model(points) - values
        now = attention(jnp.abs(difference), before)
        return jnp.mean((now * difference) ** 2), now

    @nnx.jit
    def step(model: Any, optimizer: Any, points: Any, start: Any, values: Any, lam: Any, e: Any, i: Any) -> Any:
        (_, e), first = nnx.value_and_grad(interior_loss, has_aux=True)(model, e, points)
        (_, i), second = nnx.value_and_grad(initial_loss, has_aux=True)(model, i, start, values)
        optimizer.update(model, jax.tree_util.tree_map(lambda g, h: lam[0] * g + lam[1] * h, first, second))
        return first, second, e, i

    return step


def resampling(residual: Callable[[Any, Any], Any], seed: int) -> Any:
    """The compiled choice of new points by their weighted residuals."""

    @nnx.jit
    def resample(model: Any, pool: Any, indices: Any, e: Any, everywhere: Any) -> Any:
        everywhere = everywhere.at[indices].set(e)
        size = jnp.abs(everywhere * residual(model, pool))
        density = size / jnp.mean(size) + 1.0  # rad_a = rad_c = 1
        density = (density / jnp.sum(density))[:, 0]
        return get_colloc_indices(collocs_pool=pool, batch_size=BATCH, px=density, seed=seed), everywhere

    return resample


def main() -> None:
    given = arguments("jaxKAN in the settings of its tutorials.", PROBLEMS)
    jax.config.update("jax_enable_x64", given.float64)
    began = time.perf_counter()
    equation = EQUATIONS[given.problem]
    run = (Adaptive if equation.periodic else Soft)(equation, given.seed)
    order = [equation.names.index(name) for name in names_of(equation)]
    predict = nnx.jit(lambda model, points: model(points))
    setup = time.perf_counter() - began
    began = time.perf_counter()
    run.step()
    if isinstance(run, Adaptive):
        run.compile_more()
    compiled = time.perf_counter() - began
    watch = Stopwatch(
        given.seconds, lambda points: np.asarray(predict(run.model, jnp.asarray(points[:, order]))), given.reference
    )
    steps = 1
    watch.start()
    while watch.goes_on() and not (given.to_end and steps == run.epochs):
        run.step()
        steps += 1
    parameters = sum(int(np.size(leaf)) for leaf in jax.tree_util.tree_leaves(nnx.state(run.model, nnx.Param)))
    versions = f"jaxkan {version('jaxkan')}, jax {jax.__version__}"
    result = watch.result(setup_s=setup, compile_s=compiled, parameters=parameters, version=versions, steps=steps)
    write(given.out, result)


if __name__ == "__main__":
    main()
