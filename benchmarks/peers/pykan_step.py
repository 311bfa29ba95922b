"""Seconds of one training step of pykan: loss, gradient and Adam's step on given points; with and without `speed()`."""

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, nargs="+", required=True)
    parser.add_argument("--rounds", type=int, default=20)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    points = 2 * torch.rand(POINTS, given.width[0]) - 1
    values = torch.exp(torch.sin(torch.pi * points[:, :1]) + points[:, 1:2] ** 2)

    def network() -> Any:
        return KAN(width=given.width, grid=GRID, k=DEGREE, seed=0, auto_save=False)

    found = {"pykan": seconds(network(), points, values, given.rounds)}
    found["pykan, speed()"] = seconds(network().speed(), points, values, given.rounds)
    print(json.dumps({"version": version("pykan"), "seconds": found}))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # pykan writes its checkpoints into ./model
        main()
