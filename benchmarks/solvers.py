"""Solvers of the damped Gauss–Newton system: their accuracy, their cost and what that is worth.

    python benchmarks/solvers.py [--parts accuracy networks products runs] [--seeds 0]

accuracy: relative error of the step, against 60 digits, for random J of condition number 1e2 … 1e10 and damping λ
relative to the mean of diag JᵀJ. networks: the same for Jacobians of trained networks, against QR with residuals in
extended precision. products: seconds of JᵀJ by `gram` and by BLAS's dsyrk. runs: `kanpinn solve` with each solver at
equal steps. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import io
import math
import tempfile
import time
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import machine
import mpmath
import numpy as np
import scipy.linalg
import scipy.linalg.blas
import torch
from torch import Tensor

import kanpinn
from kanpinn.least_squares.linearization import Dense, gram
from kanpinn.optimizers.damped_systems import SOLVERS
from kanpinn.settings.compose import compose
from kanpinn.settings.config import validate
from kanpinn.solver.level_changes import enter
from kanpinn.solver.slab_solve import SlabSolve
from kanpinn.solver.solve import train

CONDITIONS = (1e2, 1e4, 1e6, 1e8, 1e10)
DAMPINGS = (1e-6, 1e-12, 1e-18)
ROWS, SIZE = 60, 20
PARTS = ("accuracy", "networks", "products", "runs")
CASES = [(problem, backbone) for problem in ("poisson", "helmholtz") for backbone in ("kan", "separable")]


def graded(condition: float, seed: int) -> tuple[Tensor, Tensor]:
    """J `[ROWS, SIZE]` with singular values evenly spread in the logarithm, and a residual close to its range."""
    generator = np.random.default_rng(seed)
    u = np.linalg.qr(generator.standard_normal((ROWS, SIZE)))[0]
    w = np.linalg.qr(generator.standard_normal((SIZE, SIZE)))[0]
    j = torch.from_numpy(u * np.geomspace(1, 1 / condition, SIZE) @ w.T)
    near = torch.from_numpy(generator.standard_normal(ROWS))
    return j, j @ torch.from_numpy(generator.standard_normal(SIZE)) + 1e-3 * near


def exact(j: Tensor, r: Tensor, shift: float) -> np.ndarray:
    """−(JᵀJ + s I)⁻¹Jᵀr `[P]` in 60 digits."""
    with mpmath.workdps(60):
        matrix, right = mpmath.matrix(j.tolist()), mpmath.matrix(r.tolist())
        normal = matrix.T * matrix + mpmath.mpf(shift) * mpmath.eye(j.shape[1])
        return np.array([float(x) for x in mpmath.lu_solve(normal, -(matrix.T * right))])


def refined(j: Tensor, r: Tensor, shift: float) -> np.ndarray:
    """The same for a large J: QR of [J; √s I] with its residuals in extended precision, corrected until they stay.

    Iterative refinement of the augmented system (Björck 1967, BIT 7, 257), which converges where ε cond < 1.
    """
    size, root = j.shape[1], math.sqrt(shift)
    stacked = np.vstack([j.numpy(), root * np.eye(size)])
    q, triangle = scipy.linalg.qr(stacked, mode="economic")
    wide, b = stacked.astype(np.longdouble), np.append(-r.numpy(), np.zeros(size)).astype(np.longdouble)
    x, s = np.zeros(size, np.longdouble), np.zeros(len(b), np.longdouble)
    for _ in range(6):
        f, g = (b - s - wide @ x).astype(float), -(wide.T @ s).astype(float)
        # [I A; Aᵀ 0] (ds, dx) = (f, g)
        h = scipy.linalg.solve_triangular(triangle, g, trans="T")
        d = q.T @ f
        x += scipy.linalg.solve_triangular(triangle, d - h)
        s += f - q @ (d - h)
    return x.astype(float)


def errors(j: Tensor, r: Tensor, damping: float, expected: np.ndarray) -> dict[str, float]:
    """Relative error of every solver's step."""
    loss = float(r.square().sum())
    shift = damping * float(j.square().sum(0).mean())
    found = {}
    for name, solver in SOLVERS.items():
        system = solver([Dense(j, j.T @ r, loss, {}, r)])
        step = system.solve(shift, -system.gradient, None)
        found[name] = (
            math.nan if step is None else float(np.linalg.norm(step.numpy() - expected) / np.linalg.norm(expected))
        )
    return found


