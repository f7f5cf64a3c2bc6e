"""Proof of a twin whose graph rounds on the way (half precision, quantised): node by node, and then as a whole.

Two runtimes that round to 11 bits, or to codes, do not agree to 1e-4, and what one node rounds otherwise the next
ones carry on: ONNX Runtime with its fusions and without them is one to two steps apart in an int8 network's scores.
So every node of the twin is given what the reference's node was given, and may differ by its own rounding only:

1. fp32 and wider: by the tolerance of graphs that do not round, relative to the largest value.
2. Half precision: by 2 units in the last place of the largest value, 2 x 2**-10 = 2.0e-3. Each side rounds its
   result by half a unit, and inside of an operator of several steps (hard swish, a normalisation) about as often.
3. Codes (integers of 8 and 16 bits): by 1, in at most 1 % of a tensor. Values lie so near the middle of two codes
   that float32 decides by chance in a millionth of the cases; truncation or a wrong zero point changes half or more.

As a whole n values that are rounded add up like n independent errors: sqrt(n) units of the output in half precision,
or sqrt(n) steps of the quantiser behind it. That is no sharp test: it is for what no single node shows, such as a
plan that mixes two values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sightline.errors import TwinMismatch
from sightline.twin.interpreter import Twin
from sightline.twin.parity import Arrays, Parity, Reference, relative, relative_difference, sentence, to_array

UNIT = 2.0**-10  # of half precision: from 1 to the next number
ROUNDINGS = 2  # units by which two runtimes' results of one node may differ
STRAYS = 0.01  # share of a tensor's codes that may be one apart
LEVELS = 255  # codes of a range whose step the graph does not say
CHUNK = 64  # values that are compared at once: they, and what they are made from, are all that is held in memory
_PASSING = ("DequantizeLinear", "Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")

_Array = NDArray[Any]


def compare_by_node(twin: Twin, reference: Reference, inputs: Arrays, tolerance: float) -> Parity:
    """Compare every node of the twin, given the reference's operands, and then the graph's outputs.

    Args:
        twin: on any device.
        reference: computes values of the same graph by name with nothing fused, so that each node rounds as it says.
        inputs: the graph's inputs by name.
        tolerance: largest accepted relative difference of a node that does not round.

    Returns:
        The differences of the outputs, and the largest that was accepted of one.

    Raises:
        TwinMismatch: a node differs by more than its own rounding, or an output by more than all of them; the message
            names the first node.
    """
    arrays = {name: np.asarray(array) for name, array in inputs.items()}
    rounded = 0
    for start in range(0, len(twin.computed), CHUNK):
        sources = {name: twin.sources(name) for name in twin.computed[start : start + CHUNK]}
        read = dict.fromkeys([*sources, *(one for found in sources.values() for one in found)])
        theirs = {**arrays, **reference(dict(arrays), [name for name in read if name not in arrays])}
        for name, operands in sources.items():
            expected = np.asarray(theirs[name])
            fault = _fault(_run(twin, theirs, operands, name), expected, tolerance)
            if fault:
                raise TwinMismatch(sentence(twin, name, fault))
            rounded += _is_codes(expected) or expected.dtype == np.float16
    return _whole(twin, reference, arrays, tolerance, rounded)


def _whole(twin: Twin, reference: Reference, inputs: Arrays, tolerance: float, rounded: int) -> Parity:
    """Compare the outputs, on the tape: there, codes travel as floats."""
    theirs = reference(dict(inputs), twin.outputs)
    found, most = dict[str, float](), tolerance
    for name in twin.outputs:
        expected = np.asarray(theirs[name])
        largest = float(np.abs(expected.astype(np.float64)).max(initial=0.0))
        accepted = max(tolerance, math.sqrt(rounded) * _step(twin, name, largest) / max(largest, 1e-30))
        difference = relative_difference(_run(twin, inputs, tuple(inputs), name, taped=True), expected)
        if not difference <= accepted:
            raise TwinMismatch(sentence(twin, name, relative(difference, accepted)))
        found[name], most = difference, max(most, accepted)
    return Parity(found, most)


def _fault(ours: _Array, theirs: _Array, tolerance: float) -> str:
    """How far a node's result is from the reference's, if that is too far."""
    difference = relative_difference(ours, theirs)
    if _is_codes(theirs) and ours.shape == theirs.shape and theirs.size:
        apart = np.abs(ours.astype(np.int64) - theirs.astype(np.int64))
        share, most = float((apart > 0).mean()), int(apart.max())
        told = f"in {share:.2%} of its codes, by up to {most} ({STRAYS:.0%}, by 1, are accepted)"
        return "" if most <= 1 and share <= STRAYS else told
    accepted = ROUNDINGS * UNIT if theirs.dtype == np.float16 else tolerance
    return "" if difference <= accepted else relative(difference, accepted)


def _is_codes(values: _Array) -> bool:
    return values.dtype.kind in "iu" and values.dtype.itemsize <= 2


def _step(twin: Twin, output: str, largest: float) -> float:
    """What one rounding moves an output by: the step of the quantiser behind it, or a unit of half precision."""
    node = twin.maker(output)
    while node is not None and node.operator in _PASSING:
        node = twin.maker(node.inputs[0])
    if node is not None and node.operator == "QuantizeLinear" and 1 in node.known:
        return float(node.known[1].abs().max())
    quantised = any(one is not None and "Quant" in one.operator for one in map(twin.maker, twin.computed))
    return largest / LEVELS if quantised else largest * UNIT


def _run(twin: Twin, values: Mapping[str, Any], given: Sequence[str], name: str, *, taped: bool = False) -> _Array:
    """A value of the twin from others."""
    placed = {one: torch.from_numpy(np.array(values[one])).to(twin.device) for one in given}
    if taped:
        placed = {one: tensor.requires_grad_(tensor.is_floating_point()) for one, tensor in placed.items()}
    with torch.set_grad_enabled(taped):
        return to_array(twin.run(placed, (name,))[name])
