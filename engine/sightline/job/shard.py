"""A shard: one immutable array of rows and the table beside it."""

from __future__ import annotations

import errno
import io
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.errors import DamagedOutput, SightlineError
from sightline.job.files import PARTIAL, CannotWrite, rename, sha256_of, sync_folder, write_durably

SHARDS = "shards"  # the folder below the output folder


@dataclass(frozen=True)
class FileRecord:
    """What a file must be to be trusted.

    Attributes:
        file: name, relative to the output folder.
        bytes: size.
        sha256: of its bytes.
    """

    file: str
    bytes: int
    sha256: str

    def damage(self, out: Path, *, hashes: bool) -> str | None:
        """What is wrong with the file, None when nothing is; sizes alone unless ``hashes``."""
        path = out / self.file
        try:
            size = path.stat().st_size
            if size != self.bytes:
                return f"{path} has {size} bytes instead of {self.bytes}."
            if hashes and sha256_of(path) != self.sha256:
                return f"{path} has changed since it was written: its sha256 is not {self.sha256[:12]}…"
        except FileNotFoundError:
            return f"{path} is missing."
        except OSError as reason:
            return f"{path} cannot be read: {reason.strerror or reason}."
        return None


@dataclass(frozen=True)
class Shard:
    """N rows on disk, as the manifest records them.

    Attributes:
        index: its place in the job; it holds the inputs ``index * shard_size`` onwards.
        rows: N, less than the shard size where inputs were set aside.
        dtype: as ``numpy.dtype.str`` writes it, little-endian.
        shape: (N, …).
        values: the .npy file, None where every input was set aside.
        table: the Parquet file, likewise.
        batch: images that were explained at once, where memory did not suffice for the job's batch; else None.
        seconds: from the commit before to its own, by a clock that nobody sets; None where nobody measured.
        files_sha256: of the sizes of the files that its rows are of, in order; "" where nothing is seen of them, None
            where nobody looked.
    """

    index: int
    rows: int
    dtype: str
    shape: tuple[int, ...]
    values: FileRecord | None
    table: FileRecord | None
    batch: int | None = None
    seconds: float | None = None
    files_sha256: str | None = None

    @classmethod
    def empty(cls, index: int, dtype: str) -> Shard:
        """A shard without rows, and therefore without files."""
        return cls(index, 0, np.dtype(dtype).str, (0,), None, None)

    @property
    def files(self) -> tuple[FileRecord, ...]:
        """The files that it needs."""
        return tuple(record for record in (self.values, self.table) if record is not None)

    def damage(self, out: Path, *, hashes: bool) -> list[str]:
        """What is wrong with its files; sizes alone unless ``hashes``."""
        return [fault for record in self.files if (fault := record.damage(out, hashes=hashes))]


def write_shard(
    out: Path, index: int, values: NDArray[Any], table: Mapping[str, Sequence[object]], *, revision: int = 0
) -> Shard:
    """Write an array (N, …) and the table of its rows durably; the same rows give the same bytes.

    The shard counts only once the manifest names it.

    Args:
        out: the output folder; its folder ``shards`` exists.
        index: place in the job, from which the files take their names.
        values: floating point of 16 or 32 bits, integers or booleans.
        table: columns of N plain values each.
        revision: how often its rows were written before and are to be replaced.

    Raises:
        SightlineError: a column that is no table column, or of another length.
        CannotWrite: nothing under the shard's names has changed unless the array fitted and the table did not.
    """
    shard = stage_shard(out, index, values, table, revision=revision)
    adopt_shard(out, shard)
    return shard


def stage_shard(
    out: Path,
    index: int,
    values: NDArray[Any],
    table: Mapping[str, Sequence[object]],
    *,
    revision: int = 0,
    token: str = "",
) -> Shard:
    """As ``write_shard``, but under temporary names that hold ``token``, until ``adopt_shard`` gives them theirs."""
    array = _portable(values)
    columns = _parquet(table, len(array))
    stem = f"{SHARDS}/{index:06d}" + (f".r{revision}" if revision else "")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    content = array.reshape(-1).view(np.uint8).data if array.size else b""
    values_record = _write(out, f"{stem}.npy", [header.getvalue(), content], token)
    try:
        table_record = _write(out, f"{stem}.parquet", [columns], token)
    except CannotWrite:
        with suppress(OSError):  # it takes room that is needed
            _staged(out / values_record.file, token).unlink()
        raise
    return Shard(index, len(array), array.dtype.str, array.shape, values_record, table_record)


