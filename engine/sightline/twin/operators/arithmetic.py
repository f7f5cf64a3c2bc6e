"""Arithmetic, element by element, broadcast as NumPy does."""

# Operands of a kernel are tensors; a lambda cannot say so.
# pyright: reportUnknownLambdaType=false
from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import torch
from torch import Tensor

from sightline.twin.catalogue import direct, operator
from sightline.twin.node import Kernel, Node

_STORED_ONLY = frozenset({torch.uint16, torch.uint32, torch.uint64})


def widened(function: Callable[..., Tensor]) -> Kernel:
    """The function, by way of int64 for element types that torch stores but does not compute with."""

    def kernel(first: Tensor, *rest: Tensor) -> Tensor:
        if first.dtype in _STORED_ONLY:
            return function(*(operand.to(torch.int64) for operand in (first, *rest))).to(first.dtype)
        return function(first, *rest)

    return kernel


_OF_ONE: dict[str, Callable[[Tensor], Tensor]] = {
    "Abs": torch.abs,
    "Neg": torch.neg,
    "Sign": torch.sign,
    "Sqrt": torch.sqrt,
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
    "BitwiseNot": torch.bitwise_not,
}
_OF_TWO: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Add": torch.add,
    "Sub": torch.sub,
    "Mul": torch.mul,
    "Div": lambda a, b: torch.div(a, b, rounding_mode=None if a.is_floating_point() else "trunc"),
    "Min": torch.minimum,
    "Max": torch.maximum,
    "Sum": torch.add,
    "BitwiseAnd": torch.bitwise_and,
    "BitwiseOr": torch.bitwise_or,
    "BitwiseXor": torch.bitwise_xor,
}


@operator(*_OF_ONE)
def function_of_one(node: Node) -> Kernel:
    """The function of the operator's name."""
    return widened(_OF_ONE[node.operator])


@operator(*_OF_TWO)
def function_of_two(node: Node) -> Kernel:
    """The function of the operator's name; Min, Max and Sum take any number of operands."""
    function = _OF_TWO[node.operator]
    if len(node.inputs) == 2:
        return widened(function)
    return widened(lambda *operands: reduce(function, operands))


@operator("Mod")
def mod(node: Node) -> Kernel:
    """Remainder with the sign of the divisor, or with fmod of the dividend."""
    return widened(torch.fmod if node.integer("fmod", 0) else torch.remainder)


@direct("Pow")
def power(base: Tensor, exponent: Tensor) -> Tensor:
    """Of the base's element type."""
    plain = exponent.to(torch.int64) if exponent.dtype in _STORED_ONLY else exponent
    return torch.pow(base, plain).to(base.dtype)


@direct("Mean")
def mean(*operands: Tensor) -> Tensor:
    """Of any number of operands."""
    return reduce(torch.add, operands) / len(operands)
