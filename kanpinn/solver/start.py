"""Start of a solve from an earlier network: its parameters where the two networks are alike, else a fit to its values.

Networks see coordinates scaled to their box, so that in a box that reaches beyond the earlier one the solution is
stretched with it.
A network with more hidden layers, nodes or products is reached by edits that keep the function; any other one, and one
with other conditions built in or further unknowns, is fitted to the unknowns both have. Stages of the schedule on
coarser levels than the earlier network's are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kanpinn.backbones import Backbone
from kanpinn.backbones.coefficients import Coefficients
from kanpinn.backbones.edits import coarsening, edited, refinement
from kanpinn.backbones.parallel import Parallel
from kanpinn.backbones.separable.factors import Factors
from kanpinn.backbones.time_slabs import slab_networks
from kanpinn.errors import UserError
from kanpinn.jets.jet import JetSpace
from kanpinn.least_squares.residuals import Residuals
from kanpinn.least_squares.weighting import Fixed
from kanpinn.multilevel import Stage
from kanpinn.optimizers import LevenbergMarquardt
from kanpinn.pde import Point
from kanpinn.pde.problem import output_names
from kanpinn.pde.unknown import posed
from kanpinn.samplers import SAMPLERS
from kanpinn.solver.setup import Setup, Start

STEPS = 60
"""Levenberg–Marquardt steps of a fit."""
POINTS = 3
"""Points of a fit in multiples of the number of parameters, at least a thousand."""


def started(setup: Setup, old: Residuals, theta: Tensor, who: str) -> tuple[Setup, str]:
    """Return a setup that goes on from an earlier solve, and how it does so in words.

    Args:
        setup: The setup.
        old: Problem and network of the earlier solve.
        theta: Its parameters `[P]`.
        who: Its name in messages.

    Raises:
        UserError: If the two have no unknown in common, it has coordinates that the problem has not, it was stopped
            before its last time slabs, or the schedule tries random starts.
    """
    problem, key = setup.problem, f"start={who}"
    names, shared = problem.domain.names, [one for one in problem.unknowns if one in old.problem.unknowns]
    further = [one for one in old.problem.domain.names if one not in names]
    if further:
        raise UserError(f"{key}: its solution depends on {', '.join(further)}; the problem has {', '.join(names)}")
    if not shared:
        both = (", ".join(one.unknowns) for one in (old.problem, problem))
        raise UserError("{}: it has the unknowns {}, the problem {}: none is the same".format(key, *both))
    if not bool(theta.isfinite().all()):
        raise UserError(f"{key}: its network is not finite everywhere; has it been stopped before its last time slabs?")
    plan = setup.schedule.plan()
    if any(stage.trial is not None for stage in plan):
        raise UserError(f"{key}: schedule.starts above 1: random starts begin anew; valid choices: 1")
    sizes = setup.scales.outputs
    if output_names(old.problem) == output_names(problem) and old.scales.outputs:
        sizes = old.scales.outputs
    setup = replace(setup, known=replace(setup.scales, outputs=sizes))
    return _copied(setup, old, theta, plan, who) or _fitted(setup, old, theta, plan, shared, who)


def _levels(setup: Setup, plan: list[Stage], number: int) -> list[Backbone]:
    """Return a time slab's network on each of the schedule's levels, without coefficients."""
    part = setup.slab(number, None)
    found = [_bare(part.network())]
    while found[-1].refinable and len(found) <= max(stage.level for stage in plan):
        found.append(found[-1].refined())
    return found


def _bare(network: Backbone) -> Backbone:
    """Return a network without the coefficients behind its outputs."""
    kept = [layer for layer in network.layers if not isinstance(layer, Coefficients)]
    return replace(network, layers=tuple(kept), edits=())


def _whole(setup: Setup, number: int, network: Backbone, theta: Tensor) -> Tensor:
    """Return the parameters of a network with those of the coefficients, which begin at their own start."""
    count = setup.slab(number, None).network().size - _bare(setup.slab(number, None).network()).size
    return torch.cat([theta[: network.size], theta.new_zeros(count)])


def _entry(plan: list[Stage], level: int) -> int:
    """Return the number of the first stage on a level, or a finer one."""
    return next(k for k, stage in enumerate(plan) if stage.level >= level)


def _common(setup: Setup, plan: list[Stage], old: Backbone) -> int:
    """Return the finest level with intervals no shorter than the earlier network has on any time slab; 0 for none."""
    grid = min(one.grid or 0 for one in slab_networks(old))
    return max((n for n, one in enumerate(_levels(setup, plan, 0)) if (one.grid or 0) <= grid), default=0)


def _copied(setup: Setup, old: Residuals, theta: Tensor, plan: list[Stage], who: str) -> tuple[Setup, str] | None:
    """Return the setup with the earlier network's own parameters, moved exactly; None where the networks differ."""
    problem = setup.problem
    same = old.exact == setup.exact and old.problem.domain.names == problem.domain.names
    same = same and (old.problem.unknowns, output_names(old.problem)) == (problem.unknowns, output_names(problem))
    networks = slab_networks(old.backbone)
    level = _common(setup, plan, old.backbone)
    if same and problem.domain != old.problem.domain and not _stretched(setup, old):
        same = all(problem.domain.interval(n) == old.problem.domain.interval(n) for n in problem.domain.names)
    if not same or len(networks) != setup.schedule.slabs:
        return None
    entry, found = _entry(plan, level), list[Tensor]()
    reached = plan[entry].level
    for k, (network, own) in enumerate(zip(networks, torch.split(theta, [n.size for n in networks]), strict=True)):
        levels = _levels(setup, plan, k)
        moved = _moved(_bare(network), own[: _bare(network).size], levels[level], setup.random("initial", k))
        if moved is None:
            return None
        for coarse, fine in pairwise(levels[level : reached + 1]):
            moved = refinement(coarse, fine)(moved)
        found.append(_whole(setup, k, levels[: reached + 1][-1], moved))
    return replace(setup, start=Start(entry, tuple(found))), f"from the network of {who}, on level {reached}"


