"""Cost of checkpoints: processor seconds in writing them over those of the whole process, default solves.

    python benchmarks/checkpoints.py [PROBLEM…]

Prints one Markdown row per problem (poisson and burgers unless others are given), seed 0, figures not drawn.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
import time
from typing import Any

import kanpinn
from kanpinn.run.checkpoints import Checkpoints

spent: list[float] = []
write = Checkpoints.write


def measured(*arguments: Any) -> Any:
    """`Checkpoints.write` with its processor seconds noted."""
    began = time.thread_time()  # writing is the work of one thread
    try:
        return write(*arguments)
    finally:
        spent.append(time.thread_time() - began)


def main() -> None:
    Checkpoints.write = measured
    print("| problem | checkpoints | their processor seconds | of | share |\n|---|--:|--:|--:|--:|")
    for problem in sys.argv[1:] or ["poisson", "burgers"]:
        spent.clear()
        began = time.process_time()
        with tempfile.TemporaryDirectory(prefix="kanpinn-") as folder, contextlib.redirect_stdout(io.StringIO()):
            quiet = ["output.figures=false", "output.progress=false", f"hydra.run.dir={folder}/run"]
            kanpinn.solve([f"problem={problem}", *quiet])
        total = time.process_time() - began
        row = [problem, str(len(spent)), f"{sum(spent):.3f}", f"{total:.1f}", f"{sum(spent) / total:.2%}"]
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
