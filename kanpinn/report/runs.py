"""Content of the page of one run."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from kanpinn.axes import norm
from kanpinn.compare.comparison import Run, read_run
from kanpinn.errors import UserError, caution
from kanpinn.io.config_text import read_config
from kanpinn.io.metrics import read_metrics
from kanpinn.report.page import Picture, Slider, number, paired, picture, seconds

STATUS = {
    "converged": ("good", "The tolerance was met, or the gradient was zero but for rounding."),
    "step_limit": ("good", "The planned steps were used, or nothing fell any more."),
    "time_limit": ("fair", "The time limit was reached; the state there is shown."),
    "interrupted": ("fair", "A signal stopped the run; the state reached is shown."),
    "diverged": ("poor", "The optimisation left the finite numbers; the best state before is shown."),
    "unfinished": ("poor", "There are no results: the run is still under way, or was killed."),
}
"""Mark of how a run ended, and its words."""

_CAPTIONS = {
    "solution": (
        "Solution",
        "Network and reference on one colour scale; the error on a scale of its own, symmetric about 0.",
    ),
    "slices": (
        "Time slices",
        "The unknown at a few times, the error there, and the relative error of every time slice.",
    ),
    "parameter": (
        "Values of the parameter",
        "The unknown at a few values, the error there, and the relative error at every value.",
    ),
    "data": (
        "Data against the solution",
        "Measured against computed values, what is left over the first coordinate, and its distribution.",
    ),
    "classes": ("Classes", "Rows of every class by the class that the network gives them, for each part of the table."),
    "residual": (
        "Residual",
        "Size of the equation's residual, and the last collocation points by the size of the residual there.",
    ),
    "history": ("Course of the training", "Loss and relative error against steps and seconds, with the levels below."),
    "cycle": ("Levels", "Which level was under work when, for how many steps, and the error each visit left."),
    "spectrum": (
        "Spectrum of the error",
        "Which wave numbers of the error each level removed; parallels to the dotted line tell about the ends only.",
    ),
    "activations": ("Activations", "The learned functions on the edges, the largest of each layer, with their knots."),
}
_LOG_LINES = 400
_PLACES = 11
"""Values of a parameter that its slider shows."""
_LEVEL = (
    *("level", "grid", "parameters", "entered", "optimizer", "steps", "points", "loss", "relative_l2", "transfer_gap"),
    "wall_time_s",
)


_TRIAL = ("network", "why", "stages", "estimate", "trusted", "parameters", "seconds", "kept", "doubt")


def run_content(path: Path, dpi: int) -> dict[str, Any]:
    """Gather the content of a run's page, from its folder or solution.h5; raises UserError if a file is damaged."""
    from kanpinn.plots.style import problem_title

    run = read_run(path)
    file = path if path.is_file() else path / "solution.h5"
    data = pictures = provenance = sliders = None
    damaged = _damaged(run.folder)
    for line in damaged.values():
        caution(line)
    config = "" if "config.yaml" in damaged else _text(run.folder / "config.yaml")
    if file.is_file():
        from kanpinn.io.solution import read_solution

        data = read_solution(file)
        config = config or data.config
        pictures, provenance, sliders = _pictures(data, dpi), _provenance(file), _sliders(data, min(dpi, 90))
    mood, words = STATUS.get(run.status, ("fair", ""))
    if run.metrics.get("limited_by"):
        words += f" Limited by {run.metrics['limited_by']}."
    if mood == "good" and run.flags:
        mood = "fair"
    return {
        "run": run,
        "title": problem_title(run.problem).replace(r"\$", "$") or run.name,
        "equation": data.equation if data is not None else "",
        "mood": mood,
        "words": f"{words} {run.message[:1].upper()}{run.message[1:]}" if run.message else words,
        "damaged": list(damaged.values()),
        "tiles": _tiles(run),
        "pictures": pictures or [],
        "sliders": sliders or [],
        "explained": _explained(run.folder / "explanation.json", dpi),
        "levels": [{"visit": k, **dict.fromkeys(_LEVEL), **record} for k, record in enumerate(run.levels, start=1)],
        "path": [{**dict.fromkeys(_TRIAL), **trial} for trial in run.metrics.get("path", [])],
        "accuracy": number(run.metrics.get("accuracy")),
        "unknowns": list(run.errors()),
        "conditions": _conditions(data.points) if data is not None else [],
        "choices": {key: run.config[key] for key in _CHOICES if run.config.get(key) is not None},
        "config": config,
        "provenance": provenance or {},
        "files": _files(run.folder),
        "log": "\n".join(_text(run.folder / "log.txt").splitlines()[-_LOG_LINES:]),
    }


_CHOICES = ("problem", "backbone", "sampler", "schedule", "optimizer", "weighting", "seed", "dtype", "device")


def _damaged(folder: Path) -> dict[str, str]:
    """Say of metrics.json and config.yaml, by name, what is wrong with them; solution.h5 has their content too."""
    found = {}
    try:
        read_metrics(folder / "metrics.json")
    except UserError as error:
        found["metrics.json"] = f"{str(error).removesuffix('.')}; its content is taken from solution.h5"
    file = folder / "config.yaml"
    try:
        if text := _text(file):
            read_config(text)
    except ValueError as error:
        found[file.name] = f"{file}: is damaged ({error}); its content is taken from solution.h5"
    return found


def _text(file: Path) -> str:
    """A text file's content; "" where there is none."""
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}; expected a file that can be read.") from error


