"""pykan in the settings of its own example of a partial differential equation, for so many seconds.

Source: https://github.com/KindXiaoming/pykan/blob/master/tutorials/Example/Example_7_PDE_accuracy.ipynb: Poisson's
equation by a KAN 2-2-1 of cubic splines on grids of 5, 10 and 20 intervals; 51 × 51 points inside and 51 on every
face; 0.01 × mean squared residual + mean squared boundary error; 50 steps of pykan's L-BFGS on each grid, the grid
fitted to the samples every 5 of the first 20. The other problems take the same. After the example's steps training
goes on, on the last grid, while there is time.

Numbers are float32, as in the example.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from typing import Any

from equations import EQUATIONS
from stopwatch import Stopwatch, arguments, write

PROBLEMS = ["poisson", "poisson_4", "helmholtz", "heat", "burgers"]
GRIDS, STEPS, SIDE, ALPHA = (5, 10, 20), 50, 51, 0.01


def main() -> None:
    given = arguments("pykan in the settings of its example.", PROBLEMS)
    import numpy as np
    import torch
    from kan import KAN, LBFGS

    torch.set_num_threads(given.threads)
    began = time.perf_counter()
    torch.manual_seed(given.seed)
    equation = EQUATIONS[given.problem]
    axes = [torch.linspace(a, b, SIDE) for a, b in equation.box]
    mesh = torch.meshgrid(*axes, indexing="ij")
    inside = torch.stack([part.reshape(-1) for part in mesh], dim=1)
    faces, values = [], []
    for k, name in enumerate(equation.names):
        for end in equation.box[k][:1] if name == "t" else equation.box[k]:
            face = inside[inside[:, k] == torch.tensor(end)]
            faces.append(face)
            start = name == "t" and equation.initial is not None
            values.append(equation.initial(torch, face[:, 0]) if start else torch.zeros(len(face)))  # type: ignore[misc]
    boundary, target = torch.cat(faces), torch.cat(values)[:, None]

    def batch_jacobian(function: Any, x: Any) -> Any:
        def total(x: Any) -> Any:
            return function(x).sum(dim=0)

        return torch.autograd.functional.jacobian(total, x, create_graph=True).permute(1, 0, 2)

    class Values:
        """p.x, p.u, p.u_xx … at the points inside, each `[N]`."""

        def __init__(self, model: Any) -> None:
            def slopes(x: Any) -> Any:
                return batch_jacobian(model, x)[:, 0, :]

            self.model = model
            self.first = slopes(inside)
            self.second = batch_jacobian(slopes, inside)

        def __getattr__(self, name: str) -> Any:
            if name in equation.names:
                return inside[:, equation.names.index(name)]
            if name == "u":
                return self.model(inside)[:, 0]
            where = [equation.names.index(letter) for letter in name.removeprefix("u_")]
            return self.first[:, where[0]] if len(where) == 1 else self.second[:, where[0], where[1]]

    def new() -> Any:
        low, high = min(a for a, _ in equation.box), max(b for _, b in equation.box)
        return KAN(
            width=[2, 2, 1], grid=GRIDS[0], k=3, seed=given.seed, auto_save=False, grid_range=[low, high]
        ).speed()

    state = {"model": new()}

    def evaluate(points: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return state["model"](torch.from_numpy(points.astype(np.float32))).numpy()

    watch = Stopwatch(given.seconds, evaluate, given.reference)
    setup, steps = time.perf_counter() - began, 0
    watch.start()
    for grid in GRIDS:
        model = state["model"]
        if grid != GRIDS[0]:
            model.save_act = True
            model.get_act(inside)
            model = model.refine(grid).speed()
            state["model"] = model
        optimizer = LBFGS(
            model.parameters(), lr=1, history_size=10, line_search_fn="strong_wolfe",
            tolerance_grad=1e-32, tolerance_change=1e-32, tolerance_ys=1e-32,
        )  # fmt: skip

        def closure(model: Any = model, optimizer: Any = optimizer) -> Any:
            optimizer.zero_grad()
            residual = equation.residual(torch, Values(model))
            loss = ALPHA * torch.mean(residual**2) + torch.mean((model(boundary) - target) ** 2)
            loss.backward()
            return loss

        k = 0
        while watch.goes_on() and (k < STEPS or grid == GRIDS[-1]):
            if k % 5 == 0 and k < 20:
                model.update_grid_from_samples(inside)
            optimizer.step(closure)
            k, steps = k + 1, steps + 1
    from importlib.metadata import version

    parameters = sum(p.numel() for p in state["model"].parameters() if p.requires_grad)
    versions = f"pykan {version('pykan')}, torch {torch.__version__}"
    write(given.out, watch.result(setup_s=setup, compile_s=0.0, parameters=parameters, version=versions, steps=steps))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MPLBACKEND"] = "Agg"
        sys.argv = [os.path.abspath(word) if word.endswith((".npz", ".json")) else word for word in sys.argv]
        os.chdir(folder)  # pykan writes its checkpoints into ./model
        main()
