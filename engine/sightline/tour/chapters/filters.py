"""Q1: why are filters looked at in the first layer?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.errors import UsageError
from sightline.graph.constants import constant_array
from sightline.model import Model
from sightline.report.figure import picture_of
from sightline.report.panel import panels
from sightline.tour.chapter import Answer, Picture
from sightline.tour.visit import Visit

SHOWN = 64


class Filters:
    """Kernels of the first convolution beside those of deeper ones."""

    name = "filters"
    place = 10
    title = "Filters"
    question = "Why are filters looked at in the first layer?"
    claim = "It reads pixels, so that its kernels are pictures of edges and colours; deeper ones are not legible."
    figures: Mapping[str, str] = {
        "first_smoothness": "correlation of neighbouring weights in the first convolution; 0 is noise, 1 is flat",
        "deeper_smoothness": "the same in the deeper convolutions, mean",
        "first_inputs": "channels that a kernel of the first convolution reads",
        "deeper_inputs": "channels that a kernel of the deeper ones reads, median",
    }

    def visit(self, visit: Visit) -> Answer:
        kernels = spatial_kernels(visit.model)
        if len(kernels) < 2:
            raise UsageError("The network has fewer than two convolutions with kernels of 3 x 3 and more.")
        values = [smoothness(one) for one in kernels]
        inputs = [one.shape[1] for one in kernels]
        deeper = float(np.mean(values[1:]))
        figures = {
            "first_smoothness": values[0], "deeper_smoothness": deeper, "first_inputs": float(inputs[0]),
            "deeper_inputs": float(np.median(inputs[1:])),
        }  # fmt: skip
        text = (
            f"A kernel of the first convolution reads {inputs[0]} channels, which are colours, and its neighbouring "
            f"weights correlate by {values[0]:.2f}. Kernels of the {len(kernels) - 1} deeper ones read "
            f"{np.median(inputs[1:]):.0f} channels (median) that have no colour, and correlate by {deeper:.2f}."
        )
        result = visit.model.plan(visit.method("filters", count=SHOWN)).run(visit.model.empty_batch(), None)
        drawn = [Picture(picture_of(one), one.caption) for one in panels(result, None)]
        holds = values[0] > deeper and inputs[0] < np.median(inputs[1:])
        return Answer(text, figures, tuple(drawn), bool(holds))


def spatial_kernels(model: Model) -> list[NDArray[Any]]:
    """(O, I, kh, kw) of every convolution with a kernel of 3 x 3 and more, in the order in which they run."""
    found = list[NDArray[Any]]()
    for node in model.graph.graph:
        if node.op_type == "Conv" and len(node.inputs) > 1:
            array = constant_array(node.inputs[1])
            if array is not None and array.ndim == 4 and min(array.shape[2:]) >= 3:
                found.append(array)
    return found


def smoothness(kernels: NDArray[Any]) -> float:
    """Correlation of weights with those beside and below them, over all kernels (O, I, kh, kw)."""
    wide = kernels.astype(np.float64)
    pairs = ((wide[..., 1:], wide[..., :-1]), (wide[..., 1:, :], wide[..., :-1, :]))
    products = [float((one * other).sum()) for one, other in pairs]
    powers = [float(np.sqrt((one**2).sum() * (other**2).sum())) for one, other in pairs]
    return float(np.mean([product / max(power, 1e-30) for product, power in zip(products, powers, strict=True)]))


CHAPTER = Filters()
