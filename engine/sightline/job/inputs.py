"""The inputs of a job: what there is to do, in a fixed order, each under a name of its own."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from sightline.errors import BadImage, UsageError
from sightline.types import FloatArray, Photo


@dataclass(frozen=True)
class Input:
    """One input: a name that is unique within the job, and where to find it."""

    id: str
    path: Path | None = None


class Loaded(NamedTuple):
    """An input, ready for the model: (C, H, W) float32 in model input space, and what is known of it."""

    tensor: FloatArray
    photo: Photo


Load = Callable[[Input], Loaded]  # raises BadImage for an input to set aside


@dataclass(frozen=True)
class Inputs:
    """The inputs in the order of their rows.

    Raises:
        UsageError: an id that occurs twice.
    """

    entries: tuple[Input, ...] = field(repr=False)

    def __post_init__(self) -> None:
        repeated = [name for name, count in Counter(one.id for one in self.entries).items() if count > 1]
        if repeated:
            raise UsageError(f"Input ids must differ, and {repeated[0]!r} occurs more than once.")

    def __len__(self) -> int:
        return len(self.entries)

    @cached_property
    def sha256(self) -> str:
        """Digest of the ids in order."""
        return texts_sha256(one.id for one in self.entries)

    @cached_property
    def files_sha256(self) -> str:
        """Digest of the files' sizes in order: other pictures of the same names are another job; "" without files."""
        sizes = [file_size(one.path) for one in self.entries]
        return "" if max(sizes, default=-1) < 0 else texts_sha256(map(str, sizes))

    def __str__(self) -> str:
        return describe(len(self), self.sha256)


def texts_sha256(texts: Iterable[str]) -> str:
    """Digest of ids or labels in order, each ended by a zero byte, which none of them holds."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()


def describe(count: int, sha256: str) -> str:
    """A list of inputs in a few words."""
    return f"{count} inputs (ids {sha256[:12]})"


def inputs_from(paths: Sequence[Path | str]) -> Inputs:
    """The images below folders and among files, each once, with stable ids.

    An id is the path relative to the folder that was given, or the file's name where no folder was given. Where two
    would be equal, both take as many of the folders above as tell them apart.

    Raises:
        NoImages: nothing was found.
    """
    from sightline.image import find_images

    folders = [_absolute(given) for given in paths if Path(given).is_dir()]
    names: dict[Path, str] = {}  # by absolute path
    for path in map(_absolute, find_images(paths)):
        root = next((folder for folder in folders if path.is_relative_to(folder)), path.parent)
        names[path] = path.relative_to(root).as_posix()
    return Inputs(tuple(Input(name, path) for path, name in zip(names, _distinct(names), strict=True)))


def load_photo(photograph: Callable[[Any, Photo], tuple[FloatArray, Photo]]) -> Load:
    """How to load an input that is an image file: read once, digest, decode, and hand to ``photograph``.

    Args:
        photograph: makes a decoded image the model's input; ``Model.photograph`` does.
    """

    def load(one: Input) -> Loaded:
        from sightline.image import read_image

        if one.path is None:
            raise BadImage(f"{one.id} has no file.")
        try:
            content = one.path.read_bytes()
        except OSError as reason:
            raise BadImage(f"{one.path} cannot be read: {reason.strerror or reason}.") from reason
        photo = Photo(one.id, one.path, hashlib.sha256(content).hexdigest())
        return Loaded(*photograph(read_image(content, name=str(one.path)), photo))

    return load


def printable(path: PurePath | str) -> str:
    """A path as text that every table can hold: bytes that are no UTF-8 are written as escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _absolute(path: Path | str) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links and change names


def _distinct(names: dict[Path, str]) -> list[str]:
    """The wished names, lengthened by parent folders until they differ."""
    depth = {path: len(PurePath(name).parts) for path, name in names.items()}
    chosen = {path: printable(name) for path, name in names.items()}
    while True:
        count = Counter(chosen.values())
        short = [path for path, name in chosen.items() if count[name] > 1 and depth[path] < len(path.parts)]
        if not short:
            break
        for path in short:
            depth[path] += 1
            chosen[path] = printable(PurePath(*path.parts[-depth[path] :]).as_posix())
    seen: Counter[str] = Counter()
    result: list[str] = []
    for name in chosen.values():  # equal to the end only where an escape looks like another file's name
        seen[name] += 1
        result.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return result


def file_size(path: Path | None) -> int:
    """Bytes of a file, -1 where there is none to be seen."""
    try:
        return -1 if path is None else path.stat().st_size
    except OSError:
        return -1
