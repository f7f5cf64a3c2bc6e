"""Resampling of some axes: nearest, linear, cubic.

Every mode is the same weighted sum along one axis after another: element i of the result is the sum over the taps t
of weight[i, t] · x[place[i, t]]. The modes differ in how places and weights follow from the result's coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sightline.twin.catalogue import operator
from sightline.twin.node import Kernel, Node

Reals = NDArray[np.float64]


@dataclass(frozen=True)
class Resampling:
    """How one axis is resampled; the names are ONNX's."""

    mode: str
    coordinates: str
    rounding: str
    cubic: float
    antialias: bool
    exclude_outside: bool
    extrapolation: float


@dataclass(frozen=True)
class Axis:
    """One axis to resample.

    Attributes:
        scale: result per input; not always their quotient, as the result's size is rounded.
        region: of the input, normalised; read by tf_crop_and_resize alone.
    """

    index: int
    before: int
    after: int
    scale: float
    region: tuple[float, float] = (0.0, 1.0)


@operator("Upsample", until=9)
def upsample(node: Node) -> Kernel:
    """By scales, with the coordinates that Resize calls asymmetric."""
    scales = node.reals("scales") or node.value(1) or []
    how = Resampling(node.text("mode", "nearest"), "asymmetric", "floor", -0.75, False, False, 0.0)
    return _kernel(how, lambda x: _scaled(x.shape, range(x.dim()), scales))


@operator("Resize", until=10)
def resize_by_scales(node: Node) -> Kernel:
    """As Upsample; nearest rounds up where it shrinks, as ONNX Runtime does it."""
    scales = node.value(1) or []
    shrinks = any(scale < 1 for scale in scales)
    how = Resampling(
        node.text("mode", "nearest"), "asymmetric", "ceil" if shrinks else "floor", -0.75, False, False, 0.0
    )
    return _kernel(how, lambda x: _scaled(x.shape, range(x.dim()), scales))


@operator("Resize", since=11)
def resize(node: Node) -> Kernel:
    """By scales or to sizes."""
    how = Resampling(
        node.text("mode", "nearest"),
        node.text("coordinate_transformation_mode", "half_pixel"),
        node.text("nearest_mode", "round_prefer_floor"),
        node.real("cubic_coeff_a", -0.75),
        bool(node.integer("antialias", 0)),
        bool(node.integer("exclude_outside", 0)),
        node.real("extrapolation_value", 0.0),
    )
    scales, sizes, policy = node.value(2), node.value(3), node.text("keep_aspect_ratio_policy", "stretch")
    region = node.value(1) if how.coordinates == "tf_crop_and_resize" else None
    given = node.integers("axes")

    def axes(x: Tensor) -> list[Axis]:
        chosen = [axis % x.dim() for axis in given] if given is not None else list(range(x.dim()))
        half = len(chosen)
        regions = [(region[i], region[half + i]) for i in range(half)] if region else [(0.0, 1.0)] * half
        if sizes:
            return _sized(x.shape, chosen, sizes, policy, regions)
        return _scaled(x.shape, chosen, scales or [], regions)

    return _kernel(how, axes)


def _scaled(
    shape: Sequence[int],
    axes: Sequence[int],
    scales: Sequence[float],
    regions: Sequence[tuple[float, float]] | None = None,
) -> list[Axis]:
    regions = regions or [(0.0, 1.0)] * len(axes)
    return [
        Axis(axis, shape[axis], math.floor(shape[axis] * (stop - start) * scale), scale, (start, stop))
        for axis, scale, (start, stop) in zip(axes, scales, regions, strict=True)
    ]


def _sized(
    shape: Sequence[int],
    axes: Sequence[int],
    sizes: Sequence[int],
    policy: str,
    regions: Sequence[tuple[float, float]],
) -> list[Axis]:
    scales = [size / shape[axis] for axis, size in zip(axes, sizes, strict=True)]
    if policy != "stretch":
        common = min(scales) if policy == "not_larger" else max(scales)
        scales = [common] * len(axes)
        sizes = [math.floor(common * shape[axis] + 0.5) for axis in axes]
    return [
        Axis(axis, shape[axis], size, scale, region)
        for axis, size, scale, region in zip(axes, sizes, scales, regions, strict=True)
    ]


def _kernel(how: Resampling, axes_of: Callable[[Tensor], list[Axis]]) -> Kernel:
    def kernel(x: Tensor, *_: Tensor | None) -> Tensor:
        cropping = how.coordinates == "tf_crop_and_resize"
        axes = [axis for axis in axes_of(x) if cropping or axis.before != axis.after or axis.scale != 1]
        fast = _interpolated(x, how, axes)
        if fast is not None:
            return fast
        plain = x if x.is_floating_point() else x.to(torch.float32)
        for axis in axes:
            plain = _resampled(plain, how, axis)
        return plain.to(x.dtype)

    return kernel


