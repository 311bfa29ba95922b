"""`kanpinn resume RUN [time_limit_s=…]`: go on from the newest checkpoint in a run folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kanpinn.cli.main import STORED, Parser
from kanpinn.errors import EXIT_DONE
from kanpinn.settings.launched import launched


def run(argv: Sequence[str]) -> int:
    """Resume a run, given its folder and overrides; returns the exit code.

    Raises:
        UserError: If the folder is not a run, or an override may not change.
        DivergedError: If the run diverges, or has done so already.
    """
    parser = Parser(
        prog="kanpinn resume",
        description="Go on from the newest checkpoint in a run folder, as if the run had never been stopped.",
        epilog="A run that is finished is left as it is. Overrides: time_limit_s (time already spent counts), "
        "processes, checkpoint.every_s, checkpoint.keep, output.figures, output.progress.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="what shall be different from now on")
    parser.add_argument("--stored", **STORED)
    arguments = parser.parse_args(argv)

    from kanpinn.run.run import resume

    def work() -> None:
        resume(arguments.run, arguments.overrides, stored=arguments.stored)

    if launched() is not None:
        from kanpinn.run.follow import in_step

        return in_step(lambda: {**vars(arguments), "run": str(arguments.run)}, work)
    work()
    return EXIT_DONE
