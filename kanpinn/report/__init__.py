"""One self-contained HTML page of a run or of a sweep: opens from disk, asks nothing of the network."""

from __future__ import annotations

from pathlib import Path

from kanpinn.errors import UserError
from kanpinn.report.page import render
from kanpinn.report.runs import run_content
from kanpinn.report.sweeps import is_sweep, sweep_content

__all__ = ["write_report"]


def write_report(path: Path, output: Path | None = None, dpi: int = 130) -> Path:
    """Write the page of a run, a solution.h5 or a sweep in one atomic step, by default `report.html` in its folder."""
    from kanpinn.io.atomic import check_replaceable, write_text
    from kanpinn.io.inspect import is_run

    path = Path(path)
    check_replaceable("-o", output, ".html", ".htm")
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; expected a run folder or a sweep's folder.")
    folder = path if path.is_dir() else path.parent
    output = output or folder / "report.html"
    if output.is_dir():
        raise UserError(f"-o {output}: this is a folder; expected a file name such as report.html.")
    if path.is_file() or is_run(path):
        text = render("run.html", run_content(path, dpi))
    elif is_sweep(path):
        text = render("sweep.html", sweep_content(path, output.parent, dpi))
    else:
        raise UserError(f"{path}: neither a run folder nor a sweep's; expected solution.h5 or folders of runs in it.")
    write_text(output, text)
    return output
