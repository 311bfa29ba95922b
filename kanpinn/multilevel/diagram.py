"""The schedule as a small picture in plain text: one row per level, one column per visit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kanpinn.multilevel.stages import Stage

MAX_WIDTH = 100
_UP, _DOWN = "╱", "╲"
_NOTHING = "·"


@dataclass(frozen=True)
class Visit:
    """Stages on one level with no other level in between.

    Attributes:
        level: The level.
        label: Its steps, as shown: "100", "80+20" for two stages, "8×20+100" for eight random starts before them,
            "80+[widen 2]20" where the network is changed.
        steps: Steps of all its stages, random starts included.
    """

    level: int
    label: str = _NOTHING
    steps: int = 0


def visited(stages: Sequence[Stage]) -> list[Visit]:
    """The levels a schedule visits, in their order; also those it only passes through: neighbours differ by one."""
    out: list[Visit] = []
    k = 0
    while k < len(stages):
        level = stages[k].level
        while out and abs(level - out[-1].level) > 1:
            out.append(Visit(out[-1].level + (1 if level > out[-1].level else -1)))
        labels, steps = [], 0
        while k < len(stages) and stages[k].level == level:
            alike = 1
            if stages[k].trial is not None:
                same = (s.trial is not None and s.level == level for s in stages[k:])
                alike = next((n for n, holds in enumerate(same) if not holds), len(stages) - k)
            edits = "".join(f"[{kind} {amount}]".replace("(", "").replace(")", "") for kind, amount in stages[k].edits)
            if stages[k].steps or edits:
                times = f"{alike}×" if stages[k].trial is not None else edits
                labels.append(f"{times}{stages[k].steps}")
            steps += alike * stages[k].steps
            k += alike
        out.append(Visit(level, "+".join(labels) or _NOTHING, steps))
    return out


def diagram(
    stages: Sequence[Stage], grids: Mapping[int, int | None] | Callable[[int], int | None], width: int = MAX_WIDTH
) -> str:
    """Draw the schedule, finest level on top, every visit with its number of steps; one line for a single visit.

    Grids are spline intervals per edge by level, None for a network without them. A schedule too long for the width,
    at most `MAX_WIDTH` columns, is drawn as far as it fits, with a word on what follows.
    """
    visits = visited(stages)
    names = _row_names(stages, [v.level for v in visits], grids if callable(grids) else grids.get)
    total = f"{sum(visit.steps for visit in visits)} steps"
    trials = [stage for stage in stages if stage.trial is not None]
    starts = f"; {len(trials)} random starts of {trials[0].steps} steps, the best goes on" if trials else ""
    if len(visits) == 1:
        edits = f": {visits[0].label}" if any(stage.edits for stage in stages) else ""
        return f"{names[visits[0].level]}  {total}{edits}{starts}"
    indent = max(map(len, names.values())) + 2
    shown, rest = _fitting(visits, min(width, MAX_WIDTH) - indent)
    low, high = min(v.level for v in visits), max(v.level for v in visits)
    # Level l is row 2 (high − l); the odd rows between hold the joints.
    rows = [names.get((2 * high - k) // 2, "").ljust(indent) if k % 2 == 0 else " " * indent
            for k in range(2 * (high - low) + 1)]  # fmt: skip
    column = indent
    for k, visit in enumerate(shown):
        row = 2 * (high - visit.level)
        if k:
            up = visit.level > shown[k - 1].level
            joint = row + 1 if up else row - 1
            rows[joint] = rows[joint].ljust(column) + (_UP if up else _DOWN)
            column += 1
        rows[row] = rows[row].ljust(column) + visit.label
        column += len(visit.label)
    lines = [row.rstrip() for row in rows]
    total = f"{len(visits)} visits, {total}"
    return "\n".join([*lines, (f"{rest}; {total} in all" if rest else total) + starts])


def _row_names(stages: Sequence[Stage], levels: Sequence[int], grid: Callable[[int], int | None]) -> dict[int, str]:
    """Label before each level's row: level, grid, and the optimisers where not all are the same."""
    optimizers: dict[int, list[str]] = {level: [] for level in sorted(set(levels))}
    for stage in stages:
        name = _optimizer_name(stage.optimizer)
        if stage.steps and name and name not in optimizers[stage.level]:
            optimizers[stage.level].append(name)
    columns = [[f"level {level}" for level in optimizers]]
    if any(grid(level) is not None for level in optimizers):
        columns.append([f"grid {grid(level)}" for level in optimizers])
    if len({name for names in optimizers.values() for name in names}) > 1:
        columns.append([", ".join(names) for names in optimizers.values()])
    columns = [[cell.ljust(max(map(len, column))) for cell in column] for column in columns]
    return {level: "  ".join(cells) for level, cells in zip(optimizers, zip(*columns, strict=True), strict=True)}


def _optimizer_name(chosen: Any) -> str:
    return str(chosen.get("name")) if isinstance(chosen, Mapping) else "" if chosen is None else str(chosen)


def _fitting(visits: Sequence[Visit], width: int) -> tuple[Sequence[Visit], str]:
    """The visits that fit into some columns, and what is left out in words ("" if nothing is)."""
    ends, end = [], -1
    for visit in visits:
        end += 1 + len(visit.label)
        ends.append(end)
    fits = max(1, sum(end <= width for end in ends))
    if fits == len(visits):
        return visits, ""
    for period in range(2, fits):
        cycles = _cycles_from(visits, period, fits)
        if cycles is not None:
            first, many = cycles
            return visits[:first], f"… and {many} more cycle{'s' if many > 1 else ''} like the last"
    return visits[:fits], f"… and {len(visits) - fits} more visits"


def _cycles_from(visits: Sequence[Visit], period: int, fits: int) -> tuple[int, int] | None:
    """Number of visits to show so that only repetitions of the last `period` of them follow, and of repetitions.

    None where there is no such number up to `fits`. The very last visit may have other steps, as no cycle follows it.
    """
    known = [*visits[:-1], replace(visits[-1], label="", steps=0)]
    first = len(visits) - (len(visits) - fits + period - 1) // period * period
    if first < period + 1:
        return None
    for k in range(first, len(visits)):
        if known[k] != visits[k - period] and not (k == len(visits) - 1 and known[k].level == visits[k - period].level):
            return None
    return first, (len(visits) - first) // period
