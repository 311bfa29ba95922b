"""`kanpinn prune RUN`: take out of a network what it can do without, train on, compare before and after."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kanpinn.cli.main import STORED, Parser, number
from kanpinn.errors import EXIT_DONE, UserError, say


def run(argv: Sequence[str]) -> int:
    """Prune and write the new run; raises UserError if the run is not what is needed."""
    parser = Parser(
        prog="kanpinn prune",
        description="Take inputs, nodes and edges out of a network, the least scored first, fit the rest again, and "
        "keep them out while the error at points not trained at, or in the validation rows of a table, stays about "
        "what it was. The network left is trained on in a new run.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder")
    parser.add_argument(
        "--threshold", type=number, metavar="T", help="take out nodes and edges of a score below T instead of searching"
    )
    parser.add_argument(
        "--worse", type=number, default=1.1, metavar="F", help="factor by which that error may grow (default: 1.1)"
    )
    parser.add_argument(
        "--tolerance",
        type=number,
        metavar="T",
        help="relative L2 distance that the function may move where the error grows more (default: the solution's own "
        "error where an equation is solved, else 0)",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="RUN2", help="the new run folder (default: RUN-pruned)")
    parser.add_argument("--stored", **STORED)
    arguments = parser.parse_args(argv)
    if arguments.tolerance is not None and not arguments.tolerance >= 0:
        raise UserError(f"--tolerance={arguments.tolerance:g}: expected a number of at least 0")
    if arguments.threshold is not None and not arguments.threshold > 0:
        raise UserError(f"--threshold={arguments.threshold:g}: expected a number above 0")
    if not arguments.worse >= 1:
        raise UserError(f"--worse={arguments.worse:g}: expected a number of at least 1")

    from kanpinn.run.prune import RECORD, prune

    place: Path = arguments.run
    target = arguments.output or place.absolute().with_name(f"{place.absolute().name}-pruned")
    record = prune(
        place,
        target,
        threshold=arguments.threshold,
        worse=arguments.worse,
        tolerance=arguments.tolerance,
        stored=arguments.stored,
        tell=lambda one: say(f"  {_trial(one)}"),
    )
    if record is None:
        say(f"{place}: everything is needed; nothing has been written")
        return EXIT_DONE
    for name in record["inputs"]["removed"]:
        say(f"input {name} is not needed")
    for key in ("before", "after"):
        say(f"{key + ':':<7} {_line(record[key])}")
    for name, gap in record["change"].items():
        say(f"change of {name} before training on: largest {gap['largest']:.1e}, relative L2 {gap['relative_l2']:.1e}")
    say(str(target / RECORD))
    return EXIT_DONE


def _trial(one: Any) -> str:
    moved = "" if one.moved is None else f", moved by {one.moved:.1e}"
    return f"{one.parts}: error {one.error:.2e} without{moved}, {'out' if one.kept else 'needed'}"


def _line(numbers: dict[str, Any]) -> str:
    shape = ",".join(map(str, numbers["shape"]))
    sizes = f"[{shape}], {numbers['edges']} edges, {numbers['parameters']} parameters, grid {numbers['grid']}"
    errors = [f"{name} {error:.2e}" for name, error in (numbers.get("relative_l2") or {}).items() if error is not None]
    known = f", relative L2 error of {', '.join(errors)}" if errors else ""
    return f"{sizes}; validation error {numbers['validation']:.2e}{known}"
