"""What every opened route does alike: split work into batches, evaluate targets, read layers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sightline.abilities import Bound, Kernels
from sightline.errors import UsageError
from sightline.graph.kernels import read_kernels
from sightline.graph.ports import Activation
from sightline.image import read_image
from sightline.preprocess import Preprocess
from sightline.routes.base import Settings
from sightline.routes.batch import Measured, largest_batch, measured_batch
from sightline.target import Target, needs_classes
from sightline.types import FloatArray

if TYPE_CHECKING:
    from sightline.model import Model


SMALL_WORK = 16  # images; so few are done in one run before a measurement would be
MORE_WORK = 4  # times the work that a batch was measured for: for so much more it is measured anew


class GraphOracle(ABC):
    """An opened route over one graph.

    A subclass says how one batch is run (``run``) and what a representative run is (``trial``).

    Attributes:
        keeps_activations: True when a run holds every layer's output until it ends, as a backward pass needs.
    """

    keeps_activations = False

    def __init__(self, model: Model, settings: Settings):
        self.model = model
        self.settings = settings
        self._batch = settings.batch or model.input.batch
        self._measured: tuple[int | None, Measured] | None = None  # for so many rows

    @abstractmethod
    def run(self, images: FloatArray, names: tuple[str, ...]) -> list[FloatArray]:
        """Values by the graph's names for one batch (b, C, H, W) of a size that the graph accepts."""

    @abstractmethod
    def run_from(self, start: str, values: FloatArray, names: tuple[str, ...]) -> list[FloatArray]:
        """As ``run``, from the values of an inner value (b, ...) instead of the image.

        Raises:
            UsageError: one of the names needs the image too; see ``past``.
        """

    @abstractmethod
    def trial(self) -> Callable[[int], None]:
        """A run on noise that takes the batch size, for timing."""

    @abstractmethod
    def close(self) -> None:
        """Release sessions and memory."""

    @property
    def labels(self) -> tuple[str, ...]:
        """K class names, or none."""
        return self.model.labels

    @property
    def preprocess(self) -> Preprocess:
        """How pixels become the model's input."""
        return self.model.preprocess

    @property
    def levels(self) -> tuple[int, int] | None:
        """Lowest and highest whole number that the network reads; None where it reads real ones."""
        return self.model.input.levels

    @property
    def deepest_maps(self) -> str:
        """The last layer that still has positions."""
        return self.model.deepest_maps

    def feature_layer(self, target: Target) -> str:
        """The last layer with positions that a target depends on, maps of class scores passed over."""
        return self.model.feature_layer(target)

    def logits(self, images: FloatArray) -> FloatArray:
        """(B, K) scores before the last softmax or sigmoid."""
        count = self.model.class_count
        return self.read(images, (self.model.logits_name,))[self.model.logits_name].reshape(len(images), count)

    def activated(self, logits: FloatArray) -> FloatArray:
        """(B, K) probabilities."""
        return activated(logits, self.model.activation)

    def bind(self, images: FloatArray, target: Target) -> Bound:
        """Fix what each image chooses, and score the untouched images."""
        outputs = self._outputs(images, target)
        bound = target.bind(outputs)
        return Bound(bound, np.asarray(bound.value(outputs), dtype=np.float32))

    def scores(self, images: FloatArray, target: Target) -> FloatArray:
        """(B,) values of a bound target."""
        return np.asarray(target.value(self._outputs(images, target)), dtype=np.float32)

    def read_image(self, path: Path) -> FloatArray:
        """(C, H, W) of an image file, read as the model's input."""
        return self.model.preprocess(read_image(path))[1]

    def taps(self, images: FloatArray, layers: Sequence[str]) -> Mapping[str, FloatArray]:
        """(B, C, h, w) or (B, D) by layer, under the names that were given."""
        values = {layer: self.model.readable(layer) for layer in layers}
        found = self.read(images, tuple(dict.fromkeys(values.values())))
        return {layer: found[value] for layer, value in values.items()}

    def scores_from(self, layer: str, values: FloatArray, target: Target) -> FloatArray:
        """(N,) values of a bound target, from a layer's values."""
        start, names = self.model.readable(layer), self.names_of(target)
        if len(values) == 0:
            return np.zeros(0, np.float32)
        batch = self.batch_size(len(values))
        parts: list[FloatArray] = []
        for first in range(0, len(values), batch):
            filled, count = filled_batch(values[first : first + batch], self.model.input.batch)
            found = dict(zip(names, self.run_from(start, filled, names), strict=True))
            outputs = Values(
                {name: value[:count] for name, value in found.items()}, self.model.logits_name, self.model.activation
            )
            parts.append(np.asarray(target.take(range(first, first + count)).value(outputs), np.float32))
        return np.concatenate(parts)

    def past(self, layer: str) -> UsageError:
        """Why a score cannot be had from a layer's values alone."""
        return UsageError(
            f"The score reads the image on a path that avoids layer {layer!r}: the layer's values alone do not "
            "decide it. Choose a layer that every path passes: sightline inspect lists the layers in their order."
        )

    def kernels(self, layer: str | None) -> Kernels:
        """Kernels of a convolution, the first when None."""
        return read_kernels(self.model, layer)

    def read(self, images: FloatArray, names: tuple[str, ...]) -> dict[str, FloatArray]:
        """Values by the graph's names for B images, run in batches."""
        if len(images) == 0:  # the shapes of no images are those of one
            return {name: value[:0] for name, value in self.read(self.noise(1), names).items()}
        batch = self.batch_size(len(images))
        parts = [self._filled_run(images[start : start + batch], names) for start in range(0, len(images), batch)]
        joined = (column[0] if len(column) == 1 else np.concatenate(column) for column in zip(*parts, strict=True))
        return dict(zip(names, joined, strict=True))

    def batch_size(self, rows: int | None = None) -> int:
        """Images per run: given, fixed by the graph, or found by measuring once the work (``rows``) is worth it."""
        if self._batch is not None:
            return self._batch
        if rows is not None and rows <= self.unmeasured:
            return min(SMALL_WORK, self._largest)
        return self._measure(rows).batch

    @property
    def unmeasured(self) -> int:
        """Images up to which a batch of usual size is taken for good: a measurement would be too short to tell."""
        return SMALL_WORK

    def settled_batch(self, rows: int, *, rewritten: bool) -> int:
        """What a job stores and keeps to; see ``Forward``."""
        return self.batch_size(rows)

    @property
    def measured(self) -> Measured:
        """The best batch of whole passes, and what an image of it takes."""
        return self._measure(None)

    def _measure(self, rows: int | None) -> Measured:
        """For no longer than so much work deserves, and again once there is much more."""
        known = self._measured
        if known is None or (known[0] is not None and (rows is None or rows > MORE_WORK * known[0])):
            known = self._measured = rows, measured_batch(self.trial, self._largest, rows=rows)
        return known[1]

    def noise(self, batch: int) -> FloatArray:
        """(batch, C, H, W) of one noise image, repeated: the same for every batch size."""
        shape = (1, self.model.input.channels, *self.model.input_size)
        return np.repeat(np.random.default_rng(0).standard_normal(shape, dtype=np.float32), batch, axis=0)

    @cached_property
    def _largest(self) -> int:
        return largest_batch(self.model.layers.shapes, self.settings.memory, kept=self.keeps_activations)

    def _filled_run(self, images: FloatArray, names: tuple[str, ...]) -> list[FloatArray]:
        filled, count = filled_batch(images, self.model.input.batch)
        return [value[:count] for value in self.run(filled, names)]

    def _outputs(self, images: FloatArray, target: Target) -> Values:
        values = self.read(images, self.names_of(target))
        return Values(values, self.model.logits_name, self.model.activation)

    def names_of(self, target: Target) -> tuple[str, ...]:
        """The graph's values that a target reads, each once."""
        logits = (self.model.logits_name,) if needs_classes(target) else ()
        return tuple(dict.fromkeys((*logits, *target.layers)))


