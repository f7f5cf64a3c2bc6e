"""What chapters look at: a network, photographs, and what several chapters need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

from sightline.abilities import Taps
from sightline.audit.context import Artefact
from sightline.audit.maps import maps_of, occlusion
from sightline.model import Model
from sightline.registry import Method, entries
from sightline.target import top
from sightline.tour.chapter import Picture
from sightline.types import ByteArray, FloatArray, IntArray

TOGETHER = 32  # photographs whose features are computed at once
LOOKED = 8  # photographs of chapters that take their time
SIDE = 160  # pixels of a picture on the page
PAIRS = 4096  # photographs whose scores are compared at once
MET = 200  # photographs that chance is measured on


@dataclass(frozen=True)
class Visit:
    """A network and N photographs.

    Attributes:
        artefact: both.
        truth: (N,) class or label number of each photograph, or None where nobody said it.
        labels: of the classes.
        threads: of every runtime; None is all cores.
        seed: of what is drawn.
    """

    artefact: Artefact
    truth: IntArray | None
    labels: Sequence[str]
    threads: int | None
    seed: int = 0

    def __len__(self) -> int:
        return len(self.artefact.inputs)

    @property
    def model(self) -> Model:
        """The network."""
        return self.artefact.model

    @cached_property
    def groups(self) -> IntArray:
        """(N,) what a photograph is: its label, or what the network calls it where it has none."""
        return self.artefact.predictions if self.truth is None else self.truth

    def likeness(self, rows: IntArray | int, others: IntArray) -> FloatArray:
        """How alike photographs and others are, broadcast against each other.

        1 or 0 for the same label or another, where labels are known. Else the correlation of the class scores, each
        class's mean over the photographs taken away: -1 to 1, about 0 for photographs that have nothing in common.
        """
        if self.truth is not None:
            return (self.truth[rows] == self.truth[others]).astype(np.float32)
        one, other = np.broadcast_arrays(rows, others)
        found = np.empty(one.size, np.float32)
        for start in range(0, one.size, PAIRS):
            part = slice(start, start + PAIRS)
            pair = (self._said[side.ravel()[part]] for side in (one, other))  # (M, K) each
            found[part] = np.einsum("mk,mk->m", *pair)
        return found.reshape(one.shape)

    @cached_property
    def _said(self) -> FloatArray:
        """(N, K) scores less each class's mean, of length 1."""
        scores = self.artefact.logits - self.artefact.logits.mean(axis=0)
        return scores / np.maximum(np.linalg.norm(scores, axis=1, keepdims=True), 1e-12)

    @cached_property
    def chance(self) -> float:
        """Mean likeness of two different photographs: of each of some, evenly spread, and all others."""
        rows = np.arange(len(self))
        some = rows[:: max(1, len(self) // MET)]
        return float(np.mean([self.likeness(row, np.delete(rows, row)).mean() for row in some]))

    def alike(self, likeness: float, *, short: bool = False) -> str:
        """A mean likeness in words, or as a number alone."""
        if self.truth is not None:
            return f"{likeness:.0%}" + ("" if short else " bear the same label")
        number = f"{round(likeness, 2) + 0.0:.2f}"  # no minus before nothing
        return number if short else f"the network's scores correlate by {number}"

    @cached_property
    def deepest(self) -> str:
        """The last layer with positions that is made of features and not of class scores."""
        return self.artefact.oracle.feature_layer(top(1))

    @cached_property
    def features(self) -> FloatArray:
        """(N, C) means over positions of the last layer that has any."""
        rows = np.arange(len(self))
        parts = [rows[start : start + TOGETHER] for start in range(0, len(rows), TOGETHER)]
        return np.concatenate([self.maps(part).mean(axis=(2, 3)) for part in parts])

    @cached_property
    def peaks(self) -> tuple[FloatArray, IntArray]:
        """(N, C) largest values of the last layer's channels, and where they lie, counted along the rows."""
        highest, places = list[FloatArray](), list[IntArray]()
        rows = np.arange(len(self))
        for start in range(0, len(rows), TOGETHER):
            maps = self.maps(rows[start : start + TOGETHER])
            flat = maps.reshape(*maps.shape[:2], -1)
            highest.append(flat.max(axis=2))
            places.append(flat.argmax(axis=2))
        return np.concatenate(highest), np.concatenate(places)

    def maps(self, rows: IntArray, layer: str | None = None) -> FloatArray:
        """(B, C, h, w) of a layer, the last one with positions unless named."""
        name = self.model.layers.resolve(layer or self.deepest)
        oracle: Taps = self.artefact.oracle
        return oracle.taps(self.artefact.some(rows).tensor, [name])[name]

    @cached_property
    def few(self) -> IntArray:
        """Rows for what takes its time, spread evenly."""
        return np.unique(np.linspace(0, len(self) - 1, min(LOOKED, len(self))).astype(np.int64))

    @cached_property
    def occlusion_maps(self) -> FloatArray:
        """(8, H, W) of the few, for what the network calls them."""
        return self.explained(occlusion(self.artefact))

    def explained(self, method: Method) -> FloatArray:
        """(8, H, W) maps of the few by a method, for what the network calls them."""
        return maps_of(self.artefact, method, self.few, self.artefact.predictions[self.few], self.threads)

    def method(self, name: str, **fields: Any) -> Method:
        """A method by name; those that need gradients are found only when asked for."""
        kind: Any = entries()[name].load()
        return kind(**fields)

    def called(self, row: int) -> str:
        """What the network calls a photograph."""
        index = int(self.artefact.predictions[row])
        return self.labels[index] if index < len(self.labels) else str(index)

    def strip(self, cells: Sequence[ByteArray], caption: str) -> Picture:
        """Pictures side by side, of one height."""
        shown = [_sized(cell) for cell in cells]
        gap = np.full((SIDE, 4, 3), 255, np.uint8)
        joined = [part for cell in shown for part in (cell, gap)][:-1]
        return Picture(np.concatenate(joined, axis=1), caption)


def _sized(cell: ByteArray) -> ByteArray:
    height, width = cell.shape[:2]
    across = max(1, round(width * SIDE / height))
    way = Image.Resampling.NEAREST if height < SIDE / 3 else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(cell).convert("RGB").resize((across, SIDE), way))
