"""Reading and writing of chosen elements."""

# Operands of a kernel are tensors; a lambda cannot say so.
# pyright: reportUnknownLambdaType=false
from __future__ import annotations

import math

import torch
from torch import Tensor

from sightline.twin.catalogue import direct, operator
from sightline.twin.node import Kernel, Node

_INFINITE = 1 << 62  # torch warns of what is less than its negative, as exporters write for the very first
_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


@operator("Slice")
def slice_(node: Node) -> Kernel:
    """Every step-th element from start to end of some axes; steps may be negative."""
    starts, ends = node.setting("starts", 1) or [], node.setting("ends", 2) or []
    given = node.setting("axes", 3)
    axes = list(range(len(starts))) if given is None else given
    steps = node.value(4) or [1] * len(starts)
    cuts = list(zip(axes, starts, ends, steps, strict=True))

    def kernel(x: Tensor, *_: Tensor | None) -> Tensor:
        picks = [slice(None)] * x.dim()
        flipped: list[int] = []
        for axis, start, end, step in cuts:
            if step > 0:
                picks[axis] = slice(_held(start), _held(end), step)
                continue
            places = range(*slice(start, end, step).indices(x.shape[axis]))
            picks[axis] = slice(places[-1], places[0] + 1, -step) if places else slice(0, 0)
            flipped.append(axis)
        return x[tuple(picks)].flip(flipped) if flipped else x[tuple(picks)]

    return kernel


def _held(place: int) -> int:
    return max(-_INFINITE, min(place, _INFINITE))


@operator("Gather")
def gather(node: Node) -> Kernel:
    """Slices of one axis, at indices of any shape."""
    axis = node.integer("axis", 0)

    def kernel(x: Tensor, indices: Tensor) -> Tensor:
        place = axis % x.dim()
        flat = _counted(indices.flatten(), x.shape[place])
        return x.index_select(place, flat).reshape((*x.shape[:place], *indices.shape, *x.shape[place + 1 :]))

    return kernel


@operator("GatherElements")
def gather_elements(node: Node) -> Kernel:
    """One element per index, elsewhere on one axis."""
    axis = node.integer("axis", 0)
    return lambda x, indices: torch.gather(x, axis, _counted(indices, x.shape[axis]))


@operator("GatherND")
def gather_nd(node: Node) -> Kernel:
    """Slices at tuples of indices, after some axes that both operands share."""
    shared = node.integer("batch_dims", 0)

    def kernel(x: Tensor, indices: Tensor) -> Tensor:
        depth = indices.shape[-1]
        inner = indices.shape[shared:-1]
        outer = math.prod(x.shape[:shared])
        data = x.reshape(outer, *x.shape[shared:])
        tuples = indices.reshape(outer, -1, depth)
        picks = [_counted(tuples[..., i], x.shape[shared + i]) for i in range(depth)]
        rows = torch.arange(outer, device=x.device).unsqueeze(1)
        return data[(rows, *picks)].reshape((*x.shape[:shared], *inner, *x.shape[shared + depth :]))

    return kernel


@operator("ScatterElements", "Scatter")
def scatter_elements(node: Node) -> Kernel:
    """The first operand with some elements replaced, or combined with the updates."""
    axis, reduction = node.integer("axis", 0), node.text("reduction", "none")

    def kernel(x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        places = _counted(indices, x.shape[axis])
        if reduction == "none":
            return x.scatter(axis, places, updates)
        return x.scatter_reduce(axis, places, updates, _REDUCTIONS[reduction])

    return kernel


@operator("ScatterND")
def scatter_nd(node: Node) -> Kernel:
    """The first operand with slices at tuples of indices replaced, or combined with the updates."""
    reduction = node.text("reduction", "none")

    def kernel(x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        depth = indices.shape[-1]
        flat = torch.zeros_like(indices[..., 0])
        for i in range(depth):
            flat = flat * x.shape[i] + _counted(indices[..., i], x.shape[i])
        data = x.reshape(math.prod(x.shape[:depth]), -1)
        places = flat.reshape(-1, 1).expand(-1, data.shape[1])
        rows = updates.reshape(places.shape)
        if reduction == "none":
            return data.scatter(0, places, rows).reshape(x.shape)
        return data.scatter_reduce(0, places, rows, _REDUCTIONS[reduction]).reshape(x.shape)

    return kernel


@operator("Compress")
def compress(node: Node) -> Kernel:
    """Slices of one axis, or elements of the flat operand, where the condition holds."""
    axis = node.attributes.get("axis")

    def kernel(x: Tensor, condition: Tensor) -> Tensor:
        chosen = condition.nonzero().flatten()
        return x.flatten().index_select(0, chosen) if axis is None else x.index_select(axis, chosen)

    return kernel


@direct("NonZero")
def non_zero(x: Tensor) -> Tensor:
    """Indices of the elements that are not 0, a row per axis."""
    return x.nonzero().t()


@operator("Trilu")
def triangle(node: Node) -> Kernel:
    """Upper or lower triangle, from a diagonal on."""
    diagonal = node.scalar(1) or 0
    function = torch.triu if node.integer("upper", 1) else torch.tril
    return lambda x, *_: function(x, diagonal)


def _counted(indices: Tensor, size: int) -> Tensor:
    """Indices counted from the front."""
    whole = indices.to(torch.int64)
    return torch.where(whole < 0, whole + size, whole)