class Values:
    """What was computed for B images, as NumPy arrays for targets to index."""

    def __init__(self, values: Mapping[str, FloatArray], logits_name: str, activation: Activation):
        self._values = values
        self._logits_name = logits_name
        self._activation: Activation = activation

    @cached_property
    def logits(self) -> FloatArray:
        """(B, K)."""
        logits = self._values[self._logits_name]
        return logits.reshape(len(logits), math.prod(logits.shape[1:]))

    @cached_property
    def probabilities(self) -> FloatArray:
        """(B, K)."""
        return activated(self.logits, self._activation)

    def tap(self, layer: str) -> FloatArray:
        """(B, C, h, w) or (B, D)."""
        return self._values[layer]


def activated(logits: FloatArray, activation: Activation) -> FloatArray:
    """(B, K) probabilities from logits, in float64 inside so that 1,000 classes still sum to 1."""
    wide = logits.astype(np.float64)
    if activation == "sigmoid":
        return (0.5 * (1 + np.tanh(0.5 * wide))).astype(np.float32)
    raised = np.exp(wide - wide.max(axis=1, keepdims=True))
    return (raised / raised.sum(axis=1, keepdims=True)).astype(np.float32)


def filled_batch(images: FloatArray, fixed: int | None) -> tuple[FloatArray, int]:
    """The images, the last one repeated up to a batch size that the graph fixes; and how many are real."""
    missing = 0 if fixed is None else fixed - len(images)
    if missing <= 0:
        return images, len(images)
    return np.concatenate([images, np.repeat(images[-1:], missing, axis=0)]), len(images)
