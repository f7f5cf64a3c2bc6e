"""The torch twin: an ONNX graph interpreted node by node under autograd."""

from __future__ import annotations

from sightline.twin.interpreter import Twin, unsupported
from sightline.twin.parity import Parity, compare
from sightline.twin.rules import Rule, deconvnet, guided_backprop
from sightline.twin.steps import compare_by_node

__all__ = ["Parity", "Rule", "Twin", "compare", "compare_by_node", "deconvnet", "guided_backprop", "unsupported"]
