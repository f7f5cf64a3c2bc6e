"""Layer-wise relevance propagation: what a node hands back is relevance instead of gradient.

Every rule of a layer is the same two lines with other terms. A term is an input and parameters in place of the
layer's own; z is the sum of the layer's outputs over the terms, and an input gets

    R_in = sum over terms of  input · d/d input (z · R / (z + epsilon · sign z))

Beside the layers (Bach et al. 2015, Montavon et al. 2019):

- an activation of single elements, GELU and erf among them, and a factor that is a constant hand relevance on
  unchanged; so do quantisation, which only rounds and saturates, and its inverse, which scales;
- of a product, the gate counts as a constant, so that the signal takes all (Arras, Montavon, Müller, Samek,
  "Explaining Recurrent Neural Network Predictions in Sentiment Analysis", 2017): x of x · sigmoid(x) and of GELU
  written out, the maps of squeeze-and-excitation; where neither factor is one (see ``gates``), each gets half;
- a divisor counts as a constant, and so does the deviation of a layer, instance or group normalisation (Ali, Schnake,
  Eberle, Montavon, Müller, Wolf, "XAI for Transformers: Better Explanations through Conservative Propagation", 2022);
- means, sums and residuals share by contribution; a maximum hands on to the value that it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from sightline.errors import UnsupportedOperator
from sightline.relevance import Box, Composite, Epsilon, Flat, Gamma, LayerRule, ZPlus
from sightline.twin.held_statistics import NORMALISING, held
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
    "Softsign", "HardSigmoid", "HardSwish", "Swish", "Gelu", "Mish", "Erf", "QuantizeLinear", "DequantizeLinear",
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
        data = _computed(operands)
        operator = self.node.operator
        constant = self.node.gate if operator == "Mul" else 1 if operator == "Div" else None
        if constant in data and len(data) > 1:
            operands = tuple(
                one.detach() if index == constant and one is not None else one for index, one in enumerate(operands)
            )
            data = _computed(operands)
        if not data:  # arithmetic on shapes, for one
            return kernel(*operands)
        if self._passes(data, operands):
            return _Passing.apply(data[0], kernel, *operands)  # type: ignore[no-any-return]
        if operator in NORMALISING and data == [0]:
            return _Relevance.apply(self._held, self.epsilon, 1.0, kernel, held(self.node), *operands)  # type: ignore[no-any-return]
        if operator not in WEIGHTED | _LINEAR or (operator == "Div" and data != [0]):
            return _Refused.apply(self.node, kernel, *operands)  # type: ignore[no-any-return]
        if operator in WEIGHTED and data == [0]:
            return _Relevance.apply(self._weighted, self.epsilon, 1.0, kernel, kernel, *operands)  # type: ignore[no-any-return]
        # of a product of two values, each gets half: both are its cause
        share = 1 / len(data) if operator in WEIGHTED or operator == "Mul" else 1.0
        return _Relevance.apply(_own, self.epsilon, share, kernel, kernel, *operands)  # type: ignore[no-any-return]

    def _passes(self, data: list[int], operands: tuple[Tensor | None, ...]) -> bool:
        """Whether relevance passes unchanged to the one operand that is computed."""
        if self.node.operator in _ACTIVATION:
            return True
        scaled = self.node.operator in ("Mul", "Div")
        moved = self.node.operator in ("Add", "Sub") and not self.biases
        if not (scaled or moved) or len(data) != 1 or (data == [1] and self.node.operator == "Div"):
            return False
        shapes = [one.shape for one in operands if one is not None]
        return shapes[data[0]] == torch.broadcast_shapes(*shapes)

    def _held(self, *operands: Any) -> list[tuple[Any, ...]]:
        return [operands if self.biases else operands[:2]]

    def _weighted(self, *operands: Any) -> list[tuple[Any, ...]]:
        x, weight = operands[:2]
        bias = operands[2] if len(operands) > 2 else None
        terms = _terms(self.rule, x, weight, bias if self.biases else None)
        if self.node.operator == "MatMul":
            return [term[:2] for term in terms]
        return [*terms]


def _computed(operands: tuple[Tensor | None, ...]) -> list[int]:
    """Which operands depend on what relevance is asked for."""
    return [index for index, one in enumerate(operands) if one is not None and one.requires_grad]


def _own(*operands: Any) -> list[tuple[Any, ...]]:
    return [operands]


def _differentiable(kernel: Kernel, operands: tuple[Tensor | None, ...]) -> Any:
    """What a kernel computes where a gradient is asked for: quantised values as floats (see ``quantisation``).

    The forward pass of an autograd function asks for none, and integers would cut what is behind them off.
    """
    with torch.enable_grad():
        found = kernel(
            *[one.detach().requires_grad_(one.requires_grad) if one is not None else None for one in operands]
        )
    return tuple(one.detach() for one in found) if isinstance(found, tuple) else found.detach()


class _Passing(torch.autograd.Function):
    """A function of single elements of one operand: relevance passes."""

    @staticmethod
    def forward(ctx: Any, index: int, kernel: Kernel, *operands: Any) -> Any:
        ctx.place = index, len(operands)
        return _differentiable(kernel, operands)

    @staticmethod
    def backward(ctx: Any, *relevance: Any) -> Any:
        index, count = ctx.place
        return (None, None, *[relevance[0] if place == index else None for place in range(count)])


class _Refused(torch.autograd.Function):
    """A node without a rule: it may lie behind a gate, where no relevance comes by."""

    @staticmethod
    def forward(ctx: Any, node: Node, kernel: Kernel, *operands: Any) -> Any:
        ctx.node = node
        return _differentiable(kernel, operands)

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise UnsupportedOperator(
            f"Relevance has no rule for node {ctx.node.name!r} ({ctx.node.operator}). Use a method that needs none, "
            "such as integrated_gradients, or attribute at a layer behind it."
        )


class _Relevance(torch.autograd.Function):
    """A node under a rule; ``linear`` computes the same as its kernel, linear in what gets relevance."""

    @staticmethod
    def forward(
        ctx: Any, terms: Any, epsilon: float, share: float, kernel: Kernel, linear: Kernel, *operands: Any
    ) -> Any:
        ctx.rule = terms, epsilon, share, linear
        ctx.save_for_backward(*operands)
        return kernel(*operands)

    @staticmethod
    def backward(ctx: Any, *relevance: Any) -> Any:
        terms, epsilon, share, kernel = ctx.rule
        data = [index for index, needed in enumerate(ctx.needs_input_grad[5:]) if needed]
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
        return (None, None, None, None, None, *found)
