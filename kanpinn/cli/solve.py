"""`kanpinn solve [overrides]`: one run, or with -m one run per combination of values, through Hydra."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kanpinn.cli.main import Parser
from kanpinn.errors import EXIT_DONE, UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

_HYDRA_FLAGS = (("-h", "--help"), ("-m", "--multirun"), ("--resolve",), ("-r", "--run"), ("--hydra-help",))
_HYDRA_VALUES = (("-c", "--cfg"), ("-p", "--package"), ("-cd", "--config-dir"), ("-i", "--info"))


def run(argv: Sequence[str]) -> int:
    """Solve what the overrides describe.

    Args:
        argv: Overrides and Hydra's own options.

    Returns:
        The exit code, of a sweep the worst of its jobs.

    Raises:
        UserError: If the input is wrong, before any work starts.
        DivergedError: If a single run diverged, after its folder is written.
        KeyboardInterrupt: If a signal stopped the run, after its checkpoint is written.
    """
    from kanpinn.settings.compose import free

    options, overrides = _parse(argv)
    overrides = free(overrides)
    multirun = "--multirun" in options
    solving = not any(word in options for word in ("--help", "--hydra-help", "--cfg", "--info"))
    if solving and multirun:
        return _sweep(options, overrides)
    if solving:
        _check(overrides)
    if "--help" in options and "--resolve" not in options:
        options.append("--resolve")  # what the problem chosen recommends, not that it recommends something
    outcomes: list[Exception] = []
    _hydra(_single_job(outcomes), [*options, *overrides])
    if outcomes:
        raise outcomes[0]
    return EXIT_DONE


def _parse(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split the arguments into Hydra's options, by their long names, and overrides, in any order."""
    parser = Parser(prog="kanpinn solve", add_help=False, allow_abbrev=False)
    for names in _HYDRA_FLAGS:
        parser.add_argument(*names, action="store_true")
    for names in _HYDRA_VALUES:
        # Hydra lets -i stand alone; asking for its value keeps it from swallowing an override.
        parser.add_argument(*names, metavar="NAME", choices=["job", "hydra", "all"] if "--cfg" in names else None)
    # A deletion ("~key") or a value never starts with a dash, so whatever is left is an override.
    arguments, overrides = parser.parse_known_intermixed_args([word for word in argv if word])
    unknown = [word for word in overrides if word.startswith("-")]
    if unknown:
        parser.error(f"{unknown[0]}: unknown option; overrides are written key=value")
    options = [names[-1] for names in _HYDRA_FLAGS if getattr(arguments, names[-1][2:].replace("-", "_"))]
    for names in _HYDRA_VALUES:
        value = getattr(arguments, names[-1][2:].replace("-", "_"))
        if value is not None:
            options += [names[-1], value]
    return options, overrides


def _check(overrides: list[str]) -> None:
    """Refuse every mistake that can be seen without solving."""
    from kanpinn.settings.compose import check_folder, compose, parse
    from kanpinn.settings.config import validate

    cfg, folder = compose(overrides)
    validate(cfg)
    check_folder(folder)
    for override in parse(overrides):
        if override.key_or_group.split(".")[0] == "sweep":
            raise UserError(f"{override.input_line}: is for sweeps; give -m too.")


def _sweep(options: list[str], overrides: list[str]) -> int:
    """Every combination of values; returns the exit code."""
    for word in ("--config-dir", "--package"):
        if word in options:
            raise UserError(f"{word}: not with -m; put your own configs into ./conf, where they are found.")
    from kanpinn.sweep.launch import sweep

    return sweep(overrides)


def _hydra(job: Callable[[DictConfig], None], argv: list[str]) -> None:
    """Hand over to Hydra, which makes the folders and calls `job` with each composed config."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from kanpinn.settings.compose import CONFIG_NAME, CONFIG_PATH, VERSION_BASE
    from kanpinn.settings.config import one_line

    with _process_state(["kanpinn solve", *argv]):
        try:
            hydra.main(version_base=VERSION_BASE, config_path=CONFIG_PATH, config_name=CONFIG_NAME)(job)()
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(one_line(error)) from error
        except OSError as error:
            raise UserError(f"hydra.run.dir={error.filename}: {error.strerror}; expected a folder to write.") from error
        except SystemExit as left:  # hydra.main leaves this way after --help
            if left.code not in (None, 0):
                raise


@contextmanager
def _process_state(argv: list[str]) -> Iterator[None]:
    """Give Hydra the arguments it reads from the process and let exceptions through; put all back afterwards."""
    from hydra.core.global_hydra import GlobalHydra

    before, full = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv = argv
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        sys.argv = before
        if full is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = full
        GlobalHydra.instance().clear()


def solve_into(cfg: DictConfig, folder: Path) -> None:
    """Solve, and leave no empty folder behind if that is refused.

    Args:
        cfg: The composed config; its part that steers sweeps is taken out.
        folder: The run folder, new or empty.

    Raises:
        UserError: If the folder cannot take a run, or the input is wrong.
        DivergedError: If the solve diverged, after its folder is written.
        KeyboardInterrupt: If a signal stopped it, after its checkpoint is written.
    """
    from omegaconf import open_dict

    from kanpinn.settings.compose import check_folder

    check_folder(folder)
    with open_dict(cfg):
        cfg.pop("sweep", None)
    try:
        from kanpinn.run.run import run as solve

        solve(cfg, folder)
    except (UserError, OSError):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        raise


def _single_job(outcomes: list[Exception]) -> Callable[[DictConfig], None]:
    """The job of a single run; keeps its exception, because Hydra prints a line of its own about one it sees."""

    def job(cfg: DictConfig) -> None:
        from hydra.core.hydra_config import HydraConfig

        try:
            solve_into(cfg, Path(HydraConfig.get().runtime.output_dir))
        except Exception as error:
            outcomes.append(error)

    return job
