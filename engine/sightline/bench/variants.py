"""A model in several precisions: as it is, made by the exporters, or given as files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.errors import UsageError
from sightline.types import Batch

if TYPE_CHECKING:
    from sightline.model import Model

MADE = ("fp16", "int8")
CALIBRATED_ON = 8  # inputs of one run


def variants(
    model: Model, wanted: Sequence[str], folder: Path, calibration: Batch
) -> tuple[list[tuple[str, Model]], list[str]]:
    """Each precision with its model, in the order asked for, and what to say of them.

    Args:
        model: as it was given; its own precision is told from the graph.
        wanted: "fp32", "fp16", "int8" or NAME=FILE.onnx; none is the model as it is.
        folder: where variants are made.
        calibration: inputs that the ranges of int8 are taken from.

    Raises:
        UsageError: a precision that can neither be made nor is there, or one twice.
    """
    own, notes = own_precision(model), list[str]()
    found: list[tuple[str, Model]] = []
    try:
        for one in wanted or (own,):
            name, _, file = one.partition("=")
            if name in dict(found):
                raise UsageError(
                    f"Precision {name!r} is asked for twice. Name a second file differently: B=FILE.onnx."
                )
            if file:
                found.append((name, like(model, file)))
            elif name == own:
                found.append((name, model))
            elif name in MADE and own == "fp32":
                found.append((name, _made(model, name, folder, calibration)))
                if name == "int8" and not calibration.photos[0].sha256:
                    notes.append("int8 was calibrated on noise: good for timing, for nothing else.")
            else:
                raise UsageError(
                    f"Precision {one!r} is not there: {model.path.name} computes in {own}. Accepted are {own}"
                    + (", fp16 and int8, which are made from it," if own == "fp32" else "")
                    + " and files: NAME=FILE.onnx."
                )
    except BaseException:
        close(found, model)
        raise
    return found, notes


def own_precision(model: Model) -> str:
    """What the graph itself computes in."""
    from sightline.routes.engines import precision_of

    return precision_of(model.graph)


def like(model: Model, source: str) -> Model:
    """Another model, read with what is known of the first where it does not say it itself.

    Raises:
        UsageError: it takes other images.
    """
    from sightline.model import load

    size, found = model.input_size, load(source)
    if found.input.size is None:
        found.close()
        found = load(source, size=size)
    if not found.has_preprocess and model.has_preprocess:
        found.preprocess = model.preprocess
    if (found.input.channels, *found.input_size) != (model.input.channels, *size):
        shape = (found.input.channels, *found.input_size)
        raise UsageError(
            f"{found.path.name} takes images of {shape} and {model.path.name} of {(model.input.channels, *size)} "
            "(C, H, W): their times cannot be compared."
        )
    return found


def close(found: Sequence[tuple[str, Model]], kept: Model) -> None:
    """Close every model but the one that was given."""
    for _, one in found:
        if one is not kept:
            one.close()


def _made(model: Model, name: str, folder: Path, calibration: Batch) -> Model:
    from sightline_exporters.variants import to_half, to_int8

    if not model.path.is_file():
        raise UsageError(
            f"{name} is made from an .onnx file, and {model.path.name} is none: sightline export it first."
        )
    path = folder / f"{model.path.stem}.{name}.onnx"
    if name == "fp16":
        to_half(model.path, path)
    else:
        to_int8(model.path, path, _batches(model, calibration))
    return like(model, str(path))


def _batches(model: Model, images: Batch) -> Iterator[Any]:
    size = model.input.batch or CALIBRATED_ON
    for start in range(0, len(images) - size + 1 if model.input.batch else len(images), size):
        yield model.input.adapt(images.tensor[start : start + size])