def _moved(network: Backbone, theta: Tensor, target: Backbone, generator: np.random.Generator) -> Tensor | None:
    """Return parameters `[P']` with which another network is the same function; None where no edits lead to it.

    Only intervals may be halved fewer times, to the nearest function.
    """
    while network.grid and target.grid and network.grid > target.grid:
        coarser = network.coarsened()
        if coarser is None:
            return None
        network, theta = coarser, coarsening(coarser, network)(theta)
    own, other = network.embedding, target.embedding
    alike = ("periodic", "symmetry", "wrapped", "width", "rounding")
    if any(getattr(own, one) != getattr(other, one) for one in alike) or own.frequencies is not None:
        return None
    try:
        for change in (_deeper, _wider, _further_products):
            edit = change(network, target)
            if edit is not None:
                found = edited(network, *edit, generator)
                network, theta = found.after, found(theta)
    except UserError:
        return None
    return theta if _described(network) == _described(target) else None


def _described(network: Backbone) -> list[Any]:
    """Describe every layer: its class, the shapes of its blocks, its functions; of layers side by side each."""
    found: list[Any] = []
    for layer in network.layers:
        if isinstance(layer, Parallel):
            found.append((layer.inputs, layer.outputs))
        parts = layer.layers if isinstance(layer, Parallel) else (layer,)
        found += [(type(one).__name__, dict(one.blocks.shapes), one.attributes()) for one in parts]
    return found


def _widths(network: Backbone) -> list[int]:
    """Return the widths of the hidden layers, of a separable network those of its first factor."""
    first = network.layers[0]
    layers = first.networks[0].layers if isinstance(first, Factors) else network.layers
    shapes = [next(iter(layer.blocks.shapes.values()), ()) for layer in layers]
    return [shape[0] for shape in shapes if len(shape) > 1][:-1]


def _deeper(network: Backbone, target: Backbone) -> tuple[str, Any] | None:
    more = len(_widths(target)) - len(_widths(network))
    return ("deepen", more) if more > 0 else None


