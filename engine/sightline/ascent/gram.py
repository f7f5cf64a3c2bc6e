"""Gram matrices under autograd: which features occur together, wherever they do."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor


class _ChannelProducts(torch.autograd.Function):
    """F Fᵀ, whose gradient takes one product instead of the two that autograd makes of a general matrix product."""

    @staticmethod
    def forward(ctx: Any, features: Tensor) -> Tensor:
        ctx.save_for_backward(features)
        return torch.bmm(features, features.transpose(1, 2))  # (B, C, C)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        (features,) = ctx.saved_tensors
        (slope,) = slopes
        return torch.bmm(slope + slope.transpose(1, 2), features)


def channel_products(features: Tensor) -> Tensor:
    """(B, C, C) sums over positions of the products of each two channels of features (B, C, h, w)."""
    return cast(Tensor, _ChannelProducts.apply(features.flatten(2)))


def gram(features: Tensor) -> Tensor:
    """(B, C, C) means over positions instead, so that pictures of different sizes compare."""
    return channel_products(features) / (features.shape[-2] * features.shape[-1])


def gram_distance(found: Tensor, wanted: Tensor) -> Tensor:
    """(B,) squared distance of Gram matrices (B, C, C) over the wanted one's squared norm; 1 is that of no features.

    Args:
        found: of the pictures.
        wanted: (B, C, C), or (1, C, C) for all.
    """
    norms = wanted.square().flatten(1).sum(dim=1).clamp_min(1e-24)
    return (found - wanted).square().flatten(1).sum(dim=1) / norms
