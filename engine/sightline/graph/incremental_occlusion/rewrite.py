"""Writes a sweep plan as two graphs: the base, run once per image, and the sweep, whose batch is the windows.

Cases, with the numbers that the code carries:
    1. A cut that differs from the one its value is computed on is assembled by one Gather. Its data are rows of
       channels: the base activations, the rows that stand for what lies outside the map, the windows. Which row goes
       where is an index table made outside the graph: cropping, pasting, borders and alignment are all in it.
    2. A sliding kernel reads such a cut, halo included, and runs without padding; of a Pad nothing else is left.
    3. What reads the image is given its cut, halo included, from outside.
    4. A mean over all positions is the sum over the cut, plus what the base holds outside it, over their number.
    5. A node that is computed whole reads whole values: the cut of a windowed input is then the whole map.
    6. An output of the sweep that is computed in part is put out whole.
    7. A gathered operand of a join passes a pooling of one position. It changes no number; behind it ONNX Runtime's
       CPU provider keeps the blocked layout of its convolutions and fuses the join into one of them.
    8. A graph that computes in another precision is given float32 and casts it; sums over positions are float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common_passes

from sightline.graph.incremental_occlusion.cut import Cut, whole
from sightline.graph.incremental_occlusion.plan import Step, SweepPlan
from sightline.graph.layers import Shapes, infer_types

FILLERS = {0.0: 0, float("-inf"): 1}  # rows between base and windows: of zero padding, of maximum pooling
BLOCKED = "@blocked"  # ends the names of values that pass a pooling of one position


@dataclass(frozen=True)
class Picture:
    """A cut of the perturbed image that the sweep is given: (M, C, h, w) float32."""

    input: str
    cut: Cut
    filler: float


@dataclass(frozen=True)
class Table:
    """Where each row of a gathered cut comes from: (M, h, w) int32."""

    input: str
    cut: Cut
    filler: float


@dataclass(frozen=True)
class Source:
    """A value that is gathered from.

    Attributes:
        value: its name.
        band: input that takes the base's rows (r, C), those of the map's rows that the tables speak of.
        size: height and width of its map.
        cut: what is computed of it.
        tables: that index it.
    """

    value: str
    band: str
    size: tuple[int, int]
    cut: Cut
    tables: tuple[Table, ...]


@dataclass(frozen=True)
class Remainder:
    """What the base's sum over all positions holds outside a cut: (M, C, 1, 1) float32."""

    input: str
    value: str
    cut: Cut


@dataclass(frozen=True)
class Sweep:
    """Two graphs and what they take.

    Attributes:
        base: image (1, C, H, W) to the activations (1, h, w, C) of ``based`` values, under their names + "@base".
        graph: windows to outputs, batch M.
    """

    base: ir.Model
    graph: ir.Model
    pictures: tuple[Picture, ...]
    sources: tuple[Source, ...]
    remainders: tuple[Remainder, ...]

    @cached_property
    def based(self) -> tuple[str, ...]:
        """Names of the values that the base computes."""
        names = [source.value for source in self.sources] + [one.value for one in self.remainders]
        return tuple(dict.fromkeys(names))


def with_whole_bands(sweep: Sweep) -> Sweep:
    """The same sweep, whose graph takes all rows of every map: no size but the number of windows is free."""
    inputs = {str(value.name): value for value in sweep.graph.graph.inputs}
    for source in sweep.sources:
        band = inputs[source.band]
        assert band.shape is not None
        band.shape = ir.Shape((source.size[0] * source.size[1], band.shape[1]))
    return sweep


def rewrite(model: ir.Model, shapes: Shapes, plan: SweepPlan, outputs: tuple[str, ...]) -> Sweep:
    """The two graphs of a plan; weights are shared with the model, not copied."""
    return _Writer(model, shapes, plan, outputs).write()


