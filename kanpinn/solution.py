"""Solution of a problem: a trained network that evaluates, differentiates, plots and saves."""

from __future__ import annotations

import html
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from kanpinn.backbones.time_slabs import slab_networks, slabs_begun
from kanpinn.errors import UserError, caution, unknown_choice
from kanpinn.evaluate.grid_evaluation import evaluate
from kanpinn.geometry import Region
from kanpinn.io import lock
from kanpinn.io.solution import SolutionFile, read_solution
from kanpinn.jets.indices import index_of
from kanpinn.least_squares.residuals import Residuals
from kanpinn.pde.problem import inside

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure

MARGIN = 1e-9
"""Share of an interval by which rounding may put points outside it."""


class Solution:
    """Trained network with its numbers.

    Attributes:
        problem: The PDE problem solved.
        metrics: The content of metrics.json.
        folder: The run folder; None for a solve that has written nothing.
        residuals: The problem and the network.
        theta: The network's parameters, `[P]`.
    """

    def __init__(
        self,
        residuals: Residuals,
        theta: Tensor,
        metrics: dict[str, Any],
        folder: Path | None,
        data: SolutionFile | None = None,
        write: Callable[[Path], None] | None = None,
    ) -> None:
        """Keep a network; without a folder, `data` and `write` stand for its files."""
        self.problem = residuals.problem
        self.theta = theta
        self.metrics = metrics
        self.folder = None if folder is None else folder.absolute()
        self.residuals, self._data, self._write = residuals, data, write

    def __call__(self, points: np.ndarray) -> dict[str, np.ndarray]:
        """Evaluate the unknowns.

        Args:
            points: `[N, d]`, columns in the order of the problem's coordinates, within the box around the domain.

        Returns:
            `[N]` per unknown; NaN, with a warning, where the domain is a region and a point of the box is not in it.

        Raises:
            UserError: If the points have another shape or leave the box, where a network's values mean nothing.
        """
        return self._evaluated(points)

    def derivative(self, points: np.ndarray, unknown: str, coordinates: str) -> np.ndarray:
        """Evaluate a derivative of one unknown, in closed form.

        Args:
            points: `[N, d]`, as for a call.
            unknown: Its name, such as "u".
            coordinates: Coordinates to differentiate by, such as "xx" or "xt".

        Returns:
            `[N]`, as for a call.

        Raises:
            UserError: If a name is unknown; or as for a call.
        """
        self._check_unknown(unknown)
        try:
            index_of(coordinates, self.problem.domain.names)
        except ValueError as error:
            raise UserError(str(error)) from None
        return self._evaluated(points, coordinates)[unknown]

    @property
    def end(self) -> float | None:
        """The time up to which the solution is known, where a run was ended before its last time slabs; else None."""
        count = len(slab_networks(self.residuals.backbone))
        begun = slabs_begun(self.residuals.backbone, self.theta)
        if begun == count or "t" not in self.problem.domain.names:
            return None
        first, last = self.problem.domain.interval("t")
        return first + (last - first) * begun / count

    @property
    def data(self) -> SolutionFile:
        """Fields on the output grid, history, levels and points: the content of solution.h5."""
        if self._data is None:
            assert self.folder is not None
            self._data = read_solution(self.folder / "solution.h5")
        return self._data

    def plot(self, unknown: str | None = None) -> Figure:
        """Draw an unknown beside its reference and its error, as maps, or as lines in one dimension.

        Args:
            unknown: The unknown; the first one by default.

        Returns:
            The figure; `figure.savefig("u.png", dpi=200)` writes it.

        Raises:
            UserError: If there is no such unknown.
        """
        from kanpinn.plots import solution_figure

        name = self.problem.unknowns[0] if unknown is None else unknown
        self._check_unknown(name)
        return solution_figure(self.data, name)

    def save(self, folder: str | Path) -> Path:
        """Write a run folder: solution.h5, metrics.json, config.yaml, log.txt, checkpoint and figures.

        Args:
            folder: A folder that does not exist yet or is empty.

        Returns:
            Its absolute path.

        Raises:
            UserError: If it is a file, holds something or lies within the run folder.
            OSError: If it cannot be written.
        """
        target = Path(folder).absolute()
        if target.is_file():
            raise UserError(f"{target}: is a file; expected a new or an empty folder")
        if target.exists() and any(target.iterdir()):
            raise UserError(f"{target}: is not empty; expected a new or an empty folder")
        if self.folder is not None and target.resolve().is_relative_to(self.folder.resolve()):
            raise UserError(f"{target}: lies within the run folder; expected one outside it")
        if self.folder is not None:
            shutil.copytree(self.folder, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns(lock.NAME, ".*.tmp"))
        else:
            assert self._write is not None
            self._write(target)
            self.folder = target
        return target

    def to_xarray(self) -> xarray.Dataset:
        """Return the fields on the output grid as an xarray dataset, with coordinates, units and long names.

        Raises:
            UserError: If xarray is not installed.
        """
        try:
            import xarray
        except ImportError as error:
            raise UserError("to_xarray needs xarray: pip install 'kanpinn[xarray]'") from error
        data = self.data

        def described(name: str) -> dict[str, str]:
            return dict(zip(("long_name", "units"), data.label(name), strict=True))

        fields = {name: (data.axes, values, described(name)) for name, values in data.fields.items()}
        coordinates = {name: (name, values, described(name)) for name, values in data.coordinates.items()}
        known = {"problem": data.problem, "equation": data.equation, "status": data.status, "seed": data.seed}
        return xarray.Dataset(fields, coordinates, known)

    def __repr__(self) -> str:
        """Problem, status and errors in one line."""
        found = ", ".join(f"{label} {value:.2e}" for label, value in self._errors())
        where = "" if self.folder is None else f", folder={str(self.folder)!r}"
        known = f"{self.metrics['problem']}: {self.metrics['status']}" if self.metrics else type(self.problem).__name__
        doubts = ", ".join(dict.fromkeys(flag["kind"] for flag in self.metrics.get("warnings") or []))
        doubts = f", doubtful: {doubts}" if doubts else ""
        return f"<Solution of {known}{', ' if found else ''}{found}{doubts}{where}>"

    def _repr_html_(self) -> str:
        """Table of what was solved and reached; a notebook shows it below the picture of `_repr_png_`."""
        m = self.metrics
        rows = [(key, str(m[key])) for key in ("problem", "backbone", "schedule", "optimizer", "status") if key in m]
        rows += [("parameters", f"{m['parameters']:,}"), ("seconds", f"{m['wall_time_s']:.1f}")] if m else []
        rows += [(label, f"{value:.2e}") for label, value in self._errors()]
        rows += [(f"⚠ {flag['kind']}", flag["message"]) for flag in m.get("warnings") or []]
        cells = "".join(
            f"<tr><th style='text-align:left'>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in rows
        )
        return f"<table>{cells}</table>{self._picture()}"

    def _picture(self) -> str:
        """The first unknown's figure as an image in HTML; nothing where there are no fields to draw."""
        import base64

        try:
            content = base64.b64encode(self._repr_png_()).decode()
        except (UserError, OSError, ValueError):
            return ""
        return f"<img style='max-width:100%' alt='solution' src='data:image/png;base64,{content}'>"

    def _repr_png_(self) -> bytes:
        """Picture of the first unknown as PNG."""
        from kanpinn.plots.style import png

        return png(self.plot(), 120)

    def _errors(self) -> list[tuple[str, float]]:
        """Errors against the reference; without one, the estimates."""
        measured = self.metrics.get("relative_l2")
        label = "relative L2 error of" if measured else "estimated relative L2 error of"
        if not measured and not self.metrics.get("error_estimate_trusted"):
            label = "(?) last change, no trusted estimate, of"
        found = measured or self.metrics.get("error_estimate") or {}
        return [(f"{label} {name}", math.nan if value is None else value) for name, value in found.items()]

    def _check_unknown(self, name: str) -> None:
        if name not in self.problem.unknowns:
            raise unknown_choice("unknown", name, self.problem.unknowns)

    def _evaluated(self, points: np.ndarray, coordinates: str = "") -> dict[str, np.ndarray]:
        """Return the unknowns, or a derivative of each, at points `[N, d]`; NaN outside a region, with a warning."""
        domain, array = self.problem.domain, _numbers(points)
        if array.ndim != 2 or array.shape[1] != len(domain.names):
            raise UserError(
                f"points of shape {array.shape}: expected (N, {len(domain.names)}), columns {', '.join(domain.names)}"
            )
        array = within_box(domain, array, lambda n: f"points[{n}]")
        outside = ~self._belongs(torch.from_numpy(array)) if len(array) else np.zeros(0, bool)
        values = evaluate(self.residuals, self.theta, torch.from_numpy(array), coordinates)
        if outside.any():
            for column in values.values():
                column[outside] = math.nan
            first = ", ".join(f"{n}={value:g}" for n, value in zip(domain.names, array[outside][0], strict=True))
            text = f"{outside.sum()} of {len(array)} points lie outside the domain, the first at {first}"
            caution(f"{text}; their values are nan", stacklevel=3)
        return values

    def _belongs(self, points: Tensor) -> np.ndarray:
        """Tell which points `[N, d]` of the box belong to the domain, or do after a step of rounding; `[N]`."""
        found = inside(self.problem, points)
        if found is None:
            return np.ones(len(points), bool)
        rest = points[~found]
        if len(rest):
            steps = torch.diag(MARGIN * torch.tensor(np.subtract(self.problem.domain.upper, self.problem.domain.lower)))
            near = [inside(self.problem, rest + step) for step in (*steps, *-steps)]
            found[~found] = torch.stack([part for part in near if part is not None]).any(dim=0)
        return found.cpu().numpy()


