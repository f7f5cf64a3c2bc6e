"""What a method may need of a route. A method names one of these; it never asks for a backend.

Every ability speaks NumPy, float32, model input space. ``Opened`` is what all of them share.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from sightline.preprocess import Preprocess
from sightline.relevance import Composite
from sightline.target import Outputs, Target
from sightline.types import FloatArray, IntArray


@dataclass(frozen=True)
class Bound:
    """A target whose per-image choices are fixed, with its scores on the untouched images."""

    target: Target
    scores: FloatArray  # (B,)


@dataclass(frozen=True)
class Gradient:
    """Scores and their gradients.

    Attributes:
        scores: (B,) float32.
        values: (B, C, H, W) float32, or the shape of the layer that was asked for: d score_b / d input_b.
        inputs: what ``values`` differentiates by: the images, or the layer's values.
        classes: the class that each score belongs to, or None; see ``Target.classes``.
    """

    scores: FloatArray
    values: FloatArray
    inputs: FloatArray
    classes: tuple[int | None, ...]


@dataclass(frozen=True)
class Kernels:
    """The weights of one convolution.

    Attributes:
        layer: its module path, or the graph's name for its output.
        values: (out, in / groups, kh, kw) float32.
        channels: "RGB", "BGR" or "L" where the kernels read the image itself, else None.
    """

    layer: str
    values: FloatArray
    channels: str | None


@dataclass(frozen=True)
class SweepChunk:
    """Scores of some windows of one image."""

    image: int  # row in the batch
    windows: IntArray  # (m,) rows of the window table
    scores: FloatArray  # (m,)


@runtime_checkable
class Weights(Protocol):
    """Reads the parameters of a layer; runs nothing."""

    def kernels(self, layer: str | None) -> Kernels:
        """Kernels of a convolution, by any name of it; the first of the graph when None."""
        ...


@runtime_checkable
class Forward(Protocol):
    """Runs the network."""

    @property
    def labels(self) -> tuple[str, ...]:
        """K class names, or none."""
        ...

    def logits(self, images: FloatArray) -> FloatArray:
        """(B, K) scores before the last softmax or sigmoid."""
        ...

    def activated(self, logits: FloatArray) -> FloatArray:
        """(B, K) probabilities of (B, K) logits: softmax, or sigmoid if the graph ends in one."""
        ...

    def bind(self, images: FloatArray, target: Target) -> Bound:
        """Fix what each image chooses, and score the untouched images."""
        ...

    def scores(self, images: FloatArray, target: Target) -> FloatArray:
        """(B,) values of a bound target."""
        ...

    def read_image(self, path: Path) -> FloatArray:
        """(C, H, W) of an image file, read as the model's input."""
        ...

    @property
    def preprocess(self) -> Preprocess:
        """How pixels become the model's input, and the bounds of what pixels can give.

        Raises:
            UsageError: the model carries none and nobody said it.
        """
        ...

    @property
    def levels(self) -> tuple[int, int] | None:
        """Lowest and highest whole number that the network reads; None where it reads real ones."""
        ...

    def batch_size(self, rows: int | None = None) -> int:
        """Images per run for so much work."""
        ...

    def settled_batch(self, rows: int, *, rewritten: bool) -> int:
        """The same for a job, which keeps to it so that its rows are the same bytes whenever it goes on.

        Args:
            rows: forward passes.
            rewritten: whether its sweep computes what each window changes only.
        """
        ...


@runtime_checkable
class Taps(Forward, Protocol):
    """Shows what inner layers compute."""

    @property
    def deepest_maps(self) -> str:
        """The last layer that still has positions."""
        ...

    def feature_layer(self, target: Target) -> str:
        """The last layer with positions that the target depends on.

        Where it puts out the class scores themselves, position by position, it is the one before: what those are
        made of.

        Raises:
            UsageError: there is none.
        """
        ...

    def taps(self, images: FloatArray, layers: Sequence[str]) -> Mapping[str, FloatArray]:
        """(B, C, h, w) or (B, D) by layer name, as the names were given.

        Raises:
            UnknownName: no such layer.
            UsageError: a layer whose first axis is not the image, or whose channels are not the second.
        """
        ...

    def read(self, images: FloatArray, names: tuple[str, ...]) -> Mapping[str, FloatArray]:
        """Any values by the graph's own names, their axes as they lie."""
        ...

    def scores_from(self, layer: str, values: FloatArray, target: Target) -> FloatArray:
        """(N,) values of a bound target by running only what lies behind a layer.

        Args:
            layer: a name of it.
            values: (N, C, h, w) or (N, D), what the layer is to put out.
            target: bound, of N rows.

        Raises:
            UsageError: a path to the score avoids the layer.
        """
        ...


