"""What an exported file says about itself: preprocessing, labels, source, exporter, parity."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, cast

import onnx_ir as ir

from sightline_exporters.errors import BadRequest

PREPROCESS = "sightline.preprocess"
LABELS = "sightline.labels"
SOURCE = "sightline.source"
EXPORTER = "sightline.exporter"
PARITY = "sightline.parity"

FIELDS = ("resize", "crop", "interpolation", "antialias", "channels", "scale", "mean", "std")
INTERPOLATIONS = ("bilinear", "bicubic", "nearest", "lanczos", "box")
# What the dynamo exporter notes of where a node came from. The rest of its notes are traces of the torch
# program: they name files of the exporting machine and outweigh the graph.
KEPT_NOTES = ("pkg.torch.onnx.name_scopes", "pkg.torch.onnx.class_hierarchy")


def preprocess_fields(
    *,
    resize: int | Sequence[int] | None,
    crop: Sequence[int] | None,
    interpolation: str,
    mean: Sequence[float],
    std: Sequence[float],
    antialias: bool = True,
    channels: str = "RGB",
    scale: float = 1 / 255,
) -> dict[str, object]:
    """The eight fields, checked: ``(pixel * scale - mean) / std`` after resizing and cropping pixels of 0 to 255.

    Args:
        resize: shorter side, or (height, width), in pixels; None leaves the size.
        crop: (height, width) about the centre; None leaves it.
        interpolation: how to resize.
        mean: per channel, in scaled units.
        std: per channel, in scaled units.
        antialias: whether shrinking filters first.
        channels: "RGB", "BGR" or "L".
        scale: what a pixel is multiplied with.
    """
    fields: dict[str, object] = {
        "resize": resize if resize is None or isinstance(resize, int) else [int(n) for n in resize],
        "crop": None if crop is None else [int(n) for n in crop],
        "interpolation": interpolation,
        "antialias": bool(antialias),
        "channels": channels,
        "scale": float(scale),
        "mean": [float(n) for n in mean],
        "std": [float(n) for n in std],
    }
    check_preprocess(fields)
    return fields


def check_preprocess(fields: Mapping[str, object]) -> None:
    """Refuse a preprocessing that no reader could follow.

    Raises:
        BadRequest: fields missing, unknown or out of range.
    """
    missing, unknown = sorted(set(FIELDS) - set(fields)), sorted(set(fields) - set(FIELDS))
    if missing or unknown:
        raise BadRequest(
            f"The preprocessing lacks {missing or 'nothing'} and has unknown {unknown or 'nothing'}; "
            f"it takes exactly {', '.join(FIELDS)}."
        )
    _check_one_of("interpolation", fields["interpolation"], INTERPOLATIONS)
    _check_one_of("channels", fields["channels"], ("RGB", "BGR", "L"))
    count = 1 if fields["channels"] == "L" else 3
    for name in ("mean", "std"):
        values = cast("Sequence[Any]", fields[name])
        if len(values) != count or not all(isinstance(value, Real) for value in values):
            raise BadRequest(f"{name} {values!r} must be {count} number(s) for channels {fields['channels']!r}.")
    if any(value == 0 for value in (*cast("Sequence[float]", fields["std"]), fields["scale"])):
        raise BadRequest(f"scale {fields['scale']!r} and std {fields['std']!r} must not be 0.")


def with_size(fields: Mapping[str, object], size: tuple[int, int]) -> dict[str, object]:
    """The same preprocessing for another input size: the crop becomes it, the resize follows in proportion."""
    changed = dict(fields)
    resize, crop = fields["resize"], cast("Sequence[int] | None", fields["crop"])
    if isinstance(resize, int) and crop is not None:
        changed["resize"] = round(min(size) * resize / min(crop))
        changed["crop"] = list(size)
    elif crop != list(size):
        changed["resize"], changed["crop"] = list(size), None
    return changed


def stamp(
    model: ir.Model,
    *,
    source: str,
    exporter: str,
    preprocess: Mapping[str, object] | None,
    labels: Sequence[str] | None,
) -> None:
    """Write the metadata into the model, and take the exporting machine's traces out of it."""
    model.metadata_props.update({SOURCE: source, EXPORTER: exporter})
    if preprocess is not None:
        model.metadata_props[PREPROCESS] = json.dumps(dict(preprocess), sort_keys=True)
    if labels is not None:
        model.metadata_props[LABELS] = json.dumps(list(labels), ensure_ascii=False)
    model.graph.metadata_props.clear()
    for node in model.graph.all_nodes():
        node.doc_string = None
        for key in [key for key in node.metadata_props if key not in KEPT_NOTES]:
            del node.metadata_props[key]
        for output in node.outputs:
            output.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()


def _check_one_of(name: str, given: object, accepted: Sequence[str]) -> None:
    if given not in accepted:
        raise BadRequest(f"{name} {given!r} is not one of {', '.join(accepted)}.")
