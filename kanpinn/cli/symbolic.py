"""`kanpinn symbolic RUN`: the solution as a closed form, held against the network, the reference and the equation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kanpinn.cli.main import STORED, Parser, number
from kanpinn.errors import EXIT_DONE, UserError, say


def run(argv: Sequence[str]) -> int:
    """Search and write formula.json and formula.md; raises UserError if the run or a formula is not what is needed."""
    arguments = _parser().parse_args(argv)
    for key in ("tolerance", "seconds"):
        value = getattr(arguments, key)
        if value is not None and not value > 0:
            raise UserError(f"--{key}={value:g}: expected a number above 0")

    from kanpinn.api import load
    from kanpinn.io.atomic import write_text
    from kanpinn.pde.table import Table
    from kanpinn.symbolic.fits import laws_of
    from kanpinn.symbolic.formula import as_json, as_markdown, closed_forms, tolerance_of

    known, target = None, arguments.output or arguments.run
    if arguments.edges:
        solution, known, target = _edges(arguments)
        if known is None:
            return EXIT_DONE
    else:
        solution = load(arguments.run, stored=arguments.stored)
    network = solution.residuals, solution.theta
    table = isinstance(solution.problem, Table)
    common: dict[str, Any] = {"progress": say, "seconds": arguments.seconds, "known_forms": known}
    if table:
        if arguments.tolerance is not None:
            raise UserError("--tolerance: not for a fit to a table, whose laws are held against rows held out")
        found = laws_of(*network, arguments.hypotheses, arguments.form, **common)
    else:
        tolerance = arguments.tolerance or 3 * tolerance_of(solution.metrics)
        found = closed_forms(*network, tolerance, arguments.hypotheses, arguments.form, **common)
    target.mkdir(parents=True, exist_ok=True)
    record = as_json(found)
    write_text(target / "formula.json", json.dumps(record, indent=1, ensure_ascii=False))
    write_text(target / "formula.md", as_markdown(found, f"{solution.metrics.get('problem', 'run')}: closed form"))
    missed = "is as good as the network" if table else f"within {3 * found.tolerance:.1e} of the network"
    for name, entry in record.items():
        _show(name, entry, missed)
    for rest in found.rest:
        label = rest.term if not rest.equation else f"{rest.term}, {rest.equation}"
        simplified = "" if rest.formula is None else f"; simplified: {str(rest.formula)[:100]}"
        print(f"  {label}: largest residual {rest.largest:.1e}{simplified}")
    print(target / "formula.md")
    return EXIT_DONE


def _edges(arguments: Any) -> tuple[Any, dict[str, Any] | None, Path]:
    """Put functions on the network's edges; the new solution, its expressions, None where edges are left, its folder.

    Raises:
        UserError: If it is no network of splines, or hypotheses are given.
    """
    from kanpinn.run.fixing import RECORD, fix_edges

    if arguments.hypotheses:
        raise UserError("--try: not with --edges, which looks for functions of the network's edges")
    place: Path = arguments.run
    target = arguments.output or place.absolute().with_name(f"{place.absolute().name}-symbolic")
    found = fix_edges(
        place,
        target,
        forms=arguments.form,
        seconds=arguments.seconds,
        stored=arguments.stored,
        tell=lambda one: say(
            f"  {one.edge}: {one.function}, error {one.error:.2e} with it, {'stays' if one.kept else 'out'}"
        ),
    )
    if found is None:
        say(f"{place}: no function fits an edge; nothing has been written")
        return None, None, target
    if found[1] is None:
        why = "some edges stay learned, or conditions are built in"
        say(f"{why}, so that there is no formula of the whole: {target / RECORD}")
    return *found, target


def _parser() -> Parser:
    parser = Parser(
        prog="kanpinn symbolic",
        description="Look for the solution in closed form: products, sums, combinations of coordinates, functions "
        "of one variable with their constants. What is found is put into the equations. For a fit to a table, look "
        "for the law behind its rows.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder")
    parser.add_argument(
        "--try",
        dest="hypotheses",
        action="append",
        default=[],
        metavar="FORMULA",
        help='a formula to test instead, its free names constants to be found: "u = a*sin(pi*x)*exp(-b*t)"',
    )
    parser.add_argument(
        "--form",
        action="append",
        default=[],
        metavar="FORMULA",
        help='a further function of x to look for: "x*exp(-x)"',
    )
    parser.add_argument(
        "--tolerance",
        type=number,
        help="relative difference that counts as none (default: 3 times the run's own error)",
    )
    parser.add_argument(
        "--seconds",
        type=number,
        default=60.0,
        help="processor time of the search for each unknown or target (default: 60)",
    )
    parser.add_argument(
        "--edges",
        action="store_true",
        help="look for a function for each edge of the network instead, one by one, trained on with each, in a new run",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="DIR",
        help="where to write (default: the run folder; with --edges RUN-symbolic)",
    )
    parser.add_argument("--stored", **STORED)
    return parser


def _show(name: str, entry: dict[str, Any], missed: str) -> None:
    """Print the closed form of an unknown with its constants and errors, or that there is none."""
    if entry["sympy"] is None:
        print(f"{name}: no closed form {missed}; {_way(entry)}")
        return
    print(f"{name} = {entry['sympy']}")
    if entry["constants"]:
        from kanpinn.symbolic.formula import constant_texts

        print(f"  constants: {', '.join(constant_texts(entry['constants'], 10))}")
    errors = {"the network": entry["error"], "the reference": entry["error_to_reference"]}
    print("  difference from " + ", ".join(f"{w}: {e:.1e}" for w, e in errors.items() if e is not None))
    if entry["error_on_rows_held_out"]:
        law, own = entry["error_on_rows_held_out"].values()
        print(f"  error on the rows held out: {law:.1e}; of the network: {own:.1e}")
    if entry["verdict"]:
        print(f"  {entry['verdict']}")


def _way(entry: dict[str, object]) -> str:
    properties = entry["properties"]
    assert isinstance(properties, list)
    return "found on the way: " + "; ".join(properties) if properties else "no structure was found either"
