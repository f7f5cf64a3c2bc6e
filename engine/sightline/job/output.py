"""Writes a job's folder: opens it, commits shards to it, and refuses what would mix or destroy."""

from __future__ import annotations

import re
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from sightline.errors import OutputConflict
from sightline.job.files import (
    PARTIAL,
    CannotWrite,
    append_durably,
    cut,
    make_folder,
    sync_folder,
    write_atomically,
)
from sightline.job.inputs import Inputs, describe, files_sha256
from sightline.job.lock import LOCK_NAME, locked
from sightline.job.manifest import (
    MANIFEST,
    JobHeader,
    Manifest,
    SetAside,
    header_line,
    read_manifest,
    resumed_line,
    retried_line,
    shard_lines,
)
from sightline.job.shard import SHARDS, Shard, adopt_shard, write_shard

_REVISION = re.compile(r"\.r(\d+)\.npy$")
_OURS = re.compile(r"\d{6,}(\.r\d+)?\.(npy|parquet)(\.[0-9a-z]+)?")  # names that only a job gives


class Output:
    """A job's folder, open for writing. Make one with ``open_output``.

    Attributes:
        header: of the job in the folder; when it goes on, with the batch that it began with.
        positions: of a shard's inputs in the list of inputs.
        pending: shards still to do, in order.
        mended: those of them that were done once, and whose files are missing or cut short.
    """

    def __init__(self, folder: Path, manifest: Manifest, inputs: Inputs):
        self.folder, self._inputs = folder, inputs
        self.positions = manifest.positions
        self.header = manifest.header
        damaged = {i for i, shard in manifest.shards.items() if shard.damage(folder, hashes=False)}
        self._shards = {i: shard for i, shard in manifest.shards.items() if i not in damaged}
        self.pending = [i for i in range(manifest.shard_count) if i not in self._shards]
        self.mended = tuple(sorted(damaged))
        self._aside: dict[int, list[SetAside]] = {}  # by shard
        for one in manifest.set_aside:
            if one.shard in self._shards:
                self._aside.setdefault(one.shard, []).append(one)
        self.finished_inputs = sum(len(manifest.positions(i)) for i in self._shards)
        self._last = time.monotonic()

    @property
    def shard_count(self) -> int:
        """Shards committed."""
        return len(self._shards)

    @property
    def rows(self) -> int:
        """Rows committed."""
        return sum(shard.rows for shard in self._shards.values())

    @property
    def set_aside(self) -> list[SetAside]:
        """Inputs without a row, so far, in the order of the inputs."""
        return [one for index in sorted(self._aside) for one in self._aside[index]]

    @property
    def aside_count(self) -> int:
        """How many these are."""
        return sum(map(len, self._aside.values()))

    def redo(self, indices: Sequence[int]) -> None:
        """Make shards that are done pending again; each counts as it is until it is committed anew."""
        again = {index for index in indices if index in self._shards} - set(self.pending)
        self.pending = sorted([*self.pending, *again])
        self.finished_inputs -= sum(len(self.positions(index)) for index in again)

    def changed(self) -> list[int]:
        """Shards with rows of input files that have other sizes now, or of which nobody knows what they had."""
        return [
            index
            for index, shard in self._shards.items()
            if shard.rows and shard.files_sha256 != self._files_sha256(index, self._aside.get(index, ()))
        ]

    def _files_sha256(self, index: int, set_aside: Sequence[SetAside]) -> str:
        aside = {one.position for one in set_aside}
        return files_sha256(self._inputs.entries[i] for i in self.positions(index) if i not in aside)

    def revision(self, index: int) -> int:
        """Of a shard that is about to be written: one more than that of the files that are there."""
        there = self._shards.get(index)
        if there is None or there.values is None:
            return 0
        found = _REVISION.search(there.values.file)
        return 1 + (int(found[1]) if found else 0)

    def commit(
        self,
        index: int,
        values: NDArray[Any],
        table: Mapping[str, Sequence[object]],
        set_aside: Sequence[SetAside],
        batch: int | None = None,
    ) -> Shard:
        """Put a shard on disk; once this returns, nothing takes it away.

        Args:
            index: one of ``pending``.
            values: (N, …).
            table: columns of N values each.
            set_aside: the shard's inputs without a row.
            batch: that it was made with, if memory did not suffice for the job's.

        Raises:
            CannotWrite: says what is safe and how to go on.
        """
        with self.told_what_is_safe():
            if len(values):
                shard = write_shard(self.folder, index, values, table, revision=self.revision(index))
            else:
                shard = Shard.empty(index, self.header.dtype)
            return self._record(replace(shard, batch=batch), set_aside)

    def adopt(self, shard: Shard, token: str, set_aside: Sequence[SetAside]) -> Shard:
        """Commit a shard that another process has staged in this folder.

        Raises:
            CannotWrite: as for ``commit``.
        """
        with self.told_what_is_safe():
            adopt_shard(self.folder, shard, token)
            return self._record(shard, set_aside)

    def _record(self, shard: Shard, set_aside: Sequence[SetAside]) -> Shard:
        now = time.monotonic()
        digest = self._files_sha256(shard.index, set_aside)
        shard = replace(shard, seconds=round(now - self._last, 3), files_sha256=digest)
        append_durably(self.folder / MANIFEST, shard_lines(shard, set_aside))
        before, self._last = self._shards.get(shard.index), now
        self._shards[shard.index] = shard
        self._aside[shard.index] = list(set_aside)
        kept = {record.file for record in shard.files}
        for record in () if before is None else before.files:
            if record.file not in kept:
                (self.folder / record.file).unlink(missing_ok=True)
        return shard

    @contextmanager
    def told_what_is_safe(self) -> Generator[None]:
        """Add to a ``CannotWrite`` what is safe and how to go on."""
        try:
            yield
        except CannotWrite as reason:
            raise CannotWrite(
                f"{reason} The {self.shard_count} shards ({self.rows} rows) written before are safe: make room and "
                "go on with --resume."
            ) from reason

    def remove_orphans(self) -> None:
        """Delete files of shards that no line commits; only names that a job gives are touched."""
        known = {Path(record.file).name for shard in self._shards.values() for record in shard.files}
        for path in (self.folder / SHARDS).iterdir():
            if path.name not in known and _OURS.fullmatch(path.name.removesuffix(PARTIAL)):
                path.unlink()
        (self.folder / (MANIFEST + PARTIAL)).unlink(missing_ok=True)


