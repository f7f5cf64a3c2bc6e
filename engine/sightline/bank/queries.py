"""What is looked for: images from files, or images of the bank by their ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sightline.bank.bank import Bank, image_blocks
from sightline.bank.search import rows_at
from sightline.bank.source import read_source
from sightline.bank.space import Space
from sightline.errors import UsageError
from sightline.methods.forward.features import Descriptors
from sightline.reading import read
from sightline.types import FloatArray


@dataclass(frozen=True)
class Queries:
    """Q images that are looked for.

    Attributes:
        ids: Q names.
        paths: Q, "" where there is no file.
        rows: by the space's name, (Q, D) descriptors.
    """

    ids: tuple[str, ...]
    paths: tuple[str, ...]
    rows: dict[str, FloatArray]


def queries_of(
    bank: Bank, given: Sequence[str], spaces: Sequence[Space], *, model: str | None, threads: int | None
) -> Queries:
    """Ids of the bank as they are stored; anything else is read as images and described as the bank's were.

    Raises:
        UsageError: neither an id of the bank nor an image.
        BadImage: a file that is no image.
    """
    known = {one: row for row, one in enumerate(bank.ids)}
    stored = [one for one in given if one in known and not Path(one).exists()]
    files = [one for one in given if one not in stored]
    if not given:
        raise UsageError("Say what to look for: image files, or ids of the bank.")
    ids, paths = list[str](), list[str]()
    rows: dict[str, list[NDArray[np.float32]]] = {space.name: [] for space in spaces}
    if stored:
        at = [known[one] for one in stored]
        ids += stored
        paths += [bank.paths[row] for row in at]
        for space in spaces:
            rows[space.name].append(rows_at(image_blocks(bank, space), np.array(at)).astype(np.float32))
    if files:
        source = read_source(bank.folder)
        with source.open(model) as network:
            images = read(files, like=network)
            found = network.plan(source.features, threads=threads).run(images)
        assert isinstance(found, Descriptors)
        ids += [photo.id for photo in found.photos]
        paths += ["" if photo.path is None else str(photo.path) for photo in found.photos]
        for space in spaces:
            each = space.of(found.values).reshape(len(found), space.positions, space.features)
            rows[space.name].append(_as_stored(each, bank.header.dtype).mean(axis=1, dtype=np.float32))
    return Queries(tuple(ids), tuple(paths), {name: np.concatenate(parts) for name, parts in rows.items()})


def _as_stored(values: FloatArray, dtype: str) -> NDArray[np.floating]:
    """In the bank's precision, so that an image of the bank finds itself at distance 0."""
    return values.astype(dtype)
