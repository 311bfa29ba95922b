"""The ledger of a sweep: one small file per job in `SWEEP/.jobs`, from which summary and resumption are made.

Jobs may run in other processes and on other machines; each writes its own file, by atomic rename, so that nothing is
shared but the folder.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from kanpinn.errors import EXIT_DONE, UserError
from kanpinn.io.atomic import write_json
from kanpinn.io.lock import held, run_lock

EXIT_CRASHED = 1

FOLDER = ".jobs"
"""Place of the ledger inside the sweep's folder."""


@dataclass(frozen=True)
class Job:
    """One job of a sweep.

    Attributes:
        number: Its number in this sweep, the same in every resumption.
        folder: Its run folder, relative to the sweep's; that of the newest attempt.
        overrides: Overrides of the command line, one value each; none of Hydra's own.
        config: Fingerprint of its resolved config, "" if it could not be composed.
        state: Stage of its life: it waits, runs, has ended by itself, or was killed.
        code: Exit code once it has ended.
        reason: Why it did not end well, one line; "" if it did.
        host: The machine that ran it.
        process: Its process there.
        birth: When that process was born, in the system's own unit: tells it from a later one of the same number.
        chosen: Problem, backbone, schedule, optimizer and seed of its config, as far as it could be composed.
        resumed: True if it goes on with the run that lies in its folder.
    """

    number: int
    folder: str
    overrides: tuple[str, ...] = ()
    config: str = ""
    state: Literal["waiting", "running", "ended", "killed"] = "waiting"
    code: int | None = None
    reason: str = ""
    host: str = ""
    process: int = 0
    birth: str = ""
    chosen: dict[str, Any] = field(default_factory=dict)
    resumed: bool = False

    @property
    def pairs(self) -> dict[str, str]:
        """The overrides by key."""
        split = [text.lstrip("+~").partition("=") for text in self.overrides]
        return {key: value for key, _, value in split}

    @property
    def done(self) -> bool:
        """True if nothing is left to do."""
        return self.state == "ended" and self.code == EXIT_DONE

    @property
    def exit_code(self) -> int:
        """Exit code of the job; one that was killed, or not reached, counts as crashed."""
        return self.code if self.state == "ended" and self.code is not None else EXIT_CRASHED

    @property
    def stopped(self) -> bool:
        """True if it was stopped from outside; one that counts as running is so if its process is gone."""
        return self.state in ("running", "killed") or (self.state == "ended" and self.exit_code >= 128)

    @property
    def alive(self) -> bool:
        """True if its process still runs on this machine."""
        return self.state == "running" and self.host == socket.gethostname() and birth(self.process) == self.birth != ""

    def anew(self, *, resumed: bool) -> Job:
        """Return the same job before it begins, or goes on with the run that lies in its folder."""
        return Job(self.number, self.folder, self.overrides, self.config, chosen=self.chosen, resumed=resumed)


def at_work(sweep: Path, job: Job) -> bool:
    """Return True if a job still runs; one on another machine does unless its run folder's lock is free or gone."""
    elsewhere = job.state == "running" and job.host != socket.gethostname()
    return job.alive or (elsewhere and held(sweep / job.folder) is not False)


def stopped_midway(sweep: Path, job: Job) -> bool:
    """Return True if a job was stopped from outside after its run had begun; it can go on where it stands."""
    folder = sweep / job.folder
    return job.stopped and ((folder / "config.yaml").is_file() or (folder / "checkpoints").is_dir())


def given_back(ledger: Ledger, job: Job) -> Job:
    """Return a job that a queue has stopped and starts again, waiting to go on; any other as it is."""
    if not job.stopped or at_work(ledger.folder, job):
        return job
    job = job.anew(resumed=stopped_midway(ledger.folder, job))
    ledger.write(job)
    return job


