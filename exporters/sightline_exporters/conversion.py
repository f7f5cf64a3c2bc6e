"""A module becomes a graph: the two exporters of torch.onnx."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import warnings
from collections.abc import Generator, Mapping, Sequence
from typing import Any, Literal

import onnx
import onnx_ir as ir
import torch
from torch.jit import TracerWarning  # pyright: ignore[reportPrivateImportUsage]

from sightline_exporters.errors import ConversionFailed

Exporter = Literal["dynamo", "torchscript"]
EXPORTERS: tuple[Exporter, ...] = ("dynamo", "torchscript")
# 18 is the opset that the dynamo exporter's translations are written for: a higher one changes only the version that
# the file claims, or passes through a converter. Both exporters write it, every ONNX Runtime since 1.14 reads it.
OPSET = 18
OPSETS = range(18, 21)  # the TorchScript exporter ends at 20
# The first version with metadata on nodes, where module names live; every ONNX Runtime since 1.18 reads it.
IR_VERSION = 10

INPUT = "input"


def convert(
    module: torch.nn.Module,
    example: torch.Tensor,
    *,
    exporter: Exporter,
    opset: int,
    outputs: Sequence[str],
    open_size: bool = False,
    further: Mapping[str, torch.Tensor] | None = None,
) -> ir.Model:
    """The graph of a module in evaluation mode, its batch left open.

    Args:
        module: takes the images, and what is further given.
        example: (B, C, H, W), B at least 2: an exporter takes a 1 for a constant.
        exporter: "dynamo" traces the program symbolically, notes the module of every node, and refuses what depends
            on data; "torchscript" records one run: older, notes modules in node names, and takes more modules.
        opset: of the default domain.
        outputs: names.
        open_size: with height and width open too, through "torchscript".
        further: inputs behind the images, by name, of fixed shape.

    Raises:
        ConversionFailed: with what else to try.
    """
    try:
        if exporter == "dynamo":
            model = _through_dynamo(module, example, opset, outputs, further or {})
        else:
            model = _through_torchscript(module, example, opset, outputs, open_size, further or {})
    except Exception as reason:  # whatever a foreign compiler raises means the same to the caller
        other = "torchscript" if exporter == "dynamo" else "dynamo"
        raise ConversionFailed(
            f"torch.onnx.export cannot translate {type(module).__name__} with exporter={exporter!r}: "
            f"{_first_lines(reason)}\nTry exporter={other!r}, or change the module where the message points."
        ) from reason
    model.ir_version = IR_VERSION
    batch = model.graph.inputs[0].shape
    if batch is None or isinstance(batch[0], int):
        raise ConversionFailed(
            f"{type(module).__name__} works only at batch {None if batch is None else batch[0]}, because its code "
            "fixes that number. Take the batch size from the input's shape (x.shape[0])."
        )
    return model


def _through_dynamo(
    module: torch.nn.Module,
    example: torch.Tensor,
    opset: int,
    outputs: Sequence[str],
    further: Mapping[str, torch.Tensor],
) -> ir.Model:
    program: Any = torch.onnx.export(
        module,
        (example, *further.values()),
        dynamo=True,
        dynamic_shapes=({0: "batch"}, *({} for _ in further)),
        input_names=[INPUT, *further],
        output_names=list(outputs),
        opset_version=opset,
        external_data=False,
        verbose=False,
    )
    return program.model


def _through_torchscript(
    module: torch.nn.Module,
    example: torch.Tensor,
    opset: int,
    outputs: Sequence[str],
    open_size: bool,
    further: Mapping[str, torch.Tensor],
) -> ir.Model:
    file = io.BytesIO()
    free = {0: "batch", 2: "height", 3: "width"} if open_size else {0: "batch"}
    with _standard_output_shut(), warnings.catch_warnings():
        # The caller chose this exporter by name: that it is the older one is no news.
        warnings.filterwarnings("ignore", message="You are using the legacy TorchScript", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message="The feature will be removed", category=DeprecationWarning)
        # Without running statistics it has one mode only.
        warnings.filterwarnings("ignore", message="ONNX export mode is set .* operator 'instance_norm'")
        # A branch on a shape is recorded as taken; the parity check runs other batch sizes than the example's.
        warnings.filterwarnings("ignore", category=TracerWarning)
        torch.onnx.export(
            module,
            (example, *further.values()),
            file,  # pyright: ignore[reportArgumentType]
            dynamo=False,
            dynamic_axes=dict.fromkeys((INPUT, *outputs), free),
            input_names=[INPUT, *further],
            output_names=list(outputs),
            opset_version=opset,
        )
    return ir.serde.deserialize_model(onnx.load_model_from_string(file.getvalue()))


@contextlib.contextmanager
def _standard_output_shut() -> Generator[None]:
    """Drop what C++ writes to descriptor 1: on failure this exporter prints its whole graph there, unasked.

    The error that it raises says the same in words, and standard output may belong to a program that parses it.
    """
    sys.stdout.flush()
    kept, sink = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(sink)


def _first_lines(reason: Exception) -> str:
    lines = [line.rstrip() for line in str(reason).splitlines() if line.strip()]
    cause = reason.__cause__
    shown = lines[:6] or [type(reason).__name__]
    if cause is not None and str(cause) and str(cause) not in str(reason):
        shown.append(f"{type(cause).__name__}: {str(cause).strip().splitlines()[0]}")
    return "\n".join(shown)
