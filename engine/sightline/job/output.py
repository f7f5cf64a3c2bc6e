"""Writes a job's folder: opens it, commits shards to it, and refuses what would mix or destroy."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
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
from sightline.job.inputs import Inputs, describe
from sightline.job.lock import LOCK_NAME, locked
from sightline.job.manifest import (
    MANIFEST,
    JobHeader,
    Manifest,
    SetAside,
    header_line,
    read_manifest,
    resumed_line,
    shard_lines,
)
from sightline.job.shard import SHARDS, Shard, write_shard

_OURS = re.compile(r"\d{6,}\.(npy|parquet)")  # names that only a job gives


class Output:
    """A job's folder, open for writing. Make one with ``open_output``.

    Attributes:
        header: of the job in the folder; when it goes on, with the batch that it began with.
        positions: of a shard's inputs in the list of inputs.
        pending: shards still to do, in order.
        mended: those of them that were done once, and whose files are missing or cut short.
        set_aside: inputs without a row, so far.
    """

    def __init__(self, folder: Path, manifest: Manifest):
        self.folder = folder
        self.positions = manifest.positions
        self.header = manifest.header
        damaged = {i for i, shard in manifest.shards.items() if shard.damage(folder, hashes=False)}
        self._shards = {i: shard for i, shard in manifest.shards.items() if i not in damaged}
        self.pending = [i for i in range(manifest.shard_count) if i not in self._shards]
        self.mended = tuple(sorted(damaged))
        self.set_aside = [one for one in manifest.set_aside if one.shard in self._shards]
        self.finished_inputs = sum(len(manifest.positions(i)) for i in self._shards)

    @property
    def shard_count(self) -> int:
        """Shards committed."""
        return len(self._shards)

    @property
    def rows(self) -> int:
        """Rows committed."""
        return sum(shard.rows for shard in self._shards.values())

    def commit(
        self, index: int, values: NDArray[Any], table: Mapping[str, Sequence[object]], set_aside: Sequence[SetAside]
    ) -> Shard:
        """Put a shard on disk; once this returns, nothing takes it away.

        Args:
            index: one of ``pending``.
            values: (N, …).
            table: columns of N values each.
            set_aside: the shard's inputs without a row.

        Raises:
            CannotWrite: says what is safe and how to go on.
        """
        try:
            if len(values):
                shard = write_shard(self.folder, index, values, table)
            else:
                shard = Shard.empty(index, self.header.dtype)
            append_durably(self.folder / MANIFEST, shard_lines(shard, set_aside))
        except CannotWrite as reason:
            raise CannotWrite(
                f"{reason} The {self.shard_count} shards ({self.rows} rows) written before are safe: make room and "
                "go on with --resume."
            ) from reason
        self._shards[index] = shard
        self.set_aside = sorted([*self.set_aside, *set_aside], key=lambda one: one.position)
        return shard

    def remove_orphans(self) -> None:
        """Delete files of shards that no line commits; only names that a job gives are touched."""
        known = {Path(record.file).name for shard in self._shards.values() for record in shard.files}
        for path in (self.folder / SHARDS).iterdir():
            if path.name not in known and _OURS.fullmatch(path.name.removesuffix(PARTIAL)):
                path.unlink()
        (self.folder / (MANIFEST + PARTIAL)).unlink(missing_ok=True)


@contextmanager
def open_output(out: Path, header: JobHeader, inputs: Inputs, *, resume: bool = False) -> Generator[Output]:
    """Begin a job in a new or empty folder, or go on with the same job; hold the folder's lock meanwhile.

    Args:
        out: the folder.
        header: of the job.
        inputs: what it goes over.
        resume: go on where the same job stopped; a folder without a job is begun all the same.

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
            _check_resume(manifest, header, inputs, out, resume)
            make_folder(out / SHARDS)
            cut(out / MANIFEST, manifest.size)
        manifest = manifest or read_manifest(out)
        assert manifest is not None
        output = Output(out, manifest)
        output.remove_orphans()
        if resume and output.pending and manifest.shards:
            append_durably(out / MANIFEST, resumed_line(header.plan, header.batch))
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
