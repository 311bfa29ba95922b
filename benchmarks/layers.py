"""Thin layers: solves of singularly perturbed problems that no default was chosen for; error, status and flags of each.

    python benchmarks/layers.py [development | held_out] [--seeds 0 1 2] [--problems outflow …] [--set KEY=VALUE …]

Rules are chosen on the first set and judged, once, on the second. Convection, reaction, clamped strings and fronts,
steady and in time, after Roos, Stynes and Tobiska 2008, Robust Numerical Methods for Singularly Perturbed Differential
Equations, with closed solutions, at few points. One thread, one solve after the other in this process. Exit code 1 if a
wrong solution is not flagged.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

import kanpinn
from kanpinn.errors import KanpinnWarning

WRONG = 0.01
"""Relative L2 error above which a solution is wrong."""

OVERRIDES = ("threads=1", "output.progress=false", "schedule.levels=3", "schedule.steps=[80,40,30]")


@dataclass(frozen=True)
class Layer(kanpinn.Problem):
    """A problem whose solution is known, and given on its whole boundary, or at its start and sides."""

    domain = kanpinn.Box(x=(0, 1))
    derivatives = ("x", "xx")

    def conditions(self):
        faces = [f"{name}{side}" for name in self.domain.names for side in "-+" if f"{name}{side}" != "t+"]
        start = [kanpinn.Condition("initial", "t-", self._given)] if "t-" in faces else []
        sides = tuple(face for face in faces if face != "t-")
        return [*start, kanpinn.Condition("sides", sides, self._given)]

    def _given(self, p):
        return p.u - self.reference(p)


def outflow(x: Tensor, eps: float) -> Tensor:
    """Solution of u' − ε u'' = 1 that vanishes at 0 and 1."""
    return x - (torch.exp((x - 1) / eps) - math.exp(-1 / eps)) / (1 - math.exp(-1 / eps))


class Outflow(Layer):
    """Convection: a layer of width ε at x = 1."""

    eps = 0.002

    def residual(self, p):
        return p.u_x - self.eps * p.u_xx - 1

    def reference(self, p):
        return outflow(p.x, self.eps)


class Reaction(Layer):
    """Reaction: layers of width ε at both ends."""

    eps = 0.001

    def residual(self, p):
        return -(self.eps**2) * p.u_xx + p.u - 1

    def reference(self, p):
        return 1 - (torch.exp(-p.x / self.eps) + torch.exp((p.x - 1) / self.eps)) / (1 + math.exp(-1 / self.eps))


class Turning(Layer):
    """Convection that turns: a layer of width √ε inside."""

    eps = 2e-5
    domain = kanpinn.Box(x=(-1, 1))

    def residual(self, p):
        return self.eps * p.u_xx + p.x * p.u_x

    def reference(self, p):
        return torch.erf(p.x / math.sqrt(2 * self.eps))


class Corner(Layer):
    """Convection along the diagonal: layers of width ε at two sides of a square."""

    eps = 0.005
    domain = kanpinn.Box(x=(0, 1), y=(0, 1))
    derivatives = ("xx", "yy")

    def residual(self, p):
        source = outflow(p.x, self.eps) + outflow(p.y, self.eps)
        return p.u_x + p.u_y - self.eps * (p.u_xx + p.u_yy) - source

    def reference(self, p):
        return outflow(p.x, self.eps) * outflow(p.y, self.eps)


class Pulse(Layer):
    """A narrow pulse, carried along with little diffusion."""

    eps, width = 2e-4, 0.03
    domain = kanpinn.Box(x=(0, 2), t=(0, 1))
    derivatives = ("t", "xx")

    def residual(self, p):
        return p.u_t + p.u_x - self.eps * p.u_xx

    def reference(self, p):
        square = self.width**2 + 2 * self.eps * p.t
        return self.width / torch.sqrt(square) * torch.exp(-((p.x - 0.5 - p.t) ** 2) / (2 * square))


class Warming(Layer):
    """Heat that enters at x = 0 and does not get far."""

    eps = 1e-4
    domain = kanpinn.Box(x=(0, 1), t=(0, 1))
    derivatives = ("t", "xx")

    def residual(self, p):
        return p.u_t - self.eps * p.u_xx

    def reference(self, p):
        return torch.erfc(p.x / torch.sqrt(4 * self.eps * (p.t + 0.1)))


class Accelerated(Layer):
    """Convection of speed −(1 + x): a layer of width ε at x = 0."""

    eps = 0.002

    def residual(self, p):
        return -self.eps * p.u_xx - (1 + p.x) * (p.u_x + 1)

    def reference(self, p):
        # u' = −1 + C exp(−(x + x²/2)/ε), by erfc(z) = exp(−z²) erfcx(z)
        def part(x):
            return torch.exp(-(x + x**2 / 2) / self.eps) * torch.special.erfcx((1 + x) / math.sqrt(2 * self.eps))

        start, end = part(torch.zeros_like(p.x)), part(torch.ones_like(p.x))
        return (start - part(p.x)) / (start - end) - p.x


class Waves(Layer):
    """Reaction beside a source that varies (Doolan, Miller and Schilders 1980, ch. 6)."""

    eps = 4e-6

    def residual(self, p):
        source = -(torch.cos(math.pi * p.x) ** 2) - 2 * self.eps * math.pi**2 * torch.cos(2 * math.pi * p.x)
        return -self.eps * p.u_xx + p.u - source

    def reference(self, p):
        width = math.sqrt(self.eps)
        layers = (torch.exp(-p.x / width) + torch.exp((p.x - 1) / width)) / (1 + math.exp(-1 / width))
        return layers - torch.cos(math.pi * p.x) ** 2


