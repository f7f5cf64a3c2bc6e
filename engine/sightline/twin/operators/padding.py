"""Padding: constant, reflected, repeated or periodic; negative pads cut."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.twin.catalogue import operator
from sightline.twin.node import Kernel, Node
from sightline.twin.operators.convolution import torch_pads

_TORCH_MODES = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}


@operator("Pad")
def pad(node: Node) -> Kernel:
    """Before and after some axes, by default all."""
    pads, mode = node.setting("pads", 1) or [], node.text("mode", "constant")
    filler = node.real("value", 0.0) if node.version < 11 else node.scalar(2)
    axes = node.value(3)

    def kernel(x: Tensor, *_: Tensor | None) -> Tensor:
        begin, end = _on_all_axes(pads, axes, x.dim())
        if mode == "constant":
            return F.pad(x, torch_pads([*begin, *end]), value=filler or 0)
        if x.dim() == 4 and not any((*begin[:2], *end[:2])) and _is_plain(x, begin, end):
            return F.pad(x, torch_pads([*begin[2:], *end[2:]]), _TORCH_MODES[mode])
        for axis, (before, after) in enumerate(zip(begin, end, strict=True)):
            if before or after:
                x = x.index_select(axis, _sources(mode, x.shape[axis], before, after).to(x.device))
        return x

    return kernel


def _on_all_axes(pads: list[int], axes: list[int] | None, rank: int) -> tuple[list[int], list[int]]:
    begin, end = [0] * rank, [0] * rank
    half = len(pads) // 2
    for index, axis in enumerate(range(rank) if axes is None else axes):
        begin[axis], end[axis] = pads[index], pads[half + index]
    return begin, end


def _is_plain(x: Tensor, begin: list[int], end: list[int]) -> bool:
    """Whether torch's own padding applies: nothing is cut, and no more is added than is there."""
    return x.is_floating_point() and all(
        0 <= pad < size for ends in (begin[2:], end[2:]) for pad, size in zip(ends, x.shape[2:], strict=True)
    )


def _sources(mode: str, size: int, before: int, after: int) -> Tensor:
    """Where along an axis each element of the padded axis comes from."""
    places = torch.arange(-before, size + after)
    if mode == "edge":
        return places.clamp(0, size - 1)
    if mode == "wrap":
        return places % size
    period = max(2 * (size - 1), 1)
    folded = places % period
    return torch.minimum(folded, period - folded) if size > 1 else torch.zeros_like(places)
