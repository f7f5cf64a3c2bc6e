"""Gradient ascent on pictures: the one loop. What climbs, over what and how are values passed to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sightline.ascent.optimisers import Adam, Optimiser
from sightline.ascent.parametrisation import Parametrisation
from sightline.ascent.regularisers import Penalty, Projection
from sightline.ascent.tiles import Tiling, Whole
from sightline.ascent.transforms import Transform
from sightline.types import FloatArray

Objective = Callable[[Tensor], Tensor]  # pictures (B, C, H, W) in model input space -> (B,) scores, larger is better


@dataclass(frozen=True)
class Moment:
    """Where an ascent stands before a step.

    Attributes:
        step: counted from 0.
        steps: that there will be at most.
        scores: (B,) of the objective under the step's transforms, penalties taken off.
        images: (B, C, H, W) in model input space.
        gradient: (B, C, H, W) of the scores with respect to them.
    """

    step: int
    steps: int
    scores: Tensor
    images: Tensor
    gradient: Tensor

    @property
    def progress(self) -> float:
        """Share of the steps that were taken, 0 to below 1."""
        return self.step / self.steps


@dataclass(frozen=True)
class Ascended:
    """Where an ascent ended.

    Attributes:
        images: (B, C, H, W) float32 in model input space.
        history: (B, n) float32 scores before each of the n steps taken.
        stopped: (B,) True for rows that an interrupt ended early.
        flat: (B,) True for rows whose gradient was zero at every step, so that they are where they started.
    """

    images: FloatArray
    history: FloatArray
    stopped: NDArray[np.bool_]
    flat: NDArray[np.bool_]


def _constant(_: float) -> float:
    return 1.0


@dataclass(frozen=True, kw_only=True)
class Ascent:
    """How to climb. The rows of a batch climb side by side and know nothing of each other.

    Attributes:
        steps: at most.
        rate: of the optimiser.
        schedule: a factor of the rate, from the share of the steps taken.
        optimiser: what becomes of the gradient.
        tiling: the pieces that the objective sees one after the other, so that memory is bounded by one of them.
        transforms: drawn anew at every step and applied to each piece before the objective sees it.
        penalties: taken off the objective; they see the whole picture.
        projections: change the picture after each step.
        until: the rows (B,) that are done at a moment; each keeps its picture of that moment.
        keep: the "last" picture, or the "best" by its score, which is right where scores are not random.
        watch: called with every moment, for progress and snapshots.
    """

    steps: int
    rate: float
    schedule: Callable[[float], float] = _constant
    optimiser: Optimiser = field(default_factory=Adam)
    tiling: Tiling = field(default_factory=Whole)
    transforms: Sequence[Transform] = ()
    penalties: Sequence[Penalty] = ()
    projections: Sequence[Projection] = ()
    until: Callable[[Moment], Tensor] | None = None
    keep: Literal["last", "best"] = "last"
    watch: Callable[[Moment], None] | None = None

    def climb(self, objective: Objective, picture: Parametrisation, streams: Sequence[int]) -> Ascended:
        """Change the picture's parameters until the steps are taken, all rows are done or Ctrl-C is pressed.

        Args:
            objective: of pictures, or of pieces of them.
            picture: the free numbers.
            streams: (B,) seeds; what is drawn for a row depends on its own alone.
        """
        run = _Run(self, objective, picture, streams)
        interrupted = False
        try:
            for step in range(self.steps):
                if run.is_done_after(step):
                    break
        except KeyboardInterrupt:
            interrupted = True
        return run.ended(interrupted)

    def climb_rows(self, count: int, batch: int, climb: Callable[[Ascent, range], Ascended]) -> Ascended:
        """Rows 0 to ``count`` in batches, one by one where the optimiser cannot tell rows apart.

        Args:
            count: of rows; none are asked for the shape of one.
            batch: rows at once.
            climb: takes some rows with the ascent it is given. After an interrupt that one takes no more steps.
        """
        if count == 0:
            return climb(replace(self, steps=0), range(0))
        batch = batch if self.optimiser.together else 1
        ends = list[Ascended]()
        for start in range(0, count, batch):
            rows = range(start, min(start + batch, count))
            if any(end.stopped.any() for end in ends):
                end = climb(replace(self, steps=0), rows)
                ends.append(replace(end, stopped=np.ones_like(end.stopped)))
            else:
                ends.append(climb(self, rows))
        parts = {part.name: [getattr(end, part.name) for end in ends] for part in fields(Ascended)}
        return Ascended(**{name: np.concatenate(_even(columns)) for name, columns in parts.items()})


class _Run:
    """One ascent under way."""

    def __init__(self, ascent: Ascent, objective: Objective, picture: Parametrisation, streams: Sequence[int]):
        self.ascent, self.objective, self.picture = ascent, objective, picture
        self.optimiser = ascent.optimiser.open(picture.parameters, ascent.rate)
        self.generators = [np.random.default_rng(stream) for stream in streams]
        self.kept = picture.images().detach().clone()  # (B, C, H, W)
        self.best = self.kept.new_full((len(self.kept),), -torch.inf)
        self.done = torch.zeros(len(self.kept), dtype=torch.bool, device=self.kept.device)
        self.flat = torch.ones_like(self.done)
        self.history = list[Tensor]()

    def is_done_after(self, step: int) -> bool:
        """Take one step, unless every row is done."""
        moment = self._step(step)
        self._keep(moment)
        if self.ascent.watch is not None:
            self.ascent.watch(moment)
        for projection in self.ascent.projections:
            self.picture.assign(projection(self.picture.images().detach(), moment.gradient, moment.progress))
        self.picture.settle()
        return bool(self.done.all())

    def ended(self, interrupted: bool) -> Ascended:
        """What there is."""
        if self.ascent.keep == "last":
            self.picture.settle()
            last = self.picture.images().detach()
            self.kept = torch.where(self.done[:, None, None, None], self.kept, last)
        rows = len(self.kept)
        history = torch.stack(self.history, dim=1) if self.history else self.best.new_zeros(rows, 0)
        flat = self.flat if self.history else torch.zeros_like(self.flat)
        stopped = ~self.done.cpu().numpy() & interrupted
        return Ascended(self.kept.cpu().numpy(), history.cpu().numpy(), stopped, flat.cpu().numpy())

    def _step(self, step: int) -> Moment:
        """Let the optimiser move the parameters; the moment is that of its first look."""
        ascent, looks = self.ascent, list[Moment]()
        for group in self.optimiser.param_groups:
            group["lr"] = ascent.rate * ascent.schedule(step / ascent.steps)
        transforms = [transform.draw(self.generators) for transform in ascent.transforms]
        pieces = ascent.tiling.draw(self.kept.shape[-2], self.kept.shape[-1])

        def look() -> Tensor:
            self.optimiser.zero_grad()
            images = self.picture.images()
            leaf = images.detach().requires_grad_()  # (B, C, H, W)
            scores = leaf.new_zeros(len(leaf))
            for piece in pieces:
                shown = piece(leaf)
                for transform in transforms:
                    shown = transform(shown)
                scores = scores + self._climb_on(self.objective(shown) / len(pieces))
            for penalty in ascent.penalties:
                scores = scores + self._climb_on(-penalty(leaf))
            assert leaf.grad is not None
            images.backward(-leaf.grad)  # optimisers descend
            looks.append(Moment(step, ascent.steps, scores, leaf.detach(), leaf.grad))
            return -scores.sum()

        self.optimiser.step(look)  # pyright: ignore[reportCallIssue, reportArgumentType] - it takes a tensor too
        return looks[0]

    def _climb_on(self, scores: Tensor) -> Tensor:
        """Add the gradient of some scores (B,) to the leaf's and let go of their tape."""
        if scores.requires_grad:
            scores.sum().backward()
        return scores.detach()

    def _keep(self, moment: Moment) -> None:
        """Take over the pictures of rows that are better than ever or done just now."""
        self.history.append(moment.scores)
        self.flat &= (moment.gradient == 0).flatten(1).all(dim=1)
        better = (moment.scores > self.best) & ~self.done
        self.best = torch.where(better, moment.scores, self.best)
        done = self.done if self.ascent.until is None else self.ascent.until(moment) | self.done
        chosen = done & ~self.done if self.ascent.keep == "last" else better
        self.kept = torch.where(chosen[:, None, None, None], moment.images, self.kept)
        self.done = done


def _even(parts: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """Arrays that can be concatenated: of histories (B, n) of different length, the last score is repeated."""
    if parts[0].ndim != 2:
        return list(parts)
    longest = max(part.shape[1] for part in parts)
    return [
        np.pad(part, ((0, 0), (0, longest - part.shape[1])), mode="edge" if part.shape[1] else "constant")
        for part in parts
    ]  # fmt: skip
