"""Banks from files of vectors that somebody has already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sightline.bank.bank import Bank
from sightline.bank.writing import bank_of
from sightline.errors import UsageError


def is_vectors(source: str) -> bool:
    """Whether a name is that of vectors rather than of a network."""
    return source.endswith(".npy") or ".parquet:" in source


def bank_from_file(folder: Path, source: str) -> Bank:
    """A bank of the vectors in ``FILE.npy`` or in the list column of ``FILE.parquet:COLUMN``; its ``id`` names them.

    Raises:
        UsageError: no such file or column, or no vectors of one length in it.
    """
    name, _, column = source.partition(".parquet:")
    if column:
        return _from_parquet(folder, Path(name + ".parquet"), column)
    path = Path(source)
    try:
        array: Any = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as reason:
        raise UsageError(f"{source} holds no array: {reason} Give FILE.npy or FILE.parquet:COLUMN.") from reason
    return bank_of(folder, array, name=path.stem)


def _from_parquet(folder: Path, path: Path, column: str) -> Bank:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table: Any = pq.read_table(path)
    except (pa.ArrowException, OSError) as reason:
        raise UsageError(f"{path} is no Parquet table: {reason}.") from reason
    if column not in table.column_names:
        raise UsageError(f"{path} has no column {column!r}. It has: {', '.join(table.column_names)}.")
    rows = table.column(column).to_pylist()
    if len({None if row is None else np.size(row) for row in rows}) != 1 or np.ndim(rows[0]) != 1:
        raise UsageError(f"Column {column!r} of {path} does not hold vectors of one length.")
    ids = tuple(map(str, table.column("id").to_pylist())) if "id" in table.column_names else None
    return bank_of(folder, np.array(rows, np.float32), ids=ids, name=column)