class _Writer:
    def __init__(self, model: ir.Model, shapes: Shapes, plan: SweepPlan, outputs: tuple[str, ...]):
        self._model, self._shapes, self._plan, self._outputs = model, shapes, plan, outputs
        self._sweep = model.clone()
        self._types = infer_types(model, shapes[str(model.graph.inputs[0].name)])
        self._graph = self._sweep.graph
        self._image = self._graph.inputs[0]
        self._values = {str(v.name): v for node in self._graph for v in node.outputs}
        self._values[str(self._image.name)] = self._image
        self._nodes = {str(node.outputs[0].name): node for node in self._graph}
        self._tables: dict[str, list[Table]] = {}
        self._bands: dict[str, ir.Value] = {}
        self._gathered: dict[str, list[tuple[Cut, float, ir.Value]]] = {}
        self._pictures: list[Picture] = []
        self._remainders: list[Remainder] = []

    def write(self) -> Sweep:
        for node in self._graph:
            for value in node.outputs:
                value.shape = None
        for step in self._plan.steps:
            self._rewrite(step, self._nodes[step.name])
        graph = self._graph
        graph.outputs[:] = [self._put_out(name) for name in self._outputs]
        graph.inputs.remove(self._image)
        common_passes.RemoveUnusedNodesPass()(self._sweep)
        sources = tuple(
            Source(name, str(self._bands[name].name), self._size(name), self._plan.cuts[name], tuple(tables))
            for name, tables in self._tables.items()
        )
        found = Sweep(self._model.clone(), self._sweep, tuple(self._pictures), sources, tuple(self._remainders))
        _expose(found.base, {name: self._type(name) for name in found.based})
        return found

    def _rewrite(self, step: Step, node: ir.Node) -> None:
        cut = self._plan.cuts.get(step.name)
        if cut is None and step.growth.kind == "mean" and step.sources[0] in self._plan.cuts:
            self._sum(step, node)  # 4
            return
        if cut is None:
            for name in step.sources:
                if name in self._plan.cuts:
                    self._read(node, name, whole(self._size(name), self._plan.windows), 0.0)  # 5
            return
        if step.growth.keeps_place:
            needed = cut
        else:
            needed = cut.read_by(step.growth.slides)
            _unpad(node)  # 2
        for name in step.sources:
            self._read(node, name, needed, step.growth.filler, joins=len(step.sources) > 1)

    def _read(self, node: ir.Node, name: str, cut: Cut, filler: float, *, joins: bool = False) -> None:
        """Let a node read this cut of a value; ``joins`` if it reads others beside it."""
        if name == str(self._image.name):
            found = self._picture(cut, filler)  # 3
        elif cut.equals(self._plan.cuts[name]):
            return
        else:
            found = self._gather(node, name, cut, filler)  # 1
            if joins:
                found = self._blocked(node, found)  # 7
        for place, value in enumerate(node.inputs):
            if value is not None and str(value.name) == name:
                node.replace_input_with(place, found)

    def _picture(self, cut: Cut, filler: float) -> ir.Value:
        for known in self._pictures:
            if known.cut.equals(cut) and known.filler == filler:
                return next(value for value in self._graph.inputs if value.name == known.input)
        value = self._input(
            f"picture:{len(self._pictures)}",
            ("M", self._shapes[str(self._image.name)][1], cut.rows.size, cut.columns.size),
        )
        self._pictures.append(Picture(str(value.name), cut, filler))
        return value

    def _gather(self, reader: ir.Node | None, name: str, cut: Cut, filler: float) -> ir.Value:
        """The cut of a value, assembled before its first reader; a second reader finds it made."""
        for known, outside, value in self._gathered.get(name, []):
            if known.equals(cut) and (outside == filler or cut.lies_within(self._size(name))):
                return value
        made = self._gathered.setdefault(name, [])
        table = Table(f"{name}@table{len(made)}", cut, filler)
        index = self._input(table.input, ("M", cut.rows.size, cut.columns.size), ir.DataType.INT32)
        rows = ir.node("Gather", [self._rows(name), index], {"axis": 0})
        maps = ir.node("Transpose", [rows.outputs[0]], {"perm": [0, 3, 1, 2]})
        maps.outputs[0].name = f"{name}@cut{len(made)}"
        _insert([rows, maps], self._graph, reader)
        self._tables.setdefault(name, []).append(table)
        made.append((cut, filler, maps.outputs[0]))
        return maps.outputs[0]

    def _blocked(self, reader: ir.Node, value: ir.Value) -> ir.Value:
        """The value in the layout of ONNX Runtime's convolutions."""
        pool = ir.node("MaxPool", [value], {"kernel_shape": [1, 1]})
        pool.outputs[0].name = f"{value.name}{BLOCKED}"
        self._graph.insert_before(reader, pool)
        return pool.outputs[0]

    def _rows(self, name: str) -> ir.Value:
        """Rows of channels: of the base, of the fillers, of the windows; made behind the value's own node."""
        if name not in self._bands:
            channels = self._shapes[name][1]
            band = self._bands[name] = self._input(f"{name}@band", (None, channels))
            dtype = self._type(name)
            fillers = np.repeat(np.array([list(FILLERS)]).T, channels, axis=1).astype(dtype.numpy())  # (2, C)
            outside = self._constant(f"{name}@outside", fillers)
            flat = self._constant(f"{name}@flat", np.array([-1, channels], np.int64))
            last = ir.node("Transpose", [self._values[name]], {"perm": [0, 2, 3, 1]})
            windows = ir.node("Reshape", [last.outputs[0], flat])
            casts, rows = _cast(band, ir.DataType.FLOAT, dtype)  # 8
            joined = ir.node("Concat", [rows, outside, windows.outputs[0]], {"axis": 0})
            joined.outputs[0].name = f"{name}@rows"
            maker = self._values[name].producer()
            assert maker is not None
            self._graph.insert_after(maker, [*casts, last, windows, joined])
            self._values[f"{name}@rows"] = joined.outputs[0]
        return self._values[f"{name}@rows"]

    def _sum(self, step: Step, node: ir.Node) -> None:
        name = step.sources[0]
        rest = Remainder(f"{name}@rest{len(self._remainders)}", name, self._plan.cuts[name])
        self._remainders.append(rest)
        outside = self._input(rest.input, ("M", self._shapes[name][1], 1, 1))
        axes = self._constant(f"{rest.input}.axes", np.array([2, 3], np.int64))
        height, width = self._size(name)
        factor = self._constant(f"{rest.input}.factor", np.array(1 / (height * width), np.float32))
        before, source = _cast(self._values[name], self._type(name), ir.DataType.FLOAT)  # 8
        if self._graph.opset_imports.get("", 0) >= 13:
            total = ir.node("ReduceSum", [source, axes], {"keepdims": 1})
        else:
            total = ir.node("ReduceSum", [source], {"axes": [2, 3], "keepdims": 1})
        added = ir.node("Add", [total.outputs[0], outside])
        mean = ir.node("Mul", [added.outputs[0], factor])
        after, found = _cast(mean.outputs[0], ir.DataType.FLOAT, self._type(step.name))
        nodes = [*before, total, added, mean, *after]
        if len(self._shapes[step.name]) == 2:
            flat = self._constant(f"{rest.input}.flat", np.array([0, -1], np.int64))
            nodes.append(ir.node("Reshape", [found, flat]))
            found = nodes[-1].outputs[0]
        self._graph.insert_before(node, nodes)
        old = node.outputs[0]
        found.type = old.type
        old.replace_all_uses_with(found, replace_graph_outputs=True)
        self._graph.remove(node, safe=False)
        self._values[step.name] = found
        old.name, found.name = None, step.name

    def _put_out(self, name: str) -> ir.Value:
        value = self._values[name]
        if name in self._plan.cuts:
            value.name = f"{name}@windows"
            whole_cut = whole(self._size(name), self._plan.windows)
            found = self._gather(None, name, whole_cut, 0.0)  # 6
            found.name, found.type = name, value.type
            return found
        return value

    def _type(self, name: str) -> ir.DataType:
        return self._types.get(name, ir.DataType.FLOAT)

    def _size(self, name: str) -> tuple[int, int]:
        shape = self._shapes[name]
        return shape[2], shape[3]

    def _input(
        self, name: str, shape: tuple[int | str | None, ...], dtype: ir.DataType = ir.DataType.FLOAT
    ) -> ir.Value:
        value = ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(dtype))
        self._graph.inputs.append(value)
        return value

    def _constant(self, name: str, array: np.ndarray) -> ir.Value:
        tensor = ir.tensor(array, name=name)
        value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
        self._graph.register_initializer(value)
        return value


