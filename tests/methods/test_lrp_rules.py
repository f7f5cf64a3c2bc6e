"""Relevance through activations, gates, normalisations and means, against each rule written out in NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from scipy.special import erf

from problems import Problem, make_model, node
from sightline.errors import UnsupportedOperator
from sightline.methods.gradient.lrp import Lrp
from sightline.model import Model
from sightline.target import logit
from sightline.types import Batch

Open = Callable[..., Model]
Array = np.ndarray
SHAPE = (3, 2, 4)
ONES = {"one": np.float32(1), "half": np.float32(0.5), "three": np.float32(3), "six": np.float32(6),
        "zero": np.float32(0), "root": np.float32(math.sqrt(2)), "cubic": np.float32(0.044715),
        "tilt": np.float32(math.sqrt(2 / math.pi))}  # fmt: skip


def logistic(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def gelu(x: Array) -> Array:
    return x * (1 + erf(x / math.sqrt(2))) / 2


def gelu_by_tanh(x: Array) -> Array:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def hard_swish(x: Array) -> Array:
    return x * (x + 3).clip(0, 6) / 6


ERF = [node("Div", "x root", "d"), node("Erf", "d", "e"), node("Add", "e one", "g")]
TANH = [node("Mul", "x x", "x2"), node("Mul", "x2 x", "x3"), node("Mul", "cubic x3", "c"), node("Add", "x c", "s"),
        node("Mul", "tilt s", "t"), node("Tanh", "t", "u"), node("Add", "one u", "g")]  # fmt: skip
ACTIVATIONS: dict[str, tuple[Callable[[Array], Array], Sequence[onnx.NodeProto]]] = {
    "Gelu": (gelu, [node("Gelu", "x", "y")]),
    "Gelu tanh": (gelu_by_tanh, [node("Gelu", "x", "y", approximate="tanh")]),
    "erf, x first": (gelu, [*ERF, node("Mul", "x g", "p"), node("Mul", "p half", "y")]),
    "erf, half x": (gelu, [*ERF, node("Mul", "x half", "h"), node("Mul", "g h", "y")]),
    "erf, half gate": (gelu, [*ERF, node("Mul", "half g", "h"), node("Mul", "x h", "y")]),
    "tanh": (gelu_by_tanh, [*TANH, node("Mul", "half x", "h"), node("Mul", "h g", "y")]),
    "silu": (lambda x: x * logistic(x), [node("Sigmoid", "x", "g"), node("Mul", "x g", "y")]),
    "HardSwish": (hard_swish, [node("HardSwish", "x", "y")]),
    "hard swish": (hard_swish, [node("Add", "x three", "a"), node("Clip", "a zero six", "c"),
                                node("Mul", "x c", "m"), node("Div", "m six", "y")]),
    "hard sigmoid": (hard_swish, [node("HardSigmoid", "x", "g", alpha=1 / 6), node("Mul", "g x", "y")]),
    "Erf": (erf, [node("Erf", "x", "y")]),
}  # fmt: skip


def handed(x: Array, matrix: Array, z: Array, relevance: Array) -> Array:
    """(B, I) by the epsilon rule: every input's share of each of the sums z (B, O)."""
    return x * ((relevance / z) @ matrix)


def ran(
    open_problem: Open,
    nodes: Sequence[onnx.NodeProto],
    arrays: dict[str, Any],
    images: Array,
    opset: int = 20,
    **options: Any,
) -> Any:
    proto = make_model(list(nodes), {**ONES, **arrays}, shape=["N", *images.shape[1:]],
                       outputs={"logits": ["N", 2]}, opset=opset)  # fmt: skip
    model = open_problem(Problem("rules", proto, images.shape[1:], ()))
    plan = model.plan(Lrp(composite="epsilon", epsilon=1e-9, **options), threads=1)
    return plan.run(Batch.of(images.astype(np.float32)), logit(1))


