"""Why a coarse correction gains what it gains: how much of a Gauss-Newton step's fall the coarse space holds.

    python benchmarks/coarse_share.py [--problems poisson] [--optimizers levenberg_marquardt] [--seeds 0]

After nested training on a level, at fresh points, with J and g = Jᵀr there and P the prolongation from the level below:
the predicted fall of the loss is gᵀ(JᵀJ + λmI)⁻¹g over the whole space, and (Pᵀg)ᵀ(Pᵀ(JᵀJ + λmI)P)⁻¹Pᵀg over the coarse
one, m the mean of diag JᵀJ. Their ratio, the coarse share, bounds what a Galerkin correction can do there. In textbook
multigrid smoothing leaves it near 1; where it is small there is nothing for a coarse level to correct. Beside it, for
comparison, the share right after refinement, before the level is trained, and the share of the last layer alone.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import machine
import torch
from cycles_plan import COMMON, LEVELS, OPTIMIZERS, PROBLEMS
from torch import Tensor

from kanpinn.least_squares.linearization import gram
from kanpinn.multilevel.correction import Transfer
from kanpinn.settings.compose import compose
from kanpinn.settings.config import validate
from kanpinn.solver.level_changes import enter
from kanpinn.solver.slab_solve import SlabSolve
from kanpinn.solver.solve import train

DAMPINGS = (1e-3, 1e-9)


def fall(matrix: Tensor, gradient: Tensor, shift: Tensor) -> float:
    """gᵀ(A + S)⁻¹g for A `[P, P]`, g `[P]` and S `[P, P]`, in units of the loss."""
    return float(gradient @ torch.linalg.solve(matrix + shift, gradient))


def shares(training: SlabSolve, transfer: Transfer) -> tuple[list[float], list[float]]:
    """Coarse share and last layer's share at the network under work, one per damping.

    Args:
        training: On a level above the coarsest.
        transfer: From the level below.
    """
    training.resample(training.hierarchy.theta)
    found = training.least_squares.linearize(training.hierarchy.theta).dense()
    matrix, g = gram(found.jacobian), found.gradient
    identity = torch.eye(len(g), dtype=g.dtype)
    restrict, last = transfer.prolong_transpose, training.backbone.last_layer
    coarse, layer = [], []
    for damping in DAMPINGS:
        shift = damping * matrix.diagonal().mean() * identity
        whole = fall(matrix, g, shift)
        coarse.append(fall(restrict(restrict(matrix).T), restrict(g), restrict(restrict(shift).T)) / whole)
        layer.append(fall(matrix[last, last], g[last], shift[last, last]) / whole)
    return coarse, layer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", default=PROBLEMS)
    parser.add_argument("--optimizers", nargs="+", default=list(OPTIMIZERS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    arguments = parser.parse_args()
    began = time.perf_counter()
    columns = [f"{what}, λ = {d:g}" for what in ("refined", "trained", "last layer") for d in DAMPINGS]
    print("| problem | optimizer | seed | level | " + " | ".join(columns) + " |")
    print("|---|---|--:|--:|" + "--:|" * len(columns))
    for problem in arguments.problems:
        for name in arguments.optimizers:
            for seed in arguments.seeds:
                words = [
                    f"problem={problem}",
                    "backbone=kan",
                    f"optimizer={name}",
                    f"schedule.levels={LEVELS}",
                    f"seed={seed}",
                ]
                configuration = validate(compose([*words, *OPTIMIZERS[name].overrides, *COMMON])[0])
                training = SlabSolve(replace(configuration.setup, points=101))
                scale = OPTIMIZERS[name].steps
                for stage in configuration.setup.plan():
                    enter(training, stage)
                    before = None
                    if stage.level:
                        transfer = training.hierarchy.transfer(stage.level - 1)
                        before, _ = shares(training, transfer)
                    steps = max(1, round(scale * stage.steps))
                    shortened = type(stage)(stage.level, steps, stage.stop)
                    training.settle(train(training, shortened))
                    if before is not None:
                        after, layer = shares(training, transfer)
                        cells = " | ".join(f"{value:.0%}" for value in (*before, *after, *layer))
                        print(f"| {problem} | {name} | {seed} | {stage.level} | {cells} |", flush=True)
    print(f"\n{machine.cpu_model()}, torch {torch.__version__}, {time.perf_counter() - began:.0f} s.")


if __name__ == "__main__":
    main()
