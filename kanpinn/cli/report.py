"""`kanpinn report RUN|SWEEP [-o FILE]`: one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kanpinn.cli.main import Parser
from kanpinn.errors import EXIT_DONE


def run(argv: Sequence[str]) -> int:
    """Write the page and print its path; raises UserError if the path is neither a run nor a sweep."""
    parser = Parser(prog="kanpinn report", description="Write one self-contained HTML page of a run or of a sweep.")
    parser.add_argument("path", type=Path, metavar="RUN|SWEEP", help="run folder, or the folder of a sweep")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="the page (default PATH/report.html)")
    arguments = parser.parse_args(argv)
    from kanpinn.report import write_report

    print(write_report(arguments.path, arguments.output))
    return EXIT_DONE