def near(found: Array, expected: Array) -> None:
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3 * float(np.abs(expected).max()))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_hand_relevance_on_unchanged(open_problem: Open, name: str) -> None:
    function, nodes = ACTIVATIONS[name]
    rng = np.random.default_rng(3)
    images = rng.standard_normal((3, *SHAPE))
    first, second = rng.standard_normal((6, 24)), rng.standard_normal((2, 6))
    x = images.reshape(3, -1) @ first.T
    y = function(x)
    logits = y @ second.T
    start = np.zeros_like(logits)
    start[:, 1] = logits[:, 1]
    expected = handed(images.reshape(3, -1), first, x, handed(y, second, logits, start)).reshape(images.shape)
    found = ran(
        open_problem,
        [node("Flatten", "image", "flat"), node("Gemm", "flat w1", "x", transB=1), *nodes,
         node("Gemm", "y w2", "logits", transB=1)],
        {"w1": first, "w2": second}, images,
    )  # fmt: skip
    near(found.values, expected.sum(axis=1))
    near(found.values.sum(axis=(1, 2)), logits[:, 1])


@pytest.mark.parametrize("opening", ["Sigmoid", "HardSigmoid", "clip"])
def test_of_squeeze_and_excitation_the_maps_take_all(open_problem: Open, opening: str) -> None:
    rng = np.random.default_rng(4)
    images = rng.standard_normal((2, *SHAPE))
    kernel, squeeze, head = rng.standard_normal((5, 3)), rng.standard_normal((5, 5)), rng.standard_normal((2, 5))
    before = np.einsum("oc,bchw->bohw", kernel, images)
    maps = np.clip(before, 0, 6)  # as ReLU6: bounded too, but wider than any gate
    inner = maps.mean(axis=(2, 3)) @ squeeze.T
    gate = logistic(inner) if opening == "Sigmoid" else (inner / 6 + 0.5).clip(0, 1)
    gated = maps * gate[:, :, None, None]
    mean = gated.mean(axis=(2, 3))
    logits = mean @ head.T
    relevance = handed(mean, head[1:], logits[:, 1:], logits[:, 1:])  # (B, 5)
    shares = gated / np.where(mean == 0, 1, 8 * mean)[:, :, None, None] * relevance[:, :, None, None]
    expected = images * np.einsum("oc,bohw->bchw", kernel, shares / before)
    gates = {
        "Sigmoid": [node("Sigmoid", "i", "g")],
        "HardSigmoid": [node("HardSigmoid", "i", "g", alpha=1 / 6)],
        "clip": [node("Add", "i three", "a"), node("Clip", "a zero six", "c"), node("Div", "c six", "g")],
    }[opening]
    found = ran(
        open_problem,
        [node("Conv", "image k", "conv"), node("Clip", "conv zero six", "maps"),
         node("GlobalAveragePool", "maps", "s"), node("Conv", "s w", "i"), *gates, node("Mul", "g maps", "gated"),
         node("GlobalAveragePool", "gated", "m"), node("Flatten", "m", "flat"),
         node("Gemm", "flat head", "logits", transB=1)],
        {"k": kernel[:, :, None, None], "w": squeeze[:, :, None, None], "head": head}, images,
    )  # fmt: skip
    near(found.values, expected.sum(axis=1))
    near(found.values.sum(axis=(1, 2)), logits[:, 1])


def normalised(x: Array, scale: Array, offset: Array) -> tuple[Array, Array]:
    """(B, N) layer normalisation, and (B, N, N) d output j / d input i with the deviation held."""
    deviation = np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)
    slopes = (np.eye(x.shape[1]) - 1 / x.shape[1])[None] * scale[None, None] / deviation[:, :, None]
    return (x - x.mean(axis=1, keepdims=True)) / deviation * scale + offset, slopes


@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize("written", ["LayerNormalization", "out"])
def test_a_layer_normalisation_is_linear_with_its_deviation_held(
    open_problem: Open, written: str, biases: bool
) -> None:
    rng = np.random.default_rng(6)
    images = rng.standard_normal((3, *SHAPE))
    x, scale, offset = images.reshape(3, -1), rng.uniform(0.5, 2, 24), rng.uniform(0.5, 2, 24)
    head = rng.standard_normal((2, 24))
    y, slopes = normalised(x, scale, offset)
    logits = y @ head.T
    relevance = handed(y, head[1:], logits[:, 1:], logits[:, 1:])
    z = y if biases else y - offset
    expected = x * np.einsum("bij,bj->bi", slopes, relevance / z)
    nodes = {
        "LayerNormalization": [node("LayerNormalization", "flat scale offset", "y")],
        "out": [node("ReduceMean", "flat axes", "mean"), node("Sub", "flat mean", "d"), node("Pow", "d two", "d2"),
                node("ReduceMean", "d2 axes", "v"), node("Add", "v tiny", "w"), node("Sqrt", "w", "deviation"),
                node("Div", "d deviation", "n"), node("Mul", "n scale", "m"), node("Add", "m offset", "y")],
    }[written]  # fmt: skip
    arrays = {"scale": scale, "offset": offset, "head": head, "axes": np.array([1]), "two": np.float32(2),
              "tiny": np.float32(1e-5)}  # fmt: skip
    found = ran(
        open_problem,
        [node("Flatten", "image", "flat"), *nodes, node("Gemm", "y head", "logits", transB=1)],
        arrays, images, biases=biases,
    )  # fmt: skip
    near(found.values, expected.reshape(images.shape).sum(axis=1))
    if not biases:
        near(found.values.sum(axis=(1, 2)), logits[:, 1])


