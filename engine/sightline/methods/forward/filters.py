"""What the first layer looks for, as pictures of its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sightline.abilities import Weights
from sightline.errors import UsageError
from sightline.registry import method
from sightline.target import Target
from sightline.types import Batch, FloatArray, Photo, Provenance


@dataclass(frozen=True)
class FilterGrid:
    """Kernels of one layer.

    Attributes:
        values: (N, kh, kw, 3) float32 in RGB order if ``rgb``, else (N, kh, kw).
        layer: its module path, or the graph's name for its output.
        rgb: True when the kernels read the colours of the image, so that they can be shown in colour.
        note: what to bear in mind when looking at them; "" for RGB kernels.
        indices: output channel and input channel of each; the latter None for RGB kernels, which have all three.
    """

    values: FloatArray
    layer: str
    rgb: bool
    note: str
    indices: tuple[tuple[int, int | None], ...]
    photos: tuple[Photo, ...] = ()
    provenance: Provenance | None = None

    def columns(self) -> Mapping[str, Sequence[object]]:
        """Channels and Euclidean norm of each kernel."""
        norms = np.sqrt((self.values.astype(np.float64) ** 2).reshape(len(self.values), -1).sum(axis=1))
        return {
            "output_channel": [out for out, _ in self.indices],
            "input_channel": [source for _, source in self.indices],
            "norm": [float(norm) for norm in norms],
        }


@method(needs=Weights, takes_images=False, takes_target=False)
@dataclass(frozen=True, kw_only=True)
class Filters:
    """Kernels of a convolution as pictures; in colour for the layer that reads the image.

    Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural Networks" (2012), figure 3.

    Returns ``FilterGrid``: raw weights, float32, signed, in units of the layer's input. A deeper layer has one kernel
    per pair of channels and no colours: the input channel of largest norm is shown for each filter, and said.

    Raises:
        UsageError: the layer is no convolution, or count is below 1.
    """

    layer: str | None = None  # any name of a convolution; the first one when not given
    count: int = 256  # filters shown, in the order of their output channels

    def run(self, oracle: Weights, images: Batch, target: Target) -> FilterGrid:
        if self.count < 1:
            raise UsageError(f"count={self.count} must be at least 1.")
        kernels = oracle.kernels(self.layer)
        shown = kernels.values[: self.count]  # (N, in, kh, kw)
        if shown.ndim != 4:
            raise UsageError(
                f"Layer {kernels.layer!r} has kernels of shape {shown.shape[2:]}; pictures have two sides."
            )
        if kernels.channels in ("RGB", "BGR") and shown.shape[1] == 3:
            ordered = shown[:, ::-1] if kernels.channels == "BGR" else shown
            pictures = np.ascontiguousarray(ordered.transpose(0, 2, 3, 1))  # (N, kh, kw, 3)
            return FilterGrid(pictures, kernels.layer, True, "", tuple((out, None) for out in range(len(shown))))
        strongest = (shown.astype(np.float64) ** 2).sum(axis=(2, 3)).argmax(axis=1)  # (N,)
        pictures = shown[np.arange(len(shown)), strongest]  # (N, kh, kw)
        note = (
            f"These kernels read {shown.shape[1]} channel{'s' if shown.shape[1] > 1 else ''} of an inner layer, not "
            "colours: of each filter the slice with the largest norm is shown, in grey."
        )
        if kernels.channels == "L":
            note = "The network reads luminance: its kernels have no colours."
        return FilterGrid(
            pictures, kernels.layer, False, note, tuple((out, int(k)) for out, k in enumerate(strongest))
        )
