"""Speed and accuracy of four ways to evaluate a spline layer, over degree, intervals and precision.

    python benchmarks/bases.py [--points 2048]

Every way computes Σ_p Σ_i W[q, p, i] B_i(x_p) from the same coefficients W and inputs x. Errors are measured against de
Boor's algorithm in rational arithmetic at the very floating-point numbers given, so the reference has none.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Mapping
from fractions import Fraction

import numpy as np
import torch
from machine import cores, cpu_model, load
from torch import Tensor

from kanpinn.splines import bspline, piecewise
from kanpinn.splines.power_relu import power_relu, relu_coefficients

DEGREES = range(1, 8)
INTERVALS = (8, 32, 128)
DTYPES = {"float64": torch.float64, "float32": torch.float32}
WIDTH = 5
"""Inputs and outputs of the layer that is timed."""


def contract(basis: Tensor, coefficients: Tensor) -> Tensor:
    """Dense basis `[N, in, n + k]` times coefficients `[out, in, n + k]`: `[N, out]`."""
    return basis.flatten(1) @ coefficients.flatten(1).T


def cox_de_boor(x: Tensor, coefficients: Tensor, n: int, degree: int) -> Tensor:
    """All n + k basis functions by the recursion, as pykan and efficient-kan do."""
    t = x.new_tensor(bspline.knot_vector("uniform", n, degree))
    b = ((x[..., None] >= t[:-1]) & (x[..., None] < t[1:])).to(x)
    for p in range(1, degree + 1):
        rising = (x[..., None] - t[: -p - 1]) / (t[p:-1] - t[: -p - 1])
        falling = (t[p + 1 :] - x[..., None]) / (t[p + 1 :] - t[1:-p])
        b = rising * b[..., :-1] + falling * b[..., 1:]
    return contract(b, coefficients)


def unscaled(x: Tensor, coefficients: Tensor, n: int, degree: int) -> Tensor:
    """ψ_j(x) = ReLU(x − t_j)^k times W_relu = W A (Southworth et al. 2026, eqs. 4–7)."""
    return contract(power_relu(x, n, degree), relu_coefficients(coefficients, n, degree))


def local_power_relu(x: Tensor, coefficients: Tensor, n: int, degree: int) -> Tensor:
    """The same sum per basis function, in u = (x − t_i)/h clamped to [0, k + 1]: no term grows with n."""
    offsets = torch.arange(n + degree, dtype=x.dtype, device=x.device) - degree
    u = (((x + 1) * (n / 2))[..., None] - offsets).clamp(0, degree + 1)
    b = u**degree
    for s in range(1, degree + 1):
        b.add_((u - s).relu_() ** degree, alpha=(-1) ** s * math.comb(degree + 1, s))
    return contract(b / math.factorial(degree), coefficients)


def pieces(x: Tensor, coefficients: Tensor, n: int, degree: int) -> Tensor:
    """The k + 1 functions at work, as local polynomials: what kanpinn's layers do."""
    cell, s, _ = bspline.locate(x, n)
    b = piecewise.basis_derivatives(cell, s, "uniform", n, degree, 0)[0].movedim(0, -1)
    windows = coefficients.unfold(-1, degree + 1, 1).permute(1, 2, 3, 0).flatten(0, 1)  # (in·n, k+1, out)
    rows = (cell + torch.arange(x.shape[1], device=x.device) * n).flatten()
    local = windows.flatten(1).index_select(0, rows).view(len(x), -1, len(coefficients))  # (N, in·(k+1), out)
    return torch.bmm(b.reshape(len(x), 1, -1), local)[:, 0]


Evaluation = Callable[[Tensor, Tensor, int, int], Tensor]
METHODS: Mapping[str, Evaluation] = {
    "recursion": cox_de_boor,
    "power-ReLU": unscaled,
    "power-ReLU, local": local_power_relu,
    "pieces": pieces,
}


def exact(x: float, coefficients: list[Fraction], n: int, degree: int) -> Fraction:
    """The spline Σ_i c_i B_i at x ∈ [−1, 1) by de Boor's algorithm, without rounding (de Boor 2001, ch. X)."""
    position = (Fraction(x) + 1) * n / 2
    cell = math.floor(position)
    d = coefficients[cell : cell + degree + 1]
    for level in range(1, degree + 1):
        width = degree + 1 - level
        for j in range(degree, level - 1, -1):
            # t_(cell+j) in units of h from the left end is cell + j − k; the interval has width k + 1 − level.
            share = (position - (cell + j - degree)) / width
            d[j] = (1 - share) * d[j - 1] + share * d[j]
    return d[degree]


