"""Where two artefacts look, and how far apart that is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sightline.agreement import agreement
from sightline.audit.context import Artefact
from sightline.graph.load import LoadedGraph
from sightline.graph.randomise import RandomiseWeights
from sightline.methods.forward.occlusion import Occlusion
from sightline.model import Model
from sightline.registry import Method
from sightline.target import logit
from sightline.types import Batch, FloatArray, Heatmaps, IntArray

MEMORY = 256 << 20  # bytes of activations at once: four networks are open side by side


@dataclass(frozen=True)
class Likeness:
    """Of B pairs of maps of the same images.

    Attributes:
        spearman: (B,) rank correlation of the pixels, -1 to 1.
        ssim: (B,) structural similarity, -1 to 1.
        top5: (B,) intersection over union of the most important 5 %, 0 to 1.
        shift: (B,) distance of the centres of positive mass, as a share of the diagonal.
    """

    spearman: FloatArray
    ssim: FloatArray
    top5: FloatArray
    shift: FloatArray

    def some(self, places: IntArray) -> Likeness:
        """Of some of the images."""
        return Likeness(self.spearman[places], self.ssim[places], self.top5[places], self.shift[places])

    def means(self, prefix: str) -> Mapping[str, float | None]:
        """Each one's mean over the images, None of no images."""
        values = {"spearman": self.spearman, "ssim": self.ssim, "top5": self.top5, "shift": self.shift}
        return {f"{prefix}_{name}": float(value.mean()) if len(value) else None for name, value in values.items()}


def likeness(ours: FloatArray, theirs: FloatArray) -> Likeness:
    """Of maps (B, H, W) with others."""
    found = [agreement(one, other) for one, other in zip(ours, theirs, strict=True)]
    shifts = np.linalg.norm(centres(ours) - centres(theirs), axis=1) / math.hypot(*ours.shape[1:])
    return Likeness(
        np.array([one.spearman for one in found], np.float32),
        np.array([one.ssim for one in found], np.float32),
        np.array([one.top for one in found], np.float32),
        shifts.astype(np.float32),
    )


def centres(maps: FloatArray) -> FloatArray:
    """(B, 2) row and column of the centre of the positive values; the map's middle where there are none."""
    positive = np.maximum(maps, 0).astype(np.float64)
    total = positive.sum(axis=(1, 2))
    axes = [np.arange(side) for side in maps.shape[1:]]
    sums = [(positive.sum(axis=2) * axes[0]).sum(axis=1), (positive.sum(axis=1) * axes[1]).sum(axis=1)]
    middle = [(side - 1) / 2 for side in maps.shape[1:]]
    found = [
        np.where(total > 0, one / np.maximum(total, 1e-30), half) for one, half in zip(sums, middle, strict=True)
    ]
    return np.stack(found, axis=1).astype(np.float32)


def maps_of(artefact: Artefact, method: Method, rows: IntArray, classes: IntArray, threads: int | None) -> FloatArray:
    """(B, H, W) of some photographs, for a class of each."""
    return explained(artefact, method, artefact.some(rows), [int(one) for one in classes], threads)


def explained(
    artefact: Artefact, method: Method, batch: Batch, classes: Sequence[int], threads: int | None
) -> FloatArray:
    """(B, H, W) of images in the artefact's input space, for a class of each."""
    found = artefact.plan(method, threads=threads, memory=MEMORY).run(batch, logit(tuple(classes)))
    assert isinstance(found, Heatmaps)
    return found.values


def occlusion(artefact: Artefact) -> Occlusion:
    """The method whose maps are compared: it needs nothing but scores, which every artefact has."""
    height, width = artefact.model.input_size
    window = min(artefact.options.window, max(2, min(height, width) // 6))
    grey = artefact.grey
    fill = ",".join(f"{one:.9g}" for one in grey) if grey.any() else 0.0
    return Occlusion(window=window, stride=min(artefact.options.stride, max(1, window // 2)), fill=fill)


def randomised(artefact: Artefact, share: float) -> Artefact:
    """The same network with the weights of its last layers shuffled."""
    model = artefact.model
    graph = RandomiseWeights(share, artefact.options.seed)(model.graph)
    loaded = LoadedGraph(graph, model.sha256, (model.path,), model.metadata)
    made = Model(loaded, preprocess=model.preprocess, size=model.input_size if model.input.size is None else None,
                 output=model.output)  # fmt: skip
    return Artefact(made, artefact.options, artefact.inputs, artefact.device, artefact.common)
