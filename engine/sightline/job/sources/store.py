"""A file that is read in pieces, on this machine or behind a URL."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol, TypeVar, cast

from sightline.errors import BadImage, MissingExtra, UsageError
from sightline.job.inputs import LARGEST, check_size

Found = TypeVar("Found")
TRIES = 3  # of a read behind a URL, the second after PAUSE seconds, the third after twice as many
PAUSE = 0.5
PIECE = 1 << 20  # bytes of one read where the length is unknown


class Store(Protocol):
    """A file; ``str`` gives its place."""

    def length(self) -> int:
        """Bytes.

        Raises:
            BadImage: nobody says how many.
        """
        ...

    def open(self) -> BinaryIO:
        """A reader that can seek."""
        ...

    def read(self, start: int, length: int) -> bytes:
        """Bytes from ``start``, fewer where the file ends before.

        Raises:
            BadImage: it cannot be read.
        """
        ...


@dataclass(frozen=True, slots=True)
class LocalFile:
    """On this machine."""

    path: str

    def __str__(self) -> str:
        return self.path

    def length(self) -> int:
        return os.stat(self.path).st_size  # noqa: PTH116 - a million of these; a Path object each would be the cost

    def open(self) -> BinaryIO:
        return open(self.path, "rb")  # noqa: PTH123 - likewise; the caller closes it

    def read(self, start: int, length: int) -> bytes:
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                parts: list[bytes] = []
                while length > 0 and (part := os.pread(descriptor, length, start)):
                    parts.append(part)
                    start, length = start + len(part), length - len(part)
                return b"".join(parts)
            finally:
                os.close(descriptor)
        except OSError as reason:
            raise BadImage(f"{self.path} cannot be read: {reason.strerror or reason}.") from reason


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """Behind a URL of fsspec: s3://, gs://, https://, memory://, file:// …"""

    url: str

    def __str__(self) -> str:
        return self.url

    def length(self) -> int:
        size = self.told_size()
        if size is None:
            raise BadImage(f"{self.url} is of unknown length: its server does not say it. Copy it to this machine.")
        return size

    def told_size(self) -> int | None:
        """Bytes; None where the server does not say, as with answers in chunks."""
        system, path = opened(self.url)
        size = patiently(lambda: system.size(path), self.url)
        return None if size is None else int(size)

    def open(self) -> BinaryIO:
        system, path = opened(self.url)
        return cast(BinaryIO, patiently(lambda: system.open(path, "rb"), self.url))

    def read(self, start: int, length: int) -> bytes:
        system, path = opened(self.url)
        return bytes(patiently(lambda: system.cat_file(path, start=start, end=start + length), self.url))

    def read_at_most(self, length: int) -> bytes:
        """So many bytes from the beginning, fewer where it ends before; for a file of unknown length.

        Raises:
            BadImage: it cannot be read.
        """

        def read() -> bytes:
            parts, left = list[bytes](), length
            with self.open() as reader:
                while left > 0 and (part := reader.read(min(left, PIECE))):
                    parts.append(part)
                    left -= len(part)
            return b"".join(parts)

        return patiently(read, self.url)


@dataclass(frozen=True, slots=True)
class RemoteImage:
    """An image behind a URL; its size is what the listing said, -1 where it said nothing."""

    url: str
    size: int = -1

    def __str__(self) -> str:
        return self.url

    @property
    def signature(self) -> str:
        return "" if self.size < 0 else str(self.size)

    def read(self) -> bytes:
        file = RemoteFile(self.url)
        size = self.size if self.size >= 0 else file.told_size()
        if size is not None:
            check_size(self.url, size)
            return file.read(0, size)
        content = file.read_at_most(LARGEST + 1)
        check_size(self.url, len(content))
        return content


@dataclass(frozen=True, slots=True)
class Refused:
    """What lies somewhere and is not read, with the reason."""

    place: str
    reason: str

    def __str__(self) -> str:
        return self.place

    @property
    def size(self) -> int:
        return -1

    @property
    def signature(self) -> str:
        return self.reason

    def read(self) -> bytes:
        raise BadImage(self.reason)


def opened(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path within it.

    Raises:
        MissingExtra: fsspec, or the library for this kind of URL, is not installed.
        UsageError: no such kind of URL.
    """
    try:
        from fsspec.core import url_to_fs  # pyright: ignore[reportMissingImports]
    except ImportError as reason:
        raise MissingExtra(f"{url} needs fsspec: pip install 'sightline[remote]'.") from reason
    try:
        system, path = url_to_fs(url)
    except ImportError as reason:  # fsspec says which library
        raise MissingExtra(
            f"{url} cannot be opened: {reason}. Install that library beside 'sightline[remote]'."
        ) from reason
    except ValueError as reason:
        raise UsageError(f"{url!r} is no URL that fsspec knows: {reason}.") from reason
    return system, str(path)


def patiently(ask: Callable[[], Found], url: str) -> Found:
    """What a file system answers, asked again where the network may have been at fault.

    Raises:
        BadImage: it is not there, or not ours to read, or every try failed.
    """
    for attempt in range(TRIES):
        try:
            return ask()
        except (FileNotFoundError, IsADirectoryError, PermissionError) as reason:
            raise BadImage(f"{url} cannot be read: {_words(reason)}.") from reason
        except Exception as reason:  # every library raises its own
            if attempt + 1 == TRIES:
                raise BadImage(f"{url} cannot be read, {TRIES} times: {_words(reason)}.") from reason
            time.sleep(PAUSE * (attempt + 1))
    raise AssertionError("unreachable")


def _words(reason: Exception) -> str:
    text = str(reason).strip().rstrip(".")
    return f"{type(reason).__name__}{': ' + text if text else ''}"
