"""Problems on curved and holed domains, with interfaces, and flows: errors, seconds and what the network was told.

    python benchmarks/regions.py [--rows disk torus] [--seeds 0 1 2] [--peers-python FILE] [--csv FILE]

A minute a row and seed, twice with the interpreter of an environment that has DeepXDE (`make peers`): it then gets the
seconds kanpinn took, on the same core right after it, in the settings of `peers/deepxde_regions.py`.

Every run is a solve of its own on one thread, ended after two minutes (--limit). Errors are relative L2 of the worst
unknown over the grid points inside; the table gives their median and the worst of the seeds, and seconds of the
processor. Runs already in the CSV file are not repeated.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import machine
import numpy as np
import rows
import torch
from region_problems import Annulus, Body, Screened, Star
from sources import ROOT

import kanpinn
from kanpinn.geometry import Coordinates

PEER = Path(__file__).parent / "peers" / "deepxde_regions.py"
WITHOUT_PEER = ("torus", "disk, exact", "poisson2d_c plain", "backward_step", "cylinder")
"""Rows that DeepXDE cannot pose, that are another one's problem, or that it has no settings for."""


@dataclass(frozen=True)
class Row:
    """One problem of the table.

    Attributes:
        problem: A problem, or the name of one that comes with kanpinn.
        words: Settings beside its defaults.
        told: What the network was told of the solution in advance.
        floor: Error to be reached.
        goal: Error aimed at.
    """

    problem: kanpinn.Problem | str
    words: str
    told: str
    floor: float
    goal: float


@dataclass(frozen=True)
class Measured:
    """One run.

    Attributes:
        row: Name of the row.
        seed: The seed.
        error: Relative L2 error of the worst unknown.
        status: Status of the run.
        seconds: Wall time of the solve.
        processor: Seconds of the processor it took, which other work beside does not change.
        parameters: On the finest level.
        deepxde: Error of DeepXDE after as many seconds.
        load: Load of the machine when the run began.
    """

    row: str
    seed: int
    error: float
    status: str
    seconds: float
    processor: float
    parameters: int
    deepxde: float | None
    load: float | None


def kan(width: int, degree: int, grid: int, steps: Sequence[int], interior: int, boundary: int, growth: float) -> str:
    """Return the settings of a network of one hidden layer, its levels and points."""
    return (
        f"backbone.width=[{width}] backbone.degree={degree} backbone.grid={grid} schedule.levels={len(steps)} "
        f"schedule.steps=[{','.join(map(str, steps))}] sampler.interior={interior} sampler.boundary={boundary} "
        f"sampler.growth={growth}"
    )


def torus(folder: Path) -> Path:
    """Write the surface of a torus of radii 1 and 0.4, 6144 triangles, as an STL file."""
    import trimesh

    file = folder / "torus.stl"
    trimesh.creation.torus(1.0, 0.4, major_sections=96, minor_sections=32).export(file)
    return file


def all_rows(folder: Path) -> dict[str, Row]:
    """Return the table's rows by name; files that they need are written into a folder."""
    flat = kan(10, 7, 3, [80, 60, 60, 60, 60], 800, 200, 1.4)
    built_in = kan(16, 7, 2, [200, 200, 200, 200, 150], 2000, 200, 1.0)
    solid = kan(8, 6, 3, [60, 50, 40], 1500, 400, 1.4)
    return {
        "disk": Row("poisson_disk", flat, "nothing", 1e-7, 1e-10),
        "disk, exact": Row("poisson_disk", f"problem.form=exact {built_in}", "nothing", 1e-7, 1e-10),
        "annulus": Row(Annulus(), flat, "nothing", 1e-6, 1e-9),
        "poisson2d_c": Row(
            "poisson_holes", "", "logarithms about the holes, mirror images in them as inputs", 1e-4, 1e-7
        ),
        "poisson2d_c plain": Row(
            "poisson_holes",
            "problem.logarithms=false problem.inverse=false problem.conditions=soft "
            f"{kan(16, 7, 8, [80, 80, 80], 2000, 400, 1.4)}",
            "nothing",
            1e-4,
            1e-7,
        ),
        "poisson2d_cg": Row(
            Screened(), kan(12, 7, 4, [80, 70, 60], 2000, 400, 1.4), "distances from the discs as inputs", 1e-3, 1e-6
        ),
        "star": Row(Star(), flat, "nothing", 1e-6, 1e-8),
        "ball": Row(Body(), solid, "nothing", 1e-4, 1e-6),
        "torus": Row(Body(str(torus(folder))), solid, "nothing", 1e-4, 1e-6),
        "inclusion": Row("inclusion", "", "place of the interface", 1e-4, 1e-7),
        "kovasznay": Row("kovasznay", "", "a sum of four products", 1e-6, 1e-9),
        "taylor_green": Row("taylor_green", "", "periodicity, a sum of four products", 1e-6, 1e-9),
        "cavity": Row("cavity", "", "slow flow in the lid's corners", 1e-3, 1e-5),
        "backward_step": Row("backward_step", "", "slow flow about the step's edge", math.nan, math.nan),
        "cylinder": Row("cylinder", "", "mirror image in the cylinder as inputs", math.nan, math.nan),
    }


