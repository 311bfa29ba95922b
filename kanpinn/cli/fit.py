"""`kanpinn fit TABLE.csv --target y [overrides]`: a network fitted to the columns of a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kanpinn.cli.main import Parser
from kanpinn.errors import UserError


def run(argv: Sequence[str]) -> int:
    """Fit the table; what it takes besides, raises and returns is that of `kanpinn solve`."""
    parser = Parser(
        prog="kanpinn fit",
        usage="kanpinn fit [-h] TABLE.csv --target NAME [--inputs NAME] [-m] [key=value ...]",
        description="Fit columns of a table as functions of the others and write one run folder, as kanpinn solve "
        "does; -m for sweeps. Keys, such as backbone.width=[5], are those of kanpinn solve --help problem=table.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "table", metavar="TABLE.csv", help="a table: CSV with names in its first line, HDF5, NumPy, image, IDX"
    )
    columns: dict[str, Any] = {"action": "append", "metavar": "NAME", "default": []}
    parser.add_argument("--target", **columns, help="column to be fitted; give it again, or a,b, for several")
    parser.add_argument("--inputs", **columns, help="columns it is a function of (default: all others)")
    arguments, others = parser.parse_known_intermixed_args([word for word in argv if word])
    from kanpinn.settings.compose import quoted

    if "=" in arguments.table:
        raise UserError(f"{arguments.table}: expected the table first: kanpinn fit TABLE.csv --target y")
    given = {"target": arguments.target, "inputs": arguments.inputs}
    lists = [f"problem.{key}=[{','.join(quoted(one) for one in _names(v))}]" for key, v in given.items() if v]
    from kanpinn.cli.solve import run as solve

    return solve(["problem=table", f"problem.file={quoted(arguments.table)}", *lists, *others])


def _names(words: Sequence[str]) -> list[str]:
    """Return column names, given one by one or with commas between them."""
    return [name.strip() for word in words for name in word.split(",") if name.strip()]
