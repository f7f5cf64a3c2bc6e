"""Normalisation in the graph is the preprocessing's, to the bit."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from problems import make_model, node
from sightline.graph.take_pixels import TakePixels
from sightline.preprocess import PRESETS, Preprocess

GREY = Preprocess(resize=None, crop=None, channels="L", mean=(0.3,), std=(0.7,))


@pytest.mark.parametrize("preset", [*PRESETS, "grey"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_the_bits_are_the_same(preset: str, layout: str) -> None:
    given = GREY if preset == "grey" else PRESETS[preset]
    count = len(given.mean)
    shape = ["n", count, 6, 5] if layout == "NCHW" else ["n", 6, 5, count]
    graph = ir.from_proto(make_model([node("Identity", "image", "y")], {}, shape=shape, outputs={"y": shape}))
    changed = TakePixels(layout, (6, 5), None, given.channels == "BGR", given.scale, given.mean, given.std)(graph)
    session = onnxruntime.InferenceSession(ir.to_proto(changed).SerializeToString())
    pixels = np.random.default_rng(7).integers(0, 256, (3, 6, 5, 3), np.uint8)
    (found,) = session.run(None, {"image": pixels[..., :count]})
    expected = given.normalise(pixels)
    np.testing.assert_array_equal(found, expected if layout == "NCHW" else expected.transpose(0, 2, 3, 1))