@runtime_checkable
class WindowSweep(Forward, Protocol):
    """Scores many copies of each image, each with one window hidden."""

    def sweep(
        self,
        images: FloatArray,
        windows: IntArray,
        fill: FloatArray,
        target: Target,
        *,
        rows: Sequence[IntArray] | None = None,
        tolerance: float = 0.0,
    ) -> Iterator[SweepChunk]:
        """Stream the scores of every image with each window in turn replaced by the fill.

        Args:
            images: (B, C, H, W).
            windows: (M, 4) rows of top, left, height, width in pixels, inside the image.
            fill: what a hidden pixel becomes, broadcast against (B, C, H, W).
            target: bound.
            rows: for each image, the windows that are hidden; all of them when None.
            tolerance: share of every layer's map that a route need not follow changes into; 0 is exact.
        """
        ...


@runtime_checkable
class Differentiable(Taps, Protocol):
    """Runs the network under automatic differentiation."""

    def gradient(
        self,
        images: FloatArray,
        target: Target,
        *,
        rule: str | None = None,
        at: str | None = None,
        start: str | None = None,
    ) -> Gradient:
        """Gradient of the target's score with respect to the input, or to the layer ``at``.

        Args:
            images: (B, C, H, W).
            target: what an image chooses for itself, it chooses in the same pass.
            rule: how ReLU-like nodes propagate backwards: "guided_backprop", "deconvnet"; None is the gradient.
            at: a layer; None is the model's input, or ``start``.
            start: the layer whose values ``images`` are, (B, ...); None is the model's input.

        Raises:
            UsageError: the score does not depend on the place, or depends on the image past ``start``.
        """
        ...

    def tape(self, *, rule: str | Composite | None = None) -> AbstractContextManager[Tape]:
        """For a method that differentiates a formula of its own: run the network under torch's autograd.

        Args:
            rule: as for ``gradient``; a composite propagates relevance instead of gradients.

        What is computed inside runs on the threads that were asked for::

            with oracle.tape() as tape:
                pixels = tape.tensor(images.tensor).requires_grad_()
                outputs = tape(pixels, target, layers=["features.3"])
                loss = -target.value(outputs).sum() + outputs.tap("features.3").square().mean()
                (gradient,) = torch.autograd.grad(loss, pixels)
        """
        ...


class Tape(Protocol):
    """Runs the network on torch tensors, differentiably."""

    @property
    def device(self) -> Any:
        """The torch device that tensors must be on."""
        ...

    def tensor(self, values: FloatArray) -> Any:
        """The array as a torch tensor of its own on the device, not yet on the tape."""
        ...

    def __call__(self, images: Any, target: Target | None = None, *, layers: Sequence[str] = ()) -> Outputs:
        """What the network computes for a tensor (B, C, H, W): the values that a target reads, and some layers.

        Only what they need is run. ``top`` targets are bound by the caller: ``target.bind(outputs)``.

        Args:
            images: on the device, model input space; may itself depend on other tensors.
            target: whose ``value(outputs)`` will be asked.
            layers: by any name of theirs; ``outputs.tap(name)`` is (B, C, h, w) or (B, D).
        """
        ...


class Oracle(Forward, Protocol):
    """An opened route: offers some of the abilities until it is closed."""

    def read(self, images: FloatArray, names: tuple[str, ...]) -> Mapping[str, FloatArray]:
        """Values by the graph's names."""
        ...

    def noise(self, batch: int) -> FloatArray:
        """(batch, C, H, W) of one noise image, repeated."""
        ...

    def close(self) -> None:
        """Release sessions and memory."""
        ...


Ability = type[Any]
