"""The tables of the paper's experiments, and the claims they are held to."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence

from paper_run import Run
from paper_study import EXPERIMENTS, SCHEDULES, SOURCE, Experiment, Reading

Group = Mapping[str, Sequence[Run]]
"""Runs of one experiment under one reading, by variant."""

PAPER_MULTILEVEL = EXPERIMENTS["regression"].paper["spline multilevel"]
RIGHT = 0.1
"""Relative L2 error up to which a network is said to have found the solution."""

STAIR = 1.5
"""By what factor the loss must fall from the end of a level to the end of the next to be called a stair."""


def markdown(runs: Sequence[Run], experiments: Sequence[str], fingerprints: Mapping[str, str]) -> str:
    """All tables with their verdicts.

    Args:
        runs: The newest run of each kind.
        experiments: Names of the experiments to show.
        fingerprints: Of the present code, by experiment.

    Returns:
        Markdown text.
    """
    parts = []
    for name in experiments:
        experiment = EXPERIMENTS[name]
        mine = [run for run in runs if run.experiment == name]
        parts.append(f"### {experiment.title}\n")
        if not mine:
            parts.append("No runs.\n")
            continue
        groups = {reading.name: grouped(mine, experiment, reading) for reading in experiment.readings}
        groups = {name: group for name, group in groups.items() if group}
        detailed = [reading for reading in groups if experiment.reading(reading).ours] or list(groups)[:1]
        for reading in detailed:
            parts.append(main_table(experiment, reading, groups[reading]))
        if len(groups) > len(detailed):
            parts.append(readings_table(groups))
        parts.append(_verdicts(name, groups))
        if any(run.fingerprint != fingerprints[name] for run in mine):
            parts.append("**Code or configs have changed since some of these runs: repeat them with --again.**\n")
    return "\n".join([*parts, _footer(runs)])


def grouped(runs: Sequence[Run], experiment: Experiment, reading: Reading) -> dict[str, list[Run]]:
    """The runs under one reading by variant, in the order of the study; variants without runs are left out."""
    mine = [run for run in runs if run.reading == reading.name]
    by_name = {v.name: [run for run in mine if run.variant == v.name] for v in experiment.variants()}
    return {name: found for name, found in by_name.items() if found}


def loss(run: Run) -> float:
    """The training loss; infinite for a run that diverged, whatever its best state was."""
    return run.loss if run.status != "diverged" and math.isfinite(run.loss) else math.inf


def error(run: Run) -> float:
    """The relative L2 error, with the same convention."""
    return run.relative_l2 if run.status != "diverged" and math.isfinite(run.relative_l2) else math.inf


def mean(group: Group, variant: str, of: Callable[[Run], float] = loss) -> float:
    """The mean over seeds, as the paper's; NaN without runs."""
    values = [of(run) for run in group.get(variant, ())]
    return statistics.fmean(values) if values else math.nan


