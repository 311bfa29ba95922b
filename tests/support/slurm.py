"""A SLURM of its own on this machine: munge, slurmctld and slurmd on free ports, all files in one folder."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sinfo", "srun", "sbatch", "scancel", "scontrol", "squeue")
"""Debian has them in slurm-wlm and munge."""

SETTINGS = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
KillWait=30
SchedulerParameters=sched_interval=1,batch_sched_delay=0
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=4096 State=UNKNOWN
PartitionName=cpu Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> list[str]:
    """Programs of SLURM's that are not there."""
    return [name for name in PROGRAMS if shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin") is None]


@contextmanager
def slurm(folder: Path) -> Iterator[dict[str, str]]:
    """Start SLURM with one node of two cores; yields the environment of its commands."""
    for name in ("munge", "state", "spool"):
        (folder / name).mkdir(mode=0o700)
    (folder / "munge" / "key").write_bytes(os.urandom(128))
    (folder / "munge" / "key").chmod(0o600)
    host = socket.gethostname().partition(".")[0]
    controller, daemon = _free_ports(2)
    text = SETTINGS.format(host=host, controller=controller, daemon=daemon, user=getpass.getuser(), folder=folder)
    (folder / "slurm.conf").write_text(text)
    env = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "PATH": os.environ["PATH"] + ":/usr/sbin"}
    place = f"{folder}/munge"
    munge = ["munged", "--foreground", "--force", f"--key-file={place}/key", f"--socket={place}/socket"]
    munge += [f"--pid-file={place}/pid", f"--seed-file={place}/seed", f"--log-file={place}/log"]
    with (folder / "out").open("w") as out:
        daemons: list[subprocess.Popen[bytes]] = []
        try:
            for command in (munge, ["slurmctld", "-D"], ["slurmd", "-D"]):
                daemons.append(subprocess.Popen(command, env=env, stdout=out, stderr=out))
                time.sleep(0.5)
            _wait_for_a_node(env, folder)
            yield env
        finally:
            subprocess.run(["scancel", "--quiet", "--state=PENDING", "--partition=cpu"], env=env, check=False)
            subprocess.run(["scancel", "--quiet", "--signal=KILL", "--partition=cpu"], env=env, check=False)
            time.sleep(1)
            for process in reversed(daemons):
                process.terminate()
                process.wait(30)


def _wait_for_a_node(env: dict[str, str], folder: Path) -> None:
    end = time.monotonic() + 60
    while "idle" not in subprocess.run(["sinfo", "-h", "-o", "%t"], env=env, capture_output=True, text=True).stdout:
        if time.monotonic() > end:
            logs = "\n".join(file.read_text(errors="replace")[-1500:] for file in folder.glob("*.log"))
            raise TimeoutError(f"SLURM does not come up: {(folder / 'out').read_text()[-1500:]}\n{logs}")
        time.sleep(0.2)


def _free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    try:
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
