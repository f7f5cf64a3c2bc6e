"""The kernel of one node: built once where its settings are constant, in every run where the graph computes them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from torch import Tensor

from sightline.errors import UnsupportedOperator
from sightline.twin.catalogue import OPSETS, Build, lookup
from sightline.twin.node import Kernel, Node, ValueNeeded


def bound_kernel(node: Node, strays: Collection[int] = ()) -> Kernel:
    """What computes a node.

    Args:
        node: with the constants among its inputs.
        strays: inputs that were measured from shapes and lie on the CPU while the node's data may not.

    Raises:
        UnsupportedOperator: the twin has no such operator, or not with these settings.
    """
    build = lookup(node.domain, node.operator, node.version)
    if build is None:
        raise UnsupportedOperator(_unknown(node))
    try:
        return _gathering(build(node), strays)
    except ValueNeeded:
        return _deferred(build, node, strays)
    except UnsupportedOperator as reason:
        raise UnsupportedOperator(f"Node {node.name!r} ({node.operator}): {reason}.") from None


def _unknown(node: Node) -> str:
    if not node.domain and node.version not in OPSETS:
        accepted = f"{OPSETS[0]} to {OPSETS[-1]} are read"
        return f"Node {node.name!r} ({node.operator}): it is of opset {node.version}; {accepted}."
    spoken = f"{node.domain}.{node.operator}" if node.domain else node.operator
    return f"Node {node.name!r}: the twin has no operator {spoken} (opset {node.version})."


def _deferred(build: Build, node: Node, strays: Collection[int]) -> Kernel:
    def kernel(*operands: Tensor | None) -> Tensor | tuple[Tensor | None, ...]:
        known = _Watched((index, operand) for index, operand in enumerate(operands) if operand is not None)
        known.update(node.known)  # constants are read on the CPU, not from the device
        built = build(replace(node, known=known))
        return _gathering(built, [index for index in strays if index not in known.read])(*operands)

    return kernel


def _gathering(kernel: Kernel, strays: Collection[int]) -> Kernel:
    """The kernel, given its strays on the device of its first other operand."""
    if not strays:
        return kernel

    def gathered(*operands: Tensor | None) -> Tensor | tuple[Tensor | None, ...]:
        data = next((o for index, o in enumerate(operands) if o is not None and index not in strays), None)
        if data is None or data.device.type == "cpu":
            return kernel(*operands)
        return kernel(
            *[o if o is None or index not in strays else o.to(data.device) for index, o in enumerate(operands)]
        )

    return gathered


class _Watched(dict[int, Tensor]):
    """Remembers which operands were read by value: those need not travel to a device."""

    def __init__(self, items: object) -> None:
        super().__init__(items)  # type: ignore[arg-type]
        self.read = set[int]()

    def __getitem__(self, index: int) -> Tensor:
        self.read.add(index)
        return super().__getitem__(index)
