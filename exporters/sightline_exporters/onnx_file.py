"""One ``.onnx`` file from a torch module or the name of a published model."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import onnx_ir as ir
import torch

from sightline_exporters import metadata
from sightline_exporters.conversion import EXPORTERS, OPSET, OPSETS, Exporter, convert
from sightline_exporters.errors import BadRequest, ConversionFailed, ParityFailed
from sightline_exporters.example import Size, evaluation, make_example, output_names, run_once
from sightline_exporters.parity import Parity, flatten, measure
from sightline_exporters.sources import Source, open_source
from sightline_exporters.writing import serialise, write

TOLERANCE = 1e-4  # relative; float32 sums in another order differ by 1e-7 to 1e-5 in networks of 20 to 150 layers
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
    open_size: bool = False,
    further: Mapping[str, torch.Tensor] | None = None,
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
        open_size: leave height and width open beside the batch; only the "torchscript" exporter does.
        further: what a module takes behind the images, by input name, of fixed shape; parity is measured with it.

    Raises:
        BadRequest: the call is wrong; UnknownSource: so is a name.
        MissingExtra, MissingWeights, BadWeights: the model cannot be built.
        ConversionFailed: torch cannot export it.
        ParityFailed: the file would differ; nothing is written.
    """
    started = time.perf_counter()
    path = Path(path)
    _check_options(path, opset, exporter, tolerance)
    if open_size and exporter != "torchscript":
        raise BadRequest(f"open_size needs exporter='torchscript', not {exporter!r}.")
    opened = _open(source, weights=weights, random=random_weights, seed=seed)
    if preprocess is not None:
        metadata.check_preprocess(preprocess)
    if example is None and size is None:
        size = _crop(preprocess)
    example = make_example(opened, example, size)
    with evaluation(opened.module):
        answer = run_once(opened.module, example, *(further or {}).values())
        model = convert(
            opened.module, example, exporter=exporter, opset=opset, outputs=output_names(answer),
            open_size=open_size, further=further,
        )  # fmt: skip
        metadata.stamp(
            model,
            source=opened.description,
            exporter=f"torch {torch.__version__}, {exporter}, opset {opset}",
            preprocess=_preprocess(preprocess, opened.preprocess, example),
            labels=_labels(labels, opened.labels, flatten(answer)[0]),
        )
        parity = _prove(opened.module, serialise(model), example, further, seed=seed, tolerance=tolerance)
    model.metadata_props[metadata.PARITY] = str(parity)
    file = serialise(model)
    write(path, file)
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


def _crop(preprocess: Mapping[str, object] | None) -> tuple[int, int] | None:
    crop = cast("Sequence[int] | None", preprocess["crop"]) if preprocess is not None else None
    return None if crop is None else (crop[0], crop[1])


def _preprocess(
    given: Mapping[str, object] | None, known: Mapping[str, object] | None, example: torch.Tensor
) -> Mapping[str, object] | None:
    """The caller's, which must fit the input, else the publisher's, made to fit it."""
    channels, height, width = map(int, example.shape[1:])
    if given is None:
        return None if known is None else metadata.with_size(known, (height, width))
    if _crop(given) not in (None, (height, width)) or channels != (1 if given["channels"] == "L" else 3):
        raise BadRequest(
            f"The preprocessing makes {given['channels']} images of {given['crop']}, but the input is "
            f"{channels} x {height} x {width}. Change one of them."
        )
    return given


def _labels(given: Sequence[str] | None, known: Sequence[str] | None, output: torch.Tensor) -> Sequence[str] | None:
    """The caller's names, else the publisher's if there are as many as outputs."""
    count = int(output.shape[1]) if output.ndim > 1 else 0
    if given is not None and len(given) != count:
        raise BadRequest(f"{len(given)} labels were given for an output of shape (B, {count}).")
    return given if given is not None else known if known is not None and len(known) == count else None


def _prove(
    module: torch.nn.Module,
    file: bytes,
    example: torch.Tensor,
    further: Mapping[str, torch.Tensor] | None,
    *,
    seed: int,
    tolerance: float,
) -> Parity:
    try:
        parity = measure(module, file, example, seed=seed, further=further)
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


def _ports(values: Sequence[ir.Value]) -> dict[str, Shape]:
    return {
        str(value.name): tuple(dim if isinstance(dim, int) else str(dim.value) for dim in value.shape or ())
        for value in values
    }
