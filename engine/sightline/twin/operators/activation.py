"""Activations: functions of one element, or of one row."""

# Operands of a kernel are tensors; a lambda cannot say so.
# pyright: reportUnknownLambdaType=false
from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.twin.catalogue import direct, operator
from sightline.twin.node import Kernel, Node

relu = direct("Relu")(torch.relu)  # max(x, 0).


@operator("LeakyRelu")
def leaky_relu(node: Node) -> Kernel:
    """X where positive, else alpha x."""
    slope = node.real("alpha", 0.01)
    return lambda x: F.leaky_relu(x, slope)


@direct("PRelu")
def prelu(x: Tensor, slope: Tensor) -> Tensor:
    """X where positive, else slope x; the slope is broadcast to x."""
    return torch.where(x < 0, x * slope, x)


@operator("Elu")
def elu(node: Node) -> Kernel:
    """X where positive, else alpha (exp(x) - 1)."""
    alpha = node.real("alpha", 1.0)
    return lambda x: F.elu(x, alpha)


@operator("Celu")
def celu(node: Node) -> Kernel:
    """X where positive, else alpha (exp(x / alpha) - 1)."""
    alpha = node.real("alpha", 1.0)
    return lambda x: F.celu(x, alpha)


@operator("Selu")
def selu(node: Node) -> Kernel:
    """Gamma times Elu."""
    alpha = node.real("alpha", 1.67326319217681884765625)
    gamma = node.real("gamma", 1.05070102214813232421875)
    return lambda x: gamma * F.elu(x, alpha)


@operator("ThresholdedRelu")
def thresholded_relu(node: Node) -> Kernel:
    """X where above alpha, else 0."""
    alpha = node.real("alpha", 1.0)
    return lambda x: torch.where(x > alpha, x, torch.zeros_like(x))


@operator("HardSigmoid")
def hard_sigmoid(node: Node) -> Kernel:
    """Alpha x + beta, clipped to 0 and 1."""
    alpha, beta = node.real("alpha", 0.2), node.real("beta", 0.5)
    return lambda x: (alpha * x + beta).clamp(0, 1)


hard_swish = direct("HardSwish")(F.hardswish)  # X times HardSigmoid with alpha 1/6, beta 1/2.


sigmoid = direct("Sigmoid")(torch.sigmoid)  # 1 / (1 + exp(-x)).


tanh = direct("Tanh")(torch.tanh)  # Hyperbolic tangent.


softplus = direct("Softplus")(
    F.softplus
)  # log(1 + exp(x)); torch switches to x above 20, where the two differ by less than 3e-9.


softsign = direct("Softsign")(F.softsign)  # X / (1 + |x|).


@operator("Gelu")
def gelu(node: Node) -> Kernel:
    """X times the normal distribution function, exact or by tanh."""
    approximate = node.text("approximate", "none")
    return lambda x: F.gelu(x, approximate=approximate)


gelu_exact = direct("Gelu", domain="com.microsoft")(F.gelu)  # X times the normal distribution function.


mish = direct("Mish")(F.mish)  # X tanh(softplus(x)).


@operator("Swish")
def swish(node: Node) -> Kernel:
    """X sigmoid(alpha x)."""
    alpha = node.real("alpha", 1.0)
    return lambda x: x * torch.sigmoid(alpha * x)


@operator("Shrink")
def shrink(node: Node) -> Kernel:
    """X moved towards 0 by bias where its magnitude exceeds lambd, else 0."""
    threshold, bias = node.real("lambd", 0.5), node.real("bias", 0.0)

    def kernel(x: Tensor) -> Tensor:
        zero = torch.zeros_like(x)
        return torch.where(x < -threshold, x + bias, torch.where(x > threshold, x - bias, zero)).to(x.dtype)

    return kernel


@operator("Clip", until=10)
def clip_by_attributes(node: Node) -> Kernel:
    """X between two attributes."""
    return _clipping(node.attributes.get("min"), node.attributes.get("max"))


@operator("Clip", since=11)
def clip(node: Node) -> Kernel:
    """X between two inputs; the upper one wins where they cross."""
    return _clipping(node.scalar(1), node.scalar(2))


def _clipping(low: float | None, high: float | None) -> Kernel:
    if low is None and high is None:
        return lambda x, *_: x.clone()
    if low is None or high is None or low >= high:
        return lambda x, *_: x.clamp(low, high)
    # The gradient at a bound is 0, as ReLU6 has it; clamp's is 1.
    return lambda x, *_: F.hardtanh(x, low, high) if x.is_floating_point() else x.clamp(low, high)


@operator("Softmax", "LogSoftmax", "Hardmax", since=13)
def softmax(node: Node) -> Kernel:
    """Along one axis."""
    function, axis = _NORMALISERS[node.operator], node.integer("axis", -1)
    return lambda x: function(x, axis)


@operator("Softmax", "LogSoftmax", "Hardmax", until=12)
def softmax_of_matrix(node: Node) -> Kernel:
    """Over all axes from one on: the input is coerced to a matrix."""
    function, axis = _NORMALISERS[node.operator], node.integer("axis", 1)

    def kernel(x: Tensor) -> Tensor:
        first = axis % x.dim() if axis != x.dim() else axis
        return function(x.flatten(first), -1).reshape(x.shape) if first < x.dim() else function(x.unsqueeze(-1), -1)

    return kernel


def _hardmax(x: Tensor, axis: int) -> Tensor:
    """1 at the first largest element, else 0."""
    return torch.zeros_like(x).scatter(axis, x.argmax(axis, keepdim=True), 1)


_NORMALISERS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "Softmax": torch.softmax,
    "LogSoftmax": torch.log_softmax,
    "Hardmax": _hardmax,
}
