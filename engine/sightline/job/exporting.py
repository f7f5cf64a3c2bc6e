"""The rows of a job or a bank as files that others read: one Parquet file with tensors, a zarr group, pictures."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.errors import MissingExtra, OutputConflict, UsageError
from sightline.file_names import free_name
from sightline.job.files import (
    PARTIAL,
    explained,
    make_folder,
    removed_on_failure,
    rename,
    sync_folder,
    write_atomically,
)
from sightline.job.reader import Job
from sightline.job.shard import read_table

TENSOR = "values"  # the column, or the array, of the rows' values
ROWS = "rows.parquet"  # in a zarr group: what is known of each row


def export_parquet(jobs: Sequence[Job], path: Path) -> int:
    """Write all rows into one Parquet file, shard by shard: the table's columns and a tensor column.

    The tensor column has Arrow's type ``fixed_shape_tensor``, which pyarrow, Ray Data and Hugging Face datasets read
    as arrays, and everybody else as lists.

    Args:
        jobs: one, or the parts of a bank in order.
        path: of the file; new.

    Returns:
        Rows written.

    Raises:
        OutputConflict: the file is there already.
        UsageError: there are no rows.
        CannotWrite: nothing is left of it.
    """
    import pyarrow as pa

    _check_free(path)
    make_folder(path.absolute().parent)
    columns = _schema(jobs)
    shape = _row_shape(jobs)
    first = next(chain.from_iterable(jobs))[0]
    kind: Any = pa.fixed_shape_tensor(pa.from_numpy_dtype(first.dtype), shape)
    facts = {"sightline": json.dumps(asdict(jobs[0].header))}
    count = 0
    with _written(path, pa.schema([*columns, pa.field(TENSOR, kind)], metadata=facts)) as writer:
        for values, table in chain.from_iterable(jobs):
            flat = pa.FixedSizeListArray.from_arrays(pa.array(np.asarray(values).reshape(-1)), int(np.prod(shape)))
            aligned = pa.table({field.name: _column(table, field) for field in columns})
            tensors = pa.ExtensionArray.from_storage(kind, flat)
            writer.write_table(aligned.append_column(pa.field(TENSOR, kind), tensors).cast(writer.schema))
            count += len(values)
    sync_folder(path.absolute().parent)
    return count


def export_zarr(jobs: Sequence[Job], folder: Path) -> int:
    """Write all rows into a zarr group: the array ``values``, a chunk per shard, and ``rows.parquet`` beside it.

    Args:
        jobs: one, or the parts of a bank in order.
        folder: of the group; new.

    Returns:
        Rows written.

    Raises:
        MissingExtra: zarr is not installed.
        OutputConflict: the folder is there already.
        UsageError: there are no rows.
        CannotWrite: nothing is left of it.
    """
    try:
        import zarr
    except ImportError as reason:
        raise MissingExtra("Export to zarr needs zarr: pip install 'sightline[zarr]'.") from reason
    _check_free(folder)
    shape, count = _row_shape(jobs), sum(map(len, jobs))
    first = next(chain.from_iterable(jobs))[0]
    with explained(folder):
        group: Any = zarr.open_group(str(folder), mode="w-")
        try:
            group.attrs["sightline"] = asdict(jobs[0].header)
            rows = max(shard.rows for job in jobs for shard in job.shards.values())
            array: Any = group.create_array(
                TENSOR, shape=(count, *shape), dtype=first.dtype, chunks=(rows, *shape)
            )  # fmt: skip
            at = 0
            for values, _ in chain.from_iterable(jobs):
                array[at : at + len(values)] = np.asarray(values)
                at += len(values)
            _write_rows(jobs, folder / ROWS)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)  # it was new, and half a group reads as zeros
            raise
    return count


def export_pictures(
    jobs: Sequence[Job],
    folder: Path,
    draw: Callable[[str, NDArray[Any], dict[str, Any]], Iterator[tuple[str, bytes]]],
) -> int:
    """Write pictures of every row, named for its id.

    Args:
        jobs: whose rows: one, or the parts of a bank in order.
        folder: new or empty.
        draw: gives, for a file name without suffix, a row's values and its facts, names and contents of its files.

    Returns:
        Files written.

    Raises:
        OutputConflict: the folder is there already and holds something.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputConflict(f"{folder} is not empty. Choose a place that is new or empty.")
    make_folder(folder)
    taken, count = set[str](), 0
    for values, table in chain.from_iterable(jobs):
        for start in range(0, len(values), 64):
            facts = table.slice(start, 64).to_pylist()
            for row, known in enumerate(facts, start):
                for name, content in draw(free_name(str(known["id"]), taken), values[row], known):
                    write_atomically(folder / name, [content], durably=False)
                    count += 1
    return count


def _write_rows(jobs: Sequence[Job], path: Path) -> None:
    import pyarrow as pa

    columns = _schema(jobs)
    with _written(path, pa.schema(columns)) as writer:
        for _, table in chain.from_iterable(jobs):
            aligned = pa.table({field.name: _column(table, field) for field in columns})
            writer.write_table(aligned.cast(writer.schema))


@contextmanager
def _written(path: Path, schema: Any) -> Generator[Any]:
    """A ``ParquetWriter`` of a file that is there in full or not at all."""
    import pyarrow.parquet as pq

    partial = path.with_name(path.name + PARTIAL)
    with explained(path), removed_on_failure(partial):
        writer: Any = pq.ParquetWriter(partial, schema, compression="zstd")
        try:
            yield writer
            writer.close()
        except BaseException:
            with suppress(Exception):  # it writes what is left, which a full disk refuses once more
                writer.close()
            raise
    rename(partial, path)


def _schema(jobs: Sequence[Job]) -> list[Any]:
    """Fields of all tables: a column may be all None in one shard and numbers in the next."""
    import pyarrow as pa

    tables = (read_table(job.folder, shard) for job in jobs for shard in job.shards.values())
    empty = [table.schema for table in tables if table is not None]
    if not empty:
        raise UsageError(f"{jobs[0].folder} has no rows yet: there is nothing to export.")
    return list(pa.unify_schemas(empty, promote_options="permissive"))


def _column(table: Any, field: Any) -> Any:
    import pyarrow as pa

    return table.column(field.name) if field.name in table.column_names else pa.nulls(table.num_rows, field.type)


def _row_shape(jobs: Sequence[Job]) -> tuple[int, ...]:
    shapes = {shard.shape[1:] for job in jobs for shard in job.shards.values() if shard.rows}
    if not shapes:
        raise UsageError(f"{jobs[0].folder} has no rows yet: there is nothing to export.")
    if len(shapes) > 1:
        raise UsageError(f"{jobs[0].folder} holds rows of the shapes {sorted(shapes)}: one array holds one.")
    return next(iter(shapes)) or (1,)


def _check_free(path: Path) -> None:
    if path.exists():
        raise OutputConflict(f"{path} is there already. Choose another place, or remove it.")