@contextmanager
def open_output(
    out: Path, header: JobHeader, inputs: Inputs, *, resume: bool = False, other_files: bool = False
) -> Generator[Output]:
    """Begin a job in a new or empty folder, or go on with the same job; hold the folder's lock meanwhile.

    Args:
        out: the folder.
        header: of the job.
        inputs: what it goes over.
        resume: go on where the same job stopped; a folder without a job is begun all the same.
        other_files: the input files may have other sizes than when the job began, since some were mended; shards with
            rows of such files are made again.

    Raises:
        OutputConflict: the folder holds another job, this one while ``resume`` is False, or anything else.
        OutputBusy: another process writes to it.
        DamagedOutput: its manifest is damaged.
        CannotWrite: no space or no permission.
    """
    _check_folder(out)
    make_folder(out)
    with locked(out):
        manifest = read_manifest(out)
        if manifest is None:
            _check_folder(out)  # again, now that nobody else writes
            make_folder(out / SHARDS)
            write_atomically(out / MANIFEST, [header_line(header, len(inputs), inputs.sha256)])
            sync_folder(out)
        else:
            known = replace(manifest.header, files_sha256=header.files_sha256) if other_files else manifest.header
            _check_resume(replace(manifest, header=known), header, inputs, out, resume)
            make_folder(out / SHARDS)
            cut(out / MANIFEST, manifest.size)
        manifest = manifest or read_manifest(out)
        assert manifest is not None
        output = Output(out, manifest, inputs)
        output.remove_orphans()
        changed = manifest.header.files_sha256 != header.files_sha256
        if changed or manifest.retried:  # a call that tried again may have been killed before it came to all of them
            output.redo(output.changed())
        if resume and output.pending and manifest.shards:
            append_durably(out / MANIFEST, resumed_line(header.plan, header.batch))
        if changed:
            append_durably(out / MANIFEST, retried_line(header.files_sha256))
        yield output


def _check_folder(out: Path) -> None:
    """Refuse what is no folder, and a folder that holds something else than a job."""
    if out.exists() and not out.is_dir():
        raise OutputConflict(f"{out} is a file. Choose an output folder that is new or empty (-o).")
    if not out.is_dir() or (out / MANIFEST).exists():
        return
    ours = {LOCK_NAME, MANIFEST + PARTIAL, SHARDS}  # what a job killed before its first line leaves
    foreign = sorted(path.name for path in out.iterdir() if path.name not in ours)
    if not foreign and (out / SHARDS).is_dir():
        foreign = sorted(f"{SHARDS}/{path.name}" for path in (out / SHARDS).iterdir())
    if foreign:
        shown = ", ".join(foreign[:3]) + (", …" if len(foreign) > 3 else "")
        raise OutputConflict(
            f"{out} is not empty and holds no job ({shown}). Nothing in it was touched. Choose an output folder that "
            "is new or empty (-o)."
        )


def _check_resume(manifest: Manifest, header: JobHeader, inputs: Inputs, out: Path, resume: bool) -> None:
    there = describe(manifest.inputs, manifest.inputs_sha256)
    manifest.header.check_same(header, out, (there, str(inputs)))
    if not resume:
        done, total = len(manifest.shards), manifest.shard_count
        state = "finished" if done == total else f"{done} of {total} shards done"
        raise OutputConflict(
            f"{out} holds this very job already, {state}. Go on with it with --resume, or choose another output "
            "folder (-o)."
        )
