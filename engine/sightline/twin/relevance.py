"""Layer-wise relevance propagation: what a node hands back is relevance instead of gradient.

Every rule of a layer is the same two lines with other terms. A term is an input and parameters in place of the
layer's own; z is the sum of the layer's outputs over the terms, and an input gets

    R_in = sum over terms of  input · d/d input (z · R / (z + epsilon · sign z))
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from sightline.errors import UnsupportedOperator
from sightline.relevance import Box, Composite, Epsilon, Flat, Gamma, LayerRule, ZPlus
from sightline.twin.node import WEIGHTED, Kernel, Node
from sightline.twin.rules import Override

Term = tuple[Tensor, Tensor, Tensor | None]  # input, weight, bias

_DENSE = frozenset({"Gemm", "MatMul"})
_LINEAR = frozenset({
    "Add", "Sub", "Sum", "Mean", "Mul", "Div", "Neg", "AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum",
    "BatchNormalization", "Resize", "Upsample",
})  # fmt: skip
_ROUTING = frozenset({
    "MaxPool", "GlobalMaxPool", "ReduceMax", "Concat", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze",
    "Slice", "Split", "Gather", "Pad", "Identity", "Dropout", "DepthToSpace", "SpaceToDepth", "Cast",
})  # fmt: skip  # their gradient hands every relevance to where the value came from
_ACTIVATION = frozenset({
    "Relu", "Clip", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "ThresholdedRelu", "Sigmoid", "Tanh", "Softplus",
    "Softsign", "HardSigmoid", "HardSwish", "Swish", "Gelu", "Mish",
})  # fmt: skip  # of one element each: relevance passes unchanged


@dataclass(frozen=True)
class Relevance:
    """The rule (see ``rules.Rule``) by which a composite's relevance is propagated."""

    composite: Composite

    def __call__(self, node: Node) -> Override | None:
        if node.operator in _ROUTING:
            return None
        return _Layer(self._rule(node), node, self.composite.epsilon, self.composite.biases)

    def _rule(self, node: Node) -> LayerRule:
        if node.operator in _DENSE:
            return self.composite.dense
        return next(rule for depth, rule in self.composite.convolution if node.depth <= depth)


def _terms(rule: LayerRule, x: Tensor, weight: Tensor, bias: Tensor | None) -> list[Term]:
    """What takes the place of the layer's input, weight and bias."""
    match rule:
        case Epsilon():
            return [(x, weight, bias)]
        case Gamma(gamma):
            return [(x, _raised(weight, gamma), None if bias is None else _raised(bias, gamma))]
        case ZPlus():
            return [(x.clamp(min=0), weight.clamp(min=0), None), (x.clamp(max=0), weight.clamp(max=0), None)]
        case Flat():
            return [(torch.ones_like(x), torch.ones_like(weight), None)]
        case Box():
            low, high = (x.new_tensor(end).reshape(-1, 1, 1).expand_as(x) for end in (rule.low, rule.high))
            return [(x, weight, None), (low, -weight.clamp(min=0), None), (high, -weight.clamp(max=0), None)]


def _raised(values: Tensor, gamma: float) -> Tensor:
    return values + gamma * values.clamp(min=0)


@dataclass(frozen=True)
class _Layer:
    """A node under a rule."""

    rule: LayerRule
    node: Node
    epsilon: float
    biases: bool

    def __call__(self, kernel: Kernel, *operands: Tensor | None) -> Tensor:
        data = [index for index, one in enumerate(operands) if one is not None and one.requires_grad]
        if not data:  # arithmetic on shapes, for one
            return kernel(*operands)
        operator = self.node.operator
        if operator in _ACTIVATION:
            return _Passing.apply(kernel, *operands)  # type: ignore[no-any-return]
        if operator not in WEIGHTED | _LINEAR or (operator == "Div" and data != [0]):
            raise UnsupportedOperator(
                f"Relevance has no rule for node {self.node.name!r} ({operator}). Use a method that needs none, such "
                "as integrated_gradients, or attribute at a layer behind it."
            )
        if operator in WEIGHTED and data == [0]:
            return _Relevance.apply(self._weighted, self.epsilon, 1.0, kernel, *operands)  # type: ignore[no-any-return]
        # of a product of two values, each gets half: both are its cause
        share = 1 / len(data) if operator in WEIGHTED or operator == "Mul" else 1.0
        return _Relevance.apply(_own, self.epsilon, share, kernel, *operands)  # type: ignore[no-any-return]

    def _weighted(self, *operands: Any) -> list[tuple[Any, ...]]:
        x, weight = operands[:2]
        bias = operands[2] if len(operands) > 2 else None
        terms = _terms(self.rule, x, weight, bias if self.biases else None)
        if self.node.operator == "MatMul":
            return [term[:2] for term in terms]
        return [*terms]


def _own(*operands: Any) -> list[tuple[Any, ...]]:
    return [operands]


class _Passing(torch.autograd.Function):
    """A function of single elements: relevance passes."""

    @staticmethod
    def forward(ctx: Any, kernel: Kernel, *operands: Any) -> Any:
        ctx.count = len(operands)
        return kernel(*operands)

    @staticmethod
    def backward(ctx: Any, *relevance: Any) -> Any:
        return (None, relevance[0], *[None] * (ctx.count - 1))


class _Relevance(torch.autograd.Function):
    """A linear node under a rule."""

    @staticmethod
    def forward(ctx: Any, terms: Any, epsilon: float, share: float, kernel: Kernel, *operands: Any) -> Any:
        ctx.rule = terms, epsilon, share, kernel
        ctx.save_for_backward(*operands)
        return kernel(*operands)

    @staticmethod
    def backward(ctx: Any, *relevance: Any) -> Any:
        terms, epsilon, share, kernel = ctx.rule
        data = [index for index, needed in enumerate(ctx.needs_input_grad[4:]) if needed]
        found: list[Tensor | None] = [None] * len(ctx.saved_tensors)
        with torch.enable_grad():
            parts = [list(part) for part in terms(*ctx.saved_tensors)]
            for part in parts:
                for index in data:
                    part[index] = part[index].detach().requires_grad_()
            z: Tensor = reduce(torch.add, (kernel(*part) for part in parts))
            quotient = relevance[0] / (z + epsilon * torch.where(torch.lt(z, 0), -1.0, 1.0)).detach()
            wanted = [part[index] for part in parts for index in data]
            gradients = iter(torch.autograd.grad(z, wanted, quotient))
        for part in parts:
            for index in data:
                handed = share * part[index].detach() * next(gradients)
                before = found[index]
                found[index] = handed if before is None else before + handed
        return (None, None, None, None, *found)