def _numbers(points: Any) -> np.ndarray:
    """Return points as an array of real numbers; raises UserError where they are none."""
    try:
        array = np.asarray(points.detach().cpu() if isinstance(points, Tensor) else points)
    except (TypeError, ValueError):
        array = np.empty(0, dtype=object)
    if array.dtype.kind not in "fiu":
        raise UserError(f"points: expected an array of real numbers, not {str(points)[:60]}")
    return array


def within_box(domain: Region, points: np.ndarray, named: Callable[[int], str]) -> np.ndarray:
    """Return points `[N, d]` in float64, those by rounding beyond the faces of a domain's box put on them.

    Args:
        domain: The domain.
        points: The points; float32 rounds coarser.
        named: The name of the n-th point in complaints.

    Raises:
        UserError: If a coordinate lies outside its interval, which NaN does not; names the first point.
    """
    array = np.asarray(points, dtype=np.float64)
    lower, upper = np.array(domain.lower), np.array(domain.upper)
    eps = np.finfo(points.dtype).eps if points.dtype.kind == "f" else 0.0
    slack = MARGIN * (upper - lower) + eps * np.maximum(abs(lower), abs(upper))
    wrong = (array < lower - slack) | (array > upper + slack)
    if wrong.any():
        n, k = np.argwhere(wrong)[0]
        expected = f"outside the domain; expected a number from {lower[k]:g} to {upper[k]:g}"
        raise UserError(f"{named(n)}: {domain.names[k]}={array[n, k]:g}: {expected}")
    return np.clip(array, lower, upper)
