"""Seconds of training steps of pykan: loss, gradient and Adam's step on given points; with and without `speed()`.

With `--reach` instead the seconds its L-BFGS, at the defaults of its `fit`, takes to some root mean square errors.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from importlib.metadata import version
from typing import Any

os.environ["MPLBACKEND"] = "Agg"

import torch
from kan import KAN
from kan.LBFGS import LBFGS

GRID, DEGREE, POINTS = 5, 3, 1000


def seconds(model: Any, points: Any, values: Any, rounds: int) -> float:
    """Least processor time of a step, with Adam at 1e-3 as everywhere in this comparison."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        optimizer.zero_grad()
        torch.mean((model(points) - values) ** 2).backward()
        optimizer.step()
        best = min(best, time.process_time() - start)
    return best


def reached(model: Any, points: Any, values: Any, errors: list[float], limit: float) -> dict[str, float | None]:
    """Processor times until the error at the points is below each of some, with L-BFGS as pykan's `fit` has it."""
    optimizer = LBFGS(
        model.get_params(),
        lr=1.0,
        history_size=10,
        line_search_fn="strong_wolfe",
        tolerance_grad=1e-32,
        tolerance_change=1e-32,
        tolerance_ys=1e-32,
    )
    found: dict[str, float | None] = dict.fromkeys(map(str, errors))
    start, step = time.process_time(), 0

    def closure() -> Any:
        optimizer.zero_grad()
        loss = torch.mean((model(points) - values) ** 2)
        loss.backward()
        return loss

    while time.process_time() - start < limit and None in found.values():
        if step % 5 == 0 and step < 50:
            model.update_grid(points)
        optimizer.step(closure)
        with torch.no_grad():
            error = float(torch.mean((model(points) - values) ** 2)) ** 0.5
        for one in errors:
            if error <= one and found[str(one)] is None:
                found[str(one)] = time.process_time() - start
        step += 1
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, nargs="+", required=True)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--dtype", choices=("float64", "float32"), default="float64")
    parser.add_argument("--reach", type=float, nargs="+", default=[])
    parser.add_argument("--limit", type=float, default=60.0, help="seconds to reach them")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(given.seed)
    torch.set_default_dtype(getattr(torch, given.dtype))
    points = 2 * torch.rand(POINTS, given.width[0]) - 1
    values = torch.exp(torch.sin(torch.pi * points[:, :1]) + points[:, 1:2] ** 2)

    def network() -> Any:
        return KAN(width=given.width, grid=GRID, k=DEGREE, seed=given.seed, auto_save=False)

    if given.reach:
        found = reached(network(), points, values, given.reach, given.limit)
        print(json.dumps({"version": version("pykan"), "seconds": found}))
        return

    found = {"pykan": seconds(network(), points, values, given.rounds)}
    found["pykan, speed()"] = seconds(network().speed(), points, values, given.rounds)
    print(json.dumps({"version": version("pykan"), "seconds": found}))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # pykan writes its checkpoints into ./model
        main()
