"""One writer per output folder."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from sightline.errors import OutputConflict
from sightline.job.files import CannotWrite

LOCK_NAME = ".lock"


class OutputBusy(OutputConflict):
    """Another process writes to the output folder at this moment; wait for it or choose another folder."""


@contextmanager
def locked(folder: Path) -> Generator[None]:
    """Hold a folder's lock: a file that names the writer's pid and host, locked by the operating system.

    The system lets go when the process dies, however it dies: a lock file left by a killed writer is taken over,
    even if its pid belongs to another process by now.

    Raises:
        OutputBusy: with the pid and host of the writer.
        CannotWrite: the folder takes no lock file.
    """
    path = folder / LOCK_NAME
    try:
        descriptor = _acquire(path)
    except OSError as reason:
        raise CannotWrite(f"{path} could not be locked: {reason.strerror or reason}.") from reason
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()  # while the lock is held: whoever opened this file finds out in _acquire
        os.close(descriptor)


def _acquire(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_current(descriptor, path):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())
                return descriptor
        except BlockingIOError:
            owner = _owner(descriptor)
            os.close(descriptor)
            raise OutputBusy(
                f"{path.parent} is being written by {owner}. Wait until it ends, or choose another output "
                "folder (-o)."
            ) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_current(descriptor: int, path: Path) -> bool:
    """Whether the file that was opened still has its name; the writer before may have removed it in between."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _owner(descriptor: int) -> str:
    try:
        record = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {record['pid']} on {record['host']}"
    except (ValueError, KeyError, TypeError):
        return "another process that has just begun"
