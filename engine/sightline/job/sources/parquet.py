"""Parquet files whose rows are images: as paths, or as bytes."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from sightline.errors import BadImage, UsageError
from sightline.job.inputs import Content, Input, check_size
from sightline.job.sources.listing import Listing
from sightline.job.sources.store import LocalFile, Refused, RemoteFile, RemoteImage, Store
from sightline.job.sources.texts import Texts

PATH_NAMES = ("path", "image_path", "file", "file_name", "filename", "url", "image")
ROWS = 16  # of bytes, read at once
KEPT = 8  # pieces of so many rows that stay, since decoders ask a little ahead and a little behind
FILES = 4  # that stay open


def parquet_rows(store: Store, prefix: str, column: str | None) -> Listing:
    """One input per row.

    Args:
        store: the file.
        prefix: its name, for ids.
        column: of paths or of bytes; the only one of its kind when None.

    Raises:
        UsageError: it is no Parquet file, or the column cannot be told.
    """
    with _Table(store) as table:
        chosen = _column(table.schema, column, store)
        ids = _ids(table)
        if _holds_bytes(chosen.type):
            return Cells(store, prefix, chosen.name, table.row_starts, ids)
        return Paths(store, prefix, Texts(value or "" for value in table.texts(chosen.name)), ids)


class Paths(Listing):
    """Rows that name files or URLs; a relative path begins at the Parquet file's folder."""

    def __init__(self, store: Store, prefix: str, places: Texts, ids: Texts | None):
        self._store, self._prefix, self._places, self._ids = store, prefix, places, ids

    def __len__(self) -> int:
        return len(self._places)

    def at(self, position: int) -> Input:
        place = self._places[position]
        name = (self._ids[position] if self._ids is not None else place) or f"{self._prefix}/{position}"
        if not place:
            return Input(name, None, Refused(f"{self._store}/{position}", "Its row names no file."))
        if "://" in place:
            return Input(name, None, RemoteImage(place))
        if isinstance(self._store, LocalFile):
            return Input(name, Path(self._store.path).absolute().parent / place)
        folder = str(self._store).rpartition("/")[0]
        if place.startswith("/"):
            return Input(name, Path(place))
        return Input(name, None, RemoteImage(f"{folder}/{place}"))


class Cells(Listing):
    """Rows that hold an image's bytes."""

    def __init__(self, store: Store, prefix: str, column: str, row_starts: list[int], ids: Texts | None):
        self._store, self._prefix, self._column, self._ids = store, prefix, column, ids
        self._starts, self._length = row_starts, store.length()

    def __len__(self) -> int:
        return self._starts[-1]

    def at(self, position: int) -> Input:
        name = (self._ids[position] if self._ids is not None else "") or f"{self._prefix}/{position}"
        content: Content = Cell(self._store, self._column, position, self._length)
        return Input(name, None, content)


@dataclass(frozen=True, slots=True)
class Cell:
    """One row's bytes."""

    store: Store
    column: str
    row: int
    length: int  # of the file, all that can be told of a row without reading it

    def __str__(self) -> str:
        return f"{self.store}/{self.row}"

    @property
    def size(self) -> int:
        return -1

    @property
    def signature(self) -> str:
        return f"{self.length}"

    def read(self) -> bytes:
        content = _reader(self.store, self.column).row(self.row)
        if content is None:
            raise BadImage(f"Row {self.row} of {self.store} holds no bytes.")
        check_size(str(self), len(content))
        return content


class _Table:
    """An opened Parquet file."""

    def __init__(self, store: Store):
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.store = store
        opened: BinaryIO | None = None
        try:
            store.length()  # where nobody says it, there is no reading from the end
            opened = store.open()
            self.file: Any = pq.ParquetFile(opened, buffer_size=1 << 20, pre_buffer=False)
            self._source = opened
        except (pa.ArrowException, OSError, BadImage) as reason:
            if opened is not None:
                opened.close()
            raise UsageError(f"{store} is no Parquet file that can be read: {reason}") from reason
        self.schema: Any = self.file.schema_arrow
        counts = [self.file.metadata.row_group(group).num_rows for group in range(self.file.num_row_groups)]
        self.row_starts = [sum(counts[:group]) for group in range(len(counts) + 1)]

    def __enter__(self) -> _Table:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._source.close()

    def texts(self, column: str) -> Iterator[str | None]:
        for batch in self.file.iter_batches(batch_size=4096, columns=[column]):
            yield from (None if value is None else str(value) for value in batch.column(0).to_pylist())


