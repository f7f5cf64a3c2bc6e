"""Normalisations by an image's own statistics, with the deviation held as if it were a constant."""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.twin.node import Kernel, Node

NORMALISING = frozenset({"LayerNormalization", "InstanceNormalization", "GroupNormalization"})


def held(node: Node) -> Kernel:
    """What the node computes, linear in the input: its mean moves with it, its deviation does not."""
    epsilon = node.real("epsilon", 1e-5)

    def kernel(x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
        groups = x.reshape(*_leading(node, x), -1)  # (..., n): statistics are those of the last axis
        variance = torch.var(groups.detach(), -1, correction=0, keepdim=True)
        normal = (groups - groups.mean(-1, keepdim=True)) * torch.rsqrt(variance + epsilon)
        scaled = normal.reshape(x.shape) * _fitted(node, scale, x)
        return scaled if bias is None else scaled + _fitted(node, bias, x)

    return kernel


def _leading(node: Node, x: Tensor) -> tuple[int, ...]:
    match node.operator:
        case "LayerNormalization":
            return tuple(x.shape[: node.integer("axis", -1) % x.dim()])
        case "GroupNormalization":
            return x.shape[0], node.integer("num_groups", 1)
        case _:
            return x.shape[0], x.shape[1]


def _fitted(node: Node, weight: Tensor, x: Tensor) -> Tensor:
    """Scale or bias, to multiply the input's shape."""
    if node.operator == "LayerNormalization":
        return weight
    each = weight.repeat_interleave(x.shape[1] // weight.numel())  # before opset 21 one per group
    return each.reshape(-1, *[1] * (x.dim() - 2))
