"""Which nodes may write their result over an operand: those whose operand nobody else will ever read.

A network's activations and its residual sums then need no memory of their own, as in the modules that people
train, and neither do the masks of its ReLUs on the way back. What a caller asked for, gave, or overrides by a rule is
never written over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.twin.node import Kernel, Node
from sightline.twin.rules import ReluRule, Rule, relu_like, upper_bound

if TYPE_CHECKING:
    from sightline.twin.interpreter import Step

# Their results are tensors of their own that no gradient needs: neither views nor kept for the way back.
_FRESH = frozenset({"Conv", "ConvTranspose", "Add", "Sub", "BatchNormalization"})
# What they hand back to their first operand is a tensor of its own.
_HAND_BACK_FRESH = frozenset({"Conv", "Gemm", "MaxPool", "AveragePool", "GlobalAveragePool"})


def reusing(steps: Sequence[Step], kept: Collection[int], rule: Rule | None) -> list[Step]:
    """The steps, with in-place kernels where that changes nothing that anybody sees.

    Args:
        steps: of one plan, in order, without overrides.
        kept: slots that the caller reads.
        rule: that will override some of them.
    """
    readers = Counter(slot for step in steps for slot in step.operands)
    free = {
        slot
        for step in steps
        if step.node.operator in _FRESH and (rule is None or rule(step.node) is None)
        for slot in step.results
        if readers[slot] == 1 and slot not in kept
    }
    owners = _owners(steps, kept, rule)
    return [
        replace(changed, node=replace(step.node, owns_gradient=step.results[0] in owners))
        for step, changed in zip(steps, (_reusing(step, free, rule) for step in steps), strict=True)
    ]


def _owners(steps: Sequence[Step], kept: Collection[int], rule: Rule | None) -> set[int]:
    """Slots whose gradient is nobody else's, because every step that reads them hands back a tensor of its own."""
    shared = set(kept)
    for step in steps:
        overridden = rule is not None and not isinstance(rule, ReluRule) and rule(step.node) is not None
        if overridden or step.node.operator not in _HAND_BACK_FRESH:
            shared.update(step.operands)
    return {slot for step in steps for slot in step.results} - shared


def _reusing(step: Step, free: Collection[int], rule: Rule | None) -> Step:
    maker = _IN_PLACE.get(step.node.operator)
    overridden = rule is not None and not isinstance(rule, ReluRule) and rule(step.node) is not None
    if maker is None or overridden or step.operands[0] not in free:
        return step
    kernel = maker(step.node, step.kernel)
    return step if kernel is None else replace(step, kernel=kernel)


def _activation(node: Node, kernel: Kernel) -> Kernel | None:
    if not relu_like(node):
        return None
    bound = upper_bound(node)
    return _relu if bound is None else partial(_bounded, bound, kernel)


def _relu(x: Tensor) -> Tensor:
    return torch.relu_(x)


def _bounded(bound: float, kernel: Kernel, x: Tensor, *rest: Tensor | None) -> Tensor:
    return F.hardtanh_(x, 0.0, bound) if x.is_floating_point() else kernel(x, *rest)


def _sum(_: Node, kernel: Kernel) -> Kernel:
    def add(first: Tensor, second: Tensor) -> Tensor:
        fits = first.shape == second.shape and first.dtype == second.dtype and first.is_floating_point()
        return first.add_(second) if fits and first is not second else kernel(first, second)

    return add


_IN_PLACE: Mapping[str, Callable[[Node, Kernel], Kernel | None]] = {
    "Relu": _activation, "Clip": _activation, "Add": _sum
}  # fmt: skip