def _interpolated(x: Tensor, how: Resampling, axes: list[Axis]) -> Tensor | None:
    """By torch's own kernel, None where it has none with this meaning."""
    indices = [axis.index for axis in axes]
    exact = all(axis.after == axis.before * axis.scale for axis in axes)
    if x.dim() != 4 or indices != [2, 3] or not exact or not x.is_floating_point():
        return None
    size = [axis.after for axis in axes]
    if how.mode == "nearest":
        whole = all(float(axis.scale).is_integer() for axis in axes)  # then every usual rounding gives the same
        usual = how.coordinates == "asymmetric" and how.rounding == "floor"
        usual |= how.coordinates == "half_pixel" and how.rounding.startswith("round")
        return F.interpolate(x, size, mode="nearest") if whole and usual else None
    grows = all(axis.scale >= 1 for axis in axes)
    corners = how.coordinates == "align_corners"
    if how.mode == "linear" and (corners or how.coordinates == "half_pixel") and (grows or not how.antialias):
        return F.interpolate(x, size, mode="bilinear", align_corners=corners)
    return None


def _resampled(x: Tensor, how: Resampling, axis: Axis) -> Tensor:
    places, weights, outside = _taps(how, axis)
    where = torch.from_numpy(places).to(x.device)  # (after, taps)
    each = torch.from_numpy(weights).to(x.device, x.dtype)
    spread = [-1, *[1] * (x.dim() - axis.index - 1)]
    parts = [
        x.index_select(axis.index, where[:, tap]) * each[:, tap].reshape(spread) for tap in range(where.shape[1])
    ]
    result = parts[0]
    for part in parts[1:]:
        result = result + part
    if not outside.any():
        return result
    beyond = torch.from_numpy(outside).to(x.device).reshape(spread)
    return torch.where(beyond, torch.full_like(result, how.extrapolation), result)


def _taps(how: Resampling, axis: Axis) -> tuple[NDArray[np.int64], Reals, NDArray[np.bool_]]:
    """Places in the input and their weights (after, taps), and which results lie outside the region."""
    centre = _coordinates(how, axis)
    outside = np.zeros(axis.after, dtype=np.bool_)
    if how.coordinates == "tf_crop_and_resize":
        outside = (centre < 0) | (centre > axis.before - 1)
    if how.mode == "nearest":
        nearest = np.clip(_ROUNDINGS[how.rounding](centre), 0, axis.before - 1).astype(np.int64)
        return nearest[:, None], np.ones((axis.after, 1)), outside
    stretch = max(1.0, 1.0 / axis.scale) if how.antialias else 1.0
    reach = math.ceil((1 if how.mode == "linear" else 2) * stretch)
    first = np.floor(centre).astype(np.int64) - reach + 1
    places = first[:, None] + np.arange(2 * reach)
    distance = np.abs(places - centre[:, None]) / stretch
    weights = np.maximum(1 - distance, 0) if how.mode == "linear" else _cubic(distance, how.cubic)
    inside = (places >= 0) & (places < axis.before)
    if how.exclude_outside:
        weights = np.where(inside, weights, 0.0)
    if how.exclude_outside or how.antialias:
        weights = weights / weights.sum(1, keepdims=True)
    return np.clip(places, 0, axis.before - 1), weights, outside


def _coordinates(how: Resampling, axis: Axis) -> Reals:
    """Where in the input each element of the result lies."""
    i = np.arange(axis.after, dtype=np.float64)
    n, m, scale = axis.before, axis.after, axis.scale
    start, stop = axis.region
    match how.coordinates:
        case "asymmetric":
            return i / scale
        case "align_corners":
            return i * (n - 1) / (m - 1) if m > 1 else np.zeros_like(i)  # m as ONNX Runtime has it: rounded down
        case "pytorch_half_pixel":
            return (i + 0.5) / scale - 0.5 if m > 1 else np.full_like(i, 0.0)
        case "tf_half_pixel_for_nn":
            return (i + 0.5) / scale
        case "half_pixel_symmetric":
            return n / 2 * (1 - m / (n * scale)) + (i + 0.5) / scale - 0.5
        case "tf_crop_and_resize":
            if m > 1:
                return start * (n - 1) + i * (stop - start) * (n - 1) / (m - 1)
            return np.full_like(i, 0.5 * (start + stop) * (n - 1))
        case _:
            return (i + 0.5) / scale - 0.5


_ROUNDINGS: dict[str, Callable[[Reals], Reals]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def _cubic(distance: Reals, a: float) -> Reals:
    """Keys 1981, Cubic convolution interpolation for digital image processing."""
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((distance - 5) * distance + 8) * distance * a - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