def _wider(network: Backbone, target: Backbone) -> tuple[str, Any] | None:
    pairs = zip(_widths(network), _widths(target), strict=False)
    more = [b - a for a, b in pairs]
    return ("widen", more) if any(more) and min(more) >= 0 else None


def _further_products(network: Backbone, target: Backbone) -> tuple[str, Any] | None:
    first, other = network.layers[0], target.layers[0]
    more = other.terms - first.terms if isinstance(first, Factors) and isinstance(other, Factors) else 0
    return ("rank", more) if more > 0 else None


def _stretched(setup: Setup, old: Residuals) -> bool:
    """Tell whether the new box reaches beyond the earlier one."""
    pairs = [(setup.problem.domain.interval(n), old.problem.domain.interval(n)) for n in old.problem.domain.names]
    return any(a < c or b > d for (a, b), (c, d) in pairs)


def _fitted(
    setup: Setup, old: Residuals, theta: Tensor, plan: list[Stage], shared: list[str], who: str
) -> tuple[Setup, str]:
    """Return the setup with a network fitted to the earlier one's values of the unknowns that both have."""
    entry = _entry(plan, _common(setup, plan, old.backbone))
    thetas, worst = [], 0.0
    for k in range(setup.schedule.slabs):
        found, gap = _fit(setup.slab(k, None), _values(setup, old, theta, shared), plan[entry].level, shared)
        thetas.append(found)
        worst = max(worst, gap)
    words = f"fitted to {', '.join(shared)} of {who}, relative difference {worst:.1e}, on level {plan[entry].level}"
    return replace(setup, start=Start(entry, tuple(thetas))), words


def _values(setup: Setup, old: Residuals, theta: Tensor, shared: list[str]) -> Callable[[Tensor], Mapping[str, Tensor]]:
    """Return the earlier unknowns as a function of points `[N, d]` of the new domain."""
    names, stretched = setup.problem.domain.names, _stretched(setup, old)

    def at(points: Tensor) -> dict[str, Tensor]:
        columns = []
        for name in old.problem.domain.names:
            column = points[:, names.index(name)]
            (a, b), (c, d) = setup.problem.domain.interval(name), old.problem.domain.interval(name)
            columns.append(c + (column - a) * ((d - c) / (b - a)) if stretched else column)
        with torch.no_grad():
            space = JetSpace(old.problem.domain.names, ())
            found = old.fields(theta.to(points), torch.stack(columns, dim=1), space)
        return {name: found[name].value for name in shared}

    return at


def _fit(
    part: Setup, values: Callable[[Tensor], Mapping[str, Tensor]], level: int, shared: list[str]
) -> tuple[Tensor, float]:
    """Fit a time slab's network on a level to values; gives its parameters `[P]` and the relative difference."""
    names = part.problem.domain.names

    def difference(p: Point) -> dict[str, Tensor]:
        wanted = values(torch.stack([getattr(p, name) for name in names], dim=1))
        return {name: getattr(p, name) - wanted[name] for name in shared}

    copy = posed(part.problem, {"residual": difference, "conditions": list, "observed": (), "has_equations": True})
    fit = replace(part, problem=copy, weighting=Fixed())
    network = fit.network()
    while network.refinable and network.level < level:
        network = network.refined()
    objective, generator = fit.objective(network), part.random("initial")
    sampler = SAMPLERS["sobol"](interior=max(1000, POINTS * network.size), boundary=1)
    objective.set_points(sampler.draw(copy, 0, generator, dtype=part.dtype, device=part.device))
    theta = network.initial(generator).to(part.device, part.dtype)
    optimizer = LevenbergMarquardt()
    optimizer.start(network.size, STEPS)
    for _ in range(STEPS):
        step = optimizer.step(objective, theta)
        theta = step.theta
        if step.stop:
            break
    wanted = values(objective.collocation.by_term()["interior"])
    left = {name: value for _, name, value in objective.rows(theta)}
    of, norms = objective.residuals.scales.of, {n: float(wanted[n].norm()) or 1.0 for n in shared}
    return theta.cpu(), max(float(left[n].norm()) * of("interior", n) / norms[n] for n in shared)
