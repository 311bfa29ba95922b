"""The text of `kanpinn inspect`: trees and tables that fit 100 columns."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from kanpinn.io.arrays import flatten, table_columns
from kanpinn.io.unfinished import told

WIDTH = 100
_HEADLINE = ("problem", "backbone", "schedule", "optimizer", "seed", "parameters", "wall_time_s", "loss")
_VERSIONS = ("kanpinn", "torch", "numpy", "h5py", "python")


def short(value: Any) -> str:
    """Write a plain value in few letters: numbers with three significant digits, null as a dash."""
    if value is None:
        return "–"
    if isinstance(value, float):
        text = f"{value:.3g}"
        mantissa, e, exponent = text.partition("e")
        return f"{mantissa}e{int(exponent)}" if e else text
    return str(value)


def size(count: int) -> str:
    """Write a number of bytes in KiB, such as "12.3 KiB"."""
    kibibytes = count / 1024
    if 0 < kibibytes < 0.1:
        return "<0.1 KiB"
    return f"{kibibytes:,.0f} KiB" if kibibytes >= 100 else f"{kibibytes:.1f} KiB"


def clip(text: str, width: int) -> str:
    """Cut a text to a number of letters, with an ellipsis in its middle where something is cut."""
    text = " ".join(text.split())
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], indent: int = 2) -> list[str]:
    """Lay out a table of plain values as lines: numbers to the right, words to the left, a rule under the head."""
    rows = [list(row) for row in rows]
    cells = [[short(value) for value in row] for row in rows]
    widths = [max(len(line[k]) for line in [list(head), *cells]) for k in range(len(head))]
    right = [not any(isinstance(row[k], str) for row in rows) for k in range(len(head))]

    def line(values: Sequence[str]) -> str:
        parts = [
            value.rjust(width) if to_right else value.ljust(width)
            for value, width, to_right in zip(values, widths, right, strict=True)
        ]
        return (" " * indent + "  ".join(parts)).rstrip()

    return [line(head), " " * indent + "  ".join("─" * width for width in widths), *(line(row) for row in cells)]


def render(description: dict[str, Any]) -> str:
    """Write the description that `inspect` returned as text of at most 100 columns, no newline at its end."""
    title = f"{description['kind']}  "
    space = size(description["bytes"])
    name = clip(description["path"], WIDTH - len(title) - len(space) - 4)
    lines = [f"{title}{name}  ({space})"]
    solution = description.get("solution") if description["kind"] == "run" else description
    attributes = (solution or {}).get("attributes", {})
    lines += _headline(description.get("metrics") or {}, attributes)
    if description.get("unfinished"):
        found = description["unfinished"]
        lines += ["", *([found["problem"]] if found["problem"] else [])]
        lines += textwrap.wrap(told(Path(description["path"]), found), WIDTH, break_long_words=False)
    record = flatten(description.get("record") or {})
    widest = min(max(map(len, record), default=0), 40)
    lines += ["", "Record"] if record else []
    lines += [f"  {clip(name, 40):<{widest}}  {clip(short(record[name]), 50)}" for name in record]
    if solution is not None and solution["kind"] == "solution":
        lines += _conditions(solution["residuals"])
        lines += _times(solution["errors_by_time"], solution["slabs"])
        lines += _reach(solution["vtk"])
    if description["kind"] == "run":
        lines += ["", "Files", *_file_lines(description["files"])]
    if solution is not None:
        heading = "solution.h5" if description["kind"] == "run" else "Content"
        lines += ["", heading, *_tree_lines(solution["tree"])]
        lines += _provenance(solution["provenance"])
    return "\n".join(lines)


def _conditions(residuals: dict[str, dict[str, Any]]) -> list[str]:
    """Size of the residual at the last collocation points of each condition."""
    if not residuals:
        return []
    rows = [[name, size["points"], size["rms"], size["max"]] for name, size in residuals.items()]
    return ["", "Residuals at the collocation points", *table(["condition", "points", "rms", "max"], rows)]


def _times(errors: dict[str, dict[str, list[Any]]] | None, slabs: dict[str, Any]) -> list[str]:
    """Errors at no more than eleven of the times, and from when on the solution is not known."""
    lines: list[str] = []
    end = slabs["known_until"]
    if end is not None:
        lines += ["", f"{slabs['begun']} of {slabs['planned']} time slabs begun: nothing is known for t ≥ {short(end)}"]
    for unknown, columns in (errors or {}).items():
        last = len(columns["t"]) - 1
        chosen = sorted({round(k * last / 10) for k in range(11 if last >= 0 else 0)})  # forged: no time at all
        rows = [
            [columns["t"][k], *(_known(columns[n][k], columns["t"][k], end) for n in ("relative_l2", "linf"))]
            for k in chosen
        ]
        heading = f"Error of {unknown} by time" + (
            "" if len(chosen) > last else f" ({len(chosen)} of {last + 1} times)"
        )
        lines += ["", heading, *table(["t", "rel. L2", "max error"], rows)]
    return lines


def _known(value: float | None, time: float, end: float | None) -> Any:
    """An error at a time, or that nothing is known then."""
    return "not begun" if value is None and end is not None and time >= end else value


def _reach(vtk: dict[str, Any] | None) -> list[str]:
    """Line on what ParaView and VTK find in the file."""
    if vtk is None:
        return ["", "ParaView  nothing (no /VTKHDF: VTK has no more than three axes of space)"]
    return ["", f"ParaView  {vtk['type']}, {vtk['steps']} time step{'s' if vtk['steps'] > 1 else ''}"]


def _provenance(provenance: dict[str, Any]) -> list[str]:
    """When and with what a file was made; its config in one block."""
    when = str(provenance["created"] or "–").replace("T", " ").replace("+00:00", " UTC")
    known = provenance["versions"]
    versions = [f"{name} {known[name]}" for name in _VERSIONS if name in known]
    lines = ["", clip(f"written {when}", WIDTH), clip(f"with {', '.join(versions)}", WIDTH)]
    if provenance["config"]:
        pairs = [f"{key}={_plain(value)}" for key, value in _dotted(provenance["config"])]
        lines += [
            "",
            "Config",
            *textwrap.wrap(
                "  ".join(pairs), WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False
            ),
        ]
    return lines


def _dotted(record: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a config with their keys as the command line takes them."""
    for key, value in record.items():
        if f"{prefix}{key}" == "problem.tuned":
            continue  # defaults of this problem for other keys, which stand there themselves
        if isinstance(value, dict) and value:
            yield from _dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _plain(value: Any) -> str:
    """A config's value as the command line takes it, without blanks."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _headline(metrics: dict[str, Any], attributes: dict[str, Any]) -> list[str]:
    """Problem, status, errors and levels of a run."""
    lines: list[str] = []
    status = metrics.get("status") or attributes.get("status")
    equation = f"  {attributes['equation']}" if attributes.get("equation") else ""
    problem = metrics.get("problem") or attributes.get("problem")
    if problem:
        lines += ["", clip(f"{problem}{equation}", WIDTH)]
    if status:
        lines.append(f"status {status}")
    if not metrics:
        return lines
    if metrics.get("limited_by"):
        lines.append(clip_end(f"limited by {metrics['limited_by']}", WIDTH))
    lines += [f"warning ({flag['kind']}): {flag['message']}" for flag in metrics.get("warnings") or []]
    known = [name for name in _HEADLINE[1:] if name in metrics]
    row = [metrics[name] for name in known]
    lines += ["", *table([_spoken(name) for name in known], [row])]
    errors = [name for name in ("relative_l2", "linf", "error_estimate") if isinstance(metrics.get(name), dict)]
    unknowns = list(dict.fromkeys(unknown for name in errors for unknown in metrics[name]))
    if unknowns:
        doubt = "" if metrics.get("error_estimate_trusted", True) else " (?)"
        head = ["unknown", *(_spoken(name) + doubt * (name == "error_estimate") for name in errors)]
        lines += ["", "Errors", *table(head, [[u, *(metrics[name].get(u) for name in errors)] for u in unknowns])]
    columns = table_columns(metrics.get("levels") or [])
    columns = {n: v for n, v in columns.items() if any(x is not None for x in v) and (n != "slab" or any(v))}
    if columns:
        names = sorted(columns, key=lambda name: name != "slab")
        rows = [list(row) for row in zip(*(columns[name] for name in names), strict=True)]
        lines += ["", "Levels", *(clip_end(line, WIDTH) for line in _level_table(names, rows))]
    return lines


def _level_table(names: list[str], rows: list[list[Any]]) -> list[str]:
    """The table of levels; columns that do not fit go into a second table beneath."""
    lines = table([_spoken(name) for name in names], rows)
    kept = len(names)
    while kept > 2 and max(map(len, lines)) > WIDTH:
        kept -= 1
        lines = table([_spoken(name) for name in names[:kept]], [row[:kept] for row in rows])
    if kept < len(names):
        lines += ["", *_level_table([names[0], *names[kept:]], [[row[0], *row[kept:]] for row in rows])]
    return lines


def _spoken(name: str) -> str:
    """A key as a column's name: "wall_time_s" becomes "seconds", "relative_l2_u" becomes "rel. L2 u"."""
    spoken = {"wall_time_s": "seconds", "transfer_gap": "transfer gap", "linf": "max error"}
    if name in spoken:
        return spoken[name]
    return name.replace("relative_l2", "rel. L2").replace("linf_", "max error ").replace("_", " ")