def adopt_shard(out: Path, shard: Shard, token: str = "") -> None:
    """Give the files of a staged shard their names, durably.

    Raises:
        CannotWrite: they are not all there.
    """
    for record in shard.files:
        path = out / record.file
        rename(_staged(path, token), path)
    sync_folder(out / SHARDS)


def read_values(out: Path, shard: Shard) -> NDArray[Any]:
    """The array (N, …) of a shard, read-only and memory-mapped.

    Raises:
        DamagedOutput: the file is missing, of another size, or not the array that the manifest records.
    """
    if shard.values is None:
        return np.zeros(shard.shape, shard.dtype)
    _check(shard.values.damage(out, hashes=False))
    path = out / shard.values.file
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as reason:
        if reason.errno == errno.ENOMEM:
            raise  # the file is whole, the process may not map more
        raise DamagedOutput(f"{path} cannot be read: {reason} {_MEND}") from reason
    except (ValueError, EOFError) as reason:
        raise DamagedOutput(f"{path} is no array of NumPy: {reason} {_MEND}") from reason
    if array.shape != shard.shape or array.dtype.str != shard.dtype:
        raise DamagedOutput(
            f"{path} holds {array.dtype.str} {array.shape}, the manifest says {shard.dtype} {shard.shape}. {_MEND}"
        )
    return array


def read_table(out: Path, shard: Shard, columns: Sequence[str] | None = None) -> Any:
    """The ``pyarrow.Table`` of a shard's N rows, or some of its columns; None where it has no rows.

    Raises:
        DamagedOutput: the file is missing, of another size, no Parquet or of another number of rows.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if shard.table is None:
        return None
    _check(shard.table.damage(out, hashes=False))
    path = out / shard.table.file
    try:
        table: Any = pq.ParquetFile(path).read(columns=None if columns is None else list(columns))
    except (pa.ArrowException, OSError) as reason:
        raise DamagedOutput(f"{path} is no Parquet table: {reason} {_MEND}") from reason
    if table.num_rows != shard.rows:
        raise DamagedOutput(f"{path} has {table.num_rows} rows, the manifest says {shard.rows}. {_MEND}")
    return table


def read_shard(out: Path, shard: Shard) -> tuple[NDArray[Any], Any]:
    """Values (N, …) and ``pyarrow.Table`` of a shard; the table is None where it has no rows.

    Raises:
        DamagedOutput: see ``read_values`` and ``read_table``.
    """
    return read_values(out, shard), read_table(out, shard)


_MEND = "Delete the file and run the job again with --resume: its shard is then computed anew."


def _check(fault: str | None) -> None:
    if fault is not None:
        raise DamagedOutput(f"{fault} {_MEND}")


def _portable(values: NDArray[Any]) -> NDArray[Any]:
    """Little-endian and C-contiguous."""
    if values.dtype.kind not in "iubf" or (values.dtype.kind == "f" and values.dtype.itemsize not in (2, 4)):
        raise SightlineError(f"A shard holds float16, float32, integers or booleans, not {values.dtype}.")
    return np.asarray(values, dtype=values.dtype.newbyteorder("<"), order="C")


def _parquet(table: Mapping[str, Sequence[object]], rows: int) -> memoryview:
    """The bytes of a Parquet file; Arrow writes no time or path into it, so equal rows give equal bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays: dict[str, Any] = {}
    for name, column in table.items():
        if len(column) != rows:
            raise SightlineError(f"Column {name!r} has {len(column)} values for {rows} rows.")
        try:
            arrays[name] = pa.array(column)
        except (pa.ArrowException, TypeError) as reason:
            raise SightlineError(f"Column {name!r} does not fit a table: {reason}") from reason
    sink: Any = pa.BufferOutputStream()
    pq.write_table(pa.table(arrays), sink, compression="zstd", compression_level=3, version="2.6")
    return memoryview(sink.getvalue())


def _write(out: Path, name: str, pieces: Sequence[bytes | memoryview], token: str) -> FileRecord:
    size = sum(len(piece) for piece in pieces)
    return FileRecord(name, size, write_durably(_staged(out / name, token), pieces))


def _staged(path: Path, token: str) -> Path:
    return path.with_name(path.name + (f".{token}" if token else "") + PARTIAL)
