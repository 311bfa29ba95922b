"""Ways to estimate the error without a reference, on the same short solves: which is near the true error?

    python benchmarks/estimators.py [--problems acoustics plate …] [--set KEY=VALUE …]

Problems of the blind suite's development part, their references hidden. For each: the true error of the worst unknown;
`defect`, kanpinn's own estimate; `level`, the change by one level more, trained for ten steps; `wider`, that by a
network twice as wide, fitted to the first and trained for ten steps; `stable`, the residual at points that no training
has seen, in the mean square of the loss, times the largest ‖δu‖/‖δr‖ that a change of the network's parameters has
there: the reciprocal of the Jacobian's smallest singular value, in the norm of the solution. Ratios to the true error,
and seconds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np
import torch
from scipy.linalg import svdvals
from torch import Tensor
from untuned import errors, hidden, part_of, texts

import kanpinn
from kanpinn.least_squares.objective import Objective
from kanpinn.least_squares.weighting import Fixed
from kanpinn.pde.text_problem import text_problem
from kanpinn.samplers import SAMPLERS

SHORT = ("backbone=kan", "schedule.levels=1", "schedule.steps=[20]")
PLAIN = ("threads=1", "output.figures=false", "output.progress=false", "seed=0")
WIDTH = 5
CUTOFF = 1e-10
"""Share of the largest singular value below which directions of the parameters change nothing."""


def changed(old: kanpinn.Solution, new: kanpinn.Solution, points: np.ndarray) -> dict[str, float]:
    """Return the relative change of each unknown."""
    a, b = old(points), new(points)
    return {key: float(np.linalg.norm(b[key] - a[key]) / np.linalg.norm(b[key])) for key in a}


def stable(solution: kanpinn.Solution, unknown: str) -> float:
    """Return ‖r‖ sup ‖δu‖/‖δr‖, relative to ‖u‖, at fresh points."""
    residuals, theta = solution.residuals, solution.theta
    objective = Objective(residuals, Fixed())
    sampler = SAMPLERS["sobol"](interior=max(1000, 3 * len(theta)), boundary=200)
    sample = sampler.draw(residuals.problem, 7, np.random.default_rng(7), dtype=theta.dtype, device=theta.device)
    objective.set_points(sample)
    linear = objective.linearize(theta).dense()
    inner = sample.interior.points

    def output(parameters: Tensor) -> Tensor:
        return residuals.fields(parameters, inner)[unknown].value

    u = output(theta).detach()
    slopes = torch.autograd.functional.jacobian(output, theta).numpy()
    _, sizes, right = np.linalg.svd(linear.jacobian.detach().numpy(), full_matrices=False)
    kept = sizes > CUTOFF * sizes[0]
    largest = svdvals(slopes @ right[kept].T / sizes[kept])[0] / np.sqrt(len(inner))
    return float(linear.residual.norm()) * largest / float(u.square().mean().sqrt())


def row(name: str, words: Sequence[str]) -> str:
    """Return a problem's line of the table."""
    problem = text_problem(name, {key: value for key, value in hidden(name).items() if key != "name"})
    solution = kanpinn.solve(problem, *PLAIN, *SHORT, f"backbone.width=[{WIDTH}]", *words)
    own = errors(name, solution)
    worst = max(own, key=lambda key: own[key])
    points = np.random.default_rng(1).uniform(problem.domain.lower, problem.domain.upper, (4000, len(problem.domain)))
    points = points[problem.domain.contains(points)]
    defect = (solution.metrics["error_estimate"] or {}).get(worst)
    cells = [name, f"{own[worst]:.1e}", "–" if defect is None else f"{defect / own[worst]:.2g}"]
    cells[-1] += "" if solution.metrics["error_estimate_trusted"] else " (?)"
    more = {
        "level": ("backbone=kan", "schedule.levels=2", "schedule.steps=[20,10]", f"backbone.width=[{WIDTH}]"),
        "wider": ("backbone=kan", "schedule.levels=1", "schedule.steps=[10]", f"backbone.width=[{2 * WIDTH}]"),
    }
    for way in more.values():
        began = time.perf_counter()
        other = kanpinn.solve(problem, *PLAIN, *way, *words, start=solution)
        ratio = changed(solution, other, points)[worst] / own[worst]
        cells.append(f"{ratio:.2g} ({time.perf_counter() - began:.0f} s)")
    began = time.perf_counter()
    bound = stable(solution, worst) / own[worst]
    return f"| {' | '.join([*cells, f'{bound:.2g} ({time.perf_counter() - began:.0f} s)'])} |"


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare ways to estimate the error.")
    dev = [name for name in sorted(texts()) if part_of(name) == "dev"]
    parser.add_argument("--problems", nargs="+", choices=sorted(texts()), default=dev, metavar="P")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="overrides of all solves")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("| problem, worst unknown | error | defect | level | wider | stable |\n|---|--:|--:|--:|--:|--:|")
    for name in given.problems:
        try:
            print(row(name, given.set), flush=True)
        except (kanpinn.UserError, RuntimeError) as error:
            print(f"| {name} | {str(error)[:60]} |", flush=True)


if __name__ == "__main__":
    main()