def main_table(experiment: Experiment, reading: str, group: Group) -> str:
    """Every variant under one reading: losses beside the paper's, errors, seconds."""
    measure = "MSE" if experiment.name == "regression" else "loss"
    lines = [
        f"Reading: {reading}.\n",
        f"| variant | steps | parameters | seeds | paper's {measure} | mean {measure} | median | worst "
        "| rel. L2 error, median | worst | largest error, median | seconds, median | work |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    paper = {v.name: v.paper for v in experiment.variants()}
    for name, runs in group.items():
        losses, errors = [loss(run) for run in runs], [error(run) for run in runs]
        diverged = sum(run.status == "diverged" for run in runs)
        printed = paper[name]
        cells = [
            name,
            str(round(statistics.median(run.steps for run in runs))),
            str(runs[0].parameters),
            f"{len(runs)}" + (f" ({diverged} diverged)" if diverged else ""),
            "–" if printed is None else _short(printed),
            _short(statistics.fmean(losses)),
            _short(statistics.median(losses)),
            _short(max(losses)),
            _short(statistics.median(errors)),
            _short(max(errors)),
            _short(statistics.median(run.linf for run in runs)),
            f"{statistics.median(run.seconds for run in runs):.0f}",
            f"{statistics.median(run.work for run in runs):.1e}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def readings_table(groups: Mapping[str, Group]) -> str:
    """Mean losses of all readings side by side."""
    names = [f"{kind} {schedule}" for kind in ("spline", "relu") for schedule in SCHEDULES]
    names += list(dict.fromkeys(name for group in groups.values() for name in group if name.startswith("mlp")))
    lines = [
        "Mean loss over seeds under every reading tried (– where a reading changes nothing for a network):\n",
        f"| reading | seeds | {' | '.join(names)} |",
        f"|---|--:|{'--:|' * len(names)}",
    ]
    for reading, group in groups.items():
        seeds = sorted({len(group[name]) for name in names if name in group})
        cells = [reading, "–".join(map(str, dict.fromkeys([*seeds[:1], *seeds[-1:]]))) or "–"]
        lines.append(f"| {' | '.join([*cells, *(_short(mean(group, name)) for name in names)])} |")
    return "\n".join(lines) + "\n"


def _short(value: float) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:.1e}" if math.isfinite(value) else "∞"


def _verdicts(name: str, groups: Mapping[str, Group]) -> str:
    lines = []
    for reading, group in groups.items():
        for claim, held, numbers in VERDICTS[name](group):
            word = "not run" if held is None else ("**yes**" if held else "**no**")
            lines.append(f"- {claim}; reading {reading}: {word}{f' ({numbers})' if held is not None else ''}")
    return "\n".join(lines) + "\n"


Verdict = tuple[str, bool | None, str]
"""A claim, whether it holds (None: not all of its runs are there), and the numbers."""


def _judge(claim: str, numbers: Mapping[str, float], held: Callable[[], bool]) -> Verdict:
    if any(math.isnan(value) for value in numbers.values()):
        return claim, None, ""
    return claim, held(), ", ".join(f"{name} {_short(value)}" for name, value in numbers.items())


def regression(group: Group) -> list[Verdict]:
    """The paper's order and number, its negative result, and the claim for this project's optimiser."""
    c, f, m = (mean(group, f"spline {schedule}") for schedule in SCHEDULES)
    rc, rm = mean(group, "relu coarse"), mean(group, "relu multilevel")
    out = [
        _judge(
            f"spline multilevel: mean MSE at most {PAPER_MULTILEVEL:.1e} and below coarse and fine",
            {"multilevel": m, "coarse": c, "fine": f},
            lambda: m <= PAPER_MULTILEVEL and m < min(c, f),
        ),
        _judge(
            "ReLU basis: multilevel no better than 1.5 × coarse",
            {"multilevel": rm, "coarse": rc},
            lambda: rm >= rc / 1.5,
        ),
    ]
    own = mean(group, "ours multilevel")
    if math.isnan(own):
        return out
    experiment = EXPERIMENTS["regression"]
    rivals = {f"{name}": mean(group, name) for name in group if name not in ("ours multilevel", "default")}
    rivals |= {f"paper's {name}": value for name, value in experiment.paper.items()}
    best = min(rivals, key=lambda name: rivals[name])
    return [
        *out,
        _judge(
            "this project's optimiser: multilevel MSE below every other [2,5,1] KAN, perceptron and paper's number",
            {"multilevel": own, f"best other, {best},": rivals[best]},
            lambda: own < rivals[best],
        ),
    ]


def poisson_interface(group: Group) -> list[Verdict]:
    """Splines below the perceptrons at equal epochs, the ReLU basis stuck."""
    m, relu = mean(group, "spline multilevel", error), mean(group, "relu multilevel", error)
    rivals = {name: mean(group, name, error) for name in ("mlp [2,16,16,1]", "mlp [3,16,16,1]")}
    beaten = [
        _judge(f"spline multilevel: error below {name} at equal epochs", {"multilevel": m, name: e}, lambda e=e: m < e)
        for name, e in rivals.items()
    ]
    # The "near 1e-1 or worse", as a number.
    return [*beaten, _judge("ReLU basis: error stuck at 0.05 or worse", {"multilevel": relu}, lambda: relu >= 0.05)]


def burgers(group: Group) -> list[Verdict]:
    """The factor in the training loss, and the claim for this project's optimiser."""
    c, f, m = (mean(group, f"spline {schedule}") for schedule in SCHEDULES)
    return [
        _judge(
            "spline multilevel: training loss at least 20 × below coarse-only and fine-only (paper: 170 ×)",
            {"multilevel": m, "coarse": c, "fine": f},
            lambda: 20 * m <= min(c, f),
        ),
        *_second_order(group),
    ]


def allen_cahn(group: Group) -> list[Verdict]:
    """The staircase, who finds the solution, and the claim for this project's optimiser."""
    stairs = [[float(x) for x in run.losses.split()] for run in group.get("spline multilevel", ())]
    drops = [statistics.median(s[k] / s[k + 1] for s in stairs) for k in range(len(stairs[0]) - 1)] if stairs else []
    smallest = min(drops, default=math.nan)
    m, relu = mean(group, "spline multilevel", error), mean(group, "relu multilevel", error)
    rivals = {"ReLU basis": relu} | {n: mean(group, n, error) for n in ("mlp [2,5,5,1]", "mlp [2,35,35,1]")}
    return [
        _judge(
            f"staircase: every level ends {STAIR} × or more below the one before",
            {"smallest factor": smallest},
            lambda: smallest >= STAIR,
        ),
        _judge(
            f"spline multilevel finds the solution (error ≤ {RIGHT}), ReLU basis and perceptrons do not",
            {"multilevel": m, **rivals},
            lambda: m <= RIGHT < min(rivals.values()),
        ),
        *_second_order(group),
    ]


def _second_order(group: Group) -> list[Verdict]:
    """Nested levels with second-order steps against the finest level alone, if they were run."""
    m, f = mean(group, "ours multilevel", error), mean(group, "ours fine", error)
    if math.isnan(m) and math.isnan(f):
        return []
    tm, tf = (mean(group, f"ours {s}", lambda run: run.seconds) for s in ("multilevel", "fine"))
    return [
        _judge(
            "this project's optimiser: multilevel error at least 10 × below the finest level alone, in no more time",
            {"multilevel": m, "fine": f, "seconds": tm, "against": tf},
            lambda: 10 * m <= f and tm <= 1.05 * tf,
        )
    ]


VERDICTS: dict[str, Callable[[Group], list[Verdict]]] = {
    "regression": regression,
    "poisson_interface": poisson_interface,
    "burgers": burgers,
    "allen_cahn": allen_cahn,
}


def _footer(runs: Sequence[Run]) -> str:
    if not runs:
        return f"The paper is {SOURCE}, arXiv:2603.04827.\n"
    machines = sorted({f"{run.cpu}, {run.threads} thread(s) a run" for run in runs})
    dates = sorted(run.date[:10] for run in runs)
    when = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    return (
        f"The paper's numbers are means of five seeds ({SOURCE}, arXiv:2603.04827). Steps of a level count full-batch "
        "optimiser steps; of L-BFGS, each may have inner iterations. A run that diverged counts as infinite.\n"
        f"Ran on {'; '.join(machines)}; {when}.\n"
    )
