"""The images that an attack made, and what the network says of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightline.adversarial.goal import Aim
from sightline.image import encode_png
from sightline.types import ByteArray, FloatArray, IntArray, Photo, Provenance

PICTURES, SHEETS = "adversarial", "sheets"  # folders below a job's output


@dataclass(frozen=True)
class AdversarialExamples:
    """Images changed to fool the network, B of them.

    What the network says was read after the round trip: rounded to 8 bits, saved as PNG, read back, and run through
    the reference route, ONNX Runtime. Sizes of changes are in pixel values of 0 to 255: 2 is 2/255 of the range.

    Attributes:
        values: (B, H, W, 3) uint8 sRGB, the adversarial pictures at the model's input size.
        photos: one per row.
        originals: (B, H, W, 3) uint8, what they were made from.
        classes: the class to reach or to leave; None where a formula was raised.
        aim: which of the three.
        before, after: (B,) highest class of the original and of the adversarial picture.
        confidence_before, confidence_after: (B,) float32 probability of it.
        margins_before, margins: (B,) float32 lead towards the aim, in units of the logits or the formula; the picture
            fools the network where it is positive.
        budgets: (B,) float32, the size that the change was allowed; 0 where the attack looks for the smallest itself.
        queries: (B,) evaluations of the network that the attack took, backward passes not counted.
        stuck: (B,) uint8, 1 where the gradient was zero, so that nothing could be tried.
        channels: that the model reads, 1 or 3; pictures of a model of luminance have three equal ones.
        labels: K class names, or none.
    """

    values: ByteArray
    photos: tuple[Photo, ...]
    originals: ByteArray
    classes: tuple[int | None, ...]
    aim: Aim
    before: IntArray
    after: IntArray
    confidence_before: FloatArray
    confidence_after: FloatArray
    margins_before: FloatArray
    margins: FloatArray
    budgets: FloatArray
    queries: IntArray
    stuck: ByteArray
    channels: int = 3
    labels: tuple[str, ...] = ()
    provenance: Provenance | None = None

    def __len__(self) -> int:
        return len(self.photos)

    @property
    def fooled(self) -> NDArray[np.bool_]:
        """(B,): the network is fooled, whether or not anything had to be changed."""
        return self.margins > 0

    @property
    def already(self) -> NDArray[np.bool_]:
        """(B,): the original fooled it as it was, and was left alone."""
        return self.margins_before > 0

    @property
    def linf(self) -> FloatArray:
        """(B,) largest change of a pixel value."""
        return np.abs(self._changes).max(axis=1, initial=0)

    @property
    def l2(self) -> FloatArray:
        """(B,) Euclidean length of the change."""
        return np.linalg.norm(self._changes, axis=1)

    @property
    def share(self) -> FloatArray:
        """(B,) that length as a share of the original's; 0 for a black original that was not changed."""
        return self.l2 / np.maximum(np.linalg.norm(self._flat(self.originals), axis=1), 1)

    def outcome(self, row: int) -> str:
        """One of "fooled", "already" (left alone), "no gradient" (nothing could be tried) and "not fooled"."""
        if self.already[row]:
            return "already"
        return "fooled" if self.fooled[row] else "no gradient" if self.stuck[row] else "not fooled"

    def similarity(self, row: int) -> float:
        """Structural similarity of the two pictures, 1 where they are the same."""
        from skimage.metrics import structural_similarity

        one, other = self.originals[row], self.values[row]
        side = min(7, *one.shape[:2])
        if side < 3 or np.array_equal(one, other):  # no window fits
            return 1.0 if np.array_equal(one, other) else 0.0
        window = side - (1 - side % 2)
        return float(np.asarray(structural_similarity(one, other, channel_axis=2, win_size=window)))

    def columns(self) -> Mapping[str, Sequence[object]]:
        """Whether and by how much, per image; ``l2`` and ``linf`` in pixel values, ``l2_share`` of the original's."""
        rows = range(len(self))
        return {
            "target_class": list(self.classes),
            "aim": [self.aim] * len(self),
            "outcome": [self.outcome(row) for row in rows],
            "fooled": [bool(one) for one in self.fooled],
            "before": [int(index) for index in self.before],
            "before_label": [self.label(int(index)) for index in self.before],
            "before_probability": [float(chance) for chance in self.confidence_before],
            "after": [int(index) for index in self.after],
            "after_label": [self.label(int(index)) for index in self.after],
            "after_probability": [float(chance) for chance in self.confidence_after],
            "margin": [float(margin) for margin in self.margins],
            "budget": [float(size) or None for size in self.budgets],
            "linf": [float(size) for size in self.linf],
            "l2": [float(size) for size in self.l2],
            "l2_share": [float(size) for size in self.share],
            "ssim": [self.similarity(row) for row in rows],
            "queries": [int(count) for count in self.queries],
        }

    def files(self, names: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
        """Of each image the adversarial picture, a PNG of the model's input size, and the sheet that explains it."""
        from sightline.report.figure import draw_figure
        from sightline.report.panel import panels

        for row, photo in enumerate(self.photos):
            yield f"{PICTURES}/{names[photo.id]}.png", encode_png(self.values[row])
            for panel in panels(self, row):
                sheet = draw_figure(panel, f"{photo.id} · {panel.title}")
                yield f"{SHEETS}/{names[photo.id]}.png", encode_png(sheet)

    def remarks(self) -> Iterator[str]:
        """What became of images that were not fooled by an attack."""
        said = {
            "already": "it fools the network as it is, and was left alone.",
            "no gradient": "its gradient is 0 everywhere, so that no attack could be tried.",
        }
        for row, photo in enumerate(self.photos):
            if (outcome := self.outcome(row)) in said:
                yield f"{photo.id}: {said[outcome]}"

    def label(self, index: int) -> str:
        """Name of a class, its number where it has none."""
        return self.labels[index] if index < len(self.labels) else str(index)

    @property
    def _changes(self) -> FloatArray:
        """(B, D) differences."""
        return self._flat(self.values) - self._flat(self.originals)

    def _flat(self, views: ByteArray) -> FloatArray:
        read = views[..., : self.channels]
        return read.reshape(len(read), math.prod(read.shape[1:])).astype(np.float32)
