"""Reductions of axes, places of extremes, running sums."""

# Operands of a kernel are tensors; a lambda cannot say so.
# pyright: reportUnknownLambdaType=false
from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from sightline.twin.catalogue import operator
from sightline.twin.node import Kernel, Node

_Reduction = Callable[[Tensor, list[int], bool], Tensor]


def _extreme(function: _Reduction, of_nothing: float) -> _Reduction:
    """Amax or amin, which torch refuses for an empty set."""

    def reduced(x: Tensor, axes: list[int], keep: bool) -> Tensor:
        if all(x.shape[axis] for axis in axes):
            return function(x, axes, keep)
        bounds = None if x.is_floating_point() or x.dtype == torch.bool else torch.iinfo(x.dtype)
        filler = of_nothing if bounds is None else bounds.min if of_nothing < 0 else bounds.max
        if x.dtype == torch.bool:
            filler = of_nothing > 0
        return torch.full_like(x.double().sum(axes, keep), filler, dtype=x.dtype)

    return reduced


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted((axis % x.dim() for axis in axes), reverse=True):
        x = x.prod(axis, keepdim=keep, dtype=x.dtype)
    return x


_REDUCTIONS: dict[str, _Reduction] = {
    "ReduceSum": lambda x, axes, keep: x.sum(axes, keep),
    "ReduceMean": lambda x, axes, keep: (x if x.is_floating_point() else x.double()).mean(axes, keep),
    "ReduceMax": _extreme(torch.amax, -math.inf),
    "ReduceMin": _extreme(torch.amin, math.inf),
    "ReduceProd": _product,
    "ReduceL1": lambda x, axes, keep: x.abs().sum(axes, keep),
    "ReduceL2": lambda x, axes, keep: torch.linalg.vector_norm(
        x if x.is_floating_point() else x.double(), 2, axes, keep
    ),
    "ReduceLogSum": lambda x, axes, keep: x.sum(axes, keep).log(),
    "ReduceLogSumExp": lambda x, axes, keep: torch.logsumexp(x if x.is_floating_point() else x.double(), axes, keep),
    "ReduceSumSquare": lambda x, axes, keep: x.square().sum(axes, keep),
}


@operator(*_REDUCTIONS)
def reduction(node: Node) -> Kernel:
    """Over some axes, by default all; or over none, if noop_with_empty_axes says so."""
    function, keep = _REDUCTIONS[node.operator], bool(node.integer("keepdims", 1))
    axes = node.setting("axes", 1)
    if not axes and node.integer("noop_with_empty_axes", 0):
        return lambda x, *_: function(x.unsqueeze(0), [0], False).to(x.dtype)

    def kernel(x: Tensor, *_: Tensor) -> Tensor:
        if x.dim() == 0:
            return function(x.unsqueeze(0), [0], False).to(x.dtype)
        return function(x, axes or list(range(x.dim())), keep).to(x.dtype)

    return kernel


@operator("ArgMax", "ArgMin")
def place_of_extreme(node: Node) -> Kernel:
    """The first place of the extreme along one axis, or the last."""
    axis, keep = node.integer("axis", 0), bool(node.integer("keepdims", 1))
    function = torch.argmax if node.operator == "ArgMax" else torch.argmin
    if not node.integer("select_last_index", 0):
        return lambda x: function(x, axis, keep)
    return lambda x: x.shape[axis] - 1 - function(x.flip(axis), axis, keep)


@operator("TopK")
def top(node: Node) -> Kernel:
    """The extreme elements along one axis and their places, ties to the lowest place."""
    axis, largest = node.integer("axis", -1), bool(node.integer("largest", 1))
    count = node.integer("k", 0) if "k" in node.attributes else int(node.scalar(1))

    def kernel(x: Tensor, *_: Tensor) -> tuple[Tensor, Tensor]:
        values, places = x.sort(dim=axis, descending=largest, stable=True)
        return values.narrow(axis, 0, count), places.narrow(axis, 0, count)

    return kernel


@operator("CumSum", "CumProd")
def running(node: Node) -> Kernel:
    """Sum or product of all elements so far, with the element itself unless exclusive, from the end if reverse."""
    axis, exclusive, reverse = int(node.scalar(1)), node.integer("exclusive", 0), node.integer("reverse", 0)
    function, neutral = (torch.cumsum, 0) if node.operator == "CumSum" else (torch.cumprod, 1)

    def kernel(x: Tensor, _: Tensor) -> Tensor:
        source = x.flip(axis) if reverse else x
        if exclusive:
            first = torch.full_like(source.narrow(axis, 0, 1), neutral)
            source = torch.cat([first, source.narrow(axis, 0, source.shape[axis] - 1)], axis)
        result = function(source, axis, dtype=x.dtype)
        return result.flip(axis) if reverse else result

    return kernel
