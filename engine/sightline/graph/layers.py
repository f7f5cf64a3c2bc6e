"""The table of a graph's layers: names, shapes, parameters, multiply-accumulates, receptive fields."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from sightline.errors import UnknownName
from sightline.graph.constants import constant_array, constant_origin
from sightline.graph.receptive import ReceptiveField, receptive_fields

Shapes = Mapping[str, tuple[int, ...]]
SMALL = 4096  # elements; larger weights never steer a shape


@dataclass(frozen=True)
class Layer:
    """One step of the network that depends on the image.

    Attributes:
        name: the graph's name for its output; what taps and targets use.
        operator: ONNX operator.
        module: dotted module path where the exporter recorded one, else "".
        shape: of its output at batch 1, or the batch that the graph fixes; () where inference could not tell.
        parameters: weights it owns.
        macs: multiply-accumulates per image.
        field: what one position sees; None when that is the whole image or unknown.
    """

    name: str
    operator: str
    module: str
    shape: tuple[int, ...]
    parameters: int
    macs: int
    field: ReceptiveField | None


class LayerTable:
    """All layers of a graph, and the names by which people call them."""

    def __init__(self, model: ir.Model, shapes: Shapes):
        self.shapes = shapes
        self._model = model
        self.batch = shapes.get(str(model.graph.inputs[0].name), (1,))[0]
        self._fields = receptive_fields(model, shapes)

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """In the order in which they run."""
        owned: set[str] = set()
        return tuple(self._layer(node, owned) for node in self._image_nodes())

    @cached_property
    def aliases(self) -> Mapping[str, str]:
        """Value name by node name, module path or enclosing module path; a module means what it puts out last.

        A module whose node was merged with the next one (a convolution with its normalisation) is still known by the
        name of its weight, ``conv1.weight``.
        """
        found: dict[str, str] = {}
        for node in self._image_nodes():
            value = str(node.outputs[0].name)
            path = module_path(node)
            parts = path.split(".") if path else []
            for end in range(1, len(parts) + 1):
                found[".".join(parts[:end])] = value
            if node.name:
                found[node.name] = value
        for node in self._image_nodes():
            for weight in node.inputs[1:]:
                owner = str(weight.name).removesuffix(".weight") if weight is not None else ""
                if weight is not None and owner and owner != weight.name:
                    found.setdefault(owner, str(node.outputs[0].name))
        for layer in self.layers:
            found.pop(layer.name, None)
        return found

    def resolve(self, name: str) -> str:
        """The value name behind a layer's name of any kind.

        Raises:
            UnknownName: with the nearest names.
        """
        if any(layer.name == name for layer in self.layers):
            return name
        if name in self.aliases:
            return self.aliases[name]
        raise UnknownName("layer", name, [*self.aliases, *(layer.name for layer in self.layers)])

    def find(self, name: str) -> Layer:
        """The layer behind a name of any kind."""
        value = self.resolve(name)
        return next(layer for layer in self.layers if layer.name == value)

    def title(self, value: str) -> str:
        """The name that people know a layer by: its module path where that means this value, else the value's."""
        module = self.find(value).module
        return module if module and self.aliases.get(module) == value else value

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates per image."""
        return sum(layer.macs for layer in self.layers)

    @cached_property
    def parameters(self) -> int:
        """Weights of all layers, each counted once."""
        return sum(layer.parameters for layer in self.layers)

    def _image_nodes(self) -> list[ir.Node]:
        """Nodes that compute numbers from the image; shape arithmetic and constants are left out."""
        from_image = {str(self._model.graph.inputs[0].name)}
        nodes: list[ir.Node] = []
        for node in self._model.graph:
            if node.op_type in ("Shape", "Size"):
                continue
            if any(v is not None and str(v.name) in from_image for v in node.inputs):
                from_image.update(str(output.name) for output in node.outputs if output.name)
                nodes.append(node)
        return nodes

    def _layer(self, node: ir.Node, owned: set[str]) -> Layer:
        stored = [origin for v in node.inputs if v is not None and (origin := constant_origin(v)) is not None]
        weights = [v for v in dict.fromkeys(stored) if str(v.name) not in owned and _is_weight(v)]
        owned.update(str(v.name) for v in weights)
        name = str(node.outputs[0].name)
        return Layer(
            name=name,
            operator=node.op_type,
            module=module_path(node),
            shape=self.shapes.get(name, ()),
            parameters=sum(_array(v).size for v in weights),
            macs=multiply_accumulates(node, self.shapes) // self.batch,
            field=self._fields.get(name),
        )


def _is_weight(value: ir.Value) -> bool:
    """Floats and 8-bit codes with at least one axis; bounds, shapes and axes are settings, not weights."""
    array = _array(value)
    return array.ndim > 0 and array.dtype.name in ("float32", "float16", "float64", "bfloat16", "int8", "uint8")


def _array(value: ir.Value) -> NDArray[Any]:
    array = constant_array(value)
    return np.zeros(()) if array is None else array


def multiply_accumulates(node: ir.Node, shapes: Shapes) -> int:
    """Multiply-accumulates of one node for the whole batch; elementwise work counts as none, as is usual."""
    names = [str(v.name) if v is not None else "" for v in node.inputs]
    output = shapes.get(str(node.outputs[0].name), ())
    if node.op_type in ("Conv", "FusedConv", "ConvInteger", "QLinearConv"):
        weight = shapes.get(names[3 if node.op_type == "QLinearConv" else 1], ())
        return math.prod(output) * math.prod(weight[1:]) if output and weight else 0
    if node.op_type == "ConvTranspose":
        source, weight = shapes.get(names[0], ()), shapes.get(names[1], ())
        return math.prod(source) * math.prod(weight[1:]) if source and weight else 0
    if node.op_type in ("Gemm", "MatMul", "FusedGemm", "FusedMatMul"):
        source = shapes.get(names[0], ())
        transposed = node.attributes.get("transA")
        inner = source[0 if transposed is not None and transposed.as_int() else -1] if source else 0
        return math.prod(output) * inner
    return 0


def module_path(node: ir.Node) -> str:
    """Dotted path of the module that a node came from, "" if the exporter did not say.

    Two conventions are read: the scopes that torch.onnx.export records (dynamo), and node names such as
    ``/features/features.3/squeeze/Conv`` (TorchScript), where a child of a container repeats its parent's name.
    """
    scopes = node.metadata_props.get("pkg.torch.onnx.name_scopes")
    if scopes:
        try:
            names = [str(scope) for scope in ast.literal_eval(scopes)]
        except (ValueError, SyntaxError):
            names = []
        return next((scope for scope in reversed(names[:-1]) if scope), "")
    if not node.name or not node.name.startswith("/"):
        return ""
    path: list[str] = []
    for part in node.name.strip("/").split("/")[:-1]:
        parent = path[-1] if path else ""
        if parent and part.startswith(f"{parent}."):
            path[-1] = part
        else:
            path.append(part)
    return ".".join(path)


def infer_shapes(model: ir.Model, input_shape: tuple[int, ...]) -> Shapes:
    """Shape of every value when the first input has this shape; values that cannot be told are left out."""
    shapes = {
        name: tuple(int(n) for n in value.const_value.shape.numpy())
        for name, value in model.graph.initializers.items()
        if value.const_value is not None
    }
    for name, found in _inferred(model, input_shape):
        dims = found.shape.dim
        if all(dim.HasField("dim_value") for dim in dims) and found.HasField("shape"):
            shapes[name] = tuple(int(dim.dim_value) for dim in dims)
    return shapes


def infer_types(model: ir.Model, input_shape: tuple[int, ...]) -> Mapping[str, ir.DataType]:
    """Element type of every value; values that cannot be told are left out."""
    return {name: ir.DataType(found.elem_type) for name, found in _inferred(model, input_shape)}


def _inferred(model: ir.Model, input_shape: tuple[int, ...]) -> Iterator[tuple[str, onnx.TypeProto.Tensor]]:
    """Type of every value as ONNX infers it; of none where it cannot.

    Large weights are given to the inference as declared inputs, so that no copy of them is made.
    """
    skeleton = model.clone()
    graph = skeleton.graph
    for name, value in list(graph.initializers.items()):
        tensor = value.const_value
        if tensor is None:
            continue
        if tensor.size > SMALL:
            value.shape, value.dtype = ir.Shape(tuple(int(n) for n in tensor.shape.numpy())), tensor.dtype
            del graph.initializers[name]
            value.const_value = None
            if value not in graph.inputs:
                graph.inputs.append(value)
    graph.inputs[0].shape = ir.Shape(input_shape)
    for node in graph:
        for output in node.outputs:
            output.shape = None
    for output in graph.outputs:
        output.shape = None
    try:
        inferred = onnx.shape_inference.infer_shapes(ir.serde.serialize_model(skeleton), data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return
    for entry in [*inferred.graph.value_info, *inferred.graph.output, *inferred.graph.input]:
        if entry.type.HasField("tensor_type"):
            yield entry.name, entry.type.tensor_type


def without_shape(model: ir.Model, shapes: Shapes) -> tuple[str, ...]:
    """Names of values that depend on the image and whose shape inference could not tell."""
    reached = {str(model.graph.inputs[0].name)}
    for node in model.graph:
        if any(v is not None and str(v.name) in reached for v in node.inputs):
            reached.update(str(v.name) for v in node.outputs if v.name)
    return tuple(str(v.name) for node in model.graph for v in node.outputs if v.name in reached - shapes.keys())
