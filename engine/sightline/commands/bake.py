"""Put a model's normalisation into its graph, so that it takes pixels: sightline bake MODEL -o OUT.onnx."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import Annotated

import numpy as np
import onnx_ir as ir
from cyclopts import Parameter

from sightline.commands._options import ModelOptions
from sightline.errors import EngineMismatch, OutputConflict, UsageError
from sightline.graph.take_pixels import TakePixels
from sightline.job.files import make_folder
from sightline.methods.forward.predict import Predict
from sightline.model import Model, load
from sightline.preprocess import METADATA_KEY, Preprocess
from sightline.types import FloatArray

APART = 1e-6  # largest difference of scores, relative to the largest: the same numbers reach the same network


def bake(
    model: Annotated[str, Parameter(help="An .onnx file, or demo.")],
    /,
    *,
    out: Annotated[Path, Parameter(name=("--out", "-o"), help="File to write.")],
    json: Annotated[bool, Parameter(help="Print one JSON object.", negative="")] = False,
    model_options: ModelOptions = ModelOptions(),  # noqa: B008 - frozen
) -> int:
    """Write a model that takes pixels (B, H, W, C) uint8 and normalises them itself; resizing stays outside."""
    if out.exists():
        raise OutputConflict(f"{out} is there already. Choose another -o.")
    with model_options.load(model) as network:
        recorded = _written(network, out)
        apart = _apart(network, out, recorded)
    if apart > APART:
        out.unlink()
        raise EngineMismatch(f"The scores of the new graph differ by {apart:.3g} (relative), so it was not kept.")
    facts = {"command": "bake", "out": str(out), "takes": "uint8 (B, H, W, C)", "preprocessing": str(recorded),
             "relative_error": apart}  # fmt: skip
    print(json_format.dumps(facts) if json else f"{out} takes {facts['takes']}: {recorded}. Its scores are the same.")
    return 0


def _written(network: Model, out: Path) -> Preprocess:
    """Write the new graph, and in it what is left of the preprocessing."""
    if network.input.dtype != np.float32:
        raise UsageError(f"{network.path.name} takes {network.input.dtype} already; only float32 can be baked.")
    given = network.preprocess
    graph = TakePixels(
        network.input.layout, network.input.size, network.input.batch, given.channels == "BGR",
        given.scale, given.mean, given.std,
    )(network.graph)  # fmt: skip
    channels = "L" if given.channels == "L" else "RGB"
    plain = (0.0,) * len(given.mean), (1.0,) * len(given.std)
    recorded = given.changed(channels=channels, scale=1.0, mean=plain[0], std=plain[1])
    graph.metadata_props.update({**network.metadata, METADATA_KEY: recorded.to_json()})
    make_folder(out.absolute().parent)
    ir.save(graph, out)
    return recorded


def _apart(network: Model, out: Path, recorded: Preprocess) -> float:
    """Largest difference of the scores of random pixels, relative to the largest score."""
    size = network.input_size
    count = network.input.batch or 2
    pixels = np.random.default_rng(0).integers(0, 256, (count, *size, 3), np.uint8)
    if recorded.channels == "L":
        pixels = np.repeat(pixels[..., :1], 3, axis=-1)
    with load(out, output=network.output, size=None if network.input.size else size) as baked:
        expected, found = (_logits(one, one.preprocess.normalise(pixels)) for one in (network, baked))
    return float(np.abs(found - expected).max() / max(float(np.abs(expected).max()), 1e-12))


def _logits(network: Model, images: FloatArray) -> FloatArray:
    return network.oracle(network.plan(Predict())).logits(images)
