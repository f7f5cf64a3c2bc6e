"""Show what every unit of some layers looks for: sightline units MODEL IMAGES… --layer NAME -o DIR."""

from __future__ import annotations

import json as json_format
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, cast

from cyclopts import Parameter

from sightline.abilities import Taps
from sightline.commands._options import ComputeOptions, ModelOptions
from sightline.commands._progress import ProgressLine
from sightline.errors import OutputConflict, UsageError
from sightline.file_names import safe_name
from sightline.graph.layers import Layer
from sightline.job.files import make_folder, write_atomically
from sightline.job.inputs import Inputs, inputs_from, load_photo
from sightline.job.run import Progress
from sightline.methods.forward.features import Features
from sightline.model import Model
from sightline.report.units_page import LayerUnits, write_hierarchy, write_layer
from sightline.units.patches import window_of
from sightline.units.strongest import dead_units, duplicate_units
from sightline.units.survey import Survey, survey
from sightline.units.visualised import visualised

EARLY_TO_LATE = (0.1, 0.5, 1.0)  # of the depth: layers that are shown unless some are named


def units(
    model: Annotated[str, Parameter(help="An .onnx file, demo, torchvision:NAME[@WEIGHTS] or timm:NAME.")],
    /,
    *images: Annotated[str, Parameter(help="Image files, folders or patterns.")],
    out: Annotated[Path, Parameter(name=("--out", "-o"), help="Folder for the pages and units.parquet.")],
    layer: Annotated[
        tuple[str, ...],
        Parameter(help="Layers, repeated or separated by commas; an early, a middle and a late one unless given."),
    ] = (),
    k: Annotated[int, Parameter(name=("-k", "--k"), help="Patches per unit.")] = 9,
    per_image: Annotated[int, Parameter(help="Patches of one image that may be among them.")] = 1,
    shown: Annotated[int, Parameter(help="Units with patches on a page; the table has all.")] = 64,
    visualise: Annotated[int, Parameter(help="Units of each layer that also get a picture made by ascent.")] = 0,
    limit: Annotated[int | None, Parameter(help="At most so many images.")] = None,
    json: Annotated[bool, Parameter(help="Print one JSON object on stdout, nothing else.", negative="")] = False,
    model_options: ModelOptions = ModelOptions(),  # noqa: B008 - frozen
    compute: ComputeOptions = ComputeOptions(),  # noqa: B008
) -> int:
    """Show what every unit of some layers looks for: the strongest patches of a data set, in one pass."""
    if min(k, per_image, shown, 1 if limit is None else limit) < 1:
        raise UsageError("-k, --per-image, --shown and --limit must be at least 1.")
    if visualise < 0:
        raise UsageError(f"--visualise {visualise} must be at least 0.")
    if not images:
        raise UsageError("Name the images: files, folders or patterns.")
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "units.parquet").is_file())):
        raise OutputConflict(f"{out} is not empty and holds no pages of units. Choose a folder that is new or empty.")
    with model_options.load(model) as network:
        names = [_with_units(network, name) for one in layer for name in one.split(",") if name]
        chosen = names or _early_to_late(network)
        inputs = Inputs(inputs_from(images).entries[:limit])
        load = load_photo(network.photograph)
        plan = network.plan(Features(layers=tuple(chosen)), **compute.plan_options()).measured(len(inputs))
        oracle = cast(Taps, network.oracle(plan))
        start = time.monotonic()
        with ProgressLine("units") as line:

            def tell(done: int) -> None:
                line(Progress(done, len(inputs), 0, 0, time.monotonic() - start))

            found = survey(
                oracle, inputs.entries, load, chosen, k=k, batch=plan.settings.batch or 1, per_image=per_image,
                progress=tell,
            )  # fmt: skip
        seconds = time.monotonic() - start
        make_folder(out)
        tables = [_layer_units(network, name, found) for name in chosen]
        if visualise:
            tables = [
                _visualised(network, name, one, visualise, compute.threads)
                for name, one in zip(chosen, tables, strict=True)
            ]
        pages = [write_layer(out / f"{safe_name(one.name)}.html", one, found.inputs, load, shown) for one in tables]
        hierarchy = write_hierarchy(out / "index.html", tables, [page.name for page in pages], found.inputs, load)
        _write_table(out / "units.parquet", tables, found, network)
    facts = {
        "command": "units", "out": str(out), "images": len(found.inputs), "seconds": seconds, "page": str(hierarchy),
        "layers": [_facts(one) for one in tables], "finished": not found.stopped,
        "set_aside": [{"id": one, "reason": reason} for one, reason in found.set_aside],
    }  # fmt: skip
    print(json_format.dumps(facts, ensure_ascii=False) if json else _text(facts))
    for one, reason in found.set_aside:
        print(f"Set aside: {one}: {reason}", file=sys.stderr)
    return 130 if found.stopped else 4 if found.set_aside else 0


