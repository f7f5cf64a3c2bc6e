"""What the sections of an audit look at: two artefacts and the same photographs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightline.abilities import Taps
from sightline.errors import BadImage, NoImages, UsageError
from sightline.image import read_image
from sightline.job.inputs import Input
from sightline.methods.forward.predict import Predict
from sightline.model import Model
from sightline.types import Batch, ByteArray, FloatArray, IntArray, Photo

KEPT = 96  # photographs that stay decoded
TOGETHER = 32  # photographs whose scores are computed at once
OTHERS = ("rise", "score_cam")  # methods whose maps can be compared beside those of occlusion and saliency


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
        maps_by: methods beside occlusion and saliency whose maps are compared, of ``OTHERS``.
        rise_masks: that RISE draws for each photograph.
        severities: of corruptions, 1 to 5.
        queries: of a black-box attack, for each photograph and size.
        masks: folder of pictures named like the photographs, white where no decision should come from; "" for none.
    """

    threads: int | None = None
    seed: int = 0
    maps: int = 24
    window: int = 32
    stride: int = 16
    attacked: int = 16
    border: float = 0.1
    maps_by: tuple[str, ...] = ("score_cam",)
    rise_masks: int = 500
    severities: tuple[int, ...] = (1, 3, 5)
    queries: int = 30
    masks: str = ""


@dataclass(frozen=True)
class Artefact:
    """One of the two networks, with the photographs as it reads them."""

    model: Model
    options: Options
    inputs: Sequence[Input]

    def some(self, rows: IntArray) -> Batch:
        """Photographs in this model's own input space, read when they are asked for."""
        made = [self._photograph(int(row)) for row in rows]
        return Batch(np.stack([tensor for tensor, _ in made]), tuple(photo for _, photo in made))

    def picture(self, row: int) -> Image.Image:
        """One photograph, decoded anew.

        Raises:
            BadImage: the file has gone or changed since it was looked at.
        """
        return read_image(self.inputs[row].read())

    def view(self, row: int) -> ByteArray:
        """(H, W, 3) one photograph as the model is shown it."""
        view = self._photograph(row)[1].view
        assert view is not None
        return view

    def mask(self, path: Path) -> NDArray[np.bool_]:
        """(H, W) a black and white picture of a photograph's geometry, cropped and resized as that was."""
        view = self.model.photograph(read_image(path), Photo(path.name, path))[1].view
        assert view is not None
        return view.max(axis=2) > 127

    @cached_property
    def _photograph(self) -> Callable[[int], tuple[FloatArray, Photo]]:
        """One photograph by row; the last ones are kept."""

        @lru_cache(KEPT)
        def read(row: int) -> tuple[FloatArray, Photo]:
            return self.model.photograph(self.picture(row), Photo(self.inputs[row].id, self.inputs[row].path))

        return read

    @cached_property
    def oracle(self) -> Taps:
        """Runs it forward."""
        oracle: Any = self.model.oracle(self.model.plan(Predict(), threads=self.options.threads))
        return oracle

    @cached_property
    def logits(self) -> FloatArray:
        """(N, K) of all photographs."""
        rows = np.arange(len(self.inputs))
        parts = [rows[start : start + TOGETHER] for start in range(0, len(rows), TOGETHER)]
        return np.concatenate([self.oracle.logits(self.some(part).tensor) for part in parts])

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
        folder: where a section may put pictures.
    """

    reference: Artefact
    candidate: Artefact
    truth: IntArray | None
    options: Options
    folder: Path
    labels: Sequence[str] = field(default=())

    def __len__(self) -> int:
        return len(self.reference.inputs)

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


def readable(entries: Sequence[Input]) -> tuple[list[Input], list[tuple[str, str]]]:
    """The inputs that can be decoded, and which cannot, and why.

    Raises:
        NoImages: none can.
    """
    kept, aside = list[Input](), list[tuple[str, str]]()
    for one in entries:
        try:
            read_image(one.read(), name=one.place or one.id)
            kept.append(one)
        except BadImage as reason:
            aside.append((one.id, str(reason)))
    if not kept:
        raise NoImages(f"None of the {len(entries)} images could be read; the first: {aside[0][1] if aside else ''}")
    return kept, aside


def means(values: Mapping[str, FloatArray]) -> dict[str, float | None]:
    """The mean of each, None of what is empty or not finite."""
    found = {name: np.asarray(value, np.float64) for name, value in values.items()}
    return {
        name: float(value[np.isfinite(value)].mean()) if np.isfinite(value).any() else None
        for name, value in found.items()
    }
