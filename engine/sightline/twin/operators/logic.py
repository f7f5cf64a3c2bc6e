"""Comparison, logic and choice."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sightline.twin.catalogue import direct, operator
from sightline.twin.node import Kernel, Node

_COMPARISONS: dict[str, Callable[..., Tensor]] = {
    "Equal": torch.eq,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "And": torch.logical_and,
    "Or": torch.logical_or,
    "Xor": torch.logical_xor,
    "Not": torch.logical_not,
    "IsNaN": torch.isnan,
}
_STORED_ONLY = frozenset({torch.uint16, torch.uint32, torch.uint64})


@operator(*_COMPARISONS)
def comparison(node: Node) -> Kernel:
    """The comparison of the operator's name."""
    compare = _COMPARISONS[node.operator]

    def kernel(*operands: Tensor) -> Tensor:
        if operands[0].dtype in _STORED_ONLY:
            return compare(*(operand.to(torch.int64) for operand in operands))
        return compare(*operands)

    return kernel


@operator("IsInf")
def is_infinite(node: Node) -> Kernel:
    """Of either sign, unless one is excluded."""
    negative, positive = node.integer("detect_negative", 1), node.integer("detect_positive", 1)

    def kernel(x: Tensor) -> Tensor:
        infinite = torch.isinf(x)
        return infinite & ((x > 0) & bool(positive) | (x < 0) & bool(negative))

    return kernel


where = direct("Where")(torch.where)
