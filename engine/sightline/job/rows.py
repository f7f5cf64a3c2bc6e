"""The rows of the shard that is being made: what the method returned, checked and collected batch by batch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from sightline.errors import SightlineError, UsageError
from sightline.job.inputs import printable
from sightline.job.manifest import JobHeader
from sightline.types import Batch, Photo, Result

KEYS = ("id", "path", "sha256", "target")  # columns that every table begins with


class Rows:
    """Grows by results and gives one array and one table."""

    def __init__(self, header: JobHeader, labels: Sequence[str] = ()):
        self._header = header
        self._labels = labels
        self._values: list[NDArray[Any]] = []
        self._columns: dict[str, list[object]] = {name: [] for name in KEYS}

    def __len__(self) -> int:
        return len(self._columns["id"])

    def add(self, result: Result, batch: Batch | None) -> dict[int, str]:
        """Take over the rows of a result but those that hold NaN or infinity; returns these with the reason.

        Args:
            result: of the batch.
            batch: what it was computed from; None where the method looked at the model alone.

        Raises:
            SightlineError: the result does not have one row per photo, or not the shape of the results before.
        """
        values = _stored(result.values, self._header.dtype)
        photos = tuple(Photo(str(row)) for row in range(len(values))) if batch is None else batch.photos
        if len(values) != len(photos):
            raise SightlineError(f"{self._header.method} returned {len(values)} rows for {len(photos)} inputs.")
        if self._values and values.shape[1:] != self._values[0].shape[1:]:
            before = self._values[0].shape[1:]
            raise UsageError(
                f"The result for {photos[0].id} has shape {values.shape[1:]} and those before {before}. "
                "One job holds rows of one shape: choose one input size (--size)."
            )
        columns = self._all_columns(result)
        faults = self._faults(result.values, values, columns) if self._header.finite else {}
        kept = [row for row in range(len(values)) if row not in faults]
        self._values.append(values[kept] if faults else values)
        known: dict[str, Sequence[object]] = {
            "id": [photo.id for photo in photos],
            "path": [_path(photo) for photo in photos],
            "sha256": [photo.sha256 for photo in photos],
            "target": [self._header.target] * len(photos),
        }
        for name, column in {**known, **columns}.items():
            if len(column) != len(photos):
                raise SightlineError(f"Column {name!r} has {len(column)} values for {len(photos)} rows.")
            self._columns.setdefault(name, []).extend(column[row] for row in kept)
        return faults

    def finish(self) -> tuple[NDArray[Any], Mapping[str, Sequence[object]]]:
        """Values (N, …) and columns of N values each."""
        if not self._values:
            return np.zeros((0,), self._header.dtype), self._columns
        values = self._values[0] if len(self._values) == 1 else np.concatenate(self._values)
        return values, self._columns

    def _all_columns(self, result: Result) -> dict[str, Sequence[object]]:
        """The result's own, with the label of the class if both are known; the four keys stay the job's."""
        own = {name: column for name, column in result.columns().items() if name not in KEYS}
        if self._labels and "label" not in own and "target_class" in own:
            return {"label": [self._label(index) for index in own["target_class"]], **own}
        return own

    def _label(self, index: object) -> str | None:
        return self._labels[index] if isinstance(index, int) and 0 <= index < len(self._labels) else None

    def _faults(
        self, given: NDArray[Any], stored: NDArray[Any], columns: Mapping[str, Sequence[object]]
    ) -> dict[int, str]:
        """Rows that hold NaN or infinity, and what to say of them."""
        fine, fits, keeps = _finite_rows(given), _finite_rows(stored), _rows_of_digits(given, stored.dtype)
        faults: dict[int, str] = {}
        for row in range(len(given)):
            bad = next((name for name, column in columns.items() if not _is_finite(column[row])), None)
            if not fine[row]:
                faults[row] = "The model or the method returned NaN or infinity for it."
            elif bad is not None:
                faults[row] = f"The model or the method returned NaN or infinity for it, in column {bad!r}."
            elif not fits[row]:
                faults[row] = f"Its values do not fit {self._header.dtype}: store float32 (--dtype float32)."
            elif not keeps[row]:
                faults[row] = (
                    f"Its values are too small for {self._header.dtype}, which has all its digits from "
                    f"{np.finfo(stored.dtype).smallest_normal:.1e} on: store float32 (--dtype float32)."
                )
        return faults


def _stored(values: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Floating point in the job's precision, anything else as it is."""
    if values.dtype.kind != "f":
        return values
    with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is found as such
        return values.astype(dtype, copy=False)


def _finite_rows(values: NDArray[Any]) -> NDArray[np.bool_]:
    """(N,): True where a row of (N, …) is finite throughout."""
    if values.dtype.kind != "f" or not len(values):
        return np.ones(len(values), np.bool_)
    finite: NDArray[np.bool_] = np.isfinite(values)
    return np.asarray(finite.all(axis=tuple(range(1, values.ndim))))


def _rows_of_digits(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[np.bool_]:
    """(N,): False where ``dtype`` loses digits of even the largest number of a row of (N, …).

    In other rows small numbers may vanish too, but they are less than what rounding does to the row's largest.
    """
    if values.dtype.kind != "f" or not values.size or values.dtype.itemsize <= dtype.itemsize:
        return np.ones(len(values), np.bool_)
    inner = tuple(range(1, values.ndim))
    largest: NDArray[Any] = np.maximum(values.max(axis=inner), -values.min(axis=inner))
    return (largest == 0) | ~(largest < np.finfo(dtype).smallest_normal)


def _is_finite(value: object) -> bool:
    """False for NaN, infinity and lists that hold one; what is unknown is None, not NaN."""
    if isinstance(value, float | np.floating):
        return math.isfinite(value)
    if isinstance(value, np.ndarray):
        return value.dtype.kind != "f" or bool(np.isfinite(cast("NDArray[Any]", value)).all())
    if isinstance(value, list | tuple):
        return all(_is_finite(part) for part in cast("Sequence[object]", value))
    return True


def _path(photo: Photo) -> str:
    return photo.place or ("" if photo.path is None else printable(photo.path))
