"""What the sections of an audit look at: two artefacts and the same photographs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sightline.abilities import Taps
from sightline.errors import BadImage, NoImages, UsageError
from sightline.image import read_image
from sightline.job.inputs import Input
from sightline.methods.forward.predict import Predict
from sightline.model import Model
from sightline.types import Batch, FloatArray, IntArray, Photo


@dataclass(frozen=True, kw_only=True)
class Options:
    """What an audit was asked to do.

    Attributes:
        threads: of every runtime; None is all cores.
        seed: of what is drawn.
        maps: images whose maps are compared.
        window, stride: of occlusion, in pixels.
        attacked: images that are attacked, and corrupted.
        border: share of the side that counts as border.
    """

    threads: int | None = None
    seed: int = 0
    maps: int = 24
    window: int = 32
    stride: int = 16
    attacked: int = 16
    border: float = 0.1


@dataclass(frozen=True)
class Artefact:
    """One of the two networks, with the photographs as it reads them."""

    model: Model
    options: Options
    pictures: Sequence[Any]  # decoded
    photos: tuple[Photo, ...]

    @cached_property
    def batch(self) -> Batch:
        """All photographs in this model's own input space."""
        made = [
            self.model.photograph(picture, photo) for picture, photo in zip(self.pictures, self.photos, strict=True)
        ]
        tensors, photos = zip(*made, strict=True)
        return Batch(np.stack(tensors), photos)

    @cached_property
    def oracle(self) -> Taps:
        """Runs it forward."""
        oracle: Any = self.model.oracle(self.model.plan(Predict(), threads=self.options.threads))
        return oracle

    @cached_property
    def logits(self) -> FloatArray:
        """(N, K) of all photographs."""
        return self.oracle.logits(self.batch.tensor)

    @cached_property
    def probabilities(self) -> FloatArray:
        """(N, K)."""
        return self.oracle.activated(self.logits)

    @property
    def predictions(self) -> IntArray:
        """(N,) the highest class; of equals the first."""
        return self.logits.argmax(axis=1)


@dataclass(frozen=True)
class Context:
    """A reference, a candidate, and what is known of N photographs.

    Attributes:
        truth: (N,) class of each photograph, or None where nobody said it.
        set_aside: files that could not be read, and why.
        folder: where a section may put pictures.
    """

    reference: Artefact
    candidate: Artefact
    truth: IntArray | None
    set_aside: tuple[tuple[str, str], ...]
    options: Options
    folder: Path
    labels: Sequence[str] = field(default=())

    def __len__(self) -> int:
        return len(self.reference.photos)

    def some(self, count: int) -> IntArray:
        """Rows of so many photographs, spread evenly."""
        return np.unique(np.linspace(0, len(self) - 1, min(count, len(self))).astype(np.int64))

    def of_class(self, index: int) -> str:
        """What a class is called."""
        return self.labels[index] if index < len(self.labels) else str(index)


def check_pair(reference: Model, candidate: Model) -> None:
    """Refuse what cannot be compared.

    Raises:
        UsageError: other classes, or another input size.
    """
    if reference.class_count != candidate.class_count:
        raise UsageError(
            f"{reference.path.name} has {reference.class_count} classes and {candidate.path.name} "
            f"{candidate.class_count}: they do not answer the same question. Choose outputs that do with --output."
        )
    if reference.input_size != candidate.input_size:
        sizes = [
            f"{model.path.name} takes {model.input_size[0]} x {model.input_size[1]}"
            for model in (reference, candidate)
        ]
        raise UsageError(
            f"{' and '.join(sizes)}: maps of different sizes cannot be compared. Export both for one size, or choose "
            "one with --size where the graph takes any."
        )


def read_pictures(entries: Sequence[Input]) -> tuple[list[Any], list[Input], list[tuple[str, str]]]:
    """Decoded photographs, which inputs they are of, and what was set aside.

    Raises:
        NoImages: none could be read.
    """
    pictures, kept, aside = list[Any](), list[Input](), list[tuple[str, str]]()
    for one in entries:
        try:
            if one.path is None:
                raise BadImage(f"{one.id} has no file.")
            pictures.append(read_image(one.path))
            kept.append(one)
        except BadImage as reason:
            aside.append((one.id, str(reason)))
    if not pictures:
        raise NoImages(f"None of the {len(entries)} images could be read; the first: {aside[0][1] if aside else ''}")
    return pictures, kept, aside


def means(values: Mapping[str, FloatArray]) -> dict[str, float | None]:
    """The mean of each, None of what is empty or not finite."""
    found = {name: np.asarray(value, np.float64) for name, value in values.items()}
    return {
        name: float(value[np.isfinite(value)].mean()) if np.isfinite(value).any() else None
        for name, value in found.items()
    }
