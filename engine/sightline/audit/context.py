"""What the sections of an audit look at: two artefacts and the same photographs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightline.abilities import Taps
from sightline.dispatch import Plan
from sightline.errors import BadImage, NoImages, UsageError
from sightline.image import read_image
from sightline.job.inputs import Input
from sightline.methods.forward.predict import Predict
from sightline.model import Model
from sightline.preprocess import Preprocess
from sightline.registry import Method
from sightline.routes.base import Device, Settings
from sightline.threads import check_threads
from sightline.types import Batch, ByteArray, FloatArray, IntArray, Photo

KEPT = 96  # photographs that stay decoded
TOGETHER = 32  # photographs whose scores are computed at once
TINY = 1e-6  # of a number in the model's input
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
        device: that runs the candidate; the reference runs on the CPU, which every other device is compared with.
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
    device: Device = "cpu"

    def __post_init__(self) -> None:
        check_threads(self.threads)


@dataclass(frozen=True)
class Artefact:
    """One of the two networks, with the photographs as it reads them.

    Attributes:
        model: the network.
        options: of the audit.
        inputs: the photographs.
        device: that runs it.
        common: the reference's preprocessing: what hides pixels, and how far noise moves them, are its numbers.
    """

    model: Model
    options: Options
    inputs: Sequence[Input]
    device: Device = "cpu"
    common: Preprocess | None = None

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
    def grey(self) -> FloatArray:
        """(C,) what hides pixels: in its own input space what is 0, the mean colour, in the reference's."""
        own, common = self.model.preprocess, self.common or self.model.preprocess
        if len(own.mean) != len(common.mean):
            return np.zeros(len(own.mean), np.float32)
        pixel = np.asarray(common.mean) / common.scale
        pixel = pixel if own.channels == common.channels else pixel[::-1]
        found = (pixel * own.scale - own.mean) / own.std
        found = np.rint(found) if takes_pixels(self.model) else np.where(np.abs(found) < TINY, 0, found)
        return found.astype(np.float32)

    def step(self, amount: float) -> float:
        """In its own input space what is so much in the reference's."""
        own, common = self.model.preprocess, self.common or self.model.preprocess
        factors = [float(np.mean(np.asarray(each.std) / each.scale)) for each in (common, own)]  # in pixel values
        return amount * factors[0] / factors[1]

    def plan(self, method: Method, *, threads: int | None = None, memory: int | None = None) -> Plan:
        """How a method runs on it; on the audit's threads unless told."""
        return self.model.plan(method, device=self.device, threads=threads or self.options.threads, memory=memory)

    @property
    def settings(self) -> Settings:
        """Of sessions that are opened beside plans."""
        return Settings(self.device, self.options.threads)

    @cached_property
    def oracle(self) -> Taps:
        """Runs it forward."""
        oracle: Any = self.model.oracle(self.plan(Predict()))
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
        """(N,) the highest class, whose maps are looked at; of equals the first, and 0 where there is one score."""
        return self.logits.argmax(axis=1)

    @property
    def decisions(self) -> IntArray:
        """(N,) what it says; see ``decided``."""
        return decided(self.logits)

    def likelihood(self, rows: IntArray, decisions: IntArray) -> FloatArray:
        """(n,) probability that it gives decisions, its own or others, on some photographs."""
        if self.logits.shape[1] > 1:
            return self.probabilities[rows, decisions]
        yes = self.probabilities[rows, 0]
        return np.where(decisions == 1, yes, 1 - yes)


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

    def explained(self, decisions: IntArray) -> IntArray:
        """Classes whose maps are looked at for decisions: where there is one score, its."""
        return decisions if self.reference.model.class_count > 1 else np.zeros_like(decisions)

    def of_decision(self, index: int) -> str:
        """What a decision is called: a class, or yes and no where there is one score."""
        return self.of_class(index) if self.reference.model.class_count > 1 else ("no", "yes")[index]


def takes_pixels(model: Model) -> bool:
    """Whether its graph is given pixels of 0 to 255 and normalises them itself."""
    return model.input.dtype == np.dtype(np.uint8)


def decided(logits: FloatArray) -> IntArray:
    """(N,) what scores (N, K) say: the highest class, of equals the first; of a single one whether it is above 0."""
    return logits.argmax(axis=1) if logits.shape[1] > 1 else (logits[:, 0] > 0).astype(np.int64)


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


def readable(entries: Sequence[Input]) -> tuple[list[Input], list[tuple[str, str]], str]:
    """The inputs that can be decoded, and which cannot, and why; and a digest of those that can.

    Raises:
        NoImages: none can.
    """
    kept, aside, digest = list[Input](), list[tuple[str, str]](), hashlib.sha256()
    for one in entries:
        try:
            content = one.read()
            read_image(content, name=one.place or one.id)
            kept.append(one)
            digest.update(f"{one.id}\0{hashlib.sha256(content).hexdigest()}\0".encode())
        except BadImage as reason:
            aside.append((one.id, str(reason)))
    if not kept:
        raise NoImages(f"None of the {len(entries)} images could be read; the first: {aside[0][1] if aside else ''}")
    return kept, aside, digest.hexdigest()


def means(values: Mapping[str, FloatArray]) -> dict[str, float | None]:
    """The mean of each, None of what is empty or not finite."""
    found = {name: np.asarray(value, np.float64) for name, value in values.items()}
    return {
        name: float(value[np.isfinite(value)].mean()) if np.isfinite(value).any() else None
        for name, value in found.items()
    }
