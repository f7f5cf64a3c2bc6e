"""The data that travels between methods, routes, jobs and reports.

Shape alphabet, used in every comment and docstring: B images, C channels, H W pixels (or h w positions of an
inner layer), K classes, M windows or masks, N bank rows, D features.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self, TypeVar, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from sightline.agreement import Agreement

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
ByteArray = NDArray[np.uint8]


class Window(NamedTuple):
    """A rectangle of the model's input in pixels; rows ``top`` to ``top + height - 1``, columns likewise."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class Photo:
    """One input image: where it came from and what the model sees of it."""

    id: str  # unique within its job
    path: Path | None = None
    sha256: str = ""  # of the file's bytes
    view: ByteArray | None = field(default=None, repr=False, compare=False)  # (H, W, 3) sRGB, the model's crop
    place: str = ""  # where its bytes lie, if not in a file of their own: "shards/0007.tar/cat.jpg"


@dataclass(frozen=True)
class Batch:
    """B images in model input space.

    Attributes:
        tensor: (B, C, H, W) float32, resized, scaled and normalised.
        photos: one per image, in the same order.
    """

    tensor: FloatArray
    photos: tuple[Photo, ...]

    @classmethod
    def of(cls, tensor: NDArray[Any]) -> Self:
        """Wrap an array (B, C, H, W) that is already in model input space; ids are its row numbers."""
        array = np.ascontiguousarray(tensor, dtype=np.float32)
        return cls(array, tuple(Photo(str(row)) for row in range(len(array))))

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, rows: slice) -> Batch:
        return Batch(self.tensor[rows], self.photos[rows])


@dataclass(frozen=True)
class Provenance:
    """How a result was made; enough to make it again."""

    method: str  # repr of the method
    target: str  # the target's formula, "" where the method has none
    model: str  # file name and the first 12 digits of its sha256
    plan: str  # the plan, printed
    seconds: float  # wall time of the method, reading of images not counted


@runtime_checkable
class Result(Protocol):
    """What a method returns: one array whose first axis is rows, and one column of facts each.

    Every result is a frozen dataclass with these fields. Its arrays, ``photos`` and ``classes`` have one entry per
    row; any other field speaks of all rows. Results of methods that look at images have one row per
    photo, in order; ``photos`` is empty otherwise. A result's renderer is the file of its name in ``report/``.
    """

    @property
    def photos(self) -> tuple[Photo, ...]: ...
    @property
    def values(self) -> NDArray[Any]: ...
    @property
    def provenance(self) -> Provenance | None: ...
    def columns(self) -> Mapping[str, Sequence[object]]:
        """Facts per row beside ``values``: plain numbers, strings or lists of them, for a table."""
        ...


@runtime_checkable
class Files(Protocol):
    """A result that is also files of its own beside its rows: pictures to use elsewhere, films."""

    def files(self, names: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
        """Path below a job's output, with forward slashes, and content. The same rows give the same files.

        Args:
            names: for each photo's id, a file name without suffix that is its own in the job.
        """
        ...


@runtime_checkable
class Remarks(Protocol):
    """A result of which something must be said that a user would otherwise miss."""

    def remarks(self) -> Iterator[str]:
        """One sentence per row that needs one, beginning with the photo's id."""
        ...


@runtime_checkable
class Collective(Protocol):
    """A result whose rows say something together: a job joins its batches before it is drawn or told."""

    def summary(self) -> Mapping[str, object]:
        """What they say: plain numbers, strings or lists of them."""
        ...


R = TypeVar("R", bound=Result)
ROWWISE = ("photos", "classes", "fidelity")  # fields that are no arrays and still have one entry per row


def joined(results: Sequence[R]) -> R:
    """Results of one method on consecutive batches as one; times add up.

    Raises:
        ValueError: there are none.
    """
    if not results:
        raise ValueError("There are no results to join.")
    first = cast(Any, results[0])
    columns = {entry.name: [getattr(result, entry.name) for result in results] for entry in fields(first)}
    changes: dict[str, Any] = {
        name: np.concatenate(parts) if isinstance(parts[0], np.ndarray) else sum(parts, ())
        for name, parts in columns.items()
        if isinstance(parts[0], np.ndarray) or name in ROWWISE
    }
    stamps = [result.provenance for result in results if result.provenance is not None]
    if stamps:
        changes["provenance"] = replace(stamps[0], seconds=sum(stamp.seconds for stamp in stamps))
    return cast(R, replace(first, **changes))


@dataclass(frozen=True)
class Heatmaps:
    """How much each pixel of each image mattered.

    Attributes:
        values: (B, H, W) float32, in units of the target's score; positive speaks for the target.
        photos: one per map.
        scores: (B,) float32, the target's score on the untouched image.
        classes: the class index that the target meant for each image, or None where it names no single class.
        signed: False when the method cannot give negative values (a channel maximum of absolutes, for example).
        approximate: True when a tolerance was traded for speed; shown wherever the maps appear.
        fidelity: of approximate maps, one entry per map: agreement with the exact one, or None where nobody measured.
    """

    values: FloatArray
    photos: tuple[Photo, ...]
    scores: FloatArray
    classes: tuple[int | None, ...]
    signed: bool = True
    approximate: bool = False
    fidelity: tuple[Agreement | None, ...] = ()
    provenance: Provenance | None = None

    def __len__(self) -> int:
        return len(self.photos)

    @property
    def blank(self) -> tuple[bool, ...]:
        """For each map, whether every number is 0: the score moves with nothing there, or nothing lets it show."""
        return tuple(not row.any() for row in self.values)

    @property
    def why_blank(self) -> str:
        """What a map that is 0 everywhere means, and what to do."""
        return (
            "no pixel moves the score, because every unit on the way is shut or the score is saturated (a "
            "probability of 1 is; its logit is not)."
        )

    def remarks(self) -> Iterator[str]:
        """Which maps are blank."""
        for photo, blank in zip(self.photos, self.blank, strict=True):
            if blank:
                yield f"{photo.id}: its map is 0 everywhere: {self.why_blank}"

    def columns(self) -> Mapping[str, Sequence[object]]:
        """The target's class and score, and the map's range, per image."""
        flat = self.values.reshape(len(self), math.prod(self.values.shape[1:]))
        agreements = {
            f"fidelity_{name}": [None if one is None else float(getattr(one, name)) for one in self.fidelity]
            for name in ("spearman", "ssim", "top")
            if self.approximate
        }
        return agreements | {
            "target_class": list(self.classes),
            "score": [float(score) for score in self.scores],
            "minimum": [float(value) for value in flat.min(axis=1)],
            "maximum": [float(value) for value in flat.max(axis=1)],
            "blank": list(self.blank),
        }
