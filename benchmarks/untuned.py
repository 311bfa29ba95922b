"""A blind suite: problems of the literature that nothing was tuned on, solved by README's minimum.

    python benchmarks/untuned.py [--part dev|held|all] [--problems peak …] [--seeds 0] [--set accuracy=1e-5 …]

The problems stand in `untuned.yaml` as texts; a run sees its text without the reference, so that nothing in it can
lean on one. Every third of the names in alphabetical order, from the first, is for development; the rest is run once
per release. One process a run, one thread each, and at most --limit seconds. A row tells the true error of the worst
unknown, relative L2 at 2^15 points of Sobol's sequence in the domain, and the estimate of that unknown; the lines below
count what the runs are held to. `--check` runs nothing, and puts each reference into its equations and conditions.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import re
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from omegaconf import OmegaConf
from process import measured
from scipy.stats import qmc
from sources import ROOT
from torch import Tensor
from untuned_references import computed

import kanpinn
from kanpinn.geometry import Coordinates
from kanpinn.jets.automatic import jet_of
from kanpinn.jets.jet import JetSpace
from kanpinn.least_squares.integrals import Integrals, Quadrature
from kanpinn.least_squares.points import collocation_points
from kanpinn.least_squares.residuals import term_residuals
from kanpinn.least_squares.weighting import Fixed
from kanpinn.pde.data import conditions_of
from kanpinn.pde.text_problem import text_problem
from kanpinn.samplers import SAMPLERS
from kanpinn.settings.user_files import read_yaml

CSV = ROOT / "outputs" / "benchmarks" / "untuned.csv"
MINIMUM = ("threads=1", "output.figures=false", "output.progress=false")
COLUMNS = (
    *("problem", "part", "seed", "status", "unknown", "error", "estimate", "ratio"),
    *("trusted", "flags", "seconds", "search", "limited_by"),
)
PROBES = ("probe", "remedy", "a fine grid", "time slabs", "a finer grid, slabs halved")
"""Reasons of trials that are no growth."""

Row = dict[str, Any]


@cache
def texts() -> dict[str, dict[str, Any]]:
    """Return the problems by name."""
    found: Any = OmegaConf.to_container(read_yaml(Path(__file__).parent / "untuned.yaml"))
    return found


def part_of(name: str) -> str:
    """Return the part that a problem belongs to, "dev" or "held"."""
    return "held" if sorted(texts()).index(name) % 3 else "dev"


def problem_of(name: str) -> kanpinn.Problem:
    """Return a problem that knows its reference, where that is closed."""
    return text_problem(name, texts()[name])


def hidden(name: str) -> dict[str, Any]:
    """Return a problem's text without its reference, which is written out where it stands in a formula."""
    text = texts()[name]
    known = text.get("reference", {})

    def told(part: Any) -> Any:
        if isinstance(part, Mapping):
            return {key: told(value) for key, value in part.items()}
        return re.sub(r"reference\((\w+)\)", lambda m: f"({known[m[1]]})", part) if isinstance(part, str) else part

    return {"name": name, **{key: told(value) for key, value in text.items() if key != "reference"}}


def truth(name: str, points: Tensor) -> dict[str, Tensor]:
    """Return the solution `[N]` at points `[N, d]` by unknown; a computed one need not have all."""
    problem = problem_of(name)
    at = Coordinates(problem.domain.names, points.unbind(1))
    found = problem.reference(at)
    return computed(name, problem.unknowns, at) if found is None else dict(found)


def error_points(name: str) -> np.ndarray:
    """Return the points `[N, d]` at which errors are taken."""
    domain = problem_of(name).domain
    points = qmc.Sobol(len(domain.names), seed=0).random_base2(15)
    points = points * (np.array(domain.upper) - domain.lower) + domain.lower
    return points[domain.contains(points)]


