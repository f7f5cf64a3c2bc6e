"""Files that are either there in full or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path

from sightline.errors import SightlineError

PARTIAL = ".partial"  # what a file is called until all of it is on disk; the lock keeps a second writer away


class CannotWrite(SightlineError):
    """The output folder does not take the data: no space, no permission; nothing committed is lost."""


def write_atomically(path: Path, pieces: Iterable[bytes | memoryview], *, durably: bool = True) -> str:
    """Write a file under a temporary name, force it to disk, then give it its name; returns its sha256.

    The name itself is on disk for certain only after ``sync_folder``, so that two files can share one.

    Args:
        path: the file.
        pieces: of its content.
        durably: False leaves it to the system when it is on disk, which takes a fiftieth of the time: for pictures
            that can be drawn again.

    Raises:
        CannotWrite: the temporary file is removed again.
    """
    partial = path.with_name(path.name + PARTIAL)
    digest = write_durably(partial, pieces, at_once=durably)
    rename(partial, path)
    return digest


def write_durably(path: Path, pieces: Iterable[bytes | memoryview], *, at_once: bool = True) -> str:
    """Write a file and, unless told otherwise, force it to disk; returns its sha256.

    Raises:
        CannotWrite: the file is removed again.
    """
    digest = hashlib.sha256()
    with explained(path), removed_on_failure(path), path.open("wb") as file:
        for piece in pieces:
            digest.update(piece)
            file.write(piece)
        file.flush()
        if at_once:
            os.fsync(file.fileno())
    return digest.hexdigest()


def rename(partial: Path, path: Path) -> None:
    """Give a file its name.

    Raises:
        CannotWrite: the file is removed.
    """
    with explained(path), removed_on_failure(partial):
        partial.replace(path)


@contextmanager
def removed_on_failure(path: Path) -> Generator[None]:
    """Remove a file that is not whole."""
    try:
        yield
    except BaseException:
        with suppress(OSError):  # the first failure is the one to report
            path.unlink(missing_ok=True)
        raise


def append_durably(path: Path, text: bytes) -> None:
    """Append to a file and force it to disk; a failed append is cut off again.

    Raises:
        CannotWrite: the file is as it was, or ends in an incomplete line if even cutting failed.
    """
    with explained(path), path.open("ab", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            rest = memoryview(text)
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):
                file.truncate(size)
            raise


def cut(path: Path, size: int) -> None:
    """Shorten a file to ``size`` bytes, durably; nothing happens where it is that short."""
    with explained(path), path.open("r+b") as file:
        if os.fstat(file.fileno()).st_size > size:
            file.truncate(size)
            os.fsync(file.fileno())


def make_folder(path: Path) -> None:
    """Create a folder and its parents, durably."""
    with explained(path):
        if not path.is_dir():
            make_folder(path.parent)
            path.mkdir(exist_ok=True)
            sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Force the names in a folder to disk."""
    with explained(path):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Digest of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def explained(path: Path) -> Generator[None]:
    """Say what could not be written, why, and how much room is left.

    Raises:
        CannotWrite: instead of an OSError.
    """
    try:
        yield
    except OSError as reason:
        raise CannotWrite(f"{path} could not be written: {reason.strerror or reason}{_room(path)}.") from reason


def _room(path: Path) -> str:
    with suppress(OSError):
        return f" ({shutil.disk_usage(path.parent).free / 1e6:,.1f} MB free)"
    return ""
