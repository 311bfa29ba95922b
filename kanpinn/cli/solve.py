"""`kanpinn solve [overrides]`: one run, or with -m one run per combination of values."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, cast

from kanpinn.cli.main import Parser
from kanpinn.errors import EXIT_DONE, UserError
from kanpinn.settings.launched import launched


def run(argv: Sequence[str]) -> int:
    """Solve what the overrides describe; returns the exit code, of a sweep the worst of its jobs.

    Raises:
        UserError: If the input is wrong, before any work starts.
        DivergedError: If a single run diverged, after its folder is written.
        KeyboardInterrupt: If a signal stopped the run, after its checkpoint is written.
    """
    arguments, overrides = _parse(argv)
    if arguments.help:
        from kanpinn.cli.option_help import explain

        print(explain(overrides))
    elif arguments.cfg:
        _show(overrides, arguments.cfg, arguments.resolve)
    elif launched() is not None:
        if arguments.multirun:
            raise UserError(
                "-m: a launcher's processes do one solve together; expected a sweep without torchrun and srun"
            )
        from kanpinn.run.follow import in_step

        return in_step(lambda: _wish(overrides), lambda: _solve(overrides))
    elif arguments.multirun:
        from kanpinn.sweep.launch import sweep

        return sweep(overrides)
    else:
        _solve(overrides)
    return EXIT_DONE


def _parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Split the arguments into options and overrides, in any order."""
    parser = Parser(prog="kanpinn solve", add_help=False, allow_abbrev=False)
    for names in (("-h", "--help"), ("-m", "--multirun"), ("--resolve",)):
        parser.add_argument(*names, action="store_true")
    parser.add_argument("-c", "--cfg", choices=["job", "hydra", "all"])
    # A deletion ("~key") or a value never starts with a dash, so whatever is left is an override.
    arguments, overrides = parser.parse_known_intermixed_args([word for word in argv if word])
    unknown = [word for word in overrides if word.startswith("-")]
    if unknown:
        parser.error(f"{unknown[0]}: unknown option; overrides are written key=value, your own configs go into ./conf")
    return arguments, overrides


def _solve(overrides: list[str]) -> None:
    """One run; what can be refused without torch, which takes longer to load than a config to compose, is so first."""
    from kanpinn.io.lock import check_folder
    from kanpinn.settings.compose import compose, parse

    for override in parse(overrides):
        if override.key_or_group.split(".")[0] == "sweep":
            raise UserError(f"{override.input_line}: is for sweeps; give -m too.")
    cfg, folder = compose(overrides)
    check_folder(folder)
    from kanpinn.run.run import run as solve

    solve(cfg, folder.absolute())


def _wish(overrides: list[str]) -> dict[str, Any]:
    """The solve asked for, in plain values."""
    from omegaconf import OmegaConf

    from kanpinn.settings.compose import compose

    return cast(dict[str, Any], OmegaConf.to_container(compose(overrides)[0], resolve=True))


def _show(overrides: list[str], part: str, resolve: bool) -> None:
    """Print the composed config, Hydra's own part of it, or both."""
    from omegaconf import OmegaConf

    from kanpinn.settings.compose import compose

    cfg, _ = compose(overrides, keep_sweep=True, keep_hydra=part != "job")
    print(OmegaConf.to_yaml(cfg.hydra if part == "hydra" else cfg, resolve=resolve), end="")
