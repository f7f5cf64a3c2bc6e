"""What an operator's function is given: a node, its attributes, and those of its inputs whose value is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})  # operators of layers that have weights


class Kernel(Protocol):
    """What computes a node: one operand per input, None where it is omitted; a tuple where it has several outputs."""

    def __call__(self, *operands: Any, **_: Any) -> Any: ...


class ValueNeeded(Exception):
    """An operator asked for the value of an input that only the run will know."""


@dataclass(frozen=True, eq=False)
class Node:
    """One node, as read from the graph.

    Attributes:
        name: the node's name, or that of its first output where it has none.
        operator: such as ``Conv``.
        domain: empty for ONNX's own operators.
        version: of the operator set that the model imports for the domain.
        inputs: value names, empty where omitted.
        outputs: value names, empty where omitted.
        attributes: int, float, str, bytes, tuples of them, or a tensor.
        known: values of inputs by index; while the twin is made the constants, in a run that defers all of them.
        depth: among the layers with weights, in order: 0 the first, which reads the image, 1 the last; 0 elsewhere.
        gate: of a product of two computed values, the index of the one that only opens and shuts the other.
        owns_gradient: whether the gradient that arrives at its result is nobody else's, and may be written over.
    """

    name: str
    operator: str
    domain: str
    version: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    known: Mapping[int, Tensor] = field(default_factory=dict[int, Tensor])
    depth: float = 0.0
    gate: int | None = None
    owns_gradient: bool = False

    def integer(self, name: str, default: int) -> int:
        """Attribute of one integer."""
        return int(self.attributes.get(name, default))

    def real(self, name: str, default: float) -> float:
        """Attribute of one float."""
        return float(self.attributes.get(name, default))

    def text(self, name: str, default: str) -> str:
        """Attribute of one string."""
        return str(self.attributes.get(name, default))

    def integers(self, name: str) -> list[int] | None:
        """Attribute of several integers, None where it is absent."""
        found = self.attributes.get(name)
        return None if found is None else [int(item) for item in found]

    def reals(self, name: str) -> list[float] | None:
        """Attribute of several floats, None where it is absent."""
        found = self.attributes.get(name)
        return None if found is None else [float(item) for item in found]

    def has(self, index: int) -> bool:
        """Whether the input is given at all."""
        return index < len(self.inputs) and self.inputs[index] != ""

    def wants(self, index: int) -> bool:
        """Whether the output is asked for at all."""
        return index < len(self.outputs) and self.outputs[index] != ""

    def value(self, index: int) -> list[Any] | None:
        """Numbers of a flat input, None where it is omitted.

        Raises:
            ValueNeeded: only the run will know it; the interpreter then asks again in every run.
        """
        if not self.has(index):
            return None
        if index not in self.known:
            raise ValueNeeded
        return self.known[index].flatten().tolist()

    def scalar(self, index: int) -> Any:
        """The one number of an input, None where it is omitted or empty."""
        found = self.value(index)
        return found[0] if found else None

    def setting(self, name: str, index: int) -> list[int] | None:
        """Integers that older operator sets hold in an attribute and newer ones in an input."""
        return self.integers(name) if name in self.attributes else self.value(index)
