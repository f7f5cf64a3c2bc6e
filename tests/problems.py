"""Small networks whose scores and gradients are matrix algebra.

Every problem is an ONNX graph and, beside it, the same network as a few dense matrices over flattened pixels,
written down independently of any runtime: convolutions become matrices by explicit loops, a ReLU is a comparison, a
pooling is a choice of indices. Products with the transposed matrices give the gradient under every rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[np.float64]
Rule = Literal["guided_backprop", "deconvnet"] | None


@dataclass(frozen=True)
class Affine:
    """y = matrix x + offset over flattened values."""

    matrix: Array  # (O, I)
    offset: Array  # (O,)

    def forward(self, x: Array) -> Array:
        return x @ self.matrix.T + self.offset

    def backward(self, x: Array, g: Array, rule: Rule) -> Array:
        return g @ self.matrix


@dataclass(frozen=True)
class Relu:
    """max(x, 0), with the three ways back."""

    def forward(self, x: Array) -> Array:
        return np.where(x > 0, x, 0.0)

    def backward(self, x: Array, g: Array, rule: Rule) -> Array:
        if rule == "deconvnet":
            return np.where(g > 0, g, 0.0)
        if rule == "guided_backprop":
            return np.where((x > 0) & (g > 0), g, 0.0)
        return np.where(x > 0, g, 0.0)


@dataclass(frozen=True)
class MaxPool:
    """The largest of each group of values."""

    groups: NDArray[np.int64]  # (O, n) indices

    def forward(self, x: Array) -> Array:
        return x[:, self.groups].max(axis=2)

    def backward(self, x: Array, g: Array, rule: Rule) -> Array:
        winners = np.take_along_axis(self.groups[None], x[:, self.groups].argmax(axis=2)[:, :, None], axis=2)
        result = np.zeros_like(x)
        for image in range(len(x)):
            for group, winner in enumerate(winners[image, :, 0]):
                result[image, winner] += g[image, group]
        return result


Step = Affine | Relu | MaxPool


@dataclass(frozen=True)
class Problem:
    """A graph and its closed form.

    Attributes:
        shape: (C, H, W) of one image.
        steps: from flattened pixels (C, H, W in this order) to logits.
        fixed_batch: the only batch that the graph takes, or None.
        first_kernel: (O, C, kh, kw) of the convolution that reads the image, where there is one.
    """

    name: str
    proto: onnx.ModelProto
    shape: tuple[int, int, int]
    steps: tuple[Step, ...]
    activation: Literal["softmax", "sigmoid"] = "softmax"
    fixed_batch: int | None = None
    first_kernel: Array | None = field(default=None, repr=False)

    @property
    def has_relu(self) -> bool:
        return any(isinstance(step, Relu) for step in self.steps)

    @property
    def classes(self) -> int:
        return next(step.matrix.shape[0] for step in reversed(self.steps) if isinstance(step, Affine))

    def images(self, seed: int, count: int = 3) -> NDArray[np.float32]:
        """(count, C, H, W) of standard normal pixels."""
        return np.random.default_rng(seed).standard_normal((count, *self.shape)).astype(np.float32)

    def values(self, images: NDArray[Any]) -> list[Array]:
        """Flattened values: the pixels, then what each step makes."""
        found = [images.astype(np.float64).reshape(len(images), -1)]
        for step in self.steps:
            found.append(step.forward(found[-1]))
        return found

    def logits(self, images: NDArray[Any]) -> Array:
        """(B, K)."""
        return self.values(images)[-1]

    def probabilities(self, images: NDArray[Any]) -> Array:
        """(B, K)."""
        logits = self.logits(images)
        if self.activation == "sigmoid":
            return 1 / (1 + np.exp(-logits))
        return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)

    def backward(self, images: NDArray[Any], weights: Array, rule: Rule = None) -> Array:
        """(B, C, H, W): the sum over classes of ``weights`` (B, K) times the gradient of each logit."""
        values, result = self.values(images), weights.astype(np.float64)
        for step, x in zip(reversed(self.steps), reversed(values[:-1]), strict=True):
            result = step.backward(x, result, rule)
        return result.reshape(images.shape)

    def logit_weights(self, classes: Sequence[int]) -> Array:
        """(B, K): what ``backward`` takes for the logit of one class each."""
        return np.eye(self.classes)[list(classes)]

    def probability_weights(self, images: NDArray[Any], classes: Sequence[int]) -> Array:
        """(B, K): the same for the probability of one class each, by the derivative of softmax or sigmoid."""
        p, one = self.probabilities(images), self.logit_weights(classes)
        chosen = (p * one).sum(axis=1, keepdims=True)
        return one * p * (1 - p) if self.activation == "sigmoid" else chosen * (one - p)

    def save(self, folder: Path) -> Path:
        path = folder / f"{self.name}.onnx"
        onnx.save(self.proto, path)
        return path


def convolution_matrix(
    kernel: Array, size: tuple[int, int], strides: tuple[int, int] = (1, 1), pads: Sequence[int] = (0, 0, 0, 0)
) -> tuple[Array, tuple[int, int]]:
    """The matrix of a convolution over (C, H, W) pixels and the size of its output, by explicit loops."""
    out, channels, rows, columns = kernel.shape
    height = (size[0] + pads[0] + pads[2] - rows) // strides[0] + 1
    width = (size[1] + pads[1] + pads[3] - columns) // strides[1] + 1
    matrix = np.zeros((out, height, width, channels, *size))
    for y in range(height):
        for x in range(width):
            for j in range(rows):
                for i in range(columns):
                    row, column = y * strides[0] + j - pads[0], x * strides[1] + i - pads[1]
                    if 0 <= row < size[0] and 0 <= column < size[1]:
                        matrix[:, y, x, :, row, column] += kernel[:, :, j, i]
    return matrix.reshape(out * height * width, -1), (height, width)


def pool_groups(channels: int, size: tuple[int, int], kernel: int, stride: int) -> NDArray[np.int64]:
    """(O, kernel²) indices of a max pooling without padding over (C, H, W) values."""
    index = np.arange(channels * size[0] * size[1]).reshape(channels, *size)
    return np.array([
        index[c, y : y + kernel, x : x + kernel].ravel()
        for c in range(channels)
        for y in range(0, size[0] - kernel + 1, stride)
        for x in range(0, size[1] - kernel + 1, stride)
    ])  # fmt: skip


def make_model(
    nodes: Sequence[onnx.NodeProto],
    arrays: dict[str, NDArray[Any]],
    *,
    shape: Sequence[int | str | None],
    outputs: dict[str, Sequence[int | str | None] | None],
    opset: int = 17,
    input_name: str = "image",
) -> onnx.ModelProto:
    """A checked model of float32 arrays (integers stay int64)."""
    held = [
        numpy_helper.from_array(a if a.dtype.kind in "iu" else a.astype(np.float32), name)
        for name, a in arrays.items()
    ]
    graph = helper.make_graph(
        list(nodes),
        "problem",
        [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name, size in outputs.items()],
        held,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def node(operator: str, inputs: str, outputs: str, name: str = "", **attributes: Any) -> onnx.NodeProto:
    """A node; names are separated by spaces."""
    return helper.make_node(operator, inputs.split(), outputs.split(), name=name, **attributes)


def linear(
    name: str = "linear",
    *,
    shape: tuple[int, int, int] = (3, 5, 7),
    classes: int = 4,
    end: str = "",
    batch: int | str = "N",
    opset: int = 17,
) -> Problem:
    """Every logit is one weight per pixel; ``end`` names an operator behind the logits."""
    rng = np.random.default_rng(11)
    matrix, offset = rng.normal(size=(classes, int(np.prod(shape)))) / 4, rng.normal(size=classes)
    nodes = [node("Flatten", "image", "flat"), node("Gemm", "flat w b", "logits", "fc", transB=1)]
    if end:
        nodes.append(node(end, "logits", "chances", end.lower()))
    out = "chances" if end else "logits"
    proto = make_model(
        nodes, {"w": matrix, "b": offset}, shape=[batch, *shape], outputs={out: [batch, classes]}, opset=opset
    )
    return Problem(
        name,
        proto,
        shape,
        (Affine(_rounded(matrix), _rounded(offset)),),
        activation="sigmoid" if end == "Sigmoid" else "softmax",
        fixed_batch=batch if isinstance(batch, int) else None,
    )


def convolutional(
    name: str = "convolutional",
    *,
    shape: tuple[int, int, int] = (3, 7, 6),
    pool: bool = False,
    layout: Literal["NCHW", "NHWC"] = "NCHW",
    batch: int | str = "N",
    side_output: bool = False,
) -> Problem:
    """Conv (stride 2 and 1, one-sided pads), ReLU, perhaps a max pool, Conv, ReLU, Gemm."""
    rng = np.random.default_rng(5)
    kernels = [rng.normal(size=(4, shape[0], 3, 2)) / 2, rng.normal(size=(5, 4, 2, 2)) / 2]
    biases = [rng.normal(size=4) / 4, rng.normal(size=5) / 4]
    strides, pads = (2, 1), (1, 0, 0, 1)
    first, size = convolution_matrix(_rounded(kernels[0]), shape[1:], strides, pads)
    steps: list[Step] = [Affine(first, _spread(biases[0], size)), Relu()]
    nodes = [
        node("Conv", "pixels k1 b1", "conv1", "first", kernel_shape=[3, 2], strides=list(strides), pads=list(pads)),
        node("Relu", "conv1", "relu1"),
    ]
    before = "relu1"
    if pool:
        steps.append(MaxPool(pool_groups(4, size, 2, 1)))
        size = (size[0] - 1, size[1] - 1)
        nodes.append(node("MaxPool", "relu1", "pooled", kernel_shape=[2, 2], strides=[1, 1]))
        before = "pooled"
    second, size = convolution_matrix(_rounded(kernels[1]), size)
    head = rng.normal(size=(4, 5 * size[0] * size[1])) / 3
    steps += [Affine(second, _spread(biases[1], size)), Relu(), Affine(_rounded(head), np.zeros(4))]
    nodes += [
        node("Conv", f"{before} k2 b2", "conv2", "second", kernel_shape=[2, 2]),
        node("Relu", "conv2", "relu2"),
        node("Flatten", "relu2", "flat"),
        node("Gemm", "flat head", "logits", "fc", transB=1),
    ]
    if layout == "NHWC":
        nodes.insert(0, node("Transpose", "image", "pixels", perm=[0, 3, 1, 2]))
    else:
        nodes[0].input[0] = "image"
    extent = shape if layout == "NCHW" else (*shape[1:], shape[0])
    outputs: dict[str, Any] = {"logits": [batch, 4]}
    if side_output:
        outputs = {"relu2": [batch, 5, *size], **outputs}
    arrays = {"k1": kernels[0], "b1": biases[0], "k2": kernels[1], "b2": biases[1], "head": head}
    proto = make_model(nodes, arrays, shape=[batch, *extent], outputs=outputs)
    fixed = batch if isinstance(batch, int) else None
    return Problem(name, proto, shape, tuple(steps), fixed_batch=fixed, first_kernel=_rounded(kernels[0]))


def known_pattern() -> Problem:
    """A two-layer network whose ReLU is open exactly where its pixel is positive, and whose head is +1 and -1.

    Logit 0 is the sum of the positive pixels with signs + - + - …, logit 1 is its negative: gradient, guided
    backpropagation and deconvnet can be read off the image.
    """
    shape = (1, 3, 4)
    sign = np.where(np.arange(12) % 2 == 0, 1.0, -1.0)
    head = np.stack([sign, -sign])
    nodes = [
        node("Flatten", "image", "flat"),
        node("MatMul", "flat eye", "same"),
        node("Relu", "same", "open"),
        node("Gemm", "open head", "logits", transB=1),
    ]
    proto = make_model(nodes, {"eye": np.eye(12), "head": head}, shape=["N", *shape], outputs={"logits": ["N", 2]})
    return Problem(
        "known_pattern", proto, shape, (Affine(np.eye(12), np.zeros(12)), Relu(), Affine(head, np.zeros(2)))
    )


def pooled_head(size: tuple[int, int] = (6, 9)) -> Problem:
    """Height and width are free; scores come out as (B, K, 1, 1)."""
    rng = np.random.default_rng(23)
    kernel, bias = rng.normal(size=(6, 3, 3, 3)) / 3, rng.normal(size=6)
    matrix, out = convolution_matrix(_rounded(kernel), size, pads=(1, 1, 1, 1))
    mean = np.kron(np.eye(6), np.full((1, out[0] * out[1]), 1 / (out[0] * out[1])))  # (6, 6·h·w)
    nodes = [
        node("Conv", "image k b", "conv", "only", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Relu", "conv", "relu"),
        node("GlobalAveragePool", "relu", "logits"),
    ]
    proto = make_model(nodes, {"k": kernel, "b": bias}, shape=["N", 3, "H", "W"], outputs={"logits": ["N", 6, 1, 1]})
    return Problem(
        "pooled_head", proto, (3, *size), (Affine(matrix, _spread(bias, out)), Relu(), Affine(mean, np.zeros(6))),
        first_kernel=_rounded(kernel),
    )  # fmt: skip


def _rounded(values: Array) -> Array:
    """As the graph stores them, so that the closed form has no rounding of its own."""
    return values.astype(np.float32).astype(np.float64)


def _spread(bias: Array, size: tuple[int, int]) -> Array:
    return np.repeat(_rounded(bias), size[0] * size[1])


PROBLEMS: dict[str, Problem] = {
    problem.name: problem
    for problem in (
        linear(),
        linear("softmax", end="Softmax"),
        linear("sigmoid", end="Sigmoid", shape=(3, 6, 4)),
        linear("grey", shape=(1, 9, 5)),
        linear("old_opset", opset=7, end="Softmax"),
        convolutional(),
        convolutional("max_pool", pool=True, shape=(3, 9, 8)),
        convolutional("nhwc", layout="NHWC"),
        convolutional("batch_of_one", batch=1),
        convolutional("batch_of_four", batch=4, pool=True),
        convolutional("two_outputs", side_output=True, shape=(1, 8, 11)),
        known_pattern(),
        pooled_head(),
    )
}
RELU_PROBLEMS = {name: problem for name, problem in PROBLEMS.items() if problem.has_relu}
