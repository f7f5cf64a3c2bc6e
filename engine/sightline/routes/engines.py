"""What TensorRT must know before it builds an engine: the range of every free size, and where engines are kept.

An engine is machine code, made for one graph with its weights, one chip and one set of versions. So each has a folder
of its own, whose name is a digest of all of these, below a folder that nobody else can write to.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from sightline.errors import UsageError
from sightline.graph.serialise import Serialised

USUAL, MOST = 16, 64  # rows of a run that an engine is tuned for, and that it takes, where no batch was asked for
APART = frozenset(":,")  # signs that part what is said of profiles
FOLDER = Path("sightline") / "tensorrt"  # below the user's cache folder


@dataclass(frozen=True)
class Chip:
    """What an engine is tied to, beside its graph.

    Attributes:
        name: of the device, as its driver says it.
        versions: of the driver, ONNX Runtime and TensorRT, by name.
    """

    name: str
    versions: Mapping[str, str]

    def __str__(self) -> str:
        return "; ".join([self.name, *(f"{name} {version}" for name, version in sorted(self.versions.items()))])


def sayable(graph: ir.Model) -> tuple[ir.Model, dict[str, str]]:
    """The graph with inputs whose names can be said in a profile, and those that are new by what they were.

    ONNX Runtime takes profiles apart at commas, and each at its first colon: TensorFlow's ``input:0`` would be an
    input ``input`` of shape 0, and ours have colons too.
    """
    if not any(set(str(value.name)) & APART for value in graph.graph.inputs):
        return graph, {}
    found, renamed = graph.clone(), dict[str, str]()
    taken = {str(value.name) for node in found.graph.all_nodes() for value in (*node.inputs, *node.outputs) if value}
    taken |= {*found.graph.initializers, *(str(value.name) for value in found.graph.inputs)}
    for value in found.graph.inputs:
        name = str(value.name)
        if set(name) & APART:
            new = "".join("_" if sign in APART else sign for sign in name)
            while new in taken:
                new += "_"
            taken.add(new)
            renamed[name] = value.name = new
    return found, renamed


def profiles(graph: ir.Model, *, batch: int | None, size: tuple[int, int] | None) -> dict[str, str]:
    """The least, usual and largest shape of every input that has a free size; without one, engines are rebuilt.

    Args:
        graph: whose inputs are asked; their names are ``sayable``.
        batch: rows of a run, if that is known.
        size: (H, W) of images where the graph leaves it open.

    Raises:
        UsageError: an input has a free size that nobody knows.
    """
    least, usual, largest = list[str](), list[str](), list[str]()
    for value in graph.graph.inputs:
        if value.shape is None:
            raise UsageError(
                f"TensorRT needs the range of every size, and input {value.name!r} says no shape at all."
            )
        dims = [dim if isinstance(dim, int) else None for dim in value.shape]
        if None not in dims:
            continue
        inner = _inner(str(value.name), dims, size)
        rows = (dims[0],) * 3 if dims[0] is not None else (1, batch or USUAL, rows_at_most(batch))
        for found, count in zip((least, usual, largest), rows, strict=True):
            found.append(f"{value.name}:{'x'.join(map(str, (count, *inner)))}")
    if not least:
        return {}
    names = ("min", "opt", "max")
    return {
        f"trt_profile_{name}_shapes": ",".join(found)
        for name, found in zip(names, (least, usual, largest), strict=True)
    }


def rows_at_most(batch: int | None) -> int:
    """Largest batch that engines are built for, where one was asked for or none."""
    return max(batch or 0, MOST)


def _inner(name: str, dims: Sequence[int | None], size: tuple[int, int] | None) -> list[int]:
    """All sizes but the first."""
    free = [place for place, dim in enumerate(dims) if dim is None and place > 0]
    if free and (size is None or len(free) != 2 or len(dims) != 4):
        raise UsageError(
            f"TensorRT needs the range of every size, and input {name!r} leaves {len(free)} open beside its batch. "
            "Say the images' with --size 224, or export the graph with fixed sizes."
        )
    known = dict(zip(free, size or (), strict=False))
    return [known[place] if dim is None else dim for place, dim in enumerate(dims) if place > 0]


def engine_key(serialised: Serialised, precision: str, chip: Chip, profile: Mapping[str, str]) -> str:
    """32 digits that differ wherever an engine would."""
    digest = hashlib.sha256(serialised.graph)
    for name in sorted(serialised.weights):
        digest.update(name.encode() + b"\0")
        digest.update(serialised.weights[name].data)
    for text in (precision, str(chip), *(f"{name}={profile[name]}" for name in sorted(profile))):
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()[:32]


def precision_of(graph: ir.Model) -> str:
    """What the graph itself computes in: TensorRT is given no flags that would change it."""
    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in graph.graph):
        return "int8"
    kinds = {value.dtype for value in graph.graph.initializers.values()}
    return "fp16" if ir.DataType.FLOAT16 in kinds else "bf16" if ir.DataType.BFLOAT16 in kinds else "fp32"


def cache_options(root: Path, key: str) -> dict[str, str]:
    """Provider options that keep engines and timings below a folder of the user's own, which is made.

    Raises:
        UsageError: others may write to the folder, and what it holds is code.
    """
    folder = root / FOLDER
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = folder.stat()
    if hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & 0o022):
        raise UsageError(
            f"{folder} belongs to another user or can be written to by others, and the engines in it are code that "
            f"would be run. Mend it: rm -r {folder}, or set XDG_CACHE_HOME to a folder of your own."
        )
    own = folder / key
    own.mkdir(exist_ok=True, mode=0o700)
    return {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(own),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(folder),
    }


def cache_root(environment: Mapping[str, str]) -> Path:
    """The user's cache folder."""
    given = environment.get("XDG_CACHE_HOME", "")
    return Path(given) if given else Path.home() / ".cache"
