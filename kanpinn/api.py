"""The Python calls: `kanpinn.solve` and `kanpinn.load`, and the `Solution` both return."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from kanpinn.backbones.time_slabs import slab_networks, slabs_begun
from kanpinn.errors import UserError, unknown_choice
from kanpinn.evaluate.grid_evaluation import evaluate
from kanpinn.least_squares.residuals import Residuals

if TYPE_CHECKING:
    import xarray


class Solution:
    """A trained network with its numbers.

    Attributes:
        problem: The PDE problem solved.
        metrics: The content of metrics.json.
        folder: The run folder.
        theta: The network's parameters, `[P]`.
    """

    def __init__(self, residuals: Residuals, theta: Tensor, metrics: dict[str, Any], folder: Path) -> None:
        self.problem = residuals.problem
        self.theta = theta
        self.metrics = metrics
        self.folder = folder.absolute()
        self._residuals = residuals

    def __call__(self, points: np.ndarray) -> dict[str, np.ndarray]:
        """Evaluate the unknowns.

        Args:
            points: `[N, d]`, columns in the order of the problem's coordinates.

        Returns:
            `[N]` per unknown.

        Raises:
            UserError: If the points have another shape.
        """
        return evaluate(self._residuals, self.theta, self._points(points))

    def derivative(self, points: np.ndarray, unknown: str, coordinates: str) -> np.ndarray:
        """Evaluate a derivative of one unknown, in closed form.

        Args:
            points: `[N, d]`.
            unknown: Its name, such as "u".
            coordinates: What to differentiate by, such as "xx" or "xt".

        Returns:
            `[N]`.

        Raises:
            UserError: If a name is unknown or the points have another shape.
        """
        if unknown not in self.problem.unknowns:
            raise unknown_choice("unknown", unknown, self.problem.unknowns)
        for letter in coordinates:
            if letter not in self.problem.domain.names:
                raise unknown_choice("coordinate", letter, self.problem.domain.names)
        return evaluate(self._residuals, self.theta, self._points(points), coordinates)[unknown]

    @property
    def end(self) -> float | None:
        """The time up to which the solution is known, where a run was ended before its last time slabs; else None."""
        count = len(slab_networks(self._residuals.backbone))
        begun = slabs_begun(self._residuals.backbone, self.theta)
        if begun == count or "t" not in self.problem.domain.names:
            return None
        first, last = self.problem.domain.interval("t")
        return first + (last - first) * begun / count

    def to_xarray(self) -> xarray.Dataset:
        """The fields of solution.h5 as an xarray dataset.

        Raises:
            UserError: If xarray or h5netcdf is not installed.
        """
        try:
            import xarray

            return xarray.load_dataset(self.folder / "solution.h5", engine="h5netcdf")
        except (ImportError, ValueError) as error:
            raise UserError("to_xarray needs xarray and h5netcdf: pip install 'kanpinn[xarray]'") from error

    def _points(self, points: np.ndarray) -> Tensor:
        array = np.asarray(points, dtype=np.float64)
        names = self.problem.domain.names
        if array.ndim != 2 or array.shape[1] != len(names):
            raise UserError(f"points of shape {array.shape}: expected (N, {len(names)}), columns {', '.join(names)}")
        return torch.from_numpy(np.ascontiguousarray(array))


def solve(overrides: Sequence[str] = ()) -> Solution:
    """Compose the config, solve, write a run folder; what `kanpinn solve` does.

    Args:
        overrides: Hydra overrides, such as `["problem=burgers", "seed=1"]`.

    Returns:
        The solution.

    Raises:
        UserError: If the input is wrong.
        DivergedError: If the solve failed; the best state so far is written.
    """
    from kanpinn.run.run import run
    from kanpinn.settings.compose import compose

    if isinstance(overrides, str) or not all(isinstance(text, str) for text in overrides):
        raise UserError(f"overrides={overrides!r}: expected a list of texts, such as ['problem=burgers', 'seed=1']")
    config, folder = compose(list(overrides))
    return run(config, folder)


def load(run: str | Path) -> Solution:
    """Load the solution in a run folder, from its newest checkpoint.

    Args:
        run: The run folder.

    Returns:
        The solution, evaluating to the same numbers as when it was written.

    Raises:
        UserError: If the folder is not a run or its files are damaged.
    """
    from kanpinn.run.checkpoints import restore

    residuals, theta, metrics = restore(Path(run))
    return Solution(residuals, theta, metrics, Path(run))
