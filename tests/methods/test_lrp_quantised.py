"""Relevance through quantised networks: rounding hands it on, so a map is that of the values that were rounded to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import pytest

from problems import Problem, make_model, node
from sightline.errors import UnsupportedOperator
from sightline.methods.gradient.lrp import Lrp
from sightline.model import Model
from sightline.target import logit
from sightline.types import Batch

Open = Callable[..., Model]
Array = np.ndarray
SHAPE = (3, 2, 4)


def pair(source: str, result: str, scale: str) -> list[onnx.NodeProto]:
    """A quantiser and its inverse, around zero."""
    return [
        node("QuantizeLinear", f"{source} {scale} zero", f"{result}_whole"),
        node("DequantizeLinear", f"{result}_whole {scale} zero", result),
    ]


def rounded(values: Array, scale: float) -> Array:
    return np.asarray((np.round(values / scale)).clip(-128, 127) * scale)


def ran(open_problem: Open, nodes: Sequence[onnx.NodeProto], arrays: dict[str, Any], images: Array) -> Any:
    arrays = {"zero": np.int8(0)} | arrays
    proto = make_model(list(nodes), arrays, shape=["N", *SHAPE], outputs={"logits": ["N", 2]}, opset=20)
    model = open_problem(Problem("quantised", proto, SHAPE, ()))
    plan = model.plan(Lrp(composite="epsilon", epsilon=1e-9), threads=1)
    return plan.run(Batch.of(images.astype(np.float32)), logit(1))


def handed(x: Array, matrix: Array, z: Array, relevance: Array) -> Array:
    return np.asarray(x * ((relevance / z) @ matrix))


def near(found: Array, expected: Array) -> None:
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3 * float(np.abs(expected).max()))


def test_quantisers_hand_relevance_on_unchanged_saturated_ones_too(open_problem: Open) -> None:
    rng = np.random.default_rng(1)
    images = rng.standard_normal((3, *SHAPE))
    whole = [rng.integers(-90, 90, (6, 24)).astype(np.int8), rng.integers(-90, 90, (2, 6)).astype(np.int8)]
    first, second = (one.astype(np.float64) * 0.01 for one in whole)
    x = rounded(images.reshape(3, -1), 0.02)  # the largest number is 2.54: some are saturated
    assert (np.abs(images.reshape(3, -1) - x) > 0.1).any()
    before = x @ first.T
    y = rounded(before.clip(min=0), 0.05)
    logits = rounded(y @ second.T, 0.05)[:, 1:]
    # the last quantiser's relevance is what comes out of it; the product before it is a little more or less
    expected = handed(x, first, before, handed(y, second[1:], y @ second[1:].T, logits))
    nodes = [
        *pair("image", "x", "s_image"), node("Flatten", "x", "flat"),
        node("DequantizeLinear", "whole1 s_weight zero", "w1"), node("Gemm", "flat w1", "sum", transB=1),
        node("Relu", "sum", "hidden"), *pair("hidden", "y", "s_y"),
        node("DequantizeLinear", "whole2 s_weight zero", "w2"), node("Gemm", "y w2", "scores", transB=1),
        *pair("scores", "logits", "s_y"),
    ]  # fmt: skip
    arrays = {"whole1": whole[0], "whole2": whole[1], "s_weight": np.float32(0.01), "s_image": np.float32(0.02),
              "s_y": np.float32(0.05)}  # fmt: skip
    found = ran(open_problem, nodes, arrays, images)
    near(found.values, expected.reshape(images.shape).sum(axis=1))
    near(found.values.sum(axis=(1, 2)), logits[:, 0])  # nothing is lost


def test_a_gate_stays_one_behind_a_quantiser(open_problem: Open) -> None:
    rng = np.random.default_rng(2)
    images, head = rng.standard_normal((2, *SHAPE)), rng.standard_normal((2, 24))
    gate = rounded(1 / (1 + np.exp(-images)), 1 / 127)
    nodes = [
        node("Sigmoid", "image", "opening"), *pair("opening", "g", "s_gate"), node("Mul", "g image", "gated"),
        node("Flatten", "gated", "flat"), node("Gemm", "flat head", "logits", transB=1),
    ]  # fmt: skip
    found = ran(open_problem, nodes, {"head": head, "s_gate": np.float32(1 / 127)}, images)
    near(found.values, (images * gate * head[1].reshape(SHAPE)).sum(axis=1))


def test_a_layer_that_computes_in_integers_is_refused_by_name(open_problem: Open) -> None:
    rng = np.random.default_rng(3)
    weight = rng.integers(-90, 90, (2, 3, 2, 4)).astype(np.int8)
    nodes = [
        node("DynamicQuantizeLinear", "image", "whole scale offset"),
        node("ConvInteger", "whole weight offset", "sums"),
        node("Cast", "sums", "real", to=onnx.TensorProto.FLOAT), node("Mul", "real scale", "maps"),
        node("Flatten", "maps", "logits"),
    ]  # fmt: skip
    with pytest.raises(UnsupportedOperator, match=r"no rule for node 'sums' \(ConvInteger\)"):
        ran(open_problem, nodes, {"weight": weight}, rng.standard_normal((1, *SHAPE)))
