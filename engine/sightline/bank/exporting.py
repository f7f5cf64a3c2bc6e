"""Banks for others: FAISS indexes, and Parquet tables that vector databases load."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.bank.bank import Bank
from sightline.bank.space import Space
from sightline.errors import MissingExtra, UsageError


def to_faiss(bank: Bank, space: Space | str | None = None, factory: str = "Flat") -> Any:
    """A FAISS index of a space, whose row numbers are the bank's; ``bank.place`` says where they are from.

    Args:
        bank: finished or not.
        space: or its name; the first layer's unless given.
        factory: as ``faiss.index_factory`` takes it: "Flat", "HNSW32", "IVF256,PQ32". Indexes that have to be trained
            see every row, so those must fit into memory.

    Raises:
        MissingExtra: FAISS is not installed.
        UsageError: the bank is empty, or FAISS knows no such factory.
    """
    try:
        import faiss
    except ImportError as reason:
        raise MissingExtra("FAISS is not installed: pip install faiss-cpu.") from reason
    chosen = _filled(bank, space)
    try:
        index: Any = faiss.index_factory(chosen.features, factory)
    except RuntimeError as reason:
        raise UsageError(f"factory={factory!r} is none that FAISS knows: {reason}") from reason
    if not index.is_trained:
        index.train(np.asarray(bank.values(chosen), np.float32))
    for block in bank.blocks(chosen):
        index.add(np.ascontiguousarray(block, np.float32))
    return index


def to_parquet(bank: Bank, path: Path | str, space: Space | str | None = None) -> Path:
    """One row per descriptor: id, path, sha256 of its image, row and column in the layer's map, and ``vector``.

    The vectors are lists of fixed length in the bank's own type. A file is in memory at a time.

    Raises:
        UsageError: the bank is empty.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    chosen, out = _filled(bank, space), Path(path)
    kind = pa.float16() if bank.header.dtype == "float16" else pa.float32()
    schema = pa.schema([
        ("id", pa.string()), ("path", pa.string()), ("sha256", pa.string()), ("row", pa.int32()),
        ("column", pa.int32()), ("vector", pa.list_(kind, chosen.features)),
    ])  # fmt: skip
    partial = out.with_name(out.name + ".partial")
    with pq.ParquetWriter(partial, schema) as writer:
        for block, table in _with_images(bank, chosen):
            images = np.arange(len(block)) // chosen.positions
            places = np.arange(len(block)) % chosen.positions
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(block.ravel()), chosen.features)
            facts = [table.column(name).take(images) for name in ("id", "path", "sha256")]
            where = [
                pa.array((places // chosen.grid[1]).astype(np.int32)),
                pa.array((places % chosen.grid[1]).astype(np.int32)),
            ]
            writer.write_table(pa.table([*facts, *where, vectors], schema=schema))
    partial.replace(out)
    return out


def _filled(bank: Bank, space: Space | str | None) -> Space:
    if not len(bank):
        raise UsageError(f"{bank.folder} has no rows yet.")
    return space if isinstance(space, Space) else bank.space(space)


def _with_images(bank: Bank, space: Space) -> Iterator[tuple[NDArray[Any], Any]]:
    """Every block, and the table of its images."""
    start = 0
    for block in bank.blocks(space):
        images = len(block) // space.positions
        yield np.ascontiguousarray(block), bank.table.slice(start, images)
        start += images
