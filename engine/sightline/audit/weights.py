"""Which layers of two graphs have the same weights to compare, whatever order their nodes stand in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from sightline.graph.constants import constant_array
from sightline.model import Model

ALIKE = 0.5  # cosine of weights from which two layers are taken for one; unrelated ones have about 0
PASSING = (
    "Relu",
    "Clip",
    "QuantizeLinear",
    "DequantizeLinear",
    "Cast",
    "Identity",
)  # whose output's name may be kept

Pair = tuple["Weights", "Weights"]


@dataclass(frozen=True, eq=False)
class Weights:
    """Of one layer.

    Attributes:
        name: the graph's name of its output.
        names: also those of what passes it on, which a runtime may have merged with it (a ReLU).
        array: (out, ...), normalisation folded in; a 1 x 1 convolution's is (out, in), as a product's is.
    """

    name: str
    names: frozenset[str]
    array: NDArray[Any]


def weights_of(model: Model) -> list[Weights]:
    """Of convolutions and products, in the order in which they stand."""
    found = list[Weights]()
    for node in model.folded.graph:
        if node.op_type in ("Conv", "Gemm", "MatMul", "ConvTranspose") and len(node.inputs) > 1:
            array = constant_array(node.inputs[1])
            if array is not None and array.ndim >= 2:
                names = frozenset(_passed_on(node.outputs[0]))
                found.append(Weights(str(node.outputs[0].name), names, _upright(node, array)))
    return found


def paired(ours: Sequence[Weights], theirs: Sequence[Weights]) -> tuple[list[Pair], list[Weights], list[Weights]]:
    """Layers of both that are the same one, and those of either that have no counterpart.

    Cases, each among what the ones before left over and of equal shape:
        1. Both have a name. Names that more often than not join weights which are not alike are those of another
           export, where they mean other layers, and count for nothing.
        2. The same place among the layers of that shape, if both have as many, under the same condition.
        3. Weights alike: the assignment of the largest sum of cosines, pairs that reach ``ALIKE``.
        4. The same place among those that are left of that shape, if both have as many: a layer with other weights.

    Returns:
        Pairs in the reference's order, and what is left of the reference and of the candidate.
    """
    left = list(ours), list(theirs)
    found = list[Pair]()
    for guess in (_by_name, _by_place, _by_likeness):
        pairs = guess(*left)
        if guess is not _by_likeness and 2 * sum(likeness(*pair) >= ALIKE for pair in pairs) <= len(pairs):
            continue
        found, left = found + pairs, _without(left, pairs)
    pairs = _by_place(*left)
    found, left = found + pairs, _without(left, pairs)
    order = {id(one): place for place, one in enumerate(ours)}
    return sorted(found, key=lambda pair: order[id(pair[0])]), *left


def likeness(one: Weights, other: Weights) -> float:
    """Cosine of two layers' weights of one shape; 0 where either has none."""
    rows = [weights.array.astype(np.float32, copy=False).ravel() for weights in (one, other)]
    lengths = float(np.linalg.norm(rows[0])) * float(np.linalg.norm(rows[1]))
    return float(rows[0] @ rows[1]) / lengths if lengths > 0 else 0.0


def _by_name(ours: Sequence[Weights], theirs: Sequence[Weights]) -> list[Pair]:
    """By their own name, else by one that is passed on."""
    pairs, taken = list[Pair](), set[int]()
    for own in (True, False):
        for one in ours:
            if id(one) in taken:
                continue
            for other in theirs:
                same = one.name == other.name if own else not one.names.isdisjoint(other.names)
                if same and one.array.shape == other.array.shape and id(other) not in taken:
                    pairs.append((one, other))
                    taken |= {id(one), id(other)}
                    break
    return pairs


def _by_place(ours: Sequence[Weights], theirs: Sequence[Weights]) -> list[Pair]:
    pairs = [zip(*both, strict=True) for both in _shaped(ours, theirs) if len(both[0]) == len(both[1])]
    return [pair for some in pairs for pair in some]


def _by_likeness(ours: Sequence[Weights], theirs: Sequence[Weights]) -> list[Pair]:
    pairs = list[Pair]()
    for mine, its in _shaped(ours, theirs):
        cosines = np.array([[likeness(one, other) for other in its] for one in mine])
        rows, columns = linear_sum_assignment(-cosines) if cosines.size else ((), ())
        pairs += [(mine[a], its[b]) for a, b in zip(rows, columns, strict=True) if cosines[a, b] >= ALIKE]
    return pairs


def _shaped(ours: Iterable[Weights], theirs: Iterable[Weights]) -> list[tuple[list[Weights], list[Weights]]]:
    """Both sides by the shape of their weights."""
    groups = dict[tuple[int, ...], tuple[list[Weights], list[Weights]]]()
    for side, all_ in enumerate((ours, theirs)):
        for one in all_:
            groups.setdefault(one.array.shape, ([], []))[side].append(one)
    return list(groups.values())


def _without(left: tuple[list[Weights], list[Weights]], pairs: Sequence[Pair]) -> tuple[list[Weights], list[Weights]]:
    gone = {id(one) for pair in pairs for one in pair}
    kept = [[one for one in side if id(one) not in gone] for side in left]
    return kept[0], kept[1]


def _passed_on(value: ir.Value) -> Iterable[str]:
    """A value's name, and the names of what passes it on to where several or others read it."""
    yield str(value.name)
    uses = list(value.uses())
    if len(uses) == 1 and uses[0].idx == 0 and uses[0].node.op_type in PASSING:
        yield from _passed_on(uses[0].node.outputs[0])


def _upright(node: ir.Node, array: NDArray[Any]) -> NDArray[Any]:
    """Weights as (out, in, ...)."""
    turned = node.op_type == "MatMul" or (
        node.op_type == "Gemm" and not ("transB" in node.attributes and node.attributes["transB"].as_int())
    )
    if array.ndim == 2:
        return array.T if turned else array
    flat = node.op_type == "Conv" and set(array.shape[2:]) == {1}
    return array.reshape(array.shape[:2]) if flat else array
