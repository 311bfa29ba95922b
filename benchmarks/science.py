"""The experiments of KAN and KAN 2.0, with their published numbers and order of winners: `benchmarks/science.md`.

    python benchmarks/science.py [--experiments xy image] [--seeds 0 1 2 3 4]     # an hour, one thread

Every arm is `kanpinn solve experiment=NAME` with a few overrides. Runs already in the CSV file are not repeated but for
those whose curves a figure lacks; the table and the figures are made of what is there. `image` and `digits` need the
extra `science`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rows
import science_data as data
import torch
from science_figures import figures
from science_table import Run, table
from sources import ROOT

import kanpinn
from kanpinn.evaluate.grid_evaluation import reference_values
from kanpinn.io.atomic import write_text
from kanpinn.symbolic.formula import as_json, closed_forms, tolerance_of

QUIET = ("threads=1", "output.figures=false", "output.progress=false")
BEST = ("optimizer=levenberg_marquardt",)
Solution = kanpinn.Solution
Found = tuple[float, str]
"""The error of a run, and what else it found, in words."""


@dataclass(frozen=True)
class Arm:
    """One way to do an experiment.

    Attributes:
        experiment: Its name.
        name: Name of the arm.
        run: Makes it in a folder for a seed: its last solution, the error and what was found.
    """

    experiment: str
    name: str
    run: Callable[[Path, int], tuple[Solution, Found]]


def solved(experiment: str, folder: Path, seed: int, *overrides: str) -> Solution:
    """Return one solve of an experiment in a new folder."""
    words = [f"experiment={experiment}", f"seed={seed}", *QUIET, *overrides]
    return kanpinn.solve([*words, f"hydra.run.dir={folder / str(len(list(folder.iterdir())))}"])


def function(experiment: str, *overrides: str) -> Callable[[Path, int], tuple[Solution, Found]]:
    """Return an arm whose error is the root mean square at fresh points."""

    def run(folder: Path, seed: int) -> tuple[Solution, Found]:
        solution = solved(experiment, folder, seed, *overrides)
        points = np.random.default_rng(10**6 + seed).uniform(-1, 1, (10000, 2))
        wanted = reference_values(solution.problem, torch.from_numpy(points))["u"]
        return solution, (data.rms(solution(points)["u"] - wanted), "")

    return run


def scaling(folder: Path, seed: int) -> tuple[Solution, Found]:
    """Errors of all levels; what is found is their slope by intervals and by parameters from 10 to 160 intervals."""
    solution = solved("scaling", folder, seed)
    levels = solution.metrics["levels"]
    error = np.array([level["relative_l2"]["u"] for level in levels])
    size, grid = (np.array([level[key] for level in levels]) for key in ("parameters", "grid"))
    last = grid > grid[-1] / 20
    by_grid, by_size = (np.polyfit(np.log(x[last]), np.log(error[last]), 1)[0] for x in (grid, size))
    text = " ".join(f"{n}:{e:.3e}" for n, e in zip(size, error, strict=True))
    return solution, (float(error[-1]), f"slope {by_grid:.2f}; by parameters {by_size:.2f}; {text}")


def continual(*overrides: str) -> Callable[[Path, int], tuple[Solution, Found]]:
    """Return an arm that is shown the peaks one by one; the error is over all of them at the end."""

    def run(folder: Path, seed: int) -> tuple[Solution, Found]:
        x, errors, start = np.linspace(-1, 1, 2001), [], ()
        wanted = np.exp(-300 * (x[:, None] - np.linspace(-0.8, 0.8, 5)) ** 2).sum(1)
        for phase in range(1, 6):
            solution = solved("continual", folder, seed, f"problem.phase={phase}", *start, *overrides)
            start = (f"start={solution.folder}",)
            values = data.network_values(solution, x[:, None])["u"]
            seen = x <= 0.4 * (phase - 3) + 0.2
            errors.append(data.rms((values - wanted)[seen]))
        np.savez_compressed(data.kept("continual", overrides, seed), x=x, u=values, wanted=wanted)
        return solution, (errors[-1], "over those seen: " + " ".join(f"{e:.1e}" for e in errors))

    return run


def oscillator(folder: Path, seed: int) -> tuple[Solution, Found]:
    """Distance of H from a function of the energy, a polynomial of degree 16; relative to its spread."""
    solution = solved("harmonic_oscillator", folder, seed)
    generator = np.random.default_rng(0)
    radius, angle = np.sqrt(generator.uniform(0, 1, 4000)), generator.uniform(0, 2 * np.pi, 4000)
    values = solution(np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1))["H"]
    fit = np.polynomial.Chebyshev.fit(radius**2 / 2, values, 16)
    return solution, (data.rms(fit(radius**2 / 2) - values) / float(np.std(values)), "a function of (x² + p²)/2")


def law(experiment: str, *overrides: str, tries: tuple[str, ...] = ()) -> Callable[[Path, int], tuple[Solution, Found]]:
    """Return an arm that ends with a formula of every unknown: the error is the formulas', infinite without one."""

    def run(folder: Path, seed: int) -> tuple[Solution, Found]:
        solution = solved(experiment, folder, seed, *overrides)
        return solution, formulas(solution, tries)

    return run


