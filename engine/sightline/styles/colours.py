"""Colours of one picture given to another, so that a painting keeps those of its photograph.

Gatys, Bethge, Hertzmann, Shechtman, "Preserving Color in Neural Artistic Style Transfer" (2016), arXiv:1606.05897.
Pictures are (H, W, 3) float32 sRGB of 0 to 255.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sightline.types import FloatArray

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green and blue; ITU-R 601


def matched(picture: FloatArray, reference: FloatArray) -> FloatArray:
    """The picture with mean and covariance of the reference's colours, by the linear map that moves colours least.

    Section 4.1 of the paper with the symmetric square root; of Gaussians it is the optimal transport between them
    (Pitié, Kokaram 2007). Colours that leave 0 to 255 are cut off. A picture of one colour becomes the mean.
    """
    mean, covariance = _moments(picture)
    wanted_mean, wanted = _moments(reference)
    root = _root(covariance)
    inverse = np.linalg.pinv(root, rcond=1e-4, hermitian=True)
    map_ = inverse @ _root(root @ wanted @ root) @ inverse
    return np.clip((picture - mean) @ map_.T + wanted_mean, 0, 255).astype(np.float32)


def luminance(picture: FloatArray) -> FloatArray:
    """(H, W, 3) grey of the same lightness."""
    return np.repeat((picture @ LUMA)[..., None], 3, axis=-1)


def luminance_matched(picture: FloatArray, reference: FloatArray) -> FloatArray:
    """Grey of a picture with mean and deviation of the reference's; section 4.2 of the paper."""
    grey, wanted = luminance(picture), luminance(reference)
    deviation = max(float(grey.std()), 1e-6)
    found = (grey - grey.mean()) * (float(wanted.std()) / deviation) + wanted.mean()
    return np.clip(found, 0, 255).astype(np.float32)


def with_colours_of(painting: FloatArray, photograph: FloatArray) -> FloatArray:
    """The painting's luminance with the photograph's chrominance, cut off at 0 and 255."""
    change = (painting - photograph) @ LUMA  # (H, W)
    return np.clip(photograph + change[..., None], 0, 255).astype(np.float32)


def _moments(picture: FloatArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean (3,) and covariance (3, 3) over pixels."""
    colours = picture.reshape(-1, 3).astype(np.float64)
    mean = colours.mean(axis=0)
    return mean, (colours - mean).T @ (colours - mean) / len(colours)


def _root(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Symmetric square root of a covariance."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(values.clip(0))) @ vectors.T
