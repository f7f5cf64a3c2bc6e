"""Variants of a model in another precision, by ONNX Runtime's own tools: fp16, and static int8 with calibration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from io import StringIO
from itertools import chain
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from sightline_exporters.errors import BadRequest

Calibration = Literal["minmax", "entropy", "percentile"]
EXPORTER = "sightline.exporter"
INT8_OPSET = 13  # the oldest in which a quantised weight has a scale per channel
INT8_IR = 7  # IR version that came with that opset
QUANTISED = ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "ConvInteger", "MatMulInteger", "QLinearMatMul")


def to_half(source: Path, path: Path, *, exclude: Sequence[str] = ()) -> Path:
    """The network in fp16, inputs and outputs left as they are.

    Args:
        source: an ONNX file.
        path: of the new one.
        exclude: nodes by name that stay in fp32.

    Raises:
        BadRequest: a node of that name is not there, or the network is in fp16 already.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = onnx.load(source)
    _check_nodes(model, exclude)
    if any(one.data_type == onnx.TensorProto.FLOAT16 for one in model.graph.initializer):
        raise BadRequest(f"{source} holds weights in fp16 already: there is nothing to convert.")
    made: Any = convert_float_to_float16(model, keep_io_types=True, node_block_list=list(exclude))
    graph = ir.from_proto(made)
    graph.graph.sort()  # the converter puts the casts of the inputs last
    return _saved(ir.to_proto(graph), onnx.load(source), path, "fp16")


def to_int8(
    source: Path,
    path: Path,
    batches: Iterator[NDArray[np.float32]],
    *,
    calibration: Calibration = "minmax",
    exclude: Sequence[str] = (),
) -> Path:
    """The network in int8: quantise-dequantise pairs, weights per channel, ranges from photographs.

    A graph of an opset before 13, which has no scale per channel, is converted to 13 first.

    Args:
        source: an ONNX file.
        path: of the new one.
        batches: model inputs (b, C, H, W), as the graph takes them, that are typical; all of one size.
        calibration: how a range is chosen: the extremes seen, least entropy, or the 99.999th percentile.
        exclude: nodes by name that stay in fp32.

    Raises:
        BadRequest: a node of that name is not there, the network is quantised already, no photograph to
            calibrate on, or an opset that is too old and cannot be raised. Nothing is left at ``path`` then.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    model = onnx.load(source)
    _check_nodes(model, exclude)
    if any(node.op_type in QUANTISED for node in model.graph.node):
        raise BadRequest(f"{source} is quantised already. Begin with the network in fp32.")
    prepared = path.with_name(path.name + ".prepared")
    weights = {one.name for one in model.graph.initializer}  # before IR version 4 the inputs list them too
    first = next(batches, None)
    if first is None:
        raise BadRequest("int8 needs photographs to calibrate on: none were given.")
    reader = _Reader(next(one.name for one in model.graph.input if one.name not in weights), chain((first,), batches))
    try:
        quant_pre_process(_raised(model, source), str(prepared), skip_symbolic_shape=True)
        with redirect_stdout(StringIO()):  # it prints what it does, beside the one JSON object that was asked for
            quantize_static(
                str(prepared),
                str(path),
                cast(Any, reader),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                weight_type=QuantType.QInt8,
                activation_type=QuantType.QUInt8,
                nodes_to_exclude=list(exclude),
                calibrate_method={
                    "minmax": CalibrationMethod.MinMax, "entropy": CalibrationMethod.Entropy,
                    "percentile": CalibrationMethod.Percentile,
                }[calibration],
            )  # fmt: skip
        onnx.checker.check_model(str(path))
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        prepared.unlink(missing_ok=True)
    return _saved(onnx.load(path), model, path, f"int8, {calibration} over {reader.seen} images")


def _raised(model: onnx.ModelProto, source: Path) -> str | onnx.ModelProto:
    """The file, or its graph in the oldest opset that holds int8 weights."""
    opset = max((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), default=0)
    if opset >= INT8_OPSET:
        return str(source)
    weights = {one.name for one in model.graph.initializer}
    try:
        raised = onnx.version_converter.convert_version(model, INT8_OPSET)
    except Exception as reason:  # the converter's errors have no common base but Exception
        raise BadRequest(
            f"{source} is written in opset {opset}; int8 needs {INT8_OPSET}, and onnx.version_converter cannot "
            f"raise it ({reason}). Export the model again with opset {INT8_OPSET} or later."
        ) from reason
    raised.ir_version = max(raised.ir_version, INT8_IR)
    inputs = [one for one in raised.graph.input if one.name not in weights]  # from IR 4 on a listed weight may change
    del raised.graph.input[:]
    raised.graph.input.extend(inputs)
    return raised


class _Reader:
    """Hands batches to ONNX Runtime's calibration."""

    def __init__(self, name: str, batches: Iterator[NDArray[np.float32]]):
        self._name, self._batches, self.seen = name, batches, 0

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """The next feed, or None at the end."""
        batch = next(self._batches, None)
        if batch is None:
            return None
        self.seen += len(batch)
        return {self._name: batch}

    def __len__(self) -> int:
        return 1 << 30  # nobody knows yet

    def set_range(self, start_index: int, end_index: int) -> None:
        """Asked for in strides only, which are not used."""


def _check_nodes(model: onnx.ModelProto, names: Sequence[str]) -> None:
    known = {node.name for node in model.graph.node if node.name}
    missing = [name for name in names if name not in known]
    if missing:
        raise BadRequest(
            f"No node is named {missing[0]!r}. Nodes are listed by sightline inspect; the first are "
            f"{', '.join(sorted(known)[:5])}."
        )


def _saved(made: onnx.ModelProto, source: onnx.ModelProto, path: Path, how: str) -> Path:
    """Keep what the source said of itself, and add what was done to it."""
    notes = {entry.key: entry.value for entry in source.metadata_props}
    notes[EXPORTER] = f"{notes.get(EXPORTER, 'unknown')}; then {how}"
    del made.metadata_props[:]
    for key, value in notes.items():
        made.metadata_props.add(key=key, value=value)
    onnx.save(made, path)
    return path
