"""What every ONNX -> ONNX pass promises, checked after each call."""

from __future__ import annotations

from abc import ABC, abstractmethod

import onnx_ir as ir


class PassBroken(AssertionError):
    """A pass did not keep its own promise: an error of ours, never of the caller's."""


class GraphPass(ABC):
    """Rewrites a copy of a graph; the graph that came in is left as it was.

    A subclass says what it keeps, and writes ``rewrite``. Calling it copies, rewrites and checks.

    Attributes:
        keeps_inputs: the graph's inputs have the same names in the same order.
        keeps_outputs: the outputs that were there still are, first and in order.
    """

    keeps_inputs = True
    keeps_outputs = True

    def __call__(self, model: ir.Model) -> ir.Model:
        """The rewritten copy; weights are shared with the original, not copied."""
        copy = model.clone()
        self.rewrite(copy)
        self._check(model, copy)
        return copy

    @abstractmethod
    def rewrite(self, model: ir.Model) -> None:
        """Change the graph in place."""

    def _check(self, before: ir.Model, after: ir.Model) -> None:
        name = type(self).__name__
        if self.keeps_inputs and _names(before.graph.inputs) != _names(after.graph.inputs):
            raise PassBroken(f"{name} changed the inputs to {_names(after.graph.inputs)}.")
        kept = _names(after.graph.outputs)[: len(before.graph.outputs)]
        if self.keeps_outputs and _names(before.graph.outputs) != kept:
            raise PassBroken(f"{name} changed the outputs to {kept}.")
        made = set(_names(after.graph.inputs)) | set(after.graph.initializers)
        for node in after.graph:
            for value in node.inputs:
                if value is not None and str(value.name) not in made:
                    raise PassBroken(f"{name} left node {node.name!r} reading {value.name!r} before it is made.")
            made.update(str(value.name) for value in node.outputs)


def _names(values: object) -> list[str]:
    return [str(value.name) for value in values]  # type: ignore[attr-defined]
