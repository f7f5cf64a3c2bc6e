"""Write a torch model as one ONNX file that computes the same: sightline export SOURCE -o FILE."""

from __future__ import annotations

import json as json_format
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from sightline.commands._options import parse_size
from sightline.labels import read_labels


def export(
    source: Annotated[str, Parameter(help="torchvision:NAME[@WEIGHTS] or timm:NAME; @none draws random weights.")],
    /,
    *,
    out: Annotated[Path, Parameter(name=("--out", "-o"), help="The .onnx file to write.")],
    weights: Annotated[Path | None, Parameter(help="Local weights, where there is no network.")] = None,
    size: Annotated[str | None, Parameter(help="Input size in pixels: 224 or HEIGHTxWIDTH.")] = None,
    opset: Annotated[int | None, Parameter(help="ONNX opset.")] = None,
    exporter: Annotated[Literal["dynamo", "torchscript"], Parameter(help="Which exporter of torch.")] = "dynamo",
    labels: Annotated[Path | None, Parameter(help="Class names instead of the published ones.")] = None,
    tolerance: Annotated[float | None, Parameter(help="Largest relative difference from torch.")] = None,
    json: Annotated[bool, Parameter(help="Print one JSON object.", negative="")] = False,
) -> int:
    """Export, measure torch against ONNX Runtime on fresh random inputs, and refuse a difference."""
    import sightline_exporters

    chosen = {
        "opset": opset,
        "tolerance": tolerance,
        "size": parse_size(size, "--size"),
        "labels": read_labels(labels),
    }
    options = {name: value for name, value in chosen.items() if value is not None}
    made = sightline_exporters.export(source, out, weights=weights, exporter=exporter, **options)  # type: ignore[arg-type]
    print(json_format.dumps(asdict(made), default=str) if json else made)
    return 0
