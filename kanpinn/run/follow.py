"""Processes that follow the first one of a data-parallel solve, and what a launcher's processes do together."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from kanpinn.errors import EXIT_DONE, EXIT_USER_ERROR, UserError, shown
from kanpinn.io.hdf5 import versions
from kanpinn.multilevel import Stage
from kanpinn.run.caller_state import caller_state
from kanpinn.run.processes import Team, is_lost, meet, met, theta_under_way
from kanpinn.run.signals import stop_signals
from kanpinn.settings.launched import Place, launched
from kanpinn.solver.history import Progress
from kanpinn.solver.solve import Watch, solve
from kanpinn.solver.solver import Solver


def in_step(wish: Callable[[], dict[str, Any]], work: Callable[[], None]) -> int:
    """Let the processes of a launcher do one command together; returns the exit code.

    Args:
        wish: Returns what is to be done in plain values, on which all must agree; may raise UserError.
        work: Does it, in the first process.

    Raises:
        UserError: In the first process, if one of the others wishes something else or has another version.
    """
    place = launched()
    assert place is not None
    own = _wish(wish)
    team = meet(place, "cuda" if torch.cuda.is_available() else "cpu")
    wishes = team.gather(own)
    if place.rank:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return follow(team)
    token = met.set(team)
    try:
        check_agreement(wishes)
        work()
    except BaseException:
        if not team.busy:
            team.tell(None)
        raise
    finally:
        met.reset(token)
        team.leave()
    return EXIT_DONE


def _wish(wish: Callable[[], Any]) -> tuple[str, Any, str | None]:
    """This process's version, what it is to do, and why it cannot."""
    try:
        return versions()["kanpinn"], wish(), None
    except UserError as error:
        return versions()["kanpinn"], None, str(error)


def check_agreement(wishes: list[tuple[str, Any, str | None]]) -> None:
    """Refuse processes that were told different things; raises UserError."""
    version, own, complaint = wishes[0]
    if complaint is not None:
        raise UserError(complaint)
    for rank, (other, wish, why) in enumerate(wishes[1:], 1):
        if other != version:
            raise UserError(
                f"process {rank} has kanpinn {other}, process 0 has {version}; expected the same everywhere"
            )
        if why is not None:
            raise UserError(f"process {rank}: {why}")
        here, there = dict(_leaves(own)), dict(_leaves(wish))
        for key in sorted({*here, *there}):
            if (one := here.get(key)) != (two := there.get(key)):
                raise UserError(f"{key}: {shown(two)} in process {rank}, {shown(one)} in process 0; expected the same")


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of nested mappings with its dotted key."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


class _Follower(Watch):
    """Watch of a process that follows: writes nothing, and stops where the first one stops."""

    def __init__(self, team: Team, caught: list[int]) -> None:
        self._team, self._caught = team, caught

    def stage_begun(self, solver: Solver, stage: Stage) -> Callable[[Progress], None]:  # noqa: ARG002
        return lambda _: None

    def halt(self, solver: Solver) -> str | None:
        self._team.catch(self._caught)
        reason = self._team.tell()
        self._team.align(theta_under_way(solver))
        return reason


def follow(team: Team) -> int:
    """Take part, as one of the others, in the solve that the first process has ordered; returns the exit code."""
    try:
        told = team.tell()
        if told is None:
            return EXIT_USER_ERROR
        order, threads = told
        with caller_state(threads), stop_signals(quiet=True) as caught:
            try:
                solver, complaint = order.solver(), None
            except UserError as error:
                solver, complaint = None, f"process {team.place.rank}: {error}"
            if any(team.gather(complaint)) or solver is None:
                return EXIT_USER_ERROR
            solve(solver.setup, _Follower(team, caught), solver)
    except RuntimeError as error:
        if is_lost(error):  # told by the first process, if it is still there
            return EXIT_USER_ERROR
        raise
    except UserError:
        return EXIT_USER_ERROR  # the first one says the same
    finally:
        team.leave()
    return EXIT_DONE


def main() -> int:
    """Follow the process that has started this one; returns the exit code."""
    where, size, device, rank = sys.argv[1:]
    warnings.simplefilter("ignore")
    try:
        return follow(meet(Place(int(rank), int(size), int(rank)), device, where))
    except UserError:
        return EXIT_USER_ERROR


if __name__ == "__main__":
    sys.exit(main())
