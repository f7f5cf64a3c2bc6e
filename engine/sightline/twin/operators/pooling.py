"""Pooling over windows or over whole images, one to three spatial dimensions."""

# Operands of a kernel are tensors; a lambda cannot say so.
# pyright: reportUnknownLambdaType=false
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.errors import UnsupportedOperator
from sightline.twin.catalogue import direct, operator
from sightline.twin.node import Kernel, Node
from sightline.twin.operators.convolution import same_pads, spread, torch_pads

_MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


@dataclass(frozen=True)
class Windows:
    """Where a pooling's windows lie.

    Attributes:
        ceil: a last window that begins inside the padded input, but ends outside it, counts.
    """

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: tuple[int, ...]
    automatic: str
    ceil: bool

    @staticmethod
    def of(node: Node) -> Windows:
        """As the node's attributes say."""
        shape = tuple(node.integers("kernel_shape") or ())
        rank = len(shape)
        if not 1 <= rank <= 3:
            raise UnsupportedOperator(f"windows of {rank} dimensions are not pooled; 1 to 3 are")
        ones = [1] * rank
        return Windows(
            shape,
            tuple(node.integers("strides") or ones),
            tuple(node.integers("dilations") or ones),
            tuple(node.integers("pads") or [0] * (2 * rank)),
            node.text("auto_pad", "NOTSET"),
            bool(node.integer("ceil_mode", 0)),
        )

    @property
    def symmetric(self) -> bool:
        """Whether torch's own poolings know these pads: equal at both ends, at most half a window."""
        half = len(self.shape)
        begin, end = self.pads[:half], self.pads[half:]
        fits = all(0 <= 2 * pad <= size for pad, size in zip(begin, self.shape, strict=True))
        return self.automatic == "NOTSET" and begin == end and fits

    def ends(self, sizes: Sequence[int]) -> tuple[list[int], list[int]]:
        """ONNX pads for an input, and the same with what the last windows of ``ceil`` need beyond them."""
        rank = len(self.shape)
        pads = list(self.pads)
        if self.automatic != "NOTSET":
            pads = same_pads(sizes, self.shape, self.stride, self.dilation, self.automatic)
        if not self.ceil:
            return pads, pads
        whole = list(pads)
        for axis, size in enumerate(sizes):
            step, reach = self.stride[axis], self.dilation[axis] * (self.shape[axis] - 1) + 1
            count = -(-(size + pads[axis] + pads[axis + rank] - reach) // step) + 1
            if (count - 1) * step >= size + pads[axis]:
                count -= 1  # it would begin in the padding
            whole[axis + rank] = max((count - 1) * step + reach - size - pads[axis], pads[axis + rank])
        return pads, whole


@operator("MaxPool")
def max_pool(node: Node) -> Kernel:
    """Largest element of each window, and on request where it lies in the flat input."""
    windows, pool = Windows.of(node), _MAX[len(Windows.of(node).shape)]
    geometry: dict[str, Any] = {"stride": windows.stride, "dilation": windows.dilation}
    if node.wants(1):
        return _max_pool_indices(windows, node.integer("storage_order", 0))
    if windows.symmetric:
        begin = windows.pads[: len(windows.shape)]
        geometry.update(padding=begin, ceil_mode=windows.ceil)
        return lambda x: (
            pool(x, windows.shape, **geometry)
            if x.is_floating_point()
            else pool(x.double(), windows.shape, **geometry).to(x.dtype)
        )

    def kernel(x: Tensor) -> Tensor:
        plain = x if x.is_floating_point() else x.double()
        filled = F.pad(plain, torch_pads(windows.ends(x.shape[2:])[1]), value=-math.inf)
        return pool(filled, windows.shape, **geometry).to(x.dtype)

    return kernel


def _max_pool_indices(windows: Windows, column_major: int) -> Kernel:
    pool = _MAX[len(windows.shape)]

    def kernel(x: Tensor) -> tuple[Tensor, Tensor]:
        plain = x if x.is_floating_point() else x.double()
        pads = windows.ends(x.shape[2:])[1]
        filled = F.pad(plain, torch_pads(pads), value=-math.inf)
        largest, where = pool(
            filled, windows.shape, stride=windows.stride, dilation=windows.dilation, return_indices=True
        )
        flat = torch.zeros_like(where)
        sizes = x.shape[2:]
        for axis in range(len(sizes)):  # from positions in the padded image to positions in the image
            position = where // math.prod(filled.shape[3 + axis :]) % filled.shape[2 + axis] - pads[axis]
            inner = sizes[:axis] if column_major else sizes[axis + 1 :]
            flat = flat + position * math.prod(inner)
        planes = torch.arange(x.shape[0] * x.shape[1], device=x.device) * math.prod(sizes)
        return largest.to(x.dtype), flat + planes.reshape(*x.shape[:2], *[1] * len(sizes))

    return kernel


@operator("MaxUnpool")
def max_unpool(node: Node) -> Kernel:
    """Each element at the place in the flat output that MaxPool gave it, 0 elsewhere."""
    windows = Windows.of(node)
    rank = len(windows.shape)
    shape = node.value(2)

    def kernel(x: Tensor, places: Tensor, *_: Tensor | None) -> Tensor:
        sizes = [
            (n - 1) * s + k - begin - end
            for n, s, k, begin, end in zip(
                x.shape[2:], windows.stride, windows.shape, windows.pads[:rank], windows.pads[rank:], strict=True
            )
        ]
        natural = (*x.shape[:2], *sizes)
        flat = x.new_zeros(math.prod(natural)).scatter(0, places.flatten(), x.flatten()).reshape(natural)
        if shape is None:
            return flat
        return F.pad(flat, torch_pads([*[0] * x.dim(), *(w - n for w, n in zip(shape, natural, strict=True))]))

    return kernel


@operator("AveragePool")
def average_pool(node: Node) -> Kernel:
    """Mean of each window; padding counts only with count_include_pad."""
    windows = Windows.of(node)
    include = bool(node.integer("count_include_pad", 0))
    rank = len(windows.shape)
    pool = _AVERAGE[rank]
    if windows.symmetric and set(windows.dilation) == {1}:
        begin = windows.pads[:rank]
        return lambda x: pool(x, windows.shape, windows.stride, begin, windows.ceil, include)

    def kernel(x: Tensor) -> Tensor:
        pads, whole = windows.ends(x.shape[2:])
        counted = F.pad(x.new_ones(1, 1, *x.shape[2:]), torch_pads(pads), value=float(include))
        beyond = [after - before for after, before in zip(whole, pads, strict=True)]
        counts = _sums(F.pad(counted, torch_pads(beyond)), windows)
        return _sums(F.pad(x, torch_pads(whole)), windows) / counts

    return kernel


@operator("LpPool")
def lp_pool(node: Node) -> Kernel:
    """Root of the sum of powers of each window."""
    windows, power = Windows.of(node), node.real("p", 2)
    return lambda x: _root(_sums(F.pad(x.abs() ** power, torch_pads(windows.ends(x.shape[2:])[1])), windows), power)


@direct("GlobalAveragePool")
def global_average_pool(x: Tensor) -> Tensor:
    """(B, C, *spatial) -> (B, C, 1…)."""
    return x.mean(tuple(range(2, x.dim())), keepdim=True)


@direct("GlobalMaxPool")
def global_max_pool(x: Tensor) -> Tensor:
    """(B, C, *spatial) -> (B, C, 1…); the gradient goes to one of equal elements, as in MaxPool."""
    return x.flatten(2).max(-1).values.reshape(*x.shape[:2], *[1] * (x.dim() - 2))


@operator("GlobalLpPool")
def global_lp_pool(node: Node) -> Kernel:
    """(B, C, *spatial) -> (B, C, 1…)."""
    power = node.real("p", 2)
    return lambda x: _root((x.abs() ** power).sum(tuple(range(2, x.dim())), keepdim=True), power)


def _sums(x: Tensor, windows: Windows) -> Tensor:
    """Sum of each window of an input that is padded already."""
    ones = x.new_ones(1, 1, *windows.shape)
    rank = len(windows.shape)
    planes = x.reshape(-1, 1, *x.shape[2:])  # (B·C, 1, *spatial)
    sums = torch.convolution(
        planes, ones, None, windows.stride, [0] * rank, spread(windows.dilation, rank), False, [0], 1
    )
    return sums.reshape(*x.shape[:2], *sums.shape[2:])


def _root(sums: Tensor, power: float) -> Tensor:
    """Root whose gradient is 0 where the sum is."""
    tiny = torch.finfo(sums.dtype).tiny
    return torch.where(sums > 0, sums.clamp(min=tiny) ** (1 / power), torch.zeros_like(sums))
