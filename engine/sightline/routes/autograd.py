"""The torch twin under automatic differentiation: all gradient work."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from sightline import heap
from sightline.abilities import Differentiable, Gradient, Weights
from sightline.errors import FixedSize, UsageError
from sightline.graph.codes import DecodeCodes, readable_codes
from sightline.graph.expose_taps import ExposeTaps
from sightline.graph.fold_norm import FoldNorm
from sightline.graph.ports import Activation
from sightline.relevance import Composite
from sightline.routes.base import Request, Route, Settings
from sightline.routes.batch import halving
from sightline.routes.engines import precision_of
from sightline.routes.oracle import SMALL_WORK, GraphOracle, filled_batch
from sightline.routes.providers import check_precision
from sightline.routes.sessions import open_graph, provider_obstacles
from sightline.target import Target, as_numpy
from sightline.types import FloatArray

if TYPE_CHECKING:
    import onnx_ir as ir
    import torch

    from sightline.model import Model
    from sightline.twin import Twin
    from sightline.twin.rules import Rule

_Part = tuple[FloatArray, FloatArray, FloatArray, tuple[int | None, ...]]
PARITY = 1e-4  # largest relative difference between twin and ONNX Runtime, in fp32


class AutogradOracle(GraphOracle):
    """The twin on one device, proven against ONNX Runtime when it is made and again on the first real images."""

    keeps_activations = True

    def __init__(self, model: Model, settings: Settings):
        import torch

        from sightline.twin import Twin
        from sightline.twin.graphed import GraphedRuns
        from sightline.twin.transfers import Transfers

        super().__init__(model, settings)
        self._torch = torch
        self.device = torch.device("cuda", settings.gpu) if settings.device == "cuda" else torch.device("cpu")
        self._transfers = Transfers(self.device)
        self._twin = Twin(FoldNorm()(model.graph)).to(self.device)
        self._readable = {self.model.input.name, *self._twin.values}
        self._codes = readable_codes(model.graph)
        self.graphed = GraphedRuns(self.values) if settings.cuda_graphs else None
        self._prove(self.noise(1))
        self._prove_precision(self.noise(1))
        self._proven_on_images = False

    def run(self, images: FloatArray, names: tuple[str, ...]) -> list[FloatArray]:
        with self._arithmetic(), self._torch.no_grad():  # what a twin keeps must stay fit for gradients
            feed = {self.model.input.name: self._arranged(self.leaf(images))}
            values = self._twin_with(names).run(feed, list(names))
        return [self._host(values[name]) for name in names]

    def run_from(self, start: str, values: FloatArray, names: tuple[str, ...]) -> list[FloatArray]:
        with self._arithmetic(), self._torch.no_grad():
            found = self._values_from(start, self.leaf(values), names, None)
        return [self._host(found[name]) for name in names]

    @property
    def unmeasured(self) -> int:
        """On a CPU, whose memory stays, all batches from a few on are within some percent of the best."""
        return 8 * SMALL_WORK if self.device.type == "cpu" else SMALL_WORK

    def trial(self) -> Callable[[int], None]:
        name = self.model.logits_name

        def run(batch: int) -> None:
            with self._arithmetic(), self._in_memory():
                leaf = self.leaf(self.noise(batch)).requires_grad_()
                value = self._twin.run({self.model.input.name: self._arranged(leaf)}, [name])[name]
                self._torch.autograd.grad(value.sum(), leaf)
                self._wait()  # a GPU is still at it when its launches return

        return run

    def gradient(
        self,
        images: FloatArray,
        target: Target,
        *,
        rule: str | None = None,
        at: str | None = None,
        start: str | None = None,
    ) -> Gradient:
        """Gradient of the target's score; see ``Differentiable``."""
        chosen = self._rule(rule)
        layer, first = (None if name is None else self.model.readable(name) for name in (at, start))
        if len(images) == 0:  # the shapes of no images are those of one
            place = layer or first
            values = images if place is None else self.read(self.noise(0), (place,))[place]
            return Gradient(self.scores(self.noise(0), target), np.zeros_like(values), values, ())
        if first is None:
            self.prove_once(images)
        batch = self.batch_size(len(images))
        with self._arithmetic():
            parts = list(self._gradients(images, target, chosen, layer, first, batch))
        scores, values, inputs, classes = zip(*parts, strict=True)
        return Gradient(np.concatenate(scores), np.concatenate(values), np.concatenate(inputs), sum(classes, ()))

    @contextmanager
    def tape(self, *, rule: str | Composite | None = None) -> Generator[TwinTape]:
        """Run the twin on tensors of the caller's; see ``Differentiable``."""
        with self._arithmetic():
            yield TwinTape(self, self._rule(rule))

    def close(self) -> None:
        del self._twin
        heap.give_back()

    def _rule(self, rule: str | Composite | None) -> Rule | None:
        """What the twin takes for a rule's name, or for a composite."""
        from sightline import twin as twins
        from sightline.twin.relevance import Relevance

        if rule is None:
            return None
        if isinstance(rule, Composite):
            return Relevance(rule)
        if not self._twin.relu_like:
            raise UsageError(
                f"{rule} changes how ReLU propagates backwards, and {self.model.path.name} has no ReLU. "
                "Use saliency, which needs none."
            )
        return cast("Rule", getattr(twins, rule))

    def prove_once(self, images: FloatArray) -> None:
        """Compare the twin with ONNX Runtime on the first real image that anybody brings."""
        if not self._proven_on_images:
            self._prove(images[:1])
            self._proven_on_images = True

    def _arithmetic(self) -> AbstractContextManager[None]:
        """Threads and precision that were asked for, while this route works."""
        from sightline.twin.arithmetic import arithmetic

        if self.device.type == "cpu":
            heap.keep()  # every batch takes what the last one left
        return arithmetic(self.device, self.settings.precision, self.settings.threads)

    @contextmanager
    def _in_memory(self) -> Generator[None]:
        """What does not fit a GPU's memory is a MemoryError, as elsewhere."""
        try:
            yield
        except self._torch.OutOfMemoryError as reason:
            self._torch.cuda.empty_cache()
            raise MemoryError(str(reason)) from reason

    def _wait(self) -> None:
        """Until the device has done what was launched."""
        if self.device.type == "cuda":
            self._torch.cuda.synchronize(self.device)

    def _host(self, tensor: torch.Tensor) -> FloatArray:
        """An array of the host's."""
        return np.asarray(as_numpy(tensor.float()), np.float32, order="C")

    def _twin_with(self, names: Iterable[str]) -> Twin:
        """The folded twin, or the graph as it was where somebody reads a value that folding took away.

        Where somebody reads integer codes, it is the graph that runs through what they stand for.
        """
        if not self._codes.isdisjoint(names):
            return self._decoded
        return self._twin if self._readable.issuperset(names) else self._unfolded

    @cached_property
    def _unfolded(self) -> Twin:
        from sightline.twin import Twin

        twin = Twin(self.model.graph).to(self.device)
        self._prove(self.noise(1), twin)
        return twin

    @cached_property
    def _decoded(self) -> Twin:
        from sightline.twin import Twin

        graph = DecodeCodes(self._codes, passed=True)(self.model.graph)
        twin = Twin(graph).to(self.device)
        self._prove(self.noise(1), twin, graph)
        return twin

    def _gradients(
        self, images: FloatArray, target: Target, rule: Rule | None, layer: str | None, first: str | None, batch: int
    ) -> Iterator[_Part]:
        """Some rows after the other; the next travel to the device, and the last ones back, while it computes."""
        waiting: Callable[[], _Part] | None = None
        coming: tuple[slice, Callable[[], torch.Tensor]] | None = None

        def bring(rows: slice) -> tuple[slice, Callable[[], torch.Tensor]]:
            return rows, self._transfers.bring(filled_batch(images[rows], self.model.input.batch)[0])

        def bring_ahead(rows: slice) -> None:
            nonlocal coming
            try:
                coming = bring(rows) if rows.stop > rows.start else None
            except self._torch.OutOfMemoryError:  # they travel when it is their turn
                coming = None

        def run(rows: slice) -> Callable[[], _Part]:
            nonlocal coming
            with self._in_memory():
                brought, coming = coming, None
                mine = brought[1] if brought is not None and brought[0] == rows else bring(rows)[1]
                bring_ahead(slice(rows.stop, min(rows.stop + rows.stop - rows.start, len(images))))
                own = target.take(range(rows.start, rows.stop))
                return self._gradient(mine(), images[rows], own, rule, layer, first)

        for _, part in halving(run, len(images), batch):
            if waiting is not None:
                yield waiting()
            waiting = part
        if waiting is not None:
            yield waiting()

    def _gradient(
        self,
        given: torch.Tensor,
        images: FloatArray,
        target: Target,
        rule: Rule | None,
        layer: str | None,
        first: str | None,
    ) -> Callable[[], _Part]:
        """Of a batch that is on the device, filled up; ``images`` are those of it that are wanted."""
        count, leaf = len(images), given.detach().requires_grad_()
        names = tuple(dict.fromkeys((*self.names_of(target), *(() if layer is None else (layer,)))))
        values = self.values(leaf, names, rule) if first is None else self._values_from(first, leaf, names, rule)
        taped = TapedValues(
            {name: value[:count] for name, value in values.items()}, self.model.logits_name, self.model.activation
        )
        bound = target.bind(taped)
        scores = bound.value(taped)  # (b,)
        source = leaf if layer is None else values[layer]
        gradient = None
        if scores.requires_grad and source.requires_grad:
            (gradient,) = self._torch.autograd.grad(scores.sum(), source, allow_unused=True)
        if gradient is None:
            place = "the image" if (layer or first) is None else f"layer {layer or first!r}"
            raise UsageError(f"Target {target!r} does not depend on {place}, so it has no gradient there.")
        send, classes = self._transfers.send, bound.classes(count)
        sent = send(scores), send(gradient[:count]), None if layer is None else send(source[:count])

        def arrived() -> _Part:
            score, slope, inner = (None if one is None else np.asarray(one(), np.float32, order="C") for one in sent)
            assert score is not None
            assert slope is not None
            return score, slope, images if inner is None else inner, classes

        return arrived

    def _values_from(
        self, layer: str, leaf: torch.Tensor, names: tuple[str, ...], rule: Rule | None
    ) -> Mapping[str, torch.Tensor]:
        """Values by the graph's names on the tape of a layer's values."""
        try:
            return self._widened(self._twin_with({layer, *names}).run({layer: leaf}, list(names), rule=rule))
        except UsageError:
            raise self.past(layer) from None

    def values(
        self, images: torch.Tensor, names: tuple[str, ...], rule: Rule | None = None
    ) -> Mapping[str, torch.Tensor]:
        """Values by the graph's names on the tape of the images (b, C, H, W), b as the graph takes it."""
        feed = {self.model.input.name: self._arranged(images)}
        return self._widened(self._twin_with(names).run(feed, list(names), rule=rule))

    def _widened(self, values: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """In float32 what layers gave in bfloat16, where that was asked for: scores, losses and NumPy want it so."""
        if self.settings.precision != "bf16":
            return values
        return {name: value.float() if value.is_floating_point() else value for name, value in values.items()}

    def leaf(self, images: FloatArray) -> torch.Tensor:
        """(B, C, H, W) on the device; shares memory with the array on the CPU."""
        return self._torch.from_numpy(np.ascontiguousarray(images)).to(self.device)

    def joined(self, pieces: Sequence[torch.Tensor]) -> torch.Tensor:
        """One after the other along the batch."""
        return self._torch.cat(list(pieces))

    def _arranged(self, leaf: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) float32 as the graph takes it, on the tape."""
        port = self.model.input
        arranged = leaf if port.layout == "NCHW" else leaf.permute(0, 2, 3, 1)
        return arranged.to(self._torch.from_numpy(np.zeros(0, port.dtype)).dtype)

    def _prove_precision(self, images: FloatArray) -> None:
        """Compare scores in the precision that was asked for with those in fp32, which are proven."""
        from sightline.twin.arithmetic import arithmetic

        if self.settings.precision == "fp32":
            return
        name = self.model.logits_name
        filled, _ = filled_batch(images, self.model.input.batch)
        (found,) = self.run(filled, (name,))
        with arithmetic(self.device, "fp32", self.settings.threads), self._torch.no_grad():
            exact = self._host(self.values(self.leaf(filled), (name,))[name])
        check_precision(found[:1], exact[:1], self.settings.precision, self.model.path.name)

    def _prove(self, images: FloatArray, twin: Twin | None = None, graph: ir.Model | None = None) -> None:
        """Compare a twin, the folded one unless told, with ONNX Runtime on these images, and a graph, the model's.

        Graphs that round on the way are compared node by node; see ``twin.steps``.
        """
        from sightline.twin import compare, compare_by_node
        from sightline.twin.arithmetic import arithmetic

        cpu, rounds = Settings(threads=self.settings.threads), precision_of(self.model.graph) != "fp32"
        whole = graph or self.model.graph

        def reference(feed: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
            tapped = ExposeTaps(names, only=True, codes=True)(whole)
            values = open_graph(tapped, cpu, self.model.path.name, plain=rounds).run(list(names), feed)
            return dict(zip(names, values, strict=True))

        filled, _ = filled_batch(images, self.model.input.batch)
        proof = compare_by_node if rounds else compare
        with arithmetic(self.device, "fp32", self.settings.threads):
            proof(twin or self._twin, reference, {self.model.input.name: self.model.input.adapt(filled)}, PARITY)


class TapedValues:
    """What the twin computed for B images, on the tape, for targets to index."""

    def __init__(self, values: Mapping[str, torch.Tensor], logits_name: str, activation: Activation):
        self._values, self._logits_name, self._activation = values, logits_name, activation

    @cached_property
    def logits(self) -> torch.Tensor:
        """(B, K)."""
        logits = self._values[self._logits_name]
        return logits.reshape(len(logits), -1)

    @cached_property
    def probabilities(self) -> torch.Tensor:
        """(B, K)."""
        return self.logits.sigmoid() if self._activation == "sigmoid" else self.logits.softmax(dim=1)

    def tap(self, layer: str) -> torch.Tensor:
        """(B, C, h, w) or (B, D)."""
        return self._values[layer]


class TwinTape:
    """Runs the twin on tensors; see ``abilities.Tape``."""

    def __init__(self, oracle: AutogradOracle, rule: Rule | None):
        self._oracle, self._rule = oracle, rule

    @property
    def device(self) -> torch.device:
        return self._oracle.device

    def tensor(self, values: FloatArray) -> torch.Tensor:
        return self._oracle.leaf(values).clone()

    def __call__(
        self, images: torch.Tensor, target: Target | None = None, *, layers: Sequence[str] = ()
    ) -> TapedValues:
        oracle, model = self._oracle, self._oracle.model
        resolved = {layer: model.readable(layer) for layer in layers}
        read = () if target is None else oracle.names_of(target)
        names = tuple(dict.fromkeys((*read, *resolved.values())))
        values = self._values(images, names)
        for layer, name in resolved.items():
            if len(values[name]) != len(images):  # a size was folded into the batch: rows of nobody's
                raise FixedSize(
                    f"Layer {layer!r} of {model.path.name} makes {len(values[name])} rows of {len(images)} images of "
                    f"{images.shape[-2]} x {images.shape[-1]} pixels: the graph fixes its input's size before it. "
                    "Name layers nearer the image, keep to the model's own size, or export the model with open sizes."
                )
        values |= {layer: values[name] for layer, name in resolved.items()}
        return TapedValues(values, model.logits_name, model.activation)

    def _values(self, images: torch.Tensor, names: tuple[str, ...]) -> dict[str, torch.Tensor]:
        """Values by name, in pieces of the batch size that the graph may fix."""
        fixed = self._oracle.model.input.batch
        if fixed is None or fixed == len(images):
            graphed = self._oracle.graphed
            if graphed is not None and images.requires_grad:
                return graphed(images, names, self._rule)
            return dict(self._oracle.values(images, names, self._rule))
        if not len(images):  # asked for the shapes of rows: a graph of a fixed batch runs no other
            filled = self._oracle.joined([images, images.new_zeros(fixed, *images.shape[1:])])
            values = self._oracle.values(filled, names, self._rule)
            return {name: values[name][:0] for name in names}
        pieces: list[Mapping[str, torch.Tensor]] = []
        for start in range(0, len(images), fixed):
            rows = [min(start + row, len(images) - 1) for row in range(fixed)]  # the last image fills the piece
            pieces.append(self._oracle.values(images[rows], names, self._rule))
        return {name: self._oracle.joined([piece[name] for piece in pieces])[: len(images)] for name in names}


class AutogradRoute(Route):
    """Torch, on the CPU or a CUDA device."""

    name = "autograd"
    offers = (Differentiable, Weights)
    tolerance = PARITY
    cost = 3  # a backward pass costs about two forward ones

    def obstacles(self, request: Request) -> list[str]:
        if request.settings.device == "tensorrt":
            return ["TensorRT engines have no gradients: choose --device cuda or cpu."]
        if request.model.input.takes_integers:
            dtype = request.model.input.dtype
            return [f"The graph takes {dtype} pixels, and integers have no gradient: export it with a float input."]
        if importlib.util.find_spec("torch") is None:
            return ["torch is not installed: pip install 'sightline[torch]'."]
        reasons = [f"The twin is proven against ONNX Runtime. {reason}" for reason in provider_obstacles("cpu")]
        if request.settings.device == "cuda":
            import torch

            if not torch.cuda.is_available():
                reasons.append(
                    "torch sees no CUDA device: install a build of torch for CUDA, or choose --device cpu."
                )
            elif request.settings.gpu >= torch.cuda.device_count():
                reasons.append(
                    f"There is no GPU {request.settings.gpu}: torch sees {torch.cuda.device_count()}, counted "
                    "from 0. Choose another --gpu."
                )
        elif request.settings.cuda_graphs:
            reasons.append("CUDA graphs need a GPU: choose --device cuda, or leave --cuda-graphs out.")
        from sightline.twin import unsupported

        return reasons + unsupported(request.model.graph)

    def provider(self, settings: Settings) -> str:
        parts = ["torch", settings.device if settings.gpu == 0 else f"{settings.device}:{settings.gpu}"]
        parts += [] if settings.precision == "fp32" else [settings.precision]
        return ", ".join(parts + (["CUDA graphs"] if settings.cuda_graphs else []))

    def open(self, model: Model, settings: Settings) -> AutogradOracle:
        return AutogradOracle(model, settings)


ROUTE = AutogradRoute()