def errors(name: str, solution: kanpinn.Solution) -> dict[str, float]:
    """Return the relative L2 error of each unknown."""
    points = error_points(name)
    found, known = solution(points), truth(name, torch.from_numpy(points))
    return {
        key: float(np.linalg.norm(found[key] - own.numpy()) / np.linalg.norm(own.numpy())) for key, own in known.items()
    }


def solved(name: str, seed: int, words: Sequence[str], limit: float, keep: Path | None) -> Row:
    """Solve a problem in a process of its own; its run stays in a folder `keep`/name-seed."""
    row: Row = {**dict.fromkeys(COLUMNS, ""), "problem": name, "part": part_of(name), "seed": seed}
    with nullcontext(str(keep / f"{name}-{seed}")) if keep else tempfile.TemporaryDirectory() as place:
        folder = Path(place).resolve()
        (folder / "conf" / "problem").mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(hidden(name), sort_keys=False, width=10**6)
        (folder / "conf" / "problem" / f"{name}.yaml").write_text(text, encoding="utf-8")
        command = [sys.executable, "-m", "kanpinn", "solve", f"problem={name}", f"seed={seed}", *MINIMUM, *words]
        cost = measured([*command, "hydra.run.dir=run"], folder, limit)
        row["seconds"] = cost.wall_s
        try:
            told = json.loads((folder / "run" / "metrics.json").read_text(encoding="utf-8"))
            own = errors(name, kanpinn.load(folder / "run"))
        except (OSError, kanpinn.UserError) as error:
            last = cost.complaint.strip().splitlines()[-1:] if cost.exit_code else []
            why = (last or [f"{type(error).__name__}: {error}"])[0][:120]
            return row | {"status": "killed" if cost.timeout else "failed", "limited_by": why}
    worst = max(own, key=lambda key: own[key] if math.isfinite(own[key]) else math.inf)
    estimate = (told["error_estimate"] or {}).get(worst)
    ratio = estimate / own[worst] if estimate is not None and own[worst] else ""
    return row | {
        "status": told["status"],
        "unknown": worst,
        "error": own[worst],
        "ratio": ratio,
        "estimate": "" if estimate is None else estimate,
        "trusted": told.get("error_estimate_trusted"),
        "search": searching(told.get("path", [])),
        "flags": ",".join(dict.fromkeys(flag["kind"] for flag in told["warnings"])),
        "limited_by": told.get("limited_by") or "",
    }


def searching(path: Sequence[Mapping[str, Any]]) -> float | str:
    """Return the share of a run's seconds that went into trials of other networks and into estimates; "" if none."""
    kept = next((trial["network"] for trial in path if trial["kept"]), None)
    if kept is None:
        return ""
    spent, begun = 0.0, 0.0
    for trial in path:
        other = trial["why"] in PROBES and trial["network"] != kept
        spent += trial["seconds"] - begun if other else trial["judging"]
        begun = trial["seconds"]
    return spent / begun


