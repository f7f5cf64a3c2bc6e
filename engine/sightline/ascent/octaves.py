"""Pictures at other sizes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.image import read_image
from sightline.preprocess import Preprocess
from sightline.types import Batch, FloatArray


def octave_sizes(height: int, width: int, octaves: int, ratio: float) -> list[tuple[int, int]]:
    """Heights and widths from the smallest octave to the picture's own; a side has one pixel at least.

    >>> octave_sizes(100, 50, 3, 2.0)
    [(25, 12), (50, 25), (100, 50)]
    """
    factors = [ratio**-octave for octave in reversed(range(octaves))]
    return [(max(1, round(height * factor)), max(1, round(width * factor))) for factor in factors]


def resized(images: Tensor, size: Sequence[int]) -> Tensor:
    """(B, C, h, w) of pictures of another size, bicubic, without aliasing."""
    if tuple(images.shape[-2:]) == tuple(size) or not len(images):
        return images.new_zeros(*images.shape[:2], *size) if not len(images) else images
    return F.interpolate(images, size=list(size), mode="bicubic", align_corners=False, antialias=True)


def zoomed(images: Tensor, factor: float) -> Tensor:
    """Pictures (B, C, H, W) enlarged about their centre and cut to the size that they had."""
    matrix = torch.tensor([[1 / factor, 0, 0], [0, 1 / factor, 0]]).to(images).expand(len(images), 2, 3)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bicubic", padding_mode="border", align_corners=False)


def enlarged(images: Batch, preprocess: Preprocess, side: int) -> FloatArray:
    """(B, C, h, w) of what the model sees of each image with so many pixels on the shorter side.

    Read anew from the files, so that there is real detail; images without a file are enlarged.
    """
    height, width = images.tensor.shape[2:]
    size = (round(height * side / min(height, width)), round(width * side / min(height, width)))
    read = preprocess.fitted(*size)
    rows = [
        resized(torch.from_numpy(tensor[None]), size).numpy()[0]
        if photo.path is None
        else read(read_image(photo.path))[1]
        for photo, tensor in zip(images.photos, images.tensor, strict=True)
    ]
    return np.array(rows, np.float32).reshape(len(images), images.tensor.shape[1], *size)
