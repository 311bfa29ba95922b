"""Processes of one data-parallel solve: how they meet, and how all follow the first one's decisions.

The first process reads and writes, the others train with it: each evaluates its share of the points, losses, gradients
and JᵀJ are summed (`least_squares.wrapped.ShardedProblem`), and before every step the first one tells whether it is
taken, and from which parameters. They are started by torchrun, by srun, or by the first one on its own machine.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from kanpinn.errors import UserError
from kanpinn.io.checkpoint import read_checkpoint
from kanpinn.run import checkpoints
from kanpinn.run.start_from import started
from kanpinn.settings.configuration import Configuration
from kanpinn.settings.launched import Place, launched
from kanpinn.settings.registry import OBJECT
from kanpinn.solver.solver import Solver

MEETING_S = 120.0
"""Seconds in which all processes must have come, as long as it takes to load torch on a busy machine and more."""


@dataclass(frozen=True)
class Order:
    """A solve that all processes take part in.

    Attributes:
        config: The resolved config; what differs from the run's by dotted key, where there is a checkpoint.
        checkpoint: The checkpoint to go on from; None to begin.
        stored: As for `kanpinn.run.run.resume`.
    """

    config: dict[str, Any]
    checkpoint: Path | None = None
    stored: bool | None = None

    def solver(self) -> Solver:
        """Return the solve where it is to begin; raises UserError."""
        from kanpinn.settings.config import validate

        if self.checkpoint is None:
            return Solver(started(validate(self.config))[0].setup)
        found = checkpoints.Checkpoint(self.checkpoint, *read_checkpoint(self.checkpoint))
        solver = Solver(checkpoints.configuration_of(found, stored=self.stored, changed=self.config).setup)
        solver.load_state(found.state)
        return solver


@dataclass
class Team:
    """The processes of a solve, seen from one of them.

    Attributes:
        place: This one's place.
        others: Those that the first one has started.
        busy: True once the others take part in a solve.
    """

    place: Place
    others: list[subprocess.Popen[Any]] = field(default_factory=list)
    busy: bool = False

    def tell(self, value: Any = None) -> Any:
        """Return what the first process tells all."""
        box = [value]
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return box[0]

    def gather(self, own: Any) -> list[Any]:
        """Return what each process has to say, by rank."""
        found = [None] * self.place.size
        dist.all_gather_object(found, own)
        return found

    def catch(self, caught: list[int]) -> None:
        """Let a signal that reaches any process count as one of the first."""
        numbers = torch.tensor([max(caught, default=0)])
        dist.all_reduce(numbers, op=dist.ReduceOp.MAX)
        if int(numbers) and not caught:
            caught.append(int(numbers))

    def align(self, theta: Tensor | None) -> None:
        """Make the first process's parameters `[P]` everybody's, whatever their processors have rounded."""
        if theta is not None:
            dist.broadcast(theta, src=0)

    def leave(self) -> None:
        """Part from the others."""
        with suppress(RuntimeError):
            dist.destroy_process_group()
        for process in self.others:
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


met: ContextVar[Team | None] = ContextVar("team", default=None)
"""The processes that a launcher has started, once they have met."""


def meet(place: Place, device: str, where: str | None = None) -> Team:
    """Join the other processes, at a file's address or as the launcher has it.

    Raises:
        UserError: If they do not come, or the caller uses `torch.distributed` himself.
    """
    if dist.is_initialized():
        raise UserError(f"processes={place.size}: torch.distributed is in use already; expected 1")
    if device == "cuda":
        torch.cuda.set_device(place.local % torch.cuda.device_count())
    if where is None and "MASTER_ADDR" not in os.environ:
        os.environ.update(place.address())
    backend, wait = "gloo" if device == "cpu" else "cpu:gloo,cuda:nccl", timedelta(seconds=MEETING_S)
    try:
        dist.init_process_group(backend, where, wait, place.size, place.rank)
    except (RuntimeError, ValueError) as error:
        text = str(error).partition("\n")[0][:200]
        raise UserError(f"processes={place.size}: they have not met ({text})") from error
    return Team(place)


@contextmanager
def leading(configuration: Configuration, order: Order | None, folder: Path | None) -> Iterator[Team | None]:
    """Have the other processes take part in a solve from here on; None where there are none.

    Raises:
        UserError: If they cannot know the problem, or do not come.
        OSError: If one of them is lost.
    """
    size, team, settings = configuration.setup.processes, met.get(), configuration.settings
    if size == 1 or order is None:
        yield None
        return
    if team is None and launched():
        raise UserError(
            f"processes={size}: a launcher's processes do the commands solve and resume together, no others"
        )
    groups = [name for name, group in order.config.items() if isinstance(group, dict) and OBJECT in group]
    if groups:
        raise UserError(f"processes={size}: expected 1 for a {groups[0]} given as an object, not by name")
    own = team is None
    team = team or _gathered(size, settings.device)
    try:
        team.busy = True
        team.tell((order, settings.threads or torch.get_num_threads()))
        complaints = [text for text in team.gather(None) if text]
        if complaints:
            raise UserError(complaints[0])
        yield team
    except RuntimeError as error:
        if not is_lost(error):
            raise
        where = "" if folder is None else f"; `kanpinn resume {folder}` goes on from its last checkpoint"
        raise OSError(f"processes={size}: one of them is lost{where}") from error
    finally:
        if own:
            team.leave()


def own_threads(processes: int) -> int | None:
    """Return the number of threads of each of some processes on this machine, all processors together; None for one."""
    return None if processes == 1 or launched() else max(1, torch.get_num_threads() // processes)


def is_lost(error: RuntimeError) -> bool:
    """Tell whether a collective has failed since another process is gone."""
    text = str(error)
    return "Connection closed by peer" in text or "Connection reset" in text or "NCCL" in text or "gloo" in text


def _gathered(size: int, device: str) -> Team:
    """Start the other processes on this machine."""
    with tempfile.TemporaryDirectory(prefix="kanpinn-", ignore_cleanup_errors=True) as folder:
        where = f"file://{folder}/meeting"
        command = [sys.executable, "-m", "kanpinn.run.follow", where, str(size), device]
        # A session of their own: a Ctrl-C in the terminal is for the first process, which tells them.
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        others = [subprocess.Popen([*command, str(rank)], **streams, start_new_session=True) for rank in range(1, size)]
        try:
            team = meet(Place(0, size, 0), device, where)
        except BaseException:
            for process in others:
                process.kill()
                process.wait()
            raise
    team.others = others
    return team


def theta_under_way(solver: Solver) -> Tensor | None:
    """Return the parameters of the stage under way, `[P]`; None between stages."""
    state = solver.slab.stage_state
    return None if state is None else state.theta
