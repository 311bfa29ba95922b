"""Drag, lift and pressure difference of `cylinder`, and where the flow of `backward_step` is attached again.

    python benchmarks/flow_numbers.py RUN …

Folders of solved runs; each number comes from the network and, beside it, from the literature.
"""

from __future__ import annotations

import argparse

import numpy as np

import kanpinn

DRAG, LIFT, DIFFERENCE = 5.57953523384, 0.010618948146, 0.11752016697
"""Schäfer and Turek's test 2D-1, by Nabh 1998 and John and Matthies 2001."""

LENGTH = 2.91857
"""Step heights behind the step, at Re 100, by `kanpinn.references.channels`."""


def cylinder(solution: kanpinn.Solution, count: int = 400) -> str:
    """Return drag, lift and pressure difference: ∫ (ν ∂u/∂n − p n) around the cylinder by the trapezoidal rule."""
    nu = solution.problem.nu
    angle = 2 * np.pi * np.arange(count) / count
    nx, ny = np.cos(angle), np.sin(angle)
    points = np.stack([0.2 + 0.05 * nx, 0.2 + 0.05 * ny], axis=1)
    p = solution(points)["p"]
    slopes = {k: solution.derivative(points, k[0], k[1]) for k in ("ux", "uy", "vx", "vy")}
    force_x = nu * (nx * slopes["ux"] + ny * slopes["uy"]) - p * nx
    force_y = nu * (nx * slopes["vx"] + ny * slopes["vy"]) - p * ny
    scale = 500 * 2 * np.pi * 0.05 / count
    front, back = solution(np.array([[0.15, 0.2], [0.25, 0.2]]))["p"]
    return (
        f"drag {scale * force_x.sum():.5f} ({DRAG:.5f}), lift {scale * force_y.sum():.6f} ({LIFT:.6f}), "
        f"pressure difference {front - back:.6f} ({DIFFERENCE:.6f})"
    )


def step(solution: kanpinn.Solution) -> str:
    """Return where u_y at the lower wall turns positive, in step heights."""
    x = np.linspace(0.5, 3.5, 1501)
    slope = solution.derivative(np.stack([x, np.full_like(x, -0.5)], axis=1), "u", "y")
    last = np.flatnonzero(slope < 0)[-1]
    return f"attached again at {2 * np.interp(0, slope[last : last + 2], x[last : last + 2]):.4f} ({LENGTH})"


def main() -> None:
    """Print a line for each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+")
    for run in parser.parse_args().runs:
        solution = kanpinn.load(run, stored=True)
        found = {"cylinder": cylinder, "backward_step": step}[solution.metrics["problem"]](solution)
        print(f"{run}: {found}")


if __name__ == "__main__":
    main()