def _tiles(run: Run) -> list[tuple[str, str, str]]:
    """The numbers at the top: what, value, and a word on it."""
    tiles = [
        (f"relative L₂ error of {name}", number(value), "over the output grid") for name, value in run.errors().items()
    ]
    tiles += [
        (f"largest error of {name}", number(value), "over the output grid")
        for name, value in run.errors("linf").items()
    ]
    if not tiles and run.metrics:
        tiles = [("error", "–", "no reference to compare with")]
        meaning = "" if run.metrics.get("error_estimate_trusted") else " (?)"
        by_defect = run.metrics.get("error_estimate_by") == "defect"
        how = run.metrics.get("error_estimate_doubt") or ("by its defect" if by_defect else "change by the last level")
        tiles += [
            (f"estimated error of {name}{meaning}", number(value), how)
            for name, value in (run.metrics.get("error_estimate") or {}).items()
        ]
    for name, found in (run.metrics.get("coefficients") or {}).items():
        interval, settled = found.get("interval_95"), found.get("settled") is not False
        words = f"95 %: {number(interval[0], 5)} to {number(interval[1], 5)}" if interval else "found from the data"
        tiles.append((name, number(found.get("value"), 5), words if settled else f"{words}; not settled"))
    tiles.append(("loss", number(run.metrics.get("loss")), "at the end"))
    tiles.append(("parameters", number(run.metrics.get("parameters")), "of the network"))
    tiles.append(("training", seconds(run.metrics.get("wall_time_s")), f"{number(run.steps)} steps"))
    return tiles


def _pictures(data: Any, dpi: int) -> list[Picture]:
    """All figures with captions."""
    from kanpinn.plots import figures

    found = []
    for name, build in figures(data).items():
        figure = build()
        if figure is None:
            continue
        kind, _, unknown = name.partition("_")
        title, caption = _CAPTIONS[kind]
        of = f" of {unknown}" if unknown and len(data.unknowns) > 1 else ""
        alt = f"{title}{of} for the problem {data.problem}. {caption}"
        found.append(picture(figure, f"{title}{of}", caption, alt, dpi))
    return paired(found)


def _sliders(data: Any, dpi: int) -> list[Slider]:
    """The solution at several values of each parameter, the others at their middle."""
    from kanpinn.plots.frames import frames

    found = []
    for parameter, unknown in ((one, u) for one in data.parameters for u in data.unknowns):
        if set(data.axes) == set(data.parameters):
            continue
        values, places = data.coordinates[parameter], []
        figure, show = frames(data, unknown, parameter)
        title = f"Solution{f' of {unknown}' if len(data.unknowns) > 1 else ''} over {parameter}"
        caption = f"Move {parameter} from {values[0]:.4g} to {values[-1]:.4g}; all scales stay."
        for k in np.unique(np.round(np.linspace(0, len(values) - 1, _PLACES)).astype(int)):
            show(int(k))
            place = f"{values[k]:.4g}"
            places.append((place, picture(figure, title, caption, f"{title}: {parameter} = {place}.", dpi)))
        found.append(Slider(parameter, tuple(places)))
    return found


def _conditions(points: dict[str, dict[str, np.ndarray]]) -> list[dict[str, Any]]:
    """Each term's points and the size of its residual there."""
    rows = []
    for name, columns in points.items():
        size = np.abs(np.asarray(columns.get("residual", []), float))
        size = size[np.isfinite(size)]
        if size.size:
            rms = norm(size) / math.sqrt(size.size)
            rows.append({"name": name.replace("_", " "), "count": len(size), "rms": rms, "largest": float(size.max())})
    return rows


def _provenance(file: Path) -> dict[str, str]:
    """Versions and time of the solution file."""
    from kanpinn.io.hdf5 import existing_file

    with existing_file(file) as content:
        known = {name: str(content.attrs[name]) for name in content.attrs}
    shown = {"created": known.get("created", "–").replace("T", " ").replace("+00:00", " UTC")}
    shown |= {name.removesuffix("_version"): value for name, value in known.items() if name.endswith("_version")}
    return shown


def _explained(file: Path, dpi: int) -> dict[str, Any] | None:
    """Findings of `kanpinn explain`: inputs, trees and the drawing; None without its file."""
    text = _text(file)
    if not text:
        return None
    from kanpinn.plots.network import network_figure

    try:
        found = json.loads(text)
        figure = network_figure(found["network"])
        inputs = {unknown: list(by_name.items()) for unknown, by_name in found["inputs"].items()}
        reason = found["network"]["reason"]
        keys = ("form", "tree", "tolerance", "reason")
        warnings = list(found.get("warnings", []))  # files of older versions have none
        trees = {unknown: {key: known[key] for key in keys} for unknown, known in found["structure"].items()}
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise UserError(f"{file}: is damaged ({type(error).__name__}); kanpinn explain writes it again") from error
    caption = (
        "Functions on the edges over the values that reach them, each on a scale of its own; the fainter, the less "
        "they matter. A cross in a node multiplies."
    )
    drawn = None if figure is None else picture(figure, "Network", caption, f"Drawing of the network. {caption}", dpi)
    return {"inputs": inputs, "trees": trees, "picture": drawn, "reason": reason, "warnings": warnings}


def _files(folder: Path) -> list[tuple[str, str]]:
    """The run's files with their sizes."""
    from kanpinn.io.render import size

    files = sorted(file for file in folder.rglob("*") if file.is_file() and not file.name.startswith("."))
    return [
        (file.relative_to(folder).as_posix(), size(file.stat().st_size)) for file in files if file.name != "report.html"
    ]