def layer(n: int, degree: int, dtype: torch.dtype, count: int, width: int) -> tuple[Tensor, Tensor]:
    """Inputs `[count, width]` in (−1, 1), as tanh leaves them, and coefficients `[width, width, n + k]`, random."""
    generator = np.random.default_rng(0)
    # Not uniform random numbers: those are multiples of 2^−53, which makes x + 1 exact.
    x = torch.from_numpy(np.tanh(generator.standard_normal((count, width)))).to(dtype)
    return x, torch.from_numpy(generator.standard_normal((width, width, n + degree))).to(dtype)


def errors(n: int, degree: int, dtype: torch.dtype, count: int = 200) -> dict[str, float]:
    """By method, the largest error of one spline over `count` points, relative to its largest value there."""
    x, coefficients = layer(n, degree, dtype, count, 1)
    rational = [Fraction(c) for c in coefficients.flatten().tolist()]
    truth = [exact(point, rational, n, degree) for point in x.flatten().tolist()]
    largest = max(abs(value) for value in truth)
    out = {}
    for name, method in METHODS.items():
        found = method(x, coefficients, n, degree).flatten().tolist()
        out[name] = float(max(abs(Fraction(a) - b) for a, b in zip(found, truth, strict=True)) / largest)
    return out


def milliseconds(n: int, degree: int, dtype: torch.dtype, count: int, limit: float = 0.35) -> dict[str, float]:
    """By method, the median time of one evaluation at `count` points; by turns, so that disturbances hit all alike."""
    x, coefficients = layer(n, degree, dtype, count, WIDTH)
    seconds: dict[str, list[float]] = {name: [] for name in METHODS}
    begin, turn = time.perf_counter(), 0
    while turn < 4 or (turn < 30 and time.perf_counter() - begin < limit):
        for name, method in METHODS.items():
            start = time.perf_counter()
            method(x, coefficients, n, degree)
            seconds[name].append(time.perf_counter() - start)
        turn += 1
    return {name: 1e3 * statistics.median(times[1:]) for name, times in seconds.items()}  # the first one warms up


def table(cells: Mapping[tuple[int, int], Mapping[tuple[str, str], float]], form: str) -> list[str]:
    """Markdown lines: a row per degree and number of intervals, a column per precision and method."""
    columns = [(dtype, name) for dtype in DTYPES for name in METHODS]
    lines = ["| degree | n | " + " | ".join(f"{name}, {dtype}" for dtype, name in columns) + " |"]
    lines.append("|--:|--:|" + "--:|" * len(columns))
    for (degree, n), values in cells.items():
        lines.append(f"| {degree} | {n} | " + " | ".join(format(values[c], form) for c in columns) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and check four ways of evaluating splines.")
    parser.add_argument("--points", type=int, default=2048, help="inputs of the timed layer (default: %(default)s)")
    points = parser.parse_args().points
    if points < 1:
        parser.error("--points: expected a whole number of at least 1")
    torch.set_num_threads(1)
    start, busy = time.perf_counter(), load()
    times: dict[tuple[int, int], dict[tuple[str, str], float]] = {}
    wrong: dict[tuple[int, int], dict[tuple[str, str], float]] = {}
    for degree in DEGREES:
        for n in INTERVALS:
            for label, dtype in DTYPES.items():
                for found, into in (
                    (milliseconds(n, degree, dtype, points), times),
                    (errors(n, degree, dtype), wrong),
                ):
                    into.setdefault((degree, n), {}).update({(label, name): v for name, v in found.items()})
    print(
        f"{cpu_model()}, 1 thread of {cores()} core(s), load {busy}, torch {torch.__version__}, {time.strftime('%F')}."
    )
    print(f"{points} points, {WIDTH} inputs, {WIDTH} outputs; medians by turns.\n\nMilliseconds per evaluation:\n")
    print(*table(times, ".2f"), sep="\n")
    print("\nLargest error relative to the largest value (200 points, exact reference):\n")
    print(*table(wrong, ".0e"), sep="\n")
    print(f"\n({time.perf_counter() - start:.0f} s in all.)")


if __name__ == "__main__":
    main()