def _file_lines(files: list[dict[str, Any]]) -> list[str]:
    """The files of a run with their sizes to the right."""
    sizes = [size(file["bytes"]) for file in files]
    names = [clip(file["name"], WIDTH - 20) for file in files]
    widest = max(map(len, names), default=0)
    room = max(map(len, sizes), default=0)
    return [f"  {name:<{widest}}  {text:>{room}}" for name, text in zip(names, sizes, strict=True)]


def _walk(nodes: list[dict[str, Any]], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every node of a tree with its name behind the branches that lead to it."""
    for k, node in enumerate(nodes):
        last = k == len(nodes) - 1
        yield f"{prefix}{'└─ ' if last else '├─ '}{node['name']}", node
        yield from _walk(node.get("children", []), prefix + ("   " if last else "│  "))


def _tree_lines(nodes: list[dict[str, Any]]) -> list[str]:
    """The tree of an HDF5 file: names, shapes with axes, types, ranges, units and long names in columns."""
    rows: list[list[str]] = []
    for branch, node in _walk(nodes):
        if node["kind"] == "group":
            count = len(node["attributes"])
            rows.append([branch + "/", f"{count} attributes" if count else "", "", "", ""])
            continue
        if "target" in node:
            shape = " × ".join(map(str, node["shape"]))
            rows.append(
                [branch, shape, node["dtype"], "", f"{'view of' if node['kind'] == 'view' else 'is'} {node['target']}"]
            )
            continue
        lengths = [str(length) for length in node["shape"]]
        shape = " × ".join(f"{a} {n}" if a else n for a, n in zip(node["axes"] or [None] * 9, lengths, strict=False))
        if all(axis in (None, "step", "entry", "point") for axis in node["axes"] or [None]):
            shape = " × ".join(lengths)
        spread = "" if node["range"] is None else " … ".join(short(float(end)) for end in node["range"])
        units = "" if node["units"] in (None, "1") else f"[{node['units']}] "
        spoken = node["long_name"] or ""
        told = "" if spoken.replace(" ", "_") == node["name"] else spoken
        rows.append([branch, shape or "scalar", node["dtype"], spread, f"{units}{told}".rstrip()])
    limits = (34, 24, 10, 22)
    widths = [min(max(len(row[k]) for row in rows), limits[k]) for k in range(4)] if rows else [0] * 4
    lines = []
    for row in rows:
        cells = [clip_end(row[k], widths[k]).ljust(widths[k]) for k in range(4)]
        lines.append(clip_end("  ".join([*cells, row[4]]).rstrip(), WIDTH))
    return lines


def clip_end(text: str, width: int) -> str:
    """Cut a text to a number of letters, with an ellipsis at its end where something is cut."""
    return text if len(text) <= width else text[: width - 1] + "…"
