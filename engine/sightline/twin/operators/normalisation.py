"""Normalisation by statistics of the training set, the image, the layer or the neighbourhood."""

# Operands of a kernel are tensors; a lambda cannot say so.
# pyright: reportUnknownLambdaType=false
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.errors import UnsupportedOperator
from sightline.twin.catalogue import operator
from sightline.twin.node import Kernel, Node


@operator("BatchNormalization")
def batch_normalization(node: Node) -> Kernel:
    """By the running statistics: each image's result depends on that image alone."""
    if node.integer("training_mode", 0) or (node.version >= 9 and node.wants(1)):
        raise UnsupportedOperator("in training mode results depend on the batch; export the model in eval mode")
    epsilon = node.real("epsilon", 1e-5)
    if node.integer("spatial", 1):
        return lambda x, scale, bias, mean, variance: F.batch_norm(
            x, mean, variance, scale, bias, training=False, eps=epsilon
        )
    return lambda x, scale, bias, mean, variance: (x - mean) / torch.sqrt(variance + epsilon) * scale + bias


@operator("InstanceNormalization")
def instance_normalization(node: Node) -> Kernel:
    """Each channel of each image by its own statistics."""
    epsilon = node.real("epsilon", 1e-5)
    return lambda x, scale, bias: F.group_norm(x, x.shape[1], scale, bias, epsilon)


@operator("GroupNormalization", until=20)
def group_normalization_by_group(node: Node) -> Kernel:
    """Scale and bias have one element per group."""
    groups, epsilon = node.integer("num_groups", 1), node.real("epsilon", 1e-5)

    def kernel(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        each = x.shape[1] // groups
        return F.group_norm(x, groups, scale.repeat_interleave(each), bias.repeat_interleave(each), epsilon)

    return kernel


@operator("GroupNormalization", since=21)
def group_normalization(node: Node) -> Kernel:
    """Scale and bias have one element per channel."""
    groups, epsilon = node.integer("num_groups", 1), node.real("epsilon", 1e-5)
    return lambda x, scale, bias: F.group_norm(x, groups, scale, bias, epsilon)


@operator("LayerNormalization")
def layer_normalization(node: Node) -> Kernel:
    """All axes from one on, by their own statistics; on request also the mean and the inverse deviation."""
    axis, epsilon = node.integer("axis", -1), node.real("epsilon", 1e-5)

    def kernel(x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
        shape = x.shape[axis:]
        if scale.shape == shape and (bias is None or bias.shape == shape):
            return F.layer_norm(x, shape, scale, bias, epsilon)
        normal = F.layer_norm(x, shape, eps=epsilon) * scale
        return normal if bias is None else normal + bias

    def with_statistics(x: Tensor, scale: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        axes = tuple(range(axis % x.dim(), x.dim()))
        variance, mean = torch.var_mean(x.float(), axes, correction=0, keepdim=True)
        return kernel(x, scale, bias), mean, torch.rsqrt(variance + epsilon)

    return with_statistics if node.wants(1) or node.wants(2) else kernel


@operator("RMSNormalization")
def rms_normalization(node: Node) -> Kernel:
    """All axes from one on, by the root of their mean square."""
    axis, epsilon = node.integer("axis", -1), node.real("epsilon", 1e-5)
    return lambda x, scale: F.rms_norm(x, x.shape[axis:], eps=epsilon) * scale


@operator("LRN")
def local_response_normalization(node: Node) -> Kernel:
    """By the squares of neighbouring channels: (size - 1) // 2 before and size // 2 after."""
    size, bias = node.integer("size", 1), node.real("bias", 1.0)
    alpha, beta = node.real("alpha", 1e-4), node.real("beta", 0.75)

    def kernel(x: Tensor) -> Tensor:
        squares = x.square().flatten(2).unsqueeze(1)  # (B, 1, C, H·W)
        padded = F.pad(squares, (0, 0, (size - 1) // 2, size // 2))
        means = F.avg_pool2d(padded, (size, 1), stride=1).reshape(x.shape)
        return x / (bias + alpha * means) ** beta

    return kernel


@operator("LpNormalization")
def lp_normalization(node: Node) -> Kernel:
    """One axis by its norm; a vector of zeros stays."""
    axis, power = node.integer("axis", -1), node.integer("p", 2)

    def kernel(x: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, power, axis, keepdim=True)
        return x / torch.where(norm == 0, torch.ones_like(norm), norm)

    return kernel


@operator("MeanVarianceNormalization")
def mean_variance_normalization(node: Node) -> Kernel:
    """To mean 0 and deviation 1 over some axes, by default all but the channels."""
    axes = node.integers("axes") or [0, 2, 3]

    def kernel(x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
        return (x - mean) / (variance.sqrt() + 1e-9)

    return kernel
