"""Charts of a sweep as coordinates for inline SVG: error against cost, and swept keys against error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

_WIDTH = 720.0
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
"""Digits as exponents, for `str.translate`."""
COLOURS = 8
"""As many colours has the page's style."""
SHAPES = (
    "M-6,0a6,6 0 1,0 12,0a6,6 0 1,0 -12,0Z",
    "M-5.3-5.3h10.6v10.6h-10.6Z",
    "M0-6.8L6.4,5H-6.4Z",
    "M0-7.4L7.4,0L0,7.4L-7.4,0Z",
)
"""Marks as SVG paths about the origin: disc, square, triangle, diamond."""
_LANE = 0.08  # room about a value of a key, for the lines through it to lie beside each other


@dataclass(frozen=True)
class Axis:
    """Positions for the values of one quantity: ticks from 0 to 1, ascending, with their texts.

    Low and high are the values (or their logarithms) at 0 and 1; words are the values in order, if they are no numbers.
    """

    title: str
    ticks: tuple[tuple[float, str], ...]
    logarithmic: bool = False
    low: float = 0.0
    high: float = 1.0
    words: tuple[str, ...] = ()

    def place(self, value: Any) -> float | None:
        """Position of a value, from 0 to 1; None for one that has no place."""
        if self.words:
            text = str(value)
            return self.ticks[self.words.index(text)][0] if text in self.words else None
        found = as_number(value)
        if found is None or (self.logarithmic and found <= 0):
            return None
        return ((math.log10(found) if self.logarithmic else found) - self.low) / (self.high - self.low)


