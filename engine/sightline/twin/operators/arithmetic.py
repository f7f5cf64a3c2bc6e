"""Arithmetic, element by element, broadcast as NumPy does."""

# pyright: reportUnknownLambdaType=false (operands are tensors; a lambda cannot say so)
from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import torch
from torch import Tensor

from sightline.twin.catalogue import direct, operator
from sightline.twin.node import Kernel, Node

_WIDE = frozenset({torch.uint16, torch.uint32, torch.uint64})


def widened(function: Callable[..., Tensor]) -> Kernel:
    """The function for element types that torch stores but does not compute with: by way of int64."""

    def kernel(first: Tensor, *rest: Tensor) -> Tensor:
        if first.dtype in _WIDE:
            return function(*(operand.to(torch.int64) for operand in (first, *rest))).to(first.dtype)
        return function(first, *rest)

    return kernel


add = direct("Add")(widened(torch.add))  # A + B.


sub = direct("Sub")(widened(torch.sub))  # A - B.


mul = direct("Mul")(widened(torch.mul))  # A B.


div = direct("Div")(
    widened(lambda a, b: torch.div(a, b, rounding_mode=None if a.is_floating_point() else "trunc"))
)  # A / B, integers towards zero.


@operator("Mod")
def mod(node: Node) -> Kernel:
    """Remainder with the sign of the divisor, or with fmod of the dividend."""
    return widened(torch.fmod if node.integer("fmod", 0) else torch.remainder)


@direct("Pow")
def power(base: Tensor, exponent: Tensor) -> Tensor:
    """Of the base's element type."""
    return torch.pow(base, _signed(exponent)).to(base.dtype)


def _signed(exponent: Tensor) -> Tensor:
    return exponent.to(torch.int64) if exponent.dtype in _WIDE else exponent


minimum = direct("Min")(
    widened(lambda *operands: reduce(torch.minimum, operands))
)  # Smallest of any number of operands.


maximum = direct("Max")(
    widened(lambda *operands: reduce(torch.maximum, operands))
)  # Largest of any number of operands.


@direct("Sum")
def total(*operands: Tensor) -> Tensor:
    """Of any number of operands."""
    return reduce(torch.add, operands)


@direct("Mean")
def mean(*operands: Tensor) -> Tensor:
    """Of any number of operands."""
    return reduce(torch.add, operands) / len(operands)


square_root = direct("Sqrt")(torch.sqrt)  # NaN below 0.


_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "Abs": torch.abs,
    "Neg": torch.neg,
    "Sign": torch.sign,
    "Exp": torch.exp,
    "Log": torch.log,
    "Reciprocal": torch.reciprocal,
    "Floor": torch.floor,
    "Ceil": torch.ceil,
    "Round": torch.round,  # half to even
    "Erf": torch.erf,
    "Sin": torch.sin,
    "Cos": torch.cos,
    "Tan": torch.tan,
    "Asin": torch.asin,
    "Acos": torch.acos,
    "Atan": torch.atan,
    "Sinh": torch.sinh,
    "Cosh": torch.cosh,
    "Asinh": torch.asinh,
    "Acosh": torch.acosh,
    "Atanh": torch.atanh,
    "Det": torch.det,
}


@operator(*_FUNCTIONS)
def function(node: Node) -> Kernel:
    """The function of this name."""
    return _FUNCTIONS[node.operator]


_BITWISE: dict[str, Callable[..., Tensor]] = {
    "BitwiseAnd": torch.bitwise_and,
    "BitwiseOr": torch.bitwise_or,
    "BitwiseXor": torch.bitwise_xor,
    "BitwiseNot": torch.bitwise_not,
}


@operator(*_BITWISE)
def bitwise(node: Node) -> Kernel:
    """The bitwise function of this name."""
    return widened(_BITWISE[node.operator])
