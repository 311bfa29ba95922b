"""Figures of `science.py`: errors of all arms, the scaling law, the peaks and the image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from science_data import image
from science_table import PUBLISHED, Run

COLOURS = {"KAN": "#0072b2", "MLP": "#d55e00", "": "#555555"}


def figures(runs: Sequence[Run], folder: Path) -> None:
    """Draw what there are runs of."""
    folder.mkdir(parents=True, exist_ok=True)
    chosen = {"errors": errors, "scaling": scaling}
    for name, draw in chosen.items():
        figure = draw(runs)
        if figure is not None:
            figure.savefig(folder / f"{name}.png", dpi=150, bbox_inches="tight")
    curves = {name: {arm: folder / f"{name}_{arm}_0.npz" for arm in ("kan", "mlp")} for name in ("continual", "image")}
    for name, both in curves.items():
        if all(path.exists() for path in both.values()):
            draw = peaks if name == "continual" else pictures
            draw({arm: np.load(path) for arm, path in both.items()}).savefig(
                folder / f"{name}.png", dpi=150, bbox_inches="tight"
            )


def errors(runs: Sequence[Run]) -> Figure | None:
    """Draw the errors of all seeds, an arm per line."""
    arms = [(one, arm) for one in PUBLISHED for arm in dict.fromkeys(run.arm for run in runs if run.experiment == one)]
    if not arms:
        return None
    figure = Figure(figsize=(7.5, 0.3 * len(arms) + 0.9))
    axes = figure.subplots()
    for k, (experiment, arm) in enumerate(arms):
        own = [run.error for run in runs if (run.experiment, run.arm) == (experiment, arm)]
        found = [max(error, 1e-17) for error in own if math.isfinite(error)]
        axes.plot(found, [k] * len(found), "o", ms=4, mfc="none", color=COLOURS[arm[:3] if arm[:3] in COLOURS else ""])
    axes.set_xscale("log")
    axes.set_yticks(range(len(arms)), [f"{experiment}: {arm}" for experiment, arm in arms], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("error (see the table), one circle per seed; rounding below 1e-15")
    axes.grid(axis="x", alpha=0.3)
    return figure


def scaling(runs: Sequence[Run]) -> Figure | None:
    """Draw the error over the parameters, with the slope −4."""
    own = [run for run in runs if run.experiment == "scaling"]
    if not own:
        return None
    figure = Figure(figsize=(4.5, 3.4))
    axes = figure.subplots()
    for run in own:
        pairs = [pair.split(":") for pair in run.found.split("; ")[-1].split()]
        size, error = np.array(pairs, dtype=float).T
        label = "KAN [2,1,1], five seeds" if run is own[0] else None
        axes.loglog(size, error, "o-", ms=4, lw=0.8, color=COLOURS["KAN"], label=label)
    axes.loglog(size, error[1] * (size / size[1]) ** -4.0, "k--", lw=1, label="N⁻⁴")
    axes.set_xticks([25, 50, 100, 200, 500], ["25", "50", "100", "200", "500"])
    axes.minorticks_off()
    axes.set_xlabel("parameters N")
    axes.set_ylabel("relative L2 error")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure


def peaks(curves: dict[str, Any]) -> Figure:
    """Draw both networks after the last of five peaks."""
    figure = Figure(figsize=(7.5, 2.6))
    both = figure.subplots(1, 2, sharey=True)
    for axes, (arm, curve) in zip(both, curves.items(), strict=True):
        axes.plot(curve["x"], curve["wanted"], "k", lw=0.8)
        axes.plot(curve["x"], curve["u"], "--", lw=1.4, color=COLOURS[arm.upper()])
        axes.set_title(f"{arm.upper()} (dashed) after the last of five peaks", fontsize=9)
        axes.set_ylim(-0.6, 1.6)
        axes.set_xlabel("x")
    return figure


def pictures(curves: dict[str, Any]) -> Figure:
    """Draw the image and both networks."""
    figure = Figure(figsize=(7.5, 2.8))
    shown = {"image": image(), **{arm.upper(): curve["picture"] for arm, curve in curves.items()}}
    for axes, (name, picture) in zip(figure.subplots(1, 3), shown.items(), strict=True):
        axes.imshow(picture, cmap="gray", vmin=0, vmax=1)
        psnr = "" if name == "image" else f", {-10 * np.log10(np.mean((picture - shown['image']) ** 2)):.1f} dB"
        axes.set_title(f"{name}{psnr}", fontsize=9)
        axes.axis("off")
    return figure
