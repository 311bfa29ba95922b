"""The table of `science.py`: medians and worst of the seeds, beside what was published."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

PUBLISHED = {
    "xy": "figure only; a grid update lowers the error",
    "exp_sin": "figure only; KAN below MLP",
    "tutorial": "RMSE 7.2e-2 train, 8.6e-2 test, with λ = 0.01",
    "scaling": "RMSE ∝ N⁻⁴",
    "continual": "figure only; KAN keeps the peaks, MLP does not",
    "image": "figures only; KAN sharper",
    "digits": "MNIST: 93.7 % train, 92.5 % test, or 95.9 and 93.5",
    "harmonic_oscillator": "(x² + p²)/2 up to a function of itself",
    "pendulum": "formula of V",
    "double_pendulum": "formula of V",
    "neo_hookean": "P12 = 0.42 (F11 F21 + …), P11 = 0.42 (…) + 0.28 log F",
}
"""Of KAN (arXiv:2404.19756), KAN 2.0 (arXiv:2408.10205), pykan's tutorial, and a poster that repeats them."""

MEASURE = {
    "xy": "RMSE",
    "exp_sin": "RMSE",
    "tutorial": "test RMSE",
    "scaling": "relative L2",
    "continual": "RMSE, all peaks",
    "image": "RMSE",
    "digits": "share of the test rows that is wrong",
    "harmonic_oscillator": "relative distance from g(½(x² + p²)), or of the formula",
}


@dataclass(frozen=True)
class Run:
    """One run of an arm.

    Attributes:
        experiment: Name of the experiment.
        arm: Name of the arm.
        seed: The seed.
        error: Its error.
        parameters: Parameters of its network.
        seconds: Wall time of its training.
        found: What else it found, in words.
    """

    experiment: str
    arm: str
    seed: int
    error: float
    parameters: int
    seconds: float
    found: str


def table(runs: Sequence[Run]) -> str:
    """Return the table of all arms."""
    lines = [
        "| experiment | published | arm | seeds | error: median (worst) | parameters | s | found |",
        "|---|---|---|--:|--:|--:|--:|---|",
    ]
    for experiment in PUBLISHED:
        told = PUBLISHED[experiment]
        for arm in dict.fromkeys(run.arm for run in runs if run.experiment == experiment):
            own = [run for run in runs if (run.experiment, run.arm) == (experiment, arm)]
            errors = sorted(run.error for run in own)
            good = sum(math.isfinite(error) for error in errors)
            size = f"{number(statistics.median(errors))} ({number(errors[-1])})"
            seconds = statistics.median(run.seconds for run in own)
            cells = [experiment, told, arm, str(len(own)), size, str(own[0].parameters), f"{seconds:.0f}"]
            lines.append(f"| {' | '.join(cells)} | {words(experiment, own, good)} |")
            told = experiment = ""
            experiment = own[0].experiment
    return "\n".join(lines) + "\n"


def number(error: float) -> str:
    """An error in two digits."""
    return f"{error:.1e}" if math.isfinite(error) else "none"


def words(experiment: str, own: Sequence[Run], good: int) -> str:
    """Findings of the seeds: slopes, PSNR, or formulas and how often."""
    if experiment == "scaling":
        slopes = sorted(float(run.found.split(";")[0].removeprefix("slope ")) for run in own)
        return f"slopes by intervals {slopes[0]:.2f} to {slopes[-1]:.2f}"
    if experiment == "image":
        return f"PSNR {statistics.median(float(run.found.split()[1]) for run in own):.1f} dB"
    if experiment == "continual" or not own[0].found:
        return ""
    middle = sorted(own, key=lambda run: run.error)[len(own) // 2]
    return f"{good} of {len(own)}: {middle.found}"
