"""Place of this process among those that torchrun or srun has started; known without loading torch."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass

from kanpinn.errors import UserError


@dataclass(frozen=True)
class Place:
    """Place of a process among those of one solve.

    Attributes:
        rank: Its number, 0 the first.
        size: Number of processes.
        local: Its number on its machine.
    """

    rank: int
    size: int
    local: int

    def address(self) -> dict[str, str]:
        """Return the variables by which SLURM's processes meet; torchrun sets them itself.

        Raises:
            UserError: If SLURM does not tell its machines.
        """
        nodes = os.environ.get("SLURM_STEP_NODELIST", "")
        try:
            names = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True)
            first = names.stdout.split()[0]
        except (OSError, subprocess.CalledProcessError, IndexError):
            raise UserError(
                f"processes={self.size}: SLURM's machines ({nodes}) are not known; set MASTER_ADDR and MASTER_PORT"
            ) from None
        port = 20_000 + (int(os.environ.get("SLURM_JOB_ID", 0)) * 8 + int(os.environ.get("SLURM_STEP_ID", 0))) % 20_000
        return {"MASTER_ADDR": first, "MASTER_PORT": str(port)}


def launched() -> Place | None:
    """Return this process's place; None where it was started alone.

    torchrun: https://docs.pytorch.org/docs/stable/elastic/run.html#environment-variables;
    SLURM: https://slurm.schedmd.com/srun.html, output environment variables.
    """
    known = os.environ.get
    for run, rank, size, local in (
        ("TORCHELASTIC_RUN_ID", "RANK", "WORLD_SIZE", "LOCAL_RANK"),
        ("SLURM_STEP_ID", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),
    ):
        if known(run) and known(rank, "").isdecimal() and known(size, "").isdecimal() and int(known(size, "1")) > 1:
            return Place(int(known(rank, "0")), int(known(size, "1")), int(known(local, "0")))
    return None
