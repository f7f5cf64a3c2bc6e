"""Adds images to a bank, each content once."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sightline.bank.bank import DUPLICATES, PARTS, Bank, check_same_rows, open_bank, part_folders
from sightline.bank.source import SOURCE, Source
from sightline.bank.space import Space, written
from sightline.errors import BadImage, OutputConflict, UsageError
from sightline.job.crew import Engine
from sightline.job.files import make_folder, write_atomically
from sightline.job.inputs import Input, Inputs, Load
from sightline.job.limits import Limits
from sightline.job.lock import locked
from sightline.job.making import Explain
from sightline.job.manifest import JobHeader
from sightline.job.output import open_output
from sightline.job.prefetch import prefetch
from sightline.job.reader import open_job
from sightline.job.run import NO_LIMITS, JobSummary, Progress, run_job

SHARD_BYTES = 64 << 20  # of one file, at most; a shard holds at least one image
LARGEST_SHARD = 1024  # images
READERS = 16  # threads that read whole files for nothing but their digests: they wait for the drive or the network


def shard_size(columns: int, dtype: str) -> int:
    """Images per file, so that none grows beyond ``SHARD_BYTES``."""
    return max(1, min(LARGEST_SHARD, SHARD_BYTES // max(1, columns * np.dtype(dtype).itemsize)))


def index_images(
    folder: Path,
    header: JobHeader,
    inputs: Inputs,
    load: Load,
    explain: Explain,
    *,
    source: Source | None = None,
    resume: bool = False,
    append: bool = False,
    retry_failed: bool = False,
    progress: Callable[[Progress], None] | None = None,
    limits: Limits = NO_LIMITS,
    engine: Callable[[Path], Engine | None] | None = None,
) -> JobSummary:
    """Write one row for every image whose content the bank does not have yet.

    Args:
        folder: of the bank.
        header: what makes the rows what they are, its layout included.
        inputs: images to add.
        load: reads one, as for ``run_job``.
        explain: gives the rows of a batch, likewise.
        progress: likewise.
        source: what made it, to be remembered.
        resume: go on with the part that was not finished.
        append: add to a finished bank.
        retry_failed: as for ``run_job``; of the last part.
        limits: likewise.
        engine: workers for the part in a folder, if there are to be any.

    Raises:
        OutputConflict: the folder holds another kind of bank, or a bank and neither is True, or something else.
        OutputBusy, DamagedOutput, CannotWrite: see ``open_output``.
    """
    _check_folder(folder)
    make_folder(folder / PARTS)
    with locked(folder):
        part, known = _part_for(folder, header, resume=resume, append=append)
        if source is not None and not (folder / SOURCE).is_file():
            source.save(folder)
        unique, duplicates = _each_content_once(inputs, known)
        beside = part.with_name(part.name + DUPLICATES)

        def remember() -> None:  # only now: a refused call says nothing of the images that the part has
            write_atomically(beside, [json.dumps(duplicates, indent=0).encode()])

        return run_job(
            part, header, unique, load, explain, resume=resume, retry_failed=retry_failed, progress=progress,
            limits=limits, engine=None if engine is None else engine(part), accepted=remember,
        )  # fmt: skip


def bank_of(
    folder: Path | str, features: NDArray[Any], *, ids: tuple[str, ...] | None = None, name: str = "features"
) -> Bank:
    """A bank of features that somebody has already.

    Args:
        folder: new or empty.
        features: (N, D) float16 or float32.
        ids: N, all different; the row numbers where none are given.
        name: of their space.

    Raises:
        UsageError: not two-dimensional, NaN or infinity, ids that do not fit.
        OutputConflict: the folder holds something.
    """
    array = np.asarray(features)
    dtype: Literal["float16", "float32"] = "float16" if array.dtype == np.float16 else "float32"
    array = array.astype(dtype, copy=False)
    if array.ndim != 2 or not array.size:
        raise UsageError(f"Features are {array.shape}; (rows, features) are needed, at least one of each.")
    if not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
        raise UsageError(f"Row {row} of the features holds NaN or infinity, which have no neighbours.")
    names = tuple(map(str, range(len(array)))) if ids is None else ids
    if len(names) != len(array):
        raise UsageError(f"{len(names)} ids were given for {len(array)} rows.")
    space = Space(name, "none", 0, (1, 1), array.shape[1])
    digest = hashlib.sha256(np.ascontiguousarray(array).view(np.uint8).data).hexdigest()
    header = JobHeader(
        kind="index", model="", model_sha256=digest, method=f"array {name!r}", target="", preprocess_sha256="",
        layout=written([space]), dtype=dtype, batch=1, shard_size=shard_size(array.shape[1], dtype),
    )  # fmt: skip
    root = Path(folder)
    _check_folder(root)
    make_folder(root / PARTS)
    with locked(root):
        part, _ = _part_for(root, header, resume=False, append=False)
        with open_output(part, header, Inputs(tuple(Input(one) for one in names))) as output:
            for index in output.pending:
                rows = output.positions(index)
                texts = [names[row] for row in rows]
                empty = [""] * len(texts)
                table = {"id": texts, "path": empty, "sha256": empty, "target": empty}
                output.commit(index, array[rows.start : rows.stop], table, [])
    return open_bank(root)


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise OutputConflict(f"{folder} is a file. Choose a folder that is new or empty (-o).")
    if folder.is_dir() and not (folder / PARTS).is_dir() and any(folder.iterdir()):
        raise OutputConflict(f"{folder} is not empty and holds no bank. Choose a folder that is new or empty (-o).")


def _part_for(folder: Path, header: JobHeader, *, resume: bool, append: bool) -> tuple[Path, dict[str, str]]:
    """The folder of the part to write, and the ids of the contents that earlier parts hold, by sha256."""
    there = [open_job(path) for path in part_folders(folder)]
    for part in there:
        check_same_rows(header, part.header, folder)
    unfinished = [part for part in there if not part.is_finished]
    if there and not (append or resume):
        state = "not finished: go on with --resume" if unfinished else "finished: add images with --append"
        raise OutputConflict(f"{folder} is a bank already, {state}, or choose another folder (-o).")
    if unfinished and not resume:
        raise OutputConflict(f"{folder} is not finished: go on with --resume and the same images, then append.")
    at = len(there) - 1 if resume and there and (unfinished or not append) else len(there)
    known = dict[str, str]()
    for part in there[:at]:
        rows = part.table()
        known |= dict(zip(rows.column("sha256").to_pylist(), rows.column("id").to_pylist(), strict=True))
    return folder / PARTS / f"{at:04d}", known


def _each_content_once(inputs: Inputs, known: Mapping[str, str]) -> tuple[Inputs, dict[str, str]]:
    """The inputs whose content is new, and for each of the others the id of the row that holds it.

    Files are read for this only where another has the same size, or where the bank has rows already; several at once.
    """
    sizes = [one.size for one in inputs.entries]  # -1: only reading tells
    shared = Counter(sizes)
    first = dict(known)
    unique, duplicates = list[Input](), dict[str, str]()
    taken = set(known.values())
    read = (one for one, size in zip(inputs.entries, sizes, strict=True) if known or shared[size] > 1)
    with closing(prefetch(read, _digest, threads=READERS, ahead=4 * READERS)) as digests:
        for one, size in zip(inputs.entries, sizes, strict=True):
            digest = next(digests)[1] if known or shared[size] > 1 else None
            if isinstance(digest, str):
                if digest in first:
                    duplicates[one.id] = first[digest]
                    continue
                first[digest] = one.id
            unique.append(one if one.id not in taken else replace(one, id=_other_id(one.id, taken)))
    return Inputs(tuple(unique)), duplicates


def _digest(one: Input) -> str | None:
    """Of its content; None where there is none to be had, which the job sets aside with the reason."""
    try:
        return hashlib.sha256(one.read()).hexdigest()
    except BadImage:
        return None


def _other_id(name: str, taken: set[str]) -> str:
    """An id that no earlier row has: another image of the same name was added before."""
    number = 2
    while f"{name}#{number}" in taken:
        number += 1
    return f"{name}#{number}"
