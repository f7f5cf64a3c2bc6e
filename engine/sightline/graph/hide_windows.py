"""Hiding windows of the image inside the graph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from sightline.graph.pass_ import GraphPass
from sightline.graph.splice import Splice

IMAGES, FILLS, OWNERS, WINDOWS = "hide:images", "hide:fills", "hide:owners", "hide:windows"


@dataclass(frozen=True)
class HideWindows(GraphPass):
    """Make the perturbed images where they are used: images go in once, then window after window.

    Cases:
        1. The image input goes; images and fills (B, C, H, W), the image of every row and its window (top, left,
           height, width) come in its place.
        2. A row is its image, its fill where the window lies.

    Attributes:
        channels, size: C and (H, W) of the images.
    """

    channels: int
    size: tuple[int, int]

    keeps_inputs = False

    def rewrite(self, model: ir.Model) -> None:
        graph, (image,) = model.graph, model.graph.inputs
        splice = Splice(graph, "hide")
        graph.inputs.remove(image)
        shape = ("B", self.channels, *self.size)
        images, fills = (splice.input(name, ir.DataType.FLOAT, shape) for name in (IMAGES, FILLS))  # 1
        owners = splice.input(OWNERS, ir.DataType.INT64, ("M",))
        windows = splice.input(WINDOWS, ir.DataType.INT64, ("M", 4))
        axes: list[ir.Value] = []
        for axis in (0, 1):  # of the image: rows, columns
            first, length = (
                splice.shaped(splice("Gather", windows, splice.constant([place]), axis=1), -1, 1, 1, 1)
                for place in (axis, axis + 2)
            )
            positions = np.arange(self.size[axis]).reshape((-1, 1) if axis == 0 else (1, -1))
            inside = splice.within(splice.constant(positions), first, splice("Add", first, length))
            axes.append(inside)  # (M, 1, H, 1) and (M, 1, 1, W)
        hidden = splice("And", *axes)
        copies = [splice("Gather", value, owners, axis=0) for value in (fills, images)]  # (M, C, H, W)
        found = splice("Where", hidden, *copies)  # 2
        splice.first()
        image.replace_all_uses_with(found)
