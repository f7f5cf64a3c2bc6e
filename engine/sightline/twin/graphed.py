"""Runs of the twin captured as CUDA graphs: for loops that ask for the same values of pictures of one size again.

A small network's step is over before the CPU has launched the next kernel. A captured run is one launch, forwards and
one, backwards. What it computes lies at fixed addresses, which the next run overwrites.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sightline.errors import UsageError

Run = Callable[[Tensor], tuple[Tensor, ...]]
MOST = 8  # captured runs kept, each with the memory of its activations


def capture(run: Run, sample: Tensor) -> Run:
    """The same run, as CUDA graphs of its launches forwards and backwards; torch warms it up thrice before."""
    return torch.cuda.make_graphed_callables(run, (sample,), allow_unused_input=True)  # type: ignore[return-value]


class GraphedRuns:
    """Captured runs by what they compute and the shape of the pictures.

    Args:
        run: values by the graph's names of pictures, on their tape.
        capture: how a run is captured.
    """

    def __init__(
        self,
        run: Callable[[Tensor, tuple[str, ...], Any], Mapping[str, Tensor]],
        capture: Callable[[Run, Tensor], Run] = capture,
    ):
        self._run, self._capture = run, capture
        self._captured: dict[Hashable, _Captured] = {}

    def __call__(self, images: Tensor, names: tuple[str, ...], rule: Any = None) -> dict[str, Tensor]:
        """Values by name of pictures that need a gradient.

        Raises:
            UsageError: something in the run cannot be captured, or a run's gradient is asked for after the next one.
        """
        key = (tuple(images.shape), images.dtype, names, rule)
        if key not in self._captured:
            while len(self._captured) >= MOST:
                del self._captured[next(iter(self._captured))]
            self._captured[key] = self._made(images, names, rule)
        return dict(zip(names, self._captured[key](images), strict=True))

    def _made(self, images: Tensor, names: tuple[str, ...], rule: Any) -> _Captured:
        def run(pictures: Tensor) -> tuple[Tensor, ...]:
            found = self._run(pictures, names, rule)
            return tuple(found[name] for name in names)

        sample = images.detach().clone().requires_grad_()
        try:
            return _Captured(self._capture(run, sample))
        except RuntimeError as reason:
            raise UsageError(
                f"This run cannot be captured as a CUDA graph: {str(reason).splitlines()[0]} Leave CUDA graphs off."
            ) from reason


class _Captured:
    """One captured run. Its numbers and its gradient are copied from where the next run writes."""

    def __init__(self, run: Run):
        self._run, self.runs = run, 0

    def __call__(self, images: Tensor) -> Sequence[Tensor]:
        self.runs += 1
        pictures = images.view_as(images)
        pictures.register_hook(torch.clone)  # every run's gradient comes in the same memory
        return _OfThisRun.apply(self, self.runs, *self._run(pictures))  # type: ignore[no-untyped-call, return-value]


class _OfThisRun(torch.autograd.Function):
    """Copies, whose gradient is refused once the activations it needs are overwritten: it would be another's."""

    @staticmethod
    def forward(ctx: Any, owner: _Captured, run: int, *values: Tensor) -> tuple[Tensor, ...]:
        ctx.owner, ctx.run = owner, run
        return tuple(value.clone() for value in values)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor | None) -> tuple[Any, ...]:
        if ctx.owner.runs != ctx.run:
            raise UsageError(
                "The gradient of a captured run was asked for after the next run of its kind, which has overwritten "
                "what it needs. Leave CUDA graphs off for this method."
            )
        return None, None, *slopes
