"""The suite's problems as the peers see them: box, residual, initial and boundary values, in any array library.

Nothing here needs kanpinn. tests/test_benchmarks.py holds every equation against kanpinn's own problem.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import pi
from typing import Any


@dataclass(frozen=True)
class Equation:
    """One problem; functions take the array library `m` (torch, jax.numpy, numpy) first.

    Attributes:
        names: Coordinates, one letter each, as the columns of every points array; the time, if any, is last.
        box: Lower and upper end of each.
        residual: What vanishes inside, from `p.x`, `p.u`, `p.u_xx` … `[N]`.
        highest: The derivatives it uses, as "t" or "xx".
        initial: u at the initial time from x `[N]`; None where there is no time.
        periodic: Whether u is periodic in x; else it is given at the ends of every coordinate but the time.
        boundary: u there from the coordinates, each `[N]`; None where it vanishes.
        corners: The domain as a polygon, where it is not the whole box.
        at_rest: Whether u_t vanishes at the initial time.
        waves: Waves of the solution along each coordinate, for rules of points per wavelength; 0 where unknown.
    """

    names: str
    box: tuple[tuple[float, float], ...]
    residual: Callable[[Any, Any], Any]
    highest: tuple[str, ...]
    initial: Callable[[Any, Any], Any] | None = None
    periodic: bool = False
    boundary: Callable[..., Any] | None = None
    corners: tuple[tuple[float, float], ...] = ()
    at_rest: bool = False
    waves: tuple[float, ...] = ()


def elliptic(
    halfwaves: Sequence[float], k: float = 0.0, names: str = "xy", side: tuple[float, float] = (-1.0, 1.0)
) -> Equation:
    """Δu + k²u = q on a cube with u = Π sin(a π x), 0 on the boundary.

    Args:
        halfwaves: The whole numbers a, one per coordinate.
        k: Wavenumber; 0 for Poisson's equation.
        names: The coordinates.
        side: The interval of each.

    Returns:
        The equation.
    """
    pairs = list(zip(names, halfwaves, strict=True))

    def residual(m: Any, p: Any) -> Any:
        u, laplacian = 1.0, 0.0
        for name, a in pairs:
            u = u * m.sin(a * pi * getattr(p, name))
            laplacian = laplacian + getattr(p, f"u_{name}{name}")
        factor = k**2 - sum((a * pi) ** 2 for a in halfwaves)
        return laplacian + (k**2 * p.u if k else 0.0) - factor * u

    waves = tuple(a * (side[1] - side[0]) / 2 for a in halfwaves)
    return Equation(names, (side,) * len(names), residual, tuple(2 * name for name in names), waves=waves)


def advection(c: float) -> Equation:
    """u_t + c u_x = 0 on [0, 2π], periodic, u(x, 0) = sin x."""
    return Equation(
        "xt",
        ((0.0, 2 * pi), (0.0, 1.0)),
        lambda _, p: p.u_t + c * p.u_x,
        ("t", "x"),
        lambda m, x: m.sin(x),
        periodic=True,
    )


def corner(m: Any, x: Any, y: Any) -> Any:
    """r^(2/3) sin(2θ/3) + sin πx sin πy, θ from the edge y = 0 of the L-shaped domain to its edge x = 0."""
    theta = m.arctan2(-x - y, y - x) + 3 * pi / 4
    return (x**2 + y**2) ** (1 / 3) * m.sin(2 / 3 * theta) + m.sin(pi * x) * m.sin(pi * y)


EQUATIONS = {
    "poisson": elliptic((1, 1)),
    "poisson_4": elliptic((4, 4)),
    "helmholtz": elliptic((1, 4), k=1.0),
    "heat": Equation(
        "xt", ((0.0, 1.0), (0.0, 1.0)), lambda _, p: p.u_t - 0.4 * p.u_xx, ("t", "xx"), lambda m, x: m.sin(pi * x)
    ),
    "wave": Equation(
        "xt",
        ((0.0, 1.0), (0.0, 1.0)),
        lambda _, p: p.u_tt - 4.0 * p.u_xx,
        ("tt", "xx"),
        lambda m, x: m.sin(pi * x) + 0.5 * m.sin(4 * pi * x),
        at_rest=True,
    ),
    "advection": advection(30.0),
    "advection_40": advection(40.0),
    "burgers": Equation(
        "xt",
        ((-1.0, 1.0), (0.0, 1.0)),
        lambda _, p: p.u_t + p.u * p.u_x - 0.01 / pi * p.u_xx,
        ("t", "x", "xx"),
        lambda m, x: -m.sin(pi * x),
    ),
    "allen_cahn": Equation(
        "xt",
        ((-1.0, 1.0), (0.0, 1.0)),
        lambda _, p: p.u_t - 1e-4 * p.u_xx - 5 * (p.u - p.u**3),
        ("t", "xx"),
        lambda m, x: x**2 * m.cos(pi * x),
        periodic=True,
    ),
    "kdv": Equation(
        "xt",
        ((-1.0, 1.0), (0.0, 1.0)),
        lambda _, p: p.u_t + p.u * p.u_x + 0.022**2 * p.u_xxx,
        ("t", "x", "xxx"),
        lambda m, x: m.cos(pi * x),
        periodic=True,
    ),
    "poisson_5d": elliptic((1,) * 5, names="xyzwv", side=(0.0, 1.0)),
    "poisson_lshape": Equation(
        "xy",
        ((-1.0, 1.0), (-1.0, 1.0)),
        lambda m, p: p.u_xx + p.u_yy + 2 * pi**2 * m.sin(pi * p.x) * m.sin(pi * p.y),
        ("xx", "yy"),
        boundary=corner,
        corners=((0, 0), (1, 0), (1, 1), (-1, 1), (-1, -1), (0, -1)),
    ),
}
