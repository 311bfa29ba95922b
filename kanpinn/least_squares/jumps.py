"""Search for jumps of a loss term as a function of the unknowns, which no derivative tells."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import torch
from torch import Tensor

from kanpinn.jets.jet import Jet
from kanpinn.least_squares.trial import Trial, field_name

PLACES = 65
"""Places on a line through two sets of outputs, denser where it is as near to one as to the other."""

REACH = 7.6
"""End of the line: sinh 7.6 = 1000 times the distance of the two."""

PARTS = 8
"""Parts of an interval, the most suspicious of which is looked at next."""

BESIDE = 1000.0
"""Distance from a jump, in lengths of the last interval, at which a residual must be about the same on each side."""


def jumps(trial: Trial, base: Tensor, other: Tensor, met: Collection[str] = ()) -> Iterator[str]:
    """Say of every equation that jumps as the unknowns change where it does.

    Looked at is r(u + s v) on a line through outputs u and v at each point. Intervals whose slope differs from those
    beside them, as others' do not, are divided again and again, until rounding ends it: across a kink or a steep slope
    the difference vanishes with the length, across a jump it stays, and on both sides r is continuous.

    Args:
        trial: The term, or the form by which unknowns are made.
        base: Outputs `[C, S, N, outputs]` of a network at its points.
        other: Those of another.
        met: Equations that hold to rounding whatever the outputs, which alone would be seen of them.
    """
    grid = torch.sinh(torch.linspace(-REACH, REACH, PLACES)).to(base)
    several = _along(trial, base, other, grid.expand(trial.count, -1))
    for equation, values in several.items():
        if equation in met:
            continue
        rounding = torch.finfo(values.dtype).eps ** 0.4
        floor = rounding * values[:, grid.abs() <= 1].abs().nan_to_num(0, 0).amax(1, keepdim=True)
        slopes = values.diff(dim=1) / grid.diff()
        sudden = (slopes[:, 1:-1] - (slopes[:, :-2] + slopes[:, 2:]) / 2).abs() * grid.diff()[1:-1]
        score = torch.where(sudden > floor, sudden, 0.0)[:, 2:-2] / (sudden[:, :-4] + sudden[:, 4:] + floor)
        found, places = score.nan_to_num(0, 0).topk(3)
        points = torch.arange(trial.count)[:, None].expand_as(places)[found > 0]
        begin = places[found > 0] + 3
        if (at := _divided(trial, equation, (base, other), points, (grid[begin], grid[begin + 1]), floor)) is not None:
            where = _passed(trial, equation, *at, other)
            yield (
                f"{trial.described(equation)} jumps as {where} (round, sign, a comparison, or a where whose pieces do "
                "not meet): derivatives do not see this, and a solution that crosses it may be missed; a smooth step "
                "such as tanh has a derivative"
            )


def _along(trial: Trial, base: Tensor, other: Tensor, s: Tensor, points: Tensor | None = None) -> dict[str, Tensor]:
    """Residuals `[M, K]` by equation, with outputs base + s other, at M points (all if None) and s `[M, K]` of each."""
    points = torch.arange(trial.count) if points is None else points
    outputs = base[:, :, points, None] + s[..., None] * other[:, :, points, None]
    with torch.no_grad():
        values = trial.values(outputs.flatten(2, 3), points.repeat_interleave(s.shape[1]))
    return {equation: value.unflatten(0, tuple(s.shape)) for equation, value in values.items()}


def _divided(
    trial: Trial,
    equation: str,
    line: tuple[Tensor, Tensor],
    points: Tensor,
    ends: tuple[Tensor, Tensor],
    floor: Tensor,
) -> tuple[int, Tensor, Tensor] | None:
    """Find a jump in intervals `[M]` of s at M points; returns the point and the outputs on both sides of it.

    Takes a size `[N, 1]` of each point's residuals, below which a difference is rounding.
    """
    (low, high), eps = ends, torch.finfo(floor.dtype).eps
    fractions = torch.linspace(0, 1, PARTS + 1).to(low)
    before = torch.zeros_like(low)
    while len(points):
        s = low[:, None] + (high - low)[:, None] * fractions
        steps = _along(trial, *line, s, points)[equation].diff(dim=1)
        size, part = (steps - steps.median(dim=1, keepdim=True).values).abs().nan_to_num(0, 0).max(dim=1)
        low, high = (s.gather(1, (part + k)[:, None])[:, 0] for k in range(2))
        kept = (size > floor[points, 0]) & (size > 0.3 * before)
        points, low, high, before = points[kept], low[kept], high[kept], size[kept].clone()
        if len(points) and bool(((high - low) < 64 * eps * (1 + low.abs())).all()):
            break
    if not len(points):
        return None
    length = BESIDE * (high - low)
    r = _along(trial, *line, torch.stack([low - length, low, high, high + length], dim=1), points)[equation]
    jump, aside = (r[:, 2] - r[:, 1]).abs(), torch.maximum((r[:, 1] - r[:, 0]).abs(), (r[:, 3] - r[:, 2]).abs())
    real = torch.nonzero(jump > 10 * aside)[:, 0].tolist()  # else a pole
    if not real:
        return None
    base, other = (outputs[:, :, points[real[0]], None] for outputs in line)
    return int(points[real[0]]), base + low[real[0]] * other, base + high[real[0]] * other


def _passed(trial: Trial, equation: str, point: int, before: Tensor, after: Tensor, other: Tensor) -> str:
    """Name the unknown, or the derivative, with which alone a residual jumps, from outputs on both sides of it."""
    at = trial.at(torch.tensor([point]))
    one, two, sizes = (trial.fields(outputs, at) for outputs in (before, after, other[:, :, [point]]))

    def residual(fields: dict[str, Jet]) -> float:
        with torch.no_grad():
            return float(trial.of_fields(fields, at)[equation][0])

    start, end = residual(one), residual(two)
    for name, jet in one.items():
        for k, index in enumerate(jet.space.indices):
            data = jet.data.clone()
            data[k] = two[name].data[k]
            if not trial.form and abs(residual(one | {name: Jet(jet.space, data)}) - end) < 0.1 * abs(end - start):
                zero = data[k, 0].abs() < 1e-6 * sizes[name].data[k, 0].abs()
                return f"{field_name(name, index)} passes {0.0 if zero else float(data[k, 0]):.3g}"
    return "the network's output changes" if trial.form else "the unknowns change"
