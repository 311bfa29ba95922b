"""A smooth solution over any coordinates."""

import numpy as np

from kanpinn.axes import field_axes
from kanpinn.io.solution import SolutionFile


def solution(axes: str, reference: bool = True, points: int = 12) -> SolutionFile:
    """A smooth solution over the named coordinates, with an error of about 1e-5 that is not symmetric."""
    coordinates = {name: np.linspace(0, 1 + k, points + k) for k, name in enumerate(field_axes(axes))}
    grid = np.meshgrid(*coordinates.values(), indexing="ij")
    exact = np.prod([np.cos(2 * axis) for axis in grid], axis=0)
    error = 1e-5 * np.prod([axis + 0.1 for axis in grid], axis=0) - 1e-6
    fields = {"u": exact + error, "residual": 30 * error}
    if reference:
        fields |= {"u_ref": exact, "u_error": error}
    steps = np.arange(1, 31)
    return SolutionFile(
        problem="heat",
        equation="u_t = α (u_xx + u_yy)",
        config="problem: {name: heat}\n",
        seed=0,
        dtype="float64",
        status="converged",
        coordinates=coordinates,
        labels={"x": ("position", "m"), "t": ("time", "1")},
        fields=fields,
        history={
            "step": steps,
            "level": (steps - 1) // 10,
            "wall_time": 0.5 * steps,
            "loss": 1.0 / steps,
            "term_residual": 0.9 / steps,
            "term_boundary": 0.1 / steps,
            "relative_l2_u": np.where(steps % 5 == 0, 0.3 / steps, np.nan),
        },
        levels=[
            {
                "level": k,
                "grid": 4 * 2**k,
                "entered": "refine" if k else "start",
                "steps": 10,
                "relative_l2": {"u": 0.1 ** (k + 1)} if reference else None,
            }
            for k in range(3)
        ],
        spectra=spectra(coordinates) if reference else {},
        points={"interior": interior(coordinates)},
        model=SPLINES,
    )


def spectra(coordinates: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Spectra of three visits, each a hundred times below the one before."""
    table = {f"wave_number_{name}": 0.5 * np.arange(len(values)) for name, values in coordinates.items()}
    scale = 1e-4 * 0.01 ** np.arange(3)[:, None]
    return table | {f"u_{name}": scale / (1 + np.arange(len(values))) ** 2 for name, values in coordinates.items()}


def interior(coordinates: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Thirty points all over the domain, with residuals from 1e-6 to 1e-4."""
    generator = np.random.default_rng(1)
    columns = {name: generator.uniform(v.min(), v.max(), 30) for name, v in coordinates.items()}
    return columns | {"residual": 10.0 ** generator.uniform(-6, -4, 30)}


SPLINES = {
    "layer_0/knots": np.linspace(-2.5, 2.5, 11),  # degree 3 on the four intervals of [−1, 1], and three beyond
    "layer_0/coefficients": np.random.default_rng(2).standard_normal((5, 4, 7)),
    "layer_1/knots": np.linspace(-2.5, 2.5, 11),
    "layer_1/coefficients": np.zeros((1, 5, 7)),
}
FEW_SPLINES = {name: values if name.endswith("knots") else values[:2, :2] for name, values in SPLINES.items()}
"""The same network with two inputs and two nodes: six edges to draw instead of 25."""
