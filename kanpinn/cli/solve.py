"""`kanpinn solve [overrides]`: one run, or with -m one run per combination of values, through Hydra."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from kanpinn.cli.main import Parser, complain
from kanpinn.cli.summary import Job, write_summary
from kanpinn.errors import EXIT_DONE, EXIT_SOLVE_FAILED, EXIT_USER_ERROR, DivergedError, Interrupted, UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

EXIT_CRASHED = 1
_HYDRA_FLAGS = (("-h", "--help"), ("-m", "--multirun"), ("--resolve",), ("-r", "--run"), ("--hydra-help",))
_HYDRA_VALUES = (("-c", "--cfg"), ("-p", "--package"), ("-cd", "--config-dir"), ("-i", "--info"))


@dataclass
class Sweep:
    """What has come of the jobs so far.

    Attributes:
        swept: Keys given several values on the command line.
        jobs: The finished jobs, in order.
        folder: Where the jobs' folders lie; None for a single run.
    """

    swept: list[str]
    jobs: list[Job] = field(default_factory=list)
    folder: Path | None = None


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
    from kanpinn.compose import free

    options, overrides = _parse(argv)
    overrides = free(overrides)
    multirun = "--multirun" in options
    solving = not any(word in options for word in ("--help", "--hydra-help", "--cfg", "--info"))
    if solving:
        _check(overrides, multirun)
    sweep = Sweep(_swept(overrides) if multirun else [])
    outcomes: list[Exception] = []
    _hydra(_job_of_sweep(sweep) if multirun else _single_job(outcomes), [*options, *overrides])
    if outcomes:
        raise outcomes[0]
    if sweep.folder is None:
        return EXIT_DONE
    print(f"{len(sweep.jobs)} jobs: {sweep.folder / 'summary.md'}")
    return max(job.code for job in sweep.jobs)


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


def _check(overrides: list[str], multirun: bool) -> None:
    """Refuse every mistake that can be seen without solving."""
    from kanpinn.compose import check_folder, compose, expand
    from kanpinn.config import validate

    for job in expand(overrides) if multirun else [overrides]:
        cfg, folder = compose(job)
        validate(cfg)
        if not multirun:
            check_folder(folder)


def _swept(overrides: list[str]) -> list[str]:
    from kanpinn.compose import parse

    return [override.key_or_group for override in parse(overrides) if override.is_sweep_override()]


def _hydra(job: Callable[[DictConfig], None], argv: list[str]) -> None:
    """Hand over to Hydra, which makes the folders and calls `job` with each composed config."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from kanpinn.compose import CONFIG_NAME, CONFIG_PATH, VERSION_BASE
    from kanpinn.config import one_line

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


def _solve(cfg: DictConfig) -> None:
    """One job: check its folder, run, and leave no empty folder behind if it is refused."""
    from hydra.core.hydra_config import HydraConfig

    from kanpinn.compose import check_folder

    folder = Path(HydraConfig.get().runtime.output_dir)
    check_folder(folder)
    try:
        from kanpinn.run import run as solve

        solve(cfg, folder)
    except (UserError, OSError):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        raise


def _single_job(outcomes: list[Exception]) -> Callable[[DictConfig], None]:
    """The job of a single run; keeps its exception, because Hydra prints a line of its own about one it sees."""

    def job(cfg: DictConfig) -> None:
        try:
            _solve(cfg)
        except Exception as error:
            outcomes.append(error)

    return job


def _job_of_sweep(sweep: Sweep) -> Callable[[DictConfig], None]:
    """The job of a sweep; whatever comes of it is recorded, and the next one follows unless a signal came."""

    def job(cfg: DictConfig) -> None:
        from hydra.core.hydra_config import HydraConfig

        state = HydraConfig.get()
        sweep.folder = Path(state.sweep.dir)
        folder = Path(state.runtime.output_dir)
        pairs = [str(text).lstrip("+~").partition("=") for text in state.overrides.task]
        overrides = {key: value for key, _, value in pairs}
        print(f"job {state.job.num}: {' '.join(state.overrides.task)}", flush=True)
        code, message = EXIT_DONE, ""
        try:
            _solve(cfg)
        except UserError as error:
            code, message = EXIT_USER_ERROR, str(error)
            complain(f"job {state.job.num}: error", error)
        except DivergedError as error:
            code, message = EXIT_SOLVE_FAILED, str(error)
            complain(f"job {state.job.num}: diverged", error)
        except KeyboardInterrupt as error:
            code, message = 128 + (error.signal if isinstance(error, Interrupted) else 2), "interrupted"
            raise
        except OSError as error:
            code, message = EXIT_USER_ERROR, f"{error.filename}: {error.strerror}" if error.filename else str(error)
            complain(f"job {state.job.num}: error", UserError(message))
        except Exception as error:
            code, message = EXIT_CRASHED, f"{type(error).__name__}: {error}"
            traceback.print_exc()
        finally:
            # Written after every job, so that a stopped sweep has its summary too.
            sweep.jobs.append(Job(folder, overrides, code, message))
            try:
                write_summary(sweep.folder, sweep.jobs, sweep.swept)
            except OSError as error:
                complain("warning", UserError(f"{error.filename}: {error.strerror}; the summary is not written"))

    return job
