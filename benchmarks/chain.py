"""From a table to its law by the three commands: `kanpinn fit`, `prune`, `symbolic` on exp(sin πx + y²).

    python benchmarks/chain.py [--seeds 0 1 2] [--csv benchmarks/chain.csv]

A thousand rows, uniform in [−1, 1]², by the seed, which is that of the run too; a KAN [2, 5, 1]. Seconds are of the
clock and of the processor, the start of the three commands included. The law is right if the largest difference of its
constants from exp(1·sin(π x + 0) + 1·y² + 0)·1 is what `constants` says, in the law's own parameters.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import sympy
from sympy.parsing.sympy_parser import parse_expr

COLUMNS = ("seed", "shape", "law", "constants", "rows_held_out", "wall_s", "processor_s")
COMMAND = Path(sys.executable).with_name("kanpinn")


def table(seed: int, path: Path) -> None:
    """Write the rows."""
    x, y = np.random.default_rng(seed).uniform(-1, 1, (2, 1000))
    rows = np.c_[x, y, np.exp(np.sin(np.pi * x) + y**2)]
    np.savetxt(path, rows, delimiter=",", header="x,y,f", comments="", fmt="%.17g")


def worst_constant(text: str | None) -> float:
    """Return the largest error of the constants of a law c exp(k sin(w x + b) + m y²); infinite for another one."""
    if text is None:
        return float("inf")
    x, y = sympy.symbols("x y", real=True)
    law = sympy.expand_log(sympy.log(parse_expr(text, {"x": x, "y": y})), force=True)
    k, w, b, m, c = (sympy.Wild(name, exclude=[x, y]) for name in "kwbmc")
    found = sympy.expand(law).match(k * sympy.sin(w * x + b) + m * y**2 + c)
    if found is None:
        return float("inf")
    wanted = {k: 1.0, w: np.pi, b: 0.0, m: 1.0, c: 0.0}
    return max(abs(float(found.get(one, 0)) - value) for one, value in wanted.items())


def chain(seed: int) -> dict[str, Any]:
    """Run the three commands."""
    with tempfile.TemporaryDirectory() as place:
        folder, environment = Path(place), {**os.environ, "OMP_NUM_THREADS": "1"}
        table(seed, folder / "f.csv")
        options = [f"seed={seed}", "threads=1", "backbone=kan", "backbone.width=[5]", f"hydra.run.dir={folder / 'RUN'}"]
        commands = (
            ["fit", "f.csv", "--target", "f", *options],
            ["prune", str(folder / "RUN")],
            ["symbolic", str(folder / "RUN-pruned")],
        )
        begun, before = time.perf_counter(), os.times()
        for command in commands:
            subprocess.run([COMMAND, *command], cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
        wall, after = time.perf_counter() - begun, os.times()
        shape = json.loads((folder / "RUN-pruned/pruning.json").read_text())["after"]["shape"]
        law = json.loads((folder / "RUN-pruned/formula.json").read_text())["f"]
    held = law["error_on_rows_held_out"]
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return {
        "seed": seed,
        "shape": shape,
        "law": law["sympy"],
        "constants": f"{worst_constant(law['sympy']):.1e}",
        "rows_held_out": f"{held['law']:.1e}" if held else "",
        "wall_s": f"{wall:.1f}",
        "processor_s": f"{spent:.1f}",
    }


def main() -> int:
    """Run the seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    found = []
    for seed in arguments.seeds:
        found.append(chain(seed))
        print(*found[-1].values(), flush=True)
        if arguments.csv:
            with arguments.csv.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS)
                writer.writeheader()
                writer.writerows(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