def shown(found: dict[str, float]) -> str:
    """One cell per solver; "fails" where there is no factorisation."""
    return " | ".join("fails" if math.isnan(e) else f"{e:.0e}" for e in found.values())


def accuracy(seeds: list[int]) -> None:
    """Print the medians over seeds for random J."""
    print("| cond J | λ | " + " | ".join(SOLVERS) + " |\n|--:|--:|" + "--:|" * len(SOLVERS))
    for condition in CONDITIONS:
        for damping in DAMPINGS:
            each = []
            for seed in seeds:
                j, r = graded(condition, seed)
                shift = damping * float(j.square().sum(0).mean())
                each.append(errors(j, r, damping, exact(j, r, shift)))
            median = {name: float(np.median([e[name] for e in each])) for name in SOLVERS}
            print(f"| {condition:.0e} | {damping:.0e} | {shown(median)} |", flush=True)


def networks() -> None:
    """Print the same for the Jacobians at the ends of three levels of few steps."""
    print("| network | level | cond J | λ | " + " | ".join(SOLVERS) + " |\n|---|--:|--:|--:|" + "--:|" * len(SOLVERS))
    for problem, backbone in CASES:
        configuration = validate(
            compose([f"problem={problem}", f"backbone={backbone}", "schedule.levels=3", "schedule.steps=[30,15,15]"])[0]
        )
        training = SlabSolve(replace(configuration.setup, points=21))
        for stage in configuration.setup.plan():
            enter(training, stage)
            training.settle(train(training, stage))
            found = training.least_squares.linearize(training.hierarchy.theta).dense()
            j, r = found.jacobian, found.residual
            values = torch.linalg.svdvals(j)
            condition = float(values[0] / values[-1].clamp_min(1e-300))
            for damping in (1e-6, 1e-10, 1e-14):
                shift = damping * float(j.square().sum(0).mean())
                cells = shown(errors(j, r, damping, refined(j, r, shift)))
                cond = f"{condition:.0e}" if condition < 1e16 else "> 1e16"
                print(f"| {problem}, {backbone} | {stage.level} | {cond} | {damping:.0e} | {cells} |", flush=True)


def products() -> None:
    """Print the seconds of JᵀJ, best of five."""
    print("| rows × parameters | gram | dsyrk | JᵀJ as a general product |\n|---|--:|--:|--:|")
    for rows, size in ((2000, 500), (4000, 1000), (8000, 2000)):
        j = torch.from_numpy(np.random.default_rng(0).standard_normal((rows, size)))
        ways = (
            lambda j=j: gram(j),
            lambda j=j: scipy.linalg.blas.dsyrk(1.0, j.numpy().T),  # the transpose is what Fortran sees of J
            lambda j=j: j.T @ j,
        )
        cells = " | ".join(f"{best(way):.3f}" for way in ways)
        print(f"| {rows} × {size} | {cells} |", flush=True)


def best(way) -> float:
    """Seconds of the fastest of five calls."""
    times = []
    for _ in range(5):
        began = time.perf_counter()
        way()
        times.append(time.perf_counter() - began)
    return min(times)


def runs(seeds: list[int]) -> None:
    """Print loss, error and processor seconds of whole runs."""
    print("| problem | network | solver | seed | rel. L2 error | loss | CPU s |\n|---|---|---|--:|--:|--:|--:|")
    for problem, backbone in CASES:
        for solver in SOLVERS:
            for seed in seeds:
                words = [f"problem={problem}", f"backbone={backbone}", f"optimizer.solver={solver}", f"seed={seed}"]
                began = time.process_time()
                with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
                    quiet = ["output.figures=false", "output.progress=false", f"hydra.run.dir={Path(folder) / 'run'}"]
                    metrics = kanpinn.solve([*words, *quiet]).metrics
                seconds, error = time.process_time() - began, next(iter(metrics["relative_l2"].values()))
                loss = metrics["loss"]
                print(f"| {problem} | {backbone} | {solver} | {seed} | {error:.1e} | {loss:.1e} | {seconds:.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for part in arguments.parts:
        print(f"\n{part}\n", flush=True)
        if part in ("accuracy", "runs"):
            {"accuracy": accuracy, "runs": runs}[part](arguments.seeds)
        else:
            {"networks": networks, "products": products}[part]()
    print(f"\n{machine.cpu_model()}, torch {torch.__version__}, {arguments.threads} threads, load {machine.load()}.")


if __name__ == "__main__":
    main()