def birth(process: int) -> str:
    """When a process was born, in the system's own unit; "" if there is none, or the system does not say."""
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    fields = text.rpartition(")")[2].split()  # the name before it may hold anything
    return "" if fields[0] in "ZX" else fields[19]


def there(process: int, born: str) -> bool:
    """Return True if a process of this machine still runs, by its birth where the system says that."""
    if born:
        return birth(process) == born
    try:
        os.kill(process, 0)
    except OSError as error:
        return isinstance(error, PermissionError)
    return True


class Ledger:
    """Record of a sweep's jobs, kept in files.

    Attributes:
        folder: The sweep's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files = folder / FOLDER

    @property
    def exists(self) -> bool:
        """True if the folder holds a sweep."""
        return (self._files / "sweep.json").is_file()

    def add_command(self, overrides: Sequence[str], swept: Sequence[str]) -> None:
        """Note the overrides of the sweep, and those keys with several values, so that a later call can find it.

        Hydra's own overrides and those of `sweep` are left out.
        """
        known = self._head()
        commands = [c for c in known.get("commands", []) if sorted(c) != sorted(overrides)]
        keys = list(dict.fromkeys([*known.get("swept", []), *swept]))
        write_json(
            self._files / "sweep.json",
            {"schema_version": 1, "commands": [*commands, list(overrides)], "swept": keys},
        )

    def called_with(self, overrides: Sequence[str]) -> bool:
        """Return True if the sweep was called with these overrides, in any order."""
        return any(sorted(command) == sorted(overrides) for command in self._head().get("commands", []))

    @property
    def swept(self) -> list[str]:
        """The keys that were given several values."""
        return list(self._head().get("swept", []))

    def jobs(self) -> list[Job]:
        """All jobs by number; raises UserError if a file of the ledger is damaged."""
        files = [file for file in self._files.glob("*.json") if file.stem.isdecimal()]
        return [self.read(int(file.stem)) for file in sorted(files, key=lambda file: int(file.stem))]

    def read(self, number: int) -> Job:
        """One job; raises UserError if its file is missing or damaged."""
        values = _read(self._files / f"{number}.json")
        try:
            return Job(**{**values, "overrides": tuple(values["overrides"])})
        except (KeyError, TypeError) as error:
            raise UserError(f"{self._files / f'{number}.json'}: not the record of a job ({error}).") from error

    def write(self, job: Job) -> None:
        """Keep the state of one job."""
        write_json(self._files / f"{job.number}.json", asdict(job))

    def finish(self, job: Job) -> None:
        """Keep the state of one job, unless another process has taken it over since."""
        now = self.read(job.number)
        if (now.folder, now.host, now.process, now.birth) == (job.folder, job.host, job.process, job.birth):
            self.write(job)

    @property
    def stopped(self) -> bool:
        """True once the user has asked for an end: jobs that have not begun do not begin."""
        return (self._files / "stop").exists()

    @stopped.setter
    def stopped(self, value: bool) -> None:
        if value:
            (self._files / "stop").touch()
        else:
            (self._files / "stop").unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the sweep against a second launch; raises UserError if another process holds it."""
        self._files.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            try:
                stack.enter_context(run_lock(self._files))
            except UserError as error:
                raise UserError(f"hydra.sweep.dir={self.folder}: another process is running this sweep.") from error
            yield

    def _head(self) -> dict[str, Any]:
        return _read(self._files / "sweep.json") if self.exists else {}


def _read(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be read ({' '.join(str(error).split())}).") from error
    if not isinstance(values, dict):
        raise UserError(f"{file}: expected a JSON object.")
    return values


def free_folder(sweep: Path, name: str) -> str:
    """A folder for the next attempt of a job: the name itself, or with -2, -3, … where that is taken."""
    candidate, attempt = name, 1
    while (sweep / candidate).exists() and (not (sweep / candidate).is_dir() or os.listdir(sweep / candidate)):
        attempt += 1
        candidate = f"{name}-{attempt}"
    return candidate
