"""Jets against nested reverse-mode autograd, and one-pass Jacobians against torch.func: time and memory.

    python benchmarks/jets.py [--threads 1] [--points 2048]

Every method evaluates the same network at the same points and is checked against the others before it is timed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from machine import cores, cpu_model, load
from plain import Plain
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from kanpinn.backbones.base import Backbone, Tape
from kanpinn.backbones.embedding import EmbeddingOptions
from kanpinn.backbones.kan import Kan
from kanpinn.backbones.mlp import Mlp
from kanpinn.geometry import Box
from kanpinn.jets.jet import Jet, JetSpace

AGREEMENT = 1e-10
Call = tuple[Callable[[], Tensor], float]
"""Function timed, and the part of the points it does."""
SPLINES = {"piecewise": "nested autograd, local polynomial pieces", "cox_de_boor": "nested autograd, dense Cox–de Boor"}


@dataclass(frozen=True)
class Case:
    """One equation on x ∈ [−1, 1], t ∈ [0, 1], periodic in x.

    Attributes:
        name: The equation.
        derivatives: What its residual needs.
        residual: From the value "" and its derivatives by name, `[N]` each, to `[N]`.
    """

    name: str
    derivatives: tuple[str, ...]
    residual: Callable[[Mapping[str, Tensor]], Tensor]


CASES = (
    Case("Burgers, u_xx", ("t", "x", "xx"), lambda u: u["t"] + u[""] * u["x"] - 0.01 / np.pi * u["xx"]),
    Case("Korteweg–de Vries, u_xxx", ("t", "x", "xxx"), lambda u: u["t"] + u[""] * u["x"] + 0.0025 * u["xxx"]),
)
DOMAIN = Box(x=(-1, 1), t=(0, 1))
NETWORKS = {
    "KAN 5,5 degree 5, G = 16": Kan(width=[5, 5], degree=5, grid=16, scale=0.5),
    "MLP 20,20,20": Mlp(width=[20, 20, 20]),
}


@dataclass(frozen=True)
class Timing:
    """Time and memory of one method.

    Attributes:
        method: Its name.
        milliseconds: Median over repeats, of all points.
        mebibytes: Peak of the tensors allocated during one call; None if the call was scaled up from fewer points.
    """

    method: str
    milliseconds: float
    mebibytes: float | None


def peak_memory(call: Callable[[], object]) -> float:
    """The most memory (MiB) that torch's CPU allocator held at once for one call."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as session:
        kept = call()
    del kept
    results = session.profiler.kineto_results
    changes = sorted((e.start_ns(), e.nbytes()) for e in results.events() if e.name() == "[memory]")
    return max(np.cumsum([size for _, size in changes])) / 2**20


def measure(calls: Mapping[str, Call], limit: float = 3.0) -> list[Timing]:
    """Median times of several methods, by turns: what else the machine does then disturbs all of them alike.

    Args:
        calls: By method, what is timed and which part of the points it does.
        limit: Seconds after which no further round begins; there are at least 3 and at most 25, after one to warm up.

    Returns:
        The timings, in the order of the calls; a part's time is scaled up to all points.
    """
    for call, _ in calls.values():
        call()
    seconds: dict[str, list[float]] = {method: [] for method in calls}
    begin = time.perf_counter()
    for turn in range(25):
        if turn >= 3 and time.perf_counter() - begin > limit:
            break
        for method, (call, _) in calls.items():
            start = time.perf_counter()
            call()
            seconds[method].append(time.perf_counter() - start)
    return [
        Timing(method, 1e3 * statistics.median(seconds[method]) / share, peak_memory(call) if share == 1 else None)
        for method, (call, share) in calls.items()
    ]


def agree(what: str, value: Tensor, expected: Tensor) -> float:
    """The largest difference relative to the largest entry; raises RuntimeError above `AGREEMENT`."""
    difference = float((value - expected).abs().max() / expected.abs().max())
    if not difference <= AGREEMENT:
        raise RuntimeError(f"{what}: differs from jets by {difference:.1e}, more than {AGREEMENT:.0e}")
    return difference


