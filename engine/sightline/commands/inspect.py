"""Show a model's layers, input, preprocessing, and which routes can run it."""

from __future__ import annotations

import json as json_format
from typing import Annotated, Any

from cyclopts import Parameter

from sightline.commands._options import ComputeOptions, ModelOptions
from sightline.dispatch import survey
from sightline.graph.layers import Layer
from sightline.methods.forward.occlusion import Occlusion
from sightline.model import Model
from sightline.routes.window_sweep import SweepOutline, sweep_outline


def inspect(
    model: Annotated[str, Parameter(help="An .onnx file, demo, torchvision:NAME[@WEIGHTS] or timm:NAME.")],
    /,
    *,
    window: Annotated[int, Parameter(help="Side of the windows of an occlusion sweep, in pixels.")] = 16,
    stride: Annotated[int, Parameter(help="Pixels between neighbouring windows.")] = 8,
    json: Annotated[bool, Parameter(help="Print one JSON object.", negative="")] = False,
    model_options: ModelOptions = ModelOptions(),  # noqa: B008 - frozen
    compute: ComputeOptions = ComputeOptions(),  # noqa: B008
) -> int:
    """List layers (name, operator, shape, parameters, multiply-accumulates, receptive field) and routes.

    For an occlusion sweep with these windows, what of each layer one window changes, and what the sweep would cost.
    """
    with model_options.load(model) as network:
        facts = model_facts(network, compute, Occlusion(window=window, stride=stride))
        print(json_format.dumps(facts) if json else _text(facts))
    return 0


def model_facts(model: Model, compute: ComputeOptions, occlusion: Occlusion) -> dict[str, Any]:
    """Everything that the command tells, as JSON has it."""
    sweep = sweep_outline(model, occlusion.windows_of(*model.input_size))
    return {
        "file": model.path.name,
        "sha256": model.sha256,
        "input": {
            "name": model.input.name, "layout": model.input.layout, "channels": model.input.channels,
            "size": list(model.input_size), "size_is_fixed": model.input.size is not None,
            "batch": model.input.batch, "dtype": str(model.input.dtype),
        },
        "output": {"name": model.output, "logits": model.logits_name, "activation": model.activation},
        "preprocess": str(model.preprocess) if model.has_preprocess else None,
        "labels": len(model.labels),
        "parameters": model.layers.parameters,
        "macs": model.layers.macs,
        "layers": [_layer_facts(layer, sweep) for layer in model.layers],
        "sweep": {
            "method": repr(occlusion), "windows": sweep.windows, "speed_up": sweep.speed_up, "ceiling": sweep.ceiling,
            "bytes": sweep.bytes, "reasons": list(sweep.reasons),
        },
        "routes": survey(model, compute.settings()),
    }  # fmt: skip


def _layer_facts(layer: Layer, sweep: SweepOutline) -> dict[str, Any]:
    field = layer.field
    return {
        "name": layer.name,
        "module": layer.module,
        "operator": layer.operator,
        "shape": list(layer.shape),
        "parameters": layer.parameters,
        "macs": layer.macs,
        "receptive_field": None if field is None else list(field.size),
        "computed_per_window": list(sweep.computed[layer.name]) if layer.name in sweep.computed else None,
        "jump": None if field is None else [float(field.rows.jump), float(field.columns.jump)],
    }


def _text(facts: dict[str, Any]) -> str:
    source = facts["input"]
    size = "×".join(map(str, source["size"])) + ("" if source["size_is_fixed"] else " (any)")
    batch = "any" if source["batch"] is None else source["batch"]
    lines = [
        f"{facts['file']}  sha256 {facts['sha256'][:12]}",
        f"input       {source['name']}: {source['channels']} channels, {size} pixels, {source['layout']}, "
        f"{source['dtype']}, batch {batch}",
        f"output      {facts['output']['name']}: {facts['output']['activation']} of {facts['output']['logits']}",
        f"preprocess  {facts['preprocess'] or 'not recorded: give --preset, or --mean, --std and --size'}",
        f"labels      {facts['labels'] or 'none recorded'}",
        f"total       {facts['parameters']:,} parameters, {facts['macs'] / 1e6:,.1f} MMAC per image",
        "",
    ]
    head = ("layer", "operator", "shape", "parameters", "MMAC", "receptive field", "per window")
    rows = [_row(layer) for layer in facts["layers"]]
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    right = (False, False, False, True, True, True, True)
    for row in [head, *rows]:
        cells = (text.rjust(w) if r else text.ljust(w) for text, w, r in zip(row, widths, right, strict=True))
        lines.append("  ".join(cells).rstrip())
    lines += ["", _sweep_text(facts["sweep"]), ""]
    for route, reasons in facts["routes"].items():
        lines.append(f"route {route}: {'works' if not reasons else ' '.join(reasons)}")
    return "\n".join(lines)


def _sweep_text(sweep: dict[str, Any]) -> str:
    start = f"sweep over {sweep['windows']:,} windows: "
    if sweep["reasons"]:
        return f"{start}dense, because {', '.join(sweep['reasons'])}"
    return (
        f"{start}{sweep['speed_up']:.1f} times as fast as dense, by prediction "
        f"({sweep['ceiling']:.1f} by arithmetic), {sweep['bytes'] / 2**20:,.0f} MiB beside the model"
    )


def _row(layer: dict[str, Any]) -> tuple[str, ...]:
    field = layer["receptive_field"]
    return (
        layer["module"] or layer["name"],
        layer["operator"],
        "×".join(map(str, layer["shape"][1:])) or "?",
        f"{layer['parameters']:,}" if layer["parameters"] else "",
        f"{layer['macs'] / 1e6:,.2f}" if layer["macs"] else "",
        f"{field[0]}×{field[1]}" if field else "all",
        "×".join(map(str, layer["computed_per_window"])) if layer["computed_per_window"] else "all",
    )
