"""One ``.onnx`` file from a torch module or the name of a published model."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import torch

from sightline_exporters import metadata
from sightline_exporters.conversion import EXPORTERS, OPSET, OPSETS, Exporter, convert
from sightline_exporters.errors import BadRequest, ConversionFailed, ParityFailed
from sightline_exporters.parity import Parity, flatten, measure
from sightline_exporters.sources import Source, open_source

TOLERANCE = 1e-4  # relative; float32 sums in another order differ by 1e-7 to 1e-5 in networks of 20 to 150 layers
PROTOBUF_LIMIT = 2**31 - 1  # bytes in one protobuf message
Size = int | tuple[int, int]
Shape = tuple[int | str, ...]


@dataclass(frozen=True)
class Export:
    """What was written and how well it agrees with the module.

    Attributes:
        path: of the file.
        source: kind, name and weights.
        opset: of the default domain.
        exporter: of torch.onnx.
        inputs: shape by name; an open dimension is its name.
        outputs: likewise.
        parameters: of the module.
        bytes: of the file.
        parity: torch against ONNX Runtime.
        seconds: for all of it.
    """

    path: Path
    source: str
    opset: int
    exporter: str
    inputs: Mapping[str, Shape]
    outputs: Mapping[str, Shape]
    parameters: int
    bytes: int
    parity: Parity
    seconds: float

    def __str__(self) -> str:
        ports = " -> ".join(
            ", ".join(f"{name} ({', '.join(map(str, shape))})" for name, shape in side.items())
            for side in (self.inputs, self.outputs)
        )
        return (
            f"{self.source} -> {self.path} ({self.bytes / 1e6:.1f} MB, {self.parameters / 1e6:.2f} M parameters, "
            f"opset {self.opset}, {self.exporter}, {self.seconds:.1f} s)\n"
            f"{ports}\n"
            f"torch against ONNX Runtime: {self.parity}"
        )


def export(
    source: str | torch.nn.Module,
    path: Path,
    *,
    example: torch.Tensor | None = None,
    weights: Path | str | None = None,
    size: Size | None = None,
    opset: int = OPSET,
    exporter: Exporter = "dynamo",
    labels: Sequence[str] | None = None,
    preprocess: Mapping[str, object] | None = None,
    tolerance: float = TOLERANCE,
    seed: int = 0,
    random_weights: bool = False,
) -> Export:
    """Write one ONNX file with an open batch, module names, preprocessing and labels, if it computes what torch does.

    Args:
        source: a module, or ``torchvision:NAME[@WEIGHTS]``, or ``timm:NAME[@TAG]``; ``@none`` means random weights.
        path: of the file; replaced in one step, and only after everything was checked.
        example: (B, C, H, W) input; a module needs it or ``size``.
        weights: local file for a named model, instead of the published one.
        size: (height, width) of the input, or the side of a square, in pixels; the published one unless told.
        opset: 18 to 20.
        exporter: "dynamo" records the module of every node; "torchscript" takes modules that dynamo refuses.
        labels: K class names instead of the publisher's.
        preprocess: the fields of ``metadata.FIELDS`` instead of the publisher's.
        tolerance: largest accepted ``max |onnx - torch| / max |torch|``.
        seed: of the random inputs and of random weights.
        random_weights: draw weights instead of fetching them.

    Raises:
        BadRequest: the call is wrong; UnknownSource: so is a name.
        MissingExtra, MissingWeights, BadWeights: the model cannot be built.
        ConversionFailed: torch cannot export it.
        ParityFailed: the file would differ; nothing is written.
    """
    started = time.perf_counter()
    path = Path(path)
    _check_options(path, opset, exporter, tolerance)
    opened = _open(source, weights=weights, random=random_weights, seed=seed)
    if preprocess is not None:
        metadata.check_preprocess(preprocess)
    opened = replace(opened, preprocess=preprocess if preprocess is not None else opened.preprocess)
    example = _example(opened, example, size)
    if opened.preprocess is not None and preprocess is None:
        height, width = int(example.shape[2]), int(example.shape[3])
        opened = replace(opened, preprocess=metadata.with_size(opened.preprocess, (height, width)))
    with _evaluation(opened.module):
        answer = _run_once(opened.module, example)
        names = _output_names(answer)
        model = convert(opened.module, example, exporter=exporter, opset=opset, outputs=names)
        metadata.stamp(
            model,
            source=opened.description,
            exporter=f"torch {torch.__version__}, {exporter}, opset {opset}",
            preprocess=opened.preprocess,
            labels=_labels(labels, opened.labels, flatten(answer)[0]),
        )
        parity = _prove(opened.module, _serialised(model), example, seed=seed, tolerance=tolerance)
    model.metadata_props[metadata.PARITY] = str(parity)
    file = _serialised(model)
    _write(path, file)
    return Export(
        path=path,
        source=opened.description,
        opset=opset,
        exporter=exporter,
        inputs=_ports(model.graph.inputs),
        outputs=_ports(model.graph.outputs),
        parameters=sum(parameter.numel() for parameter in opened.module.parameters()),
        bytes=len(file),
        parity=parity,
        seconds=time.perf_counter() - started,
    )


def _check_options(path: Path, opset: int, exporter: str, tolerance: float) -> None:
    if opset not in OPSETS:
        raise BadRequest(f"opset {opset} is not one of {OPSETS.start} to {OPSETS.stop - 1}.")
    if exporter not in EXPORTERS:
        raise BadRequest(f"exporter {exporter!r} is not one of {', '.join(EXPORTERS)}.")
    if not 0 <= tolerance < float("inf"):
        raise BadRequest(f"tolerance {tolerance} must be a finite number of at least 0.")
    if path.is_dir():
        raise BadRequest(f"{path} is a folder. Name the file to write, such as {path / 'model.onnx'}.")


def _open(source: str | torch.nn.Module, *, weights: Path | str | None, random: bool, seed: int) -> Source:
    if isinstance(source, torch.nn.Module):
        if weights is not None or random:
            raise BadRequest(
                "weights and random_weights belong to named models; fill the module before exporting it."
            )
        name = f"{type(source).__module__}.{type(source).__qualname__}"
        return Source(source, name, channels=3, size=None, preprocess=None, labels=None)
    if weights is not None and random:
        raise BadRequest(f"weights {str(weights)!r} and random_weights exclude each other. Pass one of them.")
    with torch.random.fork_rng(devices=[]):  # random weights follow the seed, the caller's generator stays as it was
        torch.manual_seed(seed)
        return open_source(source, file=None if weights is None else Path(weights), random=random)


def _example(source: Source, example: torch.Tensor | None, size: Size | None) -> torch.Tensor:
    """(B, C, H, W) on the module's device, B at least 2."""
    tensors = [*source.module.parameters(), *source.module.buffers()]
    floating = [tensor for tensor in tensors if tensor.is_floating_point()]
    device = tensors[0].device if tensors else torch.device("cpu")
    if example is None:
        chosen = (size, size) if isinstance(size, int) else size or source.size
        if chosen is None:
            raise BadRequest(
                f"{source.description} does not say its input's size. Pass example=(B, C, H, W) or size."
            )
        dtype = floating[0].dtype if floating else torch.float32
        generator = torch.Generator().manual_seed(0)
        example = torch.randn((2, source.channels, *chosen), generator=generator).to(dtype)
    elif size is not None:
        raise BadRequest("example and size exclude each other. Pass one of them.")
    if example.ndim != 4 or not example.is_floating_point():
        raise BadRequest(
            f"The example is {example.dtype} of shape {tuple(example.shape)}; a floating (B, C, H, W) is needed."
        )
    if example.shape[0] < 2:
        example = example.repeat(2, 1, 1, 1)
    return example.detach().to(device)