def formulas(solution: Solution, tries: tuple[str, ...]) -> Found:
    """Search for closed forms, those of `tries` among given ones; the largest relative error to the reference."""
    tolerance, searched = 3 * tolerance_of(solution.metrics), {}
    named = {text.partition(" ")[0]: text for text in tries}
    for text in ((), *([text] for text in tries)):
        if len(named) == len(solution.problem.unknowns) and not text:
            continue
        found = as_json(closed_forms(solution.residuals, solution.theta, tolerance, text))
        searched |= {name: one for name, one in found.items() if text or name not in named}
    good = all(one["sympy"] is not None for one in searched.values())
    error = max(one["error_to_reference"] for one in searched.values()) if good else float("inf")
    return error, "; ".join(f"{name} = {one['sympy']}" for name, one in searched.items())


def hookean(*, linear: bool) -> Callable[[Path, int], tuple[Solution, Found]]:
    """Return an arm of the constitutive law, started from the linear law or at random."""

    def run(folder: Path, seed: int) -> tuple[Solution, Found]:
        start = ()
        if linear:
            first = solved("neo_hookean", folder, seed, "problem.linear=true", "schedule.levels=1", "schedule.steps=40")
            start = (f"start={first.folder}",)
        solution = solved("neo_hookean", folder, seed, *start)
        tried = "P11 = a*(F11**2 + F12**2 - 1) + b*log(F11*F22 - F12*F21)"
        return solution, formulas(solution, (tried,))

    return run


def picture(*overrides: str) -> Callable[[Path, int], tuple[Solution, Found]]:
    """Return an arm of the image: its error is the root mean square of the picture in [0, 1]."""

    def run(folder: Path, seed: int) -> tuple[Solution, Found]:
        solution = solved("image", folder, seed, *overrides)
        error = solution.metrics["data"]["train"]["rmse"]["grey"]
        np.savez_compressed(data.kept("image", overrides, seed), picture=data.picture(solution))
        return solution, (error, f"PSNR {-20 * np.log10(error):.1f} dB")

    return run


def classified(*overrides: str) -> Callable[[Path, int], tuple[Solution, Found]]:
    """Return an arm of the digits: its error is the share of the test rows that are taken for another one."""

    def run(folder: Path, seed: int) -> tuple[Solution, Found]:
        solution = solved("digits", folder, seed, *overrides)
        right = {part: solution.metrics["data"][part]["accuracy"]["label"] for part in ("train", "validation", "test")}
        told = ", ".join(f"{part} {100 * right[part]:.1f} %" for part in ("train", "validation"))
        return solution, (1 - right["test"], f"accuracy: {told}")

    return run


SPARSE = ("weighting.sparsity=0.01",)
FOR_U = ("weighting.sparsity=1.86e-3",)
"""0.01 over the mean square of exp(cos πx + y²), 5.39: the same weight beside u² as pykan's beside its loss."""

UPDATES = ("backbone.grid_updates=3", "backbone.grid_updates_until=800")
"""Three grid updates in 25 epochs of 32 steps."""

MATRIX = ("backbone.first=linear", "backbone.base=false")
DECAYED = ("schedule.steps=600", "optimizer.lr=1e-2", "optimizer.decay=exponential", "optimizer.weight_decay=3")

