"""Reading an ONNX file that nobody has vouched for."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from sightline.errors import BadModel

LARGEST_FILE = 8 << 30  # bytes; a convolutional network beyond this is a mistake or an attack
SPOKEN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc"})
MOST_SHARING = 4  # times that external data may be read; more is a file made to fill the memory
OLDEST_OPSET = 7


@dataclass(frozen=True)
class LoadedGraph:
    """A checked graph with its weights in memory.

    Attributes:
        model: model-local functions inlined, external data read.
        sha256: of the file and, in order of their names, of its external data files.
        files: the model file, then its external data files.
        metadata: the exporter's notes, by key.
    """

    model: ir.Model
    sha256: str
    files: tuple[Path, ...]
    metadata: dict[str, str]


def load_graph(path: Path) -> LoadedGraph:
    """Read and check an ONNX file.

    Raises:
        BadModel: not a file, not ONNX, truncated, of an opset older than 7, external data missing or outside the
            model's folder, NaN among the weights.
    """
    proto = _parse(path)
    try:
        external = _external_files(proto, path)
    except (OSError, RuntimeError, ValueError) as reason:  # names too long, loops of links, counts beyond any file
        raise BadModel(f"The external data of {path} cannot be found: {_first_line(reason)}.") from reason
    if external:
        _read_external(proto, path)
    _check(proto, path)
    if proto.functions:
        import onnx.inliner

        proto = onnx.inliner.inline_local_functions(proto)
    _refuse_nan(proto, path)
    files = (path, *external)
    model = ir.serde.deserialize_model(proto)
    graph = model.graph
    _leave_message(graph)
    graph.inputs[:] = [
        value for value in graph.inputs if str(value.name) not in graph.initializers
    ]  # IR < 4 lists them
    return LoadedGraph(model, _digest(files), files, {p.key: p.value for p in proto.metadata_props})


def _leave_message(graph: ir.Graph) -> None:
    """Hold weights as arrays: a message copies one whenever it is read, and any one keeps the whole message."""
    for value in graph.initializers.values():
        if isinstance(value.const_value, ir.TensorProtoTensor):
            tensor = value.const_value
            value.const_value = ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=tensor.name)
    for node in graph.all_nodes():
        for name, attribute in node.attributes.items():
            if isinstance(attribute.value, ir.TensorProtoTensor):
                tensor = attribute.value
                node.attributes[name] = ir.AttrTensor(name, ir.Tensor(tensor.numpy(), dtype=tensor.dtype))


def _parse(path: Path) -> onnx.ModelProto:
    if path.is_dir():
        raise BadModel(f"{path} is a folder. Pass one .onnx file.")
    if not path.is_file():
        raise BadModel(
            f"{path} does not exist. Pass an .onnx file, 'demo', 'torchvision:NAME' or 'timm:NAME' "
            "(sightline export makes files of the last two)."
        )
    if path.stat().st_size > LARGEST_FILE:
        raise BadModel(f"{path} has {path.stat().st_size:,} bytes; the limit is {LARGEST_FILE:,}.")
    try:
        proto = onnx.load(path, format="protobuf", load_external_data=False)
    except OSError as reason:
        raise BadModel(f"{path} cannot be read: {reason.strerror or reason}.") from reason
    except (DecodeError, ValueError, RuntimeError) as reason:
        raise BadModel(f"{path} is not an ONNX file, or it is cut short ({_first_line(reason)}).") from reason
    if not proto.graph.node or not proto.opset_import:
        raise BadModel(f"{path} is not an ONNX file: it holds no graph. Pass a file that an ONNX exporter wrote.")
    if not proto.graph.output:
        raise BadModel(f"{path} has no output: there is nothing to explain. Export the model again with its scores.")
    opset = max((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    if opset < OLDEST_OPSET:
        raise BadModel(
            f"{path} is written in opset {opset}; the oldest accepted is {OLDEST_OPSET}. "
            "Convert it with onnx.version_converter.convert_version(model, 13)."
        )
    return proto


def _external_files(proto: onnx.ModelProto, path: Path) -> tuple[Path, ...]:
    """Names of the external data files, each checked to lie beside the model and to be long enough."""
    folder = path.parent.resolve()
    found: dict[str, Path] = {}
    asked = 0
    for tensor in _tensors(proto):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        facts = {entry.key: entry.value for entry in tensor.external_data}
        name = facts.get("location", "").replace("\0", "\ufffd")  # no path holds a zero byte
        target = folder / name
        if not name or Path(name).is_absolute() or not target.resolve().is_relative_to(folder):
            raise BadModel(
                f"Weight {tensor.name!r} of {path} points to {name!r}, outside the model's folder. "
                "External data is read only from files below the folder that holds the model."
            )
        if not target.is_file():
            raise BadModel(
                f"Weight {tensor.name!r} of {path} is stored in {name!r}, which is missing. "
                f"Put {name} beside the model, or save the model again in one file."
            )
        numbers = [facts.get("offset", "0"), facts.get("length", "0")]
        if not all(number.isascii() and number.isdigit() for number in numbers):
            raise BadModel(
                f"Weight {tensor.name!r} of {path} lies at offset {numbers[0]!r} with length {numbers[1]!r} of "
                f"{name!r}: these are no byte counts. Save the model again."
            )
        end = sum(map(int, numbers))
        if target.stat().st_size < end:
            raise BadModel(
                f"{target.name} has {target.stat().st_size:,} bytes, but weight {tensor.name!r} of {path} ends "
                f"at byte {end:,}: the file is cut short. Copy it again."
            )
        found[name] = target
        asked += int(numbers[1]) or target.stat().st_size - int(numbers[0])
    held = sum(target.stat().st_size for target in found.values())
    if asked > MOST_SHARING * held:
        raise BadModel(
            f"The weights of {path} would take {asked:,} bytes, read again and again from {held:,} bytes of external "
            "data. Save the model again, with weights that are used twice stored as one initializer."
        )
    return tuple(found[name] for name in sorted(found))


def _read_external(proto: onnx.ModelProto, path: Path) -> None:
    try:
        onnx.load_external_data_for_model(proto, str(path.parent))
    except (OSError, ValueError, RuntimeError, onnx.checker.ValidationError) as reason:
        raise BadModel(f"The external data of {path} cannot be read: {_first_line(reason)}.") from reason


def _check(proto: onnx.ModelProto, path: Path) -> None:
    for node in proto.graph.node:
        if node.domain not in SPOKEN_DOMAINS and not any(f.domain == node.domain for f in proto.functions):
            raise BadModel(
                f"Node {node.name or node.output[0]!r} of {path} is operator {node.op_type!r} of domain "
                f"{node.domain!r}, which neither ONNX Runtime nor the twin knows. Custom operator libraries are not "
                "loaded; export the model with standard operators."
            )
    if proto.ByteSize() >= (2 << 30):
        return  # onnx.checker reads larger models only from disk, and would follow external data itself
    try:
        onnx.checker.check_model(proto)
    except onnx.checker.ValidationError as reason:
        raise BadModel(f"{path} is not a valid ONNX model: {_first_line(reason)}.") from reason


def _refuse_nan(proto: onnx.ModelProto, path: Path) -> None:
    for tensor in _tensors(proto):
        if tensor.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE):
            try:
                values = onnx.numpy_helper.to_array(tensor)
            except (ValueError, TypeError) as reason:
                raise BadModel(f"Weight {tensor.name!r} of {path} is cut short ({_first_line(reason)}).") from reason
            count = int(np.isnan(values).sum())
            if count:
                raise BadModel(
                    f"Weight {tensor.name!r} of {path} holds {count:,} NaN of {values.size:,} values: every score "
                    "would be NaN. Export the model again from a checkpoint that is sound."
                )


def _tensors(proto: onnx.ModelProto) -> list[onnx.TensorProto]:
    """Initializers and the tensors that nodes carry, those of subgraphs and functions included."""
    found: list[onnx.TensorProto] = []
    graphs, nodes = [proto.graph], [node for function in proto.functions for node in function.node]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            found += graph.initializer
            nodes += graph.node
            continue
        for attribute in nodes.pop().attribute:
            found += [*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors]
            graphs += [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]
    return found


def _digest(files: tuple[Path, ...]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                digest.update(block)
    return digest.hexdigest()


def _first_line(reason: BaseException) -> str:
    return (str(reason).strip().splitlines() or [type(reason).__name__])[0].rstrip(".")
