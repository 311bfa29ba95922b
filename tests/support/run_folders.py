"""Run folders without a solve."""

import json
from dataclasses import replace
from pathlib import Path

from kanpinn.io.atomic import write_json
from kanpinn.io.solution import write_solution
from support.solutions import FEW_SPLINES, solution

LEVELS = [
    {"level": k, "grid": 4 * 2**k, "steps": 10, "relative_l2": {"u": 0.1 ** (k + 1)}, "wall_time_s": 2.0 + k}
    for k in range(3)
]


def run_folder(
    folder: Path, backbone="kan", seed=0, problem="heat", status="step_limit", equation="u_t = u_xx", note="", **changes
) -> Path:
    """A run of 15 s whose error ends at 1e-3·(seed + 1)."""
    error = {"u": 1e-3 * (seed + 1)}
    metrics = {"status": status, "problem": problem, "backbone": backbone, "parameters": 100 + seed, "loss": 1e-6}
    metrics |= {"wall_time_s": 15.5, "relative_l2": error, "linf": {"u": 0.5}, "work": 1e6, "levels": LEVELS, **changes}
    config = f"problem: {{name: {problem}}}\nbackbone: {{name: {backbone}, width: [{seed + 3}]}}\nseed: {seed}\n"
    config += f"note: {json.dumps(note)}\n" if note else ""
    texts = {"problem": problem, "equation": equation, "status": status, "config": config}
    data = replace(solution("xt"), **texts, seed=seed, metrics=metrics, model=FEW_SPLINES)
    if metrics["relative_l2"] is None:
        del data.history["relative_l2_u"]
    write_solution(folder / "solution.h5", data)
    write_json(folder / "metrics.json", metrics)
    (folder / "config.yaml").write_text(config)
    return folder
