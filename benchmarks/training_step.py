"""Seconds of a training step of one KAN: kanpinn, a dense layer as efficient-kan's, and pykan in its own environment.

    python benchmarks/training_step.py [--peers-python .venv-peers/bin/python] [--dtype float32]     # minutes
    python benchmarks/training_step.py --reach 0.1 0.01 0.001 --peers-python .venv-peers/bin/python

The networks are cubic splines on five intervals with SiLU base terms and spline scales (Liu et al. 2024, eq. 2.10) at
1000 points. A step of Adam is loss, gradient and update; one of Levenberg–Marquardt is loss, normal equations,
factorisation and the trial loss. Times are processor times of one thread, the least of several rounds, as other work on
the machine disturbs those least; all arms take turns, and the table has the median of the turns. With `--reach` the
processor times of [2,5,1] until the root mean square error at the points is below some: of Levenberg–Marquardt here, of
L-BFGS with grid updates as in `fit` of pykan there, seeds 0 to 4.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median

import machine
import numpy as np
import torch
from torch import Tensor, nn

import kanpinn
from kanpinn.pde.table import table_of
from kanpinn.settings.objects import configuration_of_objects
from kanpinn.solver.level_changes import enter
from kanpinn.solver.slab_solve import SlabSolve

WIDTHS = ([2, 5, 1], [4, 8, 8, 1], [4, 64, 64, 1])
GRID, DEGREE, POINTS = 5, 3, 1000


class DenseLayer(nn.Module):
    """A layer as efficient-kan computes it: all bases at all points by the recursion of Cox and de Boor, two products.

    y = W_b SiLU(x) + Σ_i (w_s W)_i B_i(x); Blealtan's reformulation of pykan's layer, written anew here.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        """Draw parameters at random."""
        super().__init__()
        knots = torch.arange(-DEGREE, GRID + DEGREE + 1, dtype=torch.get_default_dtype()) * (2 / GRID) - 1
        self.register_buffer("knots", knots.expand(inputs, -1).contiguous())
        self.base = nn.Parameter(torch.randn(outputs, inputs) / inputs**0.5)
        self.spline = nn.Parameter(0.1 * torch.randn(outputs, inputs, GRID + DEGREE))
        self.scale = nn.Parameter(torch.ones(outputs, inputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map `[N, in]` to `[N, out]`."""
        knots, places = self.knots, x[..., None]
        bases = ((places >= knots[:, :-1]) & (places < knots[:, 1:])).to(x)
        for k in range(1, DEGREE + 1):
            left = (places - knots[:, : -k - 1]) / (knots[:, k:-1] - knots[:, : -k - 1])
            right = (knots[:, k + 1 :] - places) / (knots[:, k + 1 :] - knots[:, 1:-k])
            bases = left * bases[..., :-1] + right * bases[..., 1:]
        splines = nn.functional.linear(bases.flatten(1), (self.spline * self.scale[..., None]).flatten(1))
        return nn.functional.linear(nn.functional.silu(x), self.base) + splines


def data(width: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return points `[N, in]` and values `[N]`."""
    points = np.random.default_rng(0).uniform(-1, 1, (POINTS, width[0]))
    return points, np.exp(np.sin(np.pi * points[:, 0]) + points[:, 1] ** 2)


def least(step: Callable[[], object], rounds: int) -> float:
    """The least processor time of a step."""
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        step()
        best = min(best, time.process_time() - start)
    return best


def dense(width: list[int], rounds: int) -> float:
    """Seconds of a step of Adam on dense layers."""
    points, values = (torch.from_numpy(one).to(torch.get_default_dtype()) for one in data(width))
    network = nn.Sequential(*(DenseLayer(a, b) for a, b in pairwise(width)))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        (network(points)[:, 0] - values).square().mean().backward()
        optimizer.step()

    return least(step, rounds)


@dataclass
class Ours:
    """A network of ours with its optimiser, ready for a step."""

    training: SlabSolve

    @staticmethod
    def of(width: list[int], optimizer: str, base: bool, seed: int = 0) -> Ours:
        """Build it; without `base` as kanpinn does by default, without base terms and scales."""
        points, values = data(width)
        columns = {f"x{k}": column for k, column in enumerate(points.T)} | {"y": values}
        network = kanpinn.Kan(width=width[1:-1], degree=DEGREE, grid=GRID, base=base, squash="none")
        overrides = [network, "schedule=single", "schedule.levels=1", "schedule.steps=1", f"optimizer={optimizer}"]
        overrides += [f"seed={seed}", f"dtype={str(torch.get_default_dtype())[6:]}"]
        setup = configuration_of_objects(table_of(columns, ["y"]), overrides).setup
        training = SlabSolve(setup)
        enter(training, replace(setup.plan()[0], steps=1000))
        training.resample(training.hierarchy.theta)
        return Ours(training)

    def seconds(self, rounds: int) -> float:
        """Seconds of a step from where the network began."""
        problem, theta = self.training.least_squares, self.training.hierarchy.theta
        optimizer = self.training.setup.optimizer
        optimizer.start(problem.size, 1000)

        def step() -> None:
            nonlocal theta
            theta = optimizer.step(problem, theta).theta

        return least(step, rounds)

    def reached(self, errors: list[float], limit: float) -> dict[str, float | None]:
        """Processor times until the error at the points is below each of some."""
        problem, theta = self.training.least_squares, self.training.hierarchy.theta
        scale, optimizer = self.training.objective.residuals.scales.of("data", "y"), self.training.setup.optimizer
        optimizer.start(problem.size, 1000)
        found: dict[str, float | None] = dict.fromkeys(map(str, errors))
        start = time.process_time()
        while time.process_time() - start < limit and None in found.values():
            step = optimizer.step(problem, theta)
            theta = step.theta
            for one in errors:
                if scale * step.loss**0.5 <= one and found[str(one)] is None:
                    found[str(one)] = time.process_time() - start
            if step.stop:
                break
        return found


def pykan(python: Path, width: list[int], *words: object) -> dict[str, float]:
    """Seconds of pykan's steps, by variant."""
    script = Path(__file__).parent / "peers" / "pykan_step.py"
    command = [python, script, "--width", *width, "--dtype", str(torch.get_default_dtype())[6:], *words]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])["seconds"]


