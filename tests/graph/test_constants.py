"""Numbers behind a value, in every way that exporters write them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from problems import make_model, node
from sightline.graph.constants import constant_array

CODES = np.random.default_rng(3).integers(-128, 128, (3, 2, 1, 1)).astype(np.int8)
SCALES = np.array([0.5, 0.25, 2.0], np.float32)
ZEROS = np.array([1, -2, 0], np.int8)


def value(name: str) -> ir.Value:
    """A value of a graph that holds one weight in every form."""
    weight = np.arange(6.0).reshape(3, 2, 1, 1)
    arrays = {
        "plain": weight,
        "codes": CODES,
        "scales": SCALES,
        "zeros": ZEROS,
        "s": np.array(0.5),
    }
    nodes = [
        node("Constant", "", "constant", value=numpy_helper.from_array(weight.astype(np.float32))),
        node("Identity", "plain", "shared"),
        node("Identity", "shared", "shared_again"),
        node("DequantizeLinear", "codes scales zeros", "per_axis", axis=0),
        node("DequantizeLinear", "codes s", "per_tensor"),
        node("Relu", "plain", "computed"),
        node("Conv", "image plain", "conv"),
    ]
    model = ir.serde.deserialize_model(make_model(nodes, arrays, shape=[1, 2, 4, 4], outputs={"conv": [1, 3, 4, 4]}))
    found = {str(v.name): v for n in model.graph for v in (*n.inputs, *n.outputs) if v is not None}
    return found[name]


@pytest.mark.parametrize("name", ["plain", "constant", "shared", "shared_again"])
def test_the_same_weight_in_every_form(name: str) -> None:
    np.testing.assert_array_equal(constant_array(value(name)), np.arange(6.0).reshape(3, 2, 1, 1))


def test_dequantised() -> None:
    expected = (CODES.astype(int) - ZEROS.reshape(3, 1, 1, 1)) * SCALES.reshape(3, 1, 1, 1)
    np.testing.assert_allclose(constant_array(value("per_axis")), expected)
    np.testing.assert_allclose(constant_array(value("per_tensor")), CODES * 0.5)


@pytest.mark.parametrize("name", ["computed", "image", "conv"])
def test_what_is_computed_has_no_array(name: str) -> None:
    assert constant_array(value(name)) is None
    assert constant_array(None) is None
