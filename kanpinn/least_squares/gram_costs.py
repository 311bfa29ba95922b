"""Measurement of a device's cost table, by which it is decided how JᵀJ is formed.

CPUs take the table that comes with the package, so that runs are the same on all of them. Any other device is measured
once per process, in a few tenths of a second; a run keeps its table, so that a resumed one decides alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from kanpinn.backbones import Kan
from kanpinn.backbones.base import Tape
from kanpinn.backbones.embedding import Embedding
from kanpinn.backbones.layer import Support
from kanpinn.backbones.separable.khatri_rao import CostTable
from kanpinn.jets.jet import JetSpace
from kanpinn.least_squares.gram_local import add_product, columns_of, compact
from kanpinn.least_squares.linearization import gram

REPEATS = 7
POINTS, COLUMNS = 512, 384

STEPS = 8
"""Small operations of one piece and cut of a table."""


@lru_cache
def cost_table(device: torch.device) -> CostTable:
    """Return the costs of a device: those that come with the package for a CPU, measured ones for any other."""
    return CostTable() if device.type == "cpu" else measure(device)


def measure(device: torch.device, dtype: torch.dtype = torch.float64) -> CostTable:
    """Time the operations of the table on a device, in a precision."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=dtype).to(device)

    matrix, batch, rows = random(POINTS, COLUMNS), random(POINTS, 16, 16), random(POINTS, 64)
    square, many = random(COLUMNS, COLUMNS), matrix.numel() * COLUMNS
    index = torch.randint(POINTS // 8, (POINTS,), generator=generator).to(device)
    few = torch.arange(128, device=device)

    def seconds(run: Callable[[], object]) -> float:
        run()
        return min(_timed(run, device) for _ in range(REPEATS))

    def part(points: int) -> float:
        return seconds(lambda: add_product(square, few, matrix[:points, :128]))

    def step() -> None:
        square[:4].index_add_(1, few[:4], torch.bmm(batch[:1, :4, :4], batch[:1, :4, :4])[0])

    unit = seconds(lambda: gram(matrix)) / many
    moved = seconds(lambda: torch.zeros_like(rows).index_add_(0, index, rows[index])) / (2 * rows.numel())
    narrow, tall = part(64), part(POINTS)
    slope = max((tall - narrow) / (POINTS - 64), 1e-3 * tall / POINTS)
    entry, part_entry, part_call = _spline_costs(seconds, device, dtype)
    return CostTable(
        large=seconds(lambda: matrix @ square) / many / unit,
        small=seconds(lambda: torch.bmm(batch, batch)) / (POINTS * 16**3) / unit,
        moved=moved / unit,
        entry=entry / unit,
        call=STEPS * seconds(step) / unit,
        part_product=slope / 128**2 / unit,
        part_places=max(narrow / slope - 64, 0.0),
        part_entry=part_entry / unit,
        part_call=part_call / unit,
    )


def _timed(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, the device's work included."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def _spline_costs(
    seconds: Callable[[Callable[[], object]], float], device: torch.device, dtype: torch.dtype
) -> tuple[float, float, float]:
    """Seconds per entry of a spline network's J, per entry of the rows of parts of it, and per part."""
    embedding = Embedding({"x": (0.0, 1.0), "t": (0.0, 1.0)})
    backbone = Kan(width=[3, 3], degree=3, grid=32).build(embedding, 1)
    drawn = np.random.default_rng(0)
    theta = backbone.initial(drawn).to(device, dtype)
    points = torch.from_numpy(np.sort(drawn.random((POINTS, 2)), axis=0)).to(device, dtype)
    tape, out = Tape(), theta.new_empty(POINTS, backbone.size)
    scalar = backbone.forward(theta, points, JetSpace(embedding.names, ("t", "xx")), tape).data.sum()
    entry = seconds(lambda: backbone.jacobian(theta, tape, scalar, out, retain=True)) / out.numel()
    every = torch.arange(POINTS, device=device)
    supports = [s.at(every) if isinstance(s, Support) else s for s in backbone.supports(tape)]
    columns = columns_of(supports, device)
    values = backbone.local_jacobian(theta, tape, scalar, every, retain=True)

    def rows(count: int) -> tuple[float, int]:
        place, _ = compact(values, supports, slice(0, count), columns)
        return seconds(lambda: compact(values, supports, slice(0, count), columns)), count * len(place)

    local = seconds(lambda: backbone.local_jacobian(theta, tape, scalar, every, retain=True))
    (alone, _), (together, entries) = rows(2), rows(POINTS // 4)
    part_entry = max(together - alone, 0.0) / entries + local / (POINTS // 4 * (entries // (POINTS // 4))) / 4
    return entry, part_entry, alone