@pytest.mark.parametrize("operator", ["InstanceNormalization", "GroupNormalization"])
def test_nothing_is_lost_in_normalisations_over_groups_of_channels(open_problem: Open, operator: str) -> None:
    rng = np.random.default_rng(7)
    images = rng.standard_normal((2, 3, 5, 4))
    groups = {"num_groups": 1} if operator == "GroupNormalization" else {}
    each = images.reshape(2, 1 if groups else 3, -1)
    normal = (each - each.mean(axis=2, keepdims=True)) / np.sqrt(each.var(axis=2, keepdims=True) + 1e-5)
    head = rng.standard_normal((2, 60))
    found = ran(
        open_problem,
        [node(operator, "image scale offset", "y", **groups), node("Flatten", "y", "flat"),
         node("Gemm", "flat head", "logits", transB=1)],
        {"scale": np.ones(3), "offset": np.zeros(3), "head": head}, images, opset=21,
    )  # fmt: skip
    near(found.totals, normal.reshape(2, -1) @ head[1])
    near(found.values.sum(axis=(1, 2)), normal.reshape(2, -1) @ head[1])


def test_a_factor_that_is_a_constant_takes_nothing_however_small_it_is(open_problem: Open) -> None:
    """As the scale of a layer that has not been trained, which epsilon would swallow."""
    rng = np.random.default_rng(8)
    images, head = rng.standard_normal((2, *SHAPE)), rng.standard_normal((2, 24))
    nodes = [node("Mul", "image small", "scaled"), node("Div", "scaled small", "again"),
             node("Flatten", "again", "flat"), node("Gemm", "flat head", "logits", transB=1)]  # fmt: skip
    found = ran(open_problem, nodes, {"small": np.full((3, 1, 1), 1e-6), "head": head}, images)
    near(found.values, (images * head[1].reshape(SHAPE)).sum(axis=1))


def test_of_two_factors_neither_of_which_is_a_gate_each_gets_half(open_problem: Open) -> None:
    rng = np.random.default_rng(9)
    images = rng.standard_normal((2, *SHAPE))
    matrices = rng.standard_normal((2, 5, 24))
    a, b = (images.reshape(2, -1) @ matrix.T for matrix in matrices)
    flat, relevance = images.reshape(2, -1), a * b
    expected = sum(handed(flat, matrix, z, relevance / 2) for matrix, z in zip(matrices, (a, b), strict=True))
    found = ran(
        open_problem,
        [node("Flatten", "image", "flat"), node("Gemm", "flat a", "one_side", transB=1),
         node("Gemm", "flat b", "other", transB=1), node("Mul", "one_side other", "product"),
         node("Gemm", "product head", "logits")],
        {"a": matrices[0], "b": matrices[1], "head": np.ones((5, 2))}, images,
    )  # fmt: skip
    near(found.values, np.asarray(expected).reshape(images.shape).sum(axis=1))


def test_what_has_no_rule_is_still_refused_where_relevance_comes_by(open_problem: Open) -> None:
    nodes = [node("Flatten", "image", "flat"), node("Gemm", "flat w", "x"), node("Exp", "x", "raised"),
             node("Gemm", "raised head", "logits")]  # fmt: skip
    arrays = {"w": np.full((24, 3), 0.1), "head": np.ones((3, 2))}
    with pytest.raises(UnsupportedOperator, match=r"no rule for node 'raised' \(Exp\)"):
        ran(open_problem, nodes, arrays, np.ones((1, *SHAPE)))