def measured(width: list[int], python: Path | None, rounds: int) -> dict[str, float]:
    """Return the seconds of all steps of a network, by name."""
    many = max(3, rounds // max(width))
    found = {} if python is None else pykan(python, width, "--rounds", many)
    found["dense layers, Adam"] = dense(width, many)
    found["kanpinn with base terms, Adam"] = Ours.of(width, "adam", base=True).seconds(rounds)
    found["kanpinn, Adam"] = Ours.of(width, "adam", base=False).seconds(rounds)
    if max(width) < 20:
        found["kanpinn with base terms, LM"] = Ours.of(width, "levenberg_marquardt", base=True).seconds(many)
        found["kanpinn, LM"] = Ours.of(width, "levenberg_marquardt", base=False).seconds(many)
    return found


def steps(given: argparse.Namespace) -> None:
    """Print the table of steps, and the ratios to the one with base terms."""
    turns = [[measured(width, given.peers_python, given.rounds) for width in WIDTHS] for _ in range(given.turns)]
    names, own = list(turns[0][0]), "kanpinn with base terms, Adam"
    print("| ms per step (of base terms with Adam) | " + " | ".join(map(str, WIDTHS)) + " |", end="\n")
    print("|---|" + "--:|" * len(WIDTHS))
    for name in names:
        cells = []
        for column in zip(*turns, strict=True):
            if name not in column[0]:
                cells.append("")
                continue
            ratios = sorted(turn[name] / turn[own] for turn in column)
            seconds = 1e3 * median(turn[name] for turn in column)
            cells.append(f"{seconds:.3g} ({median(ratios):.3g}×, {ratios[0]:.3g} to {ratios[-1]:.3g})")
        print(f"| {name} | " + " | ".join(cells) + " |")


def reach(given: argparse.Namespace) -> None:
    """Print the seconds to errors, by seed."""
    for seed in range(5):
        there = None
        if given.peers_python:
            words = ("--reach", *given.reach, "--limit", given.limit, "--seed", seed)
            there = pykan(given.peers_python, WIDTHS[0], *words)
        here = Ours.of(WIDTHS[0], "levenberg_marquardt", base=True, seed=seed).reached(given.reach, given.limit)
        print(f"seed {seed}: kanpinn {here}; pykan {there}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time a training step of kanpinn, dense layers and pykan.")
    parser.add_argument("--peers-python", type=Path, help="Python with pykan (default: none)")
    parser.add_argument("--rounds", type=int, default=100, help="steps of a turn (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--dtype", choices=("float64", "float32"), default="float64")
    parser.add_argument("--reach", type=float, nargs="+", metavar="E", help="errors to reach instead")
    parser.add_argument("--limit", type=float, default=30.0, help="seconds to reach them (default: %(default)s)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_default_dtype(getattr(torch, given.dtype))
    print(f"{machine.cpu_model()}, one thread, load {machine.load()}, torch {torch.__version__}, {given.dtype}\n")
    (reach if given.reach else steps)(given)


if __name__ == "__main__":
    main()
