"""A graph as bytes that a runtime reads."""

from __future__ import annotations

import onnx_ir as ir

from sightline.errors import BadModel

LARGEST = (2 << 30) - 1  # bytes that a protocol buffer may have


def serialise(model: ir.Model) -> bytes:
    """The graph with its weights in one protocol buffer.

    Raises:
        BadModel: larger than 2 GiB, which the format cannot hold.
    """
    proto = ir.serde.serialize_model(model)
    if proto.ByteSize() > LARGEST:
        raise BadModel(
            f"The graph has {proto.ByteSize():,} bytes; models beyond 2 GiB cannot be rewritten in memory."
        )
    return proto.SerializeToString()