@contextlib.contextmanager
def _evaluation(module: torch.nn.Module) -> Generator[None]:
    """Evaluation mode, and afterwards for every submodule the mode that it had."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def _run_once(module: torch.nn.Module, example: torch.Tensor) -> Any:
    shape = tuple(example.shape)
    try:
        with torch.no_grad():
            answer = module(example)
    except Exception as reason:  # the module is the caller's: it may raise anything
        raise ConversionFailed(
            f"{type(module).__name__} does not run on an input of shape {shape}: {reason}\n"
            "Pass another size, or an example as the module takes it."
        ) from reason
    tensors = flatten(answer)
    if not tensors:
        raise ConversionFailed(f"{type(module).__name__} returns no tensor, but {type(answer).__name__}.")
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
        raise ConversionFailed(f"{type(module).__name__} returns NaN or infinity for an input of shape {shape}.")
    return answer


def _output_names(answer: Any) -> list[str]:
    """Keys of a mapping; for one tensor "logits" if it is (B, K), else "output"; else numbered."""
    tensors = flatten(answer)
    if isinstance(answer, Mapping) and len(answer) == len(tensors):
        return [str(key) for key in answer]
    if len(tensors) == 1:
        return ["logits" if tensors[0].ndim == 2 else "output"]
    return [f"output_{index}" for index in range(len(tensors))]


def _labels(given: Sequence[str] | None, known: Sequence[str] | None, output: torch.Tensor) -> Sequence[str] | None:
    """The caller's names, else the publisher's if there are as many as outputs."""
    count = int(output.shape[1]) if output.ndim > 1 else 0
    if given is not None and len(given) != count:
        raise BadRequest(f"{len(given)} labels were given for an output of shape (B, {count}).")
    return given if given is not None else known if known is not None and len(known) == count else None


def _serialised(model: ir.Model) -> bytes:
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


def _prove(module: torch.nn.Module, file: bytes, example: torch.Tensor, *, seed: int, tolerance: float) -> Parity:
    try:
        parity = measure(module, file, example, seed=seed)
    except Exception as reason:  # ONNX Runtime's errors have no common base but Exception
        raise ConversionFailed(f"ONNX Runtime does not run the exported graph: {reason}") from reason
    if not parity.difference <= tolerance:  # so that NaN is refused
        raise ParityFailed(
            f"The exported graph does not compute what {type(module).__name__} does: {parity}; "
            f"the tolerance is {tolerance:.0e}. Nothing was written.\n"
            "Look for randomness in evaluation mode and for code that depends on values; try the other exporter.",
            parity,
        )
    return parity


def _write(path: Path, content: bytes) -> None:
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


def _ports(values: Sequence[ir.Value]) -> dict[str, Shape]:
    return {
        str(value.name): tuple(dim if isinstance(dim, int) else str(dim.value) for dim in value.shape or ())
        for value in values
    }
