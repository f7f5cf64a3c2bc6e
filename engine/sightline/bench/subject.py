"""What is measured: a forward pass or a method, opened and with its inputs in memory."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from sightline import registry
from sightline.dispatch import Plan, route
from sightline.errors import UsageError
from sightline.methods.forward.predict import Predict
from sightline.registry import Method
from sightline.target import Target
from sightline.types import Batch, FloatArray

if TYPE_CHECKING:
    from sightline.model import Model

POOL = 16  # images that runs take in turn, at least
POOL_BYTES = 256 << 20  # that they may take beyond what one run needs
MANY = 8  # forward passes of one image from which on it is one call by itself


class Subject(Protocol):
    """Something that images can be put through."""

    def run(self, count: int) -> None:
        """Put so many images through, in one call; returns when the results are in memory."""
        ...

    def close(self) -> None:
        """Release sessions and memory."""
        ...


@dataclass(frozen=True)
class Work:
    """What one image costs, in the unit that people quote.

    Attributes:
        unit: "images", "windows", "masks" or "passes".
        per_image: how many of them.
    """

    unit: str
    per_image: int


class Pool:
    """Images in memory, of which every run takes the next ones."""

    def __init__(self, images: Batch, count: int):
        """Repeat the images until there are at least ``count``."""
        rows = np.arange(max(count, len(images))) % len(images)
        self.images = Batch(np.ascontiguousarray(images.tensor[rows]), tuple(images.photos[row] for row in rows))
        self._turn = itertools.count()

    def take(self, count: int) -> Batch:
        """The next images, without a copy."""
        places = len(self.images) // count
        start = next(self._turn) % places * count
        return self.images[start : start + count]


class ForwardPass:
    """The network as it is shipped: images in, every output of the graph out."""

    def __init__(self, oracle: Any, names: tuple[str, ...], pool: Pool):
        self._oracle, self._names, self._pool = oracle, names, pool

    def run(self, count: int) -> None:
        self._oracle.read(self._pool.take(count).tensor, self._names)

    def placed(self) -> dict[str, int]:
        """Nodes of the graph by the provider that runs them, once it has run."""
        return self._oracle.placed() if hasattr(self._oracle, "placed") else {}

    def close(self) -> None:
        self._oracle.close()


class MethodRun:
    """A method, from images to its result."""

    def __init__(self, oracle: Any, method: Method, target: Target, pool: Pool):
        self._oracle, self._method, self._target, self._pool = oracle, method, target, pool

    def run(self, count: int) -> None:
        self._method.run(self._oracle, self._pool.take(count), self._target)

    def placed(self) -> dict[str, int]:
        """Nodes of the graph by the provider that runs them, once it has run."""
        return self._oracle.placed() if hasattr(self._oracle, "placed") else {}

    def close(self) -> None:
        self._oracle.close()


@dataclass(frozen=True)
class Task:
    """What to measure of a model.

    Attributes:
        model: the network.
        method: None for the forward pass.
        target: what a method explains.
        images: real ones in model input space, or noise.
    """

    model: Model
    method: Method | None
    target: Target
    images: Batch

    @property
    def name(self) -> str:
        """For tables: the method as its constructor, shortened to what was said, or "forward pass"."""
        return "forward pass" if self.method is None else spoken(self.method)

    def plan(self, **options: Any) -> Plan:
        """What would run; see ``Model.plan``.

        Raises:
            NoRoute: with every route's reasons.
            UsageError: options that do not fit the model, or a method that looks at no images.
        """
        if self.method is None:
            return self.model.plan(Predict(), **options)
        said = registry.declaration(self.method)
        if not said.takes_images:
            raise UsageError(f"{registry.method_name(self.method)} looks at no images: there is no rate to measure.")
        if said.takes_target:
            self.model.check_target(self.target, None)
        return self.model.plan(self.method, **options)

    def open(self, plan: Plan, largest: int) -> ForwardPass | MethodRun:
        """Ready to run up to ``largest`` images in one call, on a route of its own."""
        pool = Pool(self.images, _pool_size(self.images.tensor, largest))
        oracle: Any = route(plan.route).open(self.model, plan.settings)
        if self.method is None:
            return ForwardPass(oracle, tuple(str(value.name) for value in self.model.graph.graph.outputs), pool)
        return MethodRun(oracle, self.method, self.model.resolve_target(self.target), pool)

    @property
    def work(self) -> Work:
        """What an image costs."""
        height, width = self.model.input_size
        method = cast(Any, self.method)
        if hasattr(method, "windows_of"):
            return Work("windows", len(method.windows_of(height, width)))
        if hasattr(method, "masks"):
            return Work("masks", int(method.masks))
        if hasattr(method, "forward_passes"):
            return Work("passes", int(method.forward_passes(height, width)))
        return Work("images", 1)

    @property
    def is_long(self) -> bool:
        """Whether an image takes so many passes that it is a call by itself."""
        return self.work.per_image >= MANY


def spoken(method: Method) -> str:
    """A method's name with the fields that are not its defaults."""
    said = [
        f"{one.name}={getattr(method, one.name)!r}"
        for one in fields(cast(Any, method))
        if getattr(method, one.name) != one.default
    ]
    return registry.method_name(method) + (f"({', '.join(said)})" if said else "")


def noise(model: Model, count: int = POOL, seed: int = 0) -> Batch:
    """Standard normal noise in model input space, or random pixels where the graph takes integers."""
    shape = (count, model.input.channels, *model.input_size)
    rng = np.random.default_rng(seed)
    if model.input.takes_integers:
        return Batch.of(rng.integers(0, 256, shape))
    return Batch.of(rng.standard_normal(shape, dtype=np.float32))


def _pool_size(tensor: FloatArray, largest: int) -> int:
    """Twice what a run takes, or at least a few, within the memory for it."""
    image = max(tensor[0].nbytes, 1)
    return max(largest, min(max(POOL, 2 * largest), POOL_BYTES // image))