class Clamped(Layer):
    """A string with little stiffness, clamped: its slope has layers of width ε at both ends."""

    eps = 0.003
    derivatives = ("xxxx",)

    def residual(self, p):
        return self.eps**2 * p.u_xxxx - p.u_xx - 1

    def conditions(self):
        return [*super().conditions(), kanpinn.Condition("slopes", ("x-", "x+"), lambda p: p.u_x)]

    def reference(self, p):
        s, half = p.x - 0.5, 0.5 / self.eps
        bent = (torch.exp(s / self.eps - half) + torch.exp(-s / self.eps - half)) / (1 - math.exp(-2 * half))
        return (0.25 - s**2) / 2 + self.eps / 2 * (bent - 1 / math.tanh(half))


class Channel(Layer):
    """Convection along x between two walls: a layer of width ε at the outlet."""

    eps = 0.004
    domain = kanpinn.Box(x=(0, 1), y=(0, 1))
    derivatives = ("xx", "yy")

    def residual(self, p):
        return p.u_x - self.eps * (p.u_xx + p.u_yy) - torch.sin(math.pi * p.y)

    def reference(self, p):
        # X' − ε X'' + ε π² X = 1 by its characteristic roots
        root, much = math.sqrt(1 + (2 * math.pi * self.eps) ** 2), 1 / (self.eps * math.pi**2)
        up, down = (1 + root) / (2 * self.eps), (1 - root) / (2 * self.eps)
        b = -much * (1 - math.exp(-up)) / (1 - math.exp(down - up))
        a = -much - b * math.exp(down)
        return (much + a * torch.exp(up * (p.x - 1)) + b * torch.exp(down * p.x)) * torch.sin(math.pi * p.y)


class Front(Layer):
    """A front of Burgers' equation that travels."""

    nu = 0.001
    domain = kanpinn.Box(x=(0, 1.5), t=(0, 1))
    derivatives = ("t", "xx")

    def residual(self, p):
        return p.u_t + p.u * p.u_x - self.nu * p.u_xx

    def reference(self, p):
        return (1 - torch.tanh((p.x - 0.5 - p.t / 2) / (4 * self.nu))) / 2


class Relaxing(Layer):
    """A fast relaxation: a layer of width ε after the start."""

    eps = 0.003
    domain = kanpinn.Box(x=(0, 1), t=(0, 1))
    derivatives = ("t", "xx")

    def residual(self, p):
        slow = torch.cos(p.t) - self.eps * torch.sin(p.t)
        source = slow + self.eps * math.pi**2 * (torch.cos(p.t) + torch.exp(-p.t / self.eps))
        return self.eps * (p.u_t - p.u_xx) + p.u - source * torch.sin(math.pi * p.x)

    def reference(self, p):
        return torch.sin(math.pi * p.x) * (torch.cos(p.t) + torch.exp(-p.t / self.eps))


SETS = {
    "development": (Outflow, Reaction, Turning, Corner, Pulse, Warming),
    "held_out": (Accelerated, Waves, Clamped, Channel, Front, Relaxing),
}


@dataclass(frozen=True)
class Solved:
    """One solve.

    Attributes:
        error: Relative L2 error over the output grid.
        status: As in metrics.json.
        flags: Kinds of its warnings.
        seconds: Wall time.
    """

    error: float
    status: str
    flags: tuple[str, ...]
    seconds: float


def solved(kind: type[Layer], seed: int, overrides: list[str]) -> Solved:
    """Solve one problem."""
    line, begun = len(kind.domain.names) == 1, time.monotonic()
    points = [f"sampler.interior={300 if line else 1200}", f"output.points={2001 if line else 201}"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KanpinnWarning)
        found = kanpinn.solve(kind(), *OVERRIDES, *points, f"seed={seed}", *overrides).metrics
    flags = tuple(dict.fromkeys(warning["kind"] for warning in found["warnings"]))
    return Solved(found["relative_l2"]["u"], found["status"], flags, time.monotonic() - begun)


def main() -> int:
    """Print the table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", nargs="?", default="held_out", choices=SETS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--problems", nargs="+")
    parser.add_argument("--set", nargs="+", default=[], dest="overrides", metavar="KEY=VALUE")
    chosen = parser.parse_args()
    print("| problem | median error | all errors | wrong | of these not flagged | seconds |\n|---|--:|---|--:|--:|--:|")
    silent = 0
    for kind in SETS[chosen.which]:
        name = kind.__name__.lower()
        if chosen.problems and name not in chosen.problems:
            continue
        runs = [solved(kind, seed, chosen.overrides) for seed in chosen.seeds]
        wrong = [run for run in runs if not run.error <= WRONG]
        unseen = sum(run.status == "converged" or not run.flags for run in wrong)
        silent += unseen
        errors, middle = ", ".join(f"{run.error:.1e}" for run in runs), statistics.median(run.error for run in runs)
        spent = statistics.median(run.seconds for run in runs)
        print(f"| {name} | {middle:.1e} | {errors} | {len(wrong)} | {unseen} | {spent:.1f} |", flush=True)
    return int(silent > 0)


if __name__ == "__main__":
    sys.exit(main())
