"""The file itself: checked, then written all at once or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import onnx
import onnx_ir as ir

from sightline_exporters.errors import ConversionFailed

PROTOBUF_LIMIT = 2**31 - 1  # bytes in one protobuf message


def serialise(model: ir.Model) -> bytes:
    """The checked file's bytes."""
    size = sum(
        value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None
    )
    if size > PROTOBUF_LIMIT:
        raise ConversionFailed(f"The weights take {size / 1e9:.1f} GB; one ONNX file ends at 2 GB.")
    proto = ir.serde.serialize_model(model)
    try:
        onnx.checker.check_model(proto)
    except onnx.checker.ValidationError as reason:
        raise ConversionFailed(f"torch.onnx.export wrote an invalid graph: {reason}") from reason
    return proto.SerializeToString()


def write(path: Path, content: bytes) -> None:
    """All or nothing: a temporary file, synced, renamed, and its folder synced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)  # mkstemp's own is for the owner alone
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
