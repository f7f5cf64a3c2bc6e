"""A mirrored margin about pictures, so that what networks make of a border is made of none of their pixels."""

from __future__ import annotations

import torch
from torch import Tensor

MARGIN = 16  # pixels beyond each edge that are seen and cut off


def widened(images: Tensor) -> Tensor:
    """(B, C, H, W) with a mirrored margin."""
    for axis in (-2, -1):
        side = images.shape[axis]
        places = torch.arange(-MARGIN, side + MARGIN, device=images.device) % (2 * side)
        images = images.index_select(axis, torch.where(places < side, places, 2 * side - 1 - places))
    return images


def narrowed(images: Tensor) -> Tensor:
    """Without it."""
    return images[..., MARGIN:-MARGIN, MARGIN:-MARGIN]
