"""Where images enter a graph and class scores leave it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sightline.errors import BadModel
from sightline.types import FloatArray

Activation = Literal["softmax", "sigmoid"]
KEEP_SHAPE = frozenset({"Identity", "Cast", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Dropout"})


@dataclass(frozen=True)
class Port:
    """A model's image input.

    Attributes:
        name: the graph's name for it.
        layout: where the channels are; sightline itself always speaks NCHW.
        channels: C.
        size: (H, W) when the graph fixes them.
        batch: the only batch size that the graph accepts, or None.
        dtype: what the graph takes.
    """

    name: str
    layout: Literal["NCHW", "NHWC"]
    channels: int
    size: tuple[int, int] | None
    batch: int | None
    dtype: np.dtype[Any]

    def adapt(self, images: FloatArray) -> NDArray[Any]:
        """(B, C, H, W) float32 as the graph takes it."""
        arranged = images if self.layout == "NCHW" else images.transpose(0, 2, 3, 1)
        if self.levels is not None:
            arranged = np.clip(np.rint(arranged), *self.levels)
        return np.ascontiguousarray(arranged, dtype=self.dtype)

    @property
    def takes_integers(self) -> bool:
        """Whether the graph reads pixels as integers and normalises them itself."""
        return self.dtype.kind in "iu"

    @property
    def levels(self) -> tuple[int, int] | None:
        """Lowest and highest whole number that the graph reads; None where it reads real ones."""
        if not self.takes_integers:
            return None
        limits = np.iinfo(self.dtype)
        return int(limits.min), int(limits.max)

    def shape(self, batch: int, size: tuple[int, int]) -> tuple[int, ...]:
        """The graph's input shape."""
        inner = (self.channels, *size) if self.layout == "NCHW" else (*size, self.channels)
        return (batch, *inner)


def image_port(model: ir.Model, path: Path) -> Port:
    """The graph's one image input.

    Raises:
        BadModel: several inputs, another rank than 4, or a channel count that no image has.
    """
    if len(model.graph.inputs) != 1:
        names = ", ".join(str(value.name) for value in model.graph.inputs)
        raise BadModel(
            f"{path} has {len(model.graph.inputs)} inputs ({names}); a network with one image input is needed."
        )
    value = model.graph.inputs[0]
    dims = [dim if isinstance(dim, int) else None for dim in value.shape] if value.shape is not None else []
    if len(dims) != 4:
        raise BadModel(f"Input {value.name!r} of {path} has shape {value.shape}; images (B, C, H, W) are needed.")
    channels_last = (dims[1] not in (1, 3) and dims[3] in (1, 3)) or (dims[3] is None and _transposed_first(value))
    layout = "NHWC" if channels_last else "NCHW"
    channels = dims[3] if layout == "NHWC" else dims[1]
    if channels is None:
        channels = _first_kernel_channels(model) or 3
    if channels not in (1, 3):
        raise BadModel(
            f"Input {value.name!r} of {path} takes {channels} channels; images have 3 (RGB or BGR) or 1 (luminance)."
        )
    rows, columns = (dims[1], dims[2]) if layout == "NHWC" else (dims[2], dims[3])
    size = (rows, columns) if rows is not None and columns is not None else None
    if value.dtype is None:
        raise BadModel(f"Input {value.name!r} of {path} has no element type.")
    return Port(str(value.name), layout, channels, size, dims[0], value.dtype.numpy())


def _transposed_first(image: ir.Value) -> bool:
    """Whether all that reads the image first brings its last axis to the front of the spatial ones."""
    readers = [usage.node for usage in image.uses()]
    return bool(readers) and all(
        node.op_type == "Transpose"
        and "perm" in node.attributes
        and tuple(node.attributes["perm"].as_ints()) == (0, 3, 1, 2)
        for node in readers
    )


def _first_kernel_channels(model: ir.Model) -> int | None:
    for node in model.graph:
        if node.op_type == "Conv" and node.inputs[0] in model.graph.inputs:
            weight = node.inputs[1]
            if weight is not None and weight.const_value is not None:
                return int(weight.const_value.shape.numpy()[1])
    return None


def score_head(model: ir.Model, output: str) -> tuple[str, Activation]:
    """The value that holds the class scores before the last softmax or sigmoid, and which of the two follows."""
    value = next(v for v in model.graph.outputs if v.name == output)
    node = value.producer()
    while node is not None and node.op_type in KEEP_SHAPE and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    if node is not None and node.op_type in ("Softmax", "LogSoftmax", "Sigmoid") and node.inputs[0] is not None:
        return str(node.inputs[0].name), "sigmoid" if node.op_type == "Sigmoid" else "softmax"
    return output, "softmax"