def reference_of(problem: kanpinn.Problem, file: Path) -> Path:
    """Write 20,000 points of the box that lie in the domain and the solution there, `[N, unknowns]`."""
    domain = problem.domain
    points = np.random.default_rng(0).uniform(domain.lower, domain.upper, (20000, len(domain.names)))
    points = points[domain.contains(points)]
    found: Any = problem.reference(Coordinates(domain.names, torch.from_numpy(points).unbind(1)))
    columns = list(found.values()) if isinstance(found, dict) else [found]
    np.savez(file, points=points, values=torch.stack(columns, 1).numpy())
    return file


def peer_error(python: Path, name: str, seed: int, seconds: float, reference: Path) -> float:
    """Let DeepXDE train so many seconds on one thread; return the worst unknown's error, NaN if it failed."""
    out = reference.with_suffix(".json")
    out.unlink(missing_ok=True)
    words = ["--problem", name, "--seed", str(seed), "--seconds", str(seconds), "--out", str(out)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [str(python), str(PEER), *words, "--reference", str(reference)]
    subprocess.run(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return float(json.loads(out.read_text())["curve"][-1][1]) if out.exists() else math.nan


def measured(name: str, row: Row, seed: int, given: argparse.Namespace, folder: Path) -> Measured:
    """Solve once, then let DeepXDE have as many seconds if there is an interpreter that has it."""
    fixed = [
        f"seed={seed}",
        "threads=1",
        "output.figures=false",
        "output.progress=false",
        f"time_limit_s={given.limit}",
    ]
    words, load, began = [*row.words.split(), *fixed], machine.load(), time.process_time()
    if isinstance(row.problem, str):
        run = folder / f"{name.replace(' ', '_')}-{seed}"
        solution = kanpinn.solve([f"problem={row.problem}", *words], folder=run)
    else:
        solution = kanpinn.solve(row.problem, *words)
    found, other, processor = solution.metrics, None, round(time.process_time() - began, 1)
    python = given.peers_python
    if python is not None and name not in WITHOUT_PEER:
        reference = reference_of(solution.problem, folder / "reference.npz")
        other = peer_error(python, name, seed, found["wall_time_s"], reference)
    error, seconds = max(found["relative_l2"].values()), round(found["wall_time_s"], 1)
    return Measured(name, seed, error, found["status"], seconds, processor, found["parameters"], other, load)


def met(row: Row, errors: Sequence[float]) -> str:
    """Return what a row reaches: its goal or floor by the median of its errors, with none above ten times that."""
    for name, limit in (("goal", row.goal), ("floor", row.floor)):
        if statistics.median(errors) <= limit and max(errors) <= 10 * limit:
            return name
    return "" if math.isnan(row.floor) else "no"


def table(rows: dict[str, Row], runs: list[Measured]) -> str:
    """Return medians and worst errors over the seeds."""
    head = (
        "problem",
        "told in advance",
        "seeds",
        "median",
        "worst",
        "floor",
        "goal",
        "met",
        "seconds",
        "parameters",
        "DeepXDE",
    )
    lines = [f"| {' | '.join(head)} |", "|---|---|---|--:|--:|--:|--:|---|--:|--:|--:|"]
    for name, row in rows.items():
        if own := [run for run in runs if run.row == name]:
            errors, others = [run.error for run in own], [run.deepxde for run in own if run.deepxde is not None]
            lines.append(
                f"| {name} | {row.told} | {' '.join(str(run.seed) for run in own)} | {statistics.median(errors):.1e} | "
                f"{max(errors):.1e} | {row.floor:.0e} | {row.goal:.0e} | {met(row, errors)} | "
                f"{max(run.processor for run in own):.0f} | "
                f"{own[-1].parameters} | {f'{statistics.median(others):.1e}' if others else ''} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Solve problems on regions.")
    parser.add_argument("--rows", nargs="*", metavar="ROW", help="some rows only (default: all)")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2, 3, 4], help="(default: 0 to 4)")
    parser.add_argument("--peers-python", type=Path, help="interpreter with DeepXDE (default: kanpinn only)")
    parser.add_argument("--limit", type=float, default=120, metavar="S", help="seconds of a solve (default: 120)")
    parser.add_argument("--csv", type=Path, default=ROOT / "outputs" / "benchmarks" / "regions.csv")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="kanpinn-") as temporary:
        every = all_rows(Path(temporary))
        for name in given.rows or every:
            for seed in given.seeds:
                done = [run for run in rows.read(given.csv, Measured) if (run.row, run.seed) == (name, seed)]
                if not done or (given.peers_python and done[-1].deepxde is None and name not in WITHOUT_PEER):
                    rows.append(given.csv, run := measured(name, every[name], seed, given, Path(temporary)))
                    print(run, file=sys.stderr, flush=True)
    newest = {(run.row, run.seed): run for run in rows.read(given.csv, Measured)}
    print(
        f"{machine.cpu_model()}, one thread, torch {torch.__version__}\n\n{table(every, list(newest.values()))}", end=""
    )


if __name__ == "__main__":
    main()