def as_number(value: Any) -> float | None:
    """A finite number from a number or text; None for anything else."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) and not isinstance(value, bool) else None


def log_axis(title: str, values: Sequence[float]) -> Axis:
    """Make a logarithmic axis over positive values: ticks at powers of ten, at 1, 2 and 5 too where it is short."""
    low, high = math.log10(min(values)), math.log10(max(values))
    margin = 0.06 * (high - low) or 0.15
    low, high = low - margin, high + margin
    every = max(1, math.ceil((high - low) / 7))
    exponents = range(math.floor(low), math.ceil(high) + 1)
    powers = {k: f"{10.0**k:g}" if -1 <= k <= 3 else f"10{str(k).translate(RAISED)}" for k in exponents}
    at = [(float(k), text) for k, text in powers.items() if k % every == 0]
    for mantissas in ((1, 2, 5), (1, 2, 3, 4, 5, 7)):
        if sum(low <= place <= high for place, _ in at) < 3:
            at = [(k + math.log10(m), f"{m * 10.0**k:.4g}") for k in exponents for m in mantissas]
    ticks = tuple(((place - low) / (high - low), text) for place, text in at if low <= place <= high)
    return Axis(title, ticks, True, low, high)


def key_axis(title: str, values: Sequence[Any], inset: float = 0.0) -> Axis:
    """Make an axis over the values of a config key, with room at both ends: numbers as ticks, words evenly spaced.

    Logarithmic where all are positive and span more than a factor of twenty.
    """
    found = [as_number(value) for value in values]
    numbers = sorted({value for value in found if value is not None})
    if len(numbers) < 2 or None in found:
        words = tuple(dict.fromkeys(str(value) for value in values))
        step = (1 - 2 * inset) / max(1, len(words) - 1)
        places = [0.5] if len(words) == 1 else [inset + k * step for k in range(len(words))]
        return Axis(title, tuple(zip(places, words, strict=True)), words=words)
    logarithmic = numbers[0] > 0 and numbers[-1] > 20 * numbers[0]
    scaled = [math.log10(value) if logarithmic else value for value in numbers]
    room = inset / (1 - 2 * inset) * (scaled[-1] - scaled[0])
    low, high = scaled[0] - room, scaled[-1] + room
    shown = numbers if len(numbers) <= 6 else [numbers[round(k * (len(numbers) - 1) / 5)] for k in range(6)]
    at = [((math.log10(v) if logarithmic else v) - low) / (high - low) for v in shown]
    return Axis(title, tuple((place, f"{v:.4g}") for place, v in zip(at, shown, strict=True)), logarithmic, low, high)


@dataclass
class Chart:
    """A chart in SVG units, with its axes (of a scatter chart x and y) and marks of the jobs.

    The legend has values, the number of the colour (None for all colours) and the shape of each; places are those of
    the axes from left to right (parallel coordinates).
    """

    width: float
    height: float
    axes: list[Axis]
    marks: list[dict[str, Any]] = field(default_factory=list)
    legend: list[tuple[str, int | None, str]] = field(default_factory=list)
    places: list[float] = field(default_factory=list)


def scatter(jobs: Sequence[dict[str, Any]], key: str | None, form: str | None = None) -> Chart | None:
    """Error against seconds, a mark per job, its colour by one key and its shape by another, or one for all.

    Jobs have `name`, `error`, `seconds`, `href` and `keys`. None where fewer than two have both numbers.
    """
    known = [job for job in jobs if (job["error"] or 0) > 0 and (job["seconds"] or 0) > 0]
    if len(known) < 2:
        return None
    x = log_axis("seconds of training", [job["seconds"] for job in known])
    y = log_axis("relative L₂ error", [job["error"] for job in known])
    groups = list(dict.fromkeys(str(job["keys"].get(key, "")) for job in known)) if key else []
    forms = list(dict.fromkeys(str(job["keys"].get(form, "")) for job in known)) if form else []
    chart = Chart(_WIDTH, 420, [x, y])
    left, right, top, bottom = 64.0, 14.0, 12.0, 46.0
    for job in known:
        across, up = x.place(job["seconds"]) or 0.0, y.place(job["error"]) or 0.0
        chart.marks.append(
            {
                "x": round(left + across * (chart.width - left - right), 1),
                "y": round(chart.height - bottom - up * (chart.height - top - bottom), 1),
                "shape": SHAPES[forms.index(str(job["keys"].get(form, ""))) % len(SHAPES) if form else 0],
                "colour": groups.index(str(job["keys"].get(key, ""))) % COLOURS if key else 0,
                **job,
            }
        )
    chart.legend = [(group, k % COLOURS, SHAPES[0]) for k, group in enumerate(groups)]
    chart.legend += [(name, None, SHAPES[k % len(SHAPES)]) for k, name in enumerate(forms)]
    chart.places = [left, right, top, bottom]
    return chart


def parallel(jobs: Sequence[dict[str, Any]], keys: Sequence[str], most: int = 7) -> Chart | None:
    """Parallel coordinates: an axis per key, the last one the error, a line per job, dark where the error is small.

    None where there is no key or fewer than two jobs have an error.
    """
    known = [job for job in jobs if (job["error"] or 0) > 0]
    if len(known) < 2 or not keys:
        return None
    axes = [key_axis(key, [job["keys"].get(key, "") for job in known], _LANE) for key in keys[:most]]
    axes.append(log_axis("relative L₂ error", [job["error"] for job in known]))
    chart = Chart(_WIDTH, 340, axes)
    left, right, top, bottom = 70.0, 74.0, 34.0, 18.0
    chart.places = [round(left + k * (chart.width - left - right) / (len(axes) - 1), 1) for k in range(len(axes))]
    for rank, job in enumerate(sorted(known, key=lambda job: -job["error"])):  # the best on top
        error = axes[-1].place(job["error"])
        lane = _LANE * (0.8 - 1.6 * rank / (len(known) - 1))
        places = [axis.place(job["keys"].get(key, "")) for axis, key in zip(axes, keys[:most], strict=False)]
        ups = [*(None if at is None else at + lane for at in places), error]
        points = [
            f"{x:g},{chart.height - bottom - up * (chart.height - top - bottom):.1f}"
            for x, up in zip(chart.places, ups, strict=True)
            if up is not None
        ]
        chart.marks.append({"points": " ".join(points), "shade": round(100 * (ups[-1] or 0.0)), **job})
    return chart
