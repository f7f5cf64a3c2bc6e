"""A bank on disk, open for asking."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from sightline.bank.space import Space, named_space, read_spaces
from sightline.errors import DamagedOutput, OutputConflict, UsageError
from sightline.job.manifest import JobHeader, SetAside
from sightline.job.reader import Job, open_job
from sightline.job.shard import Shard, read_values

PARTS = "parts"  # below the bank's folder; one job each, in the order in which they were added
DUPLICATES = ".duplicates.json"  # beside a part: inputs whose content is stored already, and where


@dataclass(frozen=True)
class Blocks(Sequence[NDArray[Any]]):
    """Descriptors (n h w, D) file by file: each is mapped when it is asked for, and let go with its last use.

    So a bank may be larger than memory, and than a process may address.

    Raises:
        DamagedOutput: a file is not what the manifest records.
    """

    files: tuple[tuple[Path, Shard], ...]
    space: Space

    def __len__(self) -> int:
        return len(self.files)

    @overload
    def __getitem__(self, index: int) -> NDArray[Any]: ...
    @overload
    def __getitem__(self, index: slice) -> Blocks: ...
    def __getitem__(self, index: int | slice) -> NDArray[Any] | Blocks:
        if isinstance(index, slice):
            return Blocks(self.files[index], self.space)
        folder, shard = self.files[index]
        return self.space.of(read_values(folder, shard))


@dataclass(frozen=True)
class Bank:
    """Descriptors of N images in one or more spaces, as they are on disk.

    Attributes:
        folder: of the bank.
        parts: the jobs that wrote it, in order; each added images.
        duplicates: id of every input that is not stored, since its content is, to the id of that content's row.
    """

    folder: Path
    parts: tuple[Job, ...]
    duplicates: dict[str, str]

    @property
    def header(self) -> JobHeader:
        """What made the rows: model, method, preprocessing."""
        return self.parts[0].header

    @cached_property
    def spaces(self) -> tuple[Space, ...]:
        """What the rows are made of."""
        return read_spaces(self.header.layout)

    def space(self, name: str | None = None) -> Space:
        """A space by its name: a layer's, ``pixel``, or ``feature`` for the first layer's.

        Raises:
            UnknownName: the bank has no such space.
        """
        return named_space(self.spaces, name)

    def __len__(self) -> int:
        """N, images."""
        return sum(len(part) for part in self.parts)

    @property
    def set_aside(self) -> tuple[SetAside, ...]:
        """Inputs that could not be read, and why."""
        return tuple(one for part in self.parts for one in part.set_aside)

    def blocks(self, space: Space) -> Blocks:
        """Descriptors (n h w, D) of consecutive images, memory-mapped where the bank has one space."""
        files = [(part.folder, shard) for part in self.parts for shard in part.shards.values() if shard.rows]
        return Blocks(tuple(files), space)

    def values(self, space: Space) -> NDArray[Any]:
        """(N h w, D): all of them in one array. For more than memory holds, go over ``blocks``."""
        found = list(self.blocks(space))
        return np.concatenate(found) if found else np.zeros((0, space.features), self.header.dtype)

    @cached_property
    def table(self) -> Any:
        """The ``pyarrow.Table`` of the images: id, path, sha256."""
        import pyarrow as pa

        return pa.concat_tables([part.table() for part in self.parts], promote_options="permissive")

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """N, in the order of the rows."""
        return tuple(self.table.column("id").to_pylist())

    @cached_property
    def paths(self) -> tuple[str, ...]:
        """N, where each image was read from; "" where it came from no file."""
        return tuple(self.table.column("path").to_pylist())

    def place(self, row: int, space: Space) -> tuple[int, int, int]:
        """Image, and row and column in the layer's map, of a descriptor."""
        image, position = divmod(row, space.positions)
        return image, *divmod(position, space.grid[1])

    def to_faiss(self, space: Space | str | None = None, factory: str = "Flat") -> Any:
        """See ``exporting.to_faiss``."""
        from sightline.bank.exporting import to_faiss

        return to_faiss(self, space, factory)

    def to_parquet(self, path: Path | str, space: Space | str | None = None) -> Path:
        """See ``exporting.to_parquet``."""
        from sightline.bank.exporting import to_parquet

        return to_parquet(self, path, space)

    def verify(self) -> list[str]:
        """Everything that is wrong, in sentences; empty when all is sound."""
        return [fault for part in self.parts for fault in part.verify()]


def open_bank(folder: Path | str) -> Bank:
    """Open a bank, finished or not.

    Raises:
        UsageError: there is none.
        DamagedOutput: a part is damaged, or is of another kind than the first.
    """
    root = Path(folder)
    parts = tuple(open_job(path) for path in part_folders(root))
    if not parts:
        raise UsageError(f"{root} holds no bank. Make one: sightline index MODEL IMAGES -o {root}.")
    for part in parts[1:]:
        if not same_rows(part.header, parts[0].header):
            raise DamagedOutput(f"{part.folder} was made by another model or method than {parts[0].folder}.")
    known = dict[str, str]()
    for part in parts:
        beside = part.folder.with_name(part.folder.name + DUPLICATES)
        if beside.is_file():
            known |= json.loads(beside.read_text(encoding="utf-8"))
    return Bank(root, parts, known)


def image_blocks(bank: Bank, space: Space) -> Sequence[NDArray[Any]]:
    """Blocks (n, D) of one descriptor per image: memory-mapped, or means where every position has its own."""
    if space.positions == 1:
        return bank.blocks(space)
    shape = (-1, space.positions, space.features)
    return [block.reshape(shape).mean(axis=1, dtype=np.float32) for block in bank.blocks(space)]


def part_folders(root: Path) -> list[Path]:
    """The parts that hold a job, in order."""
    return [path for path in sorted((root / PARTS).glob("[0-9]*")) if (path / "manifest.jsonl").is_file()]


def same_rows(one: JobHeader, other: JobHeader) -> bool:
    """Whether rows of the two can stand in one bank."""
    names = ("kind", "model_sha256", "method", "preprocess_sha256", "dtype", "layout")
    return all(getattr(one, name) == getattr(other, name) for name in names)


def check_same_rows(asked: JobHeader, there: JobHeader, folder: Path) -> None:
    """Refuse to mix.

    Raises:
        OutputConflict: with what differs.
    """
    if same_rows(asked, there):
        return
    named = ("model", "method", "preprocess_sha256", "dtype", "layout")
    differing = [
        f"  {name}: there {getattr(there, name)}, asked for {getattr(asked, name)}"
        for name in named
        if getattr(there, name) != getattr(asked, name)
    ]
    raise OutputConflict(
        "\n".join([f"{folder} is a bank of another kind:", *(differing or ["  model: other weights"])])
        + "\nChoose another folder (-o), or the model and options that it was made with."
    )
