"""Figures of the paper's experiments, from run folders: loss over work, spectra of error and residual by level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from paper_study import EXPERIMENTS, OURS, Experiment
from scipy.fft import dctn

from kanpinn.evaluate.grid_evaluation import evaluate
from kanpinn.io.checkpoint import read_checkpoint
from kanpinn.io.solution import SolutionFile, read_solution
from kanpinn.plots.style import COLOURS, new_figure, save, styled
from kanpinn.run.checkpoints import Checkpoint, files, network

Folders = Mapping[tuple[str, str, str], Path]
"""Run folders of one seed, by experiment, variant and reading."""

BINS = 250
"""Points a line has at most: of longer histories the median of each bin is drawn, and the band of its values."""

LINES = {
    "spline coarse": ("coarse only", COLOURS[0], "-"),
    "spline fine": ("fine only", COLOURS[2], "-"),
    "spline multilevel": ("multilevel", "black", "-"),
    "relu multilevel": ("multilevel, ReLU basis", COLOURS[1], "-"),
    "mlp": ("MLP (steps stretched)", COLOURS[3], (0, (4, 1.5))),
}


def draw(folders: Folders, experiments: Sequence[str], where: Path) -> list[Path]:
    """Draw what can be drawn.

    Args:
        folders: Run folders of the first seed.
        experiments: Names of experiments.
        where: Folder of the figures.

    Returns:
        The files written.
    """
    shown = {name: found for name in experiments if (found := _first_reading(folders, name))}
    out = []
    for name, build in (("paper_loss.png", loss_figure), ("paper_spectra.png", spectra_figure)):
        figure = build(shown) if shown else None
        if figure is not None:
            save(figure, where / name, 170)
            out.append(where / name)
    return out


def _first_reading(folders: Folders, name: str) -> dict[str, Path]:
    """Run folders by variant, under the first reading that has the multilevel run."""
    for reading in EXPERIMENTS[name].readings:
        mine = {v: path for (e, v, r), path in folders.items() if (e, r) == (name, reading.name)}
        mine = {variant: path for variant, path in mine.items() if (path / "solution.h5").exists()}
        if "spline multilevel" in mine:
            return mine
    return {}


@styled
def loss_figure(shown: Mapping[str, Mapping[str, Path]]) -> Figure | None:
    """Training loss against work, steps × intervals, one panel per experiment.

    Args:
        shown: Run folders by experiment and variant.

    Returns:
        The figure.
    """
    rows, columns = (1, len(shown)) if len(shown) < 3 else (2, 2)
    figure = new_figure(4.2 * columns + 0.4, 2.7 * rows + 0.7)
    grid = figure.subplots(rows, columns, squeeze=False)
    handles = {}
    for axes in list(grid.flat)[len(shown) :]:
        axes.set_axis_off()
    for k, (name, runs) in enumerate(shown.items()):
        axes = grid.flat[k]
        experiment = EXPERIMENTS[name]
        chosen = dict(runs)
        if mlps := [variant for variant in runs if variant.startswith("mlp")]:
            chosen["mlp"] = runs[mlps[-1]]  # the largest
        data = {variant: read_solution(chosen[variant] / "solution.h5") for variant in LINES if variant in chosen}
        works = {variant: work(found, experiment) for variant, found in data.items() if variant != "mlp"}
        end = max(float(w[-1]) for w in works.values() if len(w))
        for variant, found in data.items():
            loss = np.asarray(found.history.get("loss", []), dtype=float)
            steps = np.arange(1, len(loss) + 1)
            x = works[variant] if variant in works else steps * end / max(len(loss), 1)
            label, colour, style = LINES[variant]
            bold = variant == "spline multilevel"
            handles[label] = _line(axes, x, loss, colour, style, bold=bold)
        _levels(axes, data["spline multilevel"], experiment, works["spline multilevel"])
        axes.set_yscale("log")
        axes.set_xlim(0, end)
        axes.set_title(experiment.title, pad=16)
        axes.grid(axis="y", color="0.9", linewidth=0.6)
        axes.set_axisbelow(True)
        if k % columns == 0:
            axes.set_ylabel("training loss")
        if k + columns >= len(shown):
            axes.set_xlabel("work: steps × intervals $n$ per edge")
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=3 if columns > 1 else 2)
    return figure


def work(data: SolutionFile, experiment: Experiment) -> np.ndarray:
    """Σ of intervals per edge over the steps so far, `[steps]`."""
    levels = np.asarray(data.history.get("level", []), dtype=int)
    return np.cumsum(experiment.grid * 2.0**levels)


def _line(axes: Axes, x: np.ndarray, y: np.ndarray, colour: str, style: object, *, bold: bool) -> object:
    """One curve; a long one as medians of bins with the band of its values."""
    width = 1.9 if bold else 1.2
    if len(y) > 2 * BINS:
        parts = np.array_split(np.arange(len(y)), BINS)
        low, middle, high = (np.array([np.quantile(y[p], q) for p in parts]) for q in (0.0, 0.5, 1.0))
        x, y = np.array([x[p].mean() for p in parts]), middle
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    return axes.plot(x, y, color=colour, linestyle=style, linewidth=width, zorder=3 if bold else 2)[0]


def _levels(axes: Axes, data: SolutionFile, experiment: Experiment, x: np.ndarray) -> None:
    """Mark where the levels of the multilevel run begin."""
    levels = np.asarray(data.history["level"], dtype=int)
    for k in [0, *(np.flatnonzero(np.diff(levels)) + 1)]:
        place = 0.0 if k == 0 else float(x[k - 1])
        if k:
            axes.axvline(place, color="0.45", linewidth=0.7, linestyle=(0, (4, 3)), zorder=1)
        axes.annotate(
            f"$n$ = {experiment.grid * 2 ** levels[k]}", (place, 1), xycoords=axes.get_xaxis_transform(),
            xytext=(1, 3), textcoords="offset points", fontsize=8.5, color="0.3",
        )  # fmt: skip


@styled
def spectra_figure(shown: Mapping[str, Mapping[str, Path]]) -> Figure | None:
    """Amplitude spectra of the error and of the equation's residual after each level, by optimiser.

    Args:
        shown: Run folders by experiment and variant.

    Returns:
        The figure.
    """
    variants = {"spline multilevel": "L-BFGS or Adam", "ours multilevel": OURS.replace("_", "–").title()}
    variants = {v: label for v, label in variants.items() if any(v in runs for runs in shown.values())}
    rows = [(variant, label, what) for variant, label in variants.items() for what in ("error", "residual")]
    figure = new_figure(3.0 * len(shown) + 0.6, 2.1 * len(rows) + 0.8)
    grid = figure.subplots(len(rows), len(shown), sharex="col", sharey="row", squeeze=False)
    most = max(len(EXPERIMENTS[name].steps) for name in shown)
    colours = [mpl.colormaps["viridis"](k / most) for k in range(most)]
    fields = {(v, n): level_fields(runs[v]) for n, runs in shown.items() for v in variants if v in runs}
    for row, (variant, label, what) in enumerate(rows):
        unit = "rms of $u$" if what == "error" else "first level's rms"
        grid[row, 0].set_ylabel(f"{label}\n{what} / {unit}")
        for column, name in enumerate(shown):
            axes, experiment = grid[row, column], EXPERIMENTS[name]
            if row == 0:
                axes.set_title(experiment.title.split(",")[0])
            if row == len(rows) - 1:
                axes.set_xlabel("wavenumber (half-waves per side)")
            axes.grid(color="0.92", linewidth=0.6)
            axes.set_axisbelow(True)
            if (variant, name) not in fields:
                axes.text(0.5, 0.5, "not run", transform=axes.transAxes, ha="center", color="0.5")
                axes.set_xscale("log")
                continue
            reference, errors, residuals = fields[variant, name]
            values = errors if what == "error" else residuals
            scale = float(np.sqrt(np.mean((reference if what == "error" else residuals[0]) ** 2)))
            if what == "error":
                k, amplitude = bands(*spectrum(reference / scale))
                axes.loglog(k, amplitude, color="0.6", linewidth=2.2, label="$u$", zorder=1)
            for level, value in enumerate(values):
                n = experiment.grid * 2**level
                k, amplitude = bands(*spectrum(value / scale))
                axes.loglog(k, amplitude, color=colours[level], linewidth=1.3, label=f"$n$ = {n}")
            axes.set_xlim(k[0], k[-1])
            if row == 0:
                axes.legend(fontsize=7.5, loc="lower left", handlelength=1.4, labelspacing=0.25)
    return figure


def level_fields(folder: Path) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """The reference on the output grid, and error and residual after each level of a nested run.

    Args:
        folder: The run folder.

    Returns:
        The reference `[n_2, n_1]`, and errors and residuals of that shape, coarsest level first.
    """
    data = read_solution(folder / "solution.h5")
    names = [name for name in ("t", "z", "y", "x") if name in data.coordinates]
    mesh = np.meshgrid(*(np.asarray(data.coordinates[name]) for name in names), indexing="ij")
    reference = np.asarray(data.fields["u_ref"])
    errors, residuals = [], []
    # The last checkpoint of each level; `checkpoint.keep` has kept them all.
    checkpoints = [Checkpoint(file, *read_checkpoint(file)) for file in files(folder)]
    for checkpoint in {checkpoint.meta["levels"][0]: checkpoint for checkpoint in checkpoints}.values():
        network_residuals, theta = network(checkpoint)
        columns = [mesh[names.index(name)].ravel() for name in network_residuals.problem.domain.names]
        points = torch.from_numpy(np.stack(columns, axis=1)).to(theta)
        errors.append(evaluate(network_residuals, theta, points)["u"].reshape(reference.shape) - reference)
        (residual,) = network_residuals.interior(theta, points).values()
        residuals.append(residual.double().numpy().reshape(reference.shape))
    return reference, errors, residuals


def spectrum(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Radial amplitude spectrum of a field on a box, by the cosine transform, which needs no periodicity.

    The transform is scaled so that the squares of all amplitudes add up to the field's mean square (Parseval).

    Args:
        values: `[n_2, n_1]`, samples at equal distances.

    Returns:
        Wavenumbers 1, 2, … in half-waves per side (the mean is left out) and the root of the power in the ring of
        width one around each.
    """
    power = np.square(np.asarray(dctn(values, type=2, norm="ortho"))) / values.size
    k = np.hypot(*np.meshgrid(*(np.arange(n) for n in values.shape), indexing="ij"))
    ring = np.rint(k).astype(int).ravel()
    total = np.bincount(ring, weights=power.ravel())
    last = min(values.shape)  # beyond it rings are incomplete
    return np.arange(1, last), np.sqrt(total[1:last])


def bands(k: np.ndarray, amplitude: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A spectrum in bands of a sixth of an octave: symmetric fields leave every other ring all but empty.

    Args:
        k: Wavenumbers `[K]`.
        amplitude: Amplitudes there, `[K]`.

    Returns:
        The geometric mean wavenumber and the root mean square amplitude of each band that holds any.
    """
    band = np.rint(6 * np.log2(k)).astype(int)
    where = [np.flatnonzero(band == b) for b in np.unique(band)]
    centres = np.array([np.exp(np.log(k[w]).mean()) for w in where])
    return centres, np.array([np.sqrt(np.mean(amplitude[w] ** 2)) for w in where])
