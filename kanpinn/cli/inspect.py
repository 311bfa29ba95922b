"""`kanpinn inspect PATH [--json] [--check]`: what a run folder or an HDF5 file holds, and whether it should."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from kanpinn.cli.main import Parser
from kanpinn.errors import EXIT_DONE, EXIT_USER_ERROR, UserError, complain, printable, say


def run(argv: Sequence[str]) -> int:
    """Print the content of a path as a tree or as JSON; raises UserError if it holds nothing of ours."""
    parser = Parser(prog="kanpinn inspect", description="Show what a run folder or an HDF5 file holds.")
    parser.add_argument("path", type=Path, help="run folder or HDF5 file")
    parser.add_argument("--json", action="store_true", help="print JSON for other programs")
    parser.add_argument("--check", action="store_true", help="say whether the files keep to their schema; 2 if not")
    arguments = parser.parse_args(argv)
    if arguments.check:
        return _check(arguments.path, arguments.json)
    from kanpinn.io.inspect import inspect, render

    content = inspect(arguments.path)
    for warning in content.get("warnings", []):
        complain("warning", UserError(warning))
    print(json.dumps(content, indent=2, allow_nan=False) if arguments.json else printable(render(content)))
    return EXIT_DONE


def _check(path: Path, as_json: bool) -> int:
    """Print every violation of the schema, one a line; returns the exit code."""
    from kanpinn.io.check import RESULTS, check, checked

    violations = check(path)
    if as_json:
        print(json.dumps({"path": str(path), "violations": violations}, indent=2))
    elif not violations:
        missing = [name for name in RESULTS if path.is_dir() and not (path / name).exists()]
        print(f"{path}: keeps to the schema{_incomplete(path, checked(path), missing) if missing else ''}")
    else:
        say("\n".join(violations), error=True)
    return EXIT_USER_ERROR if violations else EXIT_DONE


def _incomplete(path: Path, files: Sequence[Path], missing: Sequence[str]) -> str:
    """Note on an unfinished run: the files checked, and those missing."""
    names = ", ".join(file.relative_to(path).as_posix() for file in files)
    return f" ({names}); {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing: the run is unfinished"