class Contest:
    """One network, one equation, one set of points, and every way to differentiate them.

    Attributes:
        case: The equation.
        backbone: The network.
        theta: Its parameters `[P]`.
        points: `[N, d]`.
        difference: The largest disagreement seen so far.
    """

    def __init__(self, case: Case, options: Kan | Mlp, count: int) -> None:
        generator = np.random.default_rng(0)
        self.case = case
        self.backbone: Backbone = options.build(EmbeddingOptions().build(DOMAIN, ("x",), generator), 1)
        self.theta = self.backbone.initial(generator)
        low, high = np.array(DOMAIN.lower), np.array(DOMAIN.upper)
        self.points = torch.from_numpy(generator.uniform(low, high, (count, len(DOMAIN))))
        self.space = JetSpace(DOMAIN.names, case.derivatives)
        self.difference = 0.0

    def plain(self, spline: str) -> Plain:
        """The same network in plain operations."""
        return Plain(self.backbone, self.space, self.case.residual, spline)

    def jets_residual(self, theta: Tensor, tape: Tape | None = None) -> Tensor:
        """The residual `[N]` by jets."""
        u = self.backbone.forward(theta, self.points, self.space, tape)
        field = Jet(self.space, u.data[..., 0])
        return self.case.residual({"".join(index): field[index] for index in self.space.indices})

    def gradient(self, residual: Callable[[Tensor], Tensor]) -> Tensor:
        """The gradient `[P]` of the mean square of a residual."""
        theta = self.theta.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(residual(theta).square().mean(), theta)
        return gradient

    def jets_jacobian(self) -> Tensor:
        """∂r_n/∂theta `[N, P]` by one backward pass."""
        tape = Tape()
        r = self.jets_residual(self.theta, tape)
        out = torch.empty(len(self.points), self.backbone.size, dtype=self.theta.dtype)
        self.backbone.jacobian(self.theta, tape, r.sum(), out)
        return out

    def gradients(self) -> dict[str, Call]:
        """Residual and gradient: jets first, then the others, which have been found to agree."""
        calls: dict[str, Call] = {"jets": (lambda: self.gradient(self.jets_residual), 1.0)}
        expected = self.gradient(self.jets_residual)
        for spline, name in self.splines().items():
            nested = partial(self.plain(spline).nested, points=self.points)
            call = partial(self.gradient, nested)
            self.difference = max(self.difference, agree(f"{name}: gradient", call(), expected))
            calls[name] = (call, 1.0)
        return calls

    def jacobians(self, some: int = 32) -> dict[str, Call]:
        """The per-point Jacobian: jets, torch.func, a loop over `some` points; the others have been found to agree."""
        expected = self.jets_jacobian()
        plain = self.plain("piecewise")
        some = min(some, len(self.points))

        def mapped() -> Tensor:
            return plain.jacobian(self.theta, self.points)

        def loop() -> Tensor:
            rows, theta = [], self.theta.clone().requires_grad_(True)
            for k in range(some):
                (row,) = torch.autograd.grad(plain.nested(theta, self.points[k : k + 1]).sum(), theta)
                rows.append(row)
            return torch.stack(rows)

        self.difference = max(
            self.difference,
            agree("torch.func: Jacobian", mapped(), expected),
            agree("loop: Jacobian", loop(), expected[:some]),
        )
        return {
            "jets, one backward pass": (self.jets_jacobian, 1.0),
            "torch.func.vmap(jacrev)": (mapped, 1.0),
            f"loop over points (scaled up from {some})": (loop, some / len(self.points)),
        }

    def splines(self) -> dict[str, str]:
        """The plain spline evaluations that make sense for this network, with their names."""
        return SPLINES if self.backbone.grid is not None else {"piecewise": "nested autograd"}


def rows(title: str, timings: list[Timing]) -> list[str]:
    """Table lines of one contest; speedups are of jets (the first) over each."""
    lines = []
    for timing in timings:
        speedup = timing.milliseconds / timings[0].milliseconds
        memory = "–" if timing.mebibytes is None else f"{timing.mebibytes:.0f}"
        lines.append(f"| {title} | {timing.method} | {timing.milliseconds:.1f} | {speedup:.1f} | {memory} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description="Time jets against nested reverse-mode autograd.")
    parser.add_argument("--threads", type=int, help="CPU threads of torch (default: torch's own choice)")
    parser.add_argument("--points", type=int, default=2048, help="collocation points (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.points < 1 or (arguments.threads is not None and arguments.threads < 1):
        parser.error("--points and --threads: expected whole numbers of at least 1")
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # some builds of torch narrate every use of the profiler
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    start, difference, busy = time.perf_counter(), 0.0, load()
    gradients, jacobians = [], []
    for network, options in NETWORKS.items():
        for case in CASES:
            contest = Contest(case, options, arguments.points)
            title = f"{network} ({contest.backbone.size} parameters), {case.name}"
            gradients += rows(title, measure(contest.gradients()))
            jacobians += rows(title, measure(contest.jacobians()))
            difference = max(difference, contest.difference)
    head = ["| network, equation | method | time, ms | speedup by jets | peak tensor memory, MiB |"]
    head.append("|---|---|--:|--:|--:|")
    threads = f"{torch.get_num_threads()} thread(s) of {cores()} core(s), load {busy}"
    print(f"{cpu_model()}, {threads}, torch {torch.__version__}, {time.strftime('%Y-%m-%d')}.")
    print(f"{arguments.points} points, float64; medians of repeats by turns.")
    print(f"All methods agree to {difference:.0e} (relative).\n")
    print("Residual and its parameter gradient:\n", *head, *gradients, sep="\n")
    print("\nPer-point Jacobian of the residual:\n", *head, *jacobians, sep="\n")
    print(f"\n({time.perf_counter() - start:.0f} s in all.)")


if __name__ == "__main__":
    main()
