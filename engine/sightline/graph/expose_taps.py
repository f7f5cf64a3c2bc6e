"""Inner values as extra outputs of a graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir
import onnx_ir.passes.common as common_passes

from sightline.graph.codes import DecodeCodes
from sightline.graph.pass_ import GraphPass


@dataclass(frozen=True)
class ExposeTaps(GraphPass):
    """Put inner values out beside the graph's own outputs.

    Cases:
        1. A value that is already an output stays where it is.
        2. Any other value is appended, in the order given, each once.
        3. With ``only``, the graph's own outputs go, and with them the nodes that nothing else needs: reading an
           early layer does not pay for the late ones.
        4. Of integer codes, what they stand for is put out, unless ``codes`` asks for themselves.

    Raises:
        UsageError: a value holds codes that nobody can read; see ``graph.codes``.
    """

    names: Sequence[str]
    only: bool = False
    codes: bool = False

    @property
    def keeps_outputs(self) -> bool:  # type: ignore[override]
        return not self.only

    def rewrite(self, model: ir.Model) -> None:
        graph = model.graph
        if not self.codes:
            DecodeCodes(self.names).rewrite(model)  # 4
        values = {str(v.name): v for node in graph for v in node.outputs}
        values |= {str(v.name): v for v in graph.inputs}
        wanted = list(dict.fromkeys(self.names))
        if self.only:
            graph.outputs[:] = [values[name] for name in wanted]  # 3
            common_passes.RemoveUnusedNodesPass()(model)
            return
        present = {str(v.name) for v in graph.outputs}  # 1
        graph.outputs.extend(values[name] for name in wanted if name not in present)  # 2
