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
from sightline.tour.chapter import Picture
from sightline.types import ByteArray, FloatArray, IntArray

TOGETHER = 32  # photographs whose features are computed at once
LOOKED = 8  # photographs of chapters that take their time
SIDE = 160  # pixels of a picture on the page


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

    @cached_property
    def deepest(self) -> str:
        """The last layer with positions."""
        return self.model.deepest_maps

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
