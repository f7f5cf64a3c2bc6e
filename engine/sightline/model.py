"""The network that somebody ships: its graph, and what the graph alone does not say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, get_args

import numpy as np
import onnx_ir as ir

from sightline.abilities import Oracle
from sightline.dispatch import Plan, plan, route
from sightline.errors import MissingPreprocess, SightlineError, UnknownName, UsageError
from sightline.graph.codes import unreadable_codes
from sightline.graph.fold_norm import FoldNorm
from sightline.graph.layers import LayerTable, Shapes, infer_shapes, without_shape
from sightline.graph.load import LoadedGraph, load_graph
from sightline.graph.maps import feature_layer, maps_of, misplaced
from sightline.graph.ports import Activation, Port, image_port, score_head
from sightline.labels import read_labels, recorded_labels
from sightline.precision import Precision
from sightline.preprocess import METADATA_KEY, PRESETS, Preprocess, preset
from sightline.registry import Method
from sightline.routes.base import Device, Settings, Sweep, usual_memory
from sightline.target import Target, needs_classes
from sightline.threads import check_threads
from sightline.types import Batch, FloatArray, Photo, Result

if TYPE_CHECKING:
    from sightline.graph.incremental_occlusion import SweepPlan


class Model:
    """A graph ready to be explained. Make one with ``sightline.load``."""

    def __init__(
        self,
        graph: LoadedGraph,
        *,
        preprocess: Preprocess | None = None,
        labels: Sequence[str] | None = None,
        size: tuple[int, int] | None = None,
        output: str | None = None,
    ):
        self.graph: ir.Model = graph.model
        self.path = graph.files[0]
        self.files = graph.files
        self.sha256 = graph.sha256
        self.metadata = graph.metadata
        self.input = image_port(graph.model, self.path)
        self._preprocess = _fit(preprocess or _recorded(graph), self.input, size)
        self._size = size
        self.output = _output(graph.model, output)
        self.logits_name: str
        self.activation: Activation
        self.logits_name, self.activation = score_head(graph.model, self.output)
        if self.logits_name == self.output and math.prod(self._static_output() or (0,)) == 1:
            self.activation = "sigmoid"  # one score alone: softmax would call every image certain
        self.labels = self._checked_labels(labels)
        self._opened: dict[tuple[str, Settings], Oracle] = {}

    @property
    def title(self) -> str:
        """File name and the first 12 digits of the sha256."""
        return f"{self.path.name} ({self.sha256[:12]})"

    @property
    def preprocess(self) -> Preprocess:
        """How images become its input.

        Raises:
            MissingPreprocess: neither the file nor the caller said it.
        """
        if self._preprocess is None:
            raise MissingPreprocess(
                f"{self.path.name} does not record how images become its input. Say it: --preset "
                f"{{{','.join(PRESETS)}}}, or --mean, --std and --size (in Python: preset=… or preprocess=…)."
            )
        return self._preprocess

    @preprocess.setter
    def preprocess(self, chosen: Preprocess) -> None:
        self._preprocess = _fit(chosen, self.input, self._size)
        self.close()  # what follows depends on the input's size
        for name in ("input_size", "layers", "maps", "class_count", "_misplaced"):
            self.__dict__.pop(name, None)

    @property
    def has_preprocess(self) -> bool:
        """Whether anybody said how images become its input."""
        return self._preprocess is not None

    @cached_property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the input in pixels.

        Raises:
            UsageError: the graph takes any size and none was chosen.
        """
        chosen = self.input.size or self._size or (self._preprocess.output_size if self._preprocess else None)
        if chosen is None:
            raise UsageError(f"{self.path.name} takes images of any size: choose one with --size (size=(H, W)).")
        return chosen

    @cached_property
    def folded(self) -> ir.Model:
        """The graph with normalisation folded into convolutions, the form that passes start from."""
        return FoldNorm()(self.graph)

    @cached_property
    def sweep_plans(self) -> dict[tuple[object, ...], SweepPlan]:
        """The last window sweep that was planned over the graph: it is predicted first, and then run."""
        return {}

    @cached_property
    def layers(self) -> LayerTable:
        """Every layer with its names, shape, parameters, multiply-accumulates and receptive field."""
        shapes = infer_shapes(self.graph, self.input.shape(self.input.batch or 1, self.input_size))
        return LayerTable(self.graph, {**self._seen_shapes(without_shape(self.graph, shapes)), **shapes})

    def _seen_shapes(self, names: tuple[str, ...]) -> Shapes:
        """Shapes of what comes out, where inference stops: at sizes that are computed, at operators that it lacks."""
        unreadable = unreadable_codes(self.graph) if names else frozenset[str]()
        names = tuple(name for name in names if name not in unreadable)
        if not names:
            return {}
        batch = self.input.batch or 1
        oracle: Any = route("ort").open(self, Settings(batch=batch))
        try:
            values = oracle.run(oracle.noise(batch), names)
            return {name: value.shape for name, value in zip(names, values, strict=True)}
        except (SightlineError, MemoryError, TypeError, ValueError):  # what follows says so, if it needs them
            return {}
        finally:
            oracle.close()

    def readable(self, name: str) -> str:
        """The value behind a layer's name, whose numbers belong to one image each, and to one channel.

        Raises:
            UnknownName: no such layer; the nearest names are suggested.
            UsageError: images are mixed, or channels are not the second axis.
        """
        value = self.layers.resolve(name)
        if value not in self._misplaced:
            self._misplaced[value] = misplaced(self.graph, self.layers, self.maps, value)
        if self._misplaced[value]:
            raise UsageError(
                f"Layer {name!r} of {self.path.name} {self._misplaced[value]}. Choose another: sightline inspect."
            )
        return value

    @cached_property
    def _misplaced(self) -> dict[str, str]:
        """What was found out about values so far."""
        return {}

    @cached_property
    def class_count(self) -> int:
        """K.

        Raises:
            UsageError: the output is no vector of class scores.
        """
        shape = self.layers.shapes.get(self.logits_name) or (1, *self._static_output())
        sizes = [n for n in shape[1:] if n != 1]
        if len(shape) < 2 or len(sizes) > 1:
            raise UsageError(
                f"Output {self.output!r} of {self.path.name} has shape {shape}, which is no vector of class scores. "
                "Choose another with --output, or explain an inner unit: unit('LAYER', channel=INDEX)."
            )
        return math.prod(shape[1:])

    def plan(
        self,
        method: Method,
        *,
        device: Device = "cpu",
        threads: int | None = None,
        batch: int | None = None,
        memory: int | None = None,
        sweep: Sweep = "auto",
        route: str | None = None,
        gpu: int = 0,
        precision: Precision = "fp32",
        cuda_graphs: bool = False,
    ) -> Plan:
        """What would run for a method, and why not otherwise.

        Args:
            method: for example ``Occlusion(window=32)``.
            device: "cpu", "cuda" or "tensorrt"; never replaced by another.
            threads: per operator; None is all cores.
            batch: images per run; None is found by measuring.
            memory: bytes that the activations of one run may take: 2 GiB, or 16 GiB on a GPU, unless given.
            sweep: "incremental" computes only what each window changes, "dense" the whole network, "auto" what is
                faster.
            route: ask this one only.
            gpu: number of the GPU, as CUDA counts.
            precision: of layers; see ``Settings``.
            cuda_graphs: capture the twin's runs that come again; worth it for ascents of small networks.

        Raises:
            NoRoute: with every route's reasons.
            UsageError: an option out of range.
        """
        if device not in get_args(Device):
            raise UnknownName("device", device, get_args(Device))
        if sweep not in get_args(Sweep):
            raise UnknownName("sweep", sweep, get_args(Sweep))
        if precision not in get_args(Precision):
            raise UnknownName("precision", precision, get_args(Precision))
        if gpu < 0:
            raise UsageError(f"gpu={gpu} must be at least 0.")
        check_threads(threads)
        for name, value in (("batch", batch), ("memory", memory)):
            if value is not None and value < 1:
                raise UsageError(f"{name}={value} must be at least 1.")
        if batch is not None and self.input.batch not in (None, batch):
            raise UsageError(
                f"batch={batch} does not fit {self.path.name}, which takes {self.input.batch} images per run only. "
                "Leave it out: batches are filled up."
            )
        size = self.input_size if device == "tensorrt" and self.input.size is None else None
        memory = usual_memory(device) if memory is None else memory
        settings = Settings(device, threads, batch, memory, sweep, size, gpu, precision, cuda_graphs)
        return plan(method, self, settings, route)

    def explain(self, images: Batch, method: Method, target: Target | None = None, **options: Any) -> Result:
        """Plan and run in one call; options are those of ``plan``."""
        return self.plan(method, **options).run(images, target)

    def oracle(self, plan: Plan) -> Oracle:
        """The opened route of a plan, kept for the next one like it."""
        key = (plan.route, plan.settings)
        if key not in self._opened:
            self._opened[key] = route(plan.route).open(self, plan.settings)
        return self._opened[key]

    @cached_property
    def maps(self) -> frozenset[str]:
        """Names of values that are maps (B, C, h, w) with more than one position."""
        return maps_of(self.graph, self.layers.shapes)

    @property
    def deepest_maps(self) -> str:
        """The last layer that still has positions: (1, C, h, w) with more than one.

        Raises:
            UsageError: there is none.
        """
        found = [layer.name for layer in self.layers if layer.name in self.maps]
        if not found:
            raise UsageError(f"{self.path.name} has no layer with maps (C, h, w).")
        return self.layers.title(found[-1])

    def feature_layer(self, target: Target) -> str:
        """The last layer with positions that a target depends on, maps of class scores passed over.

        Raises:
            UsageError: there is none.
        """
        resolved = self.resolve_target(target)
        read = (*resolved.layers, *((self.logits_name,) if needs_classes(target) else ()))
        found = feature_layer(self.graph, self.layers, read, self.logits_name)
        if found is None:
            raise UsageError(
                f"{target!r} depends on no layer of {self.path.name} with maps (C, h, w), which class activation "
                "maps are made of. Use occlusion or saliency, which need none."
            )
        return self.layers.title(found)

    def close(self) -> None:
        """Release every opened route."""
        for oracle in self._opened.values():
            oracle.close()
        self._opened.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def empty_batch(self) -> Batch:
        """A batch of no images."""
        height, width = self.input_size
        return Batch(np.zeros((0, self.input.channels, height, width), np.float32), ())

    def check_batch(self, images: Batch) -> None:
        """Raise UsageError unless the images have the model's channels and size."""
        expected = (self.input.channels, *self.input_size)
        if images.tensor.shape[1:] != expected:
            raise UsageError(
                f"Images of (C, H, W) {images.tensor.shape[1:]} do not fit {self.path.name}, which takes {expected}. "
                "Read them with sightline.read(…, like=model)."
            )

    def check_target(self, target: Target, images: int | None = None) -> None:
        """Raise UsageError unless the model has the target's layers, and its classes for so many images."""
        for layer in target.layers:
            self.readable(layer)
        if needs_classes(target):
            target.check(self.class_count, images)

    def resolve_target(self, target: Target) -> Target:
        """The target with its layers under the graph's own names."""
        return target.map_layers(self.readable)

    @property
    def facts(self) -> dict[str, object]:
        """What a report says of it."""
        height, width = self.input_size
        return {
            "file": self.path.name,
            "sha256": self.sha256[:12],
            "input": f"{self.input.channels} × {height} × {width}",
            "preprocessing": str(self.preprocess) if self.has_preprocess else "not recorded",
            "parameters": f"{self.layers.parameters:,}",
            "multiply-accumulates": f"{self.layers.macs / 1e6:,.1f} M per image",
        }

    def label(self, index: int) -> str:
        """The name of a class, its number when there are no labels."""
        return self.labels[index] if index < len(self.labels) else str(index)

    def photograph(self, image: Any, photo: Photo) -> tuple[FloatArray, Photo]:
        """The model's input (C, H, W) for a decoded image, and the photo with what the model sees of it."""
        view, tensor = self.preprocess(image)
        return tensor, replace(photo, view=view)

    def _checked_labels(self, labels: Sequence[str] | None) -> tuple[str, ...]:
        recorded = (
            () if labels is not None or not self._is_first_output() else recorded_labels(self.metadata, self.path)
        )
        chosen = tuple(labels) if labels is not None else recorded
        shape = self._static_output()
        if chosen and shape and math.prod(shape) != len(chosen):
            raise UsageError(
                f"{len(chosen)} labels do not fit {self.path.name}, which has {math.prod(shape)} classes."
            )
        return chosen

    def _is_first_output(self) -> bool:
        """Labels that a file records speak of its first output."""
        return self.graph.graph.outputs[0].name == self.output

    def _static_output(self) -> tuple[int, ...]:
        value = next(v for v in self.graph.graph.outputs if v.name == self.output)
        dims = list(value.shape)[1:] if value.shape is not None else []
        return (
            tuple(int(dim) for dim in dims if isinstance(dim, int)) if all(isinstance(d, int) for d in dims) else ()
        )


