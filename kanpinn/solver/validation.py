"""Error of a network where it was not trained: rows held back of a table, fresh points of an equation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from kanpinn.backbones import Backbone
from kanpinn.evaluate.table_errors import held_rows
from kanpinn.least_squares.constraint import Constraint
from kanpinn.least_squares.weighting import Fixed
from kanpinn.samplers import SAMPLERS, CollocationSample
from kanpinn.solver.setup import Setup


def validation(setup: Setup, penalty: float = 1.0) -> Callable[[Backbone, Tensor], float]:
    """Return the measure of a network's error at points it was not trained at.

    Of a table the error in the rows held back, relative to the standard deviation of the target, or the cross-entropy
    of classes; of an equation the root of the loss at fresh points, with a penalty of all terms but data.
    """
    held = held_rows(setup.problem)
    if held is not None:
        names = setup.problem.domain.names  # rows beyond the training rows' box are seen at its boundary: no measure
        inside = np.all([held.rows[n] == held.points[:, k].numpy() for k, n in enumerate(names)], axis=0)
        if inside.sum() > 1:
            rows = {name: column[inside] for name, column in held.rows.items()}
            held = replace(held, points=held.points[torch.from_numpy(inside)], rows=rows)
        kind, chosen = "cross_entropy" if held.table.classes else "rmse", held

        def error(network: Backbone, theta: Tensor) -> float:
            found = chosen.errors(setup.residuals(network), theta)[kind].items()
            relative = [
                (value or 0.0) / (1.0 if chosen.table.classes else float(chosen.rows[n].std())) for n, value in found
            ]
            return float(np.sqrt(np.mean(np.square(relative))))

        return error
    plain, samples = replace(setup, weighting=Fixed()), dict[int, CollocationSample]()

    def residual(network: Backbone, theta: Tensor) -> float:
        if network.level not in samples:
            samples[network.level] = sample(setup, network, setup.random("check"), 2)
        objective = plain.objective(network, network.level, constraint=Constraint(factor=penalty))
        objective.set_points(samples[network.level])
        return math.sqrt(objective.loss(theta)[0])

    return residual


def sample(setup: Setup, network: Backbone, generator: np.random.Generator, times: int = 1) -> CollocationSample:
    """Draw so many times as many points, evenly spread, as the setup has on a network's level."""
    interior, boundary = setup.sampler.sizes(network.level, network.embedding.names, network.cells)
    sampler = SAMPLERS["sobol"](interior=times * interior, boundary=times * boundary)
    return sampler.draw(setup.problem_on(network.level), 0, generator, dtype=setup.dtype, device=setup.device)
