"""The viscosity of Burgers' equation from 200 values of u at random points, exact ones and ones with noise.

    python benchmarks/viscosity.py [--noise 0 0.01] [--seeds 0 1 2 3 4] [--set KEY=VALUE …]

The shipped problem with `unknown={nu: …}` and `data=FILE`, one thread; the table comes last.
Points and noise differ from seed to seed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from math import pi
from pathlib import Path

import numpy as np
import torch

import kanpinn
from kanpinn.errors import KanpinnWarning
from kanpinn.references.cole_hopf import cole_hopf

TRUE = 0.01 / pi
HEAD = "| noise | seed | nu | standard deviation | relative error | error/std | processor s |"


def measured(seed: int, noise: float, file: Path) -> None:
    """Write x, t and u of 200 points."""
    generator = np.random.default_rng(1000 + seed)
    x, t = generator.uniform(-1, 1, 200), generator.uniform(0, 1, 200)
    u = cole_hopf(torch.from_numpy(x), torch.from_numpy(t), TRUE).numpy() + noise * generator.standard_normal(200)
    np.savetxt(file, np.column_stack([x, t, u]), delimiter=",", header="x,t,u", comments="")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="The viscosity of Burgers' equation from data.")
    parser.add_argument("--noise", type=float, nargs="+", default=[0, 0.01])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--start", type=float, default=0.01, help="first value of nu (default: 0.01)")
    parser.add_argument("--set", nargs="+", default=[], dest="overrides", metavar="KEY=VALUE")
    given = parser.parse_args()
    lines = [HEAD, "|---|--:|--:|--:|--:|--:|--:|"]
    for noise in given.noise:
        for seed in given.seeds:
            with tempfile.TemporaryDirectory(prefix="kanpinn-") as folder, warnings.catch_warnings():
                warnings.simplefilter("ignore", KanpinnWarning)
                measured(seed, noise, file := Path(folder) / "data.csv")
                words = [f"unknown={{nu: {given.start}}}", f"data={file}", f"seed={seed}", "threads=1"]
                quiet, began = ["output.figures=false", "output.progress=false"], time.process_time()
                solution = kanpinn.solve(
                    ["problem=burgers", *words, *quiet, *given.overrides], folder=Path(folder) / "run"
                )
            found = solution.metrics["coefficients"]["nu"]
            off, std, spent = found["value"] - TRUE, found["std"], time.process_time() - began
            errors = f"{std:.1e} | {abs(off) / TRUE:.1e} | {off / std:+.2f}"
            lines.append(f"| {noise:g} | {seed} | {found['value']:.10f} | {errors} | {spent:.0f} |")
    print("\n" + "\n".join(lines))


if __name__ == "__main__":
    main()