class _Reader:
    """Reads the bytes of rows, a few at a time, quickest in their order."""

    def __init__(self, store: Store, column: str):
        self._table, self._column = _Table(store), column
        weakref.finalize(self, self._table.close)  # only then: a thread may still read from one that was let go
        self._lock = threading.Lock()
        self._pieces: OrderedDict[int, list[bytes | None]] = OrderedDict()  # by their first row
        self._coming: Iterator[Any] = iter(())
        self._next = self._group = -1  # row and row group that come next

    def row(self, row: int) -> bytes | None:
        """One row's bytes; None where there are none.

        Raises:
            BadImage: the file is damaged there.
        """
        with self._lock:
            found = self._kept(row)
            if found is None:
                self._read_up_to(row)
                found = self._kept(row)
            assert found is not None
            return found[0]

    def _kept(self, row: int) -> tuple[bytes | None] | None:
        for first, piece in self._pieces.items():
            if first <= row < first + len(piece):
                return (piece[row - first],)
        return None

    def _read_up_to(self, row: int) -> None:
        starts = self._table.row_starts
        group = next(index for index in range(len(starts) - 1) if row < starts[index + 1])
        name = f"{self._column}.bytes" if _is_struct(self._table.schema.field(self._column).type) else self._column
        if group != self._group or not starts[group] <= self._next <= row:
            self._coming = self._table.file.iter_batches(batch_size=ROWS, row_groups=[group], columns=[name])
            self._next, self._group = starts[group], group
        try:
            while self._next <= row:
                column: Any = next(self._coming).column(0)
                column = column.field("bytes") if _is_struct(column.type) else column
                self._pieces[self._next] = column.to_pylist()
                self._next += len(column)
                while len(self._pieces) > KEPT:
                    self._pieces.popitem(last=False)
        except Exception as reason:  # damage shows as whatever the decoder met
            self._group = -1
            raise BadImage(f"Row {row} of {self._table.store} cannot be read: {reason}") from reason


_READERS: OrderedDict[tuple[str, str], _Reader] = OrderedDict()
_OPENING = threading.Lock()


def _reader(store: Store, column: str) -> _Reader:
    key = (str(store), column)
    with _OPENING:
        if key not in _READERS:
            try:
                _READERS[key] = _Reader(store, column)
            except UsageError as reason:
                raise BadImage(str(reason)) from reason
            while len(_READERS) > FILES:
                _READERS.popitem(last=False)
        _READERS.move_to_end(key)
        return _READERS[key]


def _column(schema: Any, wanted: str | None, store: Store) -> Any:
    fields: list[Any] = list(schema)
    if wanted is not None:
        found = [field for field in fields if field.name == wanted]
    else:
        found = [field for field in fields if _holds_bytes(field.type)]
        if not found:
            named = {field.name: field for field in fields if _holds_text(field.type)}
            found = [named[name] for name in PATH_NAMES if name in named][:1]
    if len(found) != 1 or not (_holds_bytes(found[0].type) or _holds_text(found[0].type)):
        listed = ", ".join(f"{field.name} ({field.type})" for field in fields)
        raise UsageError(
            f"{store}: say which column holds the images, as paths or as bytes: FILE.parquet:COLUMN. It has {listed}."
        )
    return found[0]


def _ids(table: _Table) -> Texts | None:
    return Texts(value or "" for value in table.texts("id")) if "id" in table.schema.names else None


def _holds_bytes(kind: Any) -> bool:
    import pyarrow.types as types

    if _is_struct(kind):  # as the datasets library of Hugging Face writes an image
        return kind.get_field_index("bytes") >= 0
    return types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)


def _holds_text(kind: Any) -> bool:
    import pyarrow.types as types

    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def _is_struct(kind: Any) -> bool:
    import pyarrow.types as types

    return types.is_struct(kind)


def as_store(place: str) -> Store:
    """The file of a path or a URL."""
    return RemoteFile(place) if "://" in place else LocalFile(place)
