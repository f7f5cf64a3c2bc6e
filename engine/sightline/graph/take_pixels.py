"""Normalisation inside the graph: pixels go in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from sightline.graph.pass_ import GraphPass
from sightline.graph.splice import Splice


@dataclass(frozen=True)
class TakePixels(GraphPass):
    """Let the graph take pixels (B, H, W, C) uint8 under its input's name, and normalise them itself.

    A quarter of the bytes travel to a device, and nobody can normalise otherwise than the model wants it. Resizing
    stays outside: Pillow's filters round to whole pixels between their two passes, which ONNX's Resize does not, and
    an image is decoded on the host anyway, smaller behind the resize than before it.

    Cases:
        1. The input is replaced by one of its name, of another type and layout.
        2. Colours are put in the model's order.
        3. (pixel * scale - mean) / std in float32, in this order: the bits are those of ``Preprocess.normalise``.
        4. A graph that reads NHWC is given that.

    Attributes:
        layout: that the graph reads.
        size: (H, W) of the images, or None where the graph leaves it open.
        batch: the only number of images that the graph takes, or None.
        reversed: whether the model reads colours as BGR.
        scale, mean, std: see ``Preprocess``.
    """

    layout: str
    size: tuple[int, int] | None
    batch: int | None
    reversed: bool
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def rewrite(self, model: ir.Model) -> None:
        graph, (image,) = model.graph, model.graph.inputs
        name, count = str(image.name), len(self.mean)
        graph.inputs.remove(image)
        image.name = f"{name}:normalised"
        splice = Splice(graph, "pixels")
        sides = self.size or ("H", "W")
        pixels = splice.input(name, ir.DataType.UINT8, (self.batch or "B", *sides, count))  # 1
        found = splice("Cast", pixels, to=int(ir.DataType.FLOAT))
        if self.reversed:
            found = splice("Gather", found, splice.constant([2, 1, 0]), axis=3)  # 2
        mean, std = (splice.constant(np.asarray(numbers, np.float32)) for numbers in (self.mean, self.std))
        found = splice("Mul", found, splice.constant(np.float32(self.scale)))  # 3
        found = splice("Div", splice("Sub", found, mean), std)
        if self.layout == "NCHW":
            found = splice("Transpose", found, perm=[0, 3, 1, 2])  # 4
        splice.first()
        image.replace_all_uses_with(found)
