"""The torch twin under automatic differentiation: all gradient work."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from sightline.abilities import Differentiable, Gradient, Weights
from sightline.errors import UsageError
from sightline.graph.fold_norm import FoldNorm
from sightline.graph.ports import Activation
from sightline.relevance import Composite
from sightline.routes.base import Request, Route, Settings
from sightline.routes.oracle import GraphOracle, filled_batch
from sightline.routes.ort import open_session, provider_obstacles
from sightline.target import Target, as_numpy
from sightline.types import FloatArray

if TYPE_CHECKING:
    import torch

    from sightline.model import Model
    from sightline.twin import Twin
    from sightline.twin.rules import Rule

PARITY = 1e-4  # largest relative difference between twin and ONNX Runtime


class AutogradOracle(GraphOracle):
    """The twin on one device, proven against ONNX Runtime when it is made and again on the first real images."""

    keeps_activations = True
    small_batch = 4  # beyond it the allocator of the C library returns every activation to the system

    def __init__(self, model: Model, settings: Settings):
        import torch

        from sightline.twin import Twin

        super().__init__(model, settings)
        self._torch = torch
        self.device = torch.device("cuda" if settings.device == "cuda" else "cpu")
        if self.device.type == "cuda":  # the twin is held to ONNX Runtime in fp32, which runs without TF32
            torch.backends.cudnn.allow_tf32 = False
            torch.backends.cuda.matmul.allow_tf32 = False
        self._twin = Twin(FoldNorm()(model.graph)).to(self.device)
        self._readable = {self.model.input.name, *self._twin.values}
        self._prove(self.noise(1))
        self._proven_on_images = False

    def run(self, images: FloatArray, names: tuple[str, ...]) -> list[FloatArray]:
        with (
            self._own_threads(),
            self._torch.no_grad(),
        ):  # what a twin keeps must stay fit for gradients, so no inference mode
            feed = {self.model.input.name: self._arranged(self.leaf(images))}
            values = self._twin_with(names).run(feed, list(names))
        return [np.asarray(as_numpy(values[name]), np.float32, order="C") for name in names]

    def run_from(self, start: str, values: FloatArray, names: tuple[str, ...]) -> list[FloatArray]:
        with self._own_threads(), self._torch.no_grad():
            found = self._values_from(start, self.leaf(values), names, None)
        return [np.asarray(as_numpy(found[name]), np.float32, order="C") for name in names]

    def trial(self) -> Callable[[int], None]:
        name = self.model.logits_name

        def run(batch: int) -> None:
            leaf = self.leaf(self.noise(batch)).requires_grad_()
            with self._own_threads():
                value = self._twin.run({self.model.input.name: self._arranged(leaf)}, [name])[name]
                self._torch.autograd.grad(value.sum(), leaf)

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
        layer, first = (None if name is None else self.model.layers.resolve(name) for name in (at, start))
        if len(images) == 0:  # the shapes of no images are those of one
            place = layer or first
            values = images if place is None else self.read(self.noise(0), (place,))[place]
            return Gradient(self.scores(self.noise(0), target), np.zeros_like(values), values, ())
        if first is None:
            self.prove_once(images)
        batch = self.batch_size(len(images))
        rows = [range(start, min(start + batch, len(images))) for start in range(0, len(images), batch)]
        with self._own_threads():
            parts = [
                self._gradient(images[row.start : row.stop], target.take(row), chosen, layer, first) for row in rows
            ]
        scores, values, inputs, classes = zip(*parts, strict=True)
        return Gradient(np.concatenate(scores), np.concatenate(values), np.concatenate(inputs), sum(classes, ()))

    @contextmanager
    def tape(self, *, rule: str | Composite | None = None) -> Generator[TwinTape]:
        """Run the twin on tensors of the caller's; see ``Differentiable``."""
        with self._own_threads():
            yield TwinTape(self, self._rule(rule))

    def close(self) -> None:
        del self._twin

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

    @contextmanager
    def _own_threads(self) -> Generator[None]:
        """The number of threads that was asked for, while this route works; torch has one number for the process."""
        before = self._torch.get_num_threads()
        self._torch.set_num_threads(self.settings.threads or before)
        try:
            yield
        finally:
            self._torch.set_num_threads(before)

    def _twin_with(self, names: Iterable[str]) -> Twin:
        """The folded twin, or the graph as it was where somebody reads a value that folding took away."""
        return self._twin if self._readable.issuperset(names) else self._unfolded

    @cached_property
    def _unfolded(self) -> Twin:
        from sightline.twin import Twin

        twin = Twin(self.model.graph).to(self.device)
        self._prove(self.noise(1), twin)
        return twin

    def _gradient(
        self, images: FloatArray, target: Target, rule: Rule | None, layer: str | None, first: str | None
    ) -> tuple[FloatArray, FloatArray, FloatArray, tuple[int | None, ...]]:
        filled, count = filled_batch(images, self.model.input.batch)
        leaf = self.leaf(filled).requires_grad_()
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
        found = np.asarray(as_numpy(gradient[:count]), np.float32, order="C")
        inputs = images if layer is None else np.asarray(as_numpy(source[:count]), np.float32, order="C")
        return np.asarray(as_numpy(scores), np.float32), found, inputs, bound.classes(count)

    def _values_from(
        self, layer: str, leaf: torch.Tensor, names: tuple[str, ...], rule: Rule | None
    ) -> Mapping[str, torch.Tensor]:
        """Values by the graph's names on the tape of a layer's values."""
        try:
            return self._twin_with({layer, *names}).run({layer: leaf}, list(names), rule=rule)
        except UsageError:
            raise self.past(layer) from None

    def values(
        self, images: torch.Tensor, names: tuple[str, ...], rule: Rule | None = None
    ) -> Mapping[str, torch.Tensor]:
        """Values by the graph's names on the tape of the images (b, C, H, W), b as the graph takes it."""
        feed = {self.model.input.name: self._arranged(images)}
        return self._twin_with(names).run(feed, list(names), rule=rule)

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

    def _prove(self, images: FloatArray, twin: Twin | None = None) -> None:
        """Compare a twin, the folded one unless told, with ONNX Runtime on these images."""
        from sightline.twin import compare

        cpu = Settings(threads=self.settings.threads)

        def reference(feed: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
            values = open_session(self.model, tuple(names), cpu).run(list(names), feed)
            return dict(zip(names, values, strict=True))

        filled, _ = filled_batch(images, self.model.input.batch)
        compare(twin or self._twin, reference, {self.model.input.name: self.model.input.adapt(filled)}, PARITY)


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
        resolved = {layer: model.layers.resolve(layer) for layer in layers}
        read = () if target is None else oracle.names_of(target)
        names = tuple(dict.fromkeys((*read, *resolved.values())))
        values = self._values(images, names)
        values |= {layer: values[name] for layer, name in resolved.items()}
        return TapedValues(values, model.logits_name, model.activation)

    def _values(self, images: torch.Tensor, names: tuple[str, ...]) -> dict[str, torch.Tensor]:
        """Values by name, in pieces of the batch size that the graph may fix."""
        fixed = self._oracle.model.input.batch
        if fixed is None or fixed == len(images):
            return dict(self._oracle.values(images, names, self._rule))
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
        from sightline.twin import unsupported

        return reasons + unsupported(request.model.graph)

    def provider(self, settings: Settings) -> str:
        return f"torch, {settings.device}"

    def open(self, model: Model, settings: Settings) -> AutogradOracle:
        return AutogradOracle(model, settings)


ROUTE = AutogradRoute()
