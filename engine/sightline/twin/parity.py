"""Proof that the twin computes what the graph does, and where it does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sightline.errors import TwinMismatch
from sightline.twin.interpreter import Twin
from sightline.twin.reading import FORWARD_ONLY

Arrays = Mapping[str, NDArray[np.generic]]
Reference = Callable[[dict[str, NDArray[np.generic]], Sequence[str]], Arrays]

CHUNK = 16  # inner values that are compared at once: they are all that is held in memory


@dataclass(frozen=True)
class Parity:
    """How far the twin is from the reference.

    Attributes:
        differences: of each graph output, relative: max |twin - reference| / max |reference|.
        tolerance: the largest that was accepted.
    """

    differences: Mapping[str, float]
    tolerance: float

    @property
    def worst(self) -> float:
        """The largest of the differences."""
        return max(self.differences.values(), default=0.0)


def compare(twin: Twin, reference: Reference, inputs: Arrays, tolerance: float) -> Parity:
    """Compare the graph's outputs, and where they differ look for the node that differs first.

    Args:
        twin: on any device.
        reference: computes values of the same graph by name.
        inputs: the graph's inputs by name.
        tolerance: largest accepted relative difference.

    Raises:
        TwinMismatch: a difference is larger, or one of the two is NaN where the other is not; the message names the
            first node, in the graph's order, whose output differs.
    """
    found = _differences(twin, reference, inputs, twin.outputs)
    if all(difference <= tolerance for difference in found.values()):
        return Parity(found, tolerance)
    for start in range(0, len(twin.values), CHUNK):
        chunk = _differences(twin, reference, inputs, twin.values[start : start + CHUNK])
        for name, difference in chunk.items():
            if not difference <= tolerance:
                raise TwinMismatch(sentence(twin, name, relative(difference, tolerance)))
    name = max(found, key=lambda output: found[output])  # every inner value agrees: an output that no node makes
    raise TwinMismatch(sentence(twin, name, relative(found[name], tolerance)))


def relative_difference(ours: NDArray[np.generic], theirs: NDArray[np.generic]) -> float:
    """Max |ours - theirs| / max |theirs|, over finite elements; infinite where shapes, NaN or infinities differ."""
    if ours.shape != theirs.shape:
        return float("inf")
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True) or not np.isfinite(a[finite]).all():
        return float("inf")
    difference = float(np.abs(a[finite] - b[finite]).max(initial=0.0))
    scale = float(np.abs(b[finite]).max(initial=0.0))
    return difference / scale if scale > 0 else difference


def _differences(twin: Twin, reference: Reference, inputs: Arrays, names: Sequence[str]) -> dict[str, float]:
    arrays = {name: np.asarray(array) for name, array in inputs.items()}
    theirs = reference(arrays, names)
    with torch.no_grad():
        placed = {name: torch.from_numpy(array.copy()).to(twin.device) for name, array in arrays.items()}
        ours = twin.run(placed, names)
    return {name: relative_difference(to_array(ours[name]), np.asarray(theirs[name])) for name in names}


def to_array(tensor: torch.Tensor) -> NDArray[np.generic]:
    """On the host; types that NumPy lacks as float32."""
    small = tensor.is_floating_point() and tensor.dtype not in (torch.float16, torch.float32, torch.float64)
    return (tensor.float() if small else tensor).detach().cpu().numpy()


def sentence(twin: Twin, name: str, how: str) -> str:
    """What is told of the first value that differs, and how far it does."""
    node = twin.maker(name)
    place = f"node {node.name!r} ({node.operator})" if node else "no node: it is an input or a constant"
    return (
        f"The twin differs from the reference {how}; the first value that differs is {name!r}, made by {place}. "
        f"{FORWARD_ONLY}"
    )


def relative(difference: float, tolerance: float) -> str:
    """How far, in words."""
    return f"by {difference:.3g} (relative, {tolerance:.3g} is accepted)"
