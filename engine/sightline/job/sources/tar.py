"""Tar and WebDataset shards: an index of members, each read where it lies; nothing is unpacked."""

from __future__ import annotations

import tarfile
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, BinaryIO, cast

from sightline.errors import BadImage, UsageError
from sightline.image import is_image
from sightline.job.inputs import Input, check_size, printable
from sightline.job.sources.listing import Listing
from sightline.job.sources.store import Refused, Store
from sightline.job.sources.texts import Texts

LONGEST_HEADER = 1 << 20  # bytes; a name that takes more is an attack on the reader's memory
MOST_MEMBERS = 1 << 26
COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"\x28\xb5": "zstd"}


@dataclass(frozen=True, slots=True)
class Span:
    """A member's bytes within its archive."""

    store: Store
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.store}/{self.name}"

    @property
    def signature(self) -> str:
        return str(self.size)

    def read(self) -> bytes:
        check_size(str(self), self.size)
        content = self.store.read(self.offset, self.size)
        if len(content) < self.size:
            raise BadImage(
                f"{self} is cut short: {self.store} ends after {len(content):,} of its {self.size:,} bytes."
            )
        return content


class TarShard(Listing):
    """The images of one archive; an id is the archive's name and the member's.

    What has an image's suffix and cannot be taken (a link, a name that leads out of the archive) is an input all the
    same, so that a job sets it aside with the reason; and so is an archive that ends before its end.
    """

    def __init__(self, store: Store, prefix: str):
        self._store, self._prefix = store, prefix
        self._names, self._offsets, self._sizes = Texts(), array("Q"), array("Q")
        self._faults: dict[int, str] = {}
        try:
            for member in _members(store):
                if is_image(PurePosixPath(member.name).name):
                    fault = _fault(member)
                    if fault:
                        self._faults[len(self._names)] = fault
                    self._add(member.name, member.offset_data, member.size)
        except UsageError:
            raise
        except (tarfile.TarError, EOFError, OverflowError, ValueError) as reason:
            self._faults[len(self._names)] = (
                f"{store} is damaged or cut short ({reason}): what comes after byte {self._end:,} is not read. "
                "Copy it again."
            )
            self._add("(damaged)", 0, 0)

    def _add(self, name: str, offset: int, size: int) -> None:
        self._names.append(name)
        self._offsets.append(offset)
        self._sizes.append(size)

    @property
    def _end(self) -> int:
        return self._offsets[-1] + self._sizes[-1] if self._offsets else 0

    def __len__(self) -> int:
        return len(self._names)

    def at(self, position: int) -> Input:
        name = self._names[position]
        shown = f"{self._prefix}/{printable(name)}"
        if position in self._faults:
            return Input(shown, None, Refused(f"{self._store}/{printable(name)}", self._faults[position]))
        return Input(shown, None, Span(self._store, name, self._offsets[position], self._sizes[position]))


def _members(store: Store) -> Iterator[tarfile.TarInfo]:
    """The members of an archive, none kept.

    Raises:
        UsageError: it cannot be opened, or is compressed.
        tarfile.TarError: it ends or changes its mind in between.
    """
    try:
        length = store.length()
        file = store.open()
    except (OSError, BadImage) as reason:
        raise UsageError(f"{store} cannot be opened: {getattr(reason, 'strerror', None) or reason}.") from reason
    with file:
        kind = COMPRESSED.get(file.read(2))
        if kind is not None:
            raise UsageError(
                f"{store} is compressed ({kind}), so that no member can be read by itself. Images are compressed "
                "already: store the shard as a plain .tar."
            )
        file.seek(0)
        if length == 0:
            raise tarfile.ReadError("it is empty")
        with tarfile.TarFile(fileobj=cast(BinaryIO, _Headers(file)), errorlevel=1) as archive:
            count = 0
            while (member := archive.next()) is not None:
                cast(Any, archive).members.clear()  # it keeps every one
                count += 1
                if count > MOST_MEMBERS:
                    raise tarfile.ReadError(f"more than {MOST_MEMBERS:,} members")
                yield member
                if member.isreg() and member.offset_data + member.size > length:
                    raise tarfile.ReadError(f"it ends at byte {length:,}, within {member.name!r}")
            file.seek(archive.offset)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError(f"its end mark is missing at byte {archive.offset:,}")


def _fault(member: tarfile.TarInfo) -> str:
    """Why a member is not read; "" where it is."""
    path = PurePosixPath(member.name)
    if member.issym() or member.islnk():
        return f"It is a link to {member.linkname!r}; links in archives are not followed."
    if member.isdev():
        return "It is a pipe or a device, not a file."
    if member.isdir():
        return "It is a folder that is named like an image."
    if member.issparse():
        return "It is stored as a sparse file, which is not read."
    if not member.isreg():
        return f"It is a member of kind {member.type!r}, not a file."
    if path.is_absolute() or ".." in path.parts:
        return f"Its name {member.name!r} leads out of the archive."
    return ""


class _Headers:
    """A file that gives headers only: a member's header that asks for megabytes is refused."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        if size > LONGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self._file.read(size)
