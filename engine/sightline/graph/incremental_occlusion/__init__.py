"""Incremental occlusion: of every layer, only what a window of the image changes is computed.

Nakandala, Kumar, Papakonstantinou, "Incremental and Approximate Inference for Faster Occlusion-based Deep CNN
Explanations" (SIGMOD 2019), for any ONNX graph, as two ONNX graphs. ``cut`` holds the geometry, ``growth`` what an
operator does to a change, ``cost`` and ``plan`` what of each value is computed, ``rewrite`` the graphs.
"""

from __future__ import annotations

import onnx_ir as ir

from sightline.graph.incremental_occlusion.plan import Planner, SweepPlan
from sightline.graph.incremental_occlusion.rewrite import Sweep, rewrite
from sightline.graph.layers import Shapes
from sightline.types import IntArray

__all__ = ["Sweep", "SweepPlan", "compile_sweep", "plan_sweep"]


def plan_sweep(
    model: ir.Model, shapes: Shapes, windows: IntArray, outputs: tuple[str, ...], tolerance: float = 0.0
) -> SweepPlan:
    """The cheapest way to compute these outputs for every window, by prediction.

    Args:
        model: one float image input in NCHW, any batch size; normalisation folded.
        shapes: of every value at batch 1 and the input size in question.
        windows: (M, 4) top, left, height, width inside the image.
        outputs: names of values.
        tolerance: share of every map, along each axis, that changes are not followed into; 0 is exact.
    """
    return Planner(model, shapes, windows, outputs, tolerance).best()


def compile_sweep(model: ir.Model, shapes: Shapes, plan: SweepPlan, outputs: tuple[str, ...]) -> Sweep:
    """The base graph and the sweep graph of a plan."""
    return rewrite(model, shapes, plan, outputs)