def summary(rows: Sequence[Row], accuracy: float | None) -> Iterator[str]:
    """Yield the claims, each with what the runs say to it."""
    known = [row for row in rows if isinstance(row["error"], float)]

    def share(count: int, of: int) -> str:
        return f"{count} of {of}" + (f" ({100 * count / of:.0f} %)" if of else "")

    yield f"runs: {len(rows)}, without a result: {len(rows) - len(known)}"
    if accuracy is not None:
        ended = [row for row in known if row["status"] == "converged"]
        right = sum(row["error"] <= 3 * accuracy for row in ended)
        yield f"converged and within 3 times the accuracy: {share(right, len(rows))}"
        yield f"converged and more than 3 times above it: {share(len(ended) - right, len(rows))}"
    small = [row for row in known if row["error"] <= 0.1]
    judged = [row for row in small if isinstance(row["ratio"], float)]
    within = sum(0.5 <= row["ratio"] <= 2 for row in judged)
    yield f"estimate within a factor of 2, where the error is below 10 %: {share(within, len(small))}"
    yield f"estimate more than 3 times too small: {share(sum(row['ratio'] < 1 / 3 for row in judged), len(small))}"
    sure = [row for row in judged if row["trusted"] is True]
    within = sum(0.5 <= row["ratio"] <= 2 for row in sure)
    yield f"the same of trusted estimates: {share(within, len(sure))}; {sum(row['ratio'] < 1 / 3 for row in sure)}"
    wrong = [row for row in known if not row["error"] <= 0.1]
    bare = [row["problem"] for row in wrong if not row["flags"]]
    yield f"wrong (above 10 %): {len(wrong)}; without a flag: {share(len(bare), len(wrong))} {' '.join(bare)}"
    right = [row["problem"] for row in known if row["error"] <= 1e-3 and row["flags"]]
    yield f"right (below 0.1 %) with a flag: {len(right)} {' '.join(right)}"
    shares = [row["search"] for row in known if isinstance(row.get("search"), float)]
    if shares:
        yield f"share of other networks and estimates: median {statistics.median(shares):.2f}, most {max(shares):.2f}"
    if known:
        yield f"median error: {statistics.median(row['error'] for row in known):.1e}"


def checked(name: str) -> dict[str, float]:
    """Return the largest residual of the reference in each equation and condition, at a few points of each."""
    problem = problem_of(name)
    conditions = {one.name: one for one in conditions_of(problem)}
    sample = SAMPLERS["sobol"](interior=64, boundary=32).draw(
        problem, 0, np.random.default_rng(0), dtype=torch.float64, device=torch.device("cpu")
    )
    points = collocation_points(problem, conditions, sample, Fixed())
    space = JetSpace(problem.domain.names, problem.derivatives)

    def fields(at: Tensor) -> dict[str, Any]:
        return {key: jet_of(lambda x, key=key: truth(name, x)[key], at, space) for key in problem.unknowns}

    found: dict[str, float] = {}
    integrals = Integrals(Quadrature(problem), fields)
    for term, equation, value in term_residuals(problem, conditions, points, fields(points.points), integrals):
        found[f"{term.name} {equation}".strip()] = float(value.abs().max())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Solve problems that nothing was tuned on.")
    add = parser.add_argument
    add("--part", choices=["dev", "held", "all"], default="dev", help="default: dev")
    add("--problems", nargs="+", choices=sorted(texts()), metavar="P", help="default: all of the part")
    add("--seeds", nargs="+", type=int, default=[0], metavar="N", help="default: 0")
    add("--set", nargs="+", default=[], metavar="KEY=VALUE", help="overrides of all runs")
    add("--csv", type=Path, default=CSV, help="default: %(default)s")
    add("--limit", type=float, default=400, help="seconds after which a run is killed (default: %(default)s)")
    add("--keep", type=Path, metavar="FOLDER", help="where run folders stay (default: nowhere)")
    add("--check", action="store_true", help="put the references into the equations; no runs")
    given = parser.parse_args()
    torch.set_num_threads(1)
    names = given.problems or [name for name in sorted(texts()) if given.part in ("all", part_of(name))]
    if given.check:
        for name in names:
            print(name, *(f"{key}: {size:.1e}" for key, size in checked(name).items()), flush=True)
        return
    given.csv.parent.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    with given.csv.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        for seed in given.seeds:
            for name in names:
                rows.append(solved(name, seed, given.set, given.limit, given.keep))
                table.writerow(rows[-1])
                file.flush()
                print("|", " | ".join(shown(rows[-1][column]) for column in COLUMNS), "|", flush=True)
    wanted = [float(word.partition("=")[2]) for word in given.set if word.startswith("accuracy=")]
    print("\n".join(summary(rows, wanted[-1] if wanted else None)))


def shown(value: Any) -> str:
    """Return a cell's text."""
    return f"{value:.2g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
