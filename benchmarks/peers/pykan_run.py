"""pykan in the settings of its own example of a partial differential equation, for so many seconds or to its end.

Source: https://github.com/KindXiaoming/pykan/blob/master/tutorials/Example/Example_7_PDE_accuracy.ipynb: Poisson's
equation by a KAN 2-2-1 of cubic splines on grids of 5, 10 and 20 intervals; 51 × 51 points inside and 51 on every
face; 0.01 × mean squared residual + mean squared boundary error; 50 steps of pykan's L-BFGS on each grid, the grid
fitted to the samples every 5 of the first 20. The other problems take the same. After the example's steps training
goes on, on the last grid, while there is time, but not with --to-end.

Numbers are float32, as in the example; --float64 is this benchmark's.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from importlib.metadata import version
from typing import Any

os.environ["MPLBACKEND"] = "Agg"

import numpy as np
import torch
from equations import EQUATIONS, Equation
from kan import KAN, LBFGS
from stopwatch import Stopwatch, arguments, write

PROBLEMS = ["poisson", "poisson_4", "helmholtz", "heat", "burgers"]
GRIDS, STEPS, SIDE, ALPHA = (5, 10, 20), 50, 51, 0.01


def points_of(equation: Equation) -> tuple[Any, Any, Any]:
    """Points inside `[N, 2]`, points on the faces `[M, 2]` and the values there `[M, 1]`."""
    axes = [torch.linspace(a, b, SIDE) for a, b in equation.box]
    mesh = torch.meshgrid(*axes, indexing="ij")
    inside = torch.stack([part.reshape(-1) for part in mesh], dim=1)
    faces, values = [], []
    for k, name in enumerate(equation.names):
        for end in equation.box[k][:1] if name == "t" else equation.box[k]:
            face = inside[inside[:, k] == torch.tensor(end)]
            faces.append(face)
            start = equation.initial if name == "t" else None
            values.append(start(torch, face[:, 0]) if start else torch.zeros(len(face)))
    return inside, torch.cat(faces), torch.cat(values)[:, None]


def batch_jacobian(function: Any, x: Any) -> Any:
    """Jacobians `[N, outputs, inputs]` of a function at points `[N, inputs]`."""

    def total(x: Any) -> Any:
        return function(x).sum(dim=0)

    return torch.autograd.functional.jacobian(total, x, create_graph=True).permute(1, 0, 2)


class Values:
    """p.x, p.u, p.u_xx … at points `[N, 2]`, each `[N]`."""

    def __init__(self, model: Any, points: Any, names: str) -> None:
        def slopes(x: Any) -> Any:
            return batch_jacobian(model, x)[:, 0, :]

        self.model, self.points, self.names = model, points, names
        self.first = slopes(points)
        self.second = batch_jacobian(slopes, points)

    def __getattr__(self, name: str) -> Any:
        if name in self.names:
            return self.points[:, self.names.index(name)]
        if name == "u":
            return self.model(self.points)[:, 0]
        where = [self.names.index(letter) for letter in name.removeprefix("u_")]
        return self.first[:, where[0]] if len(where) == 1 else self.second[:, where[0], where[1]]


class Training:
    """The example's training.

    Attributes:
        model: The network on the present grid.
        steps: Steps of L-BFGS so far.
    """

    def __init__(self, equation: Equation, seed: int) -> None:
        """Choose points and build the network on the first grid."""
        self.equation = equation
        self.inside, self.boundary, self.target = points_of(equation)
        low, high = min(a for a, _ in equation.box), max(b for _, b in equation.box)
        self.model = KAN(
            width=[2, 2, 1], grid=GRIDS[0], k=3, seed=seed, auto_save=False, grid_range=[low, high]
        ).speed()
        self.steps = 0

    def evaluate(self, points: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return self.model(torch.from_numpy(points).to(self.inside.dtype)).numpy()

    def refine(self, grid: int) -> None:
        """Go on with a finer grid."""
        self.model.save_act = True
        self.model.get_act(self.inside)
        self.model = self.model.refine(grid).speed()

    def train(self, watch: Stopwatch, most: float) -> None:
        """Train on the present grid, for so many steps at most, while the watch goes on."""
        model = self.model
        optimizer = LBFGS(
            model.parameters(), lr=1, history_size=10, line_search_fn="strong_wolfe",
            tolerance_grad=1e-32, tolerance_change=1e-32, tolerance_ys=1e-32,
        )  # fmt: skip

        def closure() -> Any:
            optimizer.zero_grad()
            residual = self.equation.residual(torch, Values(model, self.inside, self.equation.names))
            loss = ALPHA * torch.mean(residual**2) + torch.mean((model(self.boundary) - self.target) ** 2)
            loss.backward()
            return loss

        k = 0
        while watch.goes_on() and k < most:
            if k % 5 == 0 and k < 20:
                model.update_grid_from_samples(self.inside)
            optimizer.step(closure)
            k += 1
        self.steps += k


def main() -> None:
    given = arguments("pykan in the settings of its example.", PROBLEMS)
    torch.set_num_threads(given.threads)
    if given.float64:
        torch.set_default_dtype(torch.float64)
    began = time.perf_counter()
    torch.manual_seed(given.seed)
    training = Training(EQUATIONS[given.problem], given.seed)
    watch = Stopwatch(given.seconds, training.evaluate, given.reference)
    setup = time.perf_counter() - began
    watch.start()
    for grid in GRIDS:
        if grid != GRIDS[0]:
            training.refine(grid)
        training.train(watch, STEPS if grid != GRIDS[-1] or given.to_end else float("inf"))
    parameters = sum(p.numel() for p in training.model.parameters() if p.requires_grad)
    versions = f"pykan {version('pykan')}, torch {torch.__version__}"
    result = watch.result(setup_s=setup, compile_s=0.0, parameters=parameters, version=versions, steps=training.steps)
    write(given.out, result)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        sys.argv = [os.path.abspath(word) if word.endswith((".npz", ".json")) else word for word in sys.argv]
        os.chdir(folder)  # pykan writes its checkpoints into ./model
        main()
