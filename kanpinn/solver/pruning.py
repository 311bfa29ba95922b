"""Pruning of a trained network: parts are taken out, the rest is fitted again, and they stay out if it is as good.

A network trained by second-order steps to many digits spreads a function over all the nodes it has, so that no score is
small enough to cut by. Scores (KAN 2.0, sec. 4.1) say the order of the trials; the validation error decides: of held
back rows where data are fitted, of residuals at fresh points for an equation. A network that has become small may have
its intervals halved as long as it has no more parameters than the network that it comes from. The residual of a solved
equation may be many digits below what its error needs; so a solution that moves by no more than its own error is good
enough as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kanpinn.backbones import Backbone
from kanpinn.backbones.edits import coarsening, refinement
from kanpinn.backbones.pruning import Remains, alive_of, pruned, remains
from kanpinn.errors import UserError
from kanpinn.explain.attribution import Attribution, domain_points, input_names, scores
from kanpinn.least_squares.constraint import Constraint
from kanpinn.least_squares.objective import Objective
from kanpinn.optimizers import LevenbergMarquardt
from kanpinn.pde.table import Table
from kanpinn.solver.pruned import Pruned, Trial, change
from kanpinn.solver.validation import sample, validation

ROUND = 5
"""Steps between two looks at the validation error."""
ROUNDS = 24
"""Most such rounds of a fit."""
STALLED = 0.7
"""A fit ends once three rounds leave more than this share of its error."""
STARTS = 2
"""Random networks tried where the one at hand does not come back without some nodes."""
HOPELESS = 100.0
"""Multiple of the error allowed beyond which intervals are not halved; its square where they may be halved twice."""
REFUSED = 3
"""Parts of one kind that may turn out to be needed before the search for more of them ends."""

Unit = tuple[int, int, int | None]
"""A part: layer with edges, and output and input of an edge; or an input of that layer, with None after it."""


class Pruner:
    """Search for the parts that a network can do without.

    Attributes:
        best: The smallest network found that is good enough.
        trials: What has been tried, in order.
    """

    def __init__(
        self,
        start: Pruned,
        factor: float,
        tell: Callable[[Trial], None] | None = None,
        tolerance: Mapping[str, float] | None = None,
    ) -> None:
        """Begin with a network.

        Args:
            start: The network.
            factor: How much its validation error may grow.
            tell: Hears of every trial.
            tolerance: By unknown how far the function may move, relative L2, while that error grows more.
        """
        self.best, self.trials = start, list[Trial]()
        self._start, self._tolerance = start, tolerance or {}
        self._most, self._target = start.network.size, factor * start.error
        self._error, self._tell = validation(start.setup, start.penalty), tell
        self._points = start.setup.random("points")

    def search(self) -> Pruned:
        """Take out inputs, then nodes, then edges, the least scored first; returns the smallest network."""
        for units in (self._inputs, self._nodes, self._edges):
            refused, many, leapt = 0, 1, False
            while refused < REFUSED:
                ordered = sorted(units(self._scores()), key=lambda one: one[1])[refused:]
                if not ordered:
                    break
                chosen = ordered[:many]
                done = self._try([unit for unit, _ in chosen], max(score for _, score in chosen))
                if not done and many == 1 and not leapt and units == self._nodes:
                    done, leapt = self._leap(), True
                refused += not done and many == 1
                many = min(2 * many, len(ordered)) if done else max(1, many // 2)
        return self.best

    def _leap(self) -> bool:
        """Try to leave one node of every hidden layer, then two, four, up to half; True if that works.

        Few nodes may have shorter intervals for the same parameters: with one of them less there may be no way.
        """
        nodes = sorted(self._nodes(self._scores()), key=lambda one: -one[1])
        layers = [[one for one in nodes if one[0][0] == layer] for layer in sorted({unit[0] for unit, _ in nodes})]
        kept = 1
        while 2 * kept <= max(map(len, layers), default=0):
            out = [one for layer in layers for one in layer[kept:]]
            if len(out) > 1 and self._try([unit for unit, _ in out], max(score for _, score in out)):
                return True
            kept *= 2
        return False

    def cut(self, threshold: float) -> Pruned:
        """Take out all hidden nodes and edges whose score is below a threshold; nothing is fitted.

        Raises:
            UserError: If no network is left.
        """
        found, alive = self._scores(), [one.copy() for one in alive_of(self.best.network)]
        for (layer, node, other), score in [*self._nodes(found), *self._edges(found)]:
            if score < threshold:
                _take_out(alive, (layer, node, other))
        left = remains(self.best.network, alive)
        if left is None:
            raise UserError(f"--threshold={threshold:g}: no network is left; expected a smaller one")
        self.best = self._without(left, found)
        return self.best

    def _scores(self) -> Attribution:
        problem, best = self.best.setup.problem, self.best
        points = problem.points("train") if isinstance(problem, Table) else domain_points(problem, 2000)
        return scores(best.network, best.theta, torch.from_numpy(points))

    def _inputs(self, found: Attribution) -> Iterator[tuple[Unit, float]]:
        alive = alive_of(self.best.network)[0].any(0)
        each: list[tuple[Unit, float]] = [((0, int(p), None), float(found.nodes[0][p])) for p in np.flatnonzero(alive)]
        return iter(each if len(each) > 1 else [])

    def _nodes(self, found: Attribution) -> Iterator[tuple[Unit, float]]:
        for layer, nodes in enumerate(found.nodes[1:-1], start=1):
            yield from (((layer, p, None), float(score)) for p, score in enumerate(nodes) if len(nodes) > 1)

    def _edges(self, found: Attribution) -> Iterator[tuple[Unit, float]]:
        for layer, (one, alive) in enumerate(zip(found.layers, alive_of(self.best.network), strict=True)):
            yield from (((layer, int(q), int(p)), float(one.edges[q, p])) for q, p in np.argwhere(alive))

    def _try(self, units: Sequence[Unit], score: float) -> bool:
        """Try to do without some parts; True if that works."""
        alive = [one.copy() for one in alive_of(self.best.network)]
        for unit in units:
            _take_out(alive, unit)
        left = remains(self.best.network, alive)
        if left is None:
            return False
        found = self._fitted(self._without(left, self._scores()), anew=units[0][0] > 0 and units[0][2] is None)
        kept = self._enough(found)
        trial = Trial(self._words(units), score, found.error, kept, max(self._moved(found).values(), default=None))
        self.trials.append(trial)
        if self._tell is not None:
            self._tell(trial)
        if kept:
            self.best = found
        return kept

    def _moved(self, found: Pruned) -> dict[str, float]:
        """How far a network is from the first, by the unknowns that have a tolerance."""
        gaps = change(self._start, found, self._tolerance) if self._tolerance else {}
        return {name: gap["relative_l2"] for name, gap in gaps.items()}

    def _enough(self, found: Pruned) -> bool:
        """Tell whether a network is good enough, by its validation error or its function."""
        if found.error <= self._target:
            return True
        moved = self._moved(found)
        return bool(moved) and all(gap <= self._tolerance[name] for name, gap in moved.items())

    def _words(self, units: Sequence[Unit]) -> str:
        layer, node, other = units[0]
        names = [name for name, _ in input_names(self.best.network.embedding)]
        if other is not None:
            word = f"edge from {names[other] if layer == 0 else f'node {other}'} to node {node} of layer {layer + 1}"
        else:
            word = f"input {names[node]}" if layer == 0 else f"node {node} of layer {layer}"
        return word if len(units) == 1 else f"{len(units)} parts, such as {word}"

    def _without(self, left: Remains, found: Attribution) -> Pruned:
        """The network without some of its edges, not fitted."""
        best = self.best
        setup = replace(best.setup, backbone=left.options(best.setup.backbone))
        after = setup.network()
        while after.level < best.network.level:
            after = after.refined()
        edit = pruned(best.network, after, left, best.theta, [one.mean for one in found.layers])
        theta = edit(best.theta)
        return replace(best, setup=setup, network=after, theta=theta, error=self._error(after, theta))

    def _fitted(self, start: Pruned, anew: bool) -> Pruned:
        """The best fit of a network, from its own parameters or others; on shorter intervals if that is not enough."""
        best = start
        for attempt in self._attempts(start, anew):
            found = self._refined(attempt)
            best = min(best, found, key=lambda one: one.error)
            if self._enough(best):
                break
        return best

    def _attempts(self, start: Pruned, anew: bool) -> Iterator[Pruned]:
        """Fits of a network: of its own parameters; anew, also up from its coarsest level, then from random ones."""
        yield self.fit(start)
        if not anew:
            return
        generator = start.setup.random("initial", start.network.size)
        coarse, theta = start.network, start.theta
        while coarse.level:
            coarser = coarse.coarsened()
            if coarser is None:
                return
            coarse, theta = coarser, coarsening(coarser, coarse)(theta)
        if start.network.level:
            yield self._risen(start, coarse, theta)
        for _ in range(STARTS):
            yield self._risen(start, coarse, coarse.initial(generator).to(theta))

    def _risen(self, start: Pruned, network: Backbone, theta: Tensor) -> Pruned:
        """A fit on every level from a coarse one up to that of `start`."""
        found = self.fit(replace(start, network=network, theta=theta, error=math.inf))
        while found.network.level < start.network.level:
            edit = refinement(found.network)
            found = self.fit(replace(found, network=edit.after, theta=edit(found.theta)))
        return found

    def _refined(self, found: Pruned) -> Pruned:
        """The fit with its intervals halved as long as that helps and it has not more parameters than at first."""
        while not self._enough(found):
            finer, halvings = _finer(found), 1
            while 2**halvings * found.network.size < self._most:
                halvings += 1
            if finer.network.size > self._most or not found.error <= HOPELESS**halvings * self._target:
                break
            fitted = self.fit(finer)
            if fitted.error > STALLED * found.error:
                break
            found = fitted
        return found

    def fit(self, start: Pruned) -> Pruned:
        """Return a network fitted by Levenberg–Marquardt until it is good enough or stalls."""
        setup, network, theta = start.setup, start.network, start.theta
        objective = setup.objective(network, network.level, constraint=Constraint(factor=start.penalty))
        optimizer, best, errors = LevenbergMarquardt(), start, list[float]()
        optimizer.start(network.size, ROUND * ROUNDS)
        fresh = setup.sampler.resample_every and setup.problem.has_equations
        for k in range(ROUNDS):
            if not k or fresh:
                objective.set_points(sample(setup, network, self._points))
            theta, stop = _steps(optimizer, objective, theta)
            errors.append(self._error(network, theta))
            if errors[-1] < best.error:
                best = replace(start, theta=theta, error=errors[-1])
            stalled = k > 3 and min(errors[-3:]) > STALLED * min(errors[:-3])
            if stop or stalled or self._enough(best) or not math.isfinite(errors[-1]):
                break
        return best


def _steps(optimizer: LevenbergMarquardt, objective: Objective, theta: Tensor) -> tuple[Tensor, bool]:
    """Take a round of steps; True if there are no more."""
    for _ in range(ROUND):
        step = optimizer.step(objective, theta)
        theta = step.theta
        if step.stop:
            return theta, True
    return theta, False


def _take_out(alive: list[np.ndarray], unit: Unit) -> None:
    layer, node, other = unit
    if other is None:
        alive[layer][:, node] = False
    else:
        alive[layer][node, other] = False


def _finer(found: Pruned) -> Pruned:
    """The same function on half as long intervals, by the option `backbone.grid`, or of twice the polynomial degree."""
    options: Any = found.setup.backbone
    key = "grid" if hasattr(options, "grid") else "degree"
    setup = replace(found.setup, backbone=replace(options, **{key: 2 * getattr(options, key)}))
    network = setup.network()
    while network.level < found.network.level:
        network = network.refined()
    return replace(found, setup=setup, network=network, theta=refinement(found.network)(found.theta))
