"""`kanpinn inspect PATH [--json]`: what a run folder or an HDF5 file holds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from kanpinn.cli.main import Parser, complain, printable
from kanpinn.errors import EXIT_DONE, UserError


def run(argv: Sequence[str]) -> int:
    """Print the content of a path as a tree or as JSON; raises UserError if it holds nothing of ours."""
    parser = Parser(prog="kanpinn inspect", description="Show what a run folder or an HDF5 file holds.")
    parser.add_argument("path", type=Path, help="run folder or HDF5 file")
    parser.add_argument("--json", action="store_true", help="print JSON for other programs")
    arguments = parser.parse_args(argv)
    from kanpinn.io.inspect import inspect, render

    content = inspect(arguments.path)
    for warning in content.get("warnings", []):
        complain("warning", UserError(warning))
    print(json.dumps(content, indent=2) if arguments.json else printable(render(content)))
    return EXIT_DONE