def load(
    source: Any,
    *,
    preset: str | None = None,
    preprocess: Preprocess | None = None,
    labels: Sequence[str] | Path | str | None = None,
    size: int | tuple[int, int] | None = None,
    output: str | None = None,
    weights: Path | str | None = None,
    example: Any = None,
) -> Model:
    """Read a model.

    Args:
        source: an ``.onnx`` file, "demo", "torchvision:NAME[@WEIGHTS]", "timm:NAME", or a torch module.
        preset: how images become its input, by name; see ``sightline.preprocess.PRESETS``.
        preprocess: the same, in full.
        labels: class names, or a JSON list or text file of them.
        size: input height and width in pixels, for graphs that take any.
        output: the output that holds the class scores, if not the first.
        weights: a local file of weights for a torchvision or timm model.
        example: (B, C, H, W) tensor, for a torch module.

    Raises:
        BadModel: the file cannot be used.
        UsageError: options that do not fit it.
    """
    if preset is not None and preprocess is not None:
        raise UsageError("Give preset or preprocess, not both.")
    chosen = named_preset(preset) if preset is not None else preprocess
    extent = (size, size) if isinstance(size, int) else size
    options: dict[str, Any] = {
        "preprocess": chosen, "labels": read_labels(labels), "size": extent, "output": output
    }  # fmt: skip
    if isinstance(source, str) and source == "demo":
        from sightline.demo import model_path

        return Model(load_graph(model_path()), **options)
    if not isinstance(source, str | Path) or str(source).startswith(("torchvision:", "timm:")):
        return Model(_exported(source, weights, extent, example), **options)
    if weights is not None:
        raise UsageError("weights go with torchvision:NAME, timm:NAME or a torch module; an .onnx file has its own.")
    return Model(load_graph(Path(source)), **options)


