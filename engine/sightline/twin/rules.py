"""Rules: what replaces the gradient of a node.

A rule is asked once per node. It answers None, and the node keeps its gradient, or an override, which is then called
in place of the node's kernel with that kernel and the operands. Rules are hashable values: plans are kept per rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from sightline.twin.node import Kernel, Node, ValueNeeded

Override = Callable[..., Tensor]


class Rule(Protocol):
    """Chooses the override of a node. Two equal rules must choose the same."""

    def __call__(self, node: Node) -> Override | None: ...

    def __hash__(self) -> int: ...


def relu_like(node: Node) -> bool:
    """Whether a node is Relu, or Clip from zero (ReLU6).

    Leaky, parametric and smooth activations are not: no paper defines these rules for them, and they keep their
    gradient. A Clip whose bounds only the run knows is not either.
    """
    if node.domain not in ("", "ai.onnx"):
        return False
    if node.operator == "Clip":
        try:
            lowest = node.attributes["min"] if "min" in node.attributes else node.scalar(1)
        except ValueNeeded:
            return False
        return lowest is not None and float(lowest) == 0.0
    return node.operator == "Relu"


def upper_bound(node: Node) -> float | None:
    """Where a ReLU-like node ends; None where it does not, or only the run knows."""
    if node.operator != "Clip":
        return None
    try:
        highest = node.attributes["max"] if "max" in node.attributes else node.scalar(2)
    except ValueNeeded:
        return None
    return None if highest is None else float(highest)


@dataclass(frozen=True)
class ReluRule:
    """Gradient of a ReLU: what arrives from above, where both masks are open.

    Attributes:
        where_input_positive: shut where the ReLU was shut in the forward pass.
        where_gradient_positive: shut where the arriving gradient is negative.
    """

    where_input_positive: bool
    where_gradient_positive: bool

    def __call__(self, node: Node) -> Override | None:
        return partial(self._override, upper_bound(node), node.owns_gradient) if relu_like(node) else None

    def _override(self, bound: float | None, owned: bool, kernel: Kernel, *operands: Tensor) -> Tensor:
        result: Any = _Ruled.apply(self, bound, owned, kernel, *operands)
        return result


# Simonyan et al. 2014, arXiv:1312.6034
plain_gradient = ReluRule(where_input_positive=True, where_gradient_positive=False)
deconvnet = ReluRule(
    where_input_positive=False, where_gradient_positive=True
)  # Zeiler & Fergus 2014, arXiv:1311.2901
guided_backprop = ReluRule(
    where_input_positive=True, where_gradient_positive=True
)  # Springenberg 2015, arXiv:1412.6806


class _Ruled(torch.autograd.Function):
    """A ReLU-like node under a rule, its kernel in place or not. Only its first operand gets a gradient."""

    @staticmethod
    def forward(
        ctx: Any, rule: ReluRule, bound: float | None, owned: bool, kernel: Kernel, *operands: Tensor
    ) -> Tensor:
        output = kernel(*operands)
        assert isinstance(output, Tensor)
        ctx.rule, ctx.bound, ctx.owned, ctx.count = rule, bound, owned, len(operands)
        if output is operands[0]:
            ctx.mark_dirty(output)
        if rule.where_input_positive:
            ctx.save_for_backward(output)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (gradient,) = gradients
        owned = ctx.owned and not torch.is_grad_enabled()  # second derivatives read the first ones
        if ctx.rule.where_input_positive:
            (output,) = ctx.saved_tensors
            ends = (output, 0.0, math.inf if ctx.bound is None else ctx.bound)  # shut at both
            if owned:
                torch.ops.aten.hardtanh_backward.grad_input(gradient, *ends, grad_input=gradient)
            else:
                gradient = torch.ops.aten.hardtanh_backward(gradient, *ends)
                owned = not torch.is_grad_enabled()
        if ctx.rule.where_gradient_positive:
            gradient = torch.relu_(gradient) if owned else torch.relu(gradient)
        return (None, None, None, None, gradient, *[None] * (ctx.count - 1))
