"""`kanpinn tune key=interval(a,b) … --trials N`: search for the best config."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kanpinn.cli.main import Parser, number, whole
from kanpinn.errors import UserError


def run(argv: Sequence[str]) -> int:
    """Search; returns the exit code, raises UserError if the input is wrong."""
    parser = Parser(
        prog="kanpinn tune",
        description="Search for the config with the smallest error, loss or time, by optuna.",
        epilog="The space in Hydra's sweep syntax: key=a,b or choice(a,b); range(3,9); interval(0.1,1); "
        "int(interval(3,8)); tag(log,interval(1e-6,1e-1)). The same call goes on with a study that was stopped.",
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="overrides, some with several values")
    parser.add_argument(
        "--trials", type=whole, default=20, metavar="N", help="trials the study shall hold (default: 20)"
    )
    parser.add_argument("--jobs", type=whole, default=1, metavar="N", help="trials at a time (default: 1)")
    parser.add_argument("--study", default="study", metavar="NAME", help="folder under outputs/tune (default: study)")
    parser.add_argument("--objective", choices=["relative_l2", "loss", "seconds"], default="relative_l2")
    parser.add_argument(
        "--error", type=number, metavar="E", help="with --objective seconds: until the error is below E"
    )
    parser.add_argument("--no-prune", action="store_true", help="let hopeless trials run to their end")
    parser.add_argument("--seed", type=whole, default=0, help="of the search, not of the runs (default: 0)")
    arguments, rest = parser.parse_known_intermixed_args(argv)
    unknown = [word for word in rest if word.startswith("-")]
    if unknown:
        parser.error(f"{unknown[0]}: unknown option; overrides are written key=value")
    if not arguments.study or Path(arguments.study).name != arguments.study or arguments.study in (".", ".."):
        raise UserError(f"--study {arguments.study}: expected a name that a folder can have.")
    from kanpinn.sweep.study import Search
    from kanpinn.sweep.tuning import search

    return search(
        Search(
            [*arguments.overrides, *rest],
            Path("outputs/tune") / arguments.study,
            arguments.trials,
            arguments.jobs,
            arguments.objective,
            arguments.error,
            not arguments.no_prune,
            arguments.seed,
        )
    )