named_preset = preset


def _exported(source: Any, weights: Any, size: tuple[int, int] | None, example: Any) -> LoadedGraph:
    import tempfile

    from sightline_exporters import export

    name = source.partition(":")[2].replace("@", "-") if isinstance(source, str) else type(source).__name__
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.onnx"
        export(source, path, example=example, weights=weights, size=size)
        return load_graph(path)


def _recorded(graph: LoadedGraph) -> Preprocess | None:
    text = graph.metadata.get(METADATA_KEY)
    return Preprocess.from_json(text) if text else None


def _fit(chosen: Preprocess | None, port: Port, size: tuple[int, int] | None) -> Preprocess | None:
    """The preprocessing cut to the graph's size and checked against its channels."""
    if size is not None and port.size is not None and size != port.size:
        raise UsageError(f"size {size} does not fit: the graph takes images of {port.size} pixels only.")
    if chosen is None:
        return None
    channels = 1 if chosen.channels == "L" else 3
    if channels != port.channels:
        raise UsageError(
            f"The graph takes {port.channels} channel{'s' if port.channels > 1 else ''}, the preprocessing gives "
            f"{channels} ({chosen.channels}). Choose with --channel-order {'L' if port.channels == 1 else 'RGB'} "
            "and as many numbers in --mean and --std."
        )
    plain = chosen.scale == 1 and not any(chosen.mean) and all(part == 1 for part in chosen.std)
    if port.takes_integers and not plain:
        raise UsageError(
            f"The graph takes {port.dtype} pixels and normalises them itself; the preprocessing ({chosen}) would "
            "give numbers that are no pixels. Use --preset raw, or --scale 1 without --mean and --std."
        )
    wanted = port.size or size
    return chosen.fitted(*wanted) if wanted is not None else chosen


def _output(model: ir.Model, name: str | None) -> str:
    names = [str(value.name) for value in model.graph.outputs]
    if name is None:
        return names[0]
    if name not in names:
        raise UsageError(f"No output is named {name!r}. There are: {', '.join(names)}.")
    return name