def _with_units(network: Model, name: str) -> str:
    """The value behind a layer's name, which has channels."""
    value = network.readable(name)
    shape = network.layers.shapes.get(value, ())
    if len(shape) not in (0, 2, 4):
        raise UsageError(
            f"Layer {name!r} puts out {shape[1:]} per image. Units are channels of maps (C, h, w) or vectors (D,): "
            "sightline inspect shows which layers have them."
        )
    return value


def _early_to_late(network: Model) -> list[str]:
    """Rectified maps at three depths, where there are any; else any maps."""
    maps = [one for one in network.layers if one.name in network.maps and one.field]
    rectified = [one for one in maps if one.operator in ("Relu", "Clip", "LeakyRelu", "Sigmoid", "Gelu")] or maps
    if not rectified:
        raise UsageError(f"{network.path.name} has no layer whose positions see a part of the image: name one.")
    picked = [rectified[round(share * (len(rectified) - 1))].name for share in EARLY_TO_LATE]
    return list(dict.fromkeys(picked))


def _layer_units(network: Model, name: str, found: Survey) -> LayerUnits:
    layer: Layer = next(one for one in network.layers if one.name == name)
    strongest = found.layers[name]
    return LayerUnits(
        name=layer.module or name, field=layer.field, strongest=strongest, dead=dead_units(strongest),
        duplicates=tuple(duplicate_units(strongest)),
    )  # fmt: skip


def _visualised(network: Model, name: str, table: LayerUnits, count: int, threads: int | None) -> LayerUnits:
    channels = [int(channel) for channel in table.ranked[:count] if channel not in table.dead]
    return replace(table, pictures=visualised(network, name, channels, table.field, threads))


def _write_table(path: Path, tables: Sequence[LayerUnits], found: Survey, network: Model) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, list[object]] = {
        name: []
        for name in ("layer", "channel", "rank", "score", "id", "row", "column", "top", "left", "height", "width")
    }
    size = network.input_size
    for table in tables:
        peaks = table.strongest.peaks
        for channel, rank in zip(*(peaks.images >= 0).nonzero(), strict=True):
            row, column = int(peaks.rows[channel, rank]), int(peaks.columns[channel, rank])
            one = found.inputs[int(peaks.images[channel, rank])].id
            facts = (table.name, int(channel), int(rank), float(peaks.scores[channel, rank]), one, row, column)
            for name, value in zip(columns, (*facts, *window_of(table.field, row, column, size)), strict=True):
                columns[name].append(value)
    sink: Any = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    write_atomically(path, [memoryview(sink.getvalue())])


def _facts(one: LayerUnits) -> dict[str, Any]:
    return {
        "layer": one.name,
        "units": len(one.strongest.peaks.scores),
        "receptive_field": None if one.field is None else list(one.field.size),
        "dead": [int(unit) for unit in one.dead],
        "duplicates": [list(pair) for pair in one.duplicates],
    }


def _text(facts: dict[str, Any]) -> str:
    lines = [f"{facts['page']}: {facts['images']} images in {facts['seconds']:.1f} s"]
    for one in facts["layers"]:
        field = (
            "the whole image" if one["receptive_field"] is None else "{} x {} pixels".format(*one["receptive_field"])
        )
        lines.append(
            f"  {one['layer']}: {one['units']} units that see {field}; {len(one['dead'])} dead, "
            f"{len(one['duplicates'])} pairs alike"
        )
    return "\n".join(lines)