def _cast(value: ir.Value, dtype: ir.DataType, to: ir.DataType) -> tuple[list[ir.Node], ir.Value]:
    """The value in another type, and the node that makes it so, if one is needed."""
    if dtype == to:
        return [], value
    node = ir.node("Cast", [value], {"to": int(to)})
    return [node], node.outputs[0]


def _insert(nodes: list[ir.Node], graph: ir.Graph, before: ir.Node | None) -> None:
    if before is None:
        graph.extend(nodes)
    else:
        graph.insert_before(before, nodes)


def _unpad(node: ir.Node) -> None:
    """A sliding kernel that reads its halo and nothing else."""
    if node.op_type == "Pad":
        node.op_type = "Identity"
        node.resize_inputs(1)
        node.attributes.clear()
    for name in ("auto_pad", "pads", "ceil_mode"):
        node.attributes.pop(name, None)


def _expose(model: ir.Model, types: Mapping[str, ir.DataType]) -> None:
    """Leave of a graph what computes these values, put out as (1, h, w, C) in float32."""
    graph = model.graph
    values: Mapping[str, ir.Value] = {str(v.name): v for node in graph for v in node.outputs}
    outputs = list[ir.Value]()
    for name, dtype in types.items():
        last = ir.node("Transpose", [values[name]], {"perm": [0, 2, 3, 1]})
        casts, found = _cast(last.outputs[0], dtype, ir.DataType.FLOAT)  # 8
        found.name, found.type = f"{name}@base", ir.TensorType(ir.DataType.FLOAT)
        graph.extend([last, *casts])
        outputs.append(found)
    graph.outputs[:] = outputs
    common_passes.RemoveUnusedNodesPass()(model)
