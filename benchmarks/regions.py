"""Problems on curved and holed domains, with interfaces, and flows: errors, seconds and what the network was told.

    python benchmarks/regions.py [--rows disk torus] [--seeds 0 1 2] [--peers-python FILE] [-- overrides]

A minute a row and seed, twice with the interpreter of an environment that has DeepXDE (`make peers`): it then gets the
seconds kanpinn took, on the same core right after it, in the settings of `peers/deepxde_regions.py`.

Every run is a solve of its own on one thread, ended after two minutes. Errors are relative L2 of the worst unknown over
the grid points inside; the table gives their median and the worst of the seeds. Overrides come last and hold for all
rows.
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

import machine
import numpy as np
import torch
from region_problems import Annulus, Body, Screened, Star

import kanpinn
from kanpinn.geometry import Coordinates

LIMIT_S = 120
PEER = Path(__file__).parent / "peers" / "deepxde_regions.py"
WITHOUT_PEER = ("torus", "poisson2d_c plain", "backward_step", "cylinder")
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


def rows(folder: Path) -> dict[str, Row]:
    """Return the table's rows by name; files that they need are written into a folder."""
    flat = kan(10, 7, 3, [80, 60, 60, 60, 60], 800, 200, 1.4)
    solid = kan(8, 6, 3, [60, 50, 40], 1500, 400, 1.4)
    return {
        "disk": Row("poisson_disk", flat, "nothing", 1e-7, 1e-10),
        "annulus": Row(Annulus(), flat, "nothing", 1e-6, 1e-9),
        "poisson2d_c": Row("poisson_holes", "", "logarithms about the holes", 1e-4, 1e-7),
        "poisson2d_c plain": Row(
            "poisson_holes",
            f"problem.logarithms=false {kan(16, 7, 8, [80, 80, 80], 2000, 400, 1.4)}",
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
    found = problem.reference(Coordinates(domain.names, torch.from_numpy(points).unbind(1)))
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
    error = json.loads(out.read_text())["curve"][-1][1] if out.exists() else math.nan
    print(f"  DeepXDE, seed {seed}: {error:.2e}, {seconds:.0f} s", file=sys.stderr)
    return float(error)


def error_of(row: Row, seed: int, overrides: Sequence[str]) -> tuple[float, kanpinn.Solution]:
    """Solve once; return the worst unknown's error and the solution."""
    fixed = [f"seed={seed}", "threads=1", "output.figures=false", "output.progress=false", f"time_limit_s={LIMIT_S}"]
    words = [*row.words.split(), *fixed, *overrides]
    began = time.perf_counter()
    if isinstance(row.problem, str):
        solution = kanpinn.solve([f"problem={row.problem}", *words])
    else:
        solution = kanpinn.solve(row.problem, *words)
    found = solution.metrics
    print(
        f"  seed {seed}: {found['relative_l2']}, {found['status']}, {time.perf_counter() - began:.0f} s",
        file=sys.stderr,
    )
    return max(found["relative_l2"].values()), solution


def main() -> None:
    parser = argparse.ArgumentParser(description="Solve problems on regions.")
    parser.add_argument("--rows", nargs="*", help="some rows only (default: all)")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2], help="(default: 0 1 2)")
    parser.add_argument("--peers-python", type=Path, help="interpreter with DeepXDE (default: kanpinn only)")
    parser.add_argument("overrides", nargs="*")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{machine.cpu_model()}, one thread, load {machine.load()}, torch {torch.__version__}\n")
    print(
        "| problem | told in advance | median | worst | floor | goal | seconds | parameters | DeepXDE, same seconds |"
    )
    print("|---|---|--:|--:|--:|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory(prefix="kanpinn-") as temporary:
        table = rows(Path(temporary))
        for name in given.rows or table:
            print(line(name, table[name], given, Path(temporary)), flush=True)


def line(name: str, row: Row, given: argparse.Namespace, folder: Path) -> str:
    """Run one row; return its line of the table."""
    errors, others, seconds = [], [], []
    for seed in given.seeds:
        error, solution = error_of(row, seed, given.overrides)
        errors.append(error)
        seconds.append(solution.metrics["wall_time_s"])
        if given.peers_python is not None and name not in WITHOUT_PEER:
            reference = reference_of(solution.problem, folder / "reference.npz")
            others.append(peer_error(given.peers_python, name, seed, seconds[-1], reference))
    peer = f"{statistics.median(others):.1e}" if others else ""
    return (
        f"| {name} | {row.told} | {statistics.median(errors):.1e} | {max(errors):.1e} | {row.floor:.0e} | "
        f"{row.goal:.0e} | {max(seconds):.0f} | {solution.metrics['parameters']} | {peer} |"
    )


if __name__ == "__main__":
    main()
