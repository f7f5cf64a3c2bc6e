"""Opens what a job wrote."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.errors import DamagedOutput, UsageError
from sightline.job.inputs import texts_sha256
from sightline.job.manifest import MANIFEST, JobHeader, Manifest, SetAside, read_manifest
from sightline.job.rows import KEYS
from sightline.job.shard import Shard, read_shard, read_table, read_values


@dataclass(frozen=True)
class Job:
    """A job's folder, finished or not; shows what was committed when it was opened.

    >>> job = open_job("OUT")                              # doctest: +SKIP
    >>> for values, table in job: ...                      # doctest: +SKIP
    """

    folder: Path
    manifest: Manifest

    @property
    def header(self) -> JobHeader:
        """Model, method, target and the rest of what made the rows."""
        return self.manifest.header

    @property
    def set_aside(self) -> tuple[SetAside, ...]:
        """Inputs without a row, and why, in the order of the inputs."""
        return self.manifest.set_aside

    @property
    def shards(self) -> Mapping[int, Shard]:
        """What the manifest records, by index."""
        return self.manifest.shards

    @property
    def is_finished(self) -> bool:
        """Whether every shard is committed."""
        return len(self.shards) == self.manifest.shard_count

    def __len__(self) -> int:
        """Rows committed."""
        return sum(shard.rows for shard in self.shards.values())

    def __iter__(self) -> Iterator[tuple[NDArray[Any], Any]]:
        """Values (N, …), memory-mapped, and ``pyarrow.Table`` of each shard that has rows, in order.

        Raises:
            DamagedOutput: a file is not what the manifest records; contents are compared by ``verify`` alone.
        """
        for shard in self._filled():
            yield read_shard(self.folder, shard)

    def values(self) -> NDArray[Any]:
        """All rows (N, …) in one array: memory-mapped if there is one shard, copied together if there are more.

        For more rows than memory holds, go over the job shard by shard.

        Raises:
            DamagedOutput: as for iteration, or the shards hold different kinds of rows.
        """
        parts = [read_values(self.folder, shard) for shard in self._filled()]
        if len({(part.dtype, part.shape[1:]) for part in parts}) > 1:
            kinds = sorted({f"{part.dtype} {part.shape[1:]}" for part in parts})
            raise DamagedOutput(f"The shards of {self.folder} hold rows of different kinds: {'; '.join(kinds)}.")
        if not parts:
            return np.zeros((0,), self.header.dtype)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def table(self) -> Any:
        """All rows as one ``pyarrow.Table``, in the order of ``values``.

        Raises:
            DamagedOutput: as for iteration.
        """
        import pyarrow as pa

        tables = [read_table(self.folder, shard) for shard in self._filled()]
        if not tables:
            return pa.table({name: pa.array([], pa.string()) for name in KEYS})
        # A column may be all None in one shard and numbers in the next.
        return pa.concat_tables(tables, promote_options="permissive")

    def verify(self) -> list[str]:
        """Everything that is wrong, in sentences; empty when all is sound.

        Every file is read and hashed, and every input must have exactly one row or be set aside once.
        """
        faults: list[str] = []
        for index, shard in self.shards.items():
            found = shard.damage(self.folder, hashes=True)
            faults += found
            if not found:
                try:
                    faults += self._misplaced(index, shard)
                except DamagedOutput as reason:
                    faults.append(str(reason))
        if not faults and self.is_finished and self.header.rows == "inputs":
            ids = (name for index in self.shards for name in self._ids(index))
            if texts_sha256(ids) != self.manifest.inputs_sha256:
                faults.append(f"The ids in the tables of {self.folder} are not those that the job was given.")
        return faults

    def _filled(self) -> Iterator[Shard]:
        return (shard for shard in self.shards.values() if shard.rows)

    def _misplaced(self, index: int, shard: Shard) -> list[str]:
        """Rows and inputs set aside that do not add up to the inputs of the shard."""
        read_shard(self.folder, shard)
        positions = self.manifest.positions(index)
        aside = {one.position for one in self.set_aside if one.shard == index}
        sound = aside <= set(positions) and shard.rows + len(aside) == len(positions)
        if sound or self.header.rows == "model":
            return []
        return [f"Shard {index} has {shard.rows} rows and {len(aside)} set aside for {len(positions)} inputs."]

    def _ids(self, index: int) -> Iterator[str]:
        """Ids of a shard's inputs in order, with and without a row."""
        table = read_table(self.folder, self.shards[index], ["id"])
        named = iter([] if table is None else table.column("id").to_pylist())
        aside = {one.position: one.id for one in self.set_aside if one.shard == index}
        return (aside[position] if position in aside else next(named) for position in self.manifest.positions(index))


def open_job(out: Path | str) -> Job:
    """Open what a job wrote, while it runs or after.

    Raises:
        UsageError: there is no job in the folder.
        DamagedOutput: its manifest is damaged.
        OutputConflict: a later version of sightline wrote it.
    """
    folder = Path(out)
    manifest = read_manifest(folder)
    if manifest is None:
        raise UsageError(f"{folder} holds no job: there is no {MANIFEST}. Give the folder that was passed as -o.")
    return Job(folder, manifest)
