"""A graph as bytes that a runtime reads, its large weights beside them."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sightline.errors import BadModel

MOST = (2 << 30) - 1  # bytes that a protocol buffer may have
LARGE = 1 << 16  # bytes from which a weight is handed over as it lies in memory
NATIVE = "fiub"  # kinds of numbers that NumPy and every runtime write alike


@dataclass(frozen=True)
class Serialised:
    """A graph for a runtime that takes weights from memory.

    Attributes:
        graph: the protocol buffer, in which large weights are only named.
        weights: those, by name; not copied. They must outlive the session.
    """

    graph: bytes
    weights: Mapping[str, NDArray[Any]]


def serialise(model: ir.Model) -> Serialised:
    """The graph and its large weights, of which no copy is made.

    Raises:
        BadModel: more than 2 GiB remain in the graph, which the format cannot hold.
    """
    large = {
        str(value.name): value
        for value in model.graph.initializers.values()
        if value.const_value is not None and value.const_value.nbytes >= LARGE and not value.is_graph_input()
        and (value.uses() or value.is_graph_output())  # ONNX Runtime drops the others and then misses them
    }  # fmt: skip
    weights = {name: np.ascontiguousarray(value.const_value.numpy()) for name, value in large.items()}  # type: ignore[union-attr]
    weights = {name: array for name, array in weights.items() if array.dtype.kind in NATIVE}
    with _named_only([large[name] for name in weights]):
        proto = ir.serde.serialize_model(model)
    if proto.ByteSize() > MOST:
        raise BadModel(
            f"The graph has {proto.ByteSize():,} bytes beside its weights; more than 2 GiB cannot be rewritten."
        )
    return Serialised(proto.SerializeToString(), weights)


@contextmanager
def _named_only(values: list[ir.Value]) -> Generator[None]:
    """Meanwhile these weights claim to lie in a file, so that they are not written out."""
    held = [value.const_value for value in values]
    try:
        for value, tensor in zip(values, held, strict=True):
            assert tensor is not None
            value.const_value = ir.ExternalTensor(
                "weights", 0, tensor.nbytes, tensor.dtype, shape=ir.Shape(tensor.shape.numpy()), name=str(value.name)
            )
        yield
    finally:
        for value, tensor in zip(values, held, strict=True):
            value.const_value = tensor
