"""One network for all unknowns against one for each, with as many parameters: the table of `benchmarks/networks.md`.

    python benchmarks/networks.py [--problems maxwell stokes] [--seeds 0 1 2]

Short runs, a few seconds each. Runs already in the CSV file are not repeated.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rows
from sources import ROOT

import kanpinn
from kanpinn.io.atomic import write_text
from kanpinn.pde.text_problem import text_problem

SQUARE = {"x": [0, 1], "y": [0, 1]}
SETTINGS = (
    *("backbone=kan", "backbone.degree=5", "backbone.grid=3", "schedule.levels=2", "schedule.steps=[30,20]"),
    *("sampler.interior=500", "sampler.boundary=100", "output.points=41", "output.figures=false"),
    *("output.progress=false", "threads=1", "time_limit_s=120"),
)


def manufactured(domain: Mapping[str, Any], solution: Mapping[str, str], equations: Mapping[str, str], **more: Any):
    """Return a system whose right sides are such that a solution is known, which is given on the boundary."""
    known = {one: f"reference({one})" for one in solution}
    texts = {
        name: f"{left.format(**{one: one for one in solution})} = {left.format(**known)}"
        for name, left in equations.items()
    }
    on = [f"{one}{end}" for one in domain for end in ("-" if one == "t" else "-+")]
    values = {one: f"{one} = reference({one})" for one in solution if one != "p"}
    conditions = {"known": {"on": on, "equation": values}, **more}
    head = {"domain": dict(domain), "unknowns": list(solution), "reference": dict(solution)}
    return {**head, "equations": texts, "conditions": conditions}


STOKES = {"u": "sin(3*x)**2*sin(4*y)", "v": "cos(2*x)*exp(y)*y", "p": "cos(3*x)*sin(2*y)"}
DEVELOPMENT: dict[str, dict[str, Any]] = {
    "maxwell": manufactured(
        {"x": [0, 1], "t": [0, 1]},
        {"E": "sin(5*x - 3*t) + x*t", "H": "cos(4*x + 2*t)*exp(-x)"},
        {"faraday": "d({E}, t) - d({H}, x)", "ampere": "d({H}, t) - d({E}, x)"},
    ),
    "stokes_square": manufactured(
        SQUARE,
        STOKES,
        {
            "momentum_x": "d({p}, x) - laplace({u})",
            "momentum_y": "d({p}, y) - laplace({v})",
            "mass": "d({u}, x) + d({v}, y)",
        },
        gauge={"on": {"x": [0], "y": [0]}, "equation": "p = reference(p)"},
    ),
    "plate": manufactured(
        SQUARE,
        {"u": "sin(2*x + 3*y)", "v": "exp(-x)*cos(5*y)"},
        {
            "along": "laplace({u}) + 2*d(d({u}, x) + d({v}, y), x)",
            "across": "laplace({v}) + 2*d(d({u}, x) + d({v}, y), y)",
        },
    ),
    "brusselator": manufactured(
        {"x": [0, 1], "t": [0, 1]},
        {"u": "1 + exp(-t)*cos(6*x)/2", "v": "2 + x**2*sin(3*t)/2"},
        {
            "activator": "d({u}, t) - 0.1*d(d({u}, x), x) - {u}**2*{v} + 3*{u}",
            "inhibitor": "d({v}, t) - 0.5*d(d({v}, x), x) + {u}**2*{v} - 2*{u}",
        },
    ),
}
CONTROL: dict[str, dict[str, Any]] = {
    "acoustics": manufactured(
        {**SQUARE, "t": [0, 1]},
        {"s": "sin(2*x - t)*cos(y)", "u": "exp(-x)*sin(2*y + t)", "v": "cos(x + y)*(1 + t**2)"},
        {
            "mass": "d({s}, t) + d({u}, x) + d({v}, y)",
            "momentum_x": "d({u}, t) + d({s}, x)",
            "momentum_y": "d({v}, t) + d({s}, y)",
        },
    ),
    "bending": manufactured(
        SQUARE,
        {"w": "sin(3*x)*exp(y)", "m": "cos(4*x*y)"},
        {"moment": "laplace({w}) - {m}", "load": "laplace({m})"},
    ),
    "neuron": manufactured(
        {"t": [0, 3]},
        {"a": "sin(3*t) + cos(7*t)/5", "b": "exp(-t)*cos(5*t)"},
        {"fast": "d({a}, t) - {b} + {a}**3/3 - {a}", "slow": "d({b}, t) + ({a} - 0.7 + 0.8*{b})/2"},
    ),
}
FURTHER: dict[str, dict[str, Any]] = {
    "navier_stokes": manufactured(
        SQUARE,
        {"u": "sin(2*x)*cos(3*y)", "v": "exp(x)*sin(y)", "p": "cos(2*x + y)"},
        {
            "momentum_x": "{u}*d({u}, x) + {v}*d({u}, y) + d({p}, x) - 0.1*laplace({u})",
            "momentum_y": "{u}*d({v}, x) + {v}*d({v}, y) + d({p}, y) - 0.1*laplace({v})",
            "mass": "d({u}, x) + d({v}, y)",
        },
        gauge={"on": {"x": [0], "y": [0]}, "equation": "p = reference(p)"},
    ),
    "wave_function": manufactured(
        {"x": [0, 1], "t": [0, 1]},
        {"a": "cos(3*x - 2*t)*exp(-x**2)", "b": "sin(3*x - 2*t)*exp(-x**2)"},
        {
            "real": "d({a}, t) + d(d({b}, x), x)/2 + ({a}**2 + {b}**2)*{b}",
            "imaginary": "d({b}, t) - d(d({a}, x), x)/2 - ({a}**2 + {b}**2)*{a}",
        },
    ),
    "filtration": manufactured(
        SQUARE,
        {"h": "sin(3*x)*cos(2*y)", "q": "-(1 + x*y)*3*cos(3*x)*cos(2*y)", "r": "(1 + x*y)*2*sin(3*x)*sin(2*y)"},
        {"along": "{q} + (1 + x*y)*d({h}, x)", "across": "{r} + (1 + x*y)*d({h}, y)", "mass": "d({q}, x) + d({r}, y)"},
    ),
    "predators": manufactured(
        {"t": [0, 3]},
        {"a": "2 + sin(4*t)", "b": "1 + cos(4*t)*exp(-t/2)/2", "c": "exp(-t)*(1 + t**2)"},
        {
            "grass": "d({a}, t) - {a} + {a}*{b}",
            "hares": "d({b}, t) + {b} - {a}*{b} + {b}*{c}",
            "foxes": "d({c}, t) + {c} - {b}*{c}",
        },
    ),
    "heat_and_salt": manufactured(
        {**SQUARE, "t": [0, 1]},
        {"h": "exp(-t)*sin(2*x + y)", "s": "cos(3*x)*sin(2*y)*(1 + t)"},
        {"heat": "d({h}, t) - laplace({h}) - 0.3*laplace({s})", "salt": "d({s}, t) - 0.5*laplace({s}) - {h}*{s}"},
    ),
}
"""Five more, written down when the first seven had been seen, before any of them was run."""
SYSTEMS = DEVELOPMENT | CONTROL | FURTHER
WIDTH = 9
"""Nodes of the network that all unknowns share."""


@dataclass(frozen=True)
class Measured:
    """One run.

    Attributes:
        problem: Name of the problem.
        networks: One of all unknowns (shared), or one of each (separate).
        seed: The seed.
        error: Relative L2 error of the worst unknown.
        mean: Geometric mean of the unknowns' errors.
        parameters: On the finest level.
        seconds: Wall time of the solve.
    """

    problem: str
    networks: str
    seed: int
    error: float
    mean: float
    parameters: int
    seconds: float


def width(networks: str, coordinates: int, unknowns: int) -> int:
    """Return the width that gives one network for each unknown as many parameters as the shared one."""
    return WIDTH if networks == "shared" else round(WIDTH * (coordinates + unknowns) / unknowns / (coordinates + 1))


def solve(name: str, networks: str, seed: int) -> Measured:
    """Return what one solve reaches."""
    problem = text_problem(name, SYSTEMS[name])
    own = width(networks, len(problem.domain), len(problem.unknowns))
    words = [f"backbone.networks={networks}", f"backbone.width=[{own}]", f"seed={seed}"]
    found = kanpinn.solve(problem, *SETTINGS, *words).metrics
    errors = list(found["relative_l2"].values())
    mean = math.exp(statistics.fmean(math.log(error) for error in errors))
    return Measured(name, networks, seed, max(errors), mean, found["parameters"], round(found["wall_time_s"], 1))


def table(runs: list[Measured]) -> str:
    """Return the errors by problem, geometric means over the seeds, the better one in bold."""
    head = ("problem", "half", "seeds", "parameters, each", "shared", "separate", "gain", "s, shared", "s, separate")
    lines = [f"| {' | '.join(head)} |", "|---|---|---|---|---|---|---|---|---|"]
    for name in SYSTEMS:
        arms = [[run for run in runs if (run.problem, run.networks) == (name, way)] for way in ("shared", "separate")]
        if not all(arms):
            continue
        errors = [statistics.geometric_mean(run.error for run in arm) for arm in arms]
        cells = [f"**{error:.1e}**" if error == min(errors) else f"{error:.1e}" for error in errors]
        half = "development" if name in DEVELOPMENT else "control" if name in CONTROL else "further"
        seeds = " ".join(str(run.seed) for run in arms[0])
        counts = f"{arms[0][0].parameters}, {arms[1][0].parameters}"
        seconds = " | ".join(f"{statistics.median(run.seconds for run in arm):.0f}" for arm in arms)
        gain = f"{errors[0] / errors[1]:.2g}"
        lines.append(f"| {name} | {half} | {seeds} | {counts} | {' | '.join(cells)} | {gain} | {seconds} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="One network for all unknowns against one for each.")
    names = list(SYSTEMS)
    parser.add_argument("--problems", nargs="+", default=names, choices=names, metavar="P", help="default: all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N", help="default: 0 1 2")
    parser.add_argument("--csv", type=Path, default=ROOT / "outputs" / "benchmarks" / "networks.csv")
    given = parser.parse_args()
    done = {(run.problem, run.networks, run.seed) for run in rows.read(given.csv, Measured)}
    for seed in given.seeds:
        for name in given.problems:
            for networks in ("shared", "separate"):
                if (name, networks, seed) not in done:
                    rows.append(given.csv, run := solve(name, networks, seed))
                    print(run, flush=True)
    text = table(rows.read(given.csv, Measured))
    write_text(given.csv.with_suffix(".md"), text)
    print(text, end="")


if __name__ == "__main__":
    main()
