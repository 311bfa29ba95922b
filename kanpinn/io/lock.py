"""One process per run folder, by a lock that the system itself releases when a process ends, however it ends."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kanpinn.errors import UserError

try:
    import fcntl
except ImportError:  # no POSIX system
    fcntl = None

NAME = ".lock"
"""The file in a run folder that the lock is on. One that lies there without a process that holds it means nothing."""

_HELD_BY_ANOTHER = (errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK)


@contextmanager
def run_lock(folder: Path) -> Iterator[Callable[[], None]]:
    """Hold a run folder, which exists, for this process, so that no other writes into it.

    A file system without locks (some network mounts) is used without one. Yields a function that raises UserError if
    the folder has been removed or replaced since. Raises UserError, naming it, if another process holds the folder,
    OSError if the folder cannot be written.
    """
    path = folder / NAME
    descriptor = _locked(path)
    own = os.fstat(descriptor)

    def still_there() -> None:
        try:
            found = path.stat()
        except OSError:
            found = None
        if found is None or (found.st_dev, found.st_ino) != (own.st_dev, own.st_ino):
            raise UserError(f"{folder}: the run folder was removed or replaced while the run was writing into it.")

    try:
        yield still_there
    finally:
        # Removed while it is still held: whoever waits for it then finds that the name is gone, and makes a new one.
        with contextlib.suppress(OSError, UserError):
            still_there()
            path.unlink()
        os.close(descriptor)


def held(folder: Path) -> bool | None:
    """Say whether some process holds a run folder; None where a lock's file is there but the system has no locks."""
    try:
        descriptor = os.open(folder / NAME, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return None
    try:
        if fcntl is None:
            return None
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return True if error.errno in _HELD_BY_ANOTHER else None
    finally:
        os.close(descriptor)
    return False


def _locked(path: Path) -> int:
    """Open the lock file and lock it; gives back its descriptor."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            if fcntl is not None:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _HELD_BY_ANOTHER:
                holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
                os.close(descriptor)
                raise UserError(
                    f"{path.parent}: {holder} is writing into this folder; wait for it, or stop it."
                ) from None
        try:
            same = os.path.samestat(os.fstat(descriptor), path.stat())
        except FileNotFoundError:
            same = False
        if same:
            with contextlib.suppress(OSError):  # a full disk: the lock holds all the same
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
            return descriptor
        os.close(descriptor)  # its holder has just finished and removed it


def check_folder(folder: Path) -> None:
    """Refuse a run folder that cannot take a new run; raises UserError if it exists and is not an empty folder."""
    if folder.is_dir():
        if any(file.name != NAME for file in folder.iterdir()):
            holds = "already holds a run" if (folder / "metrics.json").exists() else "is not empty"
            raise UserError(f"hydra.run.dir={folder}: the folder {holds}; expected a new or an empty one.")
    elif folder.exists():
        raise UserError(f"hydra.run.dir={folder}: this is a file; expected a new or an empty folder.")
    for place in folder.parents:
        if place.is_file():
            raise UserError(f"hydra.run.dir={folder}: {place} is a file; expected a new or an empty folder.")
