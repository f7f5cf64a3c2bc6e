"""The inputs of a job: what there is to do, in a fixed order, each under a name of its own."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any, NamedTuple, Protocol

from sightline.errors import BadImage, SightlineError, UsageError
from sightline.types import FloatArray, Photo

LARGEST = 512 << 20  # bytes of one encoded image


class Content(Protocol):
    """Where the bytes of an input lie, if they are not a file of their own; ``str`` tells it."""

    @property
    def size(self) -> int:
        """Bytes, -1 where that is not known before they are read."""
        ...

    @property
    def signature(self) -> str:
        """What changes when other bytes of the same name lie there, as far as that can be told without reading."""
        ...

    def read(self) -> bytes:
        """All of it.

        Raises:
            BadImage: it cannot be had, with the reason.
        """
        ...


@dataclass(frozen=True, slots=True)
class Input:
    """One input: a name that is unique within the job, and where to find it: a file, or something else."""

    id: str
    path: Path | None = None
    content: Content | None = None

    @property
    def place(self) -> str:
        """Where its bytes lie, as text; "" where nobody knows."""
        if self.content is not None:
            return printable(str(self.content))
        return "" if self.path is None else printable(self.path)

    @property
    def size(self) -> int:
        """Bytes, -1 where that is not known."""
        return file_size(self.path) if self.content is None else self.content.size

    @property
    def signature(self) -> str:
        """See ``Content``; "" where there is nothing to be seen."""
        if self.content is not None:
            return self.content.signature
        size = file_size(self.path)
        return str(size) if size >= 0 else ""

    def read(self) -> bytes:
        """Its bytes.

        Raises:
            BadImage: they cannot be had, or are too many.
        """
        if self.content is not None:
            return self.content.read()
        if self.path is None:
            raise BadImage(f"{self.id} has no file.")
        return read_file(self.path)


class Loaded(NamedTuple):
    """An input, ready for the model: (C, H, W) float32 in model input space, and what is known of it."""

    tensor: FloatArray
    photo: Photo


Load = Callable[[Input], Loaded]  # raises BadImage for an input to set aside


@dataclass(frozen=True)
class Inputs:
    """The inputs in the order of their rows; a list of a source makes each when it is asked for.

    Raises:
        UsageError: an id that occurs twice.
    """

    entries: Sequence[Input] = field(repr=False)

    def __post_init__(self) -> None:
        from sightline.job.sources.listing import repeated_ids

        repeated = repeated_ids(self.entries)
        if repeated:
            raise UsageError(f"Input ids must differ, and {self.entries[repeated[0]].id!r} occurs more than once.")

    def __len__(self) -> int:
        return len(self.entries)

    @cached_property
    def sha256(self) -> str:
        """Digest of the ids in order."""
        return texts_sha256(one.id for one in self.entries)

    @cached_property
    def files_sha256(self) -> str:
        """Digest of sizes in order: other pictures of the same names are another job; "" where nothing is seen."""
        return files_sha256(self.entries)

    def __str__(self) -> str:
        return describe(len(self), self.sha256)


def texts_sha256(texts: Iterable[str]) -> str:
    """Digest of ids or labels in order, each ended by a zero byte, which none of them holds."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()


def files_sha256(inputs: Iterable[Input]) -> str:
    """Digest of what can be seen of inputs without reading them, in order; "" where nothing is seen."""
    digest, seen = hashlib.sha256(), False
    for one in inputs:
        signature = one.signature
        seen = seen or bool(signature)
        digest.update((signature or "-1").encode() + b"\0")
    return digest.hexdigest() if seen else ""


def describe(count: int, sha256: str) -> str:
    """A list of inputs in a few words."""
    return f"{count} inputs (ids {sha256[:12]})"


def inputs_from(paths: Sequence[Path | str]) -> Inputs:
    """The images that files, folders, patterns, tar shards, Parquet files and URLs name, each once, with stable ids.

    Raises:
        NoImages: nothing was found.
        UsageError: a source that cannot be read as such.
        MissingExtra: a URL whose library is not installed.
    """
    from sightline.job.sources.find import find_inputs

    return Inputs(find_inputs(paths))


def load_photo(photograph: Callable[[Any, Photo], tuple[FloatArray, Photo]]) -> Load:
    """How to load an input that is an image file: read once, digest, decode, and hand to ``photograph``.

    Args:
        photograph: makes a decoded image the model's input; ``Model.photograph`` does. What it meets in one image,
            whatever the exception, is that image's fault.
    """

    def load(one: Input) -> Loaded:
        from sightline.image import read_image

        content = one.read()
        place = "" if one.content is None else one.place
        photo = Photo(one.id, one.path, hashlib.sha256(content).hexdigest(), place=place)
        name = place or str(one.path)
        image = read_image(content, name=name)
        try:
            return Loaded(*photograph(image, photo))
        except (SightlineError, MemoryError):  # a refusal tells more; memory is the machine's
            raise
        except Exception as reason:
            raise BadImage(f"{name} cannot be made the model's input: {type(reason).__name__}: {reason}.") from reason

    return load


def printable(path: PurePath | str) -> str:
    """A path as text that every table can hold: bytes that are no UTF-8 are written as escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def file_size(path: Path | None) -> int:
    """Bytes of a file, -1 where there is none to be seen."""
    try:
        return -1 if path is None else path.stat().st_size
    except OSError:
        return -1


def read_file(path: Path) -> bytes:
    """The bytes of a file that is one: a pipe or a device would be waited for, or never end.

    Raises:
        BadImage: it cannot be read, is no file, or is larger than ``LARGEST``.
    """
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode) and not stat.S_ISDIR(state.st_mode):
            raise BadImage(f"{path} is no file but a pipe, a socket or a device.")
        check_size(str(path), state.st_size)
        return path.read_bytes()
    except OSError as reason:
        raise BadImage(f"{path} cannot be read: {reason.strerror or reason}.") from reason


def check_size(name: str, size: int) -> None:
    """Refuse what no photograph takes.

    Raises:
        BadImage: with the limit.
    """
    if size > LARGEST:
        raise BadImage(f"{name} has {size:,} bytes; an image may have {LARGEST:,} at most.")
