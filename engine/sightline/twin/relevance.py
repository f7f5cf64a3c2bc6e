"""Rules of layer-wise relevance propagation: what a node hands back is relevance instead of gradient.

Bach, Binder, Montavon, Klauschen, Müller, Samek, "On Pixel-Wise Explanations for Non-Linear Classifier Decisions by
Layer-Wise Relevance Propagation" (2015); rules and composites as in Montavon, Binder, Lapuschkin, Samek, Müller,
"Layer-Wise Relevance Propagation: An Overview" (2019).

Every rule of a layer is the same two lines with other terms. A term is an input and parameters in place of the
layer's own; z is the sum of the layer's outputs over the terms, and an input gets

    R_in = sum over terms of  input · d/d input (z · R / (z + epsilon · sign z))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from sightline.errors import UnsupportedOperator
from sightline.twin.node import WEIGHTED, Kernel, Node
from sightline.twin.rules import Override

Term = tuple[Tensor, Tensor, Tensor | None]  # input, weight, bias
Terms = Callable[[Tensor, Tensor, Tensor | None], list[Term]]

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
class Epsilon:
    """The layer's own contributions; epsilon absorbs relevance where they cancel."""

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> list[Term]:
        return [(x, weight, bias)]


@dataclass(frozen=True)
class Gamma:
    """Positive weights count gamma more; for inputs that are not negative."""

    gamma: float

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> list[Term]:
        return [(x, self._raised(weight), None if bias is None else self._raised(bias))]

    def _raised(self, values: Tensor) -> Tensor:
        return values + self.gamma * values.clamp(min=0)


@dataclass(frozen=True)
class ZPlus:
    """Positive contributions only, those of negative inputs through negative weights too; no relevance to biases."""

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> list[Term]:
        return [(x.clamp(min=0), weight.clamp(min=0), None), (x.clamp(max=0), weight.clamp(max=0), None)]


@dataclass(frozen=True)
class Flat:
    """Every input of a unit gets the same share."""

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> list[Term]:
        return [(torch.ones_like(x), torch.ones_like(weight), None)]


@dataclass(frozen=True)
class Box:
    """Contributions beyond what the darkest and brightest pixel could give: for the layer that reads the image.

    Attributes:
        low, high: per channel, in model input space.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> list[Term]:
        low, high = (x.new_tensor(end).reshape(-1, 1, 1).expand_as(x) for end in (self.low, self.high))
        return [(x, weight, None), (low, -weight.clamp(min=0), None), (high, -weight.clamp(max=0), None)]


@dataclass(frozen=True)
class Composite:
    """A rule for every layer by its depth and kind; see ``rules.Rule``.

    Attributes:
        convolution: depths in rising order, the last 1, and the rule up to each; 0 is the layer that reads the image.
        dense: rule of matrix products.
        epsilon: above 0, in units of a layer's output: absorbs relevance where contributions cancel.
        biases: whether a bias takes its share, which is lost to the inputs.
    """

    convolution: tuple[tuple[float, Terms], ...]
    dense: Terms
    epsilon: float
    biases: bool = True

    def __call__(self, node: Node) -> Override | None:
        if node.operator in _ROUTING:
            return None
        return _Layer(self._terms(node), node, self.epsilon, self.biases)

    def _terms(self, node: Node) -> Terms:
        if node.operator in _DENSE:
            return self.dense
        return next(terms for depth, terms in self.convolution if node.depth <= depth)


@dataclass(frozen=True)
class _Layer:
    """A node under a rule."""

    terms: Terms
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
        terms = self.terms(x, weight, bias if self.biases else None)
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
