"""`kanpinn compare RUN… [--csv FILE] [-o FIGURE.png]`: runs side by side, and error against seconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kanpinn.cli.main import Parser
from kanpinn.errors import EXIT_DONE, UserError

_FOLDER = 40  # letters of a folder's path in the printed table
_KEYS = 3  # config keys that differ, in the printed table; the CSV file has all


def run(argv: Sequence[str]) -> int:
    """Print the tables and write what is asked for; raises UserError if a path is no run or cannot be written."""
    parser = Parser(prog="kanpinn compare", description="Show runs side by side: error, parameters, seconds, levels.")
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folders")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write all numbers, one row per run")
    parser.add_argument("-o", "--output", type=Path, metavar="FIGURE.png", help="draw error against seconds")
    arguments = parser.parse_args(argv)
    if arguments.output is not None and arguments.output.suffix.lower() != ".png":
        raise UserError(f"-o {arguments.output}: expected a file name that ends in .png")
    from kanpinn.compare.comparison import csv_text, named, read_run, table
    from kanpinn.io.atomic import check_replaceable, write_text

    check_replaceable("--csv", arguments.csv, ".csv", ".txt")
    runs = named([read_run(path) for path in arguments.runs])
    print(text(runs))
    if arguments.csv is not None:
        write_text(arguments.csv, csv_text(*table(runs)))
        print(arguments.csv)
    if arguments.output is not None:
        from kanpinn.plots.comparison import comparison_figure
        from kanpinn.plots.style import save

        figure = comparison_figure(runs)
        if figure is None:
            raise UserError(f"-o {arguments.output}: none of these runs has a history to draw.")
        save(figure, arguments.output, 160)
        print(arguments.output)
    return EXIT_DONE


def text(runs: Sequence) -> str:
    """Return a table of results, and one of the errors after each level with the seconds spent there."""
    from kanpinn.compare.comparison import by_level, cell, differing
    from kanpinn.io.render import clip
    from kanpinn.io.render import table as laid_out

    several = len({run.problem for run in runs}) > 1
    keys = [key for key in differing(runs) if key != "problem" and key not in " ".join(r.name for r in runs)]
    keys = [key for key in keys if not any(key in run.name or str(run.config.get(key)) in run.name for run in runs)]
    keys = [] if several else keys[:_KEYS]
    unknowns = list(dict.fromkeys(u for run in runs for u in run.errors()))
    folders = any(run.name != str(run.folder) for run in runs)
    head = ["run", *(["folder"] if folders else []), *(["problem"] if several else []), *keys, "status"]
    flagged = any(run.flags for run in runs)
    head += ["flags"] if flagged else []
    head += [*(f"rel. L2 {u}" for u in unknowns), "loss", "parameters", "steps", "seconds"]
    rows = []
    for run in runs:
        errors, seconds = run.errors(), run.metrics.get("wall_time_s")
        row = [run.name, *([clip(str(run.folder), _FOLDER)] if folders else []), *([run.problem] if several else [])]
        row += [*(cell(run.config.get(key)) for key in keys), run.status, *([run.flags] if flagged else [])]
        row += [*(_error(errors.get(u)) for u in unknowns), _error(run.metrics.get("loss"))]
        row += [run.metrics.get("parameters"), run.steps, None if seconds is None else round(seconds, 1)]
        rows.append(row)
    lines = laid_out(head, rows, indent=0)
    hints = [f"{run.name}: {run.message}" for run in runs if run.message]
    lines += ["", *hints] if hints else []
    deepest = max((record.get("level", 0) for run in runs for record in run.levels), default=-1)
    if deepest > 0:
        lines += ["", "error after each level (seconds on it)"]
        levels = [by_level(run, deepest + 1) for run in runs]
        cells = [
            [
                run.name,
                *(f"{_error(r.get('error')) or '–'} ({r['seconds']:.1f})" if r else None for r in found),
            ]
            for run, found in zip(runs, levels, strict=True)
        ]
        lines += laid_out(["run", *(f"level {k}" for k in range(deepest + 1))], cells, indent=0)
    return "\n".join(line.rstrip() for line in lines)


def _error(value: float | None) -> str | None:
    """A number with two digits after the point, as text; None stays."""
    return None if value is None else f"{value:.2e}"
