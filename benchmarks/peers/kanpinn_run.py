"""One `kanpinn solve` under a time limit whose clock starts right after the imports, set-up included.

`time_limit_s` itself counts from the end of the set-up. Here the clock of the training is set back to when the
process had imported everything, so that composing the config, checking it, the reference values and the monitored
errors count.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from stopwatch import MARKS, write

import kanpinn.run.run
from kanpinn.errors import DivergedError
from kanpinn.io.solution import read_solution
from kanpinn.settings.compose import compose
from kanpinn.solver.setup import Setup
from kanpinn.solver.slab_solve import SlabSolve


def curve(seconds: np.ndarray, errors: np.ndarray, marks: tuple[int, ...] = MARKS) -> list[tuple[float, float]]:
    """The error after the first step at or after each mark, and after the last step.

    Args:
        seconds: When each step ended, `[n]`.
        errors: The error then, `[n]`.
        marks: Seconds.

    Returns:
        Pairs of seconds and error.
    """
    where = sorted({*(int(k) for k in np.searchsorted(seconds, marks) if k < len(seconds)), len(seconds) - 1})
    return [(float(seconds[k]), float(errors[k])) for k in where if k >= 0]


def main() -> None:
    parser = argparse.ArgumentParser(description="kanpinn under a time limit that includes its set-up.")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("overrides", nargs="*")
    given = parser.parse_args()
    began = time.perf_counter()
    torch.set_num_threads(given.threads)

    begun: list[float] = []

    def timed(setup: Setup, before: SlabSolve | None = None) -> SlabSolve:
        training = SlabSolve(setup, before)
        training.record.started = began
        begun.append(time.perf_counter() - began)
        return training

    kanpinn.solver.solver.SlabSolve = timed
    with tempfile.TemporaryDirectory(prefix="kanpinn-") as temporary:
        folder = Path(temporary) / "run"
        fixed = [f"time_limit_s={given.seconds:g}", f"threads={given.threads}", f"hydra.run.dir={folder}"]
        config, _ = compose([*given.overrides, *fixed, "output.figures=false", "output.progress=false"])
        status = ""
        try:
            kanpinn.run.run.run(config, folder)
        except DivergedError:
            status = "diverged"
        data = read_solution(folder / "solution.h5")
    errors = [v for name, v in data.history.items() if name.startswith("relative_l2")]
    points = curve(data.history["wall_time"], np.max(errors, axis=0))
    final = [math.inf if v is None else v for v in data.metrics["relative_l2"].values()]
    metrics = data.metrics
    seconds = points[-1][0]
    # The last state's error over the whole output grid; the others were measured at some of its points.
    points[-1] = (seconds, max(final))
    if "slab" in data.history:  # errors on the way are those of one time slab: only the last one is the solution's
        points = points[-1:]
    result = {
        "curve": points,
        "ended": (status or metrics["status"]) != "time_limit",
        "seconds": seconds,
        "setup_s": begun[0],
        "compile_s": 0.0,
        "parameters": metrics["parameters"],
        "version": f"kanpinn {kanpinn.__version__}, torch {torch.__version__}",
        "steps": len(data.history["wall_time"]),
        "status": status or metrics["status"],
    }
    write(given.out, result)


if __name__ == "__main__":
    main()