ARMS = (
    Arm("xy", "KAN, Adam, as published", function("xy", *SPARSE)),
    Arm("xy", "KAN, Adam, three grid updates", function("xy", *SPARSE, *UPDATES)),
    Arm("xy", "KAN, Levenberg–Marquardt", function("xy", *BEST, "schedule.steps=60")),
    Arm("exp_sin", "KAN of 120, Adam, as published", function("exp_sin")),
    Arm("exp_sin", "MLP of 121, Adam, as published", function("exp_sin", "backbone=mlp")),
    Arm("exp_sin", "KAN of 120, Levenberg–Marquardt", function("exp_sin", *BEST, "schedule.steps=60")),
    Arm("exp_sin", "MLP of 121, Levenberg–Marquardt", function("exp_sin", "backbone=mlp", *BEST, "schedule.steps=60")),
    Arm("tutorial", "KAN, 20 steps of L-BFGS, penalty", function("tutorial", *SPARSE, "weighting.entropy=10")),
    Arm("tutorial", "KAN, 20 steps of L-BFGS, penalty for u", function("tutorial", *FOR_U, "weighting.entropy=10")),
    Arm("tutorial", "KAN, 20 steps of L-BFGS", function("tutorial")),
    Arm("tutorial", "KAN, 20 steps of Levenberg–Marquardt", function("tutorial", *BEST)),
    Arm("scaling", "KAN [2,1,1], six grids", scaling),
    Arm("continual", "KAN [1,1]", continual()),
    Arm("continual", "MLP [1,67,1]", continual("backbone=mlp", "schedule.steps=200")),
    Arm("image", "KAN [2,10,10,1], Adam", picture()),
    Arm("image", "MLP [2,40,40,1], Adam", picture("backbone=mlp")),
    Arm("digits", "KAN [64,10,10], as published", classified()),
    Arm("digits", "MLP [64,75,10], as published", classified("backbone=mlp")),
    Arm("digits", "KAN [64,32,10], weight decay", classified("backbone.width=[32]", *DECAYED)),
    Arm("digits", "KAN [64,32,32,10], a matrix first", classified("backbone.width=[32,32]", *MATRIX, *DECAYED)),
    Arm("digits", "MLP [64,240,10], weight decay", classified("backbone=mlp", "backbone.width=[240]", *DECAYED)),
    Arm("harmonic_oscillator", "two values given", oscillator),
    Arm("harmonic_oscillator", "kinetic energy given", law("harmonic_oscillator", "problem.kinetic=true")),
    Arm("pendulum", "mass given", law("pendulum")),
    Arm("pendulum", "kinetic energy given", law("pendulum", "problem.kinetic=true")),
    Arm("double_pendulum", "inertia at equal angles given", law("double_pendulum")),
    Arm("double_pendulum", "kinetic energy given", law("double_pendulum", "problem.kinetic=true")),
    Arm("neo_hookean", "from the linear law", hookean(linear=True)),
    Arm("neo_hookean", "from random", hookean(linear=False)),
)


def done(arm: Arm, seed: int) -> Run:
    """Do an experiment in a folder that is thrown away afterwards."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        solution, (error, found) = arm.run(Path(folder), seed)
    metrics = solution.metrics
    size, seconds = int(metrics["parameters"]), round(float(metrics["wall_time_s"]), 2)
    return Run(arm.experiment, arm.name, seed, error, size, seconds, found)


def main() -> None:
    parser = argparse.ArgumentParser(description="The experiments of KAN and KAN 2.0.")
    names = list(dict.fromkeys(arm.experiment for arm in ARMS))
    parser.add_argument("--experiments", nargs="+", default=names, choices=names, metavar="E", help="default: all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4], metavar="N", help="default: 0 to 4")
    parser.add_argument("--csv", type=Path, default=ROOT / "benchmarks" / "science.csv")
    parser.add_argument("--table", action="store_true", help="no runs: table and figures of those there are")
    given = parser.parse_args()
    known = {(run.experiment, run.arm, run.seed) for run in rows.read(given.csv, Run)}
    for seed in [] if given.table else given.seeds:
        for arm in ARMS:
            there = (arm.experiment, arm.name, seed) in known
            if arm.experiment in given.experiments and not (there and data.drawn(arm.experiment, arm.name, seed)):
                run = done(arm, seed)
                if not there:
                    rows.append(given.csv, run)
                print(run, file=sys.stderr, flush=True)
    runs = rows.read(given.csv, Run)
    text = table(runs)
    write_text(data.OUTPUTS / "science.md", text)
    figures(runs, data.OUTPUTS)
    print(text, end="")


if __name__ == "__main__":
    main()
