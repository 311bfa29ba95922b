"""Unknown fields from noisy data: the corrected poisson_inv and heat_inv of PINNacle (arXiv:2306.08827).

    python benchmarks/inverse_fields.py [--problems poisson heat] [--seeds 0 1 2 3 4] [--sigma 0.1] [--set KEY=VALUE …]

The conductivity a is found from values of u with noise and its own values on the edge. One thread, one solve after the
other; each row of the table is printed when it is done. The source's (2x + 1) is put right to (2x − 1), as it follows
from u and a.
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import Any

import numpy as np

import kanpinn
from kanpinn import Data
from kanpinn.errors import KanpinnWarning
from kanpinn.pde.text_problem import text_problem

PROBLEMS: dict[str, dict[str, Any]] = {
    "poisson": {
        "domain": {"x": [0, 1], "y": [0, 1]},
        "unknowns": ["u", "a"],
        "equations": {"flow": "div(a*grad(u)) = div(reference(a)*grad(reference(u)))"},
        "conditions": {"edge": {"on": "boundary", "equation": "a = reference(a)"}},
        "reference": {"u": "sin(pi*x)*sin(pi*y)", "a": "1/(1 + x**2 + y**2 + (x - 1)**2 + (y - 1)**2)"},
    },
    "heat": {
        "domain": {"x": [-1, 1], "y": [-1, 1], "t": [0, 1]},
        "unknowns": ["u", "a"],
        "depends": {"a": ["x", "y"]},
        "equations": {
            "heat": "u_t - div(a*grad(u)) = d(reference(u), t) - div(reference(a)*grad(reference(u)))",
        },
        "conditions": {"edge": {"on": ["x-", "x+", "y-", "y+"], "equation": "a = reference(a)"}},
        "reference": {"u": "exp(-t)*sin(pi*x)*sin(pi*y)", "a": "2 + sin(pi*x)*sin(pi*y)"},
    },
}
OPTIONS = {
    "poisson": [
        *("backbone.networks=separate", "backbone.width=[5]", "backbone.grid=1", "schedule.levels=2"),
        *("schedule.steps=[40,40]", "sampler.interior=1000", "weighting.terms={interior: [10, 1e4], edge: 100}"),
    ],
    "heat": [
        *("backbone.width=[5,5]", "backbone.grid=2", "schedule.levels=2", "schedule.steps=[30,70]"),
        *("sampler.interior=2048", "weighting.terms={interior: [10, 1e4]}"),
    ],
}
QUIET = ("threads=1", "output.figures=false", "output.progress=false")


def measured(name: str, seed: int, sigma: float) -> dict[str, np.ndarray]:
    """Return u with noise: on 50 × 50 points (poisson), or at 2500 random ones (heat)."""
    generator = np.random.default_rng(1000 + seed)
    if name == "poisson":
        axis = np.linspace(0, 1, 50)
        columns = dict(zip("xy", (values.ravel() for values in np.meshgrid(axis, axis)), strict=True))
    else:
        columns = {key: generator.uniform(start, 1, 2500) for key, start in (("x", -1), ("y", -1), ("t", 0))}
    u = np.sin(np.pi * columns["x"]) * np.sin(np.pi * columns["y"]) * np.exp(-columns.get("t", 0.0))
    return {**columns, "u": u + sigma * generator.standard_normal(u.shape)}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", default=list(PROBLEMS), choices=PROBLEMS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--sigma", type=float, default=0.1)
    parser.add_argument("--set", nargs="+", default=[], dest="overrides", metavar="KEY=VALUE")
    chosen = parser.parse_args()
    print("| problem | seed | u | a | loss | seconds of CPU |\n|---|--:|--:|--:|--:|--:|", flush=True)
    for name in chosen.problems:
        for seed in chosen.seeds:
            problem = text_problem(name, PROBLEMS[name])
            problem.adapt(observed=(Data("data", measured(name, seed, chosen.sigma)),))
            start = time.process_time()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", KanpinnWarning)
                found = kanpinn.solve(problem, f"seed={seed}", *OPTIONS[name], *QUIET, *chosen.overrides).metrics
            errors = " | ".join(f"{found['relative_l2'][one]:.2e}" for one in ("u", "a"))
            spent = time.process_time() - start
            print(f"| {name} | {seed} | {errors} | {found['loss']:.4f} | {spent:.1f} |", flush=True)


if __name__ == "__main__":
    main()
